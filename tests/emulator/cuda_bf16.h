/* Stands in for CUDA's header of that name; as cuda_fp16.h beside it. */
#ifndef QZO_TESTS_EMULATOR_CUDA_BF16_H
#define QZO_TESTS_EMULATOR_CUDA_BF16_H

#include "base/half.h"

struct __nv_bfloat16 {
    uint16_t bits;
};

static inline __nv_bfloat16 __float2bfloat16_rn(float value) { return {qzo_float_to_bf16(value)}; }
static inline float __bfloat162float(__nv_bfloat16 value) { return qzo_bf16_to_float(value.bits); }

#endif
