/* Blocks of a GGUF file: Q4_0, Q8_0, Q4_K and Q6_K (gguf_decode.h has their layouts), as
 * gguf_model.h names them: MODULE.q4_0, U8 (out, bytes of a row).
 *
 * The d of each block trains, in fp32, and keeps its sign; sub-scales, minima and Q4_K's dmin are
 * frozen. The file has d in fp16, and no value of fp16 but 0 is below the floor: what does not move
 * is written as it was read. */
#include "weights/gguf_model.h"
#include "weights/quant.h"
#include "weights/quant_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { KIND_COUNT = QZO_GGUF_BLOCK_Q6_K + 1 };

static const qzo_tensor_view *find(const qzo_model_dir *dir, const char *module) {
    const qzo_tensor_view *view = NULL;
    if (qzo_model_dir_gguf(dir, NULL) == NULL) return NULL;
    for (int kind = 0; kind < KIND_COUNT && view == NULL; kind++)
        view = qzo_quant_part_find(dir, module, qzo_gguf_block_suffix((qzo_gguf_block)kind));
    return view;
}

static bool detect(const qzo_model_dir *dir, const char *module) {
    return find(dir, module) != NULL;
}

static qzo_status bind(qzo_qtensor *out, const qzo_model_dir *dir, const char *module,
                       int64_t out_features, int64_t in_features) {
    qzo_gguf_tensor *gguf = &out->as.gguf;
    gguf->view = find(dir, module);
    if (!qzo_gguf_model_blocks(&gguf->layout, qzo_model_dir_gguf(dir, NULL), gguf->view))
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: expected blocks", qzo_model_dir_path(dir),
                        gguf->view->name);
    if (gguf->view->shape[0] != out_features || gguf->layout.in_features != in_features)
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: tensor %s: expected the shape (%lld, %lld), found (%lld, %lld)",
                        qzo_model_dir_path(dir), gguf->view->name, (long long)out_features,
                        (long long)in_features, (long long)gguf->view->shape[0],
                        (long long)gguf->layout.in_features);
    out->group_count = in_features / gguf->layout.block_inputs;
    return QZO_OK;
}

/* Inputs first .. end - 1 of one block; the kind is a constant where it is called. */
static inline void decode_octets(float *out, const uint8_t *block, int first, int end, float d,
                                 qzo_gguf_block kind) {
    for (int i = first; i < end; i += QZO_GGUF_OCTET)
        qzo_gguf_octet_of(out + (i - first), block, i, d, kind);
}

static void decode_block(float *out, const uint8_t *block, int first, int end, float d,
                         qzo_gguf_block kind) {
    switch (kind) {
    case QZO_GGUF_BLOCK_Q4_0: decode_octets(out, block, first, end, d, QZO_GGUF_BLOCK_Q4_0); break;
    case QZO_GGUF_BLOCK_Q8_0: decode_octets(out, block, first, end, d, QZO_GGUF_BLOCK_Q8_0); break;
    case QZO_GGUF_BLOCK_Q4_K: decode_octets(out, block, first, end, d, QZO_GGUF_BLOCK_Q4_K); break;
    case QZO_GGUF_BLOCK_Q6_K: decode_octets(out, block, first, end, d, QZO_GGUF_BLOCK_Q6_K); break;
    }
}

/* Block by block: where one lies is found once. */
static void decode_part(float *out, const qzo_qtensor *weight, int64_t row, int64_t first,
                        int64_t count, const float *values) {
    const qzo_gguf_blocks *layout = &weight->as.gguf.layout;
    const int64_t length = layout->block_inputs;
    const uint8_t *block = qzo_gguf_block_at(layout, row, first);
    for (int64_t i = first, run; i < first + count; i += run, block += layout->block_bytes) {
        int64_t in_block = i % length, left = first + count - i;
        run = length - in_block < left ? length - in_block : left;
        decode_block(out + (i - first), block, (int)in_block, (int)(in_block + run),
                     values[i / length], layout->kind);
    }
}

static void decode_row(float *out, const qzo_qtensor *weight, int64_t row, const float *values) {
    decode_part(out, weight, row, 0, weight->in_features, values);
}

static qzo_status read_values(float *out, const qzo_qtensor *weight) {
    const qzo_gguf_blocks *layout = &weight->as.gguf.layout;
    for (int64_t row = 0; row < weight->out_features; row++)
        for (int64_t group = 0; group < weight->group_count; group++) {
            const uint8_t *block = qzo_gguf_block_at(layout, row, group * layout->block_inputs);
            float d = qzo_gguf_half(block + layout->d_at);
            /* Q4_K's dmin does not train, and is read nowhere else before it is used. */
            float other = layout->kind == QZO_GGUF_BLOCK_Q4_K ? qzo_gguf_half(block + 2) : 0.0f;
            if (!isfinite(d) || !isfinite(other))
                return qzo_fail(QZO_ERR_FORMAT,
                                "tensor %s: the scale of row %lld, block %lld is not finite",
                                weight->as.gguf.view->name, (long long)row, (long long)group);
            out[row * weight->group_count + group] = d;
        }
    return QZO_OK;
}

/* All blocks, with the values as their d. */
static qzo_status write_values(qzo_tensor_changes *changes, const qzo_qtensor *weight,
                               const float *values) {
    const qzo_gguf_blocks *layout = &weight->as.gguf.layout;
    qzo_tensor_view changed = *weight->as.gguf.view;
    uint8_t *data = malloc(changed.size_bytes);
    if (data == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "tensor %s: out of memory for %zu bytes", changed.name,
                        changed.size_bytes);
    memcpy(data, changed.data, changed.size_bytes);
    for (int64_t row = 0; row < weight->out_features; row++)
        for (int64_t group = 0; group < weight->group_count; group++) {
            const uint8_t *block = qzo_gguf_block_at(layout, row, group * layout->block_inputs);
            float value = values[row * weight->group_count + group];
            uint8_t *d = data + (block - layout->blocks) + layout->d_at;
            if (qzo_tensor_float_put(d, QZO_DTYPE_F16, 0, value)) continue;
            free(data);
            return qzo_fail(QZO_ERR_LIMIT,
                            "tensor %s: the scale of row %lld, block %lld is %g, too large for F16",
                            changed.name, (long long)row, (long long)group, (double)value);
        }
    changed.data = data;
    return qzo_tensor_changes_put(changes, &changed);
}

const qzo_quant_format qzo_quant_gguf = {
    .name = "gguf",
    .layout = QZO_LAYOUT_GGUF,
    .detect = detect,
    .bind = bind,
    .decode_row = decode_row,
    .decode_part = decode_part,
    .read_values = read_values,
    .write_values = write_values,
    .value_suffix = "scales",
    .constraint = QZO_CONSTRAINT_KEEP_SIGN,
    .floor = 0x1p-24f,
};
