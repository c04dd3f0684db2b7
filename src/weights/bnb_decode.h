/* bitsandbytes 4-bit (NF4, FP4): unpacking of one value, host and device (Dettmers et al., arXiv
 * 2305.14314; layout of bitsandbytes 0.4x and later).
 *
 * codes (out, in / 2): two inputs in a byte, the first in the high bits. A code stands for one of
 * 16 numbers, which the file holds beside the codes; a block of inputs shares one absmax. */
#ifndef QZO_WEIGHTS_BNB_DECODE_H
#define QZO_WEIGHTS_BNB_DECODE_H

#include "base/host_device.h"

enum { QZO_BNB_LEVELS = 16 };

QZO_HOST_DEVICE static inline int qzo_bnb_code(const uint8_t *codes, int64_t index) {
    return index % 2 == 0 ? codes[index / 2] >> 4 : codes[index / 2] & 15;
}

/* One weight, rounded once. */
QZO_HOST_DEVICE static inline float qzo_bnb_value(float level, float absmax) {
    return QZO_FMUL(level, absmax);
}

/* An absmax that is quantized itself: two roundings, as bitsandbytes has them. */
QZO_HOST_DEVICE static inline float qzo_bnb_absmax(float level, float nested_absmax, float offset) {
    return QZO_FADD(QZO_FMUL(level, nested_absmax), offset);
}

#endif
