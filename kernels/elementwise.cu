/* Gated activation and the sum into the residual stream. */
#include "kernels/device_common.cuh"

/* --- device helpers --- */

constexpr int THREADS = 256;

/* --- kernels --- */

static __global__ void silu_kernel(__half *gate, const __half *up, int64_t count) {
    int64_t i = global_thread();
    if (i >= count) return;
    float x = __half2float(gate[i]), value = x / (1.0f + expf(-x));
    gate[i] = __float2half_rn(up != nullptr ? value * __half2float(up[i]) : value);
}

static __global__ void add_kernel(float *residual, const __half *x, int64_t count) {
    int64_t i = global_thread();
    if (i < count) residual[i] += __half2float(x[i]);
}

/* --- launchers --- */

extern "C" cudaError_t qzo_cuda_silu(uint16_t *gate, const uint16_t *up, int64_t count,
                                     cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    unsigned blocks = blocks_for(count, THREADS);
    silu_kernel<<<blocks, THREADS, 0, stream>>>(as_half(gate), as_half(up), count);
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_add(float *residual, const uint16_t *x, int64_t count,
                                    cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    add_kernel<<<blocks_for(count, THREADS), THREADS, 0, stream>>>(residual, as_half(x), count);
    return cudaGetLastError();
}
