/* RMS norm of rows: fp32 in, fp16 out. */
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

/* --- launchers --- */

extern "C" cudaError_t qzo_cuda_norm_rms(uint16_t *out, const float *residual, const float *gain,
                                         int64_t rows, int64_t width, float epsilon,
                                         cudaStream_t stream) {
    if (rows == 0) return cudaSuccess;
    norm_rms_kernel<<<(unsigned)rows, THREADS, 0, stream>>>(as_half(out), residual, gain, width,
                                                            epsilon);
    return cudaGetLastError();
}
