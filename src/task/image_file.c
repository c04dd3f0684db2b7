#include "task/image_file.h"

#include "task/task_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char VERSION_KEY[] = "qzo_images_version";

bool qzo_images_detect(const qzo_safetensors *file) {
    return qzo_safetensors_metadata(file, VERSION_KEY) != NULL;
}

/* --- checks --- */

/* A tensor of floats of that rank without an empty side, all finite. */
static qzo_status find_floats(const qzo_tensor_view **out, const qzo_safetensors *file,
                              const char *name, int rank, const char *path) {
    const qzo_tensor_view *view = qzo_safetensors_find(file, name);
    if (view == NULL) return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s is missing", path, name);
    if (!qzo_dtype_is_float(view->dtype) || view->rank != rank)
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: tensor %s: expected floats of rank %d, found rank %d of %s", path,
                        name, rank, view->rank, qzo_dtype_name(view->dtype));
    for (int64_t i = 0; i < view->count; i++)
        if (!isfinite(qzo_tensor_float_at(view, i)))
            return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: element %lld is not finite", path, name,
                            (long long)i);
    *out = view;
    return QZO_OK;
}

static qzo_status find_captions(qzo_images *out, const qzo_safetensors *file, int split,
                                const char *path) {
    char name[64];
    snprintf(name, sizeof name, "%s.caption", qzo_split_name((qzo_split_kind)split));
    const qzo_tensor_view *view = qzo_safetensors_find(file, name);
    if (view == NULL || view->dtype != QZO_DTYPE_I32 || view->rank != 1 ||
        view->count != out->image_count[split])
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: expected a list of %lld I32", path, name,
                        (long long)out->image_count[split]);
    for (int64_t i = 0; i < view->count; i++) {
        int32_t caption;
        memcpy(&caption, view->data + (size_t)i * sizeof caption, sizeof caption);
        if (caption < 0 || caption >= out->caption_count)
            return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: image %lld has caption %d of %lld",
                            path, name, (long long)i, caption, (long long)out->caption_count);
    }
    out->caption[split] = view;
    return QZO_OK;
}

/* A split may be without images (0, C, H, W) if it is the test split. */
static qzo_status read_split(qzo_images *out, const qzo_safetensors *file, int split,
                             const char *path) {
    qzo_status status = QZO_OK;
    char name[64];
    const qzo_tensor_view *view = NULL;
    snprintf(name, sizeof name, "%s.latents", qzo_split_name((qzo_split_kind)split));
    QZO_TRY(find_floats(&view, file, name, 4, path));
    out->latents[split] = view;
    out->image_count[split] = view->shape[0];
    if (view->shape[0] == 0 && split != QZO_SPLIT_TEST)
        return qzo_fail(QZO_ERR_FORMAT, "%s: no image in the split %s", path,
                        qzo_split_name((qzo_split_kind)split));
    if (view->shape[0] > 0 && view->count == 0)
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: latents without elements", path, name);
    if (split == 0) {
        out->channels = view->shape[1];
        out->height = view->shape[2];
        out->width = view->shape[3];
    }
    if (view->shape[1] != out->channels || view->shape[2] != out->height ||
        view->shape[3] != out->width)
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: tensor %s: latents of (%lld, %lld, %lld), expected (%lld, %lld, %lld)",
                        path, name, (long long)view->shape[1], (long long)view->shape[2],
                        (long long)view->shape[3], (long long)out->channels, (long long)out->height,
                        (long long)out->width);
    QZO_TRY(find_captions(out, file, split, path));
cleanup:
    return status;
}

qzo_status qzo_images_read(qzo_images *out, const qzo_safetensors *file, const char *path) {
    qzo_status status = QZO_OK;
    const char *version = qzo_safetensors_metadata(file, VERSION_KEY);
    *out = (qzo_images){0};
    if (version == NULL || strcmp(version, "1") != 0)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: images of version %s, only 1 is read", path,
                        version != NULL ? version : "unknown");
    QZO_TRY(find_floats(&out->text, file, "text", 3, path));
    QZO_TRY(find_floats(&out->pooled, file, "pooled", 2, path));
    out->caption_count = out->text->shape[0];
    out->text_rows = out->text->shape[1];
    out->text_width = out->text->shape[2];
    out->pooled_width = out->pooled->shape[1];
    if (out->text->count == 0 || out->pooled->count == 0 ||
        out->pooled->shape[0] != out->caption_count)
        return qzo_fail(QZO_ERR_FORMAT, "%s: %lld texts and %lld pooled ones, expected as many",
                        path, (long long)out->caption_count, (long long)out->pooled->shape[0]);
    for (int split = 0; split < QZO_IMAGE_SPLITS; split++)
        QZO_TRY(read_split(out, file, split, path));
cleanup:
    return status;
}

/* --- reading --- */

static void take(float *out, const qzo_tensor_view *view, int64_t row, int64_t count) {
    for (int64_t i = 0; i < count; i++) out[i] = qzo_tensor_float_at(view, row * count + i);
}

void qzo_images_fetch(const qzo_images *images, int split, int64_t example, float *latent,
                      float *text, float *pooled) {
    int32_t caption;
    memcpy(&caption, images->caption[split]->data + (size_t)example * sizeof caption,
           sizeof caption);
    take(latent, images->latents[split], example, qzo_images_latent_count(images));
    take(text, images->text, caption, images->text_rows * images->text_width);
    take(pooled, images->pooled, caption, images->pooled_width);
}
