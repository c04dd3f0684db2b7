/* AWQ with 4 bits in the order of AutoAWQ's "gemm" version, which vLLM and GPTQModel also read and
 * write (Lin et al., arXiv 2306.00978). For a module with `in` inputs, `out` outputs and
 * groups = in / group_size:
 *
 *   MODULE.qweight I32 (in, out / 8)      codes, packed along the outputs
 *   MODULE.qzeros  I32 (groups, out / 8)  zero points, likewise
 *   MODULE.scales  F16, BF16 or F32 (groups, out)
 *
 * Field i of a word, from the lowest bits on, belongs to output place[i] of its eight. Zero points
 * are stored as they are. The codes are laid out as GPTQ's when the model is loaded. */
#include "base/json.h"
#include "weights/gptq_pack.h"
#include "weights/quant_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { BITS = 4, CODES = 8, GROUP_SIZE_MAX = 1 << 24 };

static const int place[CODES] = {0, 2, 4, 6, 1, 3, 5, 7};

static bool detect(const qzo_model_dir *dir, const char *module) {
    const json_t *method = json_object_get(qzo_model_dir_quantization(dir), "quant_method");
    return json_is_string(method) && strcmp(json_string_value(method), "awq") == 0 &&
           qzo_quant_part_find(dir, module, "qweight") != NULL;
}

/* "version" in what AutoAWQ wrote, "format" in newer files; gemm without either. */
static qzo_status check_version(const json_t *json, const char *place_name) {
    qzo_status status = QZO_OK;
    const char *version = "gemm", *key = "version";
    if (!qzo_json_has(json, key)) key = "format";
    if (qzo_json_has(json, key)) QZO_TRY(qzo_json_string(&version, json, key, place_name));
    if (strcasecmp(version, "gemm") != 0)
        status = qzo_fail(QZO_ERR_UNSUPPORTED, "%s: AWQ %s \"%s\", only \"gemm\" is read",
                          place_name, key, version);
cleanup:
    return status;
}

static qzo_status read_settings(int64_t *group_size, const qzo_model_dir *dir) {
    qzo_status status = QZO_OK;
    int64_t bits = 0;
    char *where = NULL;
    const json_t *json = qzo_model_dir_quantization(dir);
    if (asprintf(&where, "%s: quantization settings", qzo_model_dir_path(dir)) < 0)
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", qzo_model_dir_path(dir));
    QZO_TRY(qzo_json_int(&bits, json, "bits", 1, 64, where));
    QZO_TRY(qzo_json_int(group_size, json, "group_size", -1, GROUP_SIZE_MAX, where));
    QZO_TRY(check_version(json, where));
    if (bits != BITS)
        status = qzo_fail(QZO_ERR_UNSUPPORTED, "%s: AWQ with %lld bits, only 4 are read", where,
                          (long long)bits);
    else if (*group_size == 0)
        status = qzo_fail(QZO_ERR_FORMAT, "%s: \"group_size\" must be -1 or positive", where);
cleanup:
    free(where);
    return status;
}

static qzo_status bind(qzo_qtensor *out, const qzo_model_dir *dir, const char *module,
                       int64_t out_features, int64_t in_features) {
    qzo_status status = QZO_OK;
    qzo_gptq_tensor *gptq = &out->as.gptq;
    const qzo_tensor_view *codes = NULL, *zeros = NULL, *scales = NULL;
    QZO_TRY(read_settings(&gptq->group_size, dir));
    QZO_TRY(qzo_gptq_check_sizes(out, dir, "AWQ", BITS));
    if (gptq->group_size < 0) gptq->group_size = in_features;
    if (in_features % gptq->group_size != 0) {
        status = qzo_fail(
            QZO_ERR_UNSUPPORTED, "%s: module %s: AWQ groups of %lld do not divide its %lld inputs",
            qzo_model_dir_path(dir), module, (long long)gptq->group_size, (long long)in_features);
        goto cleanup;
    }
    gptq->bits = BITS;
    out->group_count = in_features / gptq->group_size;
    QZO_TRY(qzo_quant_part_ints(&codes, dir, module, "qweight", in_features, out_features / CODES));
    QZO_TRY(
        qzo_quant_part_ints(&zeros, dir, module, "qzeros", out->group_count, out_features / CODES));
    QZO_TRY(qzo_quant_part_floats(&scales, dir, module, "scales", out->group_count, out_features));
    gptq->stored.codes = *codes;
    gptq->stored.zeros = *zeros;
    gptq->scales = *scales;
cleanup:
    return status;
}

/* One row of words holds a field of each output: adds the fields, shifted, to out (outputs). */
static void add_fields(uint32_t *out, const qzo_tensor_view *words, int64_t row, int64_t outputs,
                       int shift) {
    for (int64_t i = 0; i < outputs / CODES; i++) {
        const uint32_t word = (uint32_t)qzo_quant_int_at(words, row * (outputs / CODES) + i);
        for (int field = 0; field < CODES; field++)
            out[i * CODES + place[field]] |= (word >> (BITS * field) & 15u) << shift;
    }
}

static qzo_status repack(qzo_qtensor *tensor) {
    const int64_t outputs = tensor->out_features;
    const qzo_gptq_tensor *gptq = &tensor->as.gptq;
    qzo_gptq_room room;
    qzo_status status = qzo_gptq_make_room(&room, tensor);
    if (status != QZO_OK) return status;
    for (int64_t i = 0; i < tensor->in_features; i++)
        add_fields(room.codes + i / CODES * outputs, &gptq->stored.codes, i, outputs,
                   (int)(i % CODES) * BITS);
    for (int64_t i = 0; i < tensor->group_count * outputs / CODES; i++) {
        const uint32_t word = (uint32_t)qzo_quant_int_at(&gptq->stored.zeros, i);
        for (int field = 0; field < CODES; field++)
            room.zeros[i] |= (word >> (BITS * field) & 15u) << (BITS * place[field]);
    }
    return QZO_OK;
}

const qzo_quant_format qzo_quant_awq = {
    .name = "awq",
    .layout = QZO_LAYOUT_GPTQ,
    .detect = detect,
    .bind = bind,
    .repack = repack,
    .decode_row = qzo_gptq_decode_row,
    .read_values = qzo_gptq_scales_read_by_group,
    .write_values = qzo_gptq_scales_write_by_group,
    .value_suffix = "scales",
    .constraint = QZO_CONSTRAINT_KEEP_SIGN,
};
