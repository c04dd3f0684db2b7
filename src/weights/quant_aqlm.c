/* AQLM as the aqlm package writes it. For a module with `in` inputs and `out` outputs:
 *
 *   MODULE.codes     I16 or I8 (out, in / 8, codebooks), read as unsigned
 *   MODULE.codebooks F16 or BF16 (codebooks, entries, 1, 8): 65536 entries for I16, 256 for I8
 *   MODULE.scales    F16, BF16 or F32 (out, 1, 1, 1)
 *
 * That is 1x16, 2x8 and their like; every code is in range by its type. The scales train and keep
 * their signs, the codebooks are frozen. aqlm_decode.h has the decoding of one group. */
#include "weights/aqlm_decode.h"
#include "weights/quant.h"
#include "weights/quant_parts.h"

enum { CODEBOOKS_MAX = 8 };

static bool detect(const qzo_model_dir *dir, const char *module) {
    return qzo_quant_part_find(dir, module, "codebooks") != NULL;
}

static qzo_status bind_codebooks(qzo_aqlm_tensor *out, const qzo_model_dir *dir,
                                 const char *module) {
    const char *folder = qzo_model_dir_path(dir);
    const qzo_tensor_view *view = qzo_quant_part_find(dir, module, "codebooks");
    if (view->dtype != QZO_DTYPE_F16 && view->dtype != QZO_DTYPE_BF16)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: tensor %s: expected F16 or BF16, found %s",
                        folder, view->name, qzo_dtype_name(view->dtype));
    const int64_t *shape = view->shape;
    if (view->rank != 4 || shape[0] < 1 || shape[0] > CODEBOOKS_MAX ||
        (shape[1] != 256 && shape[1] != 65536) || shape[2] != 1 || shape[3] != QZO_AQLM_GROUP)
        return qzo_fail(QZO_ERR_UNSUPPORTED,
                        "%s: tensor %s: expected the shape (1 to %d, 256 or 65536, 1, %d), found "
                        "rank %d and (%lld, %lld, ...)",
                        folder, view->name, CODEBOOKS_MAX, QZO_AQLM_GROUP, view->rank,
                        (long long)shape[0], (long long)(view->rank > 1 ? shape[1] : 0));
    out->codebooks = *view;
    out->layout.codebook_count = (int)shape[0];
    out->layout.code_bits = shape[1] == 256 ? 8 : 16;
    out->layout.is_bf16 = view->dtype == QZO_DTYPE_BF16;
    return QZO_OK;
}

static qzo_status bind_scales(qzo_aqlm_tensor *out, const qzo_model_dir *dir, const char *module,
                              int64_t out_features) {
    const qzo_tensor_view *view = qzo_quant_part_find(dir, module, "scales");
    const qzo_dtype dtype =
        view != NULL && qzo_dtype_is_float(view->dtype) ? view->dtype : QZO_DTYPE_F16;
    qzo_status status = qzo_quant_part_require(&view, dir, module, "scales", dtype, out_features);
    if (status == QZO_OK) out->scales = *view;
    return status;
}

static qzo_status bind(qzo_qtensor *out, const qzo_model_dir *dir, const char *module,
                       int64_t out_features, int64_t in_features) {
    qzo_status status = QZO_OK;
    qzo_aqlm_tensor *aqlm = &out->as.aqlm;
    const qzo_tensor_view *codes = NULL;
    if (in_features % QZO_AQLM_GROUP != 0)
        return qzo_fail(QZO_ERR_UNSUPPORTED,
                        "%s: module %s: AQLM groups by %d, the weight is (%lld, %lld)",
                        qzo_model_dir_path(dir), module, QZO_AQLM_GROUP, (long long)out_features,
                        (long long)in_features);
    QZO_TRY(bind_codebooks(aqlm, dir, module));
    QZO_TRY(bind_scales(aqlm, dir, module, out_features));
    QZO_TRY(qzo_quant_part_require(
        &codes, dir, module, "codes", aqlm->layout.code_bits == 8 ? QZO_DTYPE_I8 : QZO_DTYPE_I16,
        out_features * (in_features / QZO_AQLM_GROUP) * aqlm->layout.codebook_count));
    aqlm->codes = *codes;
    qzo_tensor_view *const views[] = {&aqlm->codes, &aqlm->codebooks};
    QZO_TRY(qzo_quant_parts_align(&out->owned, views, 2));
    aqlm->layout.codes = aqlm->codes.data;
    aqlm->layout.codebooks = (const void *)aqlm->codebooks.data;
    out->group_count = 1;
cleanup:
    return status;
}

static void decode_part(float *out, const qzo_qtensor *weight, int64_t row, int64_t first,
                        int64_t count, const float *values) {
    const int64_t groups = weight->in_features / QZO_AQLM_GROUP;
    for (int64_t i = 0; i < count; i += QZO_AQLM_GROUP)
        qzo_aqlm_group(out + i, &weight->as.aqlm.layout,
                       row * groups + (first + i) / QZO_AQLM_GROUP, values[0]);
}

static void decode_row(float *out, const qzo_qtensor *weight, int64_t row, const float *values) {
    decode_part(out, weight, row, 0, weight->in_features, values);
}

/* One scale for each output. */
static const qzo_scale_order SCALE_ORDER = {.row_stride = 1, .group_stride = 1};

static qzo_status read_values(float *out, const qzo_qtensor *weight) {
    const qzo_aqlm_tensor *aqlm = &weight->as.aqlm;
    qzo_status status = qzo_quant_part_check_finite(&aqlm->codebooks);
    return status == QZO_OK ? qzo_quant_scales_read(out, weight, &aqlm->scales, SCALE_ORDER)
                            : status;
}

static qzo_status write_values(qzo_tensor_changes *changes, const qzo_qtensor *weight,
                               const float *values) {
    return qzo_quant_scales_write(changes, weight, &weight->as.aqlm.scales, SCALE_ORDER, values);
}

const qzo_quant_format qzo_quant_aqlm = {
    .name = "aqlm",
    .layout = QZO_LAYOUT_AQLM,
    .detect = detect,
    .bind = bind,
    .decode_row = decode_row,
    .decode_part = decode_part,
    .read_values = read_values,
    .write_values = write_values,
    .value_suffix = "scales",
    .constraint = QZO_CONSTRAINT_KEEP_SIGN,
};
