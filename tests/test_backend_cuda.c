/* ctest: labels=gpu timeout=300 emulated
 * Products, losses and updates of every backend against the formula in double
 * (device_support.h). Noise, updates, digests and lookups must have the CPU's bits. */
#include "device_support.h"

#include "base/update.h"

/* --- matrix product --- */

/* W (out_features, in_features) with the perturbed values, whose bits are promised. */
static float *decoded_weights(const test_weight *weight, const qzo_perturbation *perturbation) {
    const qzo_qtensor *tensor = &weight->tensor;
    int64_t groups = tensor->group_count;
    float *out = malloc((size_t)(tensor->out_features * tensor->in_features) * sizeof *out);
    float *values = malloc((size_t)(groups + 1) * sizeof *values);
    for (int64_t row = 0; row < tensor->out_features; row++) {
        qzo_noise_fill(values, perturbation->seed, tensor->tensor_id, (uint64_t)(row * groups),
                       groups, perturbation->directions);
        for (int64_t g = 0; g < groups; g++) {
            int64_t place = TEST_SPAN_OFFSET + row * groups + g;
            if (perturbation->unit != NULL)
                values[g] = qzo_scaled_direction(perturbation->unit[place], values[g]);
            values[g] = qzo_perturbed(weight->masters[place], perturbation->c, values[g]);
        }
        tensor->format->decode_row(out + row * tensor->in_features, tensor, row, values);
    }
    free(values);
    return out;
}

/* Weights rounded to the activation type, a sum in fp32 in any order, and the result's storing. */
static void product_in_double(double *out, double *limits, const float *x, const float *weights,
                              const qzo_qtensor *tensor, int64_t rows, bool wide) {
    int64_t inputs = tensor->in_features, outputs = tensor->out_features;
    double weight_rounding = ACTIVATIONS[which].rounding;
    double order = 2.0 * (double)(inputs + tensor->group_count + 16) * FLOAT_ROUNDING;
    for (int64_t i = 0; i < rows * outputs; i++) {
        const float *a = x + i / outputs * inputs, *b = weights + i % outputs * inputs;
        double sum = 0.0, magnitude = 0.0, inputs_sum = 0.0;
        for (int64_t k = 0; k < inputs; k++) {
            double term = (double)a[k] * (double)b[k];
            sum += term;
            magnitude += fabs(term);
            inputs_sum += fabs((double)a[k]);
        }
        out[i] = sum;
        limits[i] = (weight_rounding + order) * magnitude + (wide ? 0.0 : storing(sum)) + FLT_MIN;
        limits[i] += ACTIVATIONS[which].smallest * inputs_sum;
        if (!wide) limits[i] += weight_rounding * weight_rounding * magnitude;
    }
}

/* A weight with its masters and units on the device. */
typedef struct device_weight {
    const test_weight *host;
    qzo_weight *loaded;
    float *masters, *unit;
} device_weight;

static device_weight load_weight(const test_weight *weight) {
    int64_t count = TEST_SPAN_OFFSET + weight->tensor.out_features * weight->tensor.group_count;
    device_weight out = {.host = weight,
                         .masters = device_floats(weight->masters, count),
                         .unit = device_floats(weight->unit, count)};
    assert_ok(backend->ops->weight_load(backend, &out.loaded, &weight->tensor));
    return out;
}

static void drop_weight(device_weight *weight) {
    backend->ops->weight_free(backend, weight->loaded);
    drop(weight->masters), drop(weight->unit);
}

static void check_product(const device_weight *there, int kind, int64_t rows, const char *name) {
    const test_weight *weight = there->host;
    const qzo_weight *loaded = there->loaded;
    const float *masters = there->masters;
    const qzo_perturbation on_host = test_perturbation(kind, weight->unit);
    const qzo_perturbation perturbation = test_perturbation(kind, there->unit);
    int64_t in_count = rows * weight->tensor.in_features;
    int64_t out_count = rows * weight->tensor.out_features;
    double *expected = malloc((size_t)out_count * sizeof *expected);
    double *limits = malloc((size_t)out_count * sizeof *limits);
    float *x_host = test_normals(20, in_count, 1.0f), *wide = malloc((size_t)out_count * 4);
    float *weights = decoded_weights(weight, &on_host);
    for (int64_t i = 0; i < out_count; i++) wide[i] = NAN;
    qzo_act *x = device_act(x_host, in_count), *out = device_blank(out_count);
    float *logits = device_floats(wide, out_count);

    assert_ok(backend->ops->linear(backend, out, x, loaded, masters, &perturbation, rows));
    float *actual = host_act(out, out_count);
    product_in_double(expected, limits, x_host, weights, &weight->tensor, rows, false);
    assert_all_close(actual, expected, limits, out_count, name);

    assert_ok(backend->ops->logits(backend, logits, x, loaded, masters, &perturbation, rows));
    host_floats(wide, logits, out_count);
    product_in_double(expected, limits, x_host, weights, &weight->tensor, rows, true);
    assert_all_close(wide, expected, limits, out_count, name);
    drop(x), drop(out), drop(logits);
    free(expected), free(limits), free(x_host), free(wide), free(weights), free(actual);
}

static void check_weight(const test_weight *weight, const char *name) {
    static const int64_t rows_of[] = {1, 3, 8, 9, 17, 32, 33, 64};
    device_weight there = load_weight(weight);
    for (size_t r = 0; r < sizeof rows_of / sizeof *rows_of; r++)
        check_product(&there, 1, rows_of[r], name);
    for (int p = 0; p < TEST_PERTURBATIONS; p++) {
        check_product(&there, p, 2, name);
        check_product(&there, p, 40, name);
    }
    drop_weight(&there);
}

static void products_are_within_their_bounds(void **state) {
    (void)state;
    test_weights_visit(check_weight);
}

/* A kernel for few rows takes them in tiles of 8, 16 and 32. */
static void check_rows_alone(const test_weight *weight, const char *name) {
    enum { ROWS = 32, FEW = 3 };
    int64_t inputs = weight->tensor.in_features, outputs = weight->tensor.out_features;
    const qzo_perturbation clean = test_perturbation(0, NULL);
    device_weight there = load_weight(weight);
    float *x_host = test_normals(23, ROWS * inputs, 1.0f);
    float *all = malloc((size_t)(ROWS * outputs) * sizeof *all);
    float *few = malloc((size_t)(FEW * outputs) * sizeof *few);
    qzo_act *x = device_act(x_host, ROWS * inputs);
    float *out = device_floats(all, ROWS * outputs);
    assert_ok(backend->ops->logits(backend, out, x, there.loaded, there.masters, &clean, ROWS));
    host_floats(all, out, ROWS * outputs);
    assert_ok(backend->ops->logits(backend, out, x, there.loaded, there.masters, &clean, FEW));
    host_floats(few, out, FEW * outputs);
    assert_same_floats(few, all, FEW * outputs, name);
    drop(x), drop(out), drop_weight(&there);
    free(x_host), free(all), free(few);
}

static void few_rows_do_not_change_each_other(void **state) {
    (void)state;
    test_weight weight = test_weight_gptq(72, 1056, 64, false, true);
    check_rows_alone(&weight, "rows beside other rows");
    test_weight_release(&weight);
}

/* More outputs than a tile of decoded weights holds, and an uneven rest. */
static void a_product_of_several_tiles_is_within_its_bound(void **state) {
    (void)state;
    test_weight weight = test_weight_gptq(1608, 11008, 128, false, true);
    device_weight there = load_weight(&weight);
    check_product(&there, 1, 10, "several tiles");
    check_product(&there, 1, 2, "many outputs, few rows");
    drop_weight(&there);
    test_weight_release(&weight);
    test_weight others[] = {test_weight_bnb(1608, 11008, 64),
                            test_weight_aqlm(8, 2, false, 1608, 11008),
                            test_weight_gguf(QZO_GGUF_BLOCK_Q4_K, 1608, 11008, 0)};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        there = load_weight(&others[i]);
        check_product(&there, 1, 2, others[i].tensor.name);
        drop_weight(&there);
        test_weight_release(&others[i]);
    }
}

/* --- rows and elements --- */

enum { ROWS = 37, WIDTH = 48 };

/* Rows of a table of blocks whose values are at rest: the CPU's bits, and added to what is there.
 */
static void check_embedded_blocks(qzo_gguf_block kind, const int32_t *ids,
                                  const int32_t *ids_host) {
    enum { BLOCK_WIDTH = 512, COUNT = ROWS * BLOCK_WIDTH };
    static const qzo_value_group at_rest = {0};
    test_weight table = test_weight_gguf(kind, 50, BLOCK_WIDTH, 0);
    table.tensor.group = &at_rest;
    table.tensor.span = QZO_SPAN_NONE;
    const qzo_perturbation moved = test_perturbation(1, NULL);
    device_weight there = load_weight(&table);
    float *found = calloc(COUNT, sizeof *found), *wanted = calloc(COUNT, sizeof *wanted);
    float *out = device_floats(found, COUNT);
    for (int i = 0; i < ROWS; i++)
        qzo_quant_gguf.decode_row(wanted + i * BLOCK_WIDTH, &table.tensor, ids_host[i],
                                  table.masters + TEST_SPAN_OFFSET +
                                      ids_host[i] * table.tensor.group_count);
    for (int pass = 0; pass < 2; pass++) {
        assert_ok(backend->ops->embed(backend, out, there.loaded, there.masters, &moved, ids, ROWS,
                                      pass == 0 ? 1.0f : 6.7f, pass == 1));
        host_floats(found, out, COUNT);
        for (int i = 0; i < COUNT && pass == 1; i++) wanted[i] = wanted[i] + 6.7f * wanted[i];
        assert_same_floats(found, wanted, COUNT, qzo_gguf_block_suffix(kind));
    }
    drop(out), drop_weight(&there);
    test_weight_release(&table);
    free(found), free(wanted);
}

static void embed_and_gather_copy_rows(void **state) {
    (void)state;
    static const qzo_dtype dtypes[] = {QZO_DTYPE_F32, QZO_DTYPE_F16, QZO_DTYPE_BF16};
    float *x = test_normals(42, ROWS * WIDTH, 1.0f), out_host[ROWS * WIDTH], wanted[ROWS * WIDTH];
    const qzo_perturbation clean = test_perturbation(0, NULL);
    int32_t ids_host[ROWS];
    for (int i = 0; i < ROWS; i++) ids_host[i] = i * 17 % ROWS;
    int32_t *ids = device_ints(ids_host, ROWS);
    float *out = device_floats(x, ROWS * WIDTH), *residual = device_floats(x, ROWS * WIDTH);
    for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++) {
        test_weight table = test_weight_dense(50, WIDTH, dtypes[d]);
        qzo_weight *loaded = NULL;
        assert_ok(backend->ops->weight_load(backend, &loaded, &table.tensor));
        assert_ok(backend->ops->embed(backend, out, loaded, NULL, &clean, ids, ROWS, 1.0f, false));
        host_floats(out_host, out, ROWS * WIDTH);
        for (int i = 0; i < ROWS; i++)
            qzo_quant_dense.decode_row(wanted + i * WIDTH, &table.tensor, ids_host[i], NULL);
        assert_same_floats(out_host, wanted, ROWS * WIDTH, "embed");
        assert_ok(backend->ops->embed(backend, out, loaded, NULL, &clean, ids, ROWS, 6.7f, true));
        host_floats(out_host, out, ROWS * WIDTH);
        for (int i = 0; i < ROWS * WIDTH; i++) wanted[i] = wanted[i] + 6.7f * wanted[i];
        assert_same_floats(out_host, wanted, ROWS * WIDTH, "embed, scaled and added");
        backend->ops->weight_free(backend, loaded);
        test_weight_release(&table);
    }
    for (int kind = 0; kind <= QZO_GGUF_BLOCK_Q6_K; kind++)
        check_embedded_blocks((qzo_gguf_block)kind, ids, ids_host);
    assert_ok(backend->ops->gather(backend, out, residual, ids, ROWS, WIDTH));
    host_floats(out_host, out, ROWS * WIDTH);
    for (int i = 0; i < ROWS; i++)
        memcpy(wanted + i * WIDTH, x + ids_host[i] * WIDTH, WIDTH * sizeof *x);
    assert_same_floats(out_host, wanted, ROWS * WIDTH, "gather");
    drop(ids), drop(out), drop(residual);
    free(x);
}

/* Rows that begin inside a block of four normals too, and the first of them as a vector. */
static void trained_rows_have_the_promised_bits(void **state) {
    (void)state;
    enum { UNEVEN = 13, COUNT = 50 * UNEVEN };
    static const qzo_value_group wide = {8.0f, 1.0f, true, 0, 0};
    test_weight table = test_weight_trained(50, UNEVEN);
    qzo_weight *loaded = NULL;
    float found[ROWS * UNEVEN] = {0};
    int32_t ids_host[ROWS];
    for (int i = 0; i < ROWS; i++) ids_host[i] = i * 17 % ROWS;
    int32_t *ids = device_ints(ids_host, ROWS);
    float *out = device_floats(found, ROWS * UNEVEN);
    float *masters = device_floats(table.masters, TEST_SPAN_OFFSET + COUNT);
    float *unit = device_floats(table.unit, TEST_SPAN_OFFSET + COUNT);
    table.tensor.group = &wide;
    assert_ok(backend->ops->weight_load(backend, &loaded, &table.tensor));
    for (int p = 0; p < TEST_PERTURBATIONS; p++) {
        const qzo_perturbation on_host = test_perturbation(p, table.unit);
        const qzo_perturbation noise = test_perturbation(p, unit);
        float *expected = test_trained_values(&table, &on_host, on_host.c * 8.0f);
        assert_ok(
            backend->ops->embed(backend, out, loaded, masters, &noise, ids, ROWS, 1.0f, false));
        host_floats(found, out, ROWS * UNEVEN);
        for (int i = 0; i < ROWS; i++)
            assert_same_floats(found + i * UNEVEN, expected + ids_host[i] * UNEVEN, UNEVEN,
                               "embed of a table that trains");
        qzo_qtensor row = table.tensor;
        row.out_features = 1;
        assert_ok(backend->ops->perturb(backend, out, &row, masters, &noise));
        host_floats(found, out, UNEVEN);
        assert_same_floats(found, expected, UNEVEN, "perturb");
        free(expected);
    }
    backend->ops->weight_free(backend, loaded);
    drop(ids), drop(out), drop(masters), drop(unit);
    test_weight_release(&table);
}

/* --- loss --- */

static void check_log_probs(float *logits_host, int64_t vocab) {
    const int32_t rows_host[] = {0, 0, 2, 3, 3, 3};
    const int32_t ids_host[] = {0, (int32_t)vocab - 1, 1, 0, 1, 0};
    double actual[6];
    float *logits = device_floats(logits_host, 4 * vocab);
    int32_t *rows = device_ints(rows_host, 6), *ids = device_ints(ids_host, 6);
    assert_ok(backend->ops->log_probs(backend, actual, logits, rows, ids, 6, vocab));
    for (int i = 0; i < 6; i++) {
        const float *row = logits_host + rows_host[i] * vocab;
        double largest = -INFINITY, smallest = INFINITY, sum = 0.0;
        for (int64_t j = 0; j < vocab; j++) {
            largest = fmax(largest, (double)row[j]);
            smallest = fmin(smallest, (double)row[j]);
        }
        for (int64_t j = 0; j < vocab; j++) sum += exp((double)row[j] - largest);
        double expected = (double)row[ids_host[i]] - largest - log(sum);
        /* exp 2 roundings, its argument one, fp32 sums of 64 terms on the CPU. */
        double limit = (3.0 + (largest - smallest) + 68.0) * FLOAT_ROUNDING;
        qzo_test_assert_close(actual[i], expected, limit, "log_probs");
    }
    drop(logits), drop(rows), drop(ids);
}

static void log_probs_are_within_their_bound(void **state) {
    (void)state;
    static const int64_t vocabs[] = {2, 31, 511, 513, 1000, 128256};
    for (size_t i = 0; i < sizeof vocabs / sizeof *vocabs; i++) {
        float *logits = test_normals(58, 4 * vocabs[i], 6.0f);
        check_log_probs(logits, vocabs[i]);
        free(logits);
    }
}

static void bad_logits_never_look_like_a_loss(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY};
    const int32_t zero = 0;
    int32_t *place = device_ints(&zero, 1);
    for (int i = 0; i < 2; i++) {
        float logits_host[1000] = {0};
        double log_prob = 0.0;
        logits_host[777] = bad[i];
        float *logits = device_floats(logits_host, 1000);
        assert_ok(backend->ops->log_probs(backend, &log_prob, logits, place, place, 1, 1000));
        assert_true(isnan(log_prob));
        drop(logits);
    }
    drop(place);
}

/* --- the optimizer --- */

typedef struct update_case {
    const qzo_span *spans;
    int64_t span_count, value_count, gain_count;
    qzo_directions directions;
    bool is_relative, has_velocity;
} update_case;

static const float DECAY = 0.9f;

/* By the reference, span for span; returns the digest. */
static uint64_t update_on_host(float *values, const float *unit, float *velocity,
                               const update_case *c, const qzo_gain *gains) {
    uint64_t digest = 0;
    for (int64_t s = 0; s < c->span_count; s++) {
        const qzo_span *span = &c->spans[s];
        bool rests = span->group != NULL && !span->group->is_active;
        for (int64_t first = 0; first < span->count; first += CPU_UPDATE_BLOCK) {
            int64_t left = span->count - first, offset = span->offset + first;
            int64_t count = left < CPU_UPDATE_BLOCK ? left : CPU_UPDATE_BLOCK;
            const qzo_update_values block = {.masters = values + offset,
                                             .unit = c->is_relative ? unit + offset : NULL,
                                             .velocity = c->has_velocity ? velocity + offset : NULL,
                                             .decay = DECAY};
            if (!rests)
                qzo_cpu_ops_reference.update_block(&block, span, first, count, gains, c->gain_count,
                                                   c->directions);
            digest += qzo_cpu_ops_reference.digest_block(values + offset, span, first, count);
        }
    }
    return digest;
}

static void check_update(const update_case *c) {
    size_t size_bytes = (size_t)c->value_count * sizeof(float);
    float *expected = test_normals(50, c->value_count, 0.01f);
    float *drawn = test_normals(51, c->value_count, 0.02f), *actual = malloc(size_bytes);
    float *masters = device_floats(expected, c->value_count);
    float *unit = device_floats(drawn, c->value_count);
    float *speeds = test_normals(52, c->value_count, 0.01f);
    float *velocity = device_floats(speeds, c->value_count);
    qzo_gain *gains = calloc((size_t)c->gain_count, sizeof *gains);
    uint64_t digest = 0, updated = 0;
    for (int64_t g = 0; g < c->gain_count; g++)
        gains[g] = (qzo_gain){0x9e3779b97f4a7c15u * (uint64_t)(g + 1),
                              (g % 2 != 0 ? 1e-3f : -1e-2f) / (float)(g + 1)};
    uint64_t wanted = update_on_host(expected, drawn, speeds, c, gains);
    const qzo_update_values values = {.masters = masters,
                                      .unit = c->is_relative ? unit : NULL,
                                      .velocity = c->has_velocity ? velocity : NULL,
                                      .decay = DECAY};
    assert_ok(backend->ops->update(backend, &values, c->spans, c->span_count, gains, c->gain_count,
                                   c->directions, &updated));
    host_floats(actual, masters, c->value_count);
    assert_same_floats(actual, expected, c->value_count, "update");
    host_floats(actual, velocity, c->value_count);
    assert_same_floats(actual, speeds, c->value_count, "velocity");
    assert_ok(backend->ops->digest(backend, &digest, masters, c->spans, c->span_count));
    assert_true(digest == wanted);
    assert_true(updated == wanted);
    drop(masters), drop(unit), drop(velocity);
    free(expected), free(drawn), free(actual), free(gains), free(speeds);
}

/* An emulated device takes minutes for what a device does at once, and shows no more in them. */
static int64_t count_on(int64_t device, int64_t emulated) {
    return getenv("QZO_TEST_EMULATED") != NULL ? emulated : device;
}

static void updates_and_digests_have_the_promised_bits(void **state) {
    (void)state;
    const int64_t count = count_on(200003, 20011);
    static const qzo_value_group slow = {
        .eps_factor = 1.0f, .rate_factor = 0.3f, .is_active = true};
    const qzo_span spans[] = {
        {"a", 11, QZO_CONSTRAINT_POSITIVE, 1e-7f, 0, 5001, NULL},
        {"b", 12, QZO_CONSTRAINT_KEEP_SIGN, 1e-3f, 5001, 1, NULL},
        {"c", 13, QZO_CONSTRAINT_FREE, 0.0f, 5002, count - 6003, &slow},
        {"d", 14, QZO_CONSTRAINT_KEEP_SIGN, 1e-3f, count - 1001, 1001, NULL},
    };
    for (int kind = 0; kind < 4 * QZO_DIRECTIONS_COUNT; kind++)
        check_update(&(update_case){.spans = spans,
                                    .span_count = 4,
                                    .value_count = count,
                                    .gain_count = 65,
                                    .directions = (qzo_directions)(kind / 4),
                                    .is_relative = kind % 2 != 0,
                                    .has_velocity = kind / 2 % 2 != 0});
}

/* More spans than a device's table holds at a time, some of them empty or at rest. */
static void many_spans_are_updated_like_few(void **state) {
    (void)state;
    enum { SPANS = 5000, LENGTHS = 40 };
    static const qzo_value_group rests = {.eps_factor = 1.0f, .rate_factor = 1.0f};
    qzo_span *spans = calloc(SPANS, sizeof *spans);
    int64_t at = 0;
    for (int64_t i = 0; i < SPANS; i++) {
        spans[i] = (qzo_span){.name = "s",
                              .tensor_id = (uint32_t)(1000 + i),
                              .constraint = (qzo_constraint)(i % 3),
                              .floor = 1e-3f,
                              .offset = at,
                              .count = i * 7 % LENGTHS,
                              .group = i % 11 == 5 ? &rests : NULL};
        at += spans[i].count;
    }
    check_update(
        &(update_case){.spans = spans, .span_count = SPANS, .value_count = at, .gain_count = 3});
    free(spans);
}

static void ten_million_values_have_the_promised_bits(void **state) {
    (void)state;
    const int64_t count = count_on(10000019, 400009);
    const qzo_span span = {"all", 21, QZO_CONSTRAINT_POSITIVE, 1e-7f, 0, count, NULL};
    check_update(
        &(update_case){.spans = &span, .span_count = 1, .value_count = count, .gain_count = 4});
}

static int run(const char *name) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_within_their_bounds),
        cmocka_unit_test(few_rows_do_not_change_each_other),
        cmocka_unit_test(a_product_of_several_tiles_is_within_its_bound),
        cmocka_unit_test(embed_and_gather_copy_rows),
        cmocka_unit_test(trained_rows_have_the_promised_bits),
        cmocka_unit_test(log_probs_are_within_their_bound),
        cmocka_unit_test(bad_logits_never_look_like_a_loss),
        cmocka_unit_test(updates_and_digests_have_the_promised_bits),
        cmocka_unit_test(many_spans_are_updated_like_few),
        cmocka_unit_test(ten_million_values_have_the_promised_bits),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void) { return device_main(run); }
