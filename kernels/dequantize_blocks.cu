/* Tiles of decoded bitsandbytes and AQLM weights in fp16. Both hold the codes of eight inputs of an
 * output side by side: a thread decodes them and writes 16 bytes, and a warp reads and writes whole
 * lines. */
#include "kernels/device_common.cuh"
#include "weights/bnb_decode.h"

/* --- device helpers --- */

constexpr int THREADS = 256;
constexpr int OCTET = 8;

static __device__ inline void store_octet(__half *to, const float decoded[OCTET]) {
    half8 out;
#pragma unroll
    for (int i = 0; i < OCTET / 2; i++)
        out.pair[i] =
            __halves2half2(guarded_half(decoded[2 * i]), guarded_half(decoded[2 * i + 1]));
    store_half8(to, out);
}

/* --- kernels --- */

/* tile is that of outputs first_output and on; octets are counted over all of them. */
static __global__ void decode_bnb_kernel(__half *tile, qzo_cuda_bnb weight, const float *values,
                                         int64_t first_output, int64_t octet_count) {
    __shared__ float levels[QZO_BNB_LEVELS];
    if (threadIdx.x < QZO_BNB_LEVELS) levels[threadIdx.x] = weight.levels[threadIdx.x];
    __syncthreads();
    int64_t octet = global_thread();
    if (octet >= octet_count) return;
    int64_t element = first_output * weight.in_features + OCTET * octet;
    float absmax = values[element / weight.block]; /* blocks do not cross rows */
    uint32_t word = *reinterpret_cast<const uint32_t *>(weight.codes + element / 2);
    uint8_t bytes[4];
    memcpy(bytes, &word, sizeof bytes);
    float decoded[OCTET];
#pragma unroll
    for (int i = 0; i < OCTET; i++)
        decoded[i] = qzo_bnb_value(levels[qzo_bnb_code(bytes, i)], absmax);
    store_octet(tile + OCTET * octet, decoded);
}

static __global__ void decode_aqlm_kernel(__half *tile, qzo_cuda_aqlm weight, const float *values,
                                          int64_t first_output, int64_t octet_count) {
    int64_t octet = global_thread();
    if (octet >= octet_count) return;
    int64_t per_output = weight.in_features / OCTET;
    float decoded[OCTET];
    qzo_aqlm_group(decoded, &weight.layout, first_output * per_output + octet,
                   values[first_output + octet / per_output]);
    store_octet(tile + OCTET * octet, decoded);
}

/* --- launchers --- */

extern "C" cudaError_t qzo_cuda_decode_bnb(uint16_t *tile, qzo_cuda_bnb weight, const float *values,
                                           int64_t first_output, int64_t output_count,
                                           cudaStream_t stream) {
    int64_t octets = output_count * (weight.in_features / OCTET);
    if (octets == 0) return cudaSuccess;
    decode_bnb_kernel<<<blocks_for(octets, THREADS), THREADS, 0, stream>>>(
        as_half(tile), weight, values, first_output, octets);
    return cudaGetLastError();
}

extern "C" cudaError_t qzo_cuda_decode_aqlm(uint16_t *tile, qzo_cuda_aqlm weight,
                                            const float *values, int64_t first_output,
                                            int64_t output_count, cudaStream_t stream) {
    int64_t octets = output_count * (weight.in_features / OCTET);
    if (octets == 0) return cudaSuccess;
    decode_aqlm_kernel<<<blocks_for(octets, THREADS), THREADS, 0, stream>>>(
        as_half(tile), weight, values, first_output, octets);
    return cudaGetLastError();
}
