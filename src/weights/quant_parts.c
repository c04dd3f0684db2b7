#include "weights/quant_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT_BYTES = 64 };

const qzo_tensor_view *qzo_quant_part_find(const qzo_model_dir *dir, const char *module,
                                           const char *suffix) {
    char *name = NULL;
    if (asprintf(&name, "%s.%s", module, suffix) < 0) return NULL;
    const qzo_tensor_view *view = qzo_model_dir_find(dir, name);
    free(name);
    return view;
}

static qzo_status require_typed(const qzo_tensor_view **out, const qzo_model_dir *dir,
                                const char *module, const char *suffix, qzo_dtype dtype) {
    const char *folder = qzo_model_dir_path(dir);
    *out = qzo_quant_part_find(dir, module, suffix);
    if (*out == NULL)
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s.%s is missing", folder, module, suffix);
    if ((*out)->dtype != dtype)
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: expected %s, found %s", folder,
                        (*out)->name, qzo_dtype_name(dtype), qzo_dtype_name((*out)->dtype));
    return QZO_OK;
}

qzo_status qzo_quant_part_require(const qzo_tensor_view **out, const qzo_model_dir *dir,
                                  const char *module, const char *suffix, qzo_dtype dtype,
                                  int64_t count) {
    const qzo_tensor_view *view = NULL;
    qzo_status status = require_typed(&view, dir, module, suffix, dtype);
    if (status != QZO_OK) return status;
    if (view->count != count)
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: expected %lld elements, found %lld",
                        qzo_model_dir_path(dir), view->name, (long long)count,
                        (long long)view->count);
    *out = view;
    return QZO_OK;
}

qzo_status qzo_quant_part_ints(const qzo_tensor_view **out, const qzo_model_dir *dir,
                               const char *module, const char *suffix, int64_t rows,
                               int64_t columns) {
    const qzo_tensor_view *view = NULL;
    qzo_status status = require_typed(&view, dir, module, suffix, QZO_DTYPE_I32);
    if (status != QZO_OK) return status;
    const int rank = columns < 0 ? 1 : 2;
    if (view->rank != rank || view->shape[0] != rows || (rank == 2 && view->shape[1] != columns))
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: tensor %s: expected the shape (%lld, %lld), found rank %d and (%lld, "
                        "%lld)",
                        qzo_model_dir_path(dir), view->name, (long long)rows,
                        (long long)(rank == 2 ? columns : 1), view->rank, (long long)view->shape[0],
                        (long long)(view->rank > 1 ? view->shape[1] : 1));
    *out = view;
    return QZO_OK;
}

qzo_status qzo_quant_part_floats(const qzo_tensor_view **out, const qzo_model_dir *dir,
                                 const char *module, const char *suffix, int64_t rows,
                                 int64_t columns) {
    char *name = NULL;
    if (asprintf(&name, "%s.%s", module, suffix) < 0)
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", module);
    qzo_status status = qzo_model_dir_require_float(out, dir, name, 2, rows, columns);
    free(name);
    return status;
}

int32_t qzo_quant_int_at(const qzo_tensor_view *view, int64_t index) {
    int32_t value;
    memcpy(&value, view->data + (size_t)index * sizeof value, sizeof value);
    return value;
}

qzo_status qzo_quant_part_groups(const qzo_tensor_view **out, const qzo_model_dir *dir,
                                 const char *module, const char *suffix, int64_t inputs,
                                 int64_t groups) {
    qzo_status status = qzo_quant_part_ints(out, dir, module, suffix, inputs, -1);
    for (int64_t i = 0; status == QZO_OK && i < inputs; i++) {
        const int32_t group = qzo_quant_int_at(*out, i);
        if (group < 0 || group >= groups)
            return qzo_fail(
                QZO_ERR_FORMAT, "%s: tensor %s: input %lld is in group %d, expected 0 .. %lld",
                qzo_model_dir_path(dir), (*out)->name, (long long)i, group, (long long)groups - 1);
    }
    return status;
}

qzo_status qzo_quant_part_shape(const qzo_model_dir *dir, const char *module, const char *suffix,
                                int64_t out_features, int64_t in_features) {
    int64_t shape[2];
    const qzo_tensor_view *view = NULL;
    qzo_status status = qzo_quant_part_require(&view, dir, module, suffix, QZO_DTYPE_I64, 2);
    if (status != QZO_OK) return status;
    memcpy(shape, view->data, sizeof shape);
    if (shape[0] == out_features && shape[1] == in_features) return QZO_OK;
    return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: expected (%lld, %lld), found (%lld, %lld)",
                    qzo_model_dir_path(dir), view->name, (long long)out_features,
                    (long long)in_features, (long long)shape[0], (long long)shape[1]);
}

static size_t padded(size_t bytes) {
    return (bytes + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
}

qzo_status qzo_quant_parts_align(void **owned, qzo_tensor_view *const views[], int count) {
    size_t owned_bytes = 0;
    *owned = NULL;
    for (int i = 0; i < count; i++)
        if (!qzo_tensor_aligned(views[i])) owned_bytes += padded(views[i]->size_bytes);
    if (owned_bytes == 0) return QZO_OK;
    uint8_t *free_at = aligned_alloc(ALIGNMENT_BYTES, owned_bytes);
    if (free_at == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for %zu bytes", views[0]->name,
                        owned_bytes);
    *owned = free_at;
    for (int i = 0; i < count; i++) {
        if (qzo_tensor_aligned(views[i])) continue;
        memcpy(free_at, views[i]->data, views[i]->size_bytes);
        views[i]->data = free_at;
        free_at += padded(views[i]->size_bytes);
    }
    return QZO_OK;
}

qzo_status qzo_quant_scales_read(float *out, const qzo_qtensor *weight,
                                 const qzo_tensor_view *scales, qzo_scale_order order) {
    for (int64_t row = 0; row < weight->out_features; row++) {
        for (int64_t group = 0; group < weight->group_count; group++) {
            const float value =
                qzo_tensor_float_at(scales, row * order.row_stride + group * order.group_stride);
            if (!isfinite(value))
                return qzo_fail(QZO_ERR_FORMAT,
                                "tensor %s: the scale of row %lld, group %lld is not finite (%g)",
                                scales->name, (long long)row, (long long)group, (double)value);
            out[row * weight->group_count + group] = value;
        }
    }
    return QZO_OK;
}

qzo_status qzo_quant_scales_write(qzo_tensor_changes *changes, const qzo_qtensor *weight,
                                  const qzo_tensor_view *scales, qzo_scale_order order,
                                  const float *values) {
    uint8_t *data = malloc(scales->size_bytes);
    if (data == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "tensor %s: out of memory for %zu bytes", scales->name,
                        scales->size_bytes);
    for (int64_t row = 0; row < weight->out_features; row++) {
        for (int64_t group = 0; group < weight->group_count; group++) {
            const float value = values[row * weight->group_count + group];
            const int64_t place = row * order.row_stride + group * order.group_stride;
            if (qzo_tensor_float_put(data, scales->dtype, place, value)) continue;
            free(data);
            return qzo_fail(QZO_ERR_LIMIT,
                            "tensor %s: the scale of row %lld, group %lld is %g, too large for %s",
                            scales->name, (long long)row, (long long)group, (double)value,
                            qzo_dtype_name(scales->dtype));
        }
    }
    qzo_tensor_view changed = *scales;
    changed.data = data;
    return qzo_tensor_changes_put(changes, &changed);
}

qzo_status qzo_quant_part_check_finite(const qzo_tensor_view *view) {
    for (int64_t i = 0; i < view->count; i++) {
        const float value = qzo_tensor_float_at(view, i);
        if (!isfinite(value))
            return qzo_fail(QZO_ERR_FORMAT, "tensor %s: element %lld is not finite (%g)",
                            view->name, (long long)i, (double)value);
    }
    return QZO_OK;
}

/* --- scales of formats with GPTQ's codes --- */

static qzo_scale_order by_group(const qzo_qtensor *weight) {
    return (qzo_scale_order){.row_stride = 1, .group_stride = weight->out_features};
}

static qzo_scale_order by_output(const qzo_qtensor *weight) {
    return (qzo_scale_order){.row_stride = weight->group_count, .group_stride = 1};
}

qzo_status qzo_gptq_scales_read_by_group(float *out, const qzo_qtensor *weight) {
    return qzo_quant_scales_read(out, weight, &weight->as.gptq.scales, by_group(weight));
}

qzo_status qzo_gptq_scales_write_by_group(qzo_tensor_changes *changes, const qzo_qtensor *weight,
                                          const float *values) {
    return qzo_quant_scales_write(changes, weight, &weight->as.gptq.scales, by_group(weight),
                                  values);
}

qzo_status qzo_gptq_scales_read_by_output(float *out, const qzo_qtensor *weight) {
    return qzo_quant_scales_read(out, weight, &weight->as.gptq.scales, by_output(weight));
}

qzo_status qzo_gptq_scales_write_by_output(qzo_tensor_changes *changes, const qzo_qtensor *weight,
                                           const float *values) {
    return qzo_quant_scales_write(changes, weight, &weight->as.gptq.scales, by_output(weight),
                                  values);
}
