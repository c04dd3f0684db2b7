/* The only place that asks which compiler reads a header shared by C and CUDA.
 *
 * The float operations below are IEEE 754 single operations with one rounding each. On the device
 * they are the intrinsics that ptxas may neither fuse nor flush; on the host they rely on
 * -ffp-contract=off and on round-to-nearest. Code that must give the same bits everywhere uses
 * these and nothing else. */
#ifndef QZO_BASE_HOST_DEVICE_H
#define QZO_BASE_HOST_DEVICE_H

#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#define QZO_HOST_DEVICE __host__ __device__
#else
#define QZO_HOST_DEVICE
#endif

#if defined(__CUDA_ARCH__)
#define QZO_FMUL(a, b)   __fmul_rn((a), (b))
#define QZO_FADD(a, b)   __fadd_rn((a), (b))
#define QZO_FMA(a, b, c) __fmaf_rn((a), (b), (c))
#define QZO_FSQRT(a)     __fsqrt_rn((a))
#else
#define QZO_FMUL(a, b)   ((float)((a) * (b)))
#define QZO_FADD(a, b)   ((float)((a) + (b)))
#define QZO_FMA(a, b, c) __builtin_fmaf((a), (b), (c))
#define QZO_FSQRT(a)     __builtin_sqrtf((a))
#endif

QZO_HOST_DEVICE static inline uint32_t qzo_float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

QZO_HOST_DEVICE static inline float qzo_float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
