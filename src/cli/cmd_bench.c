/* qzo bench MODEL: time, bytes and rate of every operation at the model's own shapes, against what
 * the device does at most in the same process (bench_ops.h says how). With --task, whole steps
 * follow (bench_step.c). */
#include "cli/bench_ops.h"
#include "cli/bench_step.h"
#include "cli/cli.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_DEFAULT = 512, STEPS_DEFAULT = 5 };

/* --- printing --- */

static const char *origin_of(const qzo_peaks *peaks) {
    return peaks->pretended != NULL ? peaks->pretended : "measured now";
}

static void print_table(const qzo_bench *b, const char *arithmetic, int threads) {
    printf("%s, %s, %d threads, %" PRId64 " rows\n", b->backend->ops->name, arithmetic, threads,
           b->rows);
    printf("peak %.1f GFLOP/s, copy %.1f GB/s (%s)\n", b->peaks.flops_per_second / 1e9,
           b->peaks.copy_bytes_per_second / 1e9, origin_of(&b->peaks));
    if (b->peaks.bf16_flops_per_second > 0.0)
        printf("peak of bf16 products %.1f GFLOP/s\n", b->peaks.bf16_flops_per_second / 1e9);
    printf("\n");
    printf("%-34s %12s %10s %8s %10s %8s\n", "operation", "ms", "GFLOP/s", "of peak", "GB/s",
           "of copy");
    for (int i = 0; i < b->result_count; i++) {
        const qzo_bench_result *m = &b->results[i];
        double flops = m->flops / m->seconds, bytes = m->bytes / m->seconds;
        printf("%-34s %12.4f %10.1f %7.1f%% %10.1f %7.1f%%\n", m->name, m->seconds * 1e3,
               flops / 1e9, 100.0 * flops / b->peaks.flops_per_second, bytes / 1e9,
               100.0 * bytes / b->peaks.copy_bytes_per_second);
    }
}

static qzo_status print_json(const qzo_bench *b, const char *arithmetic, int threads, int ranks,
                             const qzo_bench_step *step) {
    json_t *operations = json_array();
    for (int i = 0; i < b->result_count; i++) {
        const qzo_bench_result *m = &b->results[i];
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
    json_object_set_new(root, "peaks", json_string(origin_of(&b->peaks)));
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

static qzo_status measure_operations(qzo_bench *b) {
    qzo_status status = QZO_OK;
    if (b->backend->ops->measure_peaks != NULL)
        QZO_TRY(b->backend->ops->measure_peaks(b->backend, &b->peaks));
    QZO_TRY(qzo_bench_measure(b));
cleanup:
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
    qzo_bench b = {.rows = options->row_count > 0 ? options->row_count : ROWS_DEFAULT,
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
