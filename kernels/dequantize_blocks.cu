/* Tiles of decoded bitsandbytes and AQLM weights. Both hold the codes of eight inputs of an
 * output side by side: a thread decodes them and writes 16 bytes, and a warp reads and writes whole
 * lines. */
#include "kernels/device_common.cuh"
#include "weights/bnb_decode.h"

/* --- device helpers --- */

constexpr int THREADS = 256;
constexpr int OCTET = 8;

/* --- kernels --- */

/* Tiles are those of outputs first_output and on; octets are counted over all of them. */
template <int SIGNS, typename ACT>
static __global__ void decode_bnb_kernel(const ACT *type, qzo_cuda_signs signs, qzo_cuda_bnb weight,
                                         int64_t first_output, int64_t octet_count) {
    __shared__ float levels[QZO_BNB_LEVELS];
    if (threadIdx.x == 0) { /* an index that threads differ in would copy `weight` for each */
#pragma unroll
        for (int i = 0; i < QZO_BNB_LEVELS; i++) levels[i] = weight.levels[i];
    }
    __syncthreads();
    int64_t octet = global_thread();
    if (octet >= octet_count) return;
    int64_t element = first_output * weight.in_features + OCTET * octet;
    uint32_t word = *reinterpret_cast<const uint32_t *>(weight.codes + element / 2);
    uint8_t bytes[4];
    memcpy(bytes, &word, sizeof bytes);
#pragma unroll
    for (int s = 0; s < SIGNS; s++) {
        float absmax = signs.values[s][element / weight.block]; /* blocks do not cross rows */
        float decoded[OCTET];
#pragma unroll
        for (int i = 0; i < OCTET; i++)
            decoded[i] = qzo_bnb_value(levels[qzo_bnb_code(bytes, i)], absmax);
        store_eight_guarded(like(type, signs.tile[s]) + OCTET * octet, decoded);
    }
}

/* The entries' sum once, and by each scale then. An entry is one access: codebooks begin at a
 * multiple of 16 bytes here, unlike in a file. Lanes read anywhere, so that eight accesses of 2
 * bytes would each be as many as there are lanes. */
template <int SIGNS, typename ACT>
static __global__ void decode_aqlm_kernel(const ACT *type, qzo_cuda_signs signs,
                                          qzo_cuda_aqlm weight, int64_t first_output,
                                          int64_t octet_count) {
    int64_t octet = global_thread();
    if (octet >= octet_count) return;
    int64_t per_output = weight.in_features / OCTET, output = first_output + octet / per_output;
    float sums[OCTET] = {};
    for (int c = 0; c < weight.layout.codebook_count; c++) {
        eight<uint16_t> entry =
            load_eight(qzo_aqlm_entry(&weight.layout, first_output * per_output + octet, c));
        qzo_aqlm_add(sums, entry.at, weight.layout.is_bf16, c == 0);
    }
#pragma unroll
    for (int s = 0; s < SIGNS; s++) {
        float decoded[OCTET];
#pragma unroll
        for (int i = 0; i < OCTET; i++) decoded[i] = QZO_FMUL(signs.values[s][output], sums[i]);
        store_eight_guarded(like(type, signs.tile[s]) + OCTET * octet, decoded);
    }
}

/* --- launchers --- */

extern "C" cudaError_t qzo_cuda_decode_bnb(qzo_cuda_signs signs, qzo_cuda_bnb weight,
                                           int64_t first_output, int64_t output_count,
                                           qzo_cuda_dtype act, cudaStream_t stream) {
    int64_t octets = output_count * (weight.in_features / OCTET);
    if (octets == 0) return cudaSuccess;
    unsigned blocks = blocks_for(octets, THREADS);
    with_activations(signs.tile[0], act, [&](auto *typed) {
        if (signs.count == 2)
            decode_bnb_kernel<2>
                <<<blocks, THREADS, 0, stream>>>(typed, signs, weight, first_output, octets);
        else
            decode_bnb_kernel<1>
                <<<blocks, THREADS, 0, stream>>>(typed, signs, weight, first_output, octets);
    });
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_decode_aqlm(qzo_cuda_signs signs, qzo_cuda_aqlm weight,
                                            int64_t first_output, int64_t output_count,
                                            qzo_cuda_dtype act, cudaStream_t stream) {
    int64_t octets = output_count * (weight.in_features / OCTET);
    if (octets == 0) return cudaSuccess;
    unsigned blocks = blocks_for(octets, THREADS);
    with_activations(signs.tile[0], act, [&](auto *typed) {
        if (signs.count == 2)
            decode_aqlm_kernel<2>
                <<<blocks, THREADS, 0, stream>>>(typed, signs, weight, first_output, octets);
        else
            decode_aqlm_kernel<1>
                <<<blocks, THREADS, 0, stream>>>(typed, signs, weight, first_output, octets);
    });
    return cudaGetLastError();
}
