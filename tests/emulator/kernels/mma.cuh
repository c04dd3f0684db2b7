/* Stands in for kernels/mma.cuh: the same instruction by the documented layout, sums in fp32 in
 * ascending order. Refuses a warp that is not complete, as a device may. */
#ifndef QZO_TESTS_EMULATOR_KERNELS_MMA_CUH
#define QZO_TESTS_EMULATOR_KERNELS_MMA_CUH

#include "base/half.h"
#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "kernel_emulator.h"

static inline void mma(const __half *, float d[4], const uint32_t a[4], const uint32_t b[2]) {
    emulator_mma(d, a, b, qzo_fp16_to_float);
}

static inline void mma(const __nv_bfloat16 *, float d[4], const uint32_t a[4],
                       const uint32_t b[2]) {
    emulator_mma(d, a, b, qzo_bf16_to_float);
}

#endif
