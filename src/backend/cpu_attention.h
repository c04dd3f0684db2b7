/* Attention of up to LANES queries at a time, one per lane, compiled once per instruction set by
 * the files that include cpu_ops_lanes.h. Private to the CPU backend.
 *
 * Queries of one text share most of the rows that they attend to, so each key and each value is
 * read once for all lanes, and a maximum or a sum over keys needs no reduction across a vector. The
 * result of a query does not depend on which others share its block: each lane has its own chains,
 * and a row that it does not attend to adds a weight of exactly 0. (Where that row's values are not
 * finite, 0 times those is NaN; blocks hold one text alone, whose loss is not finite then anyway.)
 */
#ifndef QZO_BACKEND_CPU_ATTENTION_H
#define QZO_BACKEND_CPU_ATTENTION_H

#include "backend/cpu_ops_lanes.h"

/* The widest vector there is; LANES are LANE_VECTORS of them. */
#if defined(__AVX512F__)
typedef __m512 vector;
enum { VECTOR = 16 };
#define vector_load(from)    _mm512_loadu_ps(from)
#define vector_store(to, x)  _mm512_storeu_ps(to, x)
#define vector_of(x)         _mm512_set1_ps(x)
#define vector_sum(a, b)     _mm512_add_ps(a, b)
#define vector_product(a, b) _mm512_mul_ps(a, b)
#define vector_fma(a, b, c)  _mm512_fmadd_ps(a, b, c)
#elif defined(__AVX2__)
typedef __m256 vector;
enum { VECTOR = 8 };
#define vector_load(from)    _mm256_loadu_ps(from)
#define vector_store(to, x)  _mm256_storeu_ps(to, x)
#define vector_of(x)         _mm256_set1_ps(x)
#define vector_sum(a, b)     _mm256_add_ps(a, b)
#define vector_product(a, b) _mm256_mul_ps(a, b)
#define vector_fma(a, b, c)  _mm256_fmadd_ps(a, b, c)
#else
typedef float vector;
enum { VECTOR = 1 };
#define vector_load(from)    (*(from))
#define vector_store(to, x)  (*(to) = (x))
#define vector_of(x)         (x)
#define vector_sum(a, b)     ((a) + (b))
#define vector_product(a, b) ((a) * (b))
#define vector_fma(a, b, c)  __builtin_fmaf(a, b, c)
#endif

enum {
    LANE_VECTORS = LANES / VECTOR,
    ATTENTION_CHAINS = 2,
    /* Keys and values at a time: registers for the running sums. No matter of results. */
    ATTENTION_KEYS = VECTOR == 16 ? 4 : 2,
    ATTENTION_VALUES = VECTOR == 16 ? 16 : 4
};
_Static_assert((int)LANES == (int)CPU_ATTENTION_LANES, "a lane per query");

/* The queries of a block: lane j is query[j] of head[j] among those that share a kv head. */
typedef struct attention_lanes {
    int32_t prefix_begin[LANES], prefix_end[LANES], own_begin[LANES], own_end[LANES];
    int64_t query[LANES], head[LANES];
    int count;
} attention_lanes;

/* Of prefixes [0] and of own rows [1]: the rows that any lane attends to, and those that all do. */
typedef struct attention_hulls {
    int64_t begin[2], end[2], common_begin[2], common_end[2];
} attention_hulls;

/* The rows that any lane attends to: two ranges in ascending order, the second one may be empty. */
typedef struct attention_rows {
    int64_t begin[2], end[2];
} attention_rows;

static inline int64_t rows_of(const attention_rows *rows) {
    return rows->end[0] - rows->begin[0] + rows->end[1] - rows->begin[1];
}

/* Adds a query; its window cuts what it attends to from the front. */
static inline void add_lane(attention_lanes *lanes, const qzo_attention *attention, int64_t query,
                            int64_t head) {
    int64_t row = attention->query_rows != NULL ? attention->query_rows[query] : query;
    int32_t prefix_begin = attention->prefix_begin[row], prefix_end = attention->prefix_end[row];
    int32_t own_begin = attention->own_begin[row];
    int32_t own_end = attention->own_end != NULL ? attention->own_end[row] : (int32_t)row + 1;
    int64_t beyond = prefix_end - prefix_begin + own_end - own_begin - attention->window;
    if (attention->window > 0 && beyond > 0) {
        int64_t of_prefix = prefix_end - prefix_begin;
        if (of_prefix > beyond) of_prefix = beyond;
        prefix_begin += (int32_t)of_prefix;
        own_begin += (int32_t)(beyond - of_prefix);
    }
    int lane = lanes->count++;
    lanes->prefix_begin[lane] = prefix_begin;
    lanes->prefix_end[lane] = prefix_end;
    lanes->own_begin[lane] = own_begin;
    lanes->own_end[lane] = own_end;
    lanes->query[lane] = query;
    lanes->head[lane] = head;
}

static inline void widen_hulls(attention_hulls *hulls, const attention_lanes *lanes, int lane) {
    const int64_t begin[2] = {lanes->prefix_begin[lane], lanes->own_begin[lane]};
    const int64_t end[2] = {lanes->prefix_end[lane], lanes->own_end[lane]};
    for (int i = 0; i < 2; i++) {
        if (begin[i] < end[i]) {
            if (begin[i] < hulls->begin[i]) hulls->begin[i] = begin[i];
            if (end[i] > hulls->end[i]) hulls->end[i] = end[i];
        }
        if (begin[i] > hulls->common_begin[i]) hulls->common_begin[i] = begin[i];
        if (end[i] < hulls->common_end[i]) hulls->common_end[i] = end[i];
    }
}

/* Both hulls in order, joined where they touch. An empty one begins behind any row. */
static inline attention_rows rows_of_hulls(const attention_hulls *hulls) {
    int low = hulls->begin[0] <= hulls->begin[1] ? 0 : 1, high = 1 - low;
    attention_rows rows = {.begin = {hulls->begin[low], hulls->begin[high]},
                           .end = {hulls->end[low], hulls->end[high]}};
    bool is_empty = rows.end[1] <= rows.begin[1];
    if (is_empty || rows.begin[1] <= rows.end[0]) {
        if (!is_empty && rows.end[1] > rows.end[0]) rows.end[0] = rows.end[1];
        rows.begin[1] = rows.end[1] = rows.end[0];
    }
    return rows;
}

/* sums (keys, LANES) = q k scale of so many consecutive keys: two chains over even and odd
 * elements, however many keys at a time. q (head_dim, LANES). */
static inline __attribute__((always_inline)) void score_keys(float *restrict sums,
                                                             const float *restrict q,
                                                             const float *restrict k,
                                                             int64_t kv_width, int64_t head_dim,
                                                             float scale, const int keys) {
    vector chain[ATTENTION_KEYS][ATTENTION_CHAINS][LANE_VECTORS];
    for (int i = 0; i < keys; i++)
        for (int c = 0; c < ATTENTION_CHAINS; c++)
            for (int n = 0; n < LANE_VECTORS; n++) chain[i][c][n] = vector_of(0.0f);
    int64_t pairs = head_dim / ATTENTION_CHAINS * ATTENTION_CHAINS;
    for (int64_t d = 0; d < pairs; d += ATTENTION_CHAINS)
        for (int c = 0; c < ATTENTION_CHAINS; c++)
            for (int n = 0; n < LANE_VECTORS; n++) {
                vector element = vector_load(q + (d + c) * LANES + n * VECTOR);
                for (int i = 0; i < keys; i++)
                    chain[i][c][n] =
                        vector_fma(element, vector_of(k[i * kv_width + d + c]), chain[i][c][n]);
            }
    for (int i = 0; i < keys; i++)
        for (int n = 0; n < LANE_VECTORS; n++) {
            vector even = chain[i][0][n];
            if (pairs < head_dim)
                even = vector_fma(vector_load(q + pairs * LANES + n * VECTOR),
                                  vector_of(k[i * kv_width + pairs]), even);
            vector sum = vector_sum(even, chain[i][1][n]);
            vector_store(sums + i * LANES + n * VECTOR, vector_product(sum, vector_of(scale)));
        }
}

/* scores (rows, LANES) of the rows [begin, end); a row that a lane does not attend to has -inf.
 * Raises largest (LANES). */
static inline void score_rows(float *restrict scores, float *restrict largest,
                              const float *restrict q, const float *restrict k, int64_t kv_width,
                              const qzo_attention *attention, const attention_lanes *lanes,
                              const attention_hulls *hulls, int64_t begin, int64_t end) {
    int64_t row = begin;
    for (; row + ATTENTION_KEYS <= end; row += ATTENTION_KEYS)
        score_keys(scores + (row - begin) * LANES, q, k + row * kv_width, kv_width,
                   attention->head_dim, attention->scale, ATTENTION_KEYS);
    for (; row < end; row++)
        score_keys(scores + (row - begin) * LANES, q, k + row * kv_width, kv_width,
                   attention->head_dim, attention->scale, 1);
    for (row = begin; row < end; row++) {
        float *restrict score = scores + (row - begin) * LANES;
        int32_t key = (int32_t)row;
        if (attention->score_cap > 0.0f) soft_cap(score, LANES, attention->score_cap);
        if ((row >= hulls->common_begin[0] && row < hulls->common_end[0]) ||
            (row >= hulls->common_begin[1] && row < hulls->common_end[1])) {
            for (int j = 0; j < LANES; j++)
                largest[j] = score[j] > largest[j] ? score[j] : largest[j];
            continue;
        }
        for (int j = 0; j < LANES; j++) {
            int in_prefix = (key >= lanes->prefix_begin[j]) & (key < lanes->prefix_end[j]);
            int in_own = (key >= lanes->own_begin[j]) & (key < lanes->own_end[j]);
            score[j] = (in_prefix | in_own) ? score[j] : -INFINITY;
            largest[j] = score[j] > largest[j] ? score[j] : largest[j];
        }
    }
}

/* sums (count, LANES) += weights v over the rows [begin, end), in ascending order: elements
 * first .. of the head. */
static inline __attribute__((always_inline)) void add_values(float *restrict sums,
                                                             const float *restrict weights,
                                                             const float *restrict v,
                                                             int64_t kv_width, int64_t rows,
                                                             const int count) {
    vector sum[ATTENTION_VALUES][LANE_VECTORS];
    for (int d = 0; d < count; d++)
        for (int n = 0; n < LANE_VECTORS; n++)
            sum[d][n] = vector_load(sums + d * LANES + n * VECTOR);
    for (int64_t row = 0; row < rows; row++)
        for (int n = 0; n < LANE_VECTORS; n++) {
            vector weight = vector_load(weights + row * LANES + n * VECTOR);
            for (int d = 0; d < count; d++)
                sum[d][n] = vector_fma(weight, vector_of(v[row * kv_width + d]), sum[d][n]);
        }
    for (int d = 0; d < count; d++)
        for (int n = 0; n < LANE_VECTORS; n++)
            vector_store(sums + d * LANES + n * VECTOR, sum[d][n]);
}

/* One block over one kv head; q (head_dim, LANES) has its queries and takes the results. */
static inline void attend(float *restrict q, const float *restrict k, const float *restrict v,
                          const qzo_attention *attention, const attention_lanes *lanes,
                          const attention_hulls *hulls, float *restrict scores) {
    attention_rows ranges = rows_of_hulls(hulls), *rows = &ranges;
    int64_t kv_width = attention->kv_head_count * attention->head_dim;
    int64_t head_dim = attention->head_dim, count = rows_of(rows);
    int64_t first_count = rows->end[0] - rows->begin[0];
    float largest[LANES], total[LANES];
    for (int j = 0; j < LANES; j++) largest[j] = -INFINITY, total[j] = 0.0f;
    for (int i = 0; i < 2; i++)
        score_rows(scores + i * first_count * LANES, largest, q, k, kv_width, attention, lanes,
                   hulls, rows->begin[i], rows->end[i]);
    for (int64_t row = 0; row < count; row++)
        for (int j = 0; j < LANES; j++) scores[row * LANES + j] -= largest[j];
    for (int64_t i = 0; i < count * LANES; i++) scores[i] = qzo_expf(scores[i]);
    for (int64_t row = 0; row < count; row++)
        for (int j = 0; j < LANES; j++) total[j] += scores[row * LANES + j];
    for (int64_t d = 0; d < head_dim * LANES; d++) q[d] = 0.0f;
    for (int i = 0; i < 2; i++) {
        const float *weights = scores + i * first_count * LANES;
        const float *values = v + rows->begin[i] * kv_width;
        int64_t range = rows->end[i] - rows->begin[i], d = 0;
        for (; d + ATTENTION_VALUES <= head_dim; d += ATTENTION_VALUES)
            add_values(q + d * LANES, weights, values + d, kv_width, range, ATTENTION_VALUES);
        for (; d < head_dim; d++)
            add_values(q + d * LANES, weights, values + d, kv_width, range, 1);
    }
    for (int64_t d = 0; d < head_dim; d++)
        for (int j = 0; j < LANES; j++) q[d * LANES + j] = q[d * LANES + j] / total[j];
}

/* Turns rows of heads into lanes, attends, and turns them back. first_head: of the kv head. */
static inline void attend_lanes(float *out, const float *q, const float *k, const float *v,
                                const qzo_attention *attention, const attention_lanes *lanes,
                                const attention_hulls *hulls, int64_t first_head, float *scores) {
    int64_t head_dim = attention->head_dim, width = attention->head_count * head_dim;
    float block[CPU_HEAD_MAX * LANES];
    if (lanes->count < LANES) memset(block, 0, (size_t)(head_dim * LANES) * sizeof *block);
    for (int j = 0; j < lanes->count; j++) {
        const float *from = q + lanes->query[j] * width + (first_head + lanes->head[j]) * head_dim;
        for (int64_t d = 0; d < head_dim; d++) block[d * LANES + j] = from[d];
    }
    attend(block, k, v, attention, lanes, hulls, scores);
    for (int j = 0; j < lanes->count; j++) {
        float *to = out + lanes->query[j] * width + (first_head + lanes->head[j]) * head_dim;
        for (int64_t d = 0; d < head_dim; d++) to[d] = block[d * LANES + j];
    }
}

/* The queries [first_query, first_query + query_count), all of one text. scores: scratch of
 * cpu_attention_scratch_floats. */
static inline void attention_block(float *out, const float *q, const float *k, const float *v,
                                   const qzo_attention *attention, int64_t first_query,
                                   int64_t query_count, float *scores) {
    int64_t heads = attention->head_count / attention->kv_head_count, pairs = query_count * heads;
    for (int64_t pair = 0; pair < pairs;) {
        attention_lanes lanes = {.count = 0};
        attention_hulls hulls = {.begin = {INT32_MAX, INT32_MAX},
                                 .common_end = {INT32_MAX, INT32_MAX}};
        while (pair < pairs && lanes.count < LANES) {
            attention_hulls wider = hulls;
            add_lane(&lanes, attention, first_query + pair / heads, pair % heads);
            widen_hulls(&wider, &lanes, lanes.count - 1);
            attention_rows rows = rows_of_hulls(&wider);
            if (lanes.count > 1 && rows_of(&rows) > attention->context_max + LANES) {
                lanes.count--; /* chosen queries may lie far apart: the next lanes have this one */
                break;
            }
            hulls = wider, pair++;
        }
        for (int j = lanes.count; j < LANES; j++)
            lanes.prefix_begin[j] = lanes.prefix_end[j] = lanes.own_begin[j] = lanes.own_end[j] = 0;
        for (int64_t kv_head = 0; kv_head < attention->kv_head_count; kv_head++) {
            int64_t kv_offset = kv_head * attention->head_dim;
            attend_lanes(out, q, k + kv_offset, v + kv_offset, attention, &lanes, &hulls,
                         kv_head * heads, scores);
        }
    }
}

#endif
