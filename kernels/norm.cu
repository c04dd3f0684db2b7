/* Norms of rows: fp32 in, activations out. */
#include "kernels/device_common.cuh"

/* --- device helpers --- */

constexpr int THREADS = 256;

struct row_stats {
    float mean, inverse; /* 1 / sqrt(variance + epsilon) */
};

/* Of a block's row. The deviations are taken again for each use: x stays in L1, and nothing is kept
 * between. */
static __device__ inline row_stats stats_of(const float *x, int64_t width, float epsilon,
                                            float sums[THREADS / WARP],
                                            float parts[THREADS / WARP]) {
    float sum = 0.0f, squares = 0.0f;
    for (int64_t i = threadIdx.x; i < width; i += THREADS) sum += x[i];
    float mean = block_sum<THREADS>(sum, sums) / (float)width;
    for (int64_t i = threadIdx.x; i < width; i += THREADS)
        squares = fmaf(x[i] - mean, x[i] - mean, squares);
    float variance = block_sum<THREADS>(squares, parts) / (float)width;
    return {mean, 1.0f / sqrtf(variance + epsilon)};
}

/* --- kernels --- */

/* One block per row; a thread adds every THREADS-th square, then a fixed tree. */
template <typename ACT>
static __global__ void norm_rms_kernel(ACT *out, const float *residual, const float *gain,
                                       int64_t width, float epsilon) {
    __shared__ float parts[THREADS / WARP];
    const float *x = residual + blockIdx.x * width;
    ACT *row = out + blockIdx.x * width;
    float squares = 0.0f;
    for (int64_t i = threadIdx.x; i < width; i += THREADS) squares = fmaf(x[i], x[i], squares);
    float mean = block_sum<THREADS>(squares, parts) / (float)width;
    float inverse = 1.0f / sqrtf(mean + epsilon);
    for (int64_t i = threadIdx.x; i < width; i += THREADS) store(&row[i], x[i] * inverse * gain[i]);
}

template <typename ACT>
static __global__ void norm_layer_kernel(ACT *out, const float *residual, const float *gain,
                                         const float *bias, int64_t width, float epsilon) {
    __shared__ float sums[THREADS / WARP], parts[THREADS / WARP];
    const float *x = residual + blockIdx.x * width;
    ACT *row = out + blockIdx.x * width;
    row_stats stats = stats_of(x, width, epsilon, sums, parts);
    for (int64_t i = threadIdx.x; i < width; i += THREADS)
        store(&row[i], fmaf((x[i] - stats.mean) * stats.inverse, gain[i], bias[i]));
}

/* A layer norm whose gain and bias are those of the row's example. */
template <typename ACT>
static __global__ void modulate_kernel(ACT *out, const float *residual,
                                       qzo_cuda_modulation modulation, int64_t shift_at,
                                       int64_t scale_at, int64_t width, float epsilon) {
    __shared__ float sums[THREADS / WARP], parts[THREADS / WARP];
    const float *x = residual + blockIdx.x * width;
    ACT *row = out + blockIdx.x * width;
    int64_t example = blockIdx.x / modulation.rows_per_example;
    const ACT *values = like(out, modulation.values) + example * modulation.stride;
    row_stats stats = stats_of(x, width, epsilon, sums, parts);
    for (int64_t i = threadIdx.x; i < width; i += THREADS) {
        float gain = 1.0f + widened(values[scale_at + i]);
        float shift = widened(values[shift_at + i]);
        store(&row[i], fmaf((x[i] - stats.mean) * stats.inverse, gain, shift));
    }
}

/* --- launchers --- */

extern "C" cudaError_t qzo_cuda_norm_rms(uint16_t *out, const float *residual, const float *gain,
                                         int64_t rows, int64_t width, float epsilon,
                                         qzo_cuda_dtype act, cudaStream_t stream) {
    if (rows == 0) return cudaSuccess;
    with_activations(out, act, [&](auto *typed) {
        norm_rms_kernel<<<(unsigned)rows, THREADS, 0, stream>>>(typed, residual, gain, width,
                                                                epsilon);
    });
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_norm_layer(uint16_t *out, const float *residual, const float *gain,
                                           const float *bias, int64_t rows, int64_t width,
                                           float epsilon, qzo_cuda_dtype act, cudaStream_t stream) {
    if (rows == 0) return cudaSuccess;
    with_activations(out, act, [&](auto *typed) {
        norm_layer_kernel<<<(unsigned)rows, THREADS, 0, stream>>>(typed, residual, gain, bias,
                                                                  width, epsilon);
    });
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_modulate(uint16_t *out, const float *residual,
                                         qzo_cuda_modulation modulation, int64_t shift_at,
                                         int64_t scale_at, int64_t rows, int64_t width,
                                         float epsilon, qzo_cuda_dtype act, cudaStream_t stream) {
    if (rows == 0) return cudaSuccess;
    with_activations(out, act, [&](auto *typed) {
        modulate_kernel<<<(unsigned)rows, THREADS, 0, stream>>>(typed, residual, modulation,
                                                                shift_at, scale_at, width, epsilon);
    });
    return cudaGetLastError();
}
