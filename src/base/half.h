/* fp16 and bf16 to and from fp32, bit operations alone; shared with the kernels. NaN stays NaN. */
#ifndef QZO_BASE_HALF_H
#define QZO_BASE_HALF_H

#include "base/host_device.h"

/* Exact. Subnormals are scaled by a power of two, which is exact as well. */
QZO_HOST_DEVICE static inline float qzo_fp16_to_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 31u;
    uint32_t mantissa = half & 0x3ffu;
    if (exponent == 0) {
        float magnitude = QZO_FMUL((float)mantissa, 0x1p-24f);
        return qzo_float_from_bits(qzo_float_bits(magnitude) | sign);
    }
    if (exponent == 31) return qzo_float_from_bits(sign | 0x7f800000u | (mantissa << 13));
    return qzo_float_from_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

/* Round to nearest, ties to even; overflow gives infinity. */
QZO_HOST_DEVICE static inline uint16_t qzo_float_to_fp16(float value) {
    uint32_t bits = qzo_float_bits(value);
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (bits >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
    if (bits < 0x38800000u) { /* subnormal: adding 0.5 aligns the mantissa and rounds */
        float shifted = QZO_FADD(qzo_float_from_bits(bits), 0.5f);
        return (uint16_t)(sign | (uint16_t)(qzo_float_bits(shifted) - 0x3f000000u));
    }
    bits += 0xc8000fffu + ((bits >> 13) & 1u); /* rebias the exponent and round */
    return (uint16_t)(sign | (uint16_t)(bits >> 13));
}

/* Exact. */
QZO_HOST_DEVICE static inline float qzo_bf16_to_float(uint16_t bits) {
    return qzo_float_from_bits((uint32_t)bits << 16);
}

/* Round to nearest, ties to even. */
QZO_HOST_DEVICE static inline uint16_t qzo_float_to_bf16(float value) {
    uint32_t bits = qzo_float_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#endif
