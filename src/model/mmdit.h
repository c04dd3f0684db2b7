/* The multimodal diffusion transformer of Stable Diffusion 3 and 3.5 (Esser et al., arXiv
 * 2403.03206; names as in Hugging Face diffusers' SD3Transformer2DModel): rows of image patches and
 * of text go through linear layers of their own and meet in each block's attention; shifts, scales
 * and gates follow from the timestep and a pooled text embedding. */
#ifndef QZO_MODEL_MMDIT_H
#define QZO_MODEL_MMDIT_H

#include "model/model.h"
#include "model/model_parts.h"

#include <stdbool.h>

enum { QZO_MMDIT_LAYERS_MAX = 256, QZO_MMDIT_TIME_WIDTH = 256 };

/* Linear layers of one block. The last block drops its text rows, so it has none of those that
 * would work on them but keys and values. */
typedef enum {
    QZO_MMDIT_MODULATION,      /* of image rows: shift, scale, gate of attention and feed-forward */
    QZO_MMDIT_TEXT_MODULATION, /* the same; in the last block scale and shift of attention */
    QZO_MMDIT_Q,
    QZO_MMDIT_K,
    QZO_MMDIT_V,
    QZO_MMDIT_O,
    QZO_MMDIT_TEXT_Q,
    QZO_MMDIT_TEXT_K,
    QZO_MMDIT_TEXT_V,
    QZO_MMDIT_TEXT_O,
    QZO_MMDIT_OWN_Q, /* a second attention among the image rows alone, in some blocks */
    QZO_MMDIT_OWN_K,
    QZO_MMDIT_OWN_V,
    QZO_MMDIT_OWN_O,
    QZO_MMDIT_UP,
    QZO_MMDIT_DOWN,
    QZO_MMDIT_TEXT_UP,
    QZO_MMDIT_TEXT_DOWN,
    QZO_MMDIT_LINEAR_COUNT
} qzo_mmdit_linear;

/* RMS norms of the heads of q and k, with gains (head_dim). */
typedef enum {
    QZO_MMDIT_NORM_Q,
    QZO_MMDIT_NORM_K,
    QZO_MMDIT_NORM_TEXT_Q,
    QZO_MMDIT_NORM_TEXT_K,
    QZO_MMDIT_NORM_OWN_Q,
    QZO_MMDIT_NORM_OWN_K,
    QZO_MMDIT_NORM_COUNT
} qzo_mmdit_norm;

/* Linear layers outside the blocks. */
typedef enum {
    QZO_MMDIT_PATCHES, /* a convolution whose stride is its size: a product with each patch */
    QZO_MMDIT_TIME_UP, /* of the timestep's sinusoids */
    QZO_MMDIT_TIME_DOWN,
    QZO_MMDIT_POOLED_UP,
    QZO_MMDIT_POOLED_DOWN,
    QZO_MMDIT_CAPTION,        /* text embeddings to the width */
    QZO_MMDIT_OUT_MODULATION, /* scale and shift */
    QZO_MMDIT_OUT,
    QZO_MMDIT_END_COUNT
} qzo_mmdit_end;

/* Read from config.json. */
typedef struct qzo_mmdit_shape {
    int64_t width, head_count, head_dim, layer_count;
    int64_t patch;                      /* side of a patch, in latent pixels */
    int64_t side_max;                   /* of the position table, in patches */
    int64_t channels;                   /* of a latent */
    int64_t out_channels;               /* of the output */
    int64_t text_width;                 /* of a text embedding */
    int64_t pooled_width;               /* of a pooled one */
    bool has_norms;                     /* of the heads of q and k */
    bool is_dual[QZO_MMDIT_LAYERS_MAX]; /* the block has the second attention */
} qzo_mmdit_shape;

typedef struct qzo_mmdit_block {
    qzo_linear linears[QZO_MMDIT_LINEAR_COUNT]; /* without weight: there is none */
    qzo_vector norms[QZO_MMDIT_NORM_COUNT];     /* without values: there is none */
} qzo_mmdit_block;

typedef struct qzo_mmdit {
    qzo_mmdit_shape shape;
    qzo_mmdit_block *blocks; /* (layer_count) */
    qzo_linear ends[QZO_MMDIT_END_COUNT];
    qzo_linear unread; /* quantized at load: the last block's text queries, for an export alone */
    qzo_qtensor positions_tensor;
    qzo_weight *positions; /* (side_max * side_max, width) */
} qzo_mmdit;

/* Whether the folder's config.json is one of these. */
bool qzo_mmdit_detect(const json_t *config);

qzo_status qzo_mmdit_read_shape(qzo_mmdit_shape *out, const json_t *config, const char *name);

/* For qzo_model_load_for: fills model->mmdit, spans and parts; model->dir, backend and training are
 * set. On failure what was loaded stays in model, for qzo_mmdit_free. */
qzo_status qzo_mmdit_load(qzo_model *model);
void qzo_mmdit_free(qzo_backend *backend, qzo_mmdit *mmdit); /* NULL is fine */

/* Numbers of one row of image input and output: patch * patch * channels. */
static inline int64_t qzo_mmdit_in_row(const qzo_mmdit_shape *shape) {
    return shape->patch * shape->patch * shape->channels;
}
static inline int64_t qzo_mmdit_out_row(const qzo_mmdit_shape *shape) {
    return shape->patch * shape->patch * shape->out_channels;
}

#endif
