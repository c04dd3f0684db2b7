/* Attention over packed rows, causal or not, with a shared prefix where there is one: softmax(q k^T
 * scale) v over the rows [prefix_begin, prefix_end) and then [own_begin, the row itself] or up to
 * own_end, in that order; with a window over the last of them only, with a cap on the scores if
 * there is one.
 *
 * One warp per (query, head). It takes its rows 32 at a time: each lane computes one score, the
 * warp keeps a running maximum and sum (online softmax in fp32), then the lanes hold the head's
 * dimensions and add the 32 values. No score leaves the registers. */
#include "kernels/attention_context.cuh"

#include <math_constants.h>

/* --- device helpers --- */

constexpr int WARPS = 4; /* queries per block, of the same head: neighbours share most of k and v */
constexpr int THREADS = WARPS * WARP;
constexpr int PAIRS = QZO_CUDA_HEAD_DIM_MAX / 2 / WARP; /* pairs of dimensions per lane */

/* q . k, dimensions in ascending order; k as 16-byte pieces where rows are aligned for that. */
template <typename ACT>
static __device__ inline float dot(const float *q, const ACT *k, int head_dim) {
    float sum = 0.0f;
    if (head_dim % 8 == 0) {
        for (int d = 0; d < head_dim; d += 8) {
            eight<ACT> piece = load_eight(k + d);
#pragma unroll
            for (int i = 0; i < 8; i++) sum = fmaf(q[d + i], widened(piece.at[i]), sum);
        }
        return sum;
    }
    for (int d = 0; d < head_dim; d++) sum = fmaf(q[d], widened(k[d]), sum);
    return sum;
}

/* Two dimensions, which a lane has together. */
template <typename ACT> struct alignas(4) two { ACT at[2]; };

/* What a warp knows of the rows so far: the largest score, this lane's part of the sum of weights,
 * and the weighted sum of values of this lane's dimensions. */
struct running {
    float largest, total;
    float2 value[PAIRS];
};

/* Rescales to the new maximum, then adds `rows` values whose weights the lanes hold. */
template <typename ACT>
static __device__ inline void add_values(running &state, float score, const ACT *v,
                                         const context &c, int64_t begin, int rows,
                                         int64_t kv_width, int pair_count, int lane) {
    float largest = fmaxf(state.largest, warp_max(score));
    float correction = expf(state.largest - largest); /* 0 at the first rows */
    float weight = lane < rows ? expf(score - largest) : 0.0f;
    state.largest = largest;
    state.total = fmaf(state.total, correction, weight);
#pragma unroll
    for (int p = 0; p < PAIRS; p++) {
        state.value[p].x *= correction;
        state.value[p].y *= correction;
    }
    for (int i = 0; i < rows; i++) {
        float w = __shfl_sync(ALL_LANES, weight, i);
        const two<ACT> *row =
            reinterpret_cast<const two<ACT> *>(v + context_row(c, begin + i) * kv_width);
#pragma unroll
        for (int p = 0; p < PAIRS; p++) {
            if (lane + p * WARP >= pair_count) continue;
            two<ACT> pair = row[lane + p * WARP];
            state.value[p].x = fmaf(w, widened(pair.at[0]), state.value[p].x);
            state.value[p].y = fmaf(w, widened(pair.at[1]), state.value[p].y);
        }
    }
}

/* --- kernels --- */

/* Grid: (groups of WARPS queries, heads). Warps do not wait for each other: each has its own part
 * of the shared memory, and a warp without a query leaves. */
template <typename ACT>
static __global__ void __launch_bounds__(THREADS)
    attention_kernel(ACT *out, const ACT *q, const ACT *k, const ACT *v,
                     qzo_cuda_attention attention, int64_t queries) {
    __shared__ float query_values[WARPS][QZO_CUDA_HEAD_DIM_MAX];
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, head_dim = attention.head_dim;
    int64_t query = (int64_t)blockIdx.x * WARPS + warp, head = blockIdx.y;
    if (query >= queries) return;
    int64_t row = attention.query_rows != nullptr ? attention.query_rows[query] : query;
    int64_t at = (query * attention.head_count + head) * head_dim;
    int64_t kv_width = (int64_t)attention.kv_head_count * head_dim;
    int64_t kv_head = head / (attention.head_count / attention.kv_head_count);
    float *mine = query_values[warp];
    for (int d = lane; d < head_dim; d += WARP) mine[d] = widened(q[at + d]);
    __syncwarp();

    const ACT *keys = k + kv_head * head_dim, *values = v + kv_head * head_dim;
    context c = context_of(attention, row);
    running state = {-CUDART_INF_F, 0.0f, {}};
    for (int64_t begin = c.first; begin < c.count; begin += WARP) {
        int rows = (int)min(c.count - begin, (int64_t)WARP);
        float score = -CUDART_INF_F;
        if (lane < rows)
            score = attention.scale *
                    dot(mine, keys + context_row(c, begin + lane) * kv_width, head_dim);
        if (attention.score_cap > 0.0f && lane < rows)
            score = attention.score_cap * tanhf(score / attention.score_cap);
        add_values(state, score, values, c, begin, rows, kv_width, head_dim / 2, lane);
    }
    float total = warp_sum(state.total);
    two<ACT> *to = reinterpret_cast<two<ACT> *>(out + at);
#pragma unroll
    for (int p = 0; p < PAIRS; p++)
        if (lane + p * WARP < head_dim / 2) {
            two<ACT> pair;
            store(&pair.at[0], state.value[p].x / total);
            store(&pair.at[1], state.value[p].y / total);
            to[lane + p * WARP] = pair;
        }
}

/* --- launchers --- */

extern "C" cudaError_t qzo_cuda_attention_rows(uint16_t *out, const uint16_t *q, const uint16_t *k,
                                               const uint16_t *v, qzo_cuda_attention attention,
                                               int64_t queries, qzo_cuda_dtype act,
                                               cudaStream_t stream) {
    if (queries == 0) return cudaSuccess;
    if (attention.head_dim % 2 != 0 || attention.head_dim > QZO_CUDA_HEAD_DIM_MAX)
        return cudaErrorInvalidValue;
    dim3 blocks(blocks_for(queries, WARPS), (unsigned)attention.head_count);
    with_activations(out, act, [&](auto *typed) {
        attention_kernel<<<blocks, THREADS, 0, stream>>>(typed, like(typed, q), like(typed, k),
                                                         like(typed, v), attention, queries);
    });
    return cudaGetLastError();
}
