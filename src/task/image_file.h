/* Prepared images: latents of a VAE and embeddings of their captions, made once by
 * tools/prepare_images.py, so that no encoder runs during training.
 *
 * The file (*.qzt) is a safetensors file:
 *
 *   __metadata__  qzo_images_version "1"; name; checksum as in task_file.h. Other keys (model,
 *                 encoders, source ...) are free and covered by the checksum.
 *   for split in train, dev, test:
 *     {split}.latents F32 or F16 (images, channels, height, width), as the model sees them: shifted
 *                                and scaled as the VAE's configuration says
 *     {split}.caption I32 (images)   row of the two below
 *   text   F32 or F16 (captions, text_rows, text_width)
 *   pooled F32 or F16 (captions, pooled_width) */
#ifndef QZO_TASK_IMAGE_FILE_H
#define QZO_TASK_IMAGE_FILE_H

#include "base/status.h"
#include "weights/safetensors.h"

#include <stdint.h>

enum { QZO_IMAGE_SPLITS = 3 }; /* as qzo_split_kind */

typedef struct qzo_images {
    int64_t channels, height, width; /* of every latent */
    int64_t text_rows, text_width;   /* of every caption */
    int64_t pooled_width;
    int64_t caption_count;
    int64_t image_count[QZO_IMAGE_SPLITS];
    const qzo_tensor_view *latents[QZO_IMAGE_SPLITS];
    const qzo_tensor_view *caption[QZO_IMAGE_SPLITS];
    const qzo_tensor_view *text, *pooled;
} qzo_images;

/* Whether a task file holds images. */
bool qzo_images_detect(const qzo_safetensors *file);

/* Checks everything but the checksum: types, shapes that agree, captions that exist, at least one
 * image in train and dev, numbers that are finite. out borrows from file. path stands in messages.
 */
qzo_status qzo_images_read(qzo_images *out, const qzo_safetensors *file, const char *path);

static inline int64_t qzo_images_latent_count(const qzo_images *images) {
    return images->channels * images->height * images->width;
}

/* One example in fp32: latent (channels, height, width), text (text_rows, text_width), pooled
 * (pooled_width). */
void qzo_images_fetch(const qzo_images *images, int split, int64_t example, float *latent,
                      float *text, float *pooled);

#endif
