/* 4-bit weights of bitsandbytes, NF4 and FP4, as transformers saves them. For a module with `in`
 * inputs and `out` outputs, in blocks of `blocksize` inputs:
 *
 *   MODULE.weight                                 U8 (out * in / 2), bnb_decode.h
 *   MODULE.weight.quant_map                       F32 (16), what a code stands for
 *   MODULE.weight.absmax                          F32 (blocks), or U8 where it is quantized too
 *   MODULE.weight.nested_absmax, .nested_quant_map  F32 (blocks / nested_blocksize) and (256)
 *   MODULE.weight.quant_state.bitsandbytes__nf4   U8: a JSON object with blocksize, shape, ...
 *
 * The absmax values train, in fp32. Blocks run over the flattened matrix; one that crosses rows
 * would have no place in (output, block) and is refused. */
#include "base/json.h"
#include "weights/bnb_decode.h"
#include "weights/quant.h"
#include "weights/quant_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Block sizes that the library knows; of the nested ones it writes 256 alone. */
enum { BLOCK_MIN = 32, BLOCK_MAX = 4096, NESTED_LEVELS = 256 };

#define STATE_PREFIX "weight.quant_state.bitsandbytes__"
static const char *const state_suffixes[] = {STATE_PREFIX "nf4", STATE_PREFIX "fp4"};
enum { STATE_COUNT = sizeof state_suffixes / sizeof *state_suffixes };

static const qzo_tensor_view *find_state(const qzo_model_dir *dir, const char *module) {
    const qzo_tensor_view *view = NULL;
    for (int i = 0; i < STATE_COUNT && view == NULL; i++)
        view = qzo_quant_part_find(dir, module, state_suffixes[i]);
    return view;
}

static bool detect(const qzo_model_dir *dir, const char *module) {
    return find_state(dir, module) != NULL;
}

static qzo_status read_block(int64_t *out, const json_t *json, const char *key, const char *place) {
    qzo_status status = qzo_json_int(out, json, key, BLOCK_MIN, BLOCK_MAX, place);
    if (status == QZO_OK && (*out & (*out - 1)) != 0)
        status = qzo_fail(QZO_ERR_FORMAT, "%s: \"%s\" must be a power of two, found %lld", place,
                          key, (long long)*out);
    return status;
}

static qzo_status check_shape(const json_t *json, const qzo_qtensor *out, const char *place) {
    const json_t *shape = json_object_get(json, "shape");
    const json_int_t rows = json_integer_value(json_array_get(shape, 0));
    const json_int_t columns = json_integer_value(json_array_get(shape, 1));
    if (json_array_size(shape) == 2 && rows == out->out_features && columns == out->in_features)
        return QZO_OK;
    return qzo_fail(QZO_ERR_FORMAT, "%s: expected \"shape\" [%lld, %lld], found [%lld, %lld]",
                    place, (long long)out->out_features, (long long)out->in_features,
                    (long long)rows, (long long)columns);
}

/* The JSON object beside the codes. */
static qzo_status read_state(qzo_qtensor *out, const qzo_tensor_view *state) {
    qzo_status status = QZO_OK;
    qzo_bnb_tensor *bnb = &out->as.bnb;
    json_t *json = NULL;
    double offset = 0.0;
    if (state->dtype != QZO_DTYPE_U8)
        return qzo_fail(QZO_ERR_FORMAT, "tensor %s: expected U8, found %s", state->name,
                        qzo_dtype_name(state->dtype));
    QZO_TRY(qzo_json_parse(&json, (const char *)state->data, state->size_bytes, state->name));
    QZO_TRY(read_block(&bnb->block, json, "blocksize", state->name));
    QZO_TRY(check_shape(json, out, state->name));
    if (qzo_json_has(json, "nested_blocksize")) {
        QZO_TRY(read_block(&bnb->nested_block, json, "nested_blocksize", state->name));
        QZO_TRY(qzo_json_number(&offset, json, "nested_offset", state->name));
        bnb->nested_offset = (float)offset;
    }
    bnb->state = state;
cleanup:
    json_decref(json);
    return status;
}

static qzo_status bind_absmax(qzo_qtensor *out, const qzo_model_dir *dir, const char *module) {
    qzo_status status = QZO_OK;
    qzo_bnb_tensor *bnb = &out->as.bnb;
    const qzo_tensor_view *absmax = NULL, *nested = NULL, *levels = NULL;
    const int64_t count = out->out_features * out->group_count;
    const bool is_nested = bnb->nested_block > 0;
    QZO_TRY(qzo_quant_part_require(&absmax, dir, module, "weight.absmax",
                                   is_nested ? QZO_DTYPE_U8 : QZO_DTYPE_F32, count));
    bnb->absmax = *absmax;
    if (!is_nested) goto cleanup;
    QZO_TRY(qzo_quant_part_require(&nested, dir, module, "weight.nested_absmax", QZO_DTYPE_F32,
                                   (count + bnb->nested_block - 1) / bnb->nested_block));
    QZO_TRY(qzo_quant_part_require(&levels, dir, module, "weight.nested_quant_map", QZO_DTYPE_F32,
                                   NESTED_LEVELS));
    bnb->nested_absmax = *nested;
    bnb->nested_levels = *levels;
cleanup:
    return status;
}

static qzo_status bind(qzo_qtensor *out, const qzo_model_dir *dir, const char *module,
                       int64_t out_features, int64_t in_features) {
    qzo_status status = QZO_OK;
    qzo_bnb_tensor *bnb = &out->as.bnb;
    const qzo_tensor_view *codes = NULL, *levels = NULL;
    QZO_TRY(read_state(out, find_state(dir, module)));
    if (in_features % bnb->block != 0) {
        status = qzo_fail(QZO_ERR_UNSUPPORTED,
                          "%s: module %s: blocks of %lld inputs cross the rows of a weight (%lld, "
                          "%lld): that is not supported",
                          qzo_model_dir_path(dir), module, (long long)bnb->block,
                          (long long)out_features, (long long)in_features);
        goto cleanup;
    }
    out->group_count = in_features / bnb->block;
    QZO_TRY(qzo_quant_part_require(&codes, dir, module, "weight", QZO_DTYPE_U8,
                                   out_features * in_features / 2));
    QZO_TRY(qzo_quant_part_require(&levels, dir, module, "weight.quant_map", QZO_DTYPE_F32,
                                   QZO_BNB_LEVELS));
    QZO_TRY(qzo_quant_part_check_finite(levels));
    bnb->codes = codes->data;
    for (int i = 0; i < QZO_BNB_LEVELS; i++) bnb->levels[i] = qzo_tensor_float_at(levels, i);
    QZO_TRY(bind_absmax(out, dir, module));
cleanup:
    return status;
}

static void decode_part(float *out, const qzo_qtensor *weight, int64_t row, int64_t first,
                        int64_t count, const float *values) {
    const qzo_bnb_tensor *bnb = &weight->as.bnb;
    const uint8_t *codes = bnb->codes + row * (weight->in_features / 2);
    for (int64_t i = 0; i < count; i++)
        out[i] = qzo_bnb_value(bnb->levels[qzo_bnb_code(codes, first + i)],
                               values[(first + i) / bnb->block]);
}

static void decode_row(float *out, const qzo_qtensor *weight, int64_t row, const float *values) {
    decode_part(out, weight, row, 0, weight->in_features, values);
}

static float absmax_at(const qzo_bnb_tensor *bnb, int64_t index) {
    if (bnb->nested_block == 0) return qzo_tensor_float_at(&bnb->absmax, index);
    const float level = qzo_tensor_float_at(&bnb->nested_levels, bnb->absmax.data[index]);
    const float nested = qzo_tensor_float_at(&bnb->nested_absmax, index / bnb->nested_block);
    return qzo_bnb_absmax(level, nested, bnb->nested_offset);
}

static qzo_status read_values(float *out, const qzo_qtensor *weight) {
    const qzo_bnb_tensor *bnb = &weight->as.bnb;
    const int64_t count = weight->out_features * weight->group_count;
    for (int64_t i = 0; i < count; i++) {
        out[i] = absmax_at(bnb, i);
        if (!isfinite(out[i]))
            return qzo_fail(QZO_ERR_FORMAT,
                            "tensor %s: the absmax of row %lld, block %lld is not finite (%g)",
                            bnb->absmax.name, (long long)(i / weight->group_count),
                            (long long)(i % weight->group_count), (double)out[i]);
    }
    return QZO_OK;
}

/* The state without the settings of a quantized absmax, which the library then takes as it is. */
static qzo_status put_plain_state(qzo_tensor_changes *changes, const qzo_tensor_view *state) {
    qzo_status status = QZO_OK;
    json_t *json = NULL;
    QZO_TRY(qzo_json_parse(&json, (const char *)state->data, state->size_bytes, state->name));
    json_object_del(json, "nested_blocksize");
    json_object_del(json, "nested_dtype");
    json_object_del(json, "nested_offset");
    char *text = json_dumps(json, 0);
    if (text == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "tensor %s: out of memory", state->name);
        goto cleanup;
    }
    qzo_tensor_view changed = *state;
    changed.rank = 1;
    changed.shape[0] = (int64_t)strlen(text);
    changed.data = (uint8_t *)text;
    QZO_TRY(qzo_tensor_changes_put(changes, &changed));
cleanup:
    json_decref(json);
    return status;
}

static qzo_status take_out(qzo_tensor_changes *changes, const qzo_tensor_view *view) {
    qzo_tensor_view gone = *view;
    gone.data = NULL;
    return qzo_tensor_changes_put(changes, &gone);
}

/* Tensors that no file has yet, as the library would have saved them. */
static qzo_status put_made(qzo_tensor_changes *changes, const qzo_tensor_view *made) {
    qzo_status status = QZO_OK;
    for (int i = 0; status == QZO_OK && i < QZO_BNB_MADE_COUNT; i++) {
        qzo_tensor_view copy = made[i];
        uint8_t *data = malloc(copy.size_bytes);
        if (data == NULL) return qzo_fail(QZO_ERR_MEMORY, "tensor %s: out of memory", copy.name);
        memcpy(data, made[i].data, copy.size_bytes);
        copy.data = data;
        status = qzo_tensor_changes_put(changes, &copy);
    }
    return status;
}

/* In fp32, which the library reads; an absmax that was quantized is stored plainly. */
static qzo_status write_values(qzo_tensor_changes *changes, const qzo_qtensor *weight,
                               const float *values) {
    qzo_status status = QZO_OK;
    const qzo_bnb_tensor *bnb = &weight->as.bnb;
    const size_t size_bytes = (size_t)(weight->out_features * weight->group_count) * sizeof(float);
    qzo_tensor_view changed = bnb->absmax;
    uint8_t *data = malloc(size_bytes);
    if (data == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "tensor %s: out of memory for %zu bytes", changed.name,
                        size_bytes);
    for (int64_t i = 0; i < weight->out_features * weight->group_count; i++)
        qzo_tensor_float_put(data, QZO_DTYPE_F32, i, values[i]);
    changed.dtype = QZO_DTYPE_F32;
    changed.data = data;
    QZO_TRY(qzo_tensor_changes_put(changes, &changed));
    if (bnb->made != NULL) QZO_TRY(put_made(changes, bnb->made));
    if (bnb->nested_block == 0) goto cleanup;
    QZO_TRY(take_out(changes, &bnb->nested_absmax));
    QZO_TRY(take_out(changes, &bnb->nested_levels));
    QZO_TRY(put_plain_state(changes, bnb->state));
cleanup:
    return status;
}

const qzo_quant_format qzo_quant_bnb = {
    .name = "bnb",
    .layout = QZO_LAYOUT_BNB,
    .detect = detect,
    .bind = bind,
    .decode_row = decode_row,
    .decode_part = decode_part,
    .read_values = read_values,
    .write_values = write_values,
    .value_suffix = "weight.absmax",
    .constraint = QZO_CONSTRAINT_POSITIVE,
};
