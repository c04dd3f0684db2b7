/* Plain loops of every operation but the matrix product, compiled once per instruction set by the
 * files that include this. Private to the CPU backend.
 *
 * LANES running sums give the compiler something to put in a vector without changing the order that
 * the source states. */
#ifndef QZO_BACKEND_CPU_OPS_LANES_H
#define QZO_BACKEND_CPU_OPS_LANES_H

#include "backend/cpu_ops.h"
#include "base/math32.h"
#include "base/math64.h"
#include "base/update.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* What every table takes from here. */
#define CPU_OPS_OF_LANES                                                                           \
    .norm_row = norm_row, .layer_norm_row = layer_norm_row, .modulate_row = modulate_row,          \
    .add_gated_row = add_gated_row, .attention_block = attention_block, .rope_row = rope_row,      \
    .activations = {[QZO_ACTIVATION_SILU] = silu,                                                  \
                    [QZO_ACTIVATION_RELU] = relu,                                                  \
                    [QZO_ACTIVATION_GELU_TANH] = gelu_tanh,                                        \
                    [QZO_ACTIVATION_GELU] = gelu},                                                 \
    .add = add, .add_scaled = add_scaled, .soft_cap = soft_cap, .log_sum_exp = log_sum_exp,        \
    .update_block = update_block, .digest_block = digest_block, .fma_burst = fma_burst

enum { LANES = 16 };

/* Fixed tree: lane j takes j + 8, then j + 4, j + 2, j + 1. */
static inline float lanes_sum(float lane[LANES]) {
    for (int width = LANES / 2; width >= 1; width /= 2)
        for (int j = 0; j < width; j++) lane[j] = lane[j] + lane[j + width];
    return lane[0];
}

static inline float dot(const float *restrict a, const float *restrict b, int64_t count) {
    float lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++) lane[j] = __builtin_fmaf(a[i + j], b[i + j], lane[j]);
    for (int j = 0; i + j < count; j++) lane[j] = __builtin_fmaf(a[i + j], b[i + j], lane[j]);
    return lanes_sum(lane);
}

static inline void norm_row(float *restrict out, const float *restrict x,
                            const float *restrict gain, int64_t width, float epsilon) {
    float mean_square = dot(x, x, width) / (float)width;
    float inverse = 1.0f / __builtin_sqrtf(mean_square + epsilon);
    for (int64_t i = 0; i < width; i++) out[i] = x[i] * inverse * gain[i];
}

static inline float lanes_total(const float *restrict x, int64_t count) {
    float lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++) lane[j] = lane[j] + x[i + j];
    for (int j = 0; i + j < count; j++) lane[j] = lane[j] + x[i + j];
    return lanes_sum(lane);
}

/* out = x - mean(x); returns 1 / sqrt(mean(out^2) + epsilon) */
static inline float centre_row(float *restrict out, const float *restrict x, int64_t width,
                               float epsilon) {
    float mean = lanes_total(x, width) / (float)width;
    for (int64_t i = 0; i < width; i++) out[i] = x[i] - mean;
    return 1.0f / __builtin_sqrtf(dot(out, out, width) / (float)width + epsilon);
}

static inline void modulate_row(float *restrict out, const float *restrict x,
                                const float *restrict shift, const float *restrict scale,
                                int64_t width, float epsilon) {
    float inverse = centre_row(out, x, width, epsilon);
    for (int64_t i = 0; i < width; i++)
        out[i] = __builtin_fmaf(out[i] * inverse, 1.0f + scale[i], shift[i]);
}

static inline void add_gated_row(float *restrict residual, const float *restrict x,
                                 const float *restrict gate, int64_t width) {
    for (int64_t i = 0; i < width; i++) residual[i] = __builtin_fmaf(gate[i], x[i], residual[i]);
}

static inline void layer_norm_row(float *restrict out, const float *restrict x,
                                  const float *restrict gain, const float *restrict bias,
                                  int64_t width, float epsilon) {
    float inverse = centre_row(out, x, width, epsilon);
    for (int64_t i = 0; i < width; i++) out[i] = __builtin_fmaf(out[i] * inverse, gain[i], bias[i]);
}

static inline void rope_row(float *restrict x, const float *restrict table_row, int64_t head_count,
                            int64_t head_dim) {
    int64_t half = head_dim / 2;
    for (int64_t head = 0; head < head_count; head++) {
        float *low = x + head * head_dim, *high = low + half;
        for (int64_t i = 0; i < half; i++) {
            float cosine = table_row[2 * i], sine = table_row[2 * i + 1];
            float a = low[i], b = high[i];
            low[i] = __builtin_fmaf(a, cosine, -(b * sine));
            high[i] = __builtin_fmaf(b, cosine, a * sine);
        }
    }
}

static inline void soft_cap(float *x, int64_t count, float cap) {
    for (int64_t i = 0; i < count; i++) x[i] = cap * qzo_tanhf(x[i] / cap);
}

static inline void silu(float *restrict gate, const float *restrict up, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        float value = gate[i] / (1.0f + qzo_expf(-gate[i]));
        gate[i] = up != NULL ? value * up[i] : value;
    }
}

static inline void relu(float *restrict gate, const float *restrict up, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        float value = gate[i] < 0.0f ? 0.0f : gate[i]; /* a NaN stays one */
        gate[i] = up != NULL ? value * up[i] : value;
    }
}

/* x / 2 (1 + tanh(y / 2)) = x / (1 + e^-y) */
static inline void gelu_tanh(float *restrict gate, const float *restrict up, int64_t count) {
    const float cubic = 0.044715f, slope = 1.59576912f; /* 2 sqrt(2 / pi) */
    for (int64_t i = 0; i < count; i++) {
        float x = gate[i], y = slope * __builtin_fmaf(cubic * (x * x), x, x);
        float value = x / (1.0f + qzo_expf(-y));
        gate[i] = up != NULL ? value * up[i] : value;
    }
}

static inline void gelu(float *restrict gate, const float *restrict up, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        float x = gate[i], tail = qzo_normal_tailf(x < 0.0f ? -x : x);
        float value = x * (x < 0.0f ? tail : 1.0f - tail);
        gate[i] = up != NULL ? value * up[i] : value;
    }
}

static inline void add(float *restrict residual, const float *restrict x, int64_t count) {
    for (int64_t i = 0; i < count; i++) residual[i] += x[i];
}

static inline void add_scaled(float *restrict x, const float *restrict y, float factor,
                              int64_t count) {
    for (int64_t i = 0; i < count; i++) x[i] = __builtin_fmaf(factor, y[i], x[i]);
}

/* Sums of LOG_SUM_BLOCK terms in fp32 lanes, their total in double: a vocabulary of 128 thousand
 * would lose five digits in fp32 alone. */
enum { LOG_SUM_BLOCK = 1024 };

static inline double log_sum_exp(const float *restrict logits, int64_t count) {
    float largest = -INFINITY;
    for (int64_t i = 0; i < count; i++)
        if (!(logits[i] <= largest)) largest = logits[i]; /* a NaN is taken too */
    double total = 0.0;
    for (int64_t begin = 0; begin < count; begin += LOG_SUM_BLOCK) {
        int64_t end = begin + LOG_SUM_BLOCK < count ? begin + LOG_SUM_BLOCK : count;
        float lane[LANES] = {0};
        int64_t i = begin;
        for (; i + LANES <= end; i += LANES)
            for (int j = 0; j < LANES; j++) lane[j] += qzo_expf(logits[i + j] - largest);
        for (int j = 0; i + j < end; j++) lane[j] += qzo_expf(logits[i + j] - largest);
        total += (double)lanes_sum(lane);
    }
    /* NaN or infinite logits must not look like a loss: qzo_log wants a normal number. */
    if (!(total >= 1.0 && total < 1e300)) return (double)NAN;
    return (double)largest + qzo_log(total);
}

/* z (count) of elements first .. of a tensor; unit: of the same elements, or NULL. */
static inline void fill_directions(float *restrict z, uint64_t seed, uint32_t tensor_id,
                                   int64_t first, int64_t count, qzo_directions directions,
                                   const float *restrict unit) {
    qzo_noise_fill(z, seed, tensor_id, (uint64_t)first, count, directions);
    if (unit == NULL) return;
    for (int64_t i = 0; i < count; i++) z[i] = qzo_scaled_direction(unit[i], z[i]);
}

/* values (count): the trainable values of a weight from element `first` as the forward pass sees
 * them. c = 0 draws nothing. */
static inline void perturbed_values(float *restrict values, const cpu_linear *job, int64_t first,
                                    int64_t count) {
    int64_t offset = job->weight->span_offset + first;
    const float *restrict masters = job->masters + offset;
    const qzo_perturbation *perturbation = &job->perturbation;
    if (perturbation->c == 0.0f) {
        for (int64_t i = 0; i < count; i++) values[i] = masters[i];
        return;
    }
    fill_directions(values, perturbation->seed, job->weight->tensor_id, first, count,
                    perturbation->directions,
                    perturbation->unit == NULL ? NULL : perturbation->unit + offset);
    for (int64_t i = 0; i < count; i++)
        values[i] = qzo_perturbed(masters[i], perturbation->c, values[i]);
}

static inline void update_block(const qzo_update_values *what, const qzo_span *span, int64_t first,
                                int64_t count, const qzo_gain *gains, int64_t gain_count,
                                qzo_directions directions) {
    float z[CPU_UPDATE_BLOCK], before[CPU_UPDATE_BLOCK], rate = qzo_value_group_rate(span->group);
    float *restrict values = what->masters, *restrict velocity = what->velocity;
    float *gained = velocity != NULL ? velocity : values;
    for (int64_t i = 0; i < count; i++) before[i] = values[i];
    if (velocity != NULL)
        for (int64_t i = 0; i < count; i++) velocity[i] = qzo_decayed(velocity[i], what->decay);
    for (int64_t g = 0; g < gain_count; g++) {
        float k = qzo_scaled(gains[g].k, rate);
        fill_directions(z, gains[g].seed, span->tensor_id, first, count, directions, what->unit);
        for (int64_t i = 0; i < count; i++) gained[i] = qzo_updated(gained[i], k, z[i]);
    }
    if (velocity != NULL)
        for (int64_t i = 0; i < count; i++) values[i] = qzo_moved(values[i], velocity[i]);
    float floor = span->floor;
    if (span->constraint == QZO_CONSTRAINT_POSITIVE)
        for (int64_t i = 0; i < count; i++) values[i] = qzo_constrained_positive(values[i], floor);
    if (span->constraint == QZO_CONSTRAINT_KEEP_SIGN)
        for (int64_t i = 0; i < count; i++)
            values[i] = qzo_constrained_sign(values[i], before[i], floor);
}

enum { BURST_CHAINS = 12 };

/* BURST_CHAINS independent vectors hide the latency of an fma. */
static inline double fma_burst(int64_t rounds, float *sink) {
    typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
    lanes chain[BURST_CHAINS];
    float seed = *sink;
    for (int c = 0; c < BURST_CHAINS; c++)
        for (int j = 0; j < LANES; j++) chain[c][j] = seed + (float)(LANES * c + j);
    for (int64_t i = 0; i < rounds; i++)
        for (int c = 0; c < BURST_CHAINS; c++)
            for (int j = 0; j < LANES; j++) chain[c][j] = __builtin_fmaf(chain[c][j], seed, seed);
    for (int c = 0; c < BURST_CHAINS; c++)
        for (int j = 0; j < LANES; j++) *sink += chain[c][j];
    return 2.0 * (double)rounds * BURST_CHAINS * LANES;
}

static inline uint64_t digest_block(const float *restrict values, const qzo_span *span,
                                    int64_t first, int64_t count) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += qzo_digest_mix(span->tensor_id, (uint64_t)(first + i), values[i]);
    return sum;
}

#endif
