/* What several kernels share: activations, reductions, grids, directions of perturbation.
 *
 * Reductions are fixed trees over a fixed number of threads, so that a sum does not depend on the
 * device's schedule. */
#ifndef QZO_KERNELS_DEVICE_COMMON_CUH
#define QZO_KERNELS_DEVICE_COMMON_CUH

#include "base/philox.h"
#include "kernels/kernels.h"
#include "weights/gptq_decode.h"

#include <cuda_bf16.h>
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

/* Activations are fp16 or bf16; launchers get their bits and say which. Calls `body` with the bits
 * as the type that they have. */
template <typename BODY>
static inline void with_activations(uint16_t *bits, qzo_cuda_dtype act, BODY body) {
    if (act == QZO_CUDA_BF16)
        body(reinterpret_cast<__nv_bfloat16 *>(bits));
    else
        body(reinterpret_cast<__half *>(bits));
}

template <typename BODY>
static inline void with_activations(const uint16_t *bits, qzo_cuda_dtype act, BODY body) {
    if (act == QZO_CUDA_BF16)
        body(reinterpret_cast<const __nv_bfloat16 *>(bits));
    else
        body(reinterpret_cast<const __half *>(bits));
}

/* Other activations of the same call. */
template <typename ACT>
static __host__ __device__ inline const ACT *like(const ACT *, const uint16_t *bits) {
    return reinterpret_cast<const ACT *>(bits);
}

template <typename ACT> static __host__ __device__ inline ACT *like(const ACT *, uint16_t *bits) {
    return reinterpret_cast<ACT *>(bits);
}

/* --- device side --- */

static __device__ inline int64_t global_thread() {
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

static __device__ inline float widened(__half value) { return __half2float(value); }
static __device__ inline float widened(__nv_bfloat16 value) { return __bfloat162float(value); }

/* Round to nearest. */
static __device__ inline void store(float *out, float value) { *out = value; }
static __device__ inline void store(__half *out, float value) { *out = __float2half_rn(value); }
static __device__ inline void store(__nv_bfloat16 *out, float value) {
    *out = __float2bfloat16_rn(value);
}

/* Eight activations, which live at an address that is a multiple of 16 and move as one access. */
template <typename ACT> struct alignas(16) eight { ACT at[8]; };

template <typename ACT> static __device__ inline eight<ACT> load_eight(const ACT *from) {
    eight<ACT> out;
    uint4 bits = *reinterpret_cast<const uint4 *>(from);
    memcpy(static_cast<void *>(&out), &bits, sizeof out);
    return out;
}

/* Activations 2 i and 2 i + 1 as an operand of mma.cuh. */
template <typename ACT> static __device__ inline uint32_t pair_bits(const eight<ACT> &of, int i) {
    uint32_t out;
    memcpy(&out, &of.at[2 * i], sizeof out);
    return out;
}

/* Round to nearest; a finite value beyond the type's range becomes the largest one of its sign, NaN
 * and infinities stay what they are. */
static __device__ inline float largest_of(const __half *) { return 65504.0f; }
static __device__ inline float largest_of(const __nv_bfloat16 *) { return 0x1.fep127f; }

template <typename ACT> static __device__ inline void store_guarded(ACT *out, float value) {
    float largest = largest_of(out);
    if (fabsf(value) > largest && !isinf(value)) value = copysignf(largest, value);
    store(out, value);
}

/* As one access to an address that is a multiple of 16. The intrinsic is one instruction whatever
 * the values come from; a plain store of a uint4 becomes four of 4 bytes behind branches, and those
 * of a warp each write to every sector of its 512 bytes. */
template <typename ACT>
static __device__ inline void store_eight_guarded(ACT *to, const float values[8]) {
    eight<ACT> stored;
    uint4 bits;
    float largest = 0.0f; /* drops NaN, which stays what it is */
#pragma unroll
    for (int i = 0; i < 8; i++) largest = fmaxf(largest, fabsf(values[i]));
    if (largest > largest_of(to)) { /* next to never, and then one by one */
#pragma unroll
        for (int i = 0; i < 8; i++) store_guarded(&stored.at[i], values[i]);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) store(&stored.at[i], values[i]);
    }
    memcpy(&bits, &stored, sizeof bits);
    __stcg(reinterpret_cast<uint4 *>(to), bits);
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

/* Eight ints, as two accesses of 16 bytes. */
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
