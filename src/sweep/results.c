#include "sweep/results.h"

#include "base/file_io.h"
#include "base/log.h"
#include "sweep/slice.h"
#include "sweep/store.h"
#include "task/task_file.h"
#include "trial/fork.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static qzo_status fail_memory(const char *name) {
    return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", name);
}

char *qzo_journal_path(const char *folder, const qzo_digest *id) {
    char name[sizeof "trials/.qzj" + QZO_DIGEST_TEXT_BYTES], text[QZO_DIGEST_TEXT_BYTES];
    qzo_digest_text(text, id);
    snprintf(name, sizeof name, "trials/%s.qzj", text);
    return qzo_path_join(folder, name);
}

/* A journal that cannot be decoded is that trial's misfortune alone. */
static qzo_status load_row(qzo_result_row *row, const char *folder, bool is_dispatched) {
    qzo_journal_file file = {0};
    char *path = qzo_journal_path(folder, &row->trial->id);
    if (path == NULL) return fail_memory(folder);
    qzo_status status = qzo_journal_load(&file, path);
    if (status == QZO_OK) {
        static const qzo_journal_file nothing;
        qzo_status read = qzo_journal_check_identity(&file, &row->trial->id);
        qzo_status summarized =
            qzo_trial_summarize(&row->summary, read == QZO_OK ? &file : &nothing);
        if (read == QZO_OK) read = summarized;
        if (read == QZO_ERR_MEMORY) status = read;
        if (read != QZO_OK) qzo_log_warn("%s: %s", path, qzo_error_message());
        if (row->summary.ended)
            row->status = qzo_outcome_name(row->summary.outcome);
        else if (read != QZO_OK)
            row->status = "failed";
        else
            row->status = row->summary.exists && is_dispatched ? "running" : "waiting";
    }
    qzo_journal_release(&file);
    free(path);
    return status;
}

/* Which trials a live run works on, by its decisions: others that have begun wait, at a rung or
 * since they were parked. Slices have decisions of their own: there all count. NULL: no live run.
 */
static qzo_status find_dispatched(bool **out, const qzo_results *results, const char *folder,
                                  bool held) {
    qzo_status status = QZO_OK;
    qzo_event *events = NULL;
    int64_t event_count = 0, count = results->listing->trial_count;
    *out = NULL;
    if (!held) return QZO_OK;
    bool has_slices = qzo_slices_exist(folder);
    bool *dispatched = calloc((size_t)count + 1, sizeof *dispatched);
    if (dispatched == NULL) return fail_memory(folder);
    for (int64_t i = 0; i < count; i++) dispatched[i] = has_slices;
    if (!has_slices)
        QZO_TRY(qzo_decisions_events(&events, &event_count, folder, QZO_DECISIONS_NAME));
    for (int64_t i = 0; i < event_count; i++)
        if (events[i].trial < count) /* a fork may be younger than the list */
            dispatched[events[i].trial] = events[i].type == QZO_DECISION_DISPATCH;
    *out = dispatched;
    dispatched = NULL;
cleanup:
    free(dispatched);
    free(events);
    return status;
}

/* Tells a folder that has never been one of ours from one whose list is lost. */
static qzo_status check_folder(const char *folder) {
    struct stat found;
    char *path = qzo_path_join(folder, QZO_DECISIONS_NAME);
    if (path == NULL) return fail_memory(folder);
    bool exists = stat(path, &found) == 0;
    free(path);
    return exists ? QZO_OK
                  : qzo_fail(QZO_ERR_NOT_FOUND,
                             "%s: not an output folder of qzo: it has no decisions.qzj", folder);
}

qzo_status qzo_results_load(qzo_results **out, const char *folder) {
    qzo_status status = QZO_OK;
    bool *dispatched = NULL;
    qzo_results *results = calloc(1, sizeof *results);
    *out = NULL;
    if (results == NULL) return fail_memory(folder);
    QZO_TRY(check_folder(folder));
    /* Asked before the journals are read: a trial that ends in between shows as ended. */
    bool held = qzo_folder_lock_is_held(folder);
    QZO_TRY(qzo_listing_load(&results->listing, folder));
    results->rows = calloc((size_t)results->listing->trial_count + 1, sizeof *results->rows);
    if (results->rows == NULL) {
        status = fail_memory(folder);
        goto cleanup;
    }
    QZO_TRY(find_dispatched(&dispatched, results, folder, held));
    for (int64_t i = 0; i < results->listing->trial_count; i++) {
        qzo_result_row *row = &results->rows[results->row_count++];
        row->number = i + 1;
        row->trial = &results->listing->trials[i];
        qzo_digest_text(row->id, &row->trial->id);
        QZO_TRY(load_row(row, folder, dispatched != NULL && dispatched[i]));
    }
    *out = results;
    results = NULL;
cleanup:
    free(dispatched);
    qzo_results_free(results);
    return status;
}

/* All of them: forks may have been added. */
static qzo_status reload(qzo_results *results, const char *folder) {
    qzo_status status = QZO_OK;
    qzo_results *newer = NULL;
    QZO_TRY(qzo_results_load(&newer, folder));
    qzo_results older = *results;
    *results = *newer;
    *newer = older;
cleanup:
    qzo_results_free(newer);
    return status;
}

qzo_status qzo_results_refresh(qzo_results *results, const char *folder) {
    if (results->listing->scheduling.ops->forks) return reload(results, folder);
    bool *dispatched = NULL;
    qzo_status status =
        find_dispatched(&dispatched, results, folder, qzo_folder_lock_is_held(folder));
    for (int64_t i = 0; status == QZO_OK && i < results->row_count; i++) {
        qzo_result_row *row = &results->rows[i];
        if (row->summary.ended) continue;
        qzo_trial_summary_release(&row->summary);
        status = load_row(row, folder, dispatched != NULL && dispatched[i]);
    }
    free(dispatched);
    return status;
}

void qzo_results_free(qzo_results *results) {
    if (results == NULL) return;
    for (int64_t i = 0; i < results->row_count; i++)
        qzo_trial_summary_release(&results->rows[i].summary);
    free(results->rows);
    qzo_listing_free(results->listing);
    free(results);
}

qzo_status qzo_results_find(const qzo_result_row **out, const qzo_results *results,
                            const char *text) {
    size_t length = strlen(text);
    *out = NULL;
    if (length == 0 || text[strspn(text, "0123456789abcdef")] != '\0')
        return qzo_fail(QZO_ERR_USAGE,
                        "expected a trial's number or the first digits of its id, found '%s'",
                        text);
    if (text[strspn(text, "0123456789")] == '\0' && length < 10) {
        long long number = strtoll(text, NULL, 10);
        if (number >= 1 && number <= results->row_count) {
            *out = &results->rows[number - 1];
            return QZO_OK;
        }
    }
    int64_t matches = 0;
    for (int64_t i = 0; i < results->row_count; i++)
        if (strncmp(results->rows[i].id, text, length) == 0) {
            *out = &results->rows[i];
            matches++;
        }
    if (matches == 1) return QZO_OK;
    *out = NULL;
    return qzo_fail(QZO_ERR_USAGE,
                    "no trial '%s': the numbers are 1 to %" PRId64 ", and %" PRId64
                    " ids begin with that",
                    text, results->row_count, matches);
}

/* --- the SQLite view --- */

/* All evaluations of one journal; a repeated one would be refused by the view and says nothing. */
static qzo_status store_evaluations(qzo_store *store, const qzo_result_row *row,
                                    const char *folder) {
    qzo_status status = QZO_OK;
    qzo_journal_file file = {0};
    qzo_frame_reader reader;
    qzo_frame frame;
    int64_t last_step[QZO_SPLIT_COUNT];
    for (int i = 0; i < QZO_SPLIT_COUNT; i++) last_step[i] = -1;
    char *path = qzo_journal_path(folder, &row->trial->id);
    if (path == NULL) return fail_memory(folder);
    QZO_TRY(qzo_journal_load(&file, path));
    qzo_frame_reader_start(&reader, file.bytes, file.valid_bytes, QZO_JOURNAL_MAGIC);
    while (qzo_frame_next(&reader, &frame)) {
        qzo_evaluation evaluation;
        if (frame.type != QZO_FRAME_EVAL || qzo_evaluation_decode(&evaluation, &frame) != QZO_OK)
            continue;
        if (evaluation.split >= QZO_SPLIT_COUNT || evaluation.step <= last_step[evaluation.split])
            continue;
        last_step[evaluation.split] = evaluation.step;
        QZO_TRY(qzo_store_eval(store, row->number, qzo_split_name((qzo_split_kind)evaluation.split),
                               evaluation.step, evaluation.score, evaluation.loss));
    }
cleanup:
    qzo_journal_release(&file);
    free(path);
    return status;
}

static qzo_status store_row(qzo_store *store, const qzo_results *results,
                            const qzo_result_row *row) {
    const qzo_trial_summary *summary = &row->summary;
    qzo_store_row stored = {
        .trial = row->number,
        .id = row->id,
        .status = row->status,
        .steps = summary->steps,
        .best_step = summary->best_step,
        .zero_shot_dev = summary->zero_shot_dev,
        .dev_score = summary->dev_score,
        .dev_loss = summary->dev_loss,
        .test_score = summary->test_score,
        .test_loss = summary->test_loss,
        .keys = (const char *const *)(const void *)results->listing->swept_keys,
        .values = (const char *const *)(const void *)row->trial->values,
        .parameter_count = results->listing->swept_count,
    };
    return qzo_store_trial(store, &stored);
}

qzo_status qzo_results_store(const qzo_results *results, const char *folder) {
    qzo_status status = QZO_OK;
    qzo_store *store = NULL;
    char *path = qzo_path_join(folder, "store.sqlite");
    if (path == NULL) return fail_memory(folder);
    QZO_TRY(qzo_store_begin(&store, path));
    for (int64_t i = 0; i < results->row_count; i++) {
        QZO_TRY(store_row(store, results, &results->rows[i]));
        QZO_TRY(store_evaluations(store, &results->rows[i], folder));
    }
    qzo_store *finished = store;
    store = NULL; /* freed by the commit in any case */
    QZO_TRY(qzo_store_commit(finished));
cleanup:
    qzo_store_abort(store);
    free(path);
    return status;
}
