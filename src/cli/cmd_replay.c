/* qzo replay DIR TRIAL: rebuilds a trial's scales from its journal, on this machine alone. */
#include "cli/cli.h"
#include "cli/recorded_trial.h"
#include "trial/replay.h"

#include <inttypes.h>

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
    QZO_TRY(qzo_workbench_load_for(&bench, spec));
    QZO_TRY(qzo_replay(&progress, &bench, NULL, file, spec, until));
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
    qzo_recorded_trial trial;
    qzo_status status = qzo_recorded_trial_open(&trial, options);
    if (status == QZO_OK) status = replay(&trial.file, &trial.spec, options);
    qzo_recorded_trial_close(&trial);
    return qzo_exit_report(status, options);
}
