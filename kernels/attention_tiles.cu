/* Attention for long contexts, on tensor cores: the formula and the rows of attention.cu, 64
 * queries of a head to a block and 64 of their rows at a time (after Dao et al., arXiv 2205.14135).
 * Scores stay in registers; the running maximum and sum are fp32, and a weight is rounded to the
 * activations' type before it meets its value.
 *
 * The queries of a block may belong to several sequences. Those whose contexts begin alike form a
 * family: a family's tiles are cut in the order of its context, from its beginning, and what a
 * query may not see in them has weight 0. So a query's sums do not depend on where it stands in
 * the pack, or on its neighbours. */
#include "kernels/attention_context.cuh"
#include "kernels/mma.cuh"

#include <math_constants.h>

/* --- device helpers --- */

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
constexpr int WARP_QUERIES = 16;
constexpr int QUERIES = WARPS * WARP_QUERIES; /* of a block */
constexpr int KEYS = 64;                      /* rows of a tile */
constexpr int PAD = 8;                        /* elements behind a row: spreads the banks */
constexpr int LANE_ROWS = 2;                  /* lane 4 g + t has parts of queries g and g + 8 */

/* What a tile holds, values turned so that neighbours along the sum lie together. */
template <int DIM, typename ACT> struct tile {
    alignas(16) ACT keys[KEYS][DIM + PAD];
    alignas(16) ACT values[DIM][KEYS + PAD];
};

/* The block's queries. A family goes by the number of its first query; -1: there is no query. */
struct block_queries {
    context of[QUERIES];
    int family[QUERIES];
};

static __device__ inline bool begin_alike(const context &a, const context &b) {
    return a.prefix_begin == b.prefix_begin && a.prefix_count == b.prefix_count &&
           a.own_begin == b.own_begin;
}

static __device__ inline void find_families(block_queries &block,
                                            const qzo_cuda_attention &attention, int64_t first,
                                            int64_t queries) {
    int mine = threadIdx.x;
    if (mine < QUERIES) {
        int64_t query = first + mine;
        int64_t row = attention.query_rows != nullptr && query < queries
                          ? attention.query_rows[query]
                          : query;
        if (query < queries) block.of[mine] = context_of(attention, row);
        block.family[mine] = query < queries ? mine : -1;
    }
    __syncthreads();
    int family = mine < QUERIES ? block.family[mine] : -1;
    for (int i = 0; i < mine && family == mine; i++)
        if (begin_alike(block.of[i], block.of[mine])) family = i;
    if (mine < QUERIES) block.family[mine] = family;
    __syncthreads();
}

/* Which part of its family's context any of the queries begin .. end - 1 sees. */
struct seen {
    int64_t first, end;
};

static __device__ inline seen seen_by(const block_queries &block, int family, int begin, int end) {
    seen out = {INT64_MAX, 0};
    for (int i = begin; i < end; i++)
        if (block.family[i] == family) {
            out.first = min(out.first, block.of[i].first);
            out.end = max(out.end, block.of[i].count);
        }
    return out;
}

template <int DIM, typename ACT>
static __device__ inline void load_tile(tile<DIM, ACT> &to, const ACT *k, const ACT *v,
                                        const context &c, int64_t begin, int64_t end,
                                        int64_t kv_width, int head_dim) {
    constexpr int PIECES = DIM / 8;
    for (int i = threadIdx.x; i < KEYS * PIECES; i += THREADS) {
        int key = i / PIECES, piece = i % PIECES;
        eight<ACT> loaded = {};
        if (begin + key < end && 8 * piece < head_dim)
            loaded = load_eight(k + context_row(c, begin + key) * kv_width + 8 * piece);
        memcpy(&to.keys[key][8 * piece], &loaded, sizeof loaded);
    }
    for (int i = threadIdx.x; i < KEYS * PIECES; i += THREADS) {
        int key = i % KEYS, piece = i / KEYS;
        eight<ACT> loaded = {};
        if (begin + key < end && 8 * piece < head_dim)
            loaded = load_eight(v + context_row(c, begin + key) * kv_width + 8 * piece);
#pragma unroll
        for (int d = 0; d < 8; d++) to.values[8 * piece + d][key] = loaded.at[d];
    }
}

/* Two neighbours at an even index of a row, whose address is a multiple of 4: the compiler, which
 * cannot know, would read global memory by the byte. */
template <typename ACT> static __device__ inline uint32_t two_bits(const ACT *from) {
    uint32_t out;
    memcpy(&out, __builtin_assume_aligned(from, sizeof out), sizeof out);
    return out;
}

template <typename ACT>
static __device__ inline uint32_t narrowed_pair(const ACT *, float low, float high) {
    ACT pair[2];
    uint32_t out;
    store(&pair[0], low);
    store(&pair[1], high);
    memcpy(&out, pair, sizeof out);
    return out;
}

/* What a lane knows of its two queries so far: the largest score and its part of the sum of
 * weights; and, for 8 dimensions each, a fragment of the weighted sums of values. */
template <int DIM> struct running {
    float largest[LANE_ROWS], total[LANE_ROWS];
    float value[DIM / 8][4];
};

/* Which of a tile's rows a lane's query sees: [first, end), none where it is of another family. */
struct visible {
    int64_t first[LANE_ROWS], end[LANE_ROWS];
};

static __device__ inline float scaled(float score, const qzo_cuda_attention &attention) {
    score *= attention.scale;
    if (attention.score_cap > 0.0f)
        score = attention.score_cap * tanhf(score / attention.score_cap);
    return score;
}

/* Scores of the warp's queries and the tile's rows; what is not seen is -infinity. */
template <int DIM, typename ACT>
static __device__ inline void score_tile(float scores[KEYS / 8][4], const uint32_t q[DIM / 16][4],
                                         const tile<DIM, ACT> &of, const visible &sees,
                                         int64_t begin, const qzo_cuda_attention &attention,
                                         int lane) {
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) scores[n][i] = 0.0f;
        const ACT *key = of.keys[8 * n + lane / 4];
#pragma unroll
        for (int s = 0; s < DIM / 16; s++) {
            int d = 16 * s + lane % 4 * 2;
            const uint32_t pairs[] = {two_bits(key + d), two_bits(key + d + 8)};
            mma(key, scores[n], q[s], pairs);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int64_t index = begin + 8 * n + lane % 4 * 2 + i % 2;
            bool is_seen = index >= sees.first[i / 2] && index < sees.end[i / 2];
            scores[n][i] = is_seen ? scaled(scores[n][i], attention) : -CUDART_INF_F;
        }
    }
}

/* Over the four lanes that share a query. */
static __device__ inline float row_max(float value) {
    value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, 1));
    return fmaxf(value, __shfl_xor_sync(ALL_LANES, value, 2));
}

static __device__ inline float row_sum(float value) {
    value += __shfl_xor_sync(ALL_LANES, value, 1);
    return value + __shfl_xor_sync(ALL_LANES, value, 2);
}

/* Scores become weights under the new maximum, to which everything before is rescaled. */
template <int DIM>
static __device__ inline void weigh_tile(running<DIM> &state, float scores[KEYS / 8][4]) {
#pragma unroll
    for (int r = 0; r < LANE_ROWS; r++) {
        float largest = state.largest[r];
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
            largest = fmaxf(largest, fmaxf(scores[n][2 * r], scores[n][2 * r + 1]));
        largest = row_max(largest);
        /* Nothing seen yet: all weights are 0, whatever is subtracted. */
        float base = largest == -CUDART_INF_F ? 0.0f : largest;
        float correction = expf(state.largest[r] - base); /* 0 at the first rows */
        state.largest[r] = largest;
        state.total[r] *= correction;
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int i = 2 * r; i < 2 * r + 2; i++) {
                scores[n][i] = expf(scores[n][i] - base);
                state.total[r] += scores[n][i];
            }
#pragma unroll
        for (int d = 0; d < DIM / 8; d++) {
            state.value[d][2 * r] *= correction;
            state.value[d][2 * r + 1] *= correction;
        }
    }
}

template <int DIM, typename ACT>
static __device__ inline void add_tile(running<DIM> &state, const float weights[KEYS / 8][4],
                                       const tile<DIM, ACT> &of, int lane) {
    const ACT *type = of.values[0];
#pragma unroll
    for (int k = 0; k < KEYS / 16; k++) {
        const float *low = weights[2 * k], *high = weights[2 * k + 1];
        const uint32_t pairs[] = {
            narrowed_pair(type, low[0], low[1]), narrowed_pair(type, low[2], low[3]),
            narrowed_pair(type, high[0], high[1]), narrowed_pair(type, high[2], high[3])};
#pragma unroll
        for (int d = 0; d < DIM / 8; d++) {
            const ACT *value = of.values[8 * d + lane / 4] + 16 * k + lane % 4 * 2;
            const uint32_t columns[] = {two_bits(value), two_bits(value + 8)};
            mma(type, state.value[d], pairs, columns);
        }
    }
}

/* The warp's queries as operands; dimensions past head_dim are 0, as in the tiles. */
template <int DIM, typename ACT>
static __device__ inline void load_queries(uint32_t out[DIM / 16][4], const ACT *q, int64_t first,
                                           int64_t queries, int64_t q_width, int head_dim,
                                           int lane) {
#pragma unroll
    for (int s = 0; s < DIM / 16; s++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int64_t query = first + lane / 4 + i % 2 * 8;
            int d = 16 * s + lane % 4 * 2 + i / 2 * 8;
            bool is_there = query < queries && d < head_dim;
            out[s][i] = is_there ? two_bits(q + query * q_width + d) : 0;
        }
}

template <int DIM, typename ACT>
static __device__ inline void store_queries(ACT *out, const running<DIM> &state, int64_t first,
                                            int64_t queries, int64_t q_width, int head_dim,
                                            int lane) {
#pragma unroll
    for (int r = 0; r < LANE_ROWS; r++) {
        float total = row_sum(state.total[r]);
        int64_t query = first + lane / 4 + 8 * r;
        if (query >= queries) continue;
#pragma unroll
        for (int d = 0; d < DIM / 8; d++) {
            int at = 8 * d + lane % 4 * 2;
            if (at >= head_dim) continue;
            store(&out[query * q_width + at], state.value[d][2 * r] / total);
            store(&out[query * q_width + at + 1], state.value[d][2 * r + 1] / total);
        }
    }
}

/* --- kernels --- */

/* Grid: (groups of QUERIES, heads). Every thread meets every barrier; warps without a query in a
 * tile leave its products out, which changes no bit. */
template <int DIM, typename ACT>
static __global__ void __launch_bounds__(THREADS)
    attention_tiles_kernel(ACT *out, const ACT *q, const ACT *k, const ACT *v,
                           qzo_cuda_attention attention, int64_t queries) {
    __shared__ tile<DIM, ACT> shared;
    __shared__ block_queries block;
    int lane = threadIdx.x % WARP, warp_begin = threadIdx.x / WARP * WARP_QUERIES;
    int head_dim = attention.head_dim, head = blockIdx.y;
    int64_t block_begin = (int64_t)blockIdx.x * QUERIES, first = block_begin + warp_begin;
    int64_t q_width = (int64_t)attention.head_count * head_dim;
    int64_t kv_width = (int64_t)attention.kv_head_count * head_dim;
    int64_t kv_at = (int64_t)(head / (attention.head_count / attention.kv_head_count)) * head_dim;
    uint32_t q_pairs[DIM / 16][4];
    running<DIM> state = {{-CUDART_INF_F, -CUDART_INF_F}, {}, {}};
    find_families(block, attention, block_begin, queries);
    load_queries<DIM>(q_pairs, q + head * head_dim, first, queries, q_width, head_dim, lane);

    for (int family = 0; family < QUERIES; family++) {
        if (block.family[family] != family) continue;
        seen all = seen_by(block, family, 0, QUERIES);
        seen mine = seen_by(block, family, warp_begin, warp_begin + WARP_QUERIES);
        visible sees = {};
        for (int r = 0; r < LANE_ROWS; r++) {
            int query = warp_begin + lane / 4 + 8 * r;
            if (block.family[query] != family) continue;
            sees.first[r] = block.of[query].first;
            sees.end[r] = block.of[query].count;
        }
        for (int64_t begin = all.first / KEYS * KEYS; begin < all.end; begin += KEYS) {
            float scores[KEYS / 8][4];
            load_tile(shared, k + kv_at, v + kv_at, block.of[family], begin, all.end, kv_width,
                      head_dim);
            __syncthreads();
            if (begin < mine.end && begin + KEYS > mine.first) {
                score_tile<DIM>(scores, q_pairs, shared, sees, begin, attention, lane);
                weigh_tile(state, scores);
                add_tile(state, scores, shared, lane);
            }
            __syncthreads();
        }
    }
    store_queries(out + head * head_dim, state, first, queries, q_width, head_dim, lane);
}

/* --- launchers --- */

template <typename ACT>
static void launch(ACT *out, const ACT *q, const ACT *k, const ACT *v,
                   const qzo_cuda_attention &attention, int64_t queries, cudaStream_t stream) {
    dim3 blocks(blocks_for(queries, QUERIES), (unsigned)attention.head_count);
    if (attention.head_dim <= 64)
        attention_tiles_kernel<64>
            <<<blocks, THREADS, 0, stream>>>(out, q, k, v, attention, queries);
    else
        attention_tiles_kernel<128>
            <<<blocks, THREADS, 0, stream>>>(out, q, k, v, attention, queries);
}

extern "C" cudaError_t qzo_cuda_attention_tiles(uint16_t *out, const uint16_t *q, const uint16_t *k,
                                                const uint16_t *v, qzo_cuda_attention attention,
                                                int64_t queries, qzo_cuda_dtype act,
                                                cudaStream_t stream) {
    if (queries == 0) return cudaSuccess;
    if (attention.head_dim % 8 != 0 || attention.head_dim > QZO_CUDA_TILE_HEAD_DIM_MAX)
        return cudaErrorInvalidValue;
    with_activations(out, act, [&](auto *typed) {
        launch(typed, like(typed, q), like(typed, k), like(typed, v), attention, queries, stream);
    });
    return cudaGetLastError();
}
