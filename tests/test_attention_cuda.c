/* ctest: labels=gpu timeout=300 emulated
 * Attention of every backend against the formula in double (device_support.h): questions with a
 * shared prefix, images that see their texts, short sequences; windows and caps on the scores. */
#include "device_support.h"

#include "backend/cuda_plan.h"

enum { CONTEXT_ROWS = 300, PREFIX = 70, BRANCH = 110 };

/* Which rows each row attends to, on the host. */
typedef struct contexts {
    int32_t begin[CONTEXT_ROWS], end[CONTEXT_ROWS], own[CONTEXT_ROWS], own_end[CONTEXT_ROWS];
    bool is_causal; /* own_end is behind each row, and not told */
    int longest;    /* as models tell it; decides about the kernel */
} contexts;

/* Rows 0 .. 69 are a shared prefix, 70 .. 109 continue it, the rest is a question of its own. */
static void fill_questions(contexts *out) {
    out->is_causal = true;
    out->longest = CONTEXT_ROWS - BRANCH;
    for (int row = 0; row < CONTEXT_ROWS; row++) {
        bool branch = row >= PREFIX && row < BRANCH;
        out->begin[row] = row < BRANCH ? 0 : BRANCH;
        out->end[row] = branch ? PREFIX : out->begin[row];
        out->own[row] = branch ? PREFIX : out->begin[row];
        out->own_end[row] = row + 1;
    }
}

/* Sequences of 30 rows. */
static void fill_short(contexts *out) {
    enum { LENGTH = 30 };
    out->is_causal = true;
    out->longest = LENGTH;
    for (int row = 0; row < CONTEXT_ROWS; row++) {
        out->begin[row] = out->end[row] = out->own[row] = row / LENGTH * LENGTH;
        out->own_end[row] = row + 1;
    }
}

/* Two images of 110 rows, then their texts of 40: each sees its own of both kinds. The first 70
 * rows leave the text out. */
static void fill_images(contexts *out) {
    out->is_causal = false;
    for (int row = 0; row < CONTEXT_ROWS; row++) {
        enum { TEXTS = 2 * BRANCH, TEXT = (CONTEXT_ROWS - TEXTS) / 2 };
        out->longest = BRANCH + TEXT;
        int example = row < TEXTS ? row / BRANCH : (row - TEXTS) / TEXT;
        out->begin[row] = example * BRANCH;
        out->end[row] = out->begin[row] + BRANCH;
        out->own[row] = row < PREFIX ? 0 : TEXTS + example * TEXT;
        out->own_end[row] = row < PREFIX ? 0 : out->own[row] + TEXT;
    }
}

/* One head of one row in double; a limit per element from what an exponent may be off. */
static void head_in_double(double *out, double *limits, const float *q, const float *k,
                           const float *v, int64_t kv_width, const qzo_attention *attention,
                           const contexts *of, int row) {
    int64_t dim = attention->head_dim;
    double weights[CONTEXT_ROWS], largest = -INFINITY, total = 0.0, magnitude = 0.0, peak = 0.0;
    double cap = (double)attention->score_cap;
    int all_rows[CONTEXT_ROWS], *rows = all_rows, count = 0;
    for (int i = of->begin[row]; i < of->end[row]; i++) rows[count++] = i;
    for (int i = of->own[row]; i < of->own_end[row]; i++) rows[count++] = i;
    if (attention->window > 0 && count > attention->window) {
        rows += count - attention->window;
        count = (int)attention->window;
    }
    for (int i = 0; i < count; i++) {
        double sum = 0.0, terms = 0.0;
        for (int64_t d = 0; d < dim; d++) {
            double term = (double)q[d] * (double)k[rows[i] * kv_width + d];
            sum += term;
            terms += fabs(term);
        }
        weights[i] = sum * (double)attention->scale;
        if (cap > 0.0) weights[i] = cap * tanh(weights[i] / cap);
        largest = fmax(largest, weights[i]);
        magnitude = fmax(magnitude, terms * (double)attention->scale);
    }
    for (int i = 0; i < count; i++) total += weights[i] = exp(weights[i] - largest);
    for (int64_t d = 0; d < dim; d++) out[d] = 0.0;
    for (int i = 0; i < count; i++)
        for (int64_t d = 0; d < dim; d++) {
            double value = (double)v[rows[i] * kv_width + d];
            out[d] += weights[i] / total * value;
            peak = fmax(peak, fabs(value));
        }
    /* A score, its cap (7, see soft cap) and the running maximum, each exponent up to 2 magnitude;
     * rescaling once per 32 rows
     * and one rounding per row, in numerator and denominator each. */
    double exponent =
        (2.0 * ((double)dim + 2.0 + (cap > 0.0 ? 7.0 : 0.0)) + 4.0) * FLOAT_ROUNDING * magnitude;
    double relative = expm1(exponent) + 2.0 * ((double)count + 40.0) * FLOAT_ROUNDING;
    /* On tensor cores each weight is stored as an activation; the largest is 1 before the sum. */
    double weights_stored = 0.0;
    if (cuda_plan_attention_tiles(&cuda_plans[0], attention->context_max, dim))
        weights_stored = ACTIVATIONS[which].rounding + count * ACTIVATIONS[which].smallest;
    for (int64_t d = 0; d < dim; d++)
        limits[d] = (2.0 * relative + weights_stored) * peak + storing(out[d]);
}

/* Out of the queries' own q; all rows where query_rows_host is NULL. The caller frees. */
static float *run_attention(const qzo_attention *on_host, const contexts *of, float *q_host,
                            float *k_host, float *v_host, const int32_t *query_rows_host,
                            int64_t queries) {
    int64_t q_width = on_host->head_count * on_host->head_dim;
    int64_t kv_count = CONTEXT_ROWS * on_host->kv_head_count * on_host->head_dim;
    qzo_act *q = device_act(q_host, queries * q_width), *k = device_act(k_host, kv_count);
    qzo_act *v = device_act(v_host, kv_count), *out = device_blank(queries * q_width);
    qzo_attention attention = *on_host;
    if (query_rows_host != NULL) attention.query_rows = device_ints(query_rows_host, queries);
    attention.prefix_begin = device_ints(of->begin, CONTEXT_ROWS);
    attention.prefix_end = device_ints(of->end, CONTEXT_ROWS);
    attention.own_begin = device_ints(of->own, CONTEXT_ROWS);
    if (!of->is_causal) attention.own_end = device_ints(of->own_end, CONTEXT_ROWS);
    assert_ok(backend->ops->reserve(backend, CONTEXT_ROWS, true));
    assert_ok(backend->ops->attention(backend, out, q, k, v, &attention, queries));
    float *actual = host_act(out, queries * q_width);
    drop(q), drop(k), drop(v), drop(out), drop(attention.query_rows);
    drop(attention.prefix_begin), drop(attention.prefix_end), drop(attention.own_begin);
    drop(attention.own_end);
    return actual;
}

enum { CHOSEN = 8 };
static const int32_t chosen_queries[CHOSEN] = {69, 109, 299, 110, 0, 70, 141, 142};

static void check_attention(const contexts *of, int64_t heads, int64_t kv_heads, int64_t dim,
                            bool chosen, float score_cap, int64_t window) {
    int64_t queries = chosen ? CHOSEN : CONTEXT_ROWS, kv_width = kv_heads * dim;
    double expected[256], limits[256];
    float *q = test_normals(55, queries * heads * dim, 2.0f);
    float *k = test_normals(56, CONTEXT_ROWS * kv_width, 2.0f);
    float *v = test_normals(57, CONTEXT_ROWS * kv_width, 1.0f);
    const qzo_attention attention = {.context_max = of->longest,
                                     .head_count = heads,
                                     .kv_head_count = kv_heads,
                                     .head_dim = dim,
                                     .scale = 1.0f / sqrtf((float)dim),
                                     .score_cap = score_cap,
                                     .window = window};
    float *actual = run_attention(&attention, of, q, k, v, chosen ? chosen_queries : NULL, queries);
    for (int64_t i = 0; i < queries * heads; i++) {
        int row = chosen ? chosen_queries[i / heads] : (int)(i / heads);
        int64_t kv_offset = i % heads / (heads / kv_heads) * dim;
        head_in_double(expected, limits, q + i * dim, k + kv_offset, v + kv_offset, kv_width,
                       &attention, of, row);
        assert_all_close(actual + i * dim, expected, limits, dim, "attention");
    }
    free(q), free(k), free(v), free(actual);
}

/* Wherever its row stands in the call, so that both signs of a perturbation may share one. */
static void a_query_does_not_depend_on_the_others(void **state) {
    (void)state;
    enum { HEADS = 2, DIM = 64, WIDTH_OF_Q = HEADS * DIM };
    const qzo_attention attention = {.context_max = CONTEXT_ROWS,
                                     .head_count = HEADS,
                                     .kv_head_count = 1,
                                     .head_dim = DIM,
                                     .scale = 0.125f};
    contexts questions;
    float *q = test_normals(55, CONTEXT_ROWS * WIDTH_OF_Q, 2.0f), few[CHOSEN * WIDTH_OF_Q];
    float *k = test_normals(56, CONTEXT_ROWS * DIM, 2.0f);
    float *v = test_normals(57, CONTEXT_ROWS * DIM, 1.0f);
    fill_questions(&questions);
    for (int i = 0; i < CHOSEN; i++)
        memcpy(few + i * WIDTH_OF_Q, q + chosen_queries[i] * WIDTH_OF_Q, sizeof few / CHOSEN);
    float *all = run_attention(&attention, &questions, q, k, v, NULL, CONTEXT_ROWS);
    float *alone = run_attention(&attention, &questions, few, k, v, chosen_queries, CHOSEN);
    for (int i = 0; i < CHOSEN; i++)
        assert_same_floats(alone + i * WIDTH_OF_Q, all + chosen_queries[i] * WIDTH_OF_Q, WIDTH_OF_Q,
                           "a query beside others");
    free(q), free(k), free(v), free(all), free(alone);
}

static void attention_is_within_its_bound(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 2},  {4, 2, 6},   {6, 2, 16}, {4, 4, 20},
                                        {8, 1, 64}, {4, 2, 128}, {2, 1, 256}};
    contexts questions, images, brief;
    fill_questions(&questions);
    fill_short(&brief);
    fill_images(&images);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int64_t *s = shapes[i];
        for (int chosen = 0; chosen < 2; chosen++) {
            check_attention(&questions, s[0], s[1], s[2], chosen != 0, 0.0f, 0);
            check_attention(&questions, s[0], s[1], s[2], chosen != 0, 5.0f, 65);
            check_attention(&images, s[0], s[1], s[2], chosen != 0, 0.0f, 0);
            check_attention(&brief, s[0], s[1], s[2], chosen != 0, 5.0f, 13);
        }
    }
}

static int run(const char *name) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_is_within_its_bound),
        cmocka_unit_test(a_query_does_not_depend_on_the_others),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void) { return device_main(run); }
