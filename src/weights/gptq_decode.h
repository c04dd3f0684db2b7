/* GPTQ int4: unpacking of one value, host and device (Frantar et al., arXiv 2210.17323; layout of
 * AutoGPTQ and GPTQModel).
 *
 * codes (in / 8, out): input i of output o is nibble i % 8 of word [i / 8][o].
 * zeros (groups, out / 8): output o of group g is nibble o % 8 of word [g][o / 8], after the v1
 * correction. GPTQModel converts v1 files by adding 0x11111111 to the whole word, carries included;
 * that is the inverse of how its packer subtracts, so the same is done here. */
#ifndef QZO_WEIGHTS_GPTQ_DECODE_H
#define QZO_WEIGHTS_GPTQ_DECODE_H

#include "base/host_device.h"

#define QZO_GPTQ_V1_ZERO_CORRECTION 0x11111111u

QZO_HOST_DEVICE static inline int qzo_gptq_nibble(uint32_t word, int lane) {
    return (int)((word >> (4 * lane)) & 15u);
}

/* Zero point of one output in one group's row of zeros. */
QZO_HOST_DEVICE static inline int qzo_gptq_zero(const uint32_t *group_zeros, int64_t output,
                                                uint32_t zero_correction) {
    return qzo_gptq_nibble(group_zeros[output / 8] + zero_correction, (int)(output % 8));
}

/* One weight; the product of an fp16 scale and a difference of 4-bit codes is exact in fp32, that
 * of a perturbed fp32 scale is rounded once. */
QZO_HOST_DEVICE static inline float qzo_gptq_value(int code, int zero, float scale) {
    return QZO_FMUL(scale, (float)(code - zero));
}

#endif
