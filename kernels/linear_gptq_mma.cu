/* The product of a few rows with a GPTQ weight on tensor cores. Codes less their zero point are
 * small integers and exact in fp16 and bf16; a group's sum of them times the activations stays in
 * fp32 accumulators and meets its perturbed fp32 scale once, so weights are never rounded. The
 * codes are read once, 16 bytes at a time, also where both signs of a perturbation are computed.
 *
 * A warp takes 32 outputs as the rows of two products of 16, and the rows of x as columns, 8 to a
 * tile. The inputs of a chunk of 32 may be summed in any order, as long as codes and x agree: lane
 * 4 g + t takes octet t of the chunk, its first four inputs in one instruction and the others in a
 * second, of outputs 4 g .. 4 g + 3. So its codes are one access, its x of a row is one, and what
 * it gets back belongs to the same four outputs, whose scales it has. */
#include "kernels/device_common.cuh"
#include "kernels/mma.cuh"
#include "weights/gptq_decode.h"

/* --- device helpers --- */

constexpr int WARPS = 8; /* of a block; each takes a run of chunks of the same outputs */
constexpr int THREADS = WARPS * WARP;
constexpr int OUTPUTS = 32; /* of a block */
constexpr int CHUNK = 32;   /* inputs that a warp takes at a time */
constexpr int OCTETS = CHUNK / 8;
constexpr int COLUMNS = 8; /* rows of x in a tile */
constexpr int QUAD = 4;    /* outputs of a lane */
static_assert(CHUNK == QZO_CUDA_MMA_CHUNK, "the host knows it");

/* The words that hold a lane's octet, of its outputs. */
struct lane_codes {
    uint4 first, second; /* second: where an octet takes or touches two words */
};

template <int BITS>
static __device__ inline lane_codes load_codes(const qzo_cuda_gptq &weight, int64_t output,
                                               int octet, int octet_end) {
    lane_codes out = {};
    int64_t bit = 8 * BITS * (int64_t)octet, word = bit / 32;
    if (output >= weight.out_features || octet >= octet_end) return out;
    const uint32_t *from = weight.codes + word * weight.out_features + output;
    out.first = *reinterpret_cast<const uint4 *>(from);
    if (bit % 32 + 8 * BITS > 32)
        out.second = *reinterpret_cast<const uint4 *>(from + weight.out_features);
    return out;
}

static __device__ inline uint32_t word_of(const uint4 &words, int i) {
    return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
}

/* The lane's octet of output i, as qzo_gptq_octet has it. */
template <int BITS>
static __device__ inline uint64_t octet_of(const lane_codes &codes, int i, int octet) {
    uint64_t pair = word_of(codes.first, i) | (uint64_t)word_of(codes.second, i) << 32;
    return pair >> (8 * BITS * octet % 32);
}

/* Halves from 1024 to 2047 are 1024 plus their ten lowest bits. */
constexpr uint32_t BIASES = 0x64006400u;

/* A zero point as `differences` wants it. */
static __device__ inline uint32_t prepared_zero(const __half *, uint32_t zero) {
    return BIASES | zero | zero << 16;
}
static __device__ inline uint32_t prepared_zero(const __nv_bfloat16 *, uint32_t zero) {
    return zero;
}

/* Two codes less the zero point, exact. */
static __device__ inline uint32_t differences(const __half *, int low, int high, uint32_t zeros) {
    uint32_t bits = BIASES | (uint32_t)low | (uint32_t)high << 16;
    __half2 codes, subtrahend;
    memcpy(static_cast<void *>(&codes), &bits, sizeof codes);
    memcpy(static_cast<void *>(&subtrahend), &zeros, sizeof subtrahend);
    codes = __hsub2(codes, subtrahend);
    memcpy(&bits, &codes, sizeof bits);
    return bits;
}
static __device__ inline uint32_t differences(const __nv_bfloat16 *, int low, int high,
                                              uint32_t zero) {
    eight<__nv_bfloat16> pair;
    store(&pair.at[0], (float)(low - (int)zero));
    store(&pair.at[1], (float)(high - (int)zero));
    return pair_bits(pair, 0);
}

/* Trainable values and zero points of a lane's outputs in one group. */
template <int SIGNS> struct group_values {
    float scale[SIGNS][QUAD];
    uint32_t zero[QUAD]; /* prepared */
};

template <int BITS, int SIGNS, typename ACT>
static __device__ inline void load_group(group_values<SIGNS> &out, const qzo_cuda_gptq &weight,
                                         const float *const values[SIGNS], const ACT *x,
                                         int64_t output, int64_t group) {
    const uint32_t *zeros = weight.zeros + group * (weight.out_features * BITS / 32);
    if (output >= weight.out_features) return;
#pragma unroll
    for (int i = 0; i < QUAD; i++) {
        uint32_t zero = (uint32_t)qzo_gptq_zero(zeros, output + i, BITS, weight.zero_correction);
        out.zero[i] = prepared_zero(x, zero);
#pragma unroll
        for (int s = 0; s < SIGNS; s++)
            out.scale[s][i] = values[s][(output + i) * weight.group_count + group];
    }
}

/* What a lane has of the sums: of the current group, and of those before it times their scales. The
 * two products of a tile, then a fragment each: outputs 2 j, 2 j, 2 j + 1, 2 j + 1 of its four. */
template <int TILES> struct lane_sums { float group[TILES][2][4], total[TILES][2][4]; };

template <int TILES, int SIGNS>
static __device__ inline void end_group(lane_sums<TILES * SIGNS> &sums,
                                        const group_values<SIGNS> &values) {
#pragma unroll
    for (int n = 0; n < TILES * SIGNS; n++)
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float *group = &sums.group[n][i / 4][i % 4], *total = &sums.total[n][i / 4][i % 4];
            *total = fmaf(*group, values.scale[n / TILES][i / 2], *total);
            *group = 0.0f;
        }
}

/* Adds a chunk to the sums of its group. The rows of the second sign lie behind the first's. */
template <int BITS, int TILES, int SIGNS, typename ACT>
static __device__ inline void add_chunk(lane_sums<TILES * SIGNS> &sums, const lane_codes &codes,
                                        const group_values<SIGNS> &values, const ACT *x,
                                        int64_t in_features, int octet, int rows, int column) {
    uint32_t weights[2][2][4]; /* of both products, both halves of the octet */
    bool is_inside = 8 * octet < in_features;
#pragma unroll
    for (int i = 0; i < QUAD; i++) {
        uint64_t codes_of_output = octet_of<BITS>(codes, i, octet);
#pragma unroll
        for (int pair = 0; pair < 4; pair++)
            weights[i / 2][pair / 2][i % 2 + 2 * (pair % 2)] =
                differences(x, qzo_gptq_lane(codes_of_output, 2 * pair, BITS),
                            qzo_gptq_lane(codes_of_output, 2 * pair + 1, BITS), values.zero[i]);
    }
#pragma unroll
    for (int n = 0; n < TILES * SIGNS; n++) {
        int row = n % TILES * COLUMNS + column;
        eight<ACT> inputs = {};
        if (is_inside && row < rows)
            inputs = load_eight(x + (n / TILES * rows + row) * in_features + 8 * octet);
#pragma unroll
        for (int part = 0; part < 2; part++) {
            const uint32_t pairs[] = {pair_bits(inputs, 2 * part), pair_bits(inputs, 2 * part + 1)};
            mma(x, sums.group[n][0], weights[0][part], pairs);
            mma(x, sums.group[n][1], weights[1][part], pairs);
        }
    }
}

/* The sums of chunks begin .. end - 1. Codes are asked for DEPTH chunks ahead. */
template <int BITS, int TILES, int SIGNS, typename ACT>
static __device__ inline void warp_sums(lane_sums<TILES * SIGNS> &sums, const ACT *x,
                                        const qzo_cuda_gptq &weight,
                                        const float *const values[SIGNS], int rows, int begin,
                                        int end, int64_t output, int lane) {
    constexpr int DEPTH = BITS == 8 ? 2 : 4;
    int octet_end = min(OCTETS * end, (int)(weight.in_features / 8)), member = lane % OCTETS;
    int chunks_per_group = (int)(weight.inputs_per_group / CHUNK), group = -1;
    lane_codes codes[DEPTH], next[DEPTH];
    group_values<SIGNS> current = {};
#pragma unroll
    for (int i = 0; i < DEPTH; i++)
        next[i] = load_codes<BITS>(weight, output, OCTETS * (begin + i) + member, octet_end);
    for (int first = begin; first < end; first += DEPTH) {
#pragma unroll
        for (int i = 0; i < DEPTH; i++) {
            codes[i] = next[i];
            next[i] =
                load_codes<BITS>(weight, output, OCTETS * (first + DEPTH + i) + member, octet_end);
        }
#pragma unroll
        for (int i = 0; i < DEPTH; i++) {
            int chunk = first + i;
            if (chunk >= end) break; /* the same on all lanes, as all that follows */
            if (chunk / chunks_per_group != group) {
                end_group<TILES, SIGNS>(sums, current);
                group = chunk / chunks_per_group;
                load_group<BITS, SIGNS>(current, weight, values, x, output, group);
            }
            add_chunk<BITS, TILES, SIGNS>(sums, codes[i], current, x, weight.in_features,
                                          OCTETS * chunk + member, rows, lane / OCTETS);
        }
    }
    end_group<TILES, SIGNS>(sums, current);
}

/* --- kernels --- */

/* Warps are added in ascending order, one tile after the other. No row's sum depends on TILES, on
 * SIGNS or on the other rows. out: (SIGNS rows, out_features), fp32 where wide. */
template <int BITS, int TILES, int SIGNS, typename ACT>
static __global__ void __launch_bounds__(THREADS)
    linear_mma_kernel(void *out, const ACT *x, qzo_cuda_gptq weight, const float *plus,
                      const float *minus, int rows, int wide) {
    __shared__ float parts[WARPS][COLUMNS][OUTPUTS + 1]; /* the odd pitch spreads the banks */
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    int64_t output_begin = (int64_t)blockIdx.x * OUTPUTS, output = output_begin + lane;
    int chunk_count = (int)((weight.in_features + CHUNK - 1) / CHUNK);
    int per_warp = (chunk_count + WARPS - 1) / WARPS;
    int begin = min(warp * per_warp, chunk_count), end = min(begin + per_warp, chunk_count);
    const float *const both[] = {plus, minus};
    lane_sums<TILES *SIGNS> sums = {};
    warp_sums<BITS, TILES, SIGNS>(sums, x, weight, both, rows, begin, end,
                                  output_begin + lane / 4 * QUAD, lane);
#pragma unroll
    for (int n = 0; n < TILES * SIGNS; n++) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            parts[warp][lane % 4 * 2 + i % 2][lane / 4 * QUAD + i / 2] =
                sums.total[n][i / 4][i % 4];
        __syncthreads();
        int row = n % TILES * COLUMNS + warp;
        if (row < rows && output < weight.out_features) {
            float total = parts[0][warp][lane];
            for (int w = 1; w < WARPS; w++) total += parts[w][warp][lane];
            int64_t at = (int64_t)(n / TILES * rows + row) * weight.out_features + output;
            if (wide)
                static_cast<float *>(out)[at] = total;
            else
                store(&static_cast<ACT *>(out)[at], total);
        }
        __syncthreads();
    }
}
static_assert(WARPS == COLUMNS, "a warp writes a row of a tile");

/* --- launchers --- */

/* What a launch needs beside its template. */
template <typename ACT> struct mma_call {
    void *out;
    const ACT *x;
    const float *plus, *minus;
    int rows, wide;
    cudaStream_t stream;
};
template <typename ACT>
mma_call(void *, const ACT *, const float *, const float *, int, int, cudaStream_t)
    -> mma_call<ACT>;

template <int BITS, int TILES, int SIGNS, typename ACT>
static void launch(const mma_call<ACT> &call, const qzo_cuda_gptq &weight) {
    unsigned blocks = blocks_for(weight.out_features, OUTPUTS);
    linear_mma_kernel<BITS, TILES, SIGNS><<<blocks, THREADS, 0, call.stream>>>(
        call.out, call.x, weight, call.plus, call.minus, call.rows, call.wide);
}

template <int BITS, int TILES, typename ACT>
static void launch_signs(const mma_call<ACT> &call, const qzo_cuda_gptq &weight) {
    if (call.minus == nullptr)
        launch<BITS, TILES, 1>(call, weight);
    else
        launch<BITS, TILES, 2>(call, weight);
}

template <int BITS, typename ACT>
static cudaError_t launch_rows(const mma_call<ACT> &call, const qzo_cuda_gptq &weight) {
    static_assert(QZO_CUDA_MMA_ROWS_MAX == 4 * COLUMNS, "the largest instance");
    if (call.rows <= COLUMNS)
        launch_signs<BITS, 1>(call, weight);
    else if (call.rows <= 2 * COLUMNS)
        launch_signs<BITS, 2>(call, weight);
    else
        launch_signs<BITS, 4>(call, weight);
    return cudaGetLastError();
}

template <typename ACT>
static cudaError_t launch_bits(const mma_call<ACT> &call, const qzo_cuda_gptq &weight) {
    switch (weight.bits) {
    case 2: return launch_rows<2>(call, weight);
    case 3: return launch_rows<3>(call, weight);
    case 4: return launch_rows<4>(call, weight);
    case 8: return launch_rows<8>(call, weight);
    default: return cudaErrorInvalidValue;
    }
}

extern "C" cudaError_t qzo_cuda_linear_gptq_mma(void *out, const uint16_t *x, qzo_cuda_gptq weight,
                                                const float *plus, const float *minus, int64_t rows,
                                                int wide, qzo_cuda_dtype act, cudaStream_t stream) {
    if (rows == 0) return cudaSuccess;
    if (rows > QZO_CUDA_MMA_ROWS_MAX || weight.inputs_per_group % CHUNK != 0 ||
        weight.inputs_per_group == 0)
        return cudaErrorInvalidValue;
    cudaError_t code = cudaSuccess;
    with_activations(x, act, [&](auto *typed) {
        code = launch_bits(mma_call{out, typed, plus, minus, (int)rows, wide, stream}, weight);
    });
    return code;
}
