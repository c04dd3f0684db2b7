/* The CPU backend's bf16 products: every instruction set bit for bit against the sum that Intel's
 * manual states for TDPBF16PS, written here as plain loops, and that sum against the fp32 reference
 * within what rounding two operands to bf16 can do (docs/error-analysis.md, "bf16 products"). */
#include "backend_support.h"

#include "backend/cpu_bf16.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

enum { BLOCK = 32, LARGEST_ROWS = CPU_BF16_ROWS_MAX + 21 };

static const qzo_perturbation perturbations[] = {
    {.seed = 1},
    {.seed = 0xfedcba9876543210u, .c = 1e-3f},
    {.seed = 2, .c = -0.05f, .directions = QZO_DIRECTIONS_RADEMACHER},
};
enum { PERTURBATION_COUNT = sizeof perturbations / sizeof *perturbations };

static const cpu_bf16_ops *table; /* under test */
static float x_scale = 1.0f;

/* --- the definition --- */

/* The instruction reads and gives zero for a subnormal number. */
static float flushed(float value) {
    return fabsf(value) < FLT_MIN ? copysignf(0.0f, value) : value;
}

static float rounded(float value) { return flushed(qzo_bf16_to_float(qzo_float_to_bf16(value))); }

/* `count` numbers of either operand, rounded before. */
static float defined_sum(const float *x, const float *w, int64_t count) {
    float sum = 0.0f;
    for (int64_t k = 0; k < count; k += BLOCK) {
        float chains[2] = {0.0f, 0.0f};
        for (int64_t i = k; i < k + BLOCK && i < count; i++)
            chains[i % 2] = flushed(fmaf(x[i], w[i], chains[i % 2]));
        sum = flushed(sum + flushed(chains[0] + chains[1]));
    }
    return sum;
}

/* W in fp32 with the perturbed values; the caller frees. */
static float *decoded(const test_weight *weight, const qzo_perturbation *perturbation) {
    const qzo_qtensor *tensor = &weight->tensor;
    int64_t groups = tensor->group_count;
    float *out = malloc((size_t)(tensor->out_features * tensor->in_features) * sizeof *out);
    float *values = malloc((size_t)(groups + 1) * sizeof *values);
    float *z = malloc((size_t)(groups + 1) * sizeof *z);
    for (int64_t o = 0; o < tensor->out_features; o++) {
        qzo_noise_fill(z, perturbation->seed, tensor->tensor_id, (uint64_t)(o * groups), groups,
                       perturbation->directions);
        for (int64_t g = 0; g < groups; g++)
            values[g] =
                fmaf(perturbation->c, z[g], weight->masters[tensor->span_offset + o * groups + g]);
        tensor->format->decode_row(out + o * tensor->in_features, tensor, o,
                                   groups > 0 ? values : NULL);
    }
    free(values);
    free(z);
    return out;
}

static void round_all(float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++) values[i] = rounded(values[i]);
}

/* out (rows, out_features); the caller frees. */
static float *defined_linear(const test_weight *weight, const float *x,
                             const qzo_perturbation *perturbation, int64_t rows) {
    int64_t in = weight->tensor.in_features, outputs = weight->tensor.out_features;
    float *w = decoded(weight, perturbation), *out = malloc((size_t)(rows * outputs) * sizeof *out);
    float *x_rounded = malloc((size_t)(rows * in) * sizeof *x_rounded);
    memcpy(x_rounded, x, (size_t)(rows * in) * sizeof *x_rounded);
    round_all(w, outputs * in);
    round_all(x_rounded, rows * in);
    for (int64_t t = 0; t < rows; t++)
        for (int64_t o = 0; o < outputs; o++)
            out[t * outputs + o] = defined_sum(x_rounded + t * in, w + o * in, in);
    free(x_rounded);
    free(w);
    return out;
}

/* --- one table --- */

/* The table's product in memory of exactly the sizes that it asks for; the caller frees. */
static float *linear_of_table(const test_weight *weight, const float *x,
                              const qzo_perturbation *perturbation, int64_t rows, int threads) {
    int64_t count = rows * weight->tensor.out_features;
    int64_t scratch_floats = (table->scratch_floats(&weight->tensor) + 15) / 16 * 16;
    float *out = malloc((size_t)(count + 1) * sizeof *out);
    float *scratch = aligned_alloc(64, (size_t)(threads * scratch_floats) * sizeof *scratch);
    uint16_t *packed = aligned_alloc(64, (size_t)table->packed_bytes(&weight->tensor));
    qzo_thread_pool *pool = NULL;
    assert_ok(qzo_thread_pool_open(&pool, threads));
    for (int64_t i = 0; i <= count; i++) out[i] = 1e30f; /* what is not written shows */
    const cpu_linear job = {.out = out,
                            .x = x,
                            .weight = &weight->tensor,
                            .masters = weight->masters,
                            .perturbation = *perturbation,
                            .rows = rows,
                            .packed = packed};
    qzo_cpu_bf16_linear(table, pool, &job, scratch, scratch_floats);
    assert_true(out[count] == 1e30f);
    qzo_thread_pool_close(pool);
    free(packed);
    free(scratch);
    return out;
}

static void assert_same_bits(const float *actual, const float *expected, int64_t count,
                             const char *what) {
    for (int64_t i = 0; i < count; i++)
        if (memcmp(actual + i, expected + i, sizeof *actual) != 0)
            fail_msg("%s: element %lld of %lld is %.9g, expected %.9g", what, (long long)i,
                     (long long)count, (double)actual[i], (double)expected[i]);
}

static void compare_with_definition(const test_weight *weight, const char *name, int64_t rows,
                                    int threads) {
    char what[256];
    int64_t outputs = weight->tensor.out_features;
    float *x = test_normals(20, rows * weight->tensor.in_features, x_scale);
    for (int p = 0; p < PERTURBATION_COUNT; p++) {
        float *expected = defined_linear(weight, x, &perturbations[p], rows);
        float *actual = linear_of_table(weight, x, &perturbations[p], rows, threads);
        snprintf(what, sizeof what, "%s, %s, %d rows, %d threads, c %g", table->name, name,
                 (int)rows, threads, (double)perturbations[p].c);
        assert_same_bits(actual, expected, rows * outputs, what);
        free(actual);
        free(expected);
    }
    free(x);
}

static void small_case(const test_weight *weight, const char *name) {
    static const int64_t rows[] = {1, 5, 16, 17, 33};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        compare_with_definition(weight, name, rows[i], 1);
}

static void products_are_those_that_the_instruction_defines(void **state) {
    (void)state;
    test_weights_visit(small_case);
}

/* Several pieces of outputs, blocks of inputs and passes over the rows, none of them whole. */
static void large_shapes_have_no_seams(void **state) {
    (void)state;
    test_weight weight = test_weight_gptq(328, 1160, 128, false, false);
    for (int threads = 1; threads <= 3; threads++)
        compare_with_definition(&weight, "gptq (328, 1160) groups of 128", 40, threads);
    test_weight_release(&weight);
    weight = test_weight_gptq(72, 96, 32, false, true);
    compare_with_definition(&weight, "gptq (72, 96) groups of 32", LARGEST_ROWS, 2);
    test_weight_release(&weight);
}

/* A format that the fast decoders do not know goes by its own decode_row. */
static void any_format_will_do(void **state) {
    (void)state;
    qzo_quant_format unknown = qzo_quant_gptq;
    test_weight weight = test_weight_gptq(72, 600, 0, false, false);
    unknown.layout = QZO_LAYOUT_OTHER;
    weight.tensor.format = &unknown;
    compare_with_definition(&weight, "a format without a panel", 17, 2);
    test_weight_release(&weight);
}

/* A row alone and the same row among others. */
static void rows_do_not_depend_on_their_neighbours(void **state) {
    (void)state;
    test_weight weight = test_weight_gptq(136, 520, 0, false, false);
    float *x = test_normals(21, LARGEST_ROWS * 520, 1.0f);
    float *together = linear_of_table(&weight, x, &perturbations[1], LARGEST_ROWS, 1);
    for (int64_t t = 0; t < LARGEST_ROWS; t += 13) {
        float *alone = linear_of_table(&weight, x + t * 520, &perturbations[1], 1, 1);
        assert_same_bits(together + t * 136, alone, 136, "a row alone");
        free(alone);
    }
    free(together);
    free(x);
    test_weight_release(&weight);
}

/* Products around 1e-38: subnormal operands, products and sums count as zero. */
static void subnormal_numbers_count_as_zero(void **state) {
    (void)state;
    static const float scales[] = {1e-34f, 1e-36f, 1e-38f};
    test_weight weight = test_weight_gptq(72, 264, 128, true, false);
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        x_scale = scales[i];
        compare_with_definition(&weight, "tiny activations", 17, 1);
    }
    x_scale = 1.0f;
    test_weight_release(&weight);
}

static void one_nan_stays_in_its_row(void **state) {
    (void)state;
    test_weight weight = test_weight_dense(65, 300, QZO_DTYPE_F16);
    float *x = test_normals(22, 20 * 300, 1.0f);
    x[3 * 300 + 7] = NAN;
    x[4 * 300 + 8] = INFINITY;
    float *out = linear_of_table(&weight, x, &perturbations[0], 20, 1);
    for (int t = 0; t < 20; t++)
        for (int o = 0; o < 65; o++) {
            if (t == 3) assert_true(isnan(out[t * 65 + o]));
            if (t == 4) assert_false(isfinite(out[t * 65 + o]));
            if (t != 3 && t != 4) assert_true(isfinite(out[t * 65 + o]));
        }
    free(out);
    free(x);
    test_weight_release(&weight);
}

/* --- against fp32 --- */

/* u is half a unit in the last place of 1, in bf16 and in fp32. */
static const double UNIT_BF16 = 0x1p-8, UNIT = 0x1p-24;

/* Both operands are rounded once to bf16; a chain has 16 fma, one sum joins two chains, one more
 * per 32 inputs follows; the reference has one fma per input. */
static double product_error(int64_t in_features) {
    double blocks = ceil((double)in_features / BLOCK);
    double fp32 = (double)in_features + BLOCK / 2 + 1.0 + blocks;
    return (1.0 + UNIT_BF16) * (1.0 + UNIT_BF16) - 1.0 + 1.01 * fp32 * UNIT;
}

static void bounded_case(const test_weight *weight, const char *name) {
    enum { ROWS = 3 };
    int64_t in = weight->tensor.in_features, outputs = weight->tensor.out_features;
    float *x = test_normals(23, ROWS * in, 1.0f);
    float *w = decoded(weight, &perturbations[1]);
    float *expected = test_linear(&qzo_cpu_ops_reference, weight, x, &perturbations[1], ROWS);
    float *actual = linear_of_table(weight, x, &perturbations[1], ROWS, 1);
    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t o = 0; o < outputs; o++) {
            double magnitude = 0.0;
            for (int64_t k = 0; k < in; k++)
                magnitude += fabs((double)x[t * in + k] * (double)w[o * in + k]);
            qzo_test_assert_close((double)actual[t * outputs + o],
                                  (double)expected[t * outputs + o], product_error(in) * magnitude,
                                  name);
        }
    free(actual);
    free(expected);
    free(w);
    free(x);
}

static void products_are_close_to_fp32(void **state) {
    (void)state;
    test_weights_visit(bounded_case);
}

/* --- the backend --- */

static void backend_computes_them_whatever_the_threads(void **state) {
    (void)state;
    enum { ROWS = 37 };
    test_weight weight = test_weight_gptq(136, 520, 0, false, false);
    float *x = test_normals(24, ROWS * 520, 1.0f);
    float *out = test_normals(25, ROWS * 136, 1.0f);
    float *expected = defined_linear(&weight, x, &perturbations[1], ROWS);
    for (int level = QZO_CPU_AVX512; level <= (int)qzo_cpu(); level++)
        for (int threads = 1; threads <= 3; threads++) {
            const qzo_backend_options options = {.thread_count = threads};
            qzo_backend *backend = NULL;
            qzo_weight *loaded = NULL;
            qzo_cpu_limit((qzo_cpu_level)level);
            assert_ok(qzo_backend_open(&backend, "cpu-bf16", &options));
            qzo_cpu_limit(QZO_CPU_WIDEST);
            assert_string_equal(backend->ops->arithmetic(backend), "cpu bf16 2");
            assert_ok(backend->ops->weight_load(backend, &loaded, &weight.tensor));
            assert_ok(backend->ops->linear(backend, (qzo_act *)out, (const qzo_act *)x, loaded,
                                           weight.masters, &perturbations[1], ROWS));
            assert_same_bits(out, expected, ROWS * 136, "linear of the backend");
            assert_ok(backend->ops->logits(backend, out, (const qzo_act *)x, loaded, weight.masters,
                                           &perturbations[1], ROWS));
            assert_same_bits(out, expected, ROWS * 136, "logits of the backend");
            backend->ops->weight_free(backend, loaded);
            qzo_backend_close(backend);
        }
    free(expected);
    free(out);
    free(x);
    test_weight_release(&weight);
}

static void processors_without_it_are_refused(void **state) {
    (void)state;
    const qzo_backend_options options = {.thread_count = 1};
    qzo_backend *backend = NULL;
    qzo_cpu_limit(QZO_CPU_AVX2);
    assert_int_equal(qzo_backend_open(&backend, "cpu-bf16", &options), QZO_ERR_ENVIRONMENT);
    qzo_cpu_limit(QZO_CPU_WIDEST);
    assert_null(backend);
    assert_non_null(strstr(qzo_error_message(), "AVX-512"));
}

static int run_table(const cpu_bf16_ops *ops) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_those_that_the_instruction_defines),
        cmocka_unit_test(large_shapes_have_no_seams),
        cmocka_unit_test(any_format_will_do),
        cmocka_unit_test(rows_do_not_depend_on_their_neighbours),
        cmocka_unit_test(subnormal_numbers_count_as_zero),
        cmocka_unit_test(one_nan_stays_in_its_row),
        cmocka_unit_test(products_are_close_to_fp32),
    };
    table = ops;
    return cmocka_run_group_tests_name(ops->name, tests, NULL, NULL);
}

int main(void) {
    const struct CMUnitTest refusal[] = {cmocka_unit_test(processors_without_it_are_refused)};
    int failed = cmocka_run_group_tests_name("refusal", refusal, NULL, NULL);
    if (qzo_cpu() < QZO_CPU_AVX512) {
        print_message("not run: this processor has neither AMX nor AVX-512\n");
        return failed != 0 ? failed : 77;
    }
#if defined(__x86_64__)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backend_computes_them_whatever_the_threads),
    };
    failed += run_table(&qzo_cpu_bf16_avx512);
    if (qzo_cpu() >= QZO_CPU_AMX)
        failed += run_table(&qzo_cpu_bf16_amx);
    else
        print_message("not run: amx, this processor lacks it\n");
    failed += cmocka_run_group_tests_name("backend", tests, NULL, NULL);
#endif
    return failed;
}
