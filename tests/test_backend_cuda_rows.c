/* ctest: labels=gpu timeout=300 emulated
 * Norms, rotary positions, biases, activations and conversions of every backend against the formula
 * in double (device_support.h). */
#include "device_support.h"

enum { ROWS = 37, WIDTH = 48, HEAD_DIM = 16, ELEMENTS = 40000 };

/* One row of either norm in double. The layer norm's mean, and so every deviation, may be off by
 * the roundings of a sum, which is relative to the magnitudes and not to the result. */
static void norm_in_double(double *out, double *limits, const float *x, const float *gain,
                           const float *bias, int64_t width, qzo_norm_kind kind) {
    double sum = 0.0, magnitude = 0.0, squares = 0.0, relative = FLOAT_ROUNDING;
    for (int64_t i = 0; i < width; i++) {
        sum += (double)x[i];
        magnitude += fabs((double)x[i]) / (double)width;
    }
    double mean = kind == QZO_NORM_LAYER ? sum / (double)width : 0.0;
    for (int64_t i = 0; i < width; i++) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    double inverse = 1.0 / sqrt(squares / (double)width + (double)1e-5f);
    relative *= (double)width / 16.0 + FLOATS_BEFORE_HALF;
    double shift = kind == QZO_NORM_LAYER && width > 1 ? 2.0 * relative * magnitude * inverse : 0.0;
    for (int64_t i = 0; i < width; i++) {
        double scaled = ((double)x[i] - mean) * inverse * (double)gain[i];
        out[i] = kind == QZO_NORM_LAYER ? scaled + (double)bias[i] : scaled;
        limits[i] = (relative + shift) * fabs(scaled) + shift * fabs((double)gain[i]);
        limits[i] += FLOAT_ROUNDING * fabs(out[i]) + storing(out[i]) + FLT_MIN;
    }
}

static void norms_are_within_their_bounds(void **state) {
    (void)state;
    static const int64_t widths[] = {1, 31, 64, 255, 257, 4096};
    for (size_t w = 0; w < 2 * sizeof widths / sizeof *widths; w++) {
        const qzo_norm_kind kind = w % 2 == 0 ? QZO_NORM_RMS : QZO_NORM_LAYER;
        int64_t width = widths[w / 2], count = 3 * width;
        float *x = test_normals(43, count, 3.0f), *gain = test_normals(44, width, 1.0f);
        float *bias = test_normals(58, width, 1.0f);
        double *expected = malloc((size_t)count * sizeof *expected);
        double *limits = malloc((size_t)count * sizeof *limits);
        for (int64_t row = 0; row < count; row += width)
            norm_in_double(expected + row, limits + row, x + row, gain, bias, width, kind);
        float *residual = device_floats(x, count), *gains = device_floats(gain, width);
        float *biases = device_floats(bias, width);
        qzo_act *out = device_blank(count);
        assert_ok(backend->ops->norm(backend, out, residual, gains, biases, 3, width, kind, 1e-5f));
        float *actual = host_act(out, count);
        assert_all_close(actual, expected, limits, count, w % 2 == 0 ? "rms norm" : "layer norm");
        drop(residual), drop(gains), drop(biases), drop(out);
        free(x), free(gain), free(bias), free(expected), free(limits), free(actual);
    }
}

/* As a layer norm whose gain is 1 + scale. Two examples, with columns between that nobody reads. */
static void modulations_are_within_their_bounds(void **state) {
    (void)state;
    enum { EXAMPLES = 2, PER_EXAMPLE = 3, MOD_ROWS = EXAMPLES * PER_EXAMPLE, W = 257 };
    enum { SHIFT_AT = 2 * W, SCALE_AT = 0, GATE_AT = 3 * W, STRIDE = 4 * W, COUNT = MOD_ROWS * W };
    static double expected[COUNT], limits[COUNT];
    float *x = test_normals(60, COUNT, 3.0f), *mod = test_normals(61, EXAMPLES * STRIDE, 1.0f);
    float *y = test_normals(62, COUNT, 1.0f);
    qzo_act *values = device_act(mod, EXAMPLES * STRIDE), *y_act = device_act(y, COUNT);
    qzo_act *out = device_blank(COUNT);
    float *residual = device_floats(x, COUNT);
    const qzo_modulation modulation = {values, STRIDE, PER_EXAMPLE};
    for (int row = 0; row < MOD_ROWS; row++) {
        const float *of = mod + row / PER_EXAMPLE * STRIDE;
        float gain[W];
        for (int i = 0; i < W; i++) gain[i] = 1.0f + of[SCALE_AT + i];
        norm_in_double(expected + row * W, limits + row * W, x + row * W, gain, of + SHIFT_AT, W,
                       QZO_NORM_LAYER);
    }
    assert_ok(backend->ops->modulate(backend, out, residual, &modulation, SHIFT_AT, SCALE_AT,
                                     MOD_ROWS, W, 1e-5f));
    float *actual = host_act(out, COUNT), sums[COUNT];
    assert_all_close(actual, expected, limits, COUNT, "modulate");
    for (int i = 0; i < COUNT; i++) {
        double gate = (double)mod[i / W / PER_EXAMPLE * STRIDE + GATE_AT + i % W];
        expected[i] = (double)x[i] + gate * (double)y[i];
        limits[i] = FLOAT_ROUNDING * fabs(expected[i]) + FLT_MIN; /* one fma */
    }
    assert_ok(backend->ops->add_gated(backend, residual, y_act, &modulation, GATE_AT, MOD_ROWS, W));
    host_floats(sums, residual, COUNT);
    assert_all_close(sums, expected, limits, COUNT, "add_gated");
    drop(values), drop(y_act), drop(out), drop(residual);
    free(x), free(mod), free(y), free(actual);
}

static void rope_is_within_its_bound(void **state) {
    (void)state;
    enum { COUNT = ROWS * WIDTH, HALF = HEAD_DIM / 2 };
    static double expected[COUNT], limits[COUNT];
    float *x = test_normals(45, COUNT, 2.0f), *table = test_normals(46, ROWS * HEAD_DIM, 0.7f);
    int32_t positions_host[ROWS];
    for (int i = 0; i < ROWS; i++) positions_host[i] = i * 5 % ROWS;
    qzo_act *out = device_act(x, COUNT);
    for (int i = 0; i < COUNT; i++) {
        int row = i / WIDTH, d = i % HEAD_DIM, low = i - d + d % HALF;
        const float *angle = table + positions_host[row] * HEAD_DIM + 2 * (d % HALF);
        double a = (double)x[low], b = (double)x[low + HALF];
        double first = (d < HALF ? a : b) * (double)angle[0];
        double second = (d < HALF ? -b : a) * (double)angle[1];
        expected[i] = first + second;
        limits[i] = 4.0 * FLOAT_ROUNDING * (fabs(first) + fabs(second)) + storing(expected[i]);
    }
    int32_t *positions = device_ints(positions_host, ROWS);
    float *angles = device_floats(table, ROWS * HEAD_DIM);
    assert_ok(
        backend->ops->rope(backend, out, positions, angles, ROWS, WIDTH / HEAD_DIM, HEAD_DIM));
    float *actual = host_act(out, COUNT);
    assert_all_close(actual, expected, limits, COUNT, "rope");
    drop(out), drop(positions), drop(angles);
    free(x), free(table), free(actual);
}

/* The formula, and what is wrong with e^-y: as often y as it has roundings. */
static double activation_in_double(double *roundings, qzo_activation kind, double x) {
    const double slope = 2.0 * sqrt(2.0 / acos(-1.0));
    double y = kind == QZO_ACTIVATION_GELU_TANH ? slope * (x + 0.044715 * x * x * x) : x;
    *roundings = FLOATS_BEFORE_HALF;
    if (kind == QZO_ACTIVATION_RELU) return fmax(x, 0.0);
    if (kind == QZO_ACTIVATION_GELU) {
        *roundings += 0.5 * x * x;
        return x * 0.5 * erfc(-x / sqrt(2.0));
    }
    if (kind == QZO_ACTIVATION_GELU_TANH) *roundings += 6.0 * fabs(y);
    return x / (1.0 + exp(-y));
}

static void activations_are_within_their_bounds(void **state) {
    (void)state;
    static double expected[ELEMENTS], limits[ELEMENTS];
    static const char *const names[] = {"silu", "relu", "gelu_tanh", "gelu"};
    float *gate = test_normals(48, ELEMENTS, 4.0f), *up = test_normals(49, ELEMENTS, 1.0f);
    qzo_act *up_act = device_act(up, ELEMENTS);
    for (int kind = 0; kind < QZO_ACTIVATION_COUNT; kind++)
        for (int gated = 0; gated < 2; gated++) {
            qzo_act *gate_act = device_act(gate, ELEMENTS);
            for (int i = 0; i < ELEMENTS; i++) {
                double roundings;
                expected[i] =
                    activation_in_double(&roundings, (qzo_activation)kind, (double)gate[i]);
                if (gated) expected[i] *= (double)up[i];
                limits[i] = roundings * FLOAT_ROUNDING * fabs(expected[i]);
                /* e^-y of the CPU ends at e^88, so that |x up| 2^-126 is left. */
                double left = fabs((double)gate[i]) * (gated ? fabs((double)up[i]) : 1.0);
                limits[i] += storing(expected[i]) + (1.0 + left) * FLT_MIN;
            }
            assert_ok(backend->ops->activate(backend, gate_act, gated ? up_act : NULL, ELEMENTS,
                                             (qzo_activation)kind));
            float *actual = host_act(gate_act, ELEMENTS);
            assert_all_close(actual, expected, limits, ELEMENTS, names[kind]);
            drop(gate_act);
            free(actual);
        }
    drop(up_act);
    free(gate), free(up);
}

/* Sums of two numbers, copies and conversions: what fp32 gives exactly or rounds once. */
static void sums_and_copies_are_exact(void **state) {
    (void)state;
    float *x = test_normals(49, ELEMENTS, 1.0f), *bias = test_normals(50, WIDTH, 1.0f);
    float *residual = test_normals(51, ELEMENTS, 1.0f), out_host[ELEMENTS];
    const int32_t rows_host[] = {3, 0, 3};
    int32_t *rows = device_ints(rows_host, 3);
    qzo_act *act = device_act(x, ELEMENTS), *picked = device_blank(3 * 11);
    float *out = device_floats(residual, ELEMENTS), *biases = device_floats(bias, WIDTH);
    assert_ok(backend->ops->add(backend, out, act, ELEMENTS));
    host_floats(out_host, out, ELEMENTS);
    for (int i = 0; i < ELEMENTS; i++) residual[i] += x[i];
    assert_same_floats(out_host, residual, ELEMENTS, "add");
    assert_ok(backend->ops->widen(backend, out, act, ELEMENTS));
    host_floats(out_host, out, ELEMENTS);
    assert_same_floats(out_host, x, ELEMENTS, "widen");
    for (int named = 0; named < 2; named++) {
        float wanted[3 * 11];
        for (int i = 0; i < 3 * 11; i++)
            wanted[i] = x[(named ? rows_host[i / 11] : i / 11) * WIDTH + 5 + i % 11];
        assert_ok(backend->ops->select(backend, picked, act, named ? rows : NULL, 3, WIDTH, 5, 11));
        float *actual = host_act(picked, 3 * 11);
        assert_same_floats(actual, wanted, 3 * 11, "select");
        free(actual);
    }
    const int32_t places_host[] = {4, 0, 2};
    int32_t *places = device_ints(places_host, 3);
    float cells[5 * 11] = {0};
    qzo_act *scattered = device_act(cells, 5 * 11);
    for (int i = 0; i < 3 * 11; i++) cells[places_host[i / 11] * 11 + i % 11] = x[i];
    assert_ok(backend->ops->scatter(backend, scattered, act, places, 3, 11));
    float *kept = host_act(scattered, 5 * 11);
    assert_same_floats(kept, cells, 5 * 11, "scatter");
    drop(places), drop(scattered), free(kept);
    enum { BIASED = ELEMENTS / WIDTH * WIDTH };
    static double expected[BIASED], limits[BIASED];
    for (int i = 0; i < BIASED; i++) {
        expected[i] = (double)x[i] + (double)bias[i % WIDTH];
        limits[i] = FLOAT_ROUNDING * fabs(expected[i]) + storing(expected[i]);
    }
    assert_ok(backend->ops->narrow(backend, act, out, ELEMENTS));
    assert_ok(backend->ops->add_bias(backend, act, biases, BIASED / WIDTH, WIDTH));
    float *biased = host_act(act, BIASED);
    assert_all_close(biased, expected, limits, BIASED, "narrow and add_bias");
    drop(rows), drop(act), drop(picked), drop(out), drop(biases);
    free(x), free(bias), free(residual), free(biased);
}

static void a_scaled_sum_is_within_its_bound(void **state) {
    (void)state;
    static double expected[ELEMENTS], limits[ELEMENTS];
    float *x = test_normals(51, ELEMENTS, 1.0f), *y = test_normals(52, ELEMENTS, 1.0f);
    qzo_act *sum = device_act(x, ELEMENTS), *other = device_act(y, ELEMENTS);
    for (int i = 0; i < ELEMENTS; i++) {
        expected[i] = (double)x[i] + (double)1.7f * (double)y[i];
        limits[i] = FLOAT_ROUNDING * fabs(expected[i]) + storing(expected[i]);
    }
    assert_ok(backend->ops->add_scaled(backend, sum, other, 1.7f, ELEMENTS));
    float *actual = host_act(sum, ELEMENTS);
    assert_all_close(actual, expected, limits, ELEMENTS, "add_scaled");
    drop(sum), drop(other);
    free(x), free(y), free(actual);
}

/* tanh of either backend is within 5 units; quotient and product. */
static void soft_cap_is_within_its_bound(void **state) {
    (void)state;
    static double expected[ELEMENTS], limits[ELEMENTS];
    float *x = test_normals(52, ELEMENTS, 40.0f), out_host[ELEMENTS];
    float *out = device_floats(x, ELEMENTS);
    for (int i = 0; i < ELEMENTS; i++) {
        expected[i] = 30.0 * tanh((double)x[i] / 30.0);
        limits[i] = 7.0 * FLOAT_ROUNDING * fabs(expected[i]);
    }
    assert_ok(backend->ops->soft_cap(backend, out, ELEMENTS, 30.0f));
    host_floats(out_host, out, ELEMENTS);
    assert_all_close(out_host, expected, limits, ELEMENTS, "soft cap");
    drop(out);
    free(x);
}

static int run(const char *name) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_are_within_their_bounds),
        cmocka_unit_test(modulations_are_within_their_bounds),
        cmocka_unit_test(rope_is_within_its_bound),
        cmocka_unit_test(activations_are_within_their_bounds),
        cmocka_unit_test(sums_and_copies_are_exact),
        cmocka_unit_test(a_scaled_sum_is_within_its_bound),
        cmocka_unit_test(soft_cap_is_within_its_bound),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void) { return device_main(run); }
