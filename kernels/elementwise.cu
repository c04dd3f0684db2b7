/* Biases, activations, conversions, soft caps and the sum into the residual stream. */
#include "kernels/device_common.cuh"

/* --- device helpers --- */

constexpr int THREADS = 256;

template <qzo_cuda_activation KIND> static __device__ inline float activated(float x) {
    if constexpr (KIND == QZO_CUDA_RELU) {
        return x < 0.0f ? 0.0f : x; /* a NaN stays one */
    } else if constexpr (KIND == QZO_CUDA_GELU) {
        return x * normcdff(x);
    } else {
        float y = x;
        if constexpr (KIND == QZO_CUDA_GELU_TANH) /* 2 sqrt(2 / pi) */
            y = 1.59576912f * fmaf(0.044715f * (x * x), x, x);
        return x / (1.0f + expf(-y));
    }
}

/* --- kernels --- */

template <qzo_cuda_activation KIND>
static __global__ void activate_kernel(__half *gate, const __half *up, int64_t count) {
    int64_t i = global_thread();
    if (i >= count) return;
    float value = activated<KIND>(__half2float(gate[i]));
    gate[i] = __float2half_rn(up != nullptr ? value * __half2float(up[i]) : value);
}

static __global__ void add_bias_kernel(__half *x, const float *bias, int64_t count, int64_t width) {
    int64_t i = global_thread();
    if (i < count) x[i] = __float2half_rn(__half2float(x[i]) + bias[i % width]);
}

static __global__ void add_scaled_kernel(__half *x, const __half *y, float factor, int64_t count) {
    int64_t i = global_thread();
    if (i < count) x[i] = __float2half_rn(fmaf(factor, __half2float(y[i]), __half2float(x[i])));
}

static __global__ void widen_kernel(float *out, const __half *x, int64_t count) {
    int64_t i = global_thread();
    if (i < count) out[i] = __half2float(x[i]);
}

static __global__ void narrow_kernel(__half *out, const float *x, int64_t count) {
    int64_t i = global_thread();
    if (i < count) out[i] = __float2half_rn(x[i]);
}

static __global__ void soft_cap_kernel(float *x, int64_t count, float cap) {
    int64_t i = global_thread();
    if (i < count) x[i] = cap * tanhf(x[i] / cap);
}

static __global__ void add_kernel(float *residual, const __half *x, int64_t count) {
    int64_t i = global_thread();
    if (i < count) residual[i] += __half2float(x[i]);
}

static __global__ void add_gated_kernel(float *residual, const __half *x,
                                        qzo_cuda_modulation modulation, int64_t gate_at,
                                        int64_t count, int64_t width) {
    int64_t i = global_thread();
    if (i >= count) return;
    int64_t example = i / width / modulation.rows_per_example;
    float gate =
        __half2float(as_half(modulation.values)[example * modulation.stride + gate_at + i % width]);
    residual[i] = fmaf(gate, __half2float(x[i]), residual[i]);
}

/* --- launchers --- */

extern "C" cudaError_t qzo_cuda_activate(uint16_t *gate, const uint16_t *up, int64_t count,
                                         qzo_cuda_activation activation, cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    unsigned blocks = blocks_for(count, THREADS);
    auto kernel = activation == QZO_CUDA_SILU   ? activate_kernel<QZO_CUDA_SILU>
                  : activation == QZO_CUDA_RELU ? activate_kernel<QZO_CUDA_RELU>
                  : activation == QZO_CUDA_GELU ? activate_kernel<QZO_CUDA_GELU>
                                                : activate_kernel<QZO_CUDA_GELU_TANH>;
    kernel<<<blocks, THREADS, 0, stream>>>(as_half(gate), as_half(up), count);
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_add_bias(uint16_t *x, const float *bias, int64_t rows,
                                         int64_t width, cudaStream_t stream) {
    int64_t count = rows * width;
    if (count == 0) return cudaSuccess;
    add_bias_kernel<<<blocks_for(count, THREADS), THREADS, 0, stream>>>(as_half(x), bias, count,
                                                                        width);
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_add_scaled(uint16_t *x, const uint16_t *y, float factor,
                                           int64_t count, cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    add_scaled_kernel<<<blocks_for(count, THREADS), THREADS, 0, stream>>>(as_half(x), as_half(y),
                                                                          factor, count);
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_add(float *residual, const uint16_t *x, int64_t count,
                                    cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    add_kernel<<<blocks_for(count, THREADS), THREADS, 0, stream>>>(residual, as_half(x), count);
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_widen(float *out, const uint16_t *x, int64_t count,
                                      cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    widen_kernel<<<blocks_for(count, THREADS), THREADS, 0, stream>>>(out, as_half(x), count);
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_narrow(uint16_t *out, const float *x, int64_t count,
                                       cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    narrow_kernel<<<blocks_for(count, THREADS), THREADS, 0, stream>>>(as_half(out), x, count);
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_soft_cap(float *x, int64_t count, float cap, cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    soft_cap_kernel<<<blocks_for(count, THREADS), THREADS, 0, stream>>>(x, count, cap);
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_add_gated(float *residual, const uint16_t *x,
                                          qzo_cuda_modulation modulation, int64_t gate_at,
                                          int64_t rows, int64_t width, cudaStream_t stream) {
    int64_t count = rows * width;
    if (count == 0) return cudaSuccess;
    add_gated_kernel<<<blocks_for(count, THREADS), THREADS, 0, stream>>>(
        residual, as_half(x), modulation, gate_at, count, width);
    return cudaGetLastError();
}
