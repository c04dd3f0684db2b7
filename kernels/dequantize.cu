/* Perturbed trainable values, and tiles of decoded weights in fp16 for the matrix product.
 *
 * Perturbing is a pass of its own: a GPTQ weight has one scale per 128 codes, so the pass is small
 * beside the decoding, and each normal is drawn once instead of once per word of codes. */
#include "base/half.h"
#include "base/update.h"
#include "kernels/device_common.cuh"

/* --- device helpers --- */

constexpr int THREADS = 256;
constexpr int TILE = 32;     /* octets of codes and outputs per block of the GPTQ decoder */
constexpr int TILE_ROWS = 8; /* threads of that block: (TILE, TILE_ROWS) */

static __device__ inline half8 guarded_octet(const float decoded[8]) {
    half8 out;
#pragma unroll
    for (int i = 0; i < 4; i++)
        out.pair[i] =
            __halves2half2(guarded_half(decoded[2 * i]), guarded_half(decoded[2 * i + 1]));
    return out;
}

/* Eight inputs of one output under each sign. group_of_input may jump at every input. */
template <int BITS, int SIGNS>
static __device__ inline void decode_octet(half8 out[SIGNS], uint64_t codes,
                                           const qzo_cuda_gptq &weight, const qzo_cuda_signs &signs,
                                           int64_t octet, int64_t output) {
    eight_ints groups = load_ints(weight.group_of_input + 8 * octet);
    int32_t group = -1;
    float zero = 0.0f, value[SIGNS] = {}, decoded[SIGNS][8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        if (groups.at[i] != group) {
            group = groups.at[i];
#pragma unroll
            for (int s = 0; s < SIGNS; s++)
                value[s] = signs.values[s][output * weight.group_count + group];
            zero = gptq_zero<BITS>(weight, group, output);
        }
        int code = qzo_gptq_lane(codes, i, BITS);
#pragma unroll
        for (int s = 0; s < SIGNS; s++) decoded[s][i] = qzo_gptq_value(code, zero, value[s]);
    }
#pragma unroll
    for (int s = 0; s < SIGNS; s++) out[s] = guarded_octet(decoded[s]);
}

/* --- kernels --- */

/* One thread per block of four elements. */
template <int SIGNS>
static __global__ void perturb_kernel(float *plus, float *minus, const float *masters,
                                      const float *unit, int64_t count, qzo_cuda_noise noise) {
    int64_t block = global_thread(), first = 4 * block;
    if (first >= count) return;
    float z[4];
    draw_directions(z, noise.seed, (uint64_t)block, noise.tensor_id, noise.rademacher);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (first + i >= count) continue;
        if (unit != nullptr) z[i] = qzo_scaled_direction(unit[first + i], z[i]);
        plus[first + i] = qzo_perturbed(masters[first + i], noise.c, z[i]);
        if (SIGNS == 2) minus[first + i] = qzo_perturbed(masters[first + i], -noise.c, z[i]);
    }
}

/* Codes are contiguous over outputs, the tile over inputs: the block turns the words of TILE octets
 * by TILE outputs in shared memory, so that both sides are read and written in whole lines. */
template <int BITS, int SIGNS>
static __global__ void decode_gptq_kernel(qzo_cuda_signs signs, qzo_cuda_gptq weight,
                                          int64_t first_output, int64_t output_count) {
    constexpr int WORDS = TILE * 8 * BITS / 32;
    __shared__ uint32_t
        words[WORDS][TILE + 1]; /* (word, output); the odd pitch spreads the banks */
    int64_t word_count = weight.in_features * BITS / 32, octet_count = weight.in_features / 8;
    int64_t word_begin = (int64_t)blockIdx.x * WORDS, output_begin = (int64_t)blockIdx.y * TILE;
    int64_t output_here = output_begin + threadIdx.x;
    for (int i = threadIdx.y; i < WORDS; i += TILE_ROWS)
        if (word_begin + i < word_count && output_here < output_count)
            words[i][threadIdx.x] =
                weight.codes[(word_begin + i) * weight.out_features + first_output + output_here];
    __syncthreads();
    int64_t octet = (int64_t)blockIdx.x * TILE + threadIdx.x;
    for (int i = threadIdx.y; i < TILE; i += TILE_ROWS) {
        int64_t output = output_begin + i;
        if (octet >= octet_count || output >= output_count) continue;
        uint64_t codes = qzo_gptq_octet(&words[0][i], TILE + 1, threadIdx.x, BITS);
        half8 decoded[SIGNS];
        decode_octet<BITS, SIGNS>(decoded, codes, weight, signs, octet, first_output + output);
#pragma unroll
        for (int s = 0; s < SIGNS; s++)
            store_half8(as_half(signs.tile[s]) + output * weight.in_features + 8 * octet,
                        decoded[s]);
    }
}

template <qzo_cuda_dtype DTYPE>
static __global__ void decode_dense_kernel(__half *tile, const void *data, int64_t first,
                                           int64_t count) {
    int64_t i = global_thread();
    if (i >= count) return;
    if (DTYPE == QZO_CUDA_F32) {
        tile[i] = guarded_half(static_cast<const float *>(data)[first + i]);
        return;
    }
    uint16_t bits = static_cast<const uint16_t *>(data)[first + i];
    tile[i] =
        guarded_half(DTYPE == QZO_CUDA_F16 ? qzo_fp16_to_float(bits) : qzo_bf16_to_float(bits));
}

/* One thread per block of four elements, of which the first and the last may lie outside. */
template <int SIGNS>
static __global__ void decode_values_kernel(qzo_cuda_signs signs, const float *unit, int64_t first,
                                            int64_t count, qzo_cuda_noise noise) {
    const float *masters = signs.values[0];
    int64_t block = first / 4 + global_thread(), end = first + count;
    if (4 * block >= end) return;
    float z[4] = {};
    if (noise.c != 0.0f)
        draw_directions(z, noise.seed, (uint64_t)block, noise.tensor_id, noise.rademacher);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int64_t element = 4 * block + i;
        if (element < first || element >= end) continue;
        if (unit != nullptr) z[i] = qzo_scaled_direction(unit[element], z[i]);
#pragma unroll
        for (int s = 0; s < SIGNS; s++)
            as_half(signs.tile[s])[element - first] =
                guarded_half(qzo_perturbed(masters[element], s == 0 ? noise.c : -noise.c, z[i]));
    }
}

/* --- launchers --- */

extern "C" cudaError_t qzo_cuda_perturb(float *plus, float *minus, const float *masters,
                                        const float *unit, int64_t count, qzo_cuda_noise noise,
                                        cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    unsigned blocks = blocks_for(count, 4 * THREADS);
    if (minus == nullptr)
        perturb_kernel<1><<<blocks, THREADS, 0, stream>>>(plus, minus, masters, unit, count, noise);
    else
        perturb_kernel<2><<<blocks, THREADS, 0, stream>>>(plus, minus, masters, unit, count, noise);
    return cudaGetLastError();
}

template <int BITS>
static void launch_gptq(const qzo_cuda_signs &signs, const qzo_cuda_gptq &weight,
                        int64_t first_output, int64_t output_count, cudaStream_t stream) {
    dim3 blocks(blocks_for(weight.in_features / 8, TILE), blocks_for(output_count, TILE));
    dim3 threads(TILE, TILE_ROWS);
    if (signs.count == 2)
        decode_gptq_kernel<BITS, 2>
            <<<blocks, threads, 0, stream>>>(signs, weight, first_output, output_count);
    else
        decode_gptq_kernel<BITS, 1>
            <<<blocks, threads, 0, stream>>>(signs, weight, first_output, output_count);
}

extern "C" cudaError_t qzo_cuda_decode_gptq(qzo_cuda_signs signs, qzo_cuda_gptq weight,
                                            int64_t first_output, int64_t output_count,
                                            cudaStream_t stream) {
    if (output_count == 0) return cudaSuccess;
    switch (weight.bits) {
    case 2: launch_gptq<2>(signs, weight, first_output, output_count, stream); break;
    case 3: launch_gptq<3>(signs, weight, first_output, output_count, stream); break;
    case 4: launch_gptq<4>(signs, weight, first_output, output_count, stream); break;
    case 8: launch_gptq<8>(signs, weight, first_output, output_count, stream); break;
    default: return cudaErrorInvalidValue;
    }
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_decode_dense(uint16_t *tile, const void *data, int64_t first,
                                             int64_t count, qzo_cuda_dtype dtype,
                                             cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    unsigned blocks = blocks_for(count, THREADS);
    __half *out = as_half(tile);
    switch (dtype) {
    case QZO_CUDA_F32:
        decode_dense_kernel<QZO_CUDA_F32><<<blocks, THREADS, 0, stream>>>(out, data, first, count);
        break;
    case QZO_CUDA_F16:
        decode_dense_kernel<QZO_CUDA_F16><<<blocks, THREADS, 0, stream>>>(out, data, first, count);
        break;
    case QZO_CUDA_BF16:
        decode_dense_kernel<QZO_CUDA_BF16><<<blocks, THREADS, 0, stream>>>(out, data, first, count);
        break;
    }
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_decode_values(qzo_cuda_signs signs, const float *unit,
                                              int64_t first, int64_t count, qzo_cuda_noise noise,
                                              cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    unsigned blocks = blocks_for(count + 3, 4 * THREADS); /* one block more where first is odd */
    if (signs.count == 2)
        decode_values_kernel<2><<<blocks, THREADS, 0, stream>>>(signs, unit, first, count, noise);
    else
        decode_values_kernel<1><<<blocks, THREADS, 0, stream>>>(signs, unit, first, count, noise);
    return cudaGetLastError();
}
