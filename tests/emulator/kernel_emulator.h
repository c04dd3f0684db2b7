/* What nvcc knows without being told, for a kernel that a C++ compiler turns into code of the host;
 * included before everything else (see QZO_CUDA=EMULATED in CMakeLists.txt, which also rewrites
 * launches). A thread is a fiber: it runs until it waits, at a barrier or a shuffle, or ends. The
 * order of warps and lanes turns from block to block, so that a missing barrier gives other bits.
 *
 * Ends the program with a message where a device would hang or do as it likes: threads of a block
 * or of a warp that wait at different places, or for one that has left. */
#ifndef QZO_TESTS_EMULATOR_KERNEL_EMULATOR_H
#define QZO_TESTS_EMULATOR_KERNEL_EMULATOR_H

#include "cuda_runtime_api.h"

#include <cmath>
#include <cstring>

#define __host__
#define __device__
#define __global__
#define __launch_bounds__(...)
#define __shared__ static /* blocks run one after the other */

using std::isinf;
using std::max;
using std::min;

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_count = 1, unsigned y_count = 1, unsigned z_count = 1)
        : x(x_count), y(y_count), z(z_count) {}
};

struct float2 {
    float x, y;
};
struct int4 {
    int x, y, z, w;
};
struct uint4 {
    unsigned x, y, z, w;
};

/* Of the running thread. */
extern dim3 gridDim, blockDim, blockIdx, threadIdx;

void emulator_run(dim3 grid, dim3 block, void (*body)(const void *of), const void *of);
uint64_t emulator_shuffle(uint64_t value, unsigned mask, unsigned from_lane);
unsigned emulator_lane();
bool emulator_is_device_memory(const void *memory, size_t size_bytes); /* of one allocation */

/* d (16, 8) += a (16, 16) b (16, 8) over a warp, as kernels/mma.cuh lays them out; `widen` reads
 * an operand. */
void emulator_mma(float d[4], const uint32_t a[4], const uint32_t b[2], float (*widen)(uint16_t));

void __syncthreads();
void __syncwarp(unsigned mask = 0xffffffffu);
[[noreturn]] void __trap();

/* A launch: `kernel<<<grid, block, shared, stream>>>(arguments)`. */
template <typename BODY>
static inline void emulator_launch(dim3 grid, dim3 block, int shared_bytes, cudaStream_t,
                                   const BODY &body) {
    static_assert(sizeof shared_bytes > 0, "");
    emulator_run(
        grid, block, [](const void *of) { (*static_cast<const BODY *>(of))(); }, &body);
}

template <typename T> static inline T __shfl_sync(unsigned mask, T value, int lane) {
    uint64_t bits = 0;
    static_assert(sizeof value <= sizeof bits, "what a shuffle carries");
    std::memcpy(&bits, &value, sizeof value);
    bits = emulator_shuffle(bits, mask, (unsigned)lane);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

template <typename T> static inline T __shfl_xor_sync(unsigned mask, T value, int lanes) {
    return __shfl_sync(mask, value, (int)(emulator_lane() ^ (unsigned)lanes));
}

template <typename T> static inline T atomicAdd(T *to, T value) {
    T before = *to;
    *to += value;
    return before;
}

/* A store that leaves the first cache out. */
template <typename T> static inline void __stcg(T *to, T value) { *to = value; }

/* One rounding each: the compiler is told not to contract. */
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float normcdff(float x) { return (float)(0.5 * std::erfc(-(double)x / M_SQRT2)); }

#endif
