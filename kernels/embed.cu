/* Rows out of a table: embeddings in their stored type, rows of the residual stream, and columns of
 * what a fused layer computed. */
#include "base/half.h"
#include "base/update.h"
#include "kernels/device_common.cuh"

/* --- device helpers --- */

constexpr int THREADS = 256;

static __device__ inline float dense_value(const void *data, int64_t index, qzo_cuda_dtype dtype) {
    if (dtype == QZO_CUDA_F32) return static_cast<const float *>(data)[index];
    uint16_t bits = static_cast<const uint16_t *>(data)[index];
    return dtype == QZO_CUDA_F16 ? qzo_fp16_to_float(bits) : qzo_bf16_to_float(bits);
}

/* --- kernels --- */

/* One block per row. Product and sum are rounded apart, as on the CPU. */
static __global__ void embed_kernel(float *residual, const void *table, const int32_t *ids,
                                    int64_t width, qzo_cuda_dtype dtype, float scale, int add) {
    int64_t row = blockIdx.x, from = (int64_t)ids[row] * width;
    QZO_CUDA_CHECK(ids[row] >= 0);
    for (int64_t i = threadIdx.x; i < width; i += THREADS) {
        float *out = residual + row * width + i;
        float value = __fmul_rn(scale, dense_value(table, from + i, dtype));
        *out = add ? __fadd_rn(*out, value) : value;
    }
}

static __global__ void select_kernel(uint16_t *out, const uint16_t *x, const int32_t *rows,
                                     int64_t x_width, int64_t first, int64_t width) {
    int64_t row = blockIdx.x, from = (rows != nullptr ? rows[row] : row) * x_width + first;
    for (int64_t i = threadIdx.x; i < width; i += THREADS) out[row * width + i] = x[from + i];
}

static __global__ void scatter_kernel(uint16_t *out, const uint16_t *x, const int32_t *rows,
                                      int64_t width) {
    int64_t row = blockIdx.x, to = (int64_t)rows[row] * width;
    QZO_CUDA_CHECK(rows[row] >= 0);
    for (int64_t i = threadIdx.x; i < width; i += THREADS) out[to + i] = x[row * width + i];
}

/* One block per row. A thread draws the four normals of a block of elements; rows need not begin at
 * one. */
static __global__ void embed_values_kernel(float *residual, const float *masters, const float *unit,
                                           const int32_t *ids, int64_t width, qzo_cuda_noise noise,
                                           float scale, int add) {
    int64_t row = blockIdx.x, from = (int64_t)ids[row] * width, end = from + width;
    for (int64_t block = from / 4 + threadIdx.x; 4 * block < end; block += THREADS) {
        float z[4] = {};
        if (noise.c != 0.0f)
            draw_directions(z, noise.seed, (uint64_t)block, noise.tensor_id, noise.rademacher);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int64_t element = 4 * block + i;
            if (element < from || element >= end) continue;
            if (unit != nullptr) z[i] = qzo_scaled_direction(unit[element], z[i]);
            float *out = residual + row * width + element - from;
            float value = __fmul_rn(scale, qzo_perturbed(masters[element], noise.c, z[i]));
            *out = add ? __fadd_rn(*out, value) : value;
        }
    }
}

static __global__ void gather_kernel(float *out, const float *residual, const int32_t *rows,
                                     int64_t width) {
    int64_t row = blockIdx.x, from = (int64_t)rows[row] * width;
    QZO_CUDA_CHECK(rows[row] >= 0);
    for (int64_t i = threadIdx.x; i < width; i += THREADS)
        out[row * width + i] = residual[from + i];
}

/* --- launchers --- */

extern "C" cudaError_t qzo_cuda_embed(float *residual, const void *table, const int32_t *ids,
                                      int64_t rows, int64_t width, qzo_cuda_dtype dtype,
                                      float scale, int add, cudaStream_t stream) {
    if (rows == 0) return cudaSuccess;
    embed_kernel<<<(unsigned)rows, THREADS, 0, stream>>>(residual, table, ids, width, dtype, scale,
                                                         add);
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_select(uint16_t *out, const uint16_t *x, const int32_t *rows,
                                       int64_t row_count, int64_t x_width, int64_t first,
                                       int64_t width, cudaStream_t stream) {
    if (row_count == 0) return cudaSuccess;
    select_kernel<<<(unsigned)row_count, THREADS, 0, stream>>>(out, x, rows, x_width, first, width);
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_scatter(uint16_t *out, const uint16_t *x, const int32_t *rows,
                                        int64_t row_count, int64_t width, cudaStream_t stream) {
    if (row_count == 0) return cudaSuccess;
    scatter_kernel<<<(unsigned)row_count, THREADS, 0, stream>>>(out, x, rows, width);
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_embed_values(float *residual, const float *masters,
                                             const float *unit, const int32_t *ids, int64_t rows,
                                             int64_t width, qzo_cuda_noise noise, float scale,
                                             int add, cudaStream_t stream) {
    if (rows == 0) return cudaSuccess;
    embed_values_kernel<<<(unsigned)rows, THREADS, 0, stream>>>(residual, masters, unit, ids, width,
                                                                noise, scale, add);
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_gather(float *out, const float *residual, const int32_t *rows,
                                       int64_t row_count, int64_t width, cudaStream_t stream) {
    if (row_count == 0) return cudaSuccess;
    gather_kernel<<<(unsigned)row_count, THREADS, 0, stream>>>(out, residual, rows, width);
    return cudaGetLastError();
}
