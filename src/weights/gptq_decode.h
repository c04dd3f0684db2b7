/* GPTQ with 2, 3, 4 and 8 bits: unpacking of one value, host and device (Frantar et al., arXiv
 * 2210.17323; layout of AutoGPTQ and GPTQModel).
 *
 * Codes lie one after the other without a gap, from the lowest bit of a word on; with 3 bits some
 * cross into the next word. codes (in * bits / 32, out): the inputs of output o run down column o.
 * zeros (groups, out * bits / 32): the outputs run along the row.
 *
 * Files of version 1 store zero points less one. GPTQModel converts them by adding 1 to every field
 * of a word in one addition, carries included; that is the inverse of how its packer subtracts, so
 * the same is done here. With 3 bits, where fields cross words, it adds to each field by itself. */
#ifndef QZO_WEIGHTS_GPTQ_DECODE_H
#define QZO_WEIGHTS_GPTQ_DECODE_H

#include "base/host_device.h"

QZO_HOST_DEVICE static inline int qzo_gptq_crosses_words(int bits) { return 32 % bits != 0; }

/* What version 1 takes from zero points: from a whole word, or, where fields cross words, from each
 * field. */
QZO_HOST_DEVICE static inline uint32_t qzo_gptq_v1_correction(int bits) {
    return qzo_gptq_crosses_words(bits) ? 1u : 0xffffffffu / ((1u << bits) - 1u);
}

/* The eight codes 8 * octet .. 8 * octet + 7, the first in the lowest bits; what lies above
 * 8 * bits is anything. Word i of the run is words[i * stride]. */
QZO_HOST_DEVICE static inline uint64_t qzo_gptq_octet(const uint32_t *words, int64_t stride,
                                                      int64_t octet, int bits) {
    int64_t bit = 8 * bits * octet, word = bit / 32;
    int shift = (int)(bit % 32);
    uint64_t pair = words[word * stride];
    if (shift + 8 * bits > 32) pair |= (uint64_t)words[(word + 1) * stride] << 32;
    return pair >> shift;
}

/* Code `lane` of an octet. */
QZO_HOST_DEVICE static inline int qzo_gptq_lane(uint64_t octet, int lane, int bits) {
    return (int)((uint32_t)(octet >> (bits * lane)) & ((1u << bits) - 1u));
}

/* Zero point of one output in one group's row of zeros. */
QZO_HOST_DEVICE static inline int qzo_gptq_zero(const uint32_t *group_zeros, int64_t output,
                                                int bits, uint32_t zero_correction) {
    uint32_t mask = (1u << bits) - 1u;
    if (qzo_gptq_crosses_words(bits)) {
        uint64_t octet = qzo_gptq_octet(group_zeros, 1, output / 8, bits);
        return (int)(((uint32_t)(octet >> (bits * (output % 8))) + zero_correction) & mask);
    }
    int64_t bit = output * bits;
    return (int)(((group_zeros[bit / 32] + zero_correction) >> (bit % 32)) & mask);
}

/* One weight; the product of an fp16 scale and a difference of codes of at most 8 bits is exact in
 * fp32, that of a perturbed fp32 scale is rounded once. The zero points of HQQ are no integers:
 * their differences are rounded too, as in the hqq package. */
QZO_HOST_DEVICE static inline float qzo_gptq_value(int code, float zero, float scale) {
    return QZO_FMUL(scale, QZO_FADD((float)code, -zero));
}

#endif
