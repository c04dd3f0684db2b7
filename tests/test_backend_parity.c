/* Every instruction set's inner loops against the reference, bit for bit, and every operation of
 * the CPU backend with 1, 2 and 3 threads against the reference's loops over all rows. Shapes lie
 * around the tiles and pieces, where a bound is off by one if it is anywhere. */
#include "backend_support.h"

#include <math.h>
#include <stdio.h>

static const cpu_ops *table; /* under test, against qzo_cpu_ops_reference */

enum { THREADS_MAX = 3, OPTIMIZED = 6126 };

static void assert_same_bits(const void *actual, const void *expected, int64_t count,
                             size_t item_bytes, const char *what) {
    const uint8_t *a = actual, *b = expected;
    for (int64_t i = 0; i < count; i++)
        if (memcmp(a + (size_t)i * item_bytes, b + (size_t)i * item_bytes, item_bytes) != 0)
            fail_msg("%s: element %lld of %lld differs from the reference", what, (long long)i,
                     (long long)count);
}

/* --- instruction sets --- */

static void linear_case(const test_weight *weight, const char *name) {
    static const int64_t rows_of[] = {1, 2, 5, 6, 7, 13};
    char what[256];
    for (size_t r = 0; r < sizeof rows_of / sizeof *rows_of; r++)
        for (int p = 0; p < TEST_PERTURBATIONS; p++) {
            int64_t rows = rows_of[r];
            const qzo_perturbation perturbation = test_perturbation(p, weight->unit);
            float *x = test_normals(20, rows * weight->tensor.in_features, 1.0f);
            float *expected = test_linear(&qzo_cpu_ops_reference, weight, x, &perturbation, rows);
            float *actual = test_linear(table, weight, x, &perturbation, rows);
            snprintf(what, sizeof what, "%s linear, %s, %d rows, c %g%s", table->name, name,
                     (int)rows, (double)perturbation.c, perturbation.unit ? ", relative" : "");
            assert_same_bits(actual, expected, rows * weight->tensor.out_features, sizeof *actual,
                             what);
            free(actual);
            free(expected);
            free(x);
        }
}

static void linear_equals_reference(void **state) {
    (void)state;
    test_weights_visit(linear_case);
}

static void norms_equal_reference(void **state) {
    (void)state;
    for (int64_t width = 1; width <= 200; width++) {
        float *x = test_normals(21, width, 3.0f), *gain = test_normals(22, width, 1.0f);
        float expected[200], actual[200];
        qzo_cpu_ops_reference.norm_row(expected, x, gain, width, 1e-5f);
        table->norm_row(actual, x, gain, width, 1e-5f);
        assert_same_bits(actual, expected, width, sizeof *actual, "norm");
        float *bias = test_normals(38, width, 1.0f);
        qzo_cpu_ops_reference.layer_norm_row(expected, x, gain, bias, width, 1e-5f);
        table->layer_norm_row(actual, x, gain, bias, width, 1e-5f);
        assert_same_bits(actual, expected, width, sizeof *actual, "layer norm");
        qzo_cpu_ops_reference.modulate_row(expected, x, bias, gain, width, 1e-6f);
        table->modulate_row(actual, x, bias, gain, width, 1e-6f);
        assert_same_bits(actual, expected, width, sizeof *actual, "modulate");
        qzo_cpu_ops_reference.add_gated_row(expected, x, gain, width);
        table->add_gated_row(actual, x, gain, width);
        assert_same_bits(actual, expected, width, sizeof *actual, "add gated");
        free(x);
        free(gain);
        free(bias);
    }
}

static void rope_equals_reference(void **state) {
    (void)state;
    for (int64_t head_dim = 2; head_dim <= 130; head_dim += 2) {
        float *expected = test_normals(23, 3 * head_dim, 1.0f);
        float *actual = test_normals(23, 3 * head_dim, 1.0f);
        float *row = test_normals(24, head_dim, 0.7f);
        qzo_cpu_ops_reference.rope_row(expected, row, 3, head_dim);
        table->rope_row(actual, row, 3, head_dim);
        assert_same_bits(actual, expected, 3 * head_dim, sizeof *actual, "rope");
        free(expected);
        free(actual);
        free(row);
    }
}

/* Values from NaN to the largest; NaN compares by being one. */
static float *drawn_with_extremes(uint32_t stream, int64_t count) {
    static const float extremes[] = {-INFINITY, INFINITY, -0.0f,  0.0f,   -87.5f,
                                     88.5f,     -3e38f,   1e-45f, -1e-40f};
    float *out = test_normals(stream, count, 20.0f);
    for (size_t i = 0; i < sizeof extremes / sizeof *extremes && (int64_t)i * 7 < count; i++)
        out[i * 7] = extremes[i];
    return out;
}

static void activations_equal_reference(void **state) {
    (void)state;
    char what[64];
    for (int kind = 0; kind < QZO_ACTIVATION_COUNT; kind++)
        for (int64_t count = 1; count <= 130; count++)
            for (int gated = 0; gated < 2; gated++) {
                float *expected = drawn_with_extremes(25, count);
                float *actual = drawn_with_extremes(25, count);
                float *up = test_normals(26, count, 1.0f);
                qzo_cpu_ops_reference.activations[kind](expected, gated ? up : NULL, count);
                table->activations[kind](actual, gated ? up : NULL, count);
                snprintf(what, sizeof what, "activation %d", kind);
                assert_same_bits(actual, expected, count, sizeof *actual, what);
                free(expected);
                free(actual);
                free(up);
            }
}

static void soft_cap_equals_reference(void **state) {
    (void)state;
    for (int64_t count = 1; count <= 130; count++) {
        float *expected = drawn_with_extremes(39, count), *actual = drawn_with_extremes(39, count);
        qzo_cpu_ops_reference.soft_cap(expected, count, 30.0f);
        table->soft_cap(actual, count, 30.0f);
        assert_same_bits(actual, expected, count, sizeof *actual, "soft cap");
        free(expected);
        free(actual);
    }
}

static void add_equals_reference(void **state) {
    (void)state;
    for (int64_t count = 1; count <= 130; count++) {
        float *expected = test_normals(27, count, 1.0f), *actual = test_normals(27, count, 1.0f);
        float *x = test_normals(28, count, 1e-3f);
        qzo_cpu_ops_reference.add(expected, x, count);
        table->add(actual, x, count);
        assert_same_bits(actual, expected, count, sizeof *actual, "add");
        qzo_cpu_ops_reference.add_scaled(expected, x, 1.7f, count);
        table->add_scaled(actual, x, 1.7f, count);
        assert_same_bits(actual, expected, count, sizeof *actual, "add_scaled");
        free(expected);
        free(actual);
        free(x);
    }
}

static void log_sum_exp_equals_reference(void **state) {
    (void)state;
    static const int64_t counts[] = {1, 2, 15, 16, 17, 1000, 1023, 1024, 1025, 1041, 5003, 32000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        float *logits = test_normals(29, counts[i], 6.0f);
        if (counts[i] > 2) logits[1] = -INFINITY;
        double expected = qzo_cpu_ops_reference.log_sum_exp(logits, counts[i]);
        double actual = table->log_sum_exp(logits, counts[i]);
        assert_true(isfinite(expected));
        assert_same_bits(&actual, &expected, 1, sizeof actual, "log_sum_exp");
        for (int bad = 0; bad < 2; bad++) { /* NaN and infinity must not look like a loss */
            logits[counts[i] / 2] = bad != 0 ? INFINITY : NAN;
            assert_true(isnan(qzo_cpu_ops_reference.log_sum_exp(logits, counts[i])));
            assert_true(isnan(table->log_sum_exp(logits, counts[i])));
        }
        free(logits);
    }
}

/* Rows 0 .. 9 are a shared prefix, 10 .. 19 continue it, 20 .. 59 are a question of their own. */
enum {
    CONTEXT_ROWS = 60,
    SCORE_FLOATS = (CONTEXT_ROWS + CPU_ATTENTION_LANES) * CPU_ATTENTION_LANES
};

static void context_arrays(int32_t begin[CONTEXT_ROWS], int32_t end[CONTEXT_ROWS],
                           int32_t own[CONTEXT_ROWS]) {
    for (int row = 0; row < CONTEXT_ROWS; row++) {
        bool branch = row >= 10 && row < 20;
        begin[row] = row < 20 ? 0 : 20;
        end[row] = branch ? 10 : begin[row];
        own[row] = branch ? 10 : begin[row];
    }
}

/* Windows shorter and longer than a context, with and without a cap. */
static const struct {
    int64_t window;
    float score_cap;
} score_kinds[] = {{0, 0.0f}, {1, 0.0f}, {13, 5.0f}, {100, 5.0f}};
enum { SCORE_KINDS = sizeof score_kinds / sizeof *score_kinds };

/* Which queries share a block does not matter, as long as they are of one text. */
static void attention_equals_reference(void **state) {
    (void)state;
    static const int64_t blocks[][2] = {
        {0, 7}, {7, 13}, {20, 1}, {21, 16}, {37, CONTEXT_ROWS - 37}};
    static float scores[SCORE_FLOATS];
    static const int64_t shapes[][3] = {{1, 1, 2}, {4, 2, 6}, {6, 2, 16}, {4, 4, 20}, {8, 1, 64}};
    int32_t begin[CONTEXT_ROWS], end[CONTEXT_ROWS], own[CONTEXT_ROWS];
    context_arrays(begin, end, own);
    for (size_t i = 0; i < SCORE_KINDS * sizeof shapes / sizeof *shapes; i++) {
        const int64_t *shape = shapes[i / SCORE_KINDS];
        int64_t heads = shape[0], kv_heads = shape[1], dim = shape[2];
        qzo_attention attention = {.prefix_begin = begin,
                                   .prefix_end = end,
                                   .own_begin = own,
                                   .context_max = CONTEXT_ROWS,
                                   .head_count = heads,
                                   .kv_head_count = kv_heads,
                                   .head_dim = dim,
                                   .scale = 1.0f / sqrtf((float)dim),
                                   .score_cap = score_kinds[i % SCORE_KINDS].score_cap,
                                   .window = score_kinds[i % SCORE_KINDS].window};
        float *q = test_normals(30, CONTEXT_ROWS * heads * dim, 2.0f);
        float *k = test_normals(31, CONTEXT_ROWS * kv_heads * dim, 2.0f);
        float *v = test_normals(32, CONTEXT_ROWS * kv_heads * dim, 1.0f);
        float *expected = test_normals(33, CONTEXT_ROWS * heads * dim, 1.0f);
        float *actual = test_normals(34, CONTEXT_ROWS * heads * dim, 1.0f);
        for (int64_t row = 0; row < CONTEXT_ROWS; row++)
            qzo_cpu_ops_reference.attention_block(expected, q, k, v, &attention, row, 1, scores);
        for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++)
            table->attention_block(actual, q, k, v, &attention, blocks[b][0], blocks[b][1], scores);
        assert_same_bits(actual, expected, CONTEXT_ROWS * heads * dim, sizeof *actual, "attention");
        free(q);
        free(k);
        free(v);
        free(expected);
        free(actual);
    }
}

static void update_and_digest_equal_reference(void **state) {
    (void)state;
    static const int64_t firsts[] = {0, 1, 5, 1024, ((int64_t)1 << 34) - 30};
    static const int64_t counts[] = {1, 3, 4, 5, 63, 1000, 1023, 1024};
    const qzo_gain gains[] = {{1, 1e-3f}, {2, -0.5f}, {3, 0.0f}, {4, 2e-3f}, {5, 1e-8f}};
    for (int constraint = QZO_CONSTRAINT_FREE; constraint <= QZO_CONSTRAINT_KEEP_SIGN; constraint++)
        for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++)
            for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
                qzo_span span = {.tensor_id = 0x12345678u,
                                 .constraint = (qzo_constraint)constraint,
                                 .floor = 1e-7f};
                float *expected = test_normals(35, counts[c], 0.4f);
                float *actual = test_normals(35, counts[c], 0.4f);
                float *drawn = test_normals(36, counts[c], 2.0f);
                float *speeds[2] = {test_normals(37, counts[c], 0.1f),
                                    test_normals(37, counts[c], 0.1f)};
                qzo_update_values values = {.masters = expected,
                                            .unit = c % 2 == 0 ? drawn : NULL,
                                            .velocity = f % 2 == 0 ? speeds[0] : NULL,
                                            .decay = 0.9f};
                qzo_cpu_ops_reference.update_block(&values, &span, firsts[f], counts[c], gains, 5,
                                                   QZO_DIRECTIONS_GAUSSIAN);
                values.masters = actual;
                if (f % 2 == 0) values.velocity = speeds[1];
                table->update_block(&values, &span, firsts[f], counts[c], gains, 5,
                                    QZO_DIRECTIONS_GAUSSIAN);
                free(drawn);
                assert_same_bits(actual, expected, counts[c], sizeof *actual, "update");
                assert_same_bits(speeds[1], speeds[0], counts[c], sizeof *actual, "velocity");
                free(speeds[0]);
                free(speeds[1]);
                assert_true(
                    table->digest_block(actual, &span, firsts[f], counts[c]) ==
                    qzo_cpu_ops_reference.digest_block(expected, &span, firsts[f], counts[c]));
                free(expected);
                free(actual);
            }
}

/* --- threads --- */

static qzo_backend *backend;

static qzo_act *act(float *values) { return (qzo_act *)values; }

static void linear_over_the_backend(const test_weight *weight, const char *name) {
    enum { ROWS = 7 };
    qzo_weight *loaded = NULL;
    float *x = test_normals(40, ROWS * weight->tensor.in_features, 1.0f);
    float *out = test_normals(41, ROWS * weight->tensor.out_features, 1.0f);
    assert_ok(backend->ops->weight_load(backend, &loaded, &weight->tensor));
    for (int p = 0; p < TEST_PERTURBATIONS; p++) {
        const qzo_perturbation perturbation = test_perturbation(p, weight->unit);
        float *expected = test_linear(&qzo_cpu_ops_reference, weight, x, &perturbation, ROWS);
        assert_ok(backend->ops->linear(backend, act(out), act(x), loaded, weight->masters,
                                       &perturbation, ROWS));
        assert_same_bits(out, expected, ROWS * weight->tensor.out_features, sizeof *out, name);
        assert_ok(backend->ops->logits(backend, out, act(x), loaded, weight->masters, &perturbation,
                                       ROWS));
        assert_same_bits(out, expected, ROWS * weight->tensor.out_features, sizeof *out, name);
        free(expected);
    }
    backend->ops->weight_free(backend, loaded);
    free(x);
    free(out);
}

enum { ROWS = 37, WIDTH = 48, ELEMENTS = 40000 };

static void row_operations_over_the_backend(void) {
    test_weight embedding = test_weight_dense(50, WIDTH, QZO_DTYPE_F16);
    qzo_weight *loaded = NULL;
    float *x = test_normals(42, ROWS * WIDTH, 1.0f), *gain = test_normals(43, WIDTH, 1.0f);
    float *cosines = test_normals(44, ROWS * 16, 1.0f); /* heads of 16: rows of the rotary table */
    float out[ROWS * WIDTH], expected[ROWS * WIDTH];
    const qzo_perturbation clean = test_perturbation(0, NULL);
    int32_t ids[ROWS];
    for (int i = 0; i < ROWS; i++) ids[i] = i * 17 % ROWS;
    assert_ok(backend->ops->weight_load(backend, &loaded, &embedding.tensor));
    assert_ok(backend->ops->embed(backend, out, loaded, embedding.masters, &clean, ids, ROWS, 1.0f,
                                  false));
    for (int i = 0; i < ROWS; i++)
        qzo_quant_dense.decode_row(expected + i * WIDTH, &embedding.tensor, ids[i], NULL);
    assert_same_bits(out, expected, ROWS * WIDTH, sizeof *out, "embed");
    memcpy(out, x, sizeof out);
    assert_ok(backend->ops->embed(backend, out, loaded, embedding.masters, &clean, ids, ROWS, 6.7f,
                                  true));
    for (int i = 0; i < ROWS * WIDTH; i++) expected[i] = x[i] + 6.7f * expected[i];
    assert_same_bits(out, expected, ROWS * WIDTH, sizeof *out, "embed, scaled and added");

    assert_ok(
        backend->ops->norm(backend, act(out), x, gain, NULL, ROWS, WIDTH, QZO_NORM_RMS, 1e-6f));
    for (int i = 0; i < ROWS; i++)
        qzo_cpu_ops_reference.norm_row(expected + i * WIDTH, x + i * WIDTH, gain, WIDTH, 1e-6f);
    assert_same_bits(out, expected, ROWS * WIDTH, sizeof *out, "norm");
    assert_ok(
        backend->ops->norm(backend, act(out), x, gain, x, ROWS, WIDTH, QZO_NORM_LAYER, 1e-6f));
    for (int i = 0; i < ROWS; i++)
        qzo_cpu_ops_reference.layer_norm_row(expected + i * WIDTH, x + i * WIDTH, gain, x, WIDTH,
                                             1e-6f);
    assert_same_bits(out, expected, ROWS * WIDTH, sizeof *out, "layer norm");

    memcpy(out, x, sizeof out);
    assert_ok(backend->ops->add_bias(backend, act(out), gain, ROWS, WIDTH));
    for (int i = 0; i < ROWS * WIDTH; i++) expected[i] = x[i] + gain[i % WIDTH];
    assert_same_bits(out, expected, ROWS * WIDTH, sizeof *out, "add_bias");

    for (int named = 0; named < 2; named++) {
        assert_ok(backend->ops->select(backend, act(out), act(x), named ? ids : NULL, ROWS, WIDTH,
                                       5, 11));
        for (int i = 0; i < ROWS; i++)
            memcpy(expected + i * 11, x + (named ? ids[i] : i) * WIDTH + 5, 11 * sizeof *x);
        assert_same_bits(out, expected, ROWS * 11, sizeof *out, "select");
    }

    assert_ok(backend->ops->scatter(backend, act(out), act(x), ids, ROWS, WIDTH));
    for (int i = 0; i < ROWS; i++)
        memcpy(expected + ids[i] * WIDTH, x + i * WIDTH, WIDTH * sizeof *x);
    assert_same_bits(out, expected, ROWS * WIDTH, sizeof *out, "scatter");

    assert_ok(backend->ops->gather(backend, out, x, ids, ROWS, WIDTH));
    for (int i = 0; i < ROWS; i++)
        memcpy(expected + i * WIDTH, x + ids[i] * WIDTH, WIDTH * sizeof *x);
    assert_same_bits(out, expected, ROWS * WIDTH, sizeof *out, "gather");

    assert_ok(backend->ops->rope(backend, act(out), ids, cosines, ROWS, WIDTH / 16, 16));
    for (int i = 0; i < ROWS; i++)
        qzo_cpu_ops_reference.rope_row(expected + i * WIDTH, cosines + ids[i] * 16, WIDTH / 16, 16);
    assert_same_bits(out, expected, ROWS * WIDTH, sizeof *out, "rope");
    backend->ops->weight_free(backend, loaded);
    test_weight_release(&embedding);
    free(x);
    free(gain);
    free(cosines);
}

/* Rows of a table that trains, and the first of them as a vector, in groups with an eps of their
 * own. */
static void trained_rows_over_the_backend(void) {
    static const qzo_value_group wide = {8.0f, 1.0f, true, 0, 0},
                                 at_rest = {8.0f, 1.0f, false, 0, 0};
    test_weight table_of_rows = test_weight_trained(50, WIDTH);
    qzo_weight *loaded = NULL;
    float out[ROWS * WIDTH];
    int32_t ids[ROWS];
    for (int i = 0; i < ROWS; i++) ids[i] = i * 17 % ROWS;
    assert_ok(backend->ops->weight_load(backend, &loaded, &table_of_rows.tensor));
    for (int p = 0; p < 3 * TEST_PERTURBATIONS; p++) {
        const qzo_perturbation noise = test_perturbation(p / 3, table_of_rows.unit);
        const qzo_value_group *group = p % 3 == 0 ? NULL : p % 3 == 1 ? &wide : &at_rest;
        float c = group == &wide ? noise.c * 8.0f : group == NULL ? noise.c : 0.0f;
        float *expected = test_trained_values(&table_of_rows, &noise, c);
        table_of_rows.tensor.group = group;
        assert_ok(backend->ops->embed(backend, out, loaded, table_of_rows.masters, &noise, ids,
                                      ROWS, 1.0f, false));
        for (int i = 0; i < ROWS; i++)
            assert_same_bits(out + i * WIDTH, expected + ids[i] * WIDTH, WIDTH, sizeof *out,
                             "embed of a table that trains");
        qzo_qtensor row = table_of_rows.tensor;
        row.out_features = 1;
        assert_ok(backend->ops->perturb(backend, out, &row, table_of_rows.masters, &noise));
        assert_same_bits(out, expected, WIDTH, sizeof *out, "perturb");
        free(expected);
    }
    backend->ops->weight_free(backend, loaded);
    test_weight_release(&table_of_rows);
}

static void attention_over_the_backend(void) {
    int32_t begin[CONTEXT_ROWS], end[CONTEXT_ROWS], own[CONTEXT_ROWS];
    const int32_t queries[] = {9, 19, 59, 20, 0, 10};
    float *q = test_normals(45, CONTEXT_ROWS * 64, 1.0f), *k = test_normals(46, 60 * 32, 1.0f);
    float *v = test_normals(47, 60 * 32, 1.0f);
    static float scores[SCORE_FLOATS];
    static float out[CONTEXT_ROWS * 64], expected[CONTEXT_ROWS * 64];
    context_arrays(begin, end, own);
    qzo_attention attention = {.prefix_begin = begin,
                               .prefix_end = end,
                               .own_begin = own,
                               .context_max = CONTEXT_ROWS,
                               .head_count = 4,
                               .kv_head_count = 2,
                               .head_dim = 16,
                               .scale = 0.25f};
    assert_ok(backend->ops->reserve(backend, CONTEXT_ROWS, false));
    for (int chosen = 0; chosen < 2; chosen++) {
        int64_t count = chosen != 0 ? 6 : CONTEXT_ROWS;
        attention.query_rows = chosen != 0 ? queries : NULL;
        assert_ok(
            backend->ops->attention(backend, act(out), act(q), act(k), act(v), &attention, count));
        for (int64_t i = 0; i < count; i++)
            qzo_cpu_ops_reference.attention_block(expected, q, k, v, &attention, i, 1, scores);
        assert_same_bits(out, expected, count * 64, sizeof *out, "attention");
    }
    free(q);
    free(k);
    free(v);
}

static void element_operations_over_the_backend(void) {
    float *gate = test_normals(48, ELEMENTS, 4.0f), *expected = test_normals(48, ELEMENTS, 4.0f);
    float *up = test_normals(49, ELEMENTS, 1.0f);
    for (int kind = 0; kind < QZO_ACTIVATION_COUNT; kind++)
        for (int gated = 1; gated >= 0; gated--) {
            assert_ok(backend->ops->activate(backend, act(gate), gated ? act(up) : NULL, ELEMENTS,
                                             (qzo_activation)kind));
            qzo_cpu_ops_reference.activations[kind](expected, gated ? up : NULL, ELEMENTS);
            assert_same_bits(gate, expected, ELEMENTS, sizeof *gate, "activate");
        }
    assert_ok(backend->ops->soft_cap(backend, gate, ELEMENTS, 2.5f));
    qzo_cpu_ops_reference.soft_cap(expected, ELEMENTS, 2.5f);
    assert_same_bits(gate, expected, ELEMENTS, sizeof *gate, "soft_cap");
    assert_ok(backend->ops->narrow(backend, act(expected), up, ELEMENTS));
    assert_ok(backend->ops->widen(backend, gate, act(expected), ELEMENTS));
    assert_same_bits(gate, up, ELEMENTS, sizeof *gate, "narrow and widen");
    assert_ok(backend->ops->add(backend, gate, act(up), ELEMENTS));
    qzo_cpu_ops_reference.add(expected, up, ELEMENTS);
    assert_same_bits(gate, expected, ELEMENTS, sizeof *gate, "add");
    assert_ok(backend->ops->add_scaled(backend, act(gate), act(up), 1.7f, ELEMENTS));
    for (int i = 0; i < ELEMENTS; i++) expected[i] = fmaf(1.7f, up[i], expected[i]);
    assert_same_bits(gate, expected, ELEMENTS, sizeof *gate, "add_scaled");

    const int32_t rows[] = {0, 0, 2, 3, 3, 39}, ids[] = {5, 6, 999, 0, 1, 7};
    double log_probs[6], wanted[6];
    assert_ok(backend->ops->log_probs(backend, log_probs, up, rows, ids, 6, 1000));
    for (int i = 0; i < 6; i++)
        wanted[i] = (double)up[rows[i] * 1000 + ids[i]] -
                    qzo_cpu_ops_reference.log_sum_exp(up + rows[i] * 1000, 1000);
    assert_same_bits(log_probs, wanted, 6, sizeof *wanted, "log_probs");
    free(gate);
    free(expected);
    free(up);
}

/* A whole span as one block after the other: pieces must tile it without a seam. */
static void optimizer_over_the_backend(const float *unit, bool has_velocity) {
    static const qzo_value_group slow = {1.0f, 0.3f, true, 0, 0},
                                 at_rest = {1.0f, 1.0f, false, 0, 0};
    const qzo_span spans[] = {
        {"a", 11, QZO_CONSTRAINT_POSITIVE, 1e-7f, 0, 5001, NULL},
        {"b", 12, QZO_CONSTRAINT_KEEP_SIGN, 1e-3f, 5001, 1, NULL},
        {"c", 13, QZO_CONSTRAINT_FREE, 0.0f, 5002, 1024, &slow},
        {"d", 14, QZO_CONSTRAINT_POSITIVE, 1e-7f, 6026, 100, &at_rest},
    };
    const qzo_gain gains[] = {{21, 1e-2f}, {22, -3e-3f}, {23, 7e-4f}};
    float *masters = test_normals(50, OPTIMIZED, 0.01f);
    float *expected = test_normals(50, OPTIMIZED, 0.01f);
    float *velocity = test_normals(52, OPTIMIZED, 0.01f);
    float *expected_velocity = test_normals(52, OPTIMIZED, 0.01f);
    uint64_t digest = 0, updated = 0, wanted = 0;
    const qzo_update_values values = {.masters = masters,
                                      .unit = unit,
                                      .velocity = has_velocity ? velocity : NULL,
                                      .decay = 0.9f};
    assert_ok(backend->ops->update(backend, &values, spans, 4, gains, 3, QZO_DIRECTIONS_GAUSSIAN,
                                   &updated));
    for (int s = 0; s < 4; s++)
        for (int64_t first = 0; first < spans[s].count; first += CPU_UPDATE_BLOCK) {
            int64_t left = spans[s].count - first, offset = spans[s].offset + first;
            int64_t count = left < CPU_UPDATE_BLOCK ? left : CPU_UPDATE_BLOCK;
            float *at = expected + offset;
            const qzo_update_values block = {.masters = at,
                                             .unit = unit == NULL ? NULL : unit + offset,
                                             .velocity =
                                                 has_velocity ? expected_velocity + offset : NULL,
                                             .decay = 0.9f};
            if (s < 3)
                qzo_cpu_ops_reference.update_block(&block, &spans[s], first, count, gains, 3,
                                                   QZO_DIRECTIONS_GAUSSIAN);
            wanted += qzo_cpu_ops_reference.digest_block(at, &spans[s], first, count);
        }
    assert_same_bits(masters, expected, OPTIMIZED, sizeof *masters, "update");
    assert_same_bits(velocity, expected_velocity, OPTIMIZED, sizeof *velocity, "velocity");
    assert_ok(backend->ops->digest(backend, &digest, masters, spans, 4));
    assert_true(digest == wanted);
    assert_true(updated == wanted);
    free(masters);
    free(expected);
    free(velocity);
    free(expected_velocity);
}

static void operations_equal_the_reference_whatever_the_threads(void **state) {
    (void)state;
    float *unit = test_normals(51, OPTIMIZED, 0.02f);
    for (int level = QZO_CPU_BASELINE; level <= QZO_CPU_AVX512; level++)
        for (int threads = 1; threads <= THREADS_MAX; threads++) {
            const qzo_backend_options options = {.thread_count = threads};
            qzo_cpu_limit((qzo_cpu_level)level);
            assert_ok(qzo_backend_cpu_open(&backend, &options));
            qzo_cpu_limit(QZO_CPU_WIDEST);
            test_weights_visit(linear_over_the_backend);
            row_operations_over_the_backend();
            trained_rows_over_the_backend();
            attention_over_the_backend();
            element_operations_over_the_backend();
            optimizer_over_the_backend(NULL, false);
            optimizer_over_the_backend(unit, false);
            optimizer_over_the_backend(unit, true);
            qzo_backend_close(backend);
        }
    free(unit);
}

static int run_table(const cpu_ops *ops, qzo_cpu_level level) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_equals_reference),
        cmocka_unit_test(norms_equal_reference),
        cmocka_unit_test(rope_equals_reference),
        cmocka_unit_test(activations_equal_reference),
        cmocka_unit_test(soft_cap_equals_reference),
        cmocka_unit_test(add_equals_reference),
        cmocka_unit_test(log_sum_exp_equals_reference),
        cmocka_unit_test(attention_equals_reference),
        cmocka_unit_test(update_and_digest_equal_reference),
    };
    if (qzo_cpu() < level) {
        print_message("not run: %s, this processor lacks it\n", ops->name);
        return 0;
    }
    table = ops;
    return cmocka_run_group_tests_name(ops->name, tests, NULL, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operations_equal_the_reference_whatever_the_threads),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
#if defined(__x86_64__)
    failed += run_table(&qzo_cpu_ops_avx2, QZO_CPU_AVX2);
    failed += run_table(&qzo_cpu_ops_avx512, QZO_CPU_AVX512);
#endif
    return failed;
}
