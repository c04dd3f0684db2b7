/* Integer weights as the compressed-tensors package stores them (llm-compressor writes such models,
 * vLLM runs them), where only the weights are quantized. For a module with `in` inputs, `out`
 * outputs and `groups` runs of as many inputs each (one: per channel), packed with `bits`:
 *
 *   MODULE.weight_packed      I32 (out, in * bits / 32)      codes along the inputs
 *   MODULE.weight_shape       I64 (2): out, in
 *   MODULE.weight_scale       F16, BF16 or F32 (out, groups)
 *   MODULE.weight_zero_point  I32 (out * bits / 32, groups)  along the outputs; may be missing
 *   MODULE.weight_g_idx       I32 (in)                       group of each input; may be missing
 *
 * or, not packed, with 8 bits:
 *
 *   MODULE.weight             I8 (out, in)
 *   MODULE.weight_scale       the same
 *   MODULE.weight_zero_point  I8 (out, groups); may be missing
 *
 * Packed codes and zero points are those of signed integers plus 2^(bits - 1): turned, they are the
 * words of GPTQ. What a module has follows from its tensors, whatever target of the settings it
 * is. */
#include "base/json.h"
#include "weights/gptq_pack.h"
#include "weights/quant_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_BITS = 32, BYTE_BITS = 8, BITS_MAX = 8 };

static bool detect(const qzo_model_dir *dir, const char *module) {
    const json_t *method = json_object_get(qzo_model_dir_quantization(dir), "quant_method");
    return json_is_string(method) && strcmp(json_string_value(method), "compressed-tensors") == 0 &&
           (qzo_quant_part_find(dir, module, "weight_packed") != NULL ||
            qzo_quant_part_find(dir, module, "weight_scale") != NULL);
}

/* --- settings --- */

static qzo_status refuse(const qzo_model_dir *dir, const char *what) {
    return qzo_fail(QZO_ERR_UNSUPPORTED,
                    "%s: compressed-tensors with %s: only models whose weights alone are quantized "
                    "to integers are read",
                    qzo_model_dir_path(dir), what);
}

/* Not there, null, or an object or list without content. */
static bool is_empty(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return value == NULL || json_is_null(value) ||
           (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

static qzo_status check_format(const json_t *json, const qzo_model_dir *dir) {
    static const char *const known[] = {"pack-quantized", "int-quantized", "naive-quantized",
                                        "mixed-precision"};
    const char *format = json_string_value(json_object_get(json, "format"));
    if (format == NULL) return QZO_OK;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(format, known[i]) == 0) return QZO_OK;
    return qzo_fail(QZO_ERR_UNSUPPORTED,
                    "%s: compressed-tensors format \"%s\", only pack-quantized, int-quantized and "
                    "naive-quantized are read",
                    qzo_model_dir_path(dir), format);
}

/* One entry of config_groups. */
static qzo_status check_group(const json_t *group, const qzo_model_dir *dir) {
    const json_t *weights = json_object_get(group, "weights");
    const char *type = json_string_value(json_object_get(weights, "type"));
    if (!is_empty(group, "input_activations") || !is_empty(group, "output_activations"))
        return refuse(dir, "quantized activations");
    if (type != NULL && strcmp(type, "int") != 0)
        return qzo_fail(QZO_ERR_UNSUPPORTED,
                        "%s: compressed-tensors weights of type \"%s\", only \"int\" is read",
                        qzo_model_dir_path(dir), type);
    return check_format(group, dir);
}

static qzo_status check_settings(const qzo_model_dir *dir) {
    qzo_status status = QZO_OK;
    const json_t *json = qzo_model_dir_quantization(dir);
    json_t *groups = json_object_get(json, "config_groups"), *group;
    const char *name;
    QZO_TRY(check_format(json, dir));
    if (!is_empty(json, "kv_cache_scheme")) QZO_TRY(refuse(dir, "a quantized cache"));
    if (!is_empty(json_object_get(json, "transform_config"), "config_groups"))
        QZO_TRY(refuse(dir, "transforms of activations"));
    json_object_foreach(groups, name, group) QZO_TRY(check_group(group, dir));
cleanup:
    return status;
}

/* Whether some group of the settings has weights of that many bits: older versions packed 3, 5, 6
 * and 7 bits with gaps, and their words could pass for those of other bits. */
static bool has_bits(const qzo_model_dir *dir, int64_t bits) {
    json_t *groups = json_object_get(qzo_model_dir_quantization(dir), "config_groups"), *group;
    const char *name;
    json_object_foreach(groups, name, group) {
        const json_t *weights = json_object_get(group, "weights");
        if (json_integer_value(json_object_get(weights, "num_bits")) == bits) return true;
    }
    return false;
}

/* --- tensors --- */

/* MODULE.weight_scale, which tells the groups. */
static qzo_status bind_scales(qzo_qtensor *out, const qzo_model_dir *dir, const char *module) {
    const qzo_tensor_view *view = qzo_quant_part_find(dir, module, "weight_scale");
    const int64_t inputs = out->in_features;
    const int64_t groups = view != NULL && view->rank == 2 ? view->shape[1] : 1;
    qzo_status status =
        qzo_quant_part_floats(&view, dir, module, "weight_scale", out->out_features, groups);
    if (status != QZO_OK) return status;
    if (groups < 1 || inputs % groups != 0)
        return qzo_fail(QZO_ERR_UNSUPPORTED,
                        "%s: tensor %s: %lld groups, which do not divide %lld inputs",
                        qzo_model_dir_path(dir), view->name, (long long)groups, (long long)inputs);
    out->group_count = groups;
    out->as.gptq.group_size = inputs / groups;
    out->as.gptq.scales = *view;
    return QZO_OK;
}

/* The width of the packed words tells the bits. */
static qzo_status read_bits(int64_t *bits, const qzo_qtensor *out, const qzo_model_dir *dir,
                            const qzo_tensor_view *packed) {
    const int64_t words = packed->rank == 2 ? packed->shape[1] : 0;
    for (*bits = 1; *bits <= BITS_MAX; ++*bits)
        if ((out->in_features * *bits + WORD_BITS - 1) / WORD_BITS == words && has_bits(dir, *bits))
            return QZO_OK;
    return qzo_fail(QZO_ERR_FORMAT,
                    "%s: tensor %s: rows of %lld words for %lld inputs, which no \"num_bits\" of "
                    "the settings gives",
                    qzo_model_dir_path(dir), packed->name, (long long)words,
                    (long long)out->in_features);
}

static qzo_status bind_packed(qzo_qtensor *out, const qzo_model_dir *dir, const char *module) {
    qzo_status status = QZO_OK;
    qzo_gptq_tensor *gptq = &out->as.gptq;
    int64_t bits = 0;
    const qzo_tensor_view *codes = qzo_quant_part_find(dir, module, "weight_packed");
    const qzo_tensor_view *zeros = qzo_quant_part_find(dir, module, "weight_zero_point");
    QZO_TRY(qzo_quant_part_shape(dir, module, "weight_shape", out->out_features, out->in_features));
    QZO_TRY(read_bits(&bits, out, dir, codes));
    QZO_TRY(qzo_gptq_check_sizes(out, dir, "compressed-tensors", bits));
    gptq->bits = (int)bits;
    QZO_TRY(qzo_quant_part_ints(&codes, dir, module, "weight_packed", out->out_features,
                                out->in_features * bits / WORD_BITS));
    gptq->stored.codes = *codes;
    if (zeros == NULL) goto cleanup;
    QZO_TRY(qzo_quant_part_ints(&zeros, dir, module, "weight_zero_point",
                                out->out_features * bits / WORD_BITS, out->group_count));
    gptq->stored.zeros = *zeros;
cleanup:
    return status;
}

static qzo_status bind_bytes(qzo_qtensor *out, const qzo_model_dir *dir, const char *module) {
    qzo_status status = QZO_OK;
    qzo_gptq_tensor *gptq = &out->as.gptq;
    const qzo_tensor_view *codes = NULL;
    const qzo_tensor_view *zeros = qzo_quant_part_find(dir, module, "weight_zero_point");
    QZO_TRY(qzo_gptq_check_sizes(out, dir, "compressed-tensors", BYTE_BITS));
    QZO_TRY(qzo_quant_part_require(&codes, dir, module, "weight", QZO_DTYPE_I8,
                                   out->out_features * out->in_features));
    gptq->bits = BYTE_BITS;
    gptq->stored.codes = *codes;
    if (zeros == NULL) goto cleanup;
    QZO_TRY(qzo_quant_part_require(&zeros, dir, module, "weight_zero_point", QZO_DTYPE_I8,
                                   out->out_features * out->group_count));
    gptq->stored.zeros = *zeros;
cleanup:
    return status;
}

static qzo_status bind(qzo_qtensor *out, const qzo_model_dir *dir, const char *module,
                       int64_t out_features, int64_t in_features) {
    qzo_status status = QZO_OK;
    const qzo_tensor_view *groups = NULL;
    (void)out_features;
    QZO_TRY(check_settings(dir));
    QZO_TRY(bind_scales(out, dir, module));
    if (qzo_quant_part_find(dir, module, "weight_packed") != NULL)
        QZO_TRY(bind_packed(out, dir, module));
    else
        QZO_TRY(bind_bytes(out, dir, module));
    if (qzo_quant_part_find(dir, module, "weight_g_idx") == NULL) goto cleanup;
    QZO_TRY(
        qzo_quant_part_groups(&groups, dir, module, "weight_g_idx", in_features, out->group_count));
    out->as.gptq.stored.groups = *groups;
cleanup:
    return status;
}

/* --- laid out as GPTQ's --- */

static void repack_zeros(const qzo_gptq_room *room, const qzo_qtensor *tensor) {
    const qzo_gptq_tensor *gptq = &tensor->as.gptq;
    const int64_t outputs = tensor->out_features, groups = tensor->group_count;
    const qzo_tensor_view *stored = &gptq->stored.zeros;
    const uint32_t middle = 1u << (gptq->bits - 1);
    if (stored->dtype == QZO_DTYPE_I32 && stored->data != NULL) {
        qzo_gptq_transpose_words(room->zeros, stored->data, outputs * gptq->bits / WORD_BITS,
                                 groups, 0);
        return;
    }
    for (int64_t group = 0; group < groups; group++)
        for (int64_t output = 0; output < outputs; output++) {
            const uint8_t zero =
                stored->data != NULL ? stored->data[output * groups + group] : (uint8_t)0;
            qzo_gptq_put(room->zeros + group * (outputs * gptq->bits / WORD_BITS), 1, output,
                         gptq->bits, zero ^ middle);
        }
}

/* Four neighbouring I8 are a word of four codes, once each sign bit is flipped. */
static qzo_status repack(qzo_qtensor *tensor) {
    const qzo_gptq_tensor *gptq = &tensor->as.gptq;
    const bool is_packed = gptq->stored.codes.dtype == QZO_DTYPE_I32;
    qzo_gptq_room room;
    qzo_status status = qzo_gptq_make_room(&room, tensor);
    if (status != QZO_OK) return status;
    qzo_gptq_transpose_words(room.codes, gptq->stored.codes.data, tensor->out_features,
                             tensor->in_features * gptq->bits / WORD_BITS,
                             is_packed ? 0 : 0x80808080u);
    repack_zeros(&room, tensor);
    return QZO_OK;
}

const qzo_quant_format qzo_quant_compressed = {
    .name = "compressed-tensors",
    .layout = QZO_LAYOUT_GPTQ,
    .detect = detect,
    .bind = bind,
    .repack = repack,
    .decode_row = qzo_gptq_decode_row,
    .read_values = qzo_gptq_scales_read_by_output,
    .write_values = qzo_gptq_scales_write_by_output,
    .value_suffix = "weight_scale",
    .constraint = QZO_CONSTRAINT_KEEP_SIGN,
};
