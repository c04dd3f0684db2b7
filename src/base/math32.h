/* exp in fp32 from rounded IEEE operations alone: the same bits in every instruction set and with
 * every C library. Polynomial: tools/fit_polynomials.py. */
#ifndef QZO_BASE_MATH32_H
#define QZO_BASE_MATH32_H

#include "base/host_device.h"

/* e^x; relative error below 1.6 * 2^-24. Below -87 the result is 0 (never a subnormal), above 88 it
 * is that of 88: callers subtract a maximum first. NaN gives NaN. */
static inline float qzo_expf(float x) {
    float clamped = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    /* n = round(x / ln 2): adding 1.5 * 2^23 leaves the rounded integer in the low bits. */
    float shifted = QZO_FMA(clamped, 0x1.715476p+0f, 0x1.8p23f);
    float n = QZO_FADD(shifted, -0x1.8p23f);
    float r = QZO_FMA(n, -0x1.62e400p-1f, clamped); /* ln 2 in two parts, the first exact times n */
    r = QZO_FMA(n, -0x1.7f7d1cp-20f, r);
    float p = 0x1.6d1ccep-10f;
    p = QZO_FMA(p, r, 0x1.120ba4p-7f);
    p = QZO_FMA(p, r, 0x1.555510p-5f);
    p = QZO_FMA(p, r, 0x1.5554dcp-3f);
    p = QZO_FMA(p, r, 0.5f);
    p = QZO_FADD(QZO_FMA(QZO_FMUL(p, r), r, r), 1.0f);
    uint32_t exponent = (uint32_t)(qzo_float_bits(shifted) - 0x4b400000u) << 23;
    float result = qzo_float_from_bits(qzo_float_bits(p) + exponent);
    result = x < -87.0f ? 0.0f : result;
    return x != x ? x : result; /* adding to a NaN's exponent could make a number of it */
}

#endif
