/* qzo replay DIR TRIAL: rebuilds a trial's scales from its journal, on this machine alone. */
#include "cli/cli.h"

#include "sweep/results.h"
#include "trial/replay.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The settings of a trial from its journal's header, with the places that the run noted. */
static qzo_status read_spec(qzo_trial_spec *spec, const qzo_journal_file *file,
                            const qzo_listed_trial *listed, const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_frame_reader reader;
    qzo_frame frame;
    qzo_journal_header header;
    char *texts = NULL;
    const char *model_path = options->model_path != NULL ? options->model_path : listed->model_path;
    qzo_frame_reader_start(&reader, file->bytes, file->valid_bytes, QZO_JOURNAL_MAGIC);
    if (!qzo_frame_next(&reader, &frame))
        return qzo_fail(QZO_ERR_NOT_FOUND, "the trial has no journal yet");
    QZO_TRY(qzo_header_decode(&header, &texts, &frame));
    QZO_TRY(qzo_trial_spec_parse(spec, header.settings));
    spec->model_path = strdup(model_path);
    spec->task_path = strdup(listed->task_path);
    if (spec->model_path == NULL || spec->task_path == NULL)
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for a path");
cleanup:
    free(texts);
    return status;
}

/* The digest that the journal recorded after `step`: a STEP's, or the header's for step 0. */
static qzo_status replay(const qzo_journal_file *file, const qzo_trial_spec *spec,
                         const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = NULL;
    qzo_workbench bench = {0};
    qzo_progress progress = {0};
    uint64_t digest = 0;
    qzo_backend_options backend_options = {.thread_count = qzo_threads(options, 1)};
    int64_t until = options->step >= 0 ? options->step : INT64_MAX;
    QZO_TRY(qzo_backend_open(&backend, options->backend_name, &backend_options));
    qzo_workbench_init(&bench, backend);
    QZO_TRY(qzo_workbench_load_model(&bench, spec->model_path));
    QZO_TRY(qzo_replay(&progress, &bench, file, spec, until));
    if (options->step >= 0 && progress.last_step < options->step) {
        status = qzo_fail(QZO_ERR_USAGE, "--step %" PRId64 ": the journal ends at step %" PRId64,
                          options->step, progress.last_step);
        goto cleanup;
    }
    QZO_TRY(qzo_masters_digest(&digest, &bench.trainable));
    printf("step %" PRId64 " digest %016" PRIx64 "\n", progress.last_step, digest);
    if (options->check && digest != progress.digest)
        status = qzo_fail(QZO_ERR_DESYNC,
                          "step %" PRId64 ": the journal records digest %016" PRIx64
                          ", the replay gives %016" PRIx64,
                          progress.last_step, progress.digest, digest);
cleanup:
    qzo_progress_release(&progress);
    qzo_workbench_release(&bench);
    qzo_backend_close(backend);
    return status;
}

int qzo_cmd_replay(const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_results *results = NULL;
    const qzo_result_row *row = NULL;
    qzo_journal_file file = {0};
    qzo_trial_spec spec = {0};
    char *path = NULL;
    QZO_TRY(qzo_results_load(&results, options->folder));
    QZO_TRY(qzo_results_find(&row, results, options->trial));
    path = qzo_journal_path(options->folder, &row->trial->id);
    if (path == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for a path");
        goto cleanup;
    }
    QZO_TRY(qzo_journal_load(&file, path));
    if (file.tail == QZO_TAIL_DAMAGED)
        qzo_log_warn("%s is damaged behind byte %zu: only what stands before is replayed", path,
                     file.valid_bytes);
    QZO_TRY(read_spec(&spec, &file, row->trial, options));
    QZO_TRY(replay(&file, &spec, options));
cleanup:
    free(path);
    qzo_trial_spec_release(&spec);
    qzo_journal_release(&file);
    qzo_results_free(results);
    return qzo_exit_report(status, options);
}
