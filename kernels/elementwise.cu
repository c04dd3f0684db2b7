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

template <qzo_cuda_activation KIND, typename ACT>
static __global__ void activate_kernel(ACT *gate, const ACT *up, int64_t count) {
    int64_t i = global_thread();
    if (i >= count) return;
    float value = activated<KIND>(widened(gate[i]));
    store(&gate[i], up != nullptr ? value * widened(up[i]) : value);
}

template <typename ACT>
static __global__ void add_bias_kernel(ACT *x, const float *bias, int64_t count, int64_t width) {
    int64_t i = global_thread();
    if (i < count) store(&x[i], widened(x[i]) + bias[i % width]);
}

template <typename ACT>
static __global__ void add_scaled_kernel(ACT *x, const ACT *y, float factor, int64_t count) {
    int64_t i = global_thread();
    if (i < count) store(&x[i], fmaf(factor, widened(y[i]), widened(x[i])));
}

template <typename ACT>
static __global__ void widen_kernel(float *out, const ACT *x, int64_t count) {
    int64_t i = global_thread();
    if (i < count) out[i] = widened(x[i]);
}

template <typename ACT>
static __global__ void narrow_kernel(ACT *out, const float *x, int64_t count) {
    int64_t i = global_thread();
    if (i < count) store(&out[i], x[i]);
}

static __global__ void soft_cap_kernel(float *x, int64_t count, float cap) {
    int64_t i = global_thread();
    if (i < count) x[i] = cap * tanhf(x[i] / cap);
}

template <typename ACT>
static __global__ void add_kernel(float *residual, const ACT *x, int64_t count) {
    int64_t i = global_thread();
    if (i < count) residual[i] += widened(x[i]);
}

template <typename ACT>
static __global__ void add_gated_kernel(float *residual, const ACT *x,
                                        qzo_cuda_modulation modulation, int64_t gate_at,
                                        int64_t count, int64_t width) {
    int64_t i = global_thread();
    if (i >= count) return;
    int64_t example = i / width / modulation.rows_per_example;
    float gate =
        widened(like(x, modulation.values)[example * modulation.stride + gate_at + i % width]);
    residual[i] = fmaf(gate, widened(x[i]), residual[i]);
}

/* --- launchers --- */

template <typename ACT>
static void launch_activate(ACT *gate, const ACT *up, int64_t count, qzo_cuda_activation activation,
                            cudaStream_t stream) {
    unsigned blocks = blocks_for(count, THREADS);
    auto kernel = activation == QZO_CUDA_SILU   ? activate_kernel<QZO_CUDA_SILU, ACT>
                  : activation == QZO_CUDA_RELU ? activate_kernel<QZO_CUDA_RELU, ACT>
                  : activation == QZO_CUDA_GELU ? activate_kernel<QZO_CUDA_GELU, ACT>
                                                : activate_kernel<QZO_CUDA_GELU_TANH, ACT>;
    kernel<<<blocks, THREADS, 0, stream>>>(gate, up, count);
}

extern "C" cudaError_t qzo_cuda_activate(uint16_t *gate, const uint16_t *up, int64_t count,
                                         qzo_cuda_activation activation, qzo_cuda_dtype act,
                                         cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    with_activations(gate, act, [&](auto *typed) {
        launch_activate(typed, like(typed, up), count, activation, stream);
    });
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_add_bias(uint16_t *x, const float *bias, int64_t rows,
                                         int64_t width, qzo_cuda_dtype act, cudaStream_t stream) {
    int64_t count = rows * width;
    if (count == 0) return cudaSuccess;
    with_activations(x, act, [&](auto *typed) {
        add_bias_kernel<<<blocks_for(count, THREADS), THREADS, 0, stream>>>(typed, bias, count,
                                                                            width);
    });
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_add_scaled(uint16_t *x, const uint16_t *y, float factor,
                                           int64_t count, qzo_cuda_dtype act, cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    with_activations(x, act, [&](auto *typed) {
        add_scaled_kernel<<<blocks_for(count, THREADS), THREADS, 0, stream>>>(typed, like(typed, y),
                                                                              factor, count);
    });
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_add(float *residual, const uint16_t *x, int64_t count,
                                    qzo_cuda_dtype act, cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    with_activations(x, act, [&](auto *typed) {
        add_kernel<<<blocks_for(count, THREADS), THREADS, 0, stream>>>(residual, typed, count);
    });
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_widen(float *out, const uint16_t *x, int64_t count,
                                      qzo_cuda_dtype act, cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    with_activations(x, act, [&](auto *typed) {
        widen_kernel<<<blocks_for(count, THREADS), THREADS, 0, stream>>>(out, typed, count);
    });
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_narrow(uint16_t *out, const float *x, int64_t count,
                                       qzo_cuda_dtype act, cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    with_activations(out, act, [&](auto *typed) {
        narrow_kernel<<<blocks_for(count, THREADS), THREADS, 0, stream>>>(typed, x, count);
    });
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_soft_cap(float *x, int64_t count, float cap, cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    soft_cap_kernel<<<blocks_for(count, THREADS), THREADS, 0, stream>>>(x, count, cap);
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_add_gated(float *residual, const uint16_t *x,
                                          qzo_cuda_modulation modulation, int64_t gate_at,
                                          int64_t rows, int64_t width, qzo_cuda_dtype act,
                                          cudaStream_t stream) {
    int64_t count = rows * width;
    if (count == 0) return cudaSuccess;
    with_activations(x, act, [&](auto *typed) {
        add_gated_kernel<<<blocks_for(count, THREADS), THREADS, 0, stream>>>(
            residual, typed, modulation, gate_at, count, width);
    });
    return cudaGetLastError();
}
