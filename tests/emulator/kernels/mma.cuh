/* Stands in for kernels/mma.cuh: the same instruction by the documented layout, sums in fp32 in
 * ascending order. Refuses a warp that is not complete, as a device may. */
#ifndef QZO_TESTS_EMULATOR_KERNELS_MMA_CUH
#define QZO_TESTS_EMULATOR_KERNELS_MMA_CUH

#include "base/half.h"
#include "kernel_emulator.h"

static inline void mma_halves(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    emulator_mma(d, a, b, qzo_fp16_to_float);
}

#endif
