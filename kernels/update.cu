/* One fma per record in the order of the records, then the constraint once, then the digest of what
 * came out, where it is asked for; spans at rest are only digested. The arithmetic is base/update.h
 * and base/philox.h: the bits are those of the CPU. One launch serves all spans: a block finds its
 * own in the table. */
#include "base/update.h"
#include "kernels/device_common.cuh"

/* --- device helpers --- */

constexpr int THREADS = QZO_CUDA_SPAN_BLOCK / 4; /* a thread has a block of four normals */

static __device__ inline float constrained(float value, float before, const qzo_cuda_span &span) {
    switch (span.constraint) {
    case QZO_CUDA_POSITIVE: return qzo_constrained_positive(value, span.floor);
    case QZO_CUDA_KEEP_SIGN: return qzo_constrained_sign(value, before, span.floor);
    default: return value;
    }
}

/* The last span whose first block is not behind this one. */
static __device__ inline const qzo_cuda_span &span_of_block(const qzo_cuda_spans &spans) {
    int64_t low = 0, high = spans.count;
    while (high - low > 1) {
        int64_t middle = (low + high) / 2;
        if (spans.table[middle].first_block <= (int64_t)blockIdx.x)
            low = middle;
        else
            high = middle;
    }
    return spans.table[low];
}

/* This thread's block of four elements within the span. */
static __device__ inline int64_t four_of_thread(const qzo_cuda_span &span) {
    return ((int64_t)blockIdx.x - span.first_block) * THREADS + threadIdx.x;
}

/* --- kernels --- */

/* The four elements stay in registers over all gains and into the digest. Every thread reaches the
 * reduction, also one without an element. */
static __global__ void __launch_bounds__(THREADS)
    update_kernel(float *masters, const float *unit, float *velocity, float decay,
                  qzo_cuda_spans spans, const qzo_cuda_gain *gains, int64_t gain_count,
                  int rademacher, unsigned long long *digest) {
    __shared__ unsigned long long parts[THREADS / WARP];
    const qzo_cuda_span span = span_of_block(spans);
    int64_t four = four_of_thread(span), first = 4 * four;
    float *values = masters + span.offset;
    float value[4] = {}, before[4] = {}, scale[4] = {}, gained[4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (first + i >= span.count) continue;
        value[i] = before[i] = values[first + i];
        gained[i] = value[i];
        if (unit != nullptr) scale[i] = unit[span.offset + first + i];
        if (velocity != nullptr) gained[i] = qzo_decayed(velocity[span.offset + first + i], decay);
    }
    if (span.constraint != QZO_CUDA_AT_REST && first < span.count) {
        for (int64_t g = 0; g < gain_count; g++) {
            float z[4], k = qzo_scaled(gains[g].k, span.rate_factor);
            draw_directions(z, gains[g].seed, (uint64_t)four, span.tensor_id, rademacher);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (unit != nullptr) z[i] = qzo_scaled_direction(scale[i], z[i]);
                gained[i] = qzo_updated(gained[i], k, z[i]);
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            value[i] = velocity != nullptr ? qzo_moved(before[i], gained[i]) : gained[i];
            value[i] = constrained(value[i], before[i], span);
            if (first + i >= span.count) continue;
            values[first + i] = value[i];
            if (velocity != nullptr) velocity[span.offset + first + i] = gained[i];
        }
    }
    if (digest == nullptr) return; /* the same for all threads */
    unsigned long long mixed = 0;
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (first + i < span.count)
            mixed += qzo_digest_mix(span.tensor_id, (uint64_t)(first + i), value[i]);
    mixed = block_sum<THREADS>(mixed, parts);
    if (threadIdx.x == 0) atomicAdd(digest, mixed);
}

/* --- launchers --- */

extern "C" cudaError_t qzo_cuda_update(float *masters, const float *unit, float *velocity,
                                       float decay, qzo_cuda_spans spans,
                                       const qzo_cuda_gain *gains, int64_t gain_count,
                                       int rademacher, uint64_t *digest, cudaStream_t stream) {
    static_assert(sizeof(unsigned long long) == sizeof(uint64_t), "one atomic word");
    if (spans.block_count == 0) return cudaSuccess;
    update_kernel<<<(unsigned)spans.block_count, THREADS, 0, stream>>>(
        masters, unit, velocity, decay, spans, gains, gain_count, rademacher,
        reinterpret_cast<unsigned long long *>(digest));
    return cudaGetLastError();
}
