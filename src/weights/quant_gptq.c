/* GPTQ with 2, 3, 4 or 8 bits as AutoGPTQ and GPTQModel write it. For a module with `in` inputs,
 * `out` outputs and groups = ceil(in / group_size):
 *
 *   MODULE.qweight I32 (in * bits / 32, out)     codes, packed along the inputs
 *   MODULE.qzeros  I32 (groups, out * bits / 32) zero points, packed along the outputs
 *   MODULE.scales  F16, BF16 or F32 (groups, out)
 *   MODULE.g_idx   I32 (in)                      group of each input; i / group_size without it
 *
 * gptq_decode.h has the decoding of one value. The settings stand in the model's quantization
 * settings: bits, group_size (-1: one group), desc_act, checkpoint_format. "sym" needs no care: its
 * zero points are stored like all others. */
#include "base/json.h"
#include "weights/gptq_decode.h"
#include "weights/gptq_pack.h"
#include "weights/quant_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WORD_BITS = 32,
    GROUP_SIZE_MAX = 1 << 24,
    OWNED_ALIGNMENT_BYTES = 64,
};

typedef struct settings {
    int bits;
    int64_t group_size; /* -1: one group */
    bool desc_act;
    uint32_t zero_correction;
} settings;

typedef struct parts {
    const qzo_tensor_view *qweight;
    const qzo_tensor_view *qzeros;
    const qzo_tensor_view *scales;
    const qzo_tensor_view *g_idx; /* NULL where there is none */
} parts;

static bool detect(const qzo_model_dir *dir, const char *module) {
    return qzo_quant_part_find(dir, module, "qweight") != NULL;
}

static qzo_status read_checkpoint_format(settings *out, const json_t *json, const char *place) {
    qzo_status status = QZO_OK;
    const char *format = "gptq";
    if (qzo_json_has(json, "checkpoint_format"))
        QZO_TRY(qzo_json_string(&format, json, "checkpoint_format", place));
    if (strcmp(format, "gptq") == 0)
        out->zero_correction = qzo_gptq_v1_correction(out->bits);
    else if (strcmp(format, "gptq_v2") == 0)
        out->zero_correction = 0;
    else
        status = qzo_fail(QZO_ERR_UNSUPPORTED,
                          "%s: checkpoint_format \"%s\", only \"gptq\" and \"gptq_v2\" are read",
                          place, format);
cleanup:
    return status;
}

static qzo_status read_bits(settings *out, const json_t *json, const char *place) {
    qzo_status status = QZO_OK;
    int64_t bits = 0;
    QZO_TRY(qzo_json_int(&bits, json, "bits", 1, 64, place));
    out->bits = (int)bits;
    if (qzo_gptq_packed_codes(bits) == 0)
        status = qzo_fail(QZO_ERR_UNSUPPORTED, "%s: %lld bits, only 2, 3, 4 and 8 are read", place,
                          (long long)bits);
cleanup:
    return status;
}

static qzo_status read_settings(settings *out, const qzo_model_dir *dir) {
    qzo_status status = QZO_OK;
    const char *method = "gptq"; /* old quantize_config.json files do not name it */
    char *place = NULL;
    const json_t *json = qzo_model_dir_quantization(dir);
    if (json == NULL)
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: GPTQ tensors, but neither config.json has a quantization_config nor "
                        "is there a quantize_config.json",
                        qzo_model_dir_path(dir));
    if (asprintf(&place, "%s: quantization settings", qzo_model_dir_path(dir)) < 0)
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", qzo_model_dir_path(dir));
    if (qzo_json_has(json, "quant_method"))
        QZO_TRY(qzo_json_string(&method, json, "quant_method", place));
    if (strcmp(method, "gptq") != 0) {
        status = qzo_fail(QZO_ERR_UNSUPPORTED, "%s: quant_method \"%s\", only \"gptq\" is read",
                          place, method);
        goto cleanup;
    }
    QZO_TRY(read_bits(out, json, place));
    QZO_TRY(qzo_json_int(&out->group_size, json, "group_size", -1, GROUP_SIZE_MAX, place));
    if (out->group_size == 0) {
        status = qzo_fail(QZO_ERR_FORMAT, "%s: \"group_size\" must be -1 or positive", place);
        goto cleanup;
    }
    if (qzo_json_has(json, "desc_act"))
        QZO_TRY(qzo_json_bool(&out->desc_act, json, "desc_act", place));
    QZO_TRY(read_checkpoint_format(out, json, place));
cleanup:
    free(place);
    return status;
}

static size_t padded(size_t bytes) {
    return (bytes + OWNED_ALIGNMENT_BYTES - 1) / OWNED_ALIGNMENT_BYTES * OWNED_ALIGNMENT_BYTES;
}

static size_t copy_bytes(const qzo_tensor_view *view) {
    return qzo_tensor_aligned(view) ? 0 : padded(view->size_bytes);
}

/* The view's data, or an aligned copy of it, for which *free_at moves on. */
static const uint8_t *aligned_data(const qzo_tensor_view *view, uint8_t **free_at) {
    if (qzo_tensor_aligned(view)) return view->data;
    uint8_t *copy = *free_at;
    memcpy(copy, view->data, view->size_bytes);
    *free_at += padded(view->size_bytes);
    return copy;
}

/* Fills out->as.gptq with aligned pointers; what cannot be borrowed lies in one block, `owned`. */
static qzo_status place_parts(qzo_qtensor *out, const parts *from, const settings *chosen) {
    const int64_t inputs = out->in_features;
    size_t owned_bytes =
        copy_bytes(from->qweight) + copy_bytes(from->qzeros) + copy_bytes(from->scales);
    owned_bytes +=
        from->g_idx != NULL ? copy_bytes(from->g_idx) : padded((size_t)inputs * sizeof(int32_t));
    if (owned_bytes > 0) {
        out->owned = aligned_alloc(OWNED_ALIGNMENT_BYTES, owned_bytes);
        if (out->owned == NULL)
            return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for %zu bytes", out->name,
                            owned_bytes);
    }
    uint8_t *free_at = out->owned;
    qzo_gptq_tensor *gptq = &out->as.gptq;
    gptq->bits = chosen->bits;
    gptq->codes = (const void *)aligned_data(from->qweight, &free_at);
    gptq->zeros = (const void *)aligned_data(from->qzeros, &free_at);
    gptq->zero_correction = chosen->zero_correction;
    gptq->scales = *from->scales;
    gptq->scales.data = aligned_data(from->scales, &free_at);
    if (from->g_idx != NULL) {
        gptq->group_of_input = (const void *)aligned_data(from->g_idx, &free_at);
        return QZO_OK;
    }
    int32_t *groups = (void *)free_at;
    for (int64_t i = 0; i < inputs; i++)
        groups[i] = chosen->group_size < 0 ? 0 : (int32_t)(i / chosen->group_size);
    gptq->group_of_input = groups;
    return QZO_OK;
}

static qzo_status bind(qzo_qtensor *out, const qzo_model_dir *dir, const char *module,
                       int64_t out_features, int64_t in_features) {
    qzo_status status = QZO_OK;
    settings chosen = {0};
    parts found = {0};
    QZO_TRY(read_settings(&chosen, dir));
    QZO_TRY(qzo_gptq_check_sizes(out, dir, "GPTQ", chosen.bits));
    out->group_count =
        chosen.group_size < 0 ? 1 : (in_features + chosen.group_size - 1) / chosen.group_size;
    QZO_TRY(qzo_quant_part_ints(&found.qweight, dir, module, "qweight",
                                in_features * chosen.bits / WORD_BITS, out_features));
    QZO_TRY(qzo_quant_part_ints(&found.qzeros, dir, module, "qzeros", out->group_count,
                                out_features * chosen.bits / WORD_BITS));
    QZO_TRY(qzo_quant_part_floats(&found.scales, dir, module, "scales", out->group_count,
                                  out_features));
    /* Without desc_act the groups are consecutive, but a file that says otherwise is believed. */
    if (chosen.desc_act || qzo_quant_part_find(dir, module, "g_idx") != NULL)
        QZO_TRY(qzo_quant_part_groups(&found.g_idx, dir, module, "g_idx", in_features,
                                      out->group_count));
    QZO_TRY(place_parts(out, &found, &chosen));
cleanup:
    return status;
}

const qzo_quant_format qzo_quant_gptq = {
    .name = "gptq",
    .layout = QZO_LAYOUT_GPTQ,
    .detect = detect,
    .bind = bind,
    .decode_row = qzo_gptq_decode_row,
    .read_values = qzo_gptq_scales_read_by_group,
    .write_values = qzo_gptq_scales_write_by_group,
    .value_suffix = "scales",
    .constraint = QZO_CONSTRAINT_POSITIVE,
};
