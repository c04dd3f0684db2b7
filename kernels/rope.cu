/* Rotary positions in place. */
#include "kernels/device_common.cuh"

/* --- device helpers --- */

constexpr int THREADS = 256;

/* --- kernels --- */

/* One thread per pair of elements. */
template <typename ACT>
static __global__ void rope_kernel(ACT *x, const int32_t *positions, const float *table,
                                   int64_t pair_count, int64_t head_count, int64_t head_dim) {
    int64_t pair = global_thread(), half = head_dim / 2;
    if (pair >= pair_count) return;
    int64_t i = pair % half, head = pair / half % head_count, row = pair / half / head_count;
    QZO_CUDA_CHECK(positions[row] >= 0);
    const float *angle = table + positions[row] * head_dim + 2 * i;
    ACT *low = x + (row * head_count + head) * head_dim + i, *high = low + half;
    float cosine = angle[0], sine = angle[1];
    float a = widened(*low), b = widened(*high);
    store(low, fmaf(a, cosine, -(b * sine)));
    store(high, fmaf(b, cosine, a * sine));
}

/* --- launchers --- */

extern "C" cudaError_t qzo_cuda_rope(uint16_t *x, const int32_t *positions, const float *table,
                                     int64_t rows, int64_t head_count, int64_t head_dim,
                                     qzo_cuda_dtype act, cudaStream_t stream) {
    int64_t pair_count = rows * head_count * (head_dim / 2);
    if (pair_count == 0) return cudaSuccess;
    unsigned blocks = blocks_for(pair_count, THREADS);
    with_activations(x, act, [&](auto *typed) {
        rope_kernel<<<blocks, THREADS, 0, stream>>>(typed, positions, table, pair_count, head_count,
                                                    head_dim);
    });
    return cudaGetLastError();
}
