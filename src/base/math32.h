/* exp, tanh and the normal distribution in fp32 from rounded IEEE operations alone: the same bits
 * in every instruction set and with every C library. Polynomial: tools/fit_polynomials.py. */
#ifndef QZO_BASE_MATH32_H
#define QZO_BASE_MATH32_H

#include "base/host_device.h"

/* Splits e^x, |x| <= 88, into 2^n (1 + result): n is returned in the low bits of *shifted. */
static inline float qzo_exp_fraction(float x, float *shifted) {
    /* n = round(x / ln 2): adding 1.5 * 2^23 leaves the rounded integer in the low bits. */
    *shifted = QZO_FMA(x, 0x1.715476p+0f, 0x1.8p23f);
    float n = QZO_FADD(*shifted, -0x1.8p23f);
    float r = QZO_FMA(n, -0x1.62e400p-1f, x); /* ln 2 in two parts, the first exact times n */
    r = QZO_FMA(n, -0x1.7f7d1cp-20f, r);
    float p = 0x1.6d1ccep-10f;
    p = QZO_FMA(p, r, 0x1.120ba4p-7f);
    p = QZO_FMA(p, r, 0x1.555510p-5f);
    p = QZO_FMA(p, r, 0x1.5554dcp-3f);
    p = QZO_FMA(p, r, 0.5f);
    return QZO_FMA(QZO_FMUL(p, r), r, r);
}

/* value * 2^n, n from the low bits of `shifted`; value and result are normal numbers. */
static inline float qzo_exp_scaled(float value, float shifted) {
    uint32_t exponent = (uint32_t)(qzo_float_bits(shifted) - 0x4b400000u) << 23;
    return qzo_float_from_bits(qzo_float_bits(value) + exponent);
}

/* e^x; relative error below 1.6 * 2^-24. Below -87 the result is 0 (never a subnormal), above 88 it
 * is that of 88: callers subtract a maximum first. NaN gives NaN. */
static inline float qzo_expf(float x) {
    float clamped = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x, shifted;
    float fraction = qzo_exp_fraction(clamped, &shifted);
    float result = qzo_exp_scaled(QZO_FADD(fraction, 1.0f), shifted);
    result = x < -87.0f ? 0.0f : result;
    return x != x ? x : result; /* adding to a NaN's exponent could make a number of it */
}

/* tanh x = t / (t + 2) with t = e^2x - 1 = 2^n fraction + (2^n - 1), which loses nothing next to 0;
 * relative error below TANH_RELATIVE of tests/test_math.c. NaN gives NaN. */
static inline float qzo_tanhf(float x) {
    float size = x < 0.0f ? -x : x, shifted;
    size = size > 10.0f ? 10.0f : size; /* 1 to the last bit from 9.02 on */
    float fraction = qzo_exp_fraction(QZO_FADD(size, size), &shifted);
    float power = qzo_exp_scaled(1.0f, shifted);
    float t = QZO_FMA(power, fraction, QZO_FADD(power, -1.0f));
    float result = t / QZO_FADD(t, 2.0f);
    result = x < 0.0f ? -result : result;
    return x != x ? x : result;
}

/* P(N > x) of a standard normal N for x >= 0: e^(-x^2 / 2) T(q) / (1 + x), q = (x - 3) / (x + 3).
 * Relative error below that of tests/test_math.c, mostly of x^2 in the exponent; 0 from 13.19 on.
 * NaN gives NaN. */
static inline float qzo_normal_tailf(float x) {
    float near = x > 16.0f ? 16.0f : x; /* infinity over infinity would be a NaN */
    float q = QZO_FADD(near, -3.0f) / QZO_FADD(near, 3.0f);
    float p = 0x1.6ba76p-15f;
    p = QZO_FMA(p, q, 0x1.6f91e6p-18f);
    p = QZO_FMA(p, q, -0x1.edcbe6p-12f);
    p = QZO_FMA(p, q, -0x1.5fb672p-12f);
    p = QZO_FMA(p, q, 0x1.8856p-9f);
    p = QZO_FMA(p, q, 0x1.2e7facp-10f);
    p = QZO_FMA(p, q, -0x1.745cf8p-6f);
    p = QZO_FMA(p, q, 0x1.71fd5p-5f);
    p = QZO_FMA(p, q, -0x1.0d3a2p-6f);
    p = QZO_FMA(p, q, -0x1.8b5facp-4f);
    p = QZO_FMA(p, q, 0x1.f1b89cp-2f);
    return QZO_FMUL(qzo_expf(QZO_FMUL(QZO_FMUL(-0.5f, x), x)), p) / QZO_FADD(near, 1.0f);
}

#endif
