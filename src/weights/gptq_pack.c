#include "weights/gptq_pack.h"

#include "weights/gptq_decode.h"
#include "weights/quant_parts.h"

#include <stdlib.h>
#include <string.h>

enum { WORD_BITS = 32, ALIGNMENT_BYTES = 64 };

int64_t qzo_gptq_packed_codes(int64_t bits) {
    switch (bits) {
    case 2: return 16;
    case 3: return 32;
    case 4:
    case 8: return 8;
    default: return 0;
    }
}

qzo_status qzo_gptq_check_sizes(const qzo_qtensor *tensor, const qzo_model_dir *dir,
                                const char *label, int64_t bits) {
    const int64_t packed_codes = qzo_gptq_packed_codes(bits);
    const char *folder = qzo_model_dir_path(dir);
    if (packed_codes == 0)
        return qzo_fail(QZO_ERR_UNSUPPORTED,
                        "%s: module %s: %s with %lld bits, only 2, 3, 4 and 8 are read", folder,
                        tensor->name, label, (long long)bits);
    if (tensor->in_features % packed_codes != 0 || tensor->out_features % packed_codes != 0)
        return qzo_fail(QZO_ERR_UNSUPPORTED,
                        "%s: module %s: %s with %lld bits packs by %lld, the weight is (%lld, "
                        "%lld)",
                        folder, tensor->name, label, (long long)bits, (long long)packed_codes,
                        (long long)tensor->out_features, (long long)tensor->in_features);
    return QZO_OK;
}

static int64_t padded(int64_t size_bytes) {
    return (size_bytes + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
}

/* --- the block that a tensor owns: codes, zeros, groups --- */

static int64_t codes_bytes(const qzo_qtensor *tensor) {
    return padded(tensor->in_features * tensor->as.gptq.bits / WORD_BITS * tensor->out_features *
                  (int64_t)sizeof(uint32_t));
}

static int64_t zeros_bytes(const qzo_qtensor *tensor) {
    const int64_t zeros = tensor->group_count * tensor->out_features;
    if (tensor->as.gptq.has_float_zeros) return padded(zeros * (int64_t)sizeof(float));
    return padded(zeros * tensor->as.gptq.bits / WORD_BITS * (int64_t)sizeof(uint32_t));
}

int64_t qzo_qtensor_repacked_bytes(const qzo_qtensor *tensor) {
    if (tensor->format->repack == NULL) return 0;
    return codes_bytes(tensor) + zeros_bytes(tensor) +
           padded(tensor->in_features * (int64_t)sizeof(int32_t));
}

static void fill_groups(int32_t *out, const qzo_qtensor *tensor) {
    const qzo_gptq_tensor *gptq = &tensor->as.gptq;
    for (int64_t i = 0; i < tensor->in_features; i++)
        out[i] = gptq->stored.groups.data != NULL ? qzo_quant_int_at(&gptq->stored.groups, i)
                                                  : (int32_t)(i / gptq->group_size);
}

qzo_status qzo_gptq_make_room(qzo_gptq_room *out, qzo_qtensor *tensor) {
    qzo_gptq_tensor *gptq = &tensor->as.gptq;
    const size_t size_bytes = (size_t)qzo_qtensor_repacked_bytes(tensor);
    uint8_t *memory = aligned_alloc(ALIGNMENT_BYTES, size_bytes);
    if (memory == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for %zu bytes", tensor->name,
                        size_bytes);
    memset(memory, 0, size_bytes);
    *out = (qzo_gptq_room){.codes = (void *)memory};
    uint8_t *zeros = memory + codes_bytes(tensor);
    int32_t *groups = (void *)(zeros + zeros_bytes(tensor));
    if (gptq->has_float_zeros)
        gptq->float_zeros = out->float_zeros = (void *)zeros;
    else
        gptq->zeros = out->zeros = (void *)zeros;
    fill_groups(groups, tensor);
    gptq->codes = out->codes;
    gptq->group_of_input = groups;
    tensor->owned = memory;
    return QZO_OK;
}

/* --- filling it --- */

void qzo_gptq_put(uint32_t *words, int64_t stride, int64_t index, int bits, uint32_t code) {
    const int64_t bit = index * bits, word = bit / WORD_BITS;
    const int shift = (int)(bit % WORD_BITS);
    words[word * stride] |= code << shift;
    if (shift + bits > WORD_BITS) words[(word + 1) * stride] |= code >> (WORD_BITS - shift);
}

/* In squares, so that both sides stay in the cache. */
void qzo_gptq_transpose_words(uint32_t *out, const uint8_t *in, int64_t rows, int64_t columns,
                              uint32_t flipped) {
    enum { SIDE = 64 };
    for (int64_t row0 = 0; row0 < rows; row0 += SIDE)
        for (int64_t column0 = 0; column0 < columns; column0 += SIDE)
            for (int64_t column = column0; column < column0 + SIDE && column < columns; column++)
                for (int64_t row = row0; row < row0 + SIDE && row < rows; row++) {
                    uint32_t word;
                    memcpy(&word, in + (size_t)(row * columns + column) * sizeof word, sizeof word);
                    out[column * rows + row] = word ^ flipped;
                }
}

/* --- reading it --- */

void qzo_gptq_decode_row(float *out, const qzo_qtensor *weight, int64_t row, const float *values) {
    const qzo_gptq_tensor *gptq = &weight->as.gptq;
    for (int64_t i = 0; i < weight->in_features; i++) {
        const int64_t group = gptq->group_of_input[i];
        const uint64_t octet =
            qzo_gptq_octet(gptq->codes + row, weight->out_features, i / 8, gptq->bits);
        out[i] = qzo_gptq_value(qzo_gptq_lane(octet, (int)(i % 8), gptq->bits),
                                qzo_qtensor_zero(weight, group, row), values[group]);
    }
}
