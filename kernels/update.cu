/* One fma per record in the order of the records, then the constraint once; and the digest of the
 * masters. The arithmetic is base/update.h and base/philox.h: the bits are those of the CPU. */
#include "base/update.h"
#include "kernels/device_common.cuh"

/* --- device helpers --- */

constexpr int THREADS = 256;

static __device__ inline float constrained(float value, float before, const qzo_cuda_span &span) {
    switch (span.constraint) {
    case QZO_CUDA_POSITIVE: return qzo_constrained_positive(value, span.floor);
    case QZO_CUDA_KEEP_SIGN: return qzo_constrained_sign(value, before, span.floor);
    default: return value;
    }
}

/* --- kernels --- */

/* One thread per block of four elements, which stay in registers over all gains. */
static __global__ void update_kernel(float *values, const float *unit, qzo_cuda_span span,
                                     const qzo_cuda_gain *gains, int64_t gain_count,
                                     int rademacher) {
    int64_t block = global_thread(), first = 4 * block;
    if (first >= span.count) return;
    float value[4] = {}, before[4] = {}, scale[4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (first + i >= span.count) continue;
        value[i] = before[i] = values[first + i];
        if (unit != nullptr) scale[i] = unit[first + i];
    }
    for (int64_t g = 0; g < gain_count; g++) {
        float z[4], k = qzo_scaled(gains[g].k, span.rate_factor);
        draw_directions(z, gains[g].seed, (uint64_t)block, span.tensor_id, rademacher);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (unit != nullptr) z[i] = qzo_scaled_direction(scale[i], z[i]);
            value[i] = qzo_updated(value[i], k, z[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (first + i < span.count) values[first + i] = constrained(value[i], before[i], span);
}

/* Every thread reaches the reduction, also one without an element. */
static __global__ void digest_kernel(unsigned long long *sum, const float *values,
                                     qzo_cuda_span span) {
    int64_t i = global_thread();
    unsigned long long mixed = 0;
    if (i < span.count) mixed = qzo_digest_mix(span.tensor_id, (uint64_t)i, values[i]);
    mixed = warp_sum(mixed);
    if (threadIdx.x % WARP == 0) atomicAdd(sum, mixed);
}

/* --- launchers --- */

extern "C" cudaError_t qzo_cuda_update(float *values, const float *unit, qzo_cuda_span span,
                                       const qzo_cuda_gain *gains, int64_t gain_count,
                                       int rademacher, cudaStream_t stream) {
    if (span.count == 0) return cudaSuccess;
    unsigned blocks = blocks_for(span.count, 4 * THREADS);
    update_kernel<<<blocks, THREADS, 0, stream>>>(values, unit, span, gains, gain_count,
                                                  rademacher);
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_digest(uint64_t *sum, const float *values, qzo_cuda_span span,
                                       cudaStream_t stream) {
    static_assert(sizeof(unsigned long long) == sizeof(uint64_t), "one atomic word");
    if (span.count == 0) return cudaSuccess;
    digest_kernel<<<blocks_for(span.count, THREADS), THREADS, 0, stream>>>(
        reinterpret_cast<unsigned long long *>(sum), values, span);
    return cudaGetLastError();
}
