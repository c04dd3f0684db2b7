#include "trial/export.h"

#include "base/file_io.h"
#include "model/adapter_folder.h"
#include "trial/evaluate.h"
#include "weights/model_dir_write.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- scores --- */

static bool never(void *context) {
    (void)context;
    return false;
}

static void nothing(void *context) { (void)context; }

/* Of the bench's masters on dev. */
static qzo_status evaluate(qzo_export_score *out, qzo_workbench *bench,
                           const qzo_trial_spec *spec) {
    qzo_comm *alone = NULL;
    const qzo_trial_hooks hooks = {.should_park = never, .poll = nothing};
    const qzo_split *dev = &bench->task->splits[QZO_SPLIT_DEV];
    if (dev->example_count == 0) return QZO_OK;
    qzo_status status = qzo_comm_local_open(&alone);
    if (status == QZO_OK)
        status =
            qzo_evaluate_split(&out->score, &out->loss, bench, alone, dev, spec, QZO_OK, &hooks);
    qzo_comm_close(alone);
    return status;
}

/* --- writing and reading back --- */

/* Three arrays in host memory: the values that train, the model's, then the adapters'. There is
 * room for the model's that do not train, which are read with the others. */
typedef struct values {
    float *initial, *tuned, *written;
    int64_t model_count, count;
} values;

static void values_free(values *v) {
    free(v->initial);
    free(v->tuned);
    free(v->written);
}

static qzo_status values_allocate(values *out, const qzo_workbench *bench) {
    int64_t count = qzo_workbench_value_count(bench), model_count = bench->model->value_count;
    size_t room = (size_t)(bench->model->master_count + count - model_count) + 1;
    *out = (values){.initial = calloc(room, sizeof(float)),
                    .tuned = calloc(room, sizeof(float)),
                    .written = calloc(room, sizeof(float)),
                    .model_count = model_count,
                    .count = count};
    if (out->initial != NULL && out->tuned != NULL && out->written != NULL) return QZO_OK;
    values_free(out);
    *out = (values){0};
    return qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld values", (long long)count);
}

static void count_survivors(qzo_export_report *out, const values *v, int64_t count) {
    out->value_count += count;
    for (int64_t i = 0; i < count; i++) {
        if (v->tuned[i] == v->initial[i]) continue;
        out->changed_count++;
        out->surviving_count += v->written[i] != v->initial[i];
    }
}

/* Whether the folder is that of adapters and nothing else. */
static bool is_alone(const qzo_workbench *bench, const qzo_export_request *request) {
    return bench->adapters != NULL && bench->model->span_count == 0 &&
           request->kind != QZO_EXPORT_MERGED;
}

/* Where the adapters of a folder lie; fresh. */
static char *adapter_path(const qzo_workbench *bench, const qzo_export_request *request,
                          const char *path) {
    return is_alone(bench, request) ? strdup(path) : qzo_path_join(path, "adapter");
}

/* The bench takes the model as a reader of what was written has it. *delta: the file of a delta,
 * which that model borrows. */
static qzo_status read_back(qzo_workbench *bench, qzo_safetensors **delta,
                            const qzo_export_request *request, const char *base_path,
                            const char *path) {
    qzo_status status = QZO_OK;
    qzo_model_dir *dir = NULL;
    char *file = qzo_path_join(path, "model.safetensors");
    bool is_delta = request->kind == QZO_EXPORT_DELTA && bench->model->span_count > 0;
    bool is_adapters_alone = is_alone(bench, request);
    if (file == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    QZO_TRY(qzo_model_dir_open(&dir, is_delta || is_adapters_alone ? base_path : path));
    if (!is_adapters_alone) bench->training.quantize = NULL; /* it stands in the folder now */
    if (is_delta) {
        QZO_TRY(qzo_safetensors_open(delta, file));
        QZO_TRY(qzo_model_dir_overlay(dir, *delta));
    }
    qzo_model_dir *taken = dir;
    dir = NULL;
    QZO_TRY(qzo_workbench_take_model(bench, taken));
cleanup:
    qzo_model_dir_close(dir);
    free(file);
    return status;
}

static qzo_status check_merge(const qzo_workbench *bench) {
    if (bench->adapters != NULL) return qzo_adapters_check_merge(bench->adapters);
    return qzo_fail(QZO_ERR_USAGE, "--merge: the trial has no adapters (groups: lora)");
}

static qzo_status write_adapters(const qzo_workbench *bench, const values *v,
                                 const qzo_export_request *request, const char *path) {
    bool has_model = request->kind == QZO_EXPORT_FOLDER && !is_alone(bench, request);
    char *folder = adapter_path(bench, request, path);
    char *base = has_model ? strdup(request->final_path) : qzo_path_absolute(bench->model_path);
    qzo_status status =
        folder != NULL && base != NULL
            ? qzo_adapter_folder_write(bench->adapters, v->tuned + v->model_count, base, folder)
            : qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    free(folder);
    free(base);
    return status;
}

/* Merging changes v->tuned where adapted weights train themselves. */
static qzo_status write_tensors(qzo_export_report *out, const qzo_workbench *bench, values *v,
                                const qzo_export_request *request, const char *path) {
    qzo_status status = QZO_OK;
    const qzo_model *model = bench->model;
    qzo_tensor_changes changes = {0};
    qzo_merge_counts merged = {0};
    out->has_adapters = bench->adapters != NULL && request->kind != QZO_EXPORT_MERGED;
    out->has_model = !is_alone(bench, request);
    if (out->has_adapters) QZO_TRY(write_adapters(bench, v, request, path));
    if (out->has_model) {
        if (request->kind == QZO_EXPORT_MERGED && bench->adapters != NULL)
            QZO_TRY(qzo_adapters_merge(&changes, &merged, v->tuned, bench->adapters,
                                       v->tuned + v->model_count));
        QZO_TRY(qzo_model_changes(&changes, model, v->tuned));
        out->tensor_count = changes.count;
        if (request->kind == QZO_EXPORT_DELTA)
            QZO_TRY(qzo_model_dir_write_delta(&out->tensor_count, model->dir, &changes, path));
        else
            QZO_TRY(qzo_model_dir_write(model->dir, &changes, path));
    }
    if (out->has_adapters) out->tensor_count += bench->adapters->span_count;
    out->value_count = merged.count;
    out->changed_count = merged.changed;
    out->surviving_count = merged.surviving;
cleanup:
    qzo_tensor_changes_release(&changes);
    return status;
}

/* The values as a reader of `path` has them, in v->written. */
static qzo_status read_written(qzo_workbench *bench, values *v, qzo_safetensors **delta,
                               const qzo_export_request *request, const char *base_path,
                               const char *path) {
    qzo_status status = QZO_OK;
    char *folder = adapter_path(bench, request, path);
    if (folder == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    if (request->kind == QZO_EXPORT_MERGED) bench->adapter_settings.rank = 0;
    QZO_TRY(read_back(bench, delta, request, base_path, path));
    QZO_TRY(qzo_model_initial_values(bench->model, v->written));
    if (bench->adapters != NULL)
        QZO_TRY(qzo_adapter_folder_read(v->written + v->model_count, bench->adapters, folder));
cleanup:
    free(folder);
    return status;
}

/* A delta is laid over the base model, which has no tensors in this format. */
static qzo_status check_kind(const qzo_trial_spec *spec, const qzo_export_request *request) {
    if (request->kind != QZO_EXPORT_DELTA || strcmp(spec->quantize, "none") == 0) return QZO_OK;
    return qzo_fail(QZO_ERR_USAGE,
                    "--delta: the model was quantized at load (quantize: %s), its base has no such "
                    "tensors: export the folder, or --journal",
                    spec->quantize);
}

qzo_status qzo_export_write(qzo_export_report *out, qzo_workbench *bench,
                            const qzo_journal_file *file, const qzo_trial_spec *spec,
                            const qzo_export_request *request, const char *path) {
    qzo_status status = QZO_OK;
    values v = {0};
    qzo_safetensors *delta = NULL;
    const double none = (double)NAN;
    *out = (qzo_export_report){.tuned = {none, none}, .exported = {none, none}};
    QZO_TRY(check_kind(spec, request));
    if (request->evaluate)
        QZO_TRY(qzo_workbench_prepare(bench, spec));
    else
        QZO_TRY(qzo_workbench_load_for(bench, spec));
    if (request->kind == QZO_EXPORT_MERGED) QZO_TRY(check_merge(bench));
    out->step = request->step;
    QZO_TRY(qzo_replay_to(&out->step, bench, file, spec, request->base_digest));
    QZO_TRY(qzo_masters_digest(&out->digest, &bench->trainable));
    QZO_TRY(values_allocate(&v, bench));
    QZO_TRY(qzo_model_initial_values(bench->model, v.initial));
    if (bench->adapters != NULL)
        qzo_adapters_initial_values(bench->adapters, v.initial + v.model_count,
                                    bench->adapter_seed);
    QZO_TRY(qzo_workbench_download(bench, v.tuned));
    if (request->evaluate) QZO_TRY(evaluate(&out->tuned, bench, spec));
    QZO_TRY(write_tensors(out, bench, &v, request, path));
    QZO_TRY(read_written(bench, &v, &delta, request, spec->model_path, path));
    count_survivors(out, &v, request->kind == QZO_EXPORT_MERGED ? v.model_count : v.count);
    if (request->evaluate) {
        QZO_TRY(qzo_workbench_prepare_task(bench, spec));
        QZO_TRY(qzo_workbench_reset(bench, spec));
        if (bench->adapters != NULL) QZO_TRY(qzo_workbench_upload(bench, v.written));
        QZO_TRY(evaluate(&out->exported, bench, spec));
    }
cleanup:
    qzo_workbench_drop_model(bench); /* it borrows the delta */
    qzo_safetensors_close(delta);
    values_free(&v);
    return status;
}

/* --- the journal --- */

qzo_status qzo_export_journal_bytes(size_t *size_bytes, uint64_t *digest,
                                    const qzo_journal_file *file, const qzo_trial_spec *spec,
                                    int64_t until_step) {
    qzo_status status = QZO_OK;
    size_t samples = (size_t)qzo_trial_spec_records(spec);
    int64_t last = 0;
    qzo_frame_reader reader;
    qzo_frame frame;
    qzo_record *records = calloc(samples, sizeof *records);
    float *k = calloc(samples, sizeof *k);
    char *texts = NULL;
    qzo_journal_header header;
    if (records == NULL || k == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu records", samples);
        goto cleanup;
    }
    *size_bytes = 0;
    qzo_frame_reader_start(&reader, file->bytes, file->valid_bytes, QZO_JOURNAL_MAGIC);
    while (qzo_frame_next(&reader, &frame)) {
        if (frame.type == QZO_FRAME_STEP) {
            qzo_step step;
            QZO_TRY(qzo_step_decode(&step, records, k, (int64_t)samples, &frame));
            if (step.step > until_step) break;
            last = step.step;
            *digest = step.digest;
        } else if (frame.type == QZO_FRAME_HEADER) {
            QZO_TRY(qzo_header_decode(&header, &texts, &frame));
            *digest = header.initial_digest;
        }
        *size_bytes = reader.valid_bytes;
    }
    if (last < until_step)
        status = qzo_fail(QZO_ERR_USAGE, "--step %lld: the journal ends at step %lld",
                          (long long)until_step, (long long)last);
cleanup:
    free(texts);
    free(records);
    free(k);
    return status;
}
