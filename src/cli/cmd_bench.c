/* qzo bench MODEL: time, bytes and rate of every operation at the model's own shapes, against what
 * the device does at most in the same process.
 *
 * Method: weights of the first layer (one tensor per distinct shape), activations of seeded noise,
 * N packed rows; each operation runs until PERIOD_SECONDS have passed and at least twice; the best
 * time counts, because whatever else the machine does can only add. Short operations run in batches
 * of BATCH_SECONDS, so that launching and waiting for a device do not count as theirs. Bytes are
 * those that must move at least once: codes, scales and both activations. With --task, whole steps
 * follow (bench_step.c). */
#include "cli/bench_step.h"
#include "cli/cli.h"

#include "base/clock.h"
#include "base/half.h"
#include "base/noise.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RESULTS_MAX = 64, NAME_BYTES = 96, ROWS_DEFAULT = 512, BENCH_SEED = 7 };
enum { STEPS_DEFAULT = 5 };
enum { LENGTH_MAX = 64 }; /* packed sequences of about the length of a classification task */

static const double PERIOD_SECONDS = 0.3;
static const double BATCH_SECONDS = 2e-3;
static const double CLOCK_SECONDS = 1e-9; /* its resolution: no duration is shorter */
static const float BENCH_EPS = 1e-3f;

typedef struct measurement {
    char name[NAME_BYTES];
    int64_t rows;
    double seconds, flops, bytes;
} measurement;

/* Everything in the backend's memory. */
typedef struct bench {
    const qzo_model *model;
    qzo_backend *backend;
    int64_t rows;
    qzo_peaks peaks;
    float *masters, *residual, *logits;
    float *rope_table; /* (length_of, head_dim / 2, {cos, sin}) */
    qzo_act *x, *y, *z, *out;
    int32_t *ids, *positions, *begin, *zero;
    double *log_probs_host;
    qzo_gain *gains_host; /* (gain_count) */
    int64_t gain_count;
    measurement results[RESULTS_MAX];
    int result_count;
} bench;

/* --- buffers --- */

static int64_t widest(const qzo_model *model) {
    const qzo_shape *shape = &model->shape;
    int64_t width = shape->width > shape->ffn_width ? shape->width : shape->ffn_width;
    for (int kind = 0; kind < QZO_LINEAR_COUNT; kind++) {
        const qzo_qtensor *tensor = &model->layers[0].tensors[kind];
        if (tensor->out_features > width) width = tensor->out_features;
        if (tensor->in_features > width) width = tensor->in_features;
    }
    return width;
}

/* The embedding may be wider than the stream that it is projected into. */
static int64_t residual_width(const qzo_shape *shape) {
    return shape->width > shape->embed_width ? shape->width : shape->embed_width;
}

static qzo_status allocate(bench *b, void **out, int64_t count, size_t element_bytes) {
    return b->backend->ops->allocate(b->backend, out, (size_t)count * element_bytes);
}

/* Seeded normals: zeros would be multiplied faster on some devices. */
static qzo_status fill(bench *b, void *out, int64_t count, size_t element_bytes) {
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

/* Tokens of a packed sequence. */
static int64_t length_of(const bench *b) {
    int64_t length = b->rows < LENGTH_MAX ? b->rows : LENGTH_MAX;
    return length < b->model->shape.positions_max ? length : b->model->shape.positions_max;
}

static qzo_status fill_rope_table(bench *b) {
    int64_t count = length_of(b) * b->model->shape.head_dim;
    size_t size_bytes = (size_t)count * sizeof(float);
    float *host = malloc(size_bytes);
    if (host == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu bytes", size_bytes);
    qzo_rope_table_fill(host, &b->model->shape, length_of(b));
    qzo_status status = b->backend->ops->upload(b->backend, b->rope_table, host, size_bytes);
    free(host);
    return status;
}

static qzo_status fill_indices(bench *b) {
    qzo_status status = QZO_OK;
    size_t size_bytes = (size_t)b->rows * sizeof(int32_t);
    int32_t *host = malloc(size_bytes);
    if (host == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu bytes", size_bytes);
    int64_t length = length_of(b);
    for (int64_t i = 0; i < b->rows; i++) host[i] = (int32_t)(i * 7919 % b->model->shape.vocab);
    QZO_TRY(b->backend->ops->upload(b->backend, b->ids, host, size_bytes));
    for (int64_t i = 0; i < b->rows; i++) host[i] = (int32_t)(i % length);
    QZO_TRY(b->backend->ops->upload(b->backend, b->positions, host, size_bytes));
    for (int64_t i = 0; i < b->rows; i++) host[i] = (int32_t)(i - i % length);
    QZO_TRY(b->backend->ops->upload(b->backend, b->begin, host, size_bytes));
    QZO_TRY(b->backend->ops->reserve(b->backend, length, false));
cleanup:
    free(host);
    return status;
}

static qzo_status open_bench(bench *b) {
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
        {(void **)&b->residual, b->rows * residual_width(shape), sizeof(float)},
        {(void **)&b->logits, b->rows * shape->vocab, sizeof(float)},
        {(void **)&b->rope_table, length_of(b) * shape->head_dim, sizeof(float)},
        {(void **)&b->x, wide, act},
        {(void **)&b->y, wide, act},
        {(void **)&b->z, wide, act},
        {(void **)&b->out, wide, act},
        {(void **)&b->ids, b->rows, sizeof(int32_t)},
        {(void **)&b->positions, b->rows, sizeof(int32_t)},
        {(void **)&b->begin, b->rows, sizeof(int32_t)},
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
    QZO_TRY(fill(b, b->residual, b->rows * residual_width(shape), sizeof(float)));
    QZO_TRY(fill_rope_table(b));
    QZO_TRY(fill_indices(b));
cleanup:
    return status;
}

static void close_bench(bench *b) {
    void *const memory[] = {b->masters, b->residual, b->logits, b->rope_table, b->x,     b->y,
                            b->z,       b->out,      b->ids,    b->positions,  b->begin, b->zero};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        b->backend->ops->release(b->backend, memory[i]);
    free(b->log_probs_host);
    free(b->gains_host);
}

/* --- measuring --- */

typedef qzo_status operation(bench *b, const void *what);

/* Waits for everything that the backend still does. */
static qzo_status wait_for(bench *b) {
    float value;
    return b->backend->ops->download(b->backend, &value, b->masters, sizeof value);
}

static qzo_status measure(bench *b, const char *name, double flops, double bytes, operation *run,
                          const void *what) {
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
    if (b->result_count == RESULTS_MAX) return QZO_OK;
    measurement *m = &b->results[b->result_count++];
    *m = (measurement){.rows = b->rows, .seconds = best, .flops = flops, .bytes = bytes};
    snprintf(m->name, sizeof m->name, "%s", name);
cleanup:
    return status;
}

static qzo_status run_embed(bench *b, const void *what) {
    qzo_perturbation clean = {0};
    (void)what;
    return b->backend->ops->embed(b->backend, b->residual, b->model->embedding, b->masters, &clean,
                                  b->ids, b->rows, 1.0f, false);
}

static qzo_status run_norm(bench *b, const void *what) {
    const qzo_norm *norm = what;
    return b->backend->ops->norm(b->backend, b->out, b->residual, norm->gain.values,
                                 norm->bias.values, b->rows, b->model->shape.width,
                                 b->model->arch->norm, b->model->shape.norm_epsilon);
}

static qzo_status run_linear(bench *b, const void *what) {
    qzo_perturbation perturbation = {.seed = BENCH_SEED, .c = BENCH_EPS};
    return b->backend->ops->linear(b->backend, b->out, b->x, what, b->masters, &perturbation,
                                   b->rows);
}

static qzo_status run_rope(bench *b, const void *what) {
    (void)what;
    return b->backend->ops->rope(b->backend, b->y, b->positions, b->rope_table, b->rows,
                                 b->model->shape.head_count, b->model->shape.head_dim);
}

static qzo_status run_attention(bench *b, const void *what) {
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

static qzo_status run_activate(bench *b, const void *what) {
    (void)what;
    return b->backend->ops->activate(b->backend, b->out, b->x, b->rows * b->model->shape.ffn_width,
                                     b->model->shape.activation);
}

static qzo_status run_add(bench *b, const void *what) {
    (void)what;
    return b->backend->ops->add(b->backend, b->residual, b->x, b->rows * b->model->shape.width);
}

static qzo_status run_logits(bench *b, const void *what) {
    qzo_perturbation clean = {0};
    (void)what;
    return b->backend->ops->logits(b->backend, b->logits, b->x, b->model->head, b->masters, &clean,
                                   b->rows);
}

static qzo_status run_log_probs(bench *b, const void *what) {
    (void)what; /* every row once, id 0 */
    return b->backend->ops->log_probs(b->backend, b->log_probs_host, b->logits, b->positions,
                                      b->zero, 1, b->model->shape.vocab);
}

static qzo_status run_update(bench *b, const void *what) {
    const qzo_directions *directions = what;
    const qzo_update_values values = {.masters = b->masters};
    return b->backend->ops->update(b->backend, &values, b->model->spans, b->model->span_count,
                                   b->gains_host, b->gain_count, *directions, NULL);
}

static qzo_status run_digest(bench *b, const void *what) {
    uint64_t digest;
    (void)what;
    return b->backend->ops->digest(b->backend, &digest, b->masters, b->model->spans,
                                   b->model->span_count);
}

/* Codes and scales as stored, and both activations. */
static double linear_bytes(const bench *b, const qzo_qtensor *t) {
    return qzo_profile_weight_bytes(t) + (double)(b->rows * (t->in_features + t->out_features)) *
                                             (double)b->backend->ops->activation_bytes;
}

static qzo_status measure_linears(bench *b) {
    const qzo_layer *layer = &b->model->layers[0];
    for (int kind = 0; kind < QZO_LINEAR_COUNT; kind++) {
        const qzo_qtensor *t = &layer->tensors[kind];
        bool seen = layer->weights[kind] == NULL;
        for (int before = 0; before < kind; before++)
            seen |= layer->tensors[before].out_features == t->out_features &&
                    layer->tensors[before].in_features == t->in_features;
        if (seen) continue;
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "linear %" PRId64 " x %" PRId64 " %s", t->out_features,
                 t->in_features, t->format->name);
        qzo_status status =
            measure(b, name, 2.0 * (double)(b->rows * t->out_features) * (double)t->in_features,
                    linear_bytes(b, t), run_linear, layer->weights[kind]);
        if (status != QZO_OK) return status;
    }
    return QZO_OK;
}

static qzo_status measure_all(bench *b) {
    qzo_status status = QZO_OK;
    static const qzo_directions kinds[] = {QZO_DIRECTIONS_GAUSSIAN, QZO_DIRECTIONS_RADEMACHER};
    const qzo_shape *shape = &b->model->shape;
    double act = (double)b->backend->ops->activation_bytes, rows = (double)b->rows;
    double width = (double)shape->width, values = (double)b->model->value_count;
    double heads = (double)(shape->head_count * shape->head_dim), ffn = (double)shape->ffn_width;
    QZO_TRY(measure_linears(b));
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
    if (values > 0) {
        for (int kind = 0; kind < QZO_DIRECTIONS_COUNT; kind++) {
            char name[NAME_BYTES];
            snprintf(name, sizeof name, "update, %" PRId64 " %s record%s", b->gain_count,
                     qzo_directions_name(kind), b->gain_count > 1 ? "s" : "");
            QZO_TRY(measure(b, name, 2 * values * (double)b->gain_count, 8 * values, run_update,
                            &kinds[kind]));
        }
        QZO_TRY(measure(b, "digest", 0, 4 * values, run_digest, NULL));
    }
cleanup:
    return status;
}

/* --- printing --- */

static void print_table(const bench *b, const char *arithmetic, int threads) {
    printf("%s, %s, %d threads, %" PRId64 " rows\n", b->backend->ops->name, arithmetic, threads,
           b->rows);
    printf("peak %.1f GFLOP/s, copy %.1f GB/s (measured now)\n", b->peaks.flops_per_second / 1e9,
           b->peaks.copy_bytes_per_second / 1e9);
    if (b->peaks.bf16_flops_per_second > 0.0)
        printf("peak of bf16 products %.1f GFLOP/s\n", b->peaks.bf16_flops_per_second / 1e9);
    printf("\n");
    printf("%-34s %12s %10s %8s %10s %8s\n", "operation", "ms", "GFLOP/s", "of peak", "GB/s",
           "of copy");
    for (int i = 0; i < b->result_count; i++) {
        const measurement *m = &b->results[i];
        double flops = m->flops / m->seconds, bytes = m->bytes / m->seconds;
        printf("%-34s %12.4f %10.1f %7.1f%% %10.1f %7.1f%%\n", m->name, m->seconds * 1e3,
               flops / 1e9, 100.0 * flops / b->peaks.flops_per_second, bytes / 1e9,
               100.0 * bytes / b->peaks.copy_bytes_per_second);
    }
}

static qzo_status print_json(const bench *b, const char *arithmetic, int threads, int ranks,
                             const qzo_bench_step *step) {
    json_t *operations = json_array();
    for (int i = 0; i < b->result_count; i++) {
        const measurement *m = &b->results[i];
        json_array_append_new(
            operations, json_pack("{s:s, s:I, s:f, s:f, s:f, s:f, s:f}", "name", m->name, "rows",
                                  (json_int_t)m->rows, "seconds", m->seconds, "bytes", m->bytes,
                                  "gflops", m->flops / m->seconds / 1e9, "share_of_peak",
                                  m->flops / m->seconds / b->peaks.flops_per_second,
                                  "gbytes_per_second", m->bytes / m->seconds / 1e9));
    }
    json_t *root = json_pack("{s:s, s:s, s:i, s:i, s:I, s:f, s:f, s:f, s:o}", "backend",
                             b->backend->ops->name, "arithmetic", arithmetic, "threads", threads,
                             "ranks", ranks, "trainable_values", (json_int_t)b->model->value_count,
                             "peak_gflops", b->peaks.flops_per_second / 1e9, "peak_bf16_gflops",
                             b->peaks.bf16_flops_per_second / 1e9, "copy_gbytes_per_second",
                             b->peaks.copy_bytes_per_second / 1e9, "operations", operations);
    if (step != NULL) json_object_set_new(root, "step", qzo_bench_step_json(step, &b->peaks));
    return qzo_json_print(root);
}

/* --- the command --- */

static qzo_status spec_of(qzo_trial_spec *out, const qzo_options *options) {
    qzo_trial_spec_defaults(out);
    out->model_path = strdup(options->model_path);
    out->task_path = options->task_path != NULL ? strdup(options->task_path) : strdup("");
    if (out->model_path == NULL || out->task_path == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for a path");
    if (options->quantize_name != NULL) out->quantize = options->quantize_name;
    if (options->batch > 0) out->batch = options->batch;
    if (options->sample_count > 0) out->samples_per_step = options->sample_count;
    out->eval_batch = out->batch; /* no evaluation: its workspace must not be the larger one */
    out->steps = options->step_count > 0 ? options->step_count : STEPS_DEFAULT;
    return qzo_trial_spec_complete(out);
}

/* The model and, where one is asked for, the task: all that can be refused, before the measuring.
 */
static qzo_status load(qzo_workbench *workbench, const qzo_trial_spec *spec,
                       const qzo_options *options) {
    qzo_status status = QZO_OK;
    QZO_TRY(qzo_workbench_load_model(workbench, options->model_path, qzo_quantize_kind(options)));
    QZO_TRY(qzo_model_require_decoder(workbench->model));
    if (options->task_path == NULL) return QZO_OK;
    QZO_TRY(qzo_workbench_check_trainable(workbench));
    QZO_TRY(qzo_workbench_prepare(workbench, spec));
cleanup:
    return status;
}

static qzo_status open_backend(qzo_backend **out, int *threads, qzo_comm *world,
                               const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = NULL;
    qzo_backend_options settings = {.pairs = options->pairs, .thread_count = 1};
    int local_size = 1;
    QZO_TRY(qzo_comm_local_rank(world, &settings.local_rank, &local_size));
    *threads = settings.thread_count = qzo_threads(options, local_size);
    QZO_TRY(qzo_backend_open(&backend, options->backend_name, &settings));
    QZO_TRY(qzo_profile_open(out, backend));
cleanup:
    return status;
}

static qzo_status measure_operations(bench *b) {
    qzo_status status = QZO_OK;
    if (b->backend->ops->measure_peaks != NULL)
        QZO_TRY(b->backend->ops->measure_peaks(b->backend, &b->peaks));
    QZO_TRY(open_bench(b));
    QZO_TRY(measure_all(b));
cleanup:
    close_bench(b);
    return status;
}

/* Under a launcher every rank measures, which is what sharing a machine costs; rank 0 prints. */
int qzo_cmd_bench(const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_comm *world = NULL;
    qzo_backend *backend = NULL;
    qzo_workbench workbench = {0};
    qzo_trial_spec spec = {0};
    qzo_bench_step step;
    qzo_launch launch = qzo_environment_launch();
    bench b = {.rows = options->row_count > 0 ? options->row_count : ROWS_DEFAULT,
               .gain_count = options->record_count > 0 ? options->record_count : 1};
    int threads = 1;
    QZO_TRY(qzo_comm_world_open(&world, &launch));
    qzo_log_configure(options->log_level, world->rank, world->size);
    status = open_backend(&backend, &threads, world, options);
    if (status == QZO_OK) status = spec_of(&spec, options);
    if (status == QZO_OK) {
        qzo_workbench_init(&workbench, backend);
        status = load(&workbench, &spec, options);
    }
    QZO_TRY(qzo_comm_worst_status(world, status));
    b.backend = backend;
    b.model = workbench.model;
    QZO_TRY(qzo_comm_worst_status(world, measure_operations(&b)));
    bool has_task = options->task_path != NULL;
    if (has_task) QZO_TRY(qzo_bench_step_measure(&step, &workbench, &spec, world));
    if (world->rank != 0) goto cleanup;
    const char *arithmetic = backend->ops->arithmetic(backend);
    if (options->json) {
        QZO_TRY(print_json(&b, arithmetic, threads, world->size, has_task ? &step : NULL));
    } else {
        print_table(&b, arithmetic, threads);
        if (has_task) qzo_bench_step_print(&step, &b.peaks);
    }
cleanup:;
    int code = world == NULL || world->rank == 0 ? qzo_exit_report(status, options)
                                                 : qzo_exit_code(status);
    qzo_workbench_release(&workbench);
    qzo_trial_spec_release(&spec);
    qzo_backend_close(backend);
    qzo_comm_close(world);
    return code;
}
