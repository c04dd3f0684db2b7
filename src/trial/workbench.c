#include "trial/workbench.h"

#include "base/clock.h"
#include "trial/bench_kind.h"
#include "trial/workbench_values.h"

#include <stdlib.h>
#include <string.h>

void qzo_workbench_init(qzo_workbench *out, qzo_backend *backend) {
    *out = (qzo_workbench){.backend = backend, .training = qzo_training_default};
}

/* --- what must fit together --- */

static int64_t adapter_values(const qzo_workbench *bench) {
    return bench->adapters != NULL ? bench->adapters->value_count : 0;
}

int64_t qzo_workbench_value_count(const qzo_workbench *bench) {
    return bench->model->value_count + adapter_values(bench);
}

qzo_status qzo_workbench_check_trainable(const qzo_workbench *bench) {
    if (qzo_workbench_value_count(bench) > 0) return QZO_OK;
    return qzo_fail(QZO_ERR_CONFIG,
                    "%s: the model has nothing to train: none of its weights is quantized, or the "
                    "trial's groups have none of its tensors (tools/quantize_gptq.py makes a GPTQ "
                    "folder; groups: weights trains what is not quantized, groups: lora trains "
                    "adapters)",
                    bench->model_path);
}

/* A task asks for a model of its kind. */
static qzo_status check_kind(const qzo_workbench *bench, const qzo_trial_spec *spec) {
    const qzo_bench_kind *of_model = qzo_bench_kind_of_model(bench->model);
    if (of_model == bench->kind) return QZO_OK;
    return qzo_fail(QZO_ERR_CONFIG, "%s is a model of %s, %s a task of %s", spec->model_path,
                    of_model->name, spec->task_path, bench->kind->name);
}

/* --- loading --- */

static void drop_workspace(qzo_workbench *bench) {
    if (bench->workspace != NULL) bench->kind->close(bench->workspace);
    bench->workspace = NULL;
}

static void drop_masters(qzo_workbench *bench) {
    bench->backend->ops->release(bench->backend, bench->initial);
    bench->backend->ops->release(bench->backend, bench->masters);
    bench->backend->ops->release(bench->backend, bench->beside);
    free(bench->best_host);
    bench->initial = bench->masters = bench->beside = bench->best_host = NULL;
    qzo_core_room_close(bench->room);
    bench->room = NULL;
    free(bench->spans);
    bench->spans = NULL;
    bench->trainable = (qzo_trainable){0};
}

static void drop_adapters(qzo_workbench *bench) {
    drop_workspace(bench); /* it borrows them */
    qzo_adapters_close(bench->adapters);
    bench->adapters = NULL;
}

static void drop_model(qzo_workbench *bench) {
    drop_adapters(bench);
    drop_masters(bench);
    qzo_model_free(bench->model);
    bench->model = NULL;
    free(bench->model_path);
    bench->model_path = NULL;
    bench->load_seconds = 0.0;
}

static void drop_task(qzo_workbench *bench) {
    qzo_task_close(bench->task);
    bench->task = NULL;
    bench->kind = NULL;
    free(bench->task_path);
    bench->task_path = NULL;
}

void qzo_workbench_release(qzo_workbench *bench) {
    if (bench->backend == NULL) return;
    drop_model(bench);
    drop_task(bench);
    *bench = (qzo_workbench){0};
}

/* Adapters are perturbed by themselves, whatever their trial does with scales: B starts at 0. */
static void fill_units(const qzo_workbench *bench, float *host) {
    float *units = host + bench->model->master_count;
    for (int64_t i = 0; i < adapter_values(bench); i++) units[i] = 1.0f;
}

static qzo_status load_initial(qzo_workbench *bench, size_t size_bytes) {
    qzo_status status = QZO_OK;
    float *host = malloc(size_bytes > 0 ? size_bytes : 1);
    if (host == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu bytes", size_bytes);
    QZO_TRY(qzo_model_initial_values(bench->model, host));
    fill_units(bench, host);
    QZO_TRY(bench->backend->ops->upload(bench->backend, bench->initial, host, size_bytes));
    /* What lies behind the values that train stays as it is. */
    QZO_TRY(bench->backend->ops->upload(bench->backend, bench->masters, host, size_bytes));
    bench->best_host = host; /* of the same size */
    host = NULL;
cleanup:
    free(host);
    return status;
}

static qzo_status load_masters(qzo_workbench *bench) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = bench->backend;
    const qzo_model *model = bench->model;
    const qzo_adapters *adapters = bench->adapters;
    int64_t adapter_spans = adapters != NULL ? adapters->span_count : 0;
    size_t size_bytes = qzo_workbench_masters_bytes(bench);
    float **const arrays[] = {&bench->initial, &bench->masters};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        void *memory = NULL;
        QZO_TRY(backend->ops->allocate(backend, &memory, size_bytes));
        *arrays[i] = memory;
    }
    if (!backend->dry) QZO_TRY(load_initial(bench, size_bytes));
    bench->spans = calloc((size_t)(model->span_count + adapter_spans) + 1, sizeof *bench->spans);
    if (bench->spans == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for the spans");
        goto cleanup;
    }
    for (int64_t i = 0; i < model->span_count; i++) bench->spans[i] = model->spans[i];
    for (int64_t i = 0; i < adapter_spans; i++)
        bench->spans[model->span_count + i] = adapters->spans[i];
    bench->trainable = (qzo_trainable){.backend = backend,
                                       .masters = bench->masters,
                                       .spans = bench->spans,
                                       .span_count = model->span_count + adapter_spans,
                                       .groups = bench->model->groups,
                                       .group_count = QZO_GROUP_COUNT};
cleanup:
    return status;
}

/* The adapters of the bench's settings, and masters with room for them. */
static qzo_status load_adapters(qzo_workbench *bench) {
    qzo_status status = QZO_OK;
    drop_adapters(bench);
    drop_masters(bench);
    if (bench->adapter_settings.rank > 0)
        QZO_TRY(qzo_adapters_open(&bench->adapters, bench->model, &bench->adapter_settings));
    QZO_TRY(load_masters(bench));
cleanup:
    return status;
}

qzo_status qzo_workbench_take_model(qzo_workbench *bench, qzo_model_dir *dir) {
    qzo_status status = QZO_OK;
    double begin = qzo_clock_seconds();
    drop_model(bench);
    bench->model_path = strdup(qzo_model_dir_path(dir));
    if (bench->model_path == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", qzo_model_dir_path(dir));
        qzo_model_dir_close(dir);
        return status;
    }
    QZO_TRY(qzo_model_load_for(&bench->model, dir, bench->backend, &bench->training));
    QZO_TRY(load_adapters(bench));
    bench->load_seconds = qzo_clock_seconds() - begin;
cleanup:
    if (status != QZO_OK) drop_model(bench);
    return status;
}

void qzo_workbench_log_load(qzo_workbench *bench, qzo_log_level level) {
    qzo_memory_use use;
    double seconds = bench->load_seconds, gigabyte = 1e9;
    if (bench->model == NULL || seconds <= 0.0) return;
    bench->load_seconds = 0.0;
    double mapped = (double)qzo_model_dir_data_bytes(bench->model->dir) / gigabyte;
    if (bench->backend->ops->memory_use(bench->backend, &use) != QZO_OK) return;
    double copied = (double)use.held_bytes[QZO_MEMORY_WEIGHTS] / gigabyte;
    if (copied > 0.0)
        qzo_log(level, "%s: %.3f GB to the device in %.3f s, %.2f GB/s", bench->model_path, copied,
                seconds, copied / seconds);
    else
        qzo_log(level, "%s: %.3f GB mapped in %.3f s, %.2f GB/s; copies beside them have %.3f GB",
                bench->model_path, mapped, seconds, mapped / seconds,
                (double)bench->model->loaded_bytes / gigabyte);
}

static bool holds(const qzo_workbench *bench, const char *path, const qzo_training *training) {
    return bench->model != NULL && strcmp(bench->model_path, path) == 0 &&
           qzo_training_equal(&bench->training, training);
}

bool qzo_workbench_holds(const qzo_workbench *bench, const qzo_trial_spec *spec) {
    const qzo_training training = qzo_trial_spec_training(spec);
    return holds(bench, spec->model_path, &training);
}

/* The model at path, for that training and with these adapters. What is there already stays. */
static qzo_status load_for(qzo_workbench *bench, const char *path, const qzo_training *training,
                           const qzo_adapter_settings *adapters) {
    qzo_status status = QZO_OK;
    qzo_model_dir *dir = NULL;
    bool is_loaded = holds(bench, path, training);
    if (is_loaded && qzo_adapter_settings_equal(&bench->adapter_settings, adapters)) return QZO_OK;
    bench->training = *training;
    bench->adapter_settings = *adapters;
    if (is_loaded) {
        status = load_adapters(bench);
    } else {
        status = qzo_model_dir_open(&dir, path);
        if (status == QZO_OK) return qzo_workbench_take_model(bench, dir);
    }
    if (status != QZO_OK) drop_model(bench);
    return status;
}

qzo_status qzo_workbench_load_model(qzo_workbench *bench, const char *path,
                                    const qzo_bnb_kind *quantize) {
    qzo_training training = qzo_training_default;
    training.quantize = quantize;
    return load_for(bench, path, &training, &(qzo_adapter_settings){.targets = ""});
}

qzo_status qzo_workbench_load_for(qzo_workbench *bench, const qzo_trial_spec *spec) {
    const qzo_training training = qzo_trial_spec_training(spec);
    const qzo_adapter_settings adapters = qzo_trial_spec_adapters(spec);
    qzo_status status = load_for(bench, spec->model_path, &training, &adapters);
    if (status != QZO_OK) return status;
    /* The last trial's workspace may be larger than this one's: no plan has room for both. */
    if (bench->beside == NULL && qzo_workbench_needs_beside(spec)) drop_workspace(bench);
    return qzo_workbench_hold_beside(bench, spec);
}

static qzo_status load_task(qzo_workbench *bench, const char *path) {
    qzo_status status = QZO_OK;
    if (bench->task != NULL && strcmp(bench->task_path, path) == 0) return QZO_OK;
    drop_workspace(bench);
    drop_task(bench);
    QZO_TRY(qzo_task_open(&bench->task, path));
    bench->kind = qzo_bench_kind_of_task(bench->task);
    QZO_TRY(bench->kind->find_scoring(&bench->loss, &bench->metric, bench->task, path));
    bench->task_path = strdup(path);
    if (bench->task_path == NULL) status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
cleanup:
    if (status != QZO_OK) drop_task(bench);
    return status;
}

void qzo_workbench_drop_model(qzo_workbench *bench) {
    if (bench->backend != NULL) drop_model(bench);
}

qzo_status qzo_workbench_prepare(qzo_workbench *bench, const qzo_trial_spec *spec) {
    qzo_status status = qzo_workbench_load_for(bench, spec);
    return status == QZO_OK ? qzo_workbench_prepare_task(bench, spec) : status;
}

qzo_status qzo_workbench_prepare_task(qzo_workbench *bench, const qzo_trial_spec *spec) {
    qzo_status status = QZO_OK;
    QZO_TRY(qzo_workbench_hold_beside(bench, spec)); /* not there after a model was taken */
    QZO_TRY(load_task(bench, spec->task_path));
    QZO_TRY(check_kind(bench, spec));
    QZO_TRY(bench->kind->prepare(bench, spec));
cleanup:
    return status;
}

/* --- evaluating --- */

qzo_status qzo_workbench_evaluate(qzo_workbench *bench, qzo_sums *out, const qzo_batch *batch,
                                  const qzo_perturbation *perturbation) {
    *out = (qzo_sums){0};
    return bench->kind->evaluate(bench, out, batch, perturbation);
}

qzo_status qzo_workbench_evaluate_pair(qzo_workbench *bench, qzo_sums out[2],
                                       const qzo_batch *batch,
                                       const qzo_perturbation *perturbation) {
    out[0] = out[1] = (qzo_sums){0};
    return bench->kind->evaluate_pair(bench, out, batch, perturbation);
}

qzo_status qzo_workbench_score(qzo_workbench *bench, qzo_sums *out, const qzo_batch *batch,
                               const qzo_perturbation *perturbation) {
    *out = (qzo_sums){0};
    return bench->kind->score(bench, out, batch, perturbation);
}
