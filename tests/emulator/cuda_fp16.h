/* Stands in for CUDA's header of that name: a half is its bits, converted by base/half.h, which has
 * vectors of its own. See cuda_runtime_api.h beside it. */
#ifndef QZO_TESTS_EMULATOR_CUDA_FP16_H
#define QZO_TESTS_EMULATOR_CUDA_FP16_H

#include "base/half.h"

struct __half {
    uint16_t bits;
};

struct __half2 {
    __half x, y;
};

static inline __half __float2half_rn(float value) { return {qzo_float_to_fp16(value)}; }
static inline float __half2float(__half value) { return qzo_fp16_to_float(value.bits); }
static inline __half2 __halves2half2(__half low, __half high) { return {low, high}; }
static inline float __low2float(__half2 pair) { return __half2float(pair.x); }
static inline float __high2float(__half2 pair) { return __half2float(pair.y); }

static inline __half2 __hsub2(__half2 a, __half2 b) {
    return {__float2half_rn(__half2float(a.x) - __half2float(b.x)),
            __float2half_rn(__half2float(a.y) - __half2float(b.y))};
}

static inline float2 __half22float2(__half2 pair) {
    return {__half2float(pair.x), __half2float(pair.y)};
}

static inline __half2 __floats2half2_rn(float low, float high) {
    return {__float2half_rn(low), __float2half_rn(high)};
}

#endif
