/* Blocks of GGUF files: tiles of decoded weights, and rows of a quantized embedding table.
 * A thread decodes eight inputs of an output and writes them as one; blocks of 18, 34 or 210 bytes
 * are aligned to nothing, so codes are read by the byte. */
#include "kernels/device_common.cuh"
#include "weights/gguf_decode.h"

/* --- device helpers --- */

constexpr int THREADS = 256;
constexpr int OCTET = QZO_GGUF_OCTET;

/* The octet with the d of its block, from the values (out_features, blocks of a row). */
static __device__ inline void decode_octet(float out[OCTET], const qzo_gguf_blocks &weight,
                                           const float *values, int64_t row, int64_t input) {
    int64_t per_row = weight.in_features / weight.block_inputs;
    qzo_gguf_octet(out, &weight, row, input, values[row * per_row + input / weight.block_inputs]);
}

/* --- kernels --- */

/* Tiles are those of outputs first_output and on; octets are counted over all of them. The second
 * sign finds the codes in the cache. */
template <int SIGNS, typename ACT>
static __global__ void decode_kernel(const ACT *type, qzo_cuda_signs signs, qzo_gguf_blocks weight,
                                     int64_t first_output, int64_t octet_count) {
    int64_t octet = global_thread();
    if (octet >= octet_count) return;
    int64_t per_output = weight.in_features / OCTET;
    int64_t output = first_output + octet / per_output, input = octet % per_output * OCTET;
#pragma unroll
    for (int s = 0; s < SIGNS; s++) {
        float decoded[OCTET];
        decode_octet(decoded, weight, signs.values[s], output, input);
        store_eight_guarded(like(type, signs.tile[s]) + OCTET * octet, decoded);
    }
}

/* One block per row. Product and sum are rounded apart, as on the CPU. */
static __global__ void embed_kernel(float *residual, qzo_gguf_blocks table, const float *values,
                                    const int32_t *ids, float scale, int add) {
    int64_t row = blockIdx.x, id = ids[row];
    QZO_CUDA_CHECK(id >= 0);
    for (int64_t input = OCTET * (int64_t)threadIdx.x; input < table.in_features;
         input += OCTET * THREADS) {
        float decoded[OCTET];
        decode_octet(decoded, table, values, id, input);
        float *out = residual + row * table.in_features + input;
#pragma unroll
        for (int i = 0; i < OCTET; i++) {
            float value = __fmul_rn(scale, decoded[i]);
            out[i] = add ? __fadd_rn(out[i], value) : value;
        }
    }
}

/* --- launchers --- */

extern "C" cudaError_t qzo_cuda_decode_gguf(qzo_cuda_signs signs, qzo_gguf_blocks weight,
                                            int64_t first_output, int64_t output_count,
                                            qzo_cuda_dtype act, cudaStream_t stream) {
    int64_t octets = output_count * (weight.in_features / OCTET);
    if (octets == 0) return cudaSuccess;
    unsigned blocks = blocks_for(octets, THREADS);
    with_activations(signs.tile[0], act, [&](auto *typed) {
        if (signs.count == 2)
            decode_kernel<2>
                <<<blocks, THREADS, 0, stream>>>(typed, signs, weight, first_output, octets);
        else
            decode_kernel<1>
                <<<blocks, THREADS, 0, stream>>>(typed, signs, weight, first_output, octets);
    });
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_embed_gguf(float *residual, qzo_gguf_blocks table,
                                           const float *values, const int32_t *ids, int64_t rows,
                                           float scale, int add, cudaStream_t stream) {
    if (rows == 0) return cudaSuccess;
    embed_kernel<<<(unsigned)rows, THREADS, 0, stream>>>(residual, table, values, ids, scale, add);
    return cudaGetLastError();
}
