/* Weights that are not quantized: MODULE.weight (out, in) in fp32, fp16 or bf16. They have no
 * scales; where a trial trains the elements themselves, the masters hold all of them and the file
 * only their initial values. */
#include "weights/quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "MODULE.weight", fresh; NULL when out of memory. */
static char *weight_name(const char *module) {
    char *name = NULL;
    return asprintf(&name, "%s.weight", module) < 0 ? NULL : name;
}

static bool detect(const qzo_model_dir *dir, const char *module) {
    char *name = weight_name(module);
    const bool found = name != NULL && qzo_model_dir_find(dir, name) != NULL;
    free(name);
    return found;
}

/* The elements of a view; a copy where they are not aligned, since backends read through typed
 * pointers. */
static qzo_status hold(qzo_qtensor *out, const qzo_tensor_view *view) {
    out->group_count = 0;
    out->as.dense = *view;
    if (qzo_tensor_aligned(view)) return QZO_OK;
    out->owned = malloc(view->size_bytes);
    if (out->owned == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for %zu bytes", view->name,
                        view->size_bytes);
    memcpy(out->owned, view->data, view->size_bytes);
    out->as.dense.data = out->owned;
    return QZO_OK;
}

static qzo_status bind(qzo_qtensor *out, const qzo_model_dir *dir, const char *module,
                       int64_t out_features, int64_t in_features) {
    const qzo_tensor_view *view = NULL;
    char *name = weight_name(module);
    if (name == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", module);
    qzo_status status = qzo_model_dir_require_float(&view, dir, name, 2, out_features, in_features);
    free(name);
    return status == QZO_OK ? hold(out, view) : status;
}

qzo_status qzo_dense_bind_flat(qzo_qtensor *out, const qzo_model_dir *dir, const char *module,
                               const char *name, int64_t out_features, int64_t in_features) {
    const qzo_tensor_view *view = qzo_model_dir_find(dir, name);
    if (view == NULL)
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s is missing", qzo_model_dir_path(dir), name);
    if (!qzo_dtype_is_float(view->dtype) || view->count != out_features * in_features)
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: tensor %s: expected %lld elements of F32, F16 or BF16, found %lld of "
                        "%s",
                        qzo_model_dir_path(dir), name, (long long)(out_features * in_features),
                        (long long)view->count, qzo_dtype_name(view->dtype));
    *out = (qzo_qtensor){.format = &qzo_quant_dense,
                         .name = module,
                         .out_features = out_features,
                         .in_features = in_features,
                         .span = QZO_SPAN_NONE};
    return hold(out, view);
}

/* out (rows, columns) = in (columns, rows); in squares, so that both sides stay in the cache. */
static void transpose(uint8_t *out, const uint8_t *in, int64_t rows, int64_t columns,
                      size_t item_bytes) {
    enum { SIDE = 64, SMALL = 2, LARGE = 4 };
    for (int64_t row0 = 0; row0 < rows; row0 += SIDE)
        for (int64_t column0 = 0; column0 < columns; column0 += SIDE)
            for (int64_t row = row0; row < row0 + SIDE && row < rows; row++)
                for (int64_t c = column0; c < column0 + SIDE && c < columns; c++) {
                    uint8_t *to = out + (size_t)(row * columns + c) * item_bytes;
                    const uint8_t *from = in + (size_t)(c * rows + row) * item_bytes;
                    if (item_bytes == SMALL) /* sizes that the compiler knows */
                        memcpy(to, from, SMALL);
                    else
                        memcpy(to, from, LARGE);
                }
}

qzo_status qzo_dense_bind_transposed(qzo_qtensor *out, const qzo_model_dir *dir, const char *module,
                                     int64_t out_features, int64_t in_features) {
    const qzo_tensor_view *view = NULL;
    char *name = weight_name(module);
    if (name == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", module);
    qzo_status status = qzo_model_dir_require_float(&view, dir, name, 2, in_features, out_features);
    free(name);
    if (status != QZO_OK) return status;
    uint8_t *copy = malloc(view->size_bytes);
    if (copy == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for %zu bytes", module,
                        view->size_bytes);
    transpose(copy, view->data, out_features, in_features, qzo_dtype_bytes(view->dtype));
    *out = (qzo_qtensor){.format = &qzo_quant_dense,
                         .name = module,
                         .out_features = out_features,
                         .in_features = in_features,
                         .span = QZO_SPAN_NONE,
                         .as.dense = *view,
                         .owned = copy};
    out->as.dense.shape[0] = out_features;
    out->as.dense.shape[1] = in_features;
    out->as.dense.data = copy;
    return QZO_OK;
}

static void decode_row(float *out, const qzo_qtensor *weight, int64_t row, const float *values) {
    if (weight->group_count > 0) {
        memcpy(out, values, (size_t)weight->in_features * sizeof *out);
        return;
    }
    const int64_t first = row * weight->in_features;
    for (int64_t i = 0; i < weight->in_features; i++)
        out[i] = qzo_tensor_float_at(&weight->as.dense, first + i);
}

static qzo_status read_values(float *out, const qzo_qtensor *weight) {
    const qzo_tensor_view *view = &weight->as.dense;
    for (int64_t i = 0; i < view->count; i++) {
        out[i] = qzo_tensor_float_at(view, i);
        if (!isfinite(out[i]))
            return qzo_fail(QZO_ERR_FORMAT, "tensor %s: element %lld is not finite (%g)",
                            view->name, (long long)i, (double)out[i]);
    }
    return QZO_OK;
}

/* In the type that the file has. */
static qzo_status write_values(qzo_tensor_changes *changes, const qzo_qtensor *weight,
                               const float *values) {
    qzo_tensor_view changed = weight->as.dense;
    uint8_t *data = malloc(changed.size_bytes);
    if (data == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "tensor %s: out of memory for %zu bytes", changed.name,
                        changed.size_bytes);
    for (int64_t i = 0; i < changed.count; i++) {
        if (qzo_tensor_float_put(data, changed.dtype, i, values[i])) continue;
        free(data);
        return qzo_fail(QZO_ERR_LIMIT, "tensor %s: element %lld is %g, too large for %s",
                        changed.name, (long long)i, (double)values[i],
                        qzo_dtype_name(changed.dtype));
    }
    changed.data = data;
    return qzo_tensor_changes_put(changes, &changed);
}

qzo_status qzo_dense_write_transposed(qzo_tensor_changes *changes, const qzo_qtensor *weight,
                                      const float *values) {
    qzo_qtensor stored = *weight;
    float *turned = malloc((size_t)weight->as.dense.count * sizeof *turned);
    if (turned == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", weight->name);
    transpose((uint8_t *)turned, (const uint8_t *)values, weight->in_features, weight->out_features,
              sizeof *turned);
    stored.as.dense.shape[0] = weight->in_features;
    stored.as.dense.shape[1] = weight->out_features;
    qzo_status status = write_values(changes, &stored, turned);
    free(turned);
    return status;
}

const qzo_quant_format qzo_quant_dense = {
    .name = "dense",
    .layout = QZO_LAYOUT_DENSE,
    .detect = detect,
    .bind = bind,
    .decode_row = decode_row,
    .read_values = read_values,
    .write_values = write_values,
    .value_suffix = "weight",
    .constraint = QZO_CONSTRAINT_FREE,
};
