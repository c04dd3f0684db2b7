/* qzo export DIR TRIAL --to FOLDER: a trial's tuned model in its checkpoint's own format. */
#include "cli/cli.h"
#include "cli/recorded_trial.h"

#include "base/file_io.h"
#include "base/new_folder.h"
#include "trial/export.h"
#include "trial/fork.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *kind_name(const qzo_options *options) {
    if (options->merge) return "merged";
    return options->journal ? "journal" : options->delta ? "delta" : "folder";
}

/* A score as JSON, null where there is none. */
static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

/* --- FOLDER/qzo_export.json: where the export comes from --- */

static qzo_status write_note(const qzo_recorded_trial *trial, const qzo_options *options,
                             const qzo_export_report *report, const char *folder) {
    qzo_status status = QZO_OK;
    char base[QZO_DIGEST_TEXT_BYTES], digest[17];
    char *settings = qzo_trial_spec_canonical(&trial->spec);
    char *path = qzo_path_join(folder, "qzo_export.json"), *text = NULL;
    qzo_digest_text(base, &trial->model_digest);
    snprintf(digest, sizeof digest, "%016" PRIx64, report->digest);
    json_t *note =
        json_pack("{s:s, s:s, s:I, s:s, s:s, s:s}", "kind", kind_name(options), "trial",
                  trial->row->id, "step", (json_int_t)report->step, "values_digest", digest,
                  "base_model_digest", base, "settings", settings != NULL ? settings : "");
    if (note != NULL) text = json_dumps(note, JSON_INDENT(2));
    if (settings == NULL || path == NULL || text == NULL)
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", folder);
    else
        status = qzo_file_replace(path, text, strlen(text));
    json_decref(note);
    free(settings);
    free(path);
    free(text);
    return status;
}

/* --- --journal --- */

/* An output folder with this trial alone, its journal cut behind the step. */
static qzo_status write_journal(qzo_export_report *report, const qzo_recorded_trial *trial,
                                const qzo_options *options, const char *folder) {
    qzo_status status = QZO_OK;
    size_t size_bytes = 0;
    bool changed = false;
    qzo_decisions *decisions = NULL;
    const qzo_listing *listing = trial->results->listing;
    const qzo_listed_trial *listed = trial->row->trial;
    qzo_grid_trial only = {.spec = trial->spec, .id = listed->id, .values = listed->values};
    const qzo_scheduling alone = {.ops = &qzo_sched_fifo};
    qzo_grid grid = {.trials = &only,
                     .trial_count = 1,
                     .swept_keys = (const char **)(uintptr_t)listing->swept_keys,
                     .swept_count = listing->swept_count};
    qzo_journal_file cut = trial->file;
    char *trials = qzo_path_join(folder, "trials"), *path = NULL, *settings = NULL;
    if (trials == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", folder);
        goto cleanup;
    }
    report->step = options->step >= 0 ? options->step : trial->row->summary.best_step;
    if (report->step < 0) {
        status = qzo_fail(QZO_ERR_USAGE, "the trial has no evaluation yet, so no best step; --step "
                                         "names one");
        goto cleanup;
    }
    QZO_TRY(qzo_export_journal_bytes(&size_bytes, &report->digest, &trial->file, &trial->spec,
                                     report->step));
    cut.valid_bytes = size_bytes;
    QZO_TRY(qzo_journal_settings(&settings, &only.id, &cut)); /* before a fork: its origin's */
    path = qzo_journal_path(folder, &only.id);
    if (path == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", folder);
        goto cleanup;
    }
    QZO_TRY(qzo_folder_create(trials));
    QZO_TRY(qzo_file_replace(path, trial->file.bytes, size_bytes));
    QZO_TRY(qzo_decisions_open(&decisions, folder, QZO_DECISIONS_NAME));
    QZO_TRY(qzo_decisions_grid(decisions, listing->name, &grid, &alone, &changed));
cleanup:;
    qzo_status closed = qzo_decisions_close(decisions);
    if (status == QZO_OK) status = closed;
    free(settings);
    free(trials);
    free(path);
    return status;
}

/* --- a folder or a delta --- */

static qzo_status write_model(qzo_export_report *report, const qzo_recorded_trial *trial,
                              const qzo_options *options, const char *folder) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = NULL;
    qzo_workbench bench = {0};
    qzo_backend_options backend_options = {.pairs = QZO_PAIRS_NEVER,
                                           .thread_count = qzo_threads(options, 1)};
    char *final_path = qzo_path_absolute(options->to_folder);
    qzo_export_request request = {.kind = options->delta   ? QZO_EXPORT_DELTA
                                          : options->merge ? QZO_EXPORT_MERGED
                                                           : QZO_EXPORT_FOLDER,
                                  .final_path = final_path,
                                  .step = options->step,
                                  .evaluate = !options->no_eval,
                                  .base_digest = &trial->model_digest};
    if (request.evaluate && access(trial->spec.task_path, R_OK) != 0) {
        qzo_log_warn("%s cannot be read: the dev split is not scored", trial->spec.task_path);
        request.evaluate = false;
    }
    if (final_path == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", options->to_folder);
        goto cleanup;
    }
    QZO_TRY(qzo_backend_open(&backend, options->backend_name, &backend_options));
    qzo_workbench_init(&bench, backend);
    QZO_TRY(qzo_export_write(report, &bench, &trial->file, &trial->spec, &request, folder));
cleanup:
    qzo_workbench_release(&bench);
    qzo_backend_close(backend);
    free(final_path);
    return status;
}

/* --- printing --- */

/* Images have no score. */
static void print_score(const char *head, const qzo_export_score *score) {
    printf("%-8s ", head);
    if (!isnan(score->score)) printf("score %.4f, ", score->score);
    printf("loss %.6f", score->loss);
}

static void print_report(const qzo_export_report *report, const qzo_options *options) {
    printf("%s: step %" PRId64 ", digest %016" PRIx64 "\n", options->to_folder, report->step,
           report->digest);
    if (options->journal) {
        printf("rebuild it: qzo export %s 1 --step %" PRId64 " --model BASE --to FOLDER\n",
               options->to_folder, report->step);
        return;
    }
    printf("values   %" PRId64 ", of which %" PRId64 " changed; %" PRId64
           " of these survive the rounding to the format\n",
           report->value_count, report->changed_count, report->surviving_count);
    printf("tensors  %" PRId64 " written anew\n", report->tensor_count);
    if (report->has_adapters)
        printf("adapters %s%s, for PEFT\n", options->to_folder,
               report->has_model ? "/adapter" : "");
    if (isnan(report->tuned.loss)) return;
    print_score("dev", &report->tuned);
    printf(" before the rounding\n");
    print_score("", &report->exported);
    printf(" after it, read back from the folder\n");
}

static qzo_status print_json(const qzo_export_report *report, const qzo_options *options) {
    char digest[17];
    snprintf(digest, sizeof digest, "%016" PRIx64, report->digest);
    json_t *root =
        json_pack("{s:s, s:s, s:I, s:s}", "folder", options->to_folder, "kind", kind_name(options),
                  "step", (json_int_t)report->step, "values_digest", digest);
    if (root != NULL && !options->journal) {
        json_t *more = json_pack(
            "{s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "values", (json_int_t)report->value_count,
            "changed", (json_int_t)report->changed_count, "surviving",
            (json_int_t)report->surviving_count, "tensors", (json_int_t)report->tensor_count,
            "dev_score", number(report->tuned.score), "dev_loss", number(report->tuned.loss),
            "exported_dev_score", number(report->exported.score), "exported_dev_loss",
            number(report->exported.loss));
        json_object_update(root, more);
        json_decref(more);
    }
    return qzo_json_print(root);
}

int qzo_cmd_export(const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_recorded_trial trial = {0};
    qzo_new_folder folder = {0};
    qzo_export_report report = {0};
    QZO_TRY(qzo_recorded_trial_open(&trial, options));
    QZO_TRY(qzo_new_folder_begin(&folder, options->to_folder));
    if (options->journal)
        QZO_TRY(write_journal(&report, &trial, options, folder.temporary));
    else
        QZO_TRY(write_model(&report, &trial, options, folder.temporary));
    QZO_TRY(write_note(&trial, options, &report, folder.temporary));
    QZO_TRY(qzo_new_folder_commit(&folder));
    if (options->json)
        QZO_TRY(print_json(&report, options));
    else
        print_report(&report, options);
cleanup:
    qzo_new_folder_close(&folder);
    qzo_recorded_trial_close(&trial);
    return qzo_exit_report(status, options);
}
