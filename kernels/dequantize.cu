/* Perturbed trainable values, and tiles of decoded weights for the matrix product.
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

/* What the inputs of one group share, of one output. */
template <int SIGNS> struct group_values { float zero, value[SIGNS]; };

template <int BITS, int SIGNS>
static __device__ inline void load_group(group_values<SIGNS> &out, const qzo_cuda_gptq &weight,
                                         const qzo_cuda_signs &signs, int64_t group,
                                         int64_t output) {
#pragma unroll
    for (int s = 0; s < SIGNS; s++)
        out.value[s] = signs.values[s][output * weight.group_count + group];
    out.zero = gptq_zero<BITS>(weight, group, output);
}

/* The group of all inputs of an octet; -1: they may have several, which group_of_input knows. */
static __device__ inline int32_t group_of_octet(const qzo_cuda_gptq &weight, int64_t octet) {
    uint32_t inputs = (uint32_t)weight.inputs_per_group;
    return inputs == 0 || inputs % 8 != 0 ? -1 : (int32_t)(8 * (uint32_t)octet / inputs);
}

/* Input i of an octet under each sign. */
template <int BITS, int SIGNS>
static __device__ inline void decode_input(float out[SIGNS][8], uint64_t codes, int i,
                                           const group_values<SIGNS> &values) {
    int code = qzo_gptq_lane(codes, i, BITS);
#pragma unroll
    for (int s = 0; s < SIGNS; s++) out[s][i] = qzo_gptq_value(code, values.zero, values.value[s]);
}

/* Eight inputs of one output, of the group that all of them have. With none each asks for its own,
 * which is several times the work: group_of_input may jump at every input. */
template <int BITS, int SIGNS>
static __device__ inline void decode_octet(float out[SIGNS][8], uint64_t codes,
                                           const qzo_cuda_gptq &weight, const qzo_cuda_signs &signs,
                                           int64_t octet, int32_t group, int64_t output) {
    group_values<SIGNS> values = {};
    if (group >= 0) {
        load_group<BITS>(values, weight, signs, group, output);
#pragma unroll
        for (int i = 0; i < 8; i++) decode_input<BITS, SIGNS>(out, codes, i, values);
        return;
    }
    eight_ints groups = load_ints(weight.group_of_input + 8 * octet);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        if (groups.at[i] != group) {
            group = groups.at[i];
            load_group<BITS>(values, weight, signs, group, output);
        }
        decode_input<BITS, SIGNS>(out, codes, i, values);
    }
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
template <int BITS, int SIGNS, typename ACT>
static __global__ void decode_gptq_kernel(const ACT *type, qzo_cuda_signs signs,
                                          qzo_cuda_gptq weight, int64_t first_output,
                                          int64_t output_count) {
    constexpr int WORDS = TILE * 8 * BITS / 32;
    __shared__ uint32_t
        words[WORDS][TILE + 1]; /* (word, output); the odd pitch spreads the banks */
    int64_t word_count = weight.in_features * BITS / 32, octet_count = weight.in_features / 8;
    int64_t word_begin = (int64_t)blockIdx.x * WORDS, output_begin = (int64_t)blockIdx.y * TILE;
    int64_t output_here = output_begin + threadIdx.x;
    static_assert(WORDS % TILE_ROWS == 0, "every row of threads has as many words");
#pragma unroll
    for (int row = 0; row < WORDS; row += TILE_ROWS) {
        int i = row + threadIdx.y;
        if (word_begin + i < word_count && output_here < output_count)
            words[i][threadIdx.x] =
                weight.codes[(word_begin + i) * weight.out_features + first_output + output_here];
    }
    __syncthreads();
    int64_t octet = (int64_t)blockIdx.x * TILE + threadIdx.x;
    int32_t group = group_of_octet(weight, octet);
    for (int row = 0; row < TILE; row += TILE_ROWS) {
        int i = row + threadIdx.y;
        int64_t output = output_begin + i;
        if (octet >= octet_count || output >= output_count) continue;
        uint64_t codes = qzo_gptq_octet(&words[0][i], TILE + 1, threadIdx.x, BITS);
        float decoded[SIGNS][8];
        decode_octet<BITS, SIGNS>(decoded, codes, weight, signs, octet, group,
                                  first_output + output);
#pragma unroll
        for (int s = 0; s < SIGNS; s++)
            store_eight_guarded(like(type, signs.tile[s]) + output * weight.in_features + 8 * octet,
                                decoded[s]);
    }
}

template <qzo_cuda_dtype DTYPE, typename ACT>
static __global__ void decode_dense_kernel(ACT *tile, const void *data, int64_t first,
                                           int64_t count) {
    int64_t i = global_thread();
    if (i >= count) return;
    if (DTYPE == QZO_CUDA_F32) {
        store_guarded(&tile[i], static_cast<const float *>(data)[first + i]);
        return;
    }
    uint16_t bits = static_cast<const uint16_t *>(data)[first + i];
    store_guarded(&tile[i],
                  DTYPE == QZO_CUDA_F16 ? qzo_fp16_to_float(bits) : qzo_bf16_to_float(bits));
}

/* One thread per block of four elements, of which the first and the last may lie outside. */
template <int SIGNS, typename ACT>
static __global__ void decode_values_kernel(const ACT *type, qzo_cuda_signs signs,
                                            const float *unit, int64_t first, int64_t count,
                                            qzo_cuda_noise noise) {
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
            store_guarded(like(type, signs.tile[s]) + element - first,
                          qzo_perturbed(masters[element], s == 0 ? noise.c : -noise.c, z[i]));
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
                        int64_t first_output, int64_t output_count, qzo_cuda_dtype act,
                        cudaStream_t stream) {
    dim3 blocks(blocks_for(weight.in_features / 8, TILE), blocks_for(output_count, TILE));
    dim3 threads(TILE, TILE_ROWS);
    with_activations(signs.tile[0], act, [&](auto *typed) {
        if (signs.count == 2)
            decode_gptq_kernel<BITS, 2>
                <<<blocks, threads, 0, stream>>>(typed, signs, weight, first_output, output_count);
        else
            decode_gptq_kernel<BITS, 1>
                <<<blocks, threads, 0, stream>>>(typed, signs, weight, first_output, output_count);
    });
}

extern "C" cudaError_t qzo_cuda_decode_gptq(qzo_cuda_signs signs, qzo_cuda_gptq weight,
                                            int64_t first_output, int64_t output_count,
                                            qzo_cuda_dtype act, cudaStream_t stream) {
    if (output_count == 0) return cudaSuccess;
    switch (weight.bits) {
    case 2: launch_gptq<2>(signs, weight, first_output, output_count, act, stream); break;
    case 3: launch_gptq<3>(signs, weight, first_output, output_count, act, stream); break;
    case 4: launch_gptq<4>(signs, weight, first_output, output_count, act, stream); break;
    case 8: launch_gptq<8>(signs, weight, first_output, output_count, act, stream); break;
    default: return cudaErrorInvalidValue;
    }
    return cudaGetLastError();
}

template <typename ACT>
static void launch_dense(ACT *tile, const void *data, int64_t first, int64_t count,
                         qzo_cuda_dtype dtype, cudaStream_t stream) {
    unsigned blocks = blocks_for(count, THREADS);
    auto kernel = dtype == QZO_CUDA_F32   ? decode_dense_kernel<QZO_CUDA_F32, ACT>
                  : dtype == QZO_CUDA_F16 ? decode_dense_kernel<QZO_CUDA_F16, ACT>
                                          : decode_dense_kernel<QZO_CUDA_BF16, ACT>;
    kernel<<<blocks, THREADS, 0, stream>>>(tile, data, first, count);
}

extern "C" cudaError_t qzo_cuda_decode_dense(uint16_t *tile, const void *data, int64_t first,
                                             int64_t count, qzo_cuda_dtype dtype,
                                             qzo_cuda_dtype act, cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    with_activations(tile, act,
                     [&](auto *typed) { launch_dense(typed, data, first, count, dtype, stream); });
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_decode_values(qzo_cuda_signs signs, const float *unit,
                                              int64_t first, int64_t count, qzo_cuda_noise noise,
                                              qzo_cuda_dtype act, cudaStream_t stream) {
    if (count == 0) return cudaSuccess;
    unsigned blocks = blocks_for(count + 3, 4 * THREADS); /* one block more where first is odd */
    with_activations(signs.tile[0], act, [&](auto *typed) {
        if (signs.count == 2)
            decode_values_kernel<2>
                <<<blocks, THREADS, 0, stream>>>(typed, signs, unit, first, count, noise);
        else
            decode_values_kernel<1>
                <<<blocks, THREADS, 0, stream>>>(typed, signs, unit, first, count, noise);
    });
    return cudaGetLastError();
}
