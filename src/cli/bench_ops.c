#include "cli/bench_ops.h"

#include "backend/backend_profile.h"
#include "base/clock.h"
#include "base/half.h"
#include "base/noise.h"
#include "model/mmdit.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BENCH_SEED = 7 };
enum { LENGTH_MAX = 64 }; /* packed sequences of about the length of a classification task */

static const double PERIOD_SECONDS = 0.3;
static const double BATCH_SECONDS = 2e-3;
static const double CLOCK_SECONDS = 1e-9; /* its resolution: no duration is shorter */
static const float BENCH_EPS = 1e-3f;

/* --- buffers --- */

enum { LINEARS_MAX = QZO_MMDIT_LINEAR_COUNT, FFN = 4, MODULATIONS = 6 };
_Static_assert((int)QZO_LINEAR_COUNT <= (int)LINEARS_MAX, "room for either kind of model");

/* Those of the first layer; of images without modulations, which take a row per example. */
typedef struct linears {
    const qzo_qtensor *tensors[LINEARS_MAX];
    const qzo_weight *weights[LINEARS_MAX];
    int count;
} linears;

static void add_linear(linears *out, const qzo_qtensor *tensor, const qzo_weight *weight) {
    if (weight == NULL) return;
    out->tensors[out->count] = tensor;
    out->weights[out->count++] = weight;
}

static linears linears_of(const qzo_model *model) {
    linears out = {.count = 0};
    if (model->mmdit != NULL) {
        const qzo_linear *all = model->mmdit->blocks[0].linears;
        for (int kind = QZO_MMDIT_Q; kind < QZO_MMDIT_LINEAR_COUNT; kind++)
            add_linear(&out, &all[kind].tensor, all[kind].weight);
        return out;
    }
    for (int kind = 0; kind < QZO_LINEAR_COUNT; kind++)
        add_linear(&out, &model->layers[0].tensors[kind], model->layers[0].weights[kind]);
    return out;
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t width_of(const qzo_model *model) {
    return model->mmdit != NULL ? model->mmdit->shape.width : model->shape.width;
}

static int64_t ffn_of(const qzo_model *model) {
    return model->mmdit != NULL ? FFN * model->mmdit->shape.width : model->shape.ffn_width;
}

static int64_t widest(const qzo_model *model) {
    const linears all = linears_of(model);
    int64_t width = larger(width_of(model), ffn_of(model));
    if (model->mmdit != NULL) width = larger(width, MODULATIONS * width_of(model));
    for (int i = 0; i < all.count; i++) {
        width = larger(width, all.tensors[i]->out_features);
        width = larger(width, all.tensors[i]->in_features);
    }
    return width;
}

/* The embedding may be wider than the stream that it is projected into. */
static int64_t residual_width(const qzo_model *model) {
    return larger(width_of(model), model->shape.embed_width);
}

static qzo_status allocate(qzo_bench *b, void **out, int64_t count, size_t element_bytes) {
    return b->backend->ops->allocate(b->backend, out, (size_t)count * element_bytes);
}

/* Seeded normals: zeros would be multiplied faster on some devices. */
static qzo_status fill(qzo_bench *b, void *out, int64_t count, size_t element_bytes) {
    qzo_status status = QZO_OK;
    float *host = malloc((size_t)count * sizeof *host);
    if (host == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for %" PRId64, count);
    qzo_noise_fill(host, BENCH_SEED, 0, 0, count, QZO_DIRECTIONS_GAUSSIAN);
    if (element_bytes == sizeof(uint16_t)) { /* fp16; in place, from the front */
        uint8_t *halves = (uint8_t *)host;
        for (int64_t i = 0; i < count; i++) {
            uint16_t half = qzo_float_to_fp16(host[i]);
            memcpy(halves + (size_t)i * sizeof half, &half, sizeof half);
        }
    }
    QZO_TRY(b->backend->ops->upload(b->backend, out, host, (size_t)count * element_bytes));
cleanup:
    free(host);
    return status;
}

/* Tokens of a packed sequence; the rows of images are one example's. */
static int64_t length_of(const qzo_bench *b) {
    if (b->model->mmdit != NULL) return b->rows;
    int64_t length = b->rows < LENGTH_MAX ? b->rows : LENGTH_MAX;
    return length < b->model->shape.positions_max ? length : b->model->shape.positions_max;
}

static qzo_status fill_rope_table(qzo_bench *b) {
    if (b->model->mmdit != NULL) return QZO_OK;
    int64_t count = length_of(b) * b->model->shape.head_dim;
    size_t size_bytes = (size_t)count * sizeof(float);
    float *host = malloc(size_bytes);
    if (host == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu bytes", size_bytes);
    qzo_rope_table_fill(host, &b->model->shape, length_of(b));
    qzo_status status = b->backend->ops->upload(b->backend, b->rope_table, host, size_bytes);
    free(host);
    return status;
}

static qzo_status fill_indices(qzo_bench *b) {
    qzo_status status = QZO_OK;
    size_t size_bytes = (size_t)b->rows * sizeof(int32_t);
    int32_t *host = malloc(size_bytes);
    if (host == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu bytes", size_bytes);
    int64_t length = length_of(b);
    int64_t vocab = larger(b->model->shape.vocab, 1); /* images have none */
    for (int64_t i = 0; i < b->rows; i++) host[i] = (int32_t)(i * 7919 % vocab);
    QZO_TRY(b->backend->ops->upload(b->backend, b->ids, host, size_bytes));
    for (int64_t i = 0; i < b->rows; i++) host[i] = (int32_t)(i % length);
    QZO_TRY(b->backend->ops->upload(b->backend, b->positions, host, size_bytes));
    for (int64_t i = 0; i < b->rows; i++) host[i] = (int32_t)(i - i % length);
    QZO_TRY(b->backend->ops->upload(b->backend, b->begin, host, size_bytes));
    for (int64_t i = 0; i < b->rows; i++) host[i] = (int32_t)(i - i % length + length);
    QZO_TRY(b->backend->ops->upload(b->backend, b->end, host, size_bytes));
    QZO_TRY(b->backend->ops->reserve(b->backend, length, false));
cleanup:
    free(host);
    return status;
}

static qzo_status open_bench(qzo_bench *b) {
    qzo_status status = QZO_OK;
    const qzo_shape *shape = &b->model->shape;
    size_t act = b->backend->ops->activation_bytes;
    int64_t wide = b->rows * widest(b->model);
    struct {
        void **out;
        int64_t count;
        size_t element_bytes;
    } const arrays[] = {
        {(void **)&b->masters, b->model->master_count + 1, sizeof(float)},
        {(void **)&b->residual, b->rows * residual_width(b->model), sizeof(float)},
        {(void **)&b->logits, b->rows * shape->vocab + 1, sizeof(float)},
        {(void **)&b->rope_table, length_of(b) * shape->head_dim + 1, sizeof(float)},
        {(void **)&b->x, wide, act},
        {(void **)&b->y, wide, act},
        {(void **)&b->z, wide, act},
        {(void **)&b->out, wide, act},
        {(void **)&b->ids, b->rows, sizeof(int32_t)},
        {(void **)&b->positions, b->rows, sizeof(int32_t)},
        {(void **)&b->begin, b->rows, sizeof(int32_t)},
        {(void **)&b->end, b->rows, sizeof(int32_t)},
        {(void **)&b->zero, b->rows, sizeof(int32_t)},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        QZO_TRY(allocate(b, arrays[i].out, arrays[i].count, arrays[i].element_bytes));
    b->log_probs_host = calloc((size_t)b->rows, sizeof(double));
    b->gains_host = calloc((size_t)b->gain_count, sizeof *b->gains_host);
    float *initial = malloc((size_t)(b->model->master_count + 1) * sizeof *initial);
    if (b->log_probs_host == NULL || b->gains_host == NULL || initial == NULL) {
        free(initial);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for %" PRId64 " rows", b->rows);
    }
    for (int64_t i = 0; i < b->gain_count; i++) /* k is 0: the values stay */
        b->gains_host[i].seed = BENCH_SEED + (uint64_t)i;
    status = qzo_model_initial_values(b->model, initial);
    if (status == QZO_OK)
        status = b->backend->ops->upload(b->backend, b->masters, initial,
                                         (size_t)b->model->master_count * sizeof(float));
    free(initial);
    QZO_TRY(status);
    QZO_TRY(fill(b, b->x, wide, act));
    QZO_TRY(fill(b, b->y, wide, act));
    QZO_TRY(fill(b, b->z, wide, act));
    QZO_TRY(fill(b, b->residual, b->rows * residual_width(b->model), sizeof(float)));
    QZO_TRY(fill_rope_table(b));
    QZO_TRY(fill_indices(b));
cleanup:
    return status;
}

static void close_bench(qzo_bench *b) {
    void *const memory[] = {b->masters, b->residual, b->logits, b->rope_table, b->x,
                            b->y,       b->z,        b->out,    b->ids,        b->positions,
                            b->begin,   b->end,      b->zero};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        b->backend->ops->release(b->backend, memory[i]);
    free(b->log_probs_host);
    free(b->gains_host);
}

/* --- measuring --- */

typedef qzo_status operation(qzo_bench *b, const void *what);

/* Waits for everything that the backend still does. */
static qzo_status wait_for(qzo_bench *b) {
    float value;
    return b->backend->ops->download(b->backend, &value, b->masters, sizeof value);
}

static qzo_status measure(qzo_bench *b, const char *name, double flops, double bytes,
                          operation *run, const void *what) {
    qzo_status status = QZO_OK;
    double best = 1e30, begin = qzo_clock_seconds();
    int64_t calls = 1; /* before the device is waited for */
    for (int count = 0; count < 2 || qzo_clock_seconds() - begin < PERIOD_SECONDS; count++) {
        double start = qzo_clock_seconds();
        for (int64_t i = 0; i < calls; i++) QZO_TRY(run(b, what));
        QZO_TRY(wait_for(b));
        double seconds = (qzo_clock_seconds() - start) / (double)calls;
        if (count == 0) calls = 1 + (int64_t)(BATCH_SECONDS / (seconds + CLOCK_SECONDS));
        if (seconds < best) best = seconds;
    }
    if (b->result_count == QZO_BENCH_RESULTS_MAX) return QZO_OK;
    qzo_bench_result *m = &b->results[b->result_count++];
    *m = (qzo_bench_result){.rows = b->rows, .seconds = best, .flops = flops, .bytes = bytes};
    snprintf(m->name, sizeof m->name, "%s", name);
cleanup:
    return status;
}

static qzo_status run_embed(qzo_bench *b, const void *what) {
    qzo_perturbation clean = {0};
    (void)what;
    return b->backend->ops->embed(b->backend, b->residual, b->model->embedding, b->masters, &clean,
                                  b->ids, b->rows, 1.0f, false);
}

static qzo_status run_norm(qzo_bench *b, const void *what) {
    const qzo_norm *norm = what;
    return b->backend->ops->norm(b->backend, b->out, b->residual, norm->gain.values,
                                 norm->bias.values, b->rows, b->model->shape.width,
                                 b->model->arch->norm, b->model->shape.norm_epsilon);
}

static qzo_status run_linear(qzo_bench *b, const void *what) {
    qzo_perturbation perturbation = {.seed = BENCH_SEED, .c = BENCH_EPS};
    return b->backend->ops->linear(b->backend, b->out, b->x, what, b->masters, &perturbation,
                                   b->rows);
}

static qzo_status run_rope(qzo_bench *b, const void *what) {
    (void)what;
    return b->backend->ops->rope(b->backend, b->y, b->positions, b->rope_table, b->rows,
                                 b->model->shape.head_count, b->model->shape.head_dim);
}

static qzo_status run_attention(qzo_bench *b, const void *what) {
    const qzo_shape *shape = &b->model->shape;
    (void)what;
    qzo_attention attention = {.prefix_begin = b->zero,
                               .prefix_end = b->zero,
                               .own_begin = b->begin,
                               .context_max = length_of(b),
                               .head_count = shape->head_count,
                               .kv_head_count = shape->kv_head_count,
                               .head_dim = shape->head_dim,
                               .scale = shape->attention_scale,
                               .score_cap = shape->score_cap,
                               .window = b->model->layers[0].window};
    return b->backend->ops->attention(b->backend, b->out, b->x, b->y, b->z, &attention, b->rows);
}

/* Every row over all rows, as an image's patches and its text do. */
static qzo_status run_joint_attention(qzo_bench *b, const void *what) {
    const qzo_mmdit_shape *shape = &b->model->mmdit->shape;
    (void)what;
    qzo_attention attention = {.prefix_begin = b->begin,
                               .prefix_end = b->end,
                               .own_begin = b->zero,
                               .own_end = b->zero,
                               .context_max = b->rows,
                               .head_count = shape->head_count,
                               .kv_head_count = shape->head_count,
                               .head_dim = shape->head_dim,
                               .scale = 1.0f / sqrtf((float)shape->head_dim)};
    return b->backend->ops->attention(b->backend, b->out, b->x, b->y, b->z, &attention, b->rows);
}

static qzo_modulation modulation_of(const qzo_bench *b) {
    return (qzo_modulation){
        .values = b->y, .stride = MODULATIONS * width_of(b->model), .rows_per_example = b->rows};
}

static qzo_status run_modulate(qzo_bench *b, const void *what) {
    const qzo_modulation modulation = modulation_of(b);
    int64_t width = width_of(b->model);
    (void)what;
    return b->backend->ops->modulate(b->backend, b->out, b->residual, &modulation, 0, width,
                                     b->rows, width, BENCH_EPS);
}

static qzo_status run_add_gated(qzo_bench *b, const void *what) {
    const qzo_modulation modulation = modulation_of(b);
    int64_t width = width_of(b->model);
    (void)what;
    return b->backend->ops->add_gated(b->backend, b->residual, b->x, &modulation, 2 * width,
                                      b->rows, width);
}

/* Norms of the heads of q. */
static qzo_status run_head_norm(qzo_bench *b, const void *what) {
    const qzo_mmdit_shape *shape = &b->model->mmdit->shape;
    const qzo_vector *gain = what;
    return b->backend->ops->norm(b->backend, b->out, b->residual, gain->values, NULL,
                                 b->rows * shape->head_count, shape->head_dim, QZO_NORM_RMS,
                                 BENCH_EPS);
}

static qzo_status run_activate(qzo_bench *b, const void *what) {
    (void)what;
    return b->backend->ops->activate(b->backend, b->out, b->x, b->rows * ffn_of(b->model),
                                     b->model->mmdit != NULL ? QZO_ACTIVATION_GELU_TANH
                                                             : b->model->shape.activation);
}

static qzo_status run_add(qzo_bench *b, const void *what) {
    (void)what;
    return b->backend->ops->add(b->backend, b->residual, b->x, b->rows * b->model->shape.width);
}

static qzo_status run_logits(qzo_bench *b, const void *what) {
    qzo_perturbation clean = {0};
    (void)what;
    return b->backend->ops->logits(b->backend, b->logits, b->x, b->model->head, b->masters, &clean,
                                   b->rows);
}

static qzo_status run_log_probs(qzo_bench *b, const void *what) {
    (void)what; /* every row once, id 0 */
    return b->backend->ops->log_probs(b->backend, b->log_probs_host, b->logits, b->positions,
                                      b->zero, 1, b->model->shape.vocab);
}

static qzo_status run_update(qzo_bench *b, const void *what) {
    const qzo_directions *directions = what;
    const qzo_update_values values = {.masters = b->masters};
    return b->backend->ops->update(b->backend, &values, b->model->spans, b->model->span_count,
                                   b->gains_host, b->gain_count, *directions, NULL);
}

static qzo_status run_digest(qzo_bench *b, const void *what) {
    uint64_t digest;
    (void)what;
    return b->backend->ops->digest(b->backend, &digest, b->masters, b->model->spans,
                                   b->model->span_count);
}

/* Codes and scales as stored, and both activations. */
static double linear_bytes(const qzo_bench *b, const qzo_qtensor *t) {
    return qzo_profile_weight_bytes(t) + (double)(b->rows * (t->in_features + t->out_features)) *
                                             (double)b->backend->ops->activation_bytes;
}

static qzo_status measure_linears(qzo_bench *b) {
    const linears all = linears_of(b->model);
    for (int i = 0; i < all.count; i++) {
        const qzo_qtensor *t = all.tensors[i];
        bool seen = false;
        for (int before = 0; before < i; before++)
            seen |= all.tensors[before]->out_features == t->out_features &&
                    all.tensors[before]->in_features == t->in_features;
        if (seen) continue;
        char name[QZO_BENCH_NAME_BYTES];
        snprintf(name, sizeof name, "linear %" PRId64 " x %" PRId64 " %s", t->out_features,
                 t->in_features, t->format->name);
        qzo_status status =
            measure(b, name, 2.0 * (double)(b->rows * t->out_features) * (double)t->in_features,
                    linear_bytes(b, t), run_linear, all.weights[i]);
        if (status != QZO_OK) return status;
    }
    return QZO_OK;
}

static qzo_status measure_texts(qzo_bench *b) {
    qzo_status status = QZO_OK;
    const qzo_shape *shape = &b->model->shape;
    double act = (double)b->backend->ops->activation_bytes, rows = (double)b->rows;
    double width = (double)shape->width;
    double heads = (double)(shape->head_count * shape->head_dim), ffn = (double)shape->ffn_width;
    QZO_TRY(measure(b, "embed", 0, rows * width * (4 + 2), run_embed, NULL));
    QZO_TRY(measure(b, "norm", 4 * rows * width, rows * width * (4 + act), run_norm,
                    &b->model->layers[0].norms[QZO_PLACE_FFN]));
    if (b->model->arch->positions == NULL)
        QZO_TRY(measure(b, "rope", 6 * rows * heads / 2, 2 * rows * heads * act, run_rope, NULL));
    /* A row of 64 attends to 32.5 rows on average. */
    QZO_TRY(measure(b, "attention, rows of 64", 4 * 32.5 * rows * heads, 4 * rows * heads * act,
                    run_attention, NULL));
    QZO_TRY(measure(b, "activate", 0, 3 * rows * ffn * act, run_activate, NULL));
    QZO_TRY(measure(b, "add", rows * width, rows * width * (8 + act), run_add, NULL));
    QZO_TRY(measure(b, "logits", 2 * rows * (double)shape->vocab * (double)shape->embed_width,
                    linear_bytes(b, b->backend->ops->weight_tensor(b->model->head)), run_logits,
                    NULL));
    QZO_TRY(
        measure(b, "log-probability of 1 row", 0, 4 * (double)shape->vocab, run_log_probs, NULL));
cleanup:
    return status;
}

static qzo_status measure_images(qzo_bench *b) {
    qzo_status status = QZO_OK;
    const qzo_vector *norm = &b->model->mmdit->blocks[0].norms[QZO_MMDIT_NORM_Q];
    double act = (double)b->backend->ops->activation_bytes, rows = (double)b->rows;
    double width = (double)width_of(b->model), ffn = (double)ffn_of(b->model);
    QZO_TRY(measure(b, "modulate", 8 * rows * width, rows * width * (4 + act), run_modulate, NULL));
    if (norm->values != NULL)
        QZO_TRY(measure(b, "norm of heads", 3 * rows * width, rows * width * (4 + act),
                        run_head_norm, norm));
    QZO_TRY(measure(b, "attention, all rows", 4 * rows * rows * width, 4 * rows * width * act,
                    run_joint_attention, NULL));
    QZO_TRY(measure(b, "activate", 0, 2 * rows * ffn * act, run_activate, NULL));
    QZO_TRY(
        measure(b, "add gated", 2 * rows * width, rows * width * (8 + act), run_add_gated, NULL));
cleanup:
    return status;
}

static qzo_status measure_updates(qzo_bench *b) {
    qzo_status status = QZO_OK;
    static const qzo_directions kinds[] = {QZO_DIRECTIONS_GAUSSIAN, QZO_DIRECTIONS_RADEMACHER};
    double values = (double)b->model->value_count;
    if (b->model->value_count == 0) return QZO_OK;
    for (int kind = 0; kind < QZO_DIRECTIONS_COUNT; kind++) {
        char name[QZO_BENCH_NAME_BYTES];
        snprintf(name, sizeof name, "update, %" PRId64 " %s record%s", b->gain_count,
                 qzo_directions_name(kind), b->gain_count > 1 ? "s" : "");
        QZO_TRY(measure(b, name, 2 * values * (double)b->gain_count, 8 * values, run_update,
                        &kinds[kind]));
    }
    QZO_TRY(measure(b, "digest", 0, 4 * values, run_digest, NULL));
cleanup:
    return status;
}

qzo_status qzo_bench_measure(qzo_bench *bench) {
    qzo_status status = QZO_OK;
    QZO_TRY(open_bench(bench));
    QZO_TRY(measure_linears(bench));
    QZO_TRY(bench->model->mmdit != NULL ? measure_images(bench) : measure_texts(bench));
    QZO_TRY(measure_updates(bench));
cleanup:
    close_bench(bench);
    return status;
}
