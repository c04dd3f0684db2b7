#include "trial/export.h"

#include "base/file_io.h"
#include "trial/evaluate.h"
#include "weights/model_dir_write.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- the values of the step --- */

static qzo_status check_base(const qzo_workbench *bench, const qzo_digest *expected) {
    qzo_digest found;
    char expected_text[QZO_DIGEST_TEXT_BYTES], found_text[QZO_DIGEST_TEXT_BYTES];
    qzo_status status = qzo_model_dir_digest(&found, bench->model->dir);
    if (status != QZO_OK || qzo_digest_equal(&found, expected)) return status;
    qzo_digest_text(expected_text, expected);
    qzo_digest_text(found_text, &found);
    return qzo_fail(QZO_ERR_CONFIG,
                    "%s is not the model that the trial started from: expected contents %s, found "
                    "%s; --model names the right folder",
                    bench->model_path, expected_text, found_text);
}

/* Replays to the step asked for, or to the best one; leaves its values in the masters. */
static qzo_status rebuild(qzo_export_report *out, qzo_workbench *bench,
                          const qzo_journal_file *file, const qzo_trial_spec *spec, int64_t step) {
    qzo_status status = QZO_OK;
    qzo_progress progress = {0};
    QZO_TRY(qzo_replay(&progress, bench, NULL, file, spec, step >= 0 ? step : INT64_MAX));
    out->step = step >= 0 ? step : progress.best_step;
    if (step >= 0 && progress.last_step < step)
        status = qzo_fail(QZO_ERR_USAGE, "--step %lld: the journal ends at step %lld",
                          (long long)step, (long long)progress.last_step);
    else if (out->step < 0)
        status = qzo_fail(QZO_ERR_USAGE, "the trial has no evaluation yet, so no best step; --step "
                                         "names one");
    else if (step < 0)
        status = qzo_workbench_restore_best(bench);
    if (status == QZO_OK) status = qzo_masters_digest(&out->digest, &bench->trainable);
cleanup:
    qzo_progress_release(&progress);
    return status;
}

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
        status = qzo_evaluate_split(&out->score, &out->loss, bench, alone, dev, spec->eval_batch,
                                    QZO_OK, &hooks);
    qzo_comm_close(alone);
    return status;
}

/* --- writing and reading back --- */

/* Three arrays of the model's values in host memory. */
typedef struct values {
    float *initial, *tuned, *written;
    int64_t count;
} values;

static void values_free(values *v) {
    free(v->initial);
    free(v->tuned);
    free(v->written);
}

static qzo_status values_allocate(values *out, int64_t count) {
    size_t room = (size_t)count + 1;
    *out = (values){.initial = calloc(room, sizeof(float)),
                    .tuned = calloc(room, sizeof(float)),
                    .written = calloc(room, sizeof(float)),
                    .count = count};
    if (out->initial != NULL && out->tuned != NULL && out->written != NULL) return QZO_OK;
    values_free(out);
    *out = (values){0};
    return qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld values", (long long)count);
}

static void count_survivors(qzo_export_report *out, const values *v) {
    out->value_count = v->count;
    for (int64_t i = 0; i < v->count; i++) {
        if (v->tuned[i] == v->initial[i]) continue;
        out->changed_count++;
        out->surviving_count += v->written[i] != v->initial[i];
    }
}

/* The bench takes the model as a reader of what was written has it. *delta: the file of a delta,
 * which that model borrows. */
static qzo_status read_back(qzo_workbench *bench, qzo_safetensors **delta,
                            const qzo_export_request *request, const char *base_path,
                            const char *path) {
    qzo_status status = QZO_OK;
    qzo_model_dir *dir = NULL;
    char *file = qzo_path_join(path, "model.safetensors");
    bool is_delta = request->kind == QZO_EXPORT_DELTA;
    if (file == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    QZO_TRY(qzo_model_dir_open(&dir, is_delta ? base_path : path));
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

static qzo_status write_tensors(qzo_export_report *out, const qzo_model *model, const values *v,
                                const qzo_export_request *request, const char *path) {
    qzo_status status = QZO_OK;
    qzo_tensor_changes changes = {0};
    QZO_TRY(qzo_model_changes(&changes, model, v->tuned));
    out->tensor_count = changes.count;
    if (request->kind == QZO_EXPORT_DELTA)
        QZO_TRY(qzo_model_dir_write_delta(&out->tensor_count, model->dir, &changes, path));
    else
        QZO_TRY(qzo_model_dir_write(model->dir, &changes, path));
cleanup:
    qzo_tensor_changes_release(&changes);
    return status;
}

qzo_status qzo_export_write(qzo_export_report *out, qzo_workbench *bench,
                            const qzo_journal_file *file, const qzo_trial_spec *spec,
                            const qzo_export_request *request, const char *path) {
    qzo_status status = QZO_OK;
    values v = {0};
    qzo_safetensors *delta = NULL;
    const double none = (double)NAN;
    *out = (qzo_export_report){.tuned = {none, none}, .exported = {none, none}};
    if (request->evaluate)
        QZO_TRY(qzo_workbench_prepare(bench, spec));
    else
        QZO_TRY(qzo_workbench_load_for(bench, spec));
    QZO_TRY(check_base(bench, request->base_digest));
    QZO_TRY(rebuild(out, bench, file, spec, request->step));
    QZO_TRY(values_allocate(&v, bench->model->value_count));
    size_t size_bytes = (size_t)v.count * sizeof(float);
    QZO_TRY(qzo_model_initial_values(bench->model, v.initial));
    QZO_TRY(bench->backend->ops->download(bench->backend, v.tuned, bench->masters, size_bytes));
    if (request->evaluate) QZO_TRY(evaluate(&out->tuned, bench, spec));
    QZO_TRY(write_tensors(out, bench->model, &v, request, path));
    QZO_TRY(read_back(bench, &delta, request, spec->model_path, path));
    QZO_TRY(qzo_model_initial_values(bench->model, v.written));
    count_survivors(out, &v);
    if (request->evaluate) {
        QZO_TRY(qzo_workbench_prepare_task(bench, spec));
        QZO_TRY(qzo_workbench_reset(bench, spec));
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
    size_t samples = (size_t)spec->samples_per_step;
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
            QZO_TRY(qzo_step_decode(&step, records, k, spec->samples_per_step, &frame));
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
