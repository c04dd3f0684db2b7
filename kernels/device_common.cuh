/* What several kernels share: halves, reductions, grids, directions of perturbation.
 *
 * Reductions are fixed trees over a fixed number of threads, so that a sum does not depend on the
 * device's schedule. */
#ifndef QZO_KERNELS_DEVICE_COMMON_CUH
#define QZO_KERNELS_DEVICE_COMMON_CUH

#include "base/philox.h"
#include "kernels/kernels.h"
#include "weights/gptq_decode.h"

#include <cuda_fp16.h>
#include <stdio.h>

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

/* A condition that only a wrong index breaks. Builds with QZO_CUDA_CHECKS say where it was broken
 * and end the kernel with an error, which the next call of the runtime returns; others compile
 * nothing. */
#if defined(QZO_CUDA_CHECKS)
#define QZO_CUDA_CHECK(condition)                                                                  \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("%s:%d: block (%u, %u), thread %u: not %s\n", __FILE__, __LINE__, blockIdx.x,   \
                   blockIdx.y, threadIdx.x, #condition);                                           \
            __trap();                                                                              \
        }                                                                                          \
    } while (0)
#else
#define QZO_CUDA_CHECK(condition) ((void)sizeof(condition))
#endif

/* --- host side of launchers --- */

static inline unsigned blocks_for(int64_t count, int64_t per_block) {
    return (unsigned)((count + per_block - 1) / per_block);
}

static __host__ __device__ inline __half *as_half(uint16_t *bits) {
    return reinterpret_cast<__half *>(bits);
}

static __host__ __device__ inline const __half *as_half(const uint16_t *bits) {
    return reinterpret_cast<const __half *>(bits);
}

/* --- device side --- */

static __device__ inline int64_t global_thread() {
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

/* Round to nearest; a finite value beyond fp16 becomes the largest one of its sign, NaN and
 * infinities stay what they are. */
static __device__ inline __half guarded_half(float value) {
    constexpr float LARGEST = 65504.0f;
    if (fabsf(value) > LARGEST && !isinf(value)) value = copysignf(LARGEST, value);
    return __float2half_rn(value);
}

/* Two halves and their bits. */
static __device__ inline __half2 half2_from(uint32_t bits) {
    __half2 out;
    memcpy(static_cast<void *>(&out), &bits, sizeof out);
    return out;
}

static __device__ inline uint32_t half2_bits(__half2 pair) {
    uint32_t out;
    memcpy(&out, &pair, sizeof out);
    return out;
}

/* The zero point of one output in one group. */
template <int BITS>
static __device__ inline float gptq_zero(const qzo_cuda_gptq &weight, int64_t group,
                                         int64_t output) {
    if (weight.float_zeros != nullptr)
        return weight.float_zeros[group * weight.out_features + output];
    const uint32_t *zeros = weight.zeros + group * (weight.out_features * BITS / 32);
    return (float)qzo_gptq_zero(zeros, output, BITS, weight.zero_correction);
}

/* Eight halves, which live at an address that is a multiple of 16 and move as one access. */
struct alignas(16) half8 {
    __half2 pair[4];
};

static __device__ inline half8 load_half8(const __half *from) {
    half8 out;
    uint4 bits = *reinterpret_cast<const uint4 *>(from);
    memcpy(static_cast<void *>(&out), &bits, sizeof out);
    return out;
}

static __device__ inline void store_half8(__half *to, const half8 &value) {
    uint4 bits;
    memcpy(&bits, &value, sizeof bits);
    *reinterpret_cast<uint4 *>(to) = bits;
}

/* The same for eight ints and 32 bytes. */
struct eight_ints {
    int32_t at[8];
};

static __device__ inline eight_ints load_ints(const int32_t *from) {
    const int4 *pieces = reinterpret_cast<const int4 *>(from);
    int4 a = pieces[0], b = pieces[1];
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}

/* The same sum on all lanes: a + b and b + a are the same bits. */
static __device__ inline float warp_sum(float value) {
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

static __device__ inline double warp_sum(double value) {
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

static __device__ inline unsigned long long warp_sum(unsigned long long value) {
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

/* Drops NaN: callers find it in the sum that follows. */
static __device__ inline float warp_max(float value) {
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, distance));
    return value;
}

/* The sum over a block of THREADS threads, on all of them; every thread must call it. parts: shared
 * memory of THREADS / WARP values, free for other use only after the next __syncthreads(). */
template <int THREADS, typename T> static __device__ inline T block_sum(T value, T *parts) {
    static_assert(THREADS % WARP == 0, "whole warps");
    value = warp_sum(value);
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = value;
    __syncthreads();
    T total = parts[0];
    for (int i = 1; i < THREADS / WARP; i++) total += parts[i];
    return total;
}

template <int THREADS> static __device__ inline float block_max(float value, float *parts) {
    static_assert(THREADS % WARP == 0, "whole warps");
    value = warp_max(value);
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = value;
    __syncthreads();
    float largest = parts[0];
    for (int i = 1; i < THREADS / WARP; i++) largest = fmaxf(largest, parts[i]);
    return largest;
}

/* z of elements 4 * block .. 4 * block + 3; see base/noise_lanes.h, whose bits these are. */
static __device__ inline void draw_directions(float z[4], uint64_t seed, uint64_t block,
                                              uint32_t tensor_id, int rademacher) {
    qzo_philox_block words = qzo_philox(seed, block, tensor_id, QZO_PURPOSE_NOISE);
    if (rademacher) {
        for (int i = 0; i < 4; i++) z[i] = qzo_rademacher(words.word[i]);
        return;
    }
    qzo_normals(z, words);
}

#endif
