/* The product of a few rows with a GPTQ weight, decoding on the way: the codes are read once and no
 * weight is written. A group's sum of code differences times activations stays in fp32 registers
 * and meets its scale once, so weights are never rounded to fp16 here. */
#include "kernels/device_common.cuh"

/* --- device helpers --- */

constexpr int SLICES = 8; /* warps of a block; each takes a run of octets of the same 32 outputs */
constexpr int THREADS = SLICES * WARP;

/* sums (ROWS) of one output over octets begin .. end - 1. Rows past `rows` are zeros. */
template <int BITS, int ROWS, typename ACT>
static __device__ inline void slice_sums(float sums[ROWS], const ACT *x,
                                         const qzo_cuda_gptq &weight, const float *values, int rows,
                                         int64_t begin, int64_t end, int64_t output) {
    float partial[ROWS] = {}, value = 0.0f, zero = 0.0f;
    int32_t group = -1;
    for (int64_t octet = begin; octet < end; octet++) {
        uint64_t codes = qzo_gptq_octet(weight.codes + output, weight.out_features, octet, BITS);
        eight_ints groups = load_ints(weight.group_of_input + 8 * octet);
        eight<ACT> inputs[ROWS] = {};
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (r < rows) inputs[r] = load_eight(x + r * weight.in_features + 8 * octet);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if (groups.at[i] != group) { /* the same on all lanes */
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    sums[r] = fmaf(partial[r], value, sums[r]);
                    partial[r] = 0.0f;
                }
                group = groups.at[i];
                value = values[output * weight.group_count + group];
                zero = gptq_zero<BITS>(weight, group, output);
            }
            float difference = (float)qzo_gptq_lane(codes, i, BITS) - zero;
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                partial[r] = fmaf(difference, widened(inputs[r].at[i]), partial[r]);
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) sums[r] = fmaf(partial[r], value, sums[r]);
}

/* --- kernels --- */

/* A block has 32 outputs, one per lane; slices are added in ascending order. No row's sum depends
 * on ROWS or on the other rows. */
template <int BITS, int ROWS, typename OUT, typename ACT>
static __global__ void __launch_bounds__(THREADS)
    linear_few_kernel(OUT *out, const ACT *x, qzo_cuda_gptq weight, const float *values, int rows) {
    __shared__ float parts[SLICES][ROWS][WARP];
    int lane = threadIdx.x % WARP, slice = threadIdx.x / WARP;
    int64_t output = (int64_t)blockIdx.x * WARP + lane;
    int64_t octet_count = weight.in_features / 8;
    int64_t per_slice = (octet_count + SLICES - 1) / SLICES;
    int64_t begin = slice * per_slice, end = min(begin + per_slice, octet_count);
    float sums[ROWS] = {};
    if (output < weight.out_features)
        slice_sums<BITS, ROWS>(sums, x, weight, values, rows, begin, end, output);
#pragma unroll
    for (int r = 0; r < ROWS; r++) parts[slice][r][lane] = sums[r];
    __syncthreads();
    if (output >= weight.out_features) return;
    for (int r = slice; r < rows; r += SLICES) {
        float total = parts[0][r][lane];
        for (int s = 1; s < SLICES; s++) total += parts[s][r][lane];
        store(&out[r * weight.out_features + output], total);
    }
}

/* --- launchers --- */

template <int BITS, typename OUT, typename ACT>
static void launch_rows(OUT *out, const ACT *x, const qzo_cuda_gptq &weight, const float *values,
                        int rows, cudaStream_t stream) {
    unsigned blocks = blocks_for(weight.out_features, WARP);
    if (rows == 1)
        linear_few_kernel<BITS, 1><<<blocks, THREADS, 0, stream>>>(out, x, weight, values, rows);
    else if (rows == 2)
        linear_few_kernel<BITS, 2><<<blocks, THREADS, 0, stream>>>(out, x, weight, values, rows);
    else if (rows <= 4)
        linear_few_kernel<BITS, 4><<<blocks, THREADS, 0, stream>>>(out, x, weight, values, rows);
    else
        linear_few_kernel<BITS, 8><<<blocks, THREADS, 0, stream>>>(out, x, weight, values, rows);
}

template <typename OUT, typename ACT>
static cudaError_t launch_few(OUT *out, const ACT *x, const qzo_cuda_gptq &weight,
                              const float *values, int rows, cudaStream_t stream) {
    switch (weight.bits) {
    case 2: launch_rows<2>(out, x, weight, values, rows, stream); break;
    case 3: launch_rows<3>(out, x, weight, values, rows, stream); break;
    case 4: launch_rows<4>(out, x, weight, values, rows, stream); break;
    case 8: launch_rows<8>(out, x, weight, values, rows, stream); break;
    default: return cudaErrorInvalidValue;
    }
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_linear_gptq_few(void *out, const uint16_t *x, qzo_cuda_gptq weight,
                                                const float *values, int64_t rows, int wide,
                                                qzo_cuda_dtype act, cudaStream_t stream) {
    static_assert(QZO_CUDA_FEW_ROWS_MAX == 8, "the largest instance");
    cudaError_t code = cudaSuccess;
    if (rows == 0) return cudaSuccess;
    if (rows > QZO_CUDA_FEW_ROWS_MAX) return cudaErrorInvalidValue;
    with_activations(static_cast<uint16_t *>(out), act, [&](auto *typed) {
        const auto *inputs = like(typed, x);
        code =
            wide ? launch_few(static_cast<float *>(out), inputs, weight, values, (int)rows, stream)
                 : launch_few(typed, inputs, weight, values, (int)rows, stream);
    });
    return code;
}
