/* Norms of rows: fp32 in, fp16 out. */
#include "kernels/device_common.cuh"

/* --- device helpers --- */

constexpr int THREADS = 256;

/* --- kernels --- */

/* One block per row; a thread adds every THREADS-th square, then a fixed tree. */
static __global__ void norm_rms_kernel(__half *out, const float *residual, const float *gain,
                                       int64_t width, float epsilon) {
    __shared__ float parts[THREADS / WARP];
    const float *x = residual + blockIdx.x * width;
    __half *row = out + blockIdx.x * width;
    float squares = 0.0f;
    for (int64_t i = threadIdx.x; i < width; i += THREADS) squares = fmaf(x[i], x[i], squares);
    float mean = block_sum<THREADS>(squares, parts) / (float)width;
    float inverse = 1.0f / sqrtf(mean + epsilon);
    for (int64_t i = threadIdx.x; i < width; i += THREADS)
        row[i] = __float2half_rn(x[i] * inverse * gain[i]);
}

/* The deviations are taken again for each use: x stays in L1, and nothing is kept between. */
static __global__ void norm_layer_kernel(__half *out, const float *residual, const float *gain,
                                         const float *bias, int64_t width, float epsilon) {
    __shared__ float sums[THREADS / WARP], parts[THREADS / WARP];
    const float *x = residual + blockIdx.x * width;
    __half *row = out + blockIdx.x * width;
    float sum = 0.0f, squares = 0.0f;
    for (int64_t i = threadIdx.x; i < width; i += THREADS) sum += x[i];
    float mean = block_sum<THREADS>(sum, sums) / (float)width;
    for (int64_t i = threadIdx.x; i < width; i += THREADS)
        squares = fmaf(x[i] - mean, x[i] - mean, squares);
    float variance = block_sum<THREADS>(squares, parts) / (float)width;
    float inverse = 1.0f / sqrtf(variance + epsilon);
    for (int64_t i = threadIdx.x; i < width; i += THREADS)
        row[i] = __float2half_rn(fmaf((x[i] - mean) * inverse, gain[i], bias[i]));
}

/* --- launchers --- */

extern "C" cudaError_t qzo_cuda_norm_rms(uint16_t *out, const float *residual, const float *gain,
                                         int64_t rows, int64_t width, float epsilon,
                                         cudaStream_t stream) {
    if (rows == 0) return cudaSuccess;
    norm_rms_kernel<<<(unsigned)rows, THREADS, 0, stream>>>(as_half(out), residual, gain, width,
                                                            epsilon);
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_norm_layer(uint16_t *out, const float *residual, const float *gain,
                                           const float *bias, int64_t rows, int64_t width,
                                           float epsilon, cudaStream_t stream) {
    if (rows == 0) return cudaSuccess;
    norm_layer_kernel<<<(unsigned)rows, THREADS, 0, stream>>>(as_half(out), residual, gain, bias,
                                                              width, epsilon);
    return cudaGetLastError();
}
