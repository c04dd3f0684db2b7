/* The reference loops of the CPU backend against the same formula in double, written here from the
 * operations' definitions in backend.h. Every limit is a bound derived in docs/error-analysis.md,
 * "Operations"; u is half a unit in the last place of 1. */
#include "backend_support.h"

#include <math.h>
#include <stdio.h>

static const double UNIT = 0x1p-24;

static const cpu_ops *const ops = &qzo_cpu_ops_reference;

/* gamma(n): what n roundings in a row can do. */
static double gamma_of(double roundings) { return roundings * UNIT / (1.0 - roundings * UNIT); }

/* Field `index` of fields of `bits` bits, bit by bit; word i of the run is words[i * stride]. */
static uint32_t field_at(const uint32_t *words, int64_t stride, int64_t index, int bits) {
    uint32_t field = 0;
    for (int b = 0; b < bits; b++) {
        int64_t bit = index * bits + b;
        field |= (words[bit / 32 * stride] >> bit % 32 & 1u) << b;
    }
    return field;
}

/* Version 1: one is added to every field, with carries inside a word where fields do not cross. */
static uint32_t zero_at(const uint32_t *zeros, int64_t output, int bits, bool v1) {
    if (!v1) return field_at(zeros, 1, output, bits);
    if (bits == 3) return (field_at(zeros, 1, output, bits) + 1u) % 8u;
    uint32_t word = zeros[output * bits / 32];
    for (int lane = 0; lane < 32 / bits; lane++) word += 1u << (lane * bits);
    return field_at(&word, 1, output % (32 / bits), bits);
}

/* W[output][input] of a GGUF file's blocks in double, bit by bit as gguf_decode.h describes them,
 * with d as its block's scale. */
static double gguf_value(const qzo_qtensor *tensor, int64_t output, int64_t input, double d) {
    const qzo_gguf_blocks *layout = &tensor->as.gguf.layout;
    int64_t row = output, head = layout->head_rows;
    if (head > 0) row = output / head * head + output % (head / 2) * 2 + output % head / (head / 2);
    const uint8_t *block =
        layout->blocks +
        (row * tensor->group_count + input / layout->block_inputs) * layout->block_bytes;
    int i = (int)(input % layout->block_inputs), part = i / 32, at = i % 32;
    switch (layout->kind) {
    case QZO_GGUF_BLOCK_Q4_0: return d * ((i < 16 ? block[2 + i] % 16 : block[i - 14] / 16) - 8);
    case QZO_GGUF_BLOCK_Q8_0: return d * (int8_t)block[2 + i];
    case QZO_GGUF_BLOCK_Q4_K: {
        const uint8_t *s = block + 4;
        int scale = part < 4 ? s[part] % 64 : s[part + 4] % 16 + s[part - 4] / 64 * 16;
        int minimum = part < 4 ? s[part + 4] % 64 : s[part + 4] / 16 + s[part] / 64 * 16;
        int byte = block[16 + part / 2 * 32 + at], code = part % 2 == 0 ? byte % 16 : byte / 16;
        uint16_t half = (uint16_t)(block[2] + 256 * block[3]);
        return d * scale * code - (double)qzo_fp16_to_float(half) * minimum;
    }
    default: {
        int low = block[i / 128 * 64 + i % 64], high = block[128 + i / 128 * 32 + at];
        int code = (i % 128 < 64 ? low % 16 : low / 16) + (high >> (part % 4 * 2)) % 4 * 16;
        return d * (int8_t)block[192 + i / 16] * (code - 32);
    }
    }
}

/* W[output][input] of bitsandbytes and AQLM in double. */
static double block_value(const test_weight *weight, int64_t output, int64_t input,
                          const qzo_perturbation *perturbation, const float *z) {
    const qzo_qtensor *tensor = &weight->tensor;
    bool is_bnb = tensor->format == &qzo_quant_bnb;
    if (tensor->format == &qzo_quant_gguf) {
        int64_t place = output * tensor->group_count + input / tensor->as.gguf.layout.block_inputs;
        double d = (double)weight->masters[TEST_SPAN_OFFSET + place];
        return gguf_value(tensor, output, input, d + (double)perturbation->c * (double)z[place]);
    }
    int64_t element = output * tensor->group_count + (is_bnb ? input / tensor->as.bnb.block : 0);
    int64_t index = output * tensor->in_features + input;
    double level = 0.0;
    if (is_bnb) {
        int byte = tensor->as.bnb.codes[index / 2];
        level = (double)tensor->as.bnb.levels[index % 2 == 0 ? byte / 16 : byte % 16];
    } else {
        const qzo_aqlm_layout *layout = &tensor->as.aqlm.layout;
        int entries = 1 << layout->code_bits;
        for (int c = 0; c < layout->codebook_count; c++) {
            int64_t place = index / 8 * layout->codebook_count + c;
            int code = layout->code_bits == 8 ? ((const uint8_t *)layout->codes)[place]
                                              : ((const uint16_t *)layout->codes)[place];
            uint16_t half = layout->codebooks[(c * entries + code) * 8 + input % 8];
            level += (double)(layout->is_bf16 ? qzo_bf16_to_float(half) : qzo_fp16_to_float(half));
        }
    }
    double value = (double)weight->masters[TEST_SPAN_OFFSET + element];
    return (value + (double)perturbation->c * (double)z[element]) * level;
}

/* W[output][input] in double by the format's definition, from the file's words. */
static double weight_value(const test_weight *weight, int64_t output, int64_t input,
                           const qzo_perturbation *perturbation, const float *z) {
    const qzo_qtensor *tensor = &weight->tensor;
    if (tensor->group_count == 0) {
        const uint8_t *data = tensor->as.dense.data;
        int64_t index = output * tensor->in_features + input;
        float value;
        uint16_t half;
        if (tensor->as.dense.dtype == QZO_DTYPE_F32) {
            memcpy(&value, data + 4 * index, sizeof value);
            return (double)value;
        }
        memcpy(&half, data + 2 * index, sizeof half);
        return (double)(tensor->as.dense.dtype == QZO_DTYPE_F16 ? qzo_fp16_to_float(half)
                                                                : qzo_bf16_to_float(half));
    }
    if (tensor->format == &qzo_quant_dense) {
        int64_t element = output * tensor->in_features + input;
        return (double)weight->masters[TEST_SPAN_OFFSET + element] +
               (double)perturbation->c * (double)z[element];
    }
    if (tensor->format != &qzo_quant_gptq)
        return block_value(weight, output, input, perturbation, z);
    const qzo_gptq_tensor *gptq = &tensor->as.gptq;
    int64_t group = gptq->group_of_input[input];
    int64_t element = output * tensor->group_count + group;
    uint32_t code = field_at(gptq->codes + output, tensor->out_features, input, gptq->bits);
    const uint32_t *zeros = gptq->zeros + group * (tensor->out_features * gptq->bits / 32);
    uint32_t zero = zero_at(zeros, output, gptq->bits, gptq->zero_correction != 0);
    double scale = (double)weight->masters[TEST_SPAN_OFFSET + element];
    scale += (double)perturbation->c * (double)z[element];
    return scale * ((double)code - (double)zero);
}

/* What is taken from a weight whatever its scale: Q4_K's minimum. */
static double frozen_value(const qzo_qtensor *tensor, int64_t output, int64_t input) {
    return tensor->format == &qzo_quant_gguf ? gguf_value(tensor, output, input, 0.0) : 0.0;
}

/* Two roundings make a weight, three that of two codebooks, four at most that of a GGUF block, of
 * which the last may follow a cancellation; one ends each fma. */
static void linear_case(const test_weight *weight, const char *name) {
    enum { ROWS = 2 };
    const qzo_qtensor *tensor = &weight->tensor;
    const qzo_perturbation cases[] = {
        {.seed = 5}, {.seed = 5, .c = 1e-3f}, {.seed = 5, .c = -0.05f}};
    int64_t values = tensor->out_features * tensor->group_count;
    float *z = malloc((size_t)(values + 1) * sizeof *z);
    qzo_noise_fill(z, 5, tensor->tensor_id, 0, values, QZO_DIRECTIONS_GAUSSIAN);
    float *x = test_normals(20, ROWS * tensor->in_features, 1.0f);
    for (int p = 0; p < 3; p++) {
        float *actual = test_linear(ops, weight, x, &cases[p], ROWS);
        for (int64_t t = 0; t < ROWS; t++)
            for (int64_t o = 0; o < tensor->out_features; o++) {
                double sum = 0.0, magnitude = 0.0;
                for (int64_t k = 0; k < tensor->in_features; k++) {
                    double input = (double)x[t * tensor->in_features + k];
                    double value = weight_value(weight, o, k, &cases[p], z);
                    double frozen = frozen_value(tensor, o, k);
                    sum += input * value;
                    magnitude += fabs(input) * (fabs(value - frozen) + fabs(frozen));
                }
                double roundings = tensor->format == &qzo_quant_gguf   ? 4.0
                                   : tensor->format == &qzo_quant_aqlm ? 3.0
                                                                       : 2.0;
                double limit = gamma_of((double)tensor->in_features + roundings) * magnitude;
                qzo_test_assert_close((double)actual[t * tensor->out_features + o], sum, limit,
                                      name);
            }
        free(actual);
    }
    free(x);
    free(z);
}

static void linear_is_within_its_bound(void **state) {
    (void)state;
    test_weights_visit(linear_case);
}

static void norm_is_within_its_bound(void **state) {
    (void)state;
    enum { WIDTH_MAX = 300 };
    const double epsilon = (double)1e-5f;
    for (int64_t width = 1; width <= WIDTH_MAX; width++) {
        float *x = test_normals(21, width, 3.0f), *gain = test_normals(22, width, 1.0f);
        float out[WIDTH_MAX];
        ops->norm_row(out, x, gain, width, 1e-5f);
        double square = 0.0;
        for (int64_t i = 0; i < width; i++) square += (double)x[i] * (double)x[i];
        double inverse = 1.0 / sqrt(square / (double)width + epsilon);
        /* Half of: the lanes' sums, their tree, mean and epsilon; then root, inverse, products. */
        double relative = gamma_of(((double)width / 16.0 + 1.0 + 4.0 + 2.0) / 2.0 + 4.0);
        for (int64_t i = 0; i < width; i++) {
            double expected = (double)x[i] * inverse * (double)gain[i];
            qzo_test_assert_close((double)out[i], expected, relative * fabs(expected), "norm");
        }
        free(x);
        free(gain);
    }
}

/* The mean may be off by e; a deviation by that and one rounding. Their root mean square is then
 * off by e at most, beside the roundings of its own. */
static void layer_norm_is_within_its_bound(void **state) {
    (void)state;
    enum { WIDTH_MAX = 300 };
    for (int64_t width = 1; width <= WIDTH_MAX; width++) {
        float *x = test_normals(21, width, 3.0f), *gain = test_normals(22, width, 1.0f);
        float *bias = test_normals(24, width, 1.0f), out[WIDTH_MAX];
        for (int64_t i = 0; i < width; i++) x[i] += 2.0f;
        ops->layer_norm_row(out, x, gain, bias, width, 1e-5f);
        double sum = 0.0, magnitude = 0.0, square = 0.0, farthest = 0.0;
        for (int64_t i = 0; i < width; i++) {
            sum += (double)x[i];
            magnitude += fabs((double)x[i]);
        }
        double mean = sum / (double)width;
        for (int64_t i = 0; i < width; i++) {
            square += ((double)x[i] - mean) * ((double)x[i] - mean);
            farthest = fmax(farthest, fabs((double)x[i] - mean));
        }
        double inverse = 1.0 / sqrt(square / (double)width + (double)1e-5f);
        double lanes = (double)width / 16.0 + 1.0 + 4.0;
        double mean_error = width > 1 ? gamma_of(lanes + 1.0) * magnitude / (double)width : 0.0;
        double shift = mean_error + UNIT * farthest;
        double relative = gamma_of((lanes + 2.0) / 2.0 + 4.0) + shift * inverse;
        for (int64_t i = 0; i < width; i++) {
            double scaled = ((double)x[i] - mean) * inverse * (double)gain[i];
            double expected = scaled + (double)bias[i];
            double limit = fabs(scaled) * relative + fabs((double)gain[i]) * inverse * shift;
            qzo_test_assert_close((double)out[i], expected, limit + UNIT * fabs(expected),
                                  "layer norm");
        }
        free(x);
        free(gain);
        free(bias);
    }
}

static void rope_is_within_its_bound(void **state) {
    (void)state;
    enum { DIM = 64, HALF = DIM / 2 };
    float *before = test_normals(23, DIM, 1.0f), *x = test_normals(23, DIM, 1.0f);
    float *row = test_normals(24, DIM, 0.7f);
    ops->rope_row(x, row, 1, DIM);
    for (int i = 0; i < HALF; i++) {
        double a = (double)before[i], b = (double)before[i + HALF];
        double cosine = (double)row[2 * i], sine = (double)row[2 * i + 1];
        qzo_test_assert_close((double)x[i], a * cosine - b * sine,
                              gamma_of(2) * (fabs(a * cosine) + fabs(b * sine)), "rope, low half");
        qzo_test_assert_close((double)x[i + HALF], b * cosine + a * sine,
                              gamma_of(2) * (fabs(b * cosine) + fabs(a * sine)), "rope, high half");
    }
    free(before);
    free(x);
    free(row);
}

/* The formula in double, and its relative bound. Sigmoids x / (1 + e^-y): exp 1.6 u; sum, quotient,
 * product with up; y's own roundings are y times as many in the exponent. GELU: TAIL32_CONSTANT of
 * test_math.c and half of the square; 1 - tail, two products. */
static double activation_in_double(double *relative, qzo_activation kind, double x) {
    const double slope = 2.0 * sqrt(2.0 / acos(-1.0));
    double y = x, roundings_of_y = 0.0;
    switch (kind) {
    case QZO_ACTIVATION_RELU: *relative = UNIT; return fmax(x, 0.0);
    case QZO_ACTIVATION_GELU:
        *relative = gamma_of(7.2 + 0.5 * x * x + 3.0);
        return x * 0.5 * erfc(-x / sqrt(2.0));
    case QZO_ACTIVATION_GELU_TANH: /* square, cubic and their product, fma, slope and its product */
        y = slope * (x + 0.044715 * x * x * x);
        roundings_of_y = 6.0;
        break;
    default: break;
    }
    *relative = gamma_of(4.6 + roundings_of_y * fabs(y));
    return x / (1.0 + exp(-y));
}

static void activations_are_within_their_bounds(void **state) {
    (void)state;
    enum { COUNT = 20001 };
    static const char *const names[] = {"silu", "relu", "gelu_tanh", "gelu"};
    float *gate = malloc(COUNT * sizeof *gate), *up = test_normals(26, COUNT, 1.0f);
    for (int kind = 0; kind < QZO_ACTIVATION_COUNT; kind++) {
        for (int i = 0; i < COUNT; i++) gate[i] = (float)(i - COUNT / 2) * 0.02f;
        ops->activations[kind](gate, up, COUNT);
        for (int i = 0; i < COUNT; i++) {
            double x = (double)((float)(i - COUNT / 2) * 0.02f), relative;
            double expected = activation_in_double(&relative, (qzo_activation)kind, x);
            expected *= (double)up[i];
            /* Exponentials end at e^88 and e^-87: |x| 2^-126 is left. */
            double limit = relative * fabs(expected) + fabs(x * (double)up[i]) * 0x1p-126;
            qzo_test_assert_close((double)gate[i], expected, limit, names[kind]);
        }
    }
    free(gate);
    free(up);
}

/* Quotient, tanh (TANH32_RELATIVE of test_math.c; it passes a relative error on, or less), product.
 */
static void soft_cap_is_within_its_bound(void **state) {
    (void)state;
    enum { COUNT = 4000 };
    float *before = test_normals(27, COUNT, 40.0f), *x = test_normals(27, COUNT, 40.0f);
    ops->soft_cap(x, COUNT, 30.0f);
    for (int i = 0; i < COUNT; i++) {
        double expected = 30.0 * tanh((double)before[i] / 30.0);
        qzo_test_assert_close((double)x[i], expected, gamma_of(1.0 + 4.6 + 1.0) * fabs(expected),
                              "soft cap");
    }
    free(before);
    free(x);
}

static void log_sum_exp_is_within_its_bound(void **state) {
    (void)state;
    static const int64_t counts[] = {1, 2, 17, 64, 1024, 1025, 32000, 128256};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        int64_t count = counts[c];
        float *logits = test_normals(29, count, 4.0f);
        double largest = -INFINITY, sum = 0.0;
        for (int64_t i = 0; i < count; i++) largest = fmax(largest, (double)logits[i]);
        double spread = 0.0;
        for (int64_t i = 0; i < count; i++) {
            sum += exp((double)logits[i] - largest);
            spread = fmax(spread, largest - (double)logits[i]);
        }
        /* Each term: 1.6 u of exp and u times the argument; 64 sums per lane, a tree of 4. */
        double limit = gamma_of(1.6 + spread + 64.0 + 4.0);
        qzo_test_assert_close(ops->log_sum_exp(logits, count), largest + log(sum), limit,
                              "log_sum_exp");
        free(logits);
    }
}

enum { CONTEXT = 90, HEADS = 4, KV_HEADS = 2, DIM = 20 };

/* softmax(q k^T scale) v of the last row's head, in double, over the window; *exponent_error: the
 * bound on what is wrong in an exponent. */
static void attention_in_double(double out[DIM], double *exponent_error, const float *q,
                                const float *k, const float *v, int head,
                                const qzo_attention *attention) {
    double weights[CONTEXT], largest = -INFINITY, total = 0.0, score_error = 0.0, spread = 0.0;
    double cap = (double)attention->score_cap;
    int offset = head / (HEADS / KV_HEADS) * DIM;
    int first = attention->window > 0 ? CONTEXT - (int)attention->window : 0;
    for (int i = first; i < CONTEXT; i++) {
        double sum = 0.0, magnitude = 0.0;
        for (int d = 0; d < DIM; d++) {
            double term = (double)q[(CONTEXT - 1) * HEADS * DIM + head * DIM + d] *
                          (double)k[i * KV_HEADS * DIM + offset + d] * (double)attention->scale;
            sum += term;
            magnitude += fabs(term);
        }
        weights[i] = cap > 0.0 ? cap * tanh(sum / cap) : sum;
        largest = fmax(largest, weights[i]);
        double error = gamma_of(DIM / 2 + 1 + 1) * magnitude;
        if (cap > 0.0) error += gamma_of(6.6) * fabs(weights[i]);
        score_error = fmax(score_error, error);
    }
    for (int d = 0; d < DIM; d++) out[d] = 0.0;
    for (int i = first; i < CONTEXT; i++) {
        spread = fmax(spread, largest - weights[i]);
        total += weights[i] = exp(weights[i] - largest);
    }
    for (int i = first; i < CONTEXT; i++)
        for (int d = 0; d < DIM; d++)
            out[d] += weights[i] / total * (double)v[i * KV_HEADS * DIM + offset + d];
    *exponent_error = 2.0 * score_error + UNIT * spread;
}

static void check_attention(float score_cap, int64_t window) {
    int32_t zeros[CONTEXT] = {0};
    const qzo_attention attention = {.prefix_begin = zeros,
                                     .prefix_end = zeros,
                                     .own_begin = zeros,
                                     .context_max = CONTEXT,
                                     .head_count = HEADS,
                                     .kv_head_count = KV_HEADS,
                                     .head_dim = DIM,
                                     .scale = 0.22360679775f,
                                     .score_cap = score_cap,
                                     .window = window};
    static float scores[(CONTEXT + CPU_ATTENTION_LANES) * CPU_ATTENTION_LANES];
    float *q = test_normals(30, CONTEXT * HEADS * DIM, 1.0f);
    float *k = test_normals(31, CONTEXT * KV_HEADS * DIM, 1.0f);
    float *v = test_normals(32, CONTEXT * KV_HEADS * DIM, 1.0f);
    static float out[CONTEXT * HEADS * DIM];
    double largest_value = 0.0;
    for (int i = 0; i < CONTEXT * KV_HEADS * DIM; i++)
        largest_value = fmax(largest_value, fabs((double)v[i]));
    ops->attention_block(out, q, k, v, &attention, CONTEXT - 1, 1, scores);
    for (int head = 0; head < HEADS; head++) {
        double expected[DIM], exponent_error;
        attention_in_double(expected, &exponent_error, q, k, v, head, &attention);
        /* A weight is off by e; numerator and denominator each, then their sums and the quotient.
         */
        double relative = expm1(exponent_error) + gamma_of(1.6 + CONTEXT);
        double limit = (2.0 * relative + 2.0 * UNIT) * largest_value;
        for (int d = 0; d < DIM; d++)
            qzo_test_assert_close((double)out[(CONTEXT - 1) * HEADS * DIM + head * DIM + d],
                                  expected[d], limit, "attention");
    }
    free(q);
    free(k);
    free(v);
}

static void attention_is_within_its_bound(void **state) {
    (void)state;
    check_attention(0.0f, 0);
    check_attention(0.0f, 7);
    check_attention(1.5f, 0);
    check_attention(1.5f, CONTEXT - 1);
}

/* The order of the records is part of the promise: one fma each, then the constraint once. With
 * units, z is rounded once more before it; with a velocity, that is what they move. */
static void check_update(const float *unit, bool has_velocity) {
    enum { COUNT = 500 };
    const qzo_span span = {.tensor_id = 9, .constraint = QZO_CONSTRAINT_POSITIVE, .floor = 1e-3f};
    const qzo_gain gains[] = {{31, 0.02f}, {32, -0.03f}, {33, 0.01f}};
    float *values = test_normals(35, COUNT, 0.05f), *expected = test_normals(35, COUNT, 0.05f);
    float *velocity = test_normals(38, COUNT, 0.02f), *speeds = test_normals(38, COUNT, 0.02f);
    const qzo_update_values changed = {.masters = values,
                                       .unit = unit,
                                       .velocity = has_velocity ? velocity : NULL,
                                       .decay = 0.75f};
    ops->update_block(&changed, &span, 6, COUNT, gains, 3, QZO_DIRECTIONS_RADEMACHER);
    int at_floor = 0;
    for (int i = 0; i < COUNT; i++) {
        float *gained = has_velocity ? &speeds[i] : &expected[i];
        if (has_velocity) speeds[i] *= 0.75f;
        for (int g = 0; g < 3; g++) {
            float z;
            qzo_noise_fill(&z, gains[g].seed, 9, 6 + (uint64_t)i, 1, QZO_DIRECTIONS_RADEMACHER);
            if (unit != NULL) z = unit[i] * z;
            *gained = fmaf(-gains[g].k, z, *gained);
        }
        if (has_velocity) expected[i] += speeds[i];
        if (!(expected[i] > 1e-3f)) {
            expected[i] = 1e-3f;
            at_floor++;
        }
    }
    assert_memory_equal(values, expected, COUNT * sizeof *values);
    assert_memory_equal(velocity, speeds, COUNT * sizeof *velocity);
    assert_in_range(at_floor, 1, COUNT - 1); /* both sides of the constraint were seen */
    free(values);
    free(expected);
    free(velocity);
    free(speeds);
}

static void update_is_one_fma_per_record_in_order(void **state) {
    (void)state;
    float *unit = test_normals(37, 500, 1.0f);
    check_update(NULL, false);
    check_update(unit, false);
    check_update(NULL, true);
    check_update(unit, true);
    free(unit);
}

static void keep_sign_holds_the_sign_before_the_step(void **state) {
    (void)state;
    const qzo_span span = {.tensor_id = 9, .constraint = QZO_CONSTRAINT_KEEP_SIGN, .floor = 0.01f};
    const qzo_gain gains[] = {{31, 1.0f}, {32, 1.0f}};
    float values[200], before[200];
    for (int i = 0; i < 200; i++) before[i] = values[i] = i % 2 == 0 ? 0.1f : -0.1f;
    before[198] = values[198] = 0.0f;
    before[199] = values[199] = -0.0f;
    const qzo_update_values changed = {.masters = values};
    ops->update_block(&changed, &span, 0, 200, gains, 2, QZO_DIRECTIONS_GAUSSIAN);
    for (int i = 0; i < 198; i++)
        assert_true(before[i] > 0.0f ? values[i] >= 0.01f : values[i] <= -0.01f);
    assert_memory_equal(values + 198, before + 198, 2 * sizeof *values);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_is_within_its_bound),
        cmocka_unit_test(norm_is_within_its_bound),
        cmocka_unit_test(layer_norm_is_within_its_bound),
        cmocka_unit_test(rope_is_within_its_bound),
        cmocka_unit_test(activations_are_within_their_bounds),
        cmocka_unit_test(soft_cap_is_within_its_bound),
        cmocka_unit_test(log_sum_exp_is_within_its_bound),
        cmocka_unit_test(attention_is_within_its_bound),
        cmocka_unit_test(update_is_one_fma_per_record_in_order),
        cmocka_unit_test(keep_sign_holds_the_sign_before_the_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
