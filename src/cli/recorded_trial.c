#include "cli/recorded_trial.h"

#include "base/log.h"
#include "trial/fork.h"

#include <stdlib.h>
#include <string.h>

/* The settings of a trial from its journal, with the places that the run noted. */
static qzo_status read_spec(qzo_recorded_trial *out, const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_frame_reader reader;
    qzo_frame frame;
    qzo_journal_header header;
    char *texts = NULL, *settings = NULL;
    qzo_digest identity;
    const qzo_listed_trial *listed = out->row->trial;
    const char *model_path = options->model_path != NULL ? options->model_path : listed->model_path;
    qzo_frame_reader_start(&reader, out->file.bytes, out->file.valid_bytes, QZO_JOURNAL_MAGIC);
    if (!qzo_frame_next(&reader, &frame))
        return qzo_fail(QZO_ERR_NOT_FOUND, "the trial has no journal yet");
    QZO_TRY(qzo_header_decode(&header, &texts, &frame));
    QZO_TRY(qzo_journal_settings(&settings, &identity, &out->file));
    QZO_TRY(qzo_trial_spec_parse(&out->spec, settings));
    out->model_digest = header.model_digest;
    out->spec.model_path = strdup(model_path);
    out->spec.task_path = strdup(listed->task_path);
    if (out->spec.model_path == NULL || out->spec.task_path == NULL)
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for a path");
cleanup:
    free(settings);
    free(texts);
    return status;
}

qzo_status qzo_recorded_trial_open(qzo_recorded_trial *out, const qzo_options *options) {
    qzo_status status = QZO_OK;
    char *path = NULL;
    *out = (qzo_recorded_trial){0};
    QZO_TRY(qzo_results_load(&out->results, options->folder));
    QZO_TRY(qzo_results_find(&out->row, out->results, options->trial));
    path = qzo_journal_path(options->folder, &out->row->trial->id);
    if (path == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for a path");
        goto cleanup;
    }
    QZO_TRY(qzo_journal_load(&out->file, path));
    if (out->file.tail == QZO_TAIL_DAMAGED)
        qzo_log_warn("%s is damaged behind byte %zu: only what stands before is used", path,
                     out->file.valid_bytes);
    QZO_TRY(read_spec(out, options));
cleanup:
    free(path);
    if (status != QZO_OK) qzo_recorded_trial_close(out);
    return status;
}

void qzo_recorded_trial_close(qzo_recorded_trial *trial) {
    qzo_trial_spec_release(&trial->spec);
    qzo_journal_release(&trial->file);
    qzo_results_free(trial->results);
    *trial = (qzo_recorded_trial){0};
}
