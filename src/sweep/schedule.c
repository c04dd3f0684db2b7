#include "sweep/schedule.h"

#include "base/log.h"
#include "trial/fork.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REASON_BYTES = 256 };

static qzo_status fail_memory(const char *folder) {
    return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for its schedule", folder);
}

/* --- a fresh schedule --- */

/* Whether a model is loaded in another way for another value of this setting. */
static bool decides_loading(const char *key) {
    static const char *const endings[] = {".include", ".exclude", ".constraint"};
    if (strcmp(key, "groups") == 0) return true;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t key_bytes = strlen(key), bytes = strlen(endings[i]);
        if (key_bytes > bytes && strcmp(key + key_bytes - bytes, endings[i]) == 0) return true;
    }
    return false;
}

/* What decides how a trial loads, in one digest; each text ends with its NUL. */
static bool digest_loading(qzo_digest *out, const qzo_listing *listing, int64_t trial) {
    const qzo_listed_trial *listed = &listing->trials[trial];
    qzo_digest_stream *stream = qzo_digest_begin();
    if (!stream) return false;
    qzo_digest_add(stream, listed->model_path, strlen(listed->model_path) + 1);
    qzo_digest_add(stream, listed->task_path, strlen(listed->task_path) + 1);
    for (int64_t k = 0; k < listing->swept_count; k++)
        if (decides_loading(listing->swept_keys[k]))
            qzo_digest_add(stream, listed->values[k], strlen(listed->values[k]) + 1);
    *out = qzo_digest_end(stream);
    return true;
}

typedef struct ordered_trial {
    qzo_digest loading;
    int64_t first, trial; /* first: of those that load alike */
} ordered_trial;

static int by_loading(const void *a, const void *b) {
    const ordered_trial *x = a, *y = b;
    int order = memcmp(&x->loading, &y->loading, sizeof x->loading);
    return order != 0 ? order : (x->trial > y->trial) - (x->trial < y->trial);
}

static int by_first(const void *a, const void *b) {
    const ordered_trial *x = a, *y = b;
    int order = (x->first > y->first) - (x->first < y->first);
    return order != 0 ? order : (x->trial > y->trial) - (x->trial < y->trial);
}

/* Trials of one model, loaded alike, and task stand together, so that a rank loads each once. */
static qzo_status make_order(qzo_schedule *s) {
    int64_t count = qzo_listing_asked(s->listing);
    s->order = calloc((size_t)count + 1, sizeof *s->order);
    ordered_trial *trials = calloc((size_t)count + 1, sizeof *trials);
    bool has_memory = s->order && trials;
    for (int64_t i = 0; has_memory && i < count; i++) {
        trials[i].trial = i;
        has_memory = digest_loading(&trials[i].loading, s->listing, i);
    }
    if (has_memory) {
        qsort(trials, (size_t)count, sizeof *trials, by_loading);
        for (int64_t i = 0; i < count; i++) {
            bool is_alike = i > 0 && qzo_digest_equal(&trials[i].loading, &trials[i - 1].loading);
            trials[i].first = is_alike ? trials[i - 1].first : trials[i].trial;
        }
        qsort(trials, (size_t)count, sizeof *trials, by_first);
        for (int64_t i = 0; i < count; i++) s->order[i] = trials[i].trial;
    }
    free(trials);
    return has_memory ? QZO_OK : fail_memory(s->folder);
}

qzo_status qzo_schedule_open(qzo_schedule **out, qzo_listing *listing, const char *folder) {
    static const int64_t to_the_end[] = {0};
    qzo_status status = QZO_OK;
    const qzo_scheduling *scheduling = &listing->scheduling;
    qzo_schedule *s = calloc(1, sizeof *s);
    if (!s) return fail_memory(folder);
    *s = (qzo_schedule){.listing = listing, .folder = folder, .ops = scheduling->ops};
    s->last = calloc((size_t)listing->trial_count + 1, sizeof *s->last);
    if (!s->last) {
        status = fail_memory(folder);
        goto cleanup;
    }
    QZO_TRY(make_order(s));
    s->settings =
        (qzo_scheduler_settings){.trial_count = qzo_listing_asked(listing),
                                 .order = s->order,
                                 .rungs = s->ops->has_rungs ? scheduling->rungs : to_the_end,
                                 .rung_count = s->ops->has_rungs ? scheduling->rung_count : 1,
                                 .eta = scheduling->eta,
                                 .brackets = scheduling->brackets,
                                 .min_trials = scheduling->min_trials,
                                 .quantile = scheduling->perturbing.quantile,
                                 .seed = scheduling->perturbing.seed};
    QZO_TRY(s->ops->create(&s->state, &s->settings));
    *out = s;
    s = NULL;
cleanup:
    qzo_schedule_close(s);
    return status;
}

void qzo_schedule_close(qzo_schedule *schedule) {
    if (!schedule) return;
    schedule->ops->destroy(schedule->state);
    free(schedule->order);
    free(schedule->last);
    free(schedule);
}

int64_t qzo_schedule_steps(const qzo_schedule *schedule, int64_t rung) {
    return schedule->settings.rungs[rung];
}

/* What a scheduler compares: where it makes new trials of old ones what a trial is at its rung,
 * else the best that it has been. A loss that is exactly 0 is that of a model that has collapsed:
 * its next step would say so. */
static double score_of(const qzo_schedule *s, const qzo_trial_summary *summary) {
    bool is_lost = summary->best_step < 0 || !isfinite(summary->last_dev_loss) ||
                   summary->last_dev_loss == 0.0;
    if (is_lost) return (double)NAN;
    double score = s->ops->forks ? summary->last_dev_score : summary->dev_score;
    double loss = s->ops->forks ? summary->last_dev_loss : summary->dev_loss;
    return qzo_scheduling_score(&s->listing->scheduling, score, loss);
}

static qzo_status load_journal(qzo_journal_file *out, const qzo_schedule *s, int64_t trial) {
    *out = (qzo_journal_file){0};
    char *path = qzo_journal_path(s->folder, &s->listing->trials[trial].id);
    if (!path) return fail_memory(s->folder);
    qzo_status status = qzo_journal_load(out, path);
    free(path);
    return status;
}

qzo_status qzo_schedule_score(double *score, qzo_trial_summary *summary,
                              const qzo_schedule *schedule, int64_t trial, int64_t rung) {
    qzo_status status = QZO_OK;
    qzo_journal_file file = {0};
    int64_t steps = qzo_schedule_steps(schedule, rung);
    *score = (double)NAN;
    *summary = (qzo_trial_summary){0};
    QZO_TRY(load_journal(&file, schedule, trial));
    QZO_TRY(qzo_trial_summarize_until(summary, &file, steps > 0 ? steps : INT64_MAX));
    bool is_good = !summary->ended || summary->outcome == QZO_OUTCOME_FINISHED ||
                   summary->outcome == QZO_OUTCOME_STOPPED;
    if (is_good) *score = score_of(schedule, summary);
cleanup:
    qzo_journal_release(&file);
    return status;
}

/* --- restoring --- */

static qzo_status fail_event(const qzo_schedule *s, int64_t index, const qzo_event *event,
                             const char *what) {
    static const char *const names[] = {"", "", "dispatch", "outcome", "stop", "rung", "fork"};
    return qzo_fail(QZO_ERR_DESYNC,
                    "%s/" QZO_DECISIONS_NAME ": event %" PRId64 " (%s, trial %" PRId64
                    ", rung %" PRId64 "): %s",
                    s->folder, index + 1, names[event->type], event->trial + 1, event->rung, what);
}

/* The scheduler must take this decision now. */
static qzo_status repeat_decision(qzo_schedule *s, int64_t index, const qzo_event *event) {
    char reason[REASON_BYTES];
    qzo_action action = {0};
    static const char *const verbs[] = {"run", "stop", "fork"};
    qzo_action_kind kind = event->type == QZO_DECISION_DISPATCH ? QZO_ACTION_RUN
                           : event->type == QZO_DECISION_STOP   ? QZO_ACTION_STOP
                                                                : QZO_ACTION_FORK;
    if (!s->ops->next(s->state, &action))
        return fail_event(s, index, event, "the scheduler decides nothing here");
    if (action.kind == kind && action.trial == event->trial && action.rung == event->rung &&
        (kind != QZO_ACTION_FORK || action.parent == event->value))
        return QZO_OK;
    snprintf(reason, sizeof reason,
             "the scheduler decides to %s trial %" PRId64 " at rung %" PRId64, verbs[action.kind],
             action.trial + 1, action.rung);
    return fail_event(s, index, event, reason);
}

static qzo_status repeat_report(qzo_schedule *s, int64_t index, const qzo_event *event) {
    const qzo_event *before = &s->last[event->trial];
    qzo_report_kind kind = event->type == QZO_DECISION_RUNG      ? QZO_REPORT_RUNG
                           : event->value == QZO_ERR_INTERRUPTED ? QZO_REPORT_PARKED
                                                                 : QZO_REPORT_ENDED;
    qzo_trial_summary summary = {0};
    double score = (double)NAN;
    qzo_status status = QZO_OK;
    if (before->type != QZO_DECISION_DISPATCH ||
        (kind == QZO_REPORT_RUNG && before->rung != event->rung))
        return fail_event(s, index, event, "the trial was not running");
    /* What has diverged or failed has no score, whatever its journal says, or another's there. */
    bool is_lost = event->type == QZO_DECISION_OUTCOME && event->value != QZO_OK;
    if (!is_lost) status = qzo_schedule_score(&score, &summary, s, event->trial, before->rung);
    /* A trial that failed before its next step has its END here, but had none when it reported. */
    if (kind == QZO_REPORT_RUNG) score = score_of(s, &summary);
    qzo_trial_summary_release(&summary);
    if (status == QZO_OK) s->ops->report(s->state, event->trial, kind, score);
    return status;
}

static qzo_status repeat_events(qzo_schedule *s, const qzo_event *events, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        const qzo_event *event = &events[i];
        bool is_decision = event->type == QZO_DECISION_DISPATCH ||
                           event->type == QZO_DECISION_STOP || event->type == QZO_DECISION_FORK;
        if (event->rung < 0 || event->rung >= s->settings.rung_count)
            return fail_event(s, i, event, "there is no such rung");
        if (s->ops->has_rungs) {
            qzo_status status =
                is_decision ? repeat_decision(s, i, event) : repeat_report(s, i, event);
            if (status != QZO_OK) return status;
        }
        s->last[event->trial] = *event;
    }
    return QZO_OK;
}

qzo_status qzo_schedule_restore(qzo_schedule *schedule, const qzo_results *results,
                                const qzo_slice *slice) {
    qzo_event *events = NULL;
    int64_t count = 0;
    if (!schedule->ops->has_rungs) {
        for (int64_t i = 0; i < results->row_count; i++)
            if (results->rows[i].summary.ended || !qzo_slice_has(slice, i))
                schedule->ops->report(schedule->state, i, QZO_REPORT_ENDED, (double)NAN);
        return QZO_OK;
    }
    qzo_status status = qzo_decisions_events(&events, &count, schedule->folder, QZO_DECISIONS_NAME);
    if (status == QZO_OK) status = repeat_events(schedule, events, count);
    free(events);
    return status;
}

qzo_status qzo_schedule_end_journal(const qzo_schedule *schedule, int64_t trial, int64_t rung) {
    qzo_status status = QZO_OK;
    qzo_journal *journal = NULL;
    qzo_journal_file file = {0};
    qzo_trial_summary summary = {0};
    char reason[REASON_BYTES];
    char *path = qzo_journal_path(schedule->folder, &schedule->listing->trials[trial].id);
    if (!path) return fail_memory(schedule->folder);
    QZO_TRY(qzo_journal_load(&file, path));
    status = qzo_journal_check_identity(&file, &schedule->listing->trials[trial].id);
    if (status == QZO_OK) status = qzo_trial_summarize(&summary, &file);
    /* What is wrong with one trial's journal concerns no other; the table shows it as failed. */
    if (status == QZO_ERR_FORMAT) {
        qzo_log_warn("%s: %s; it is left as it is", path, qzo_error_message());
        status = QZO_OK;
        goto cleanup;
    }
    if (status != QZO_OK || summary.ended) goto cleanup;
    snprintf(reason, sizeof reason, "by %s at rung %" PRId64 " of %" PRId64, schedule->ops->name,
             rung + 1, schedule->settings.rung_count);
    QZO_TRY(qzo_journal_open(&journal, path, &file, 0));
    QZO_TRY(qzo_journal_end_append(journal, summary.steps, QZO_OUTCOME_STOPPED, reason));
cleanup:;
    qzo_status closed = qzo_journal_close(journal);
    if (status == QZO_OK) status = closed;
    qzo_trial_summary_release(&summary);
    qzo_journal_release(&file);
    free(path);
    return status;
}

/* The settings of a listed fork, from its parent's journal. */
static qzo_status fork_spec(qzo_trial_spec *out, const qzo_schedule *s,
                            const qzo_journal_file *parent, int64_t trial) {
    qzo_status status = QZO_OK;
    qzo_trial_spec origin = {0};
    qzo_digest identity;
    char *settings = NULL;
    const qzo_listed_trial *listed = &s->listing->trials[trial];
    QZO_TRY(qzo_journal_settings(&settings, &identity, parent));
    if (!settings) {
        status = qzo_fail(QZO_ERR_DESYNC, "trial %" PRId64 " is a fork of one without a journal",
                          trial + 1);
        goto cleanup;
    }
    QZO_TRY(qzo_trial_spec_parse(&origin, settings));
    QZO_TRY(qzo_fork_spec(out, &origin, &s->listing->scheduling.perturbing, trial,
                          qzo_schedule_steps(s, listed->rung)));
    identity = qzo_trial_spec_identity(out);
    if (!qzo_digest_equal(&identity, &listed->id))
        status =
            qzo_fail(QZO_ERR_DESYNC,
                     "trial %" PRId64 " has another id than its origin and number give", trial + 1);
cleanup:
    free(settings);
    return status == QZO_OK ? status : qzo_fail_context(status, "%s", s->folder);
}

static qzo_status write_fork(const qzo_schedule *s, int64_t trial) {
    qzo_status status = QZO_OK;
    qzo_journal_file parent = {0};
    qzo_trial_spec spec;
    char *path = qzo_journal_path(s->folder, &s->listing->trials[trial].id);
    if (!path) return fail_memory(s->folder);
    QZO_TRY(load_journal(&parent, s, s->listing->trials[trial].parent));
    QZO_TRY(fork_spec(&spec, s, &parent, trial));
    QZO_TRY(qzo_fork_write(path, &parent, &spec));
cleanup:
    qzo_journal_release(&parent);
    free(path);
    return status;
}

qzo_status qzo_schedule_fork(qzo_schedule *s, qzo_forks *forks, qzo_decisions *decisions,
                             const qzo_action *action) {
    qzo_status status = QZO_OK;
    int64_t trial = action->trial, swept = s->listing->swept_count;
    QZO_TRY(qzo_forks_add(forks, action->parent, qzo_schedule_steps(s, action->rung)));
    const qzo_grid_trial *fork = qzo_forks_trial(forks, trial);
    QZO_TRY(qzo_decisions_fork(decisions, trial, action->parent, action->rung, &fork->id,
                               fork->values, swept));
    QZO_TRY(qzo_decisions_sync(decisions));
    qzo_event *grown = realloc(s->last, ((size_t)trial + 1) * sizeof *grown);
    if (!grown) {
        status = fail_memory(s->folder);
        goto cleanup;
    }
    s->last = grown;
    grown[trial] = (qzo_event){QZO_DECISION_FORK, trial, action->parent, action->rung};
    QZO_TRY(
        qzo_listing_add_fork(s->listing, action->parent, action->rung, &fork->id, fork->values));
    QZO_TRY(write_fork(s, trial));
cleanup:
    return status;
}

qzo_status qzo_schedule_resume(qzo_schedule *schedule, qzo_decisions *decisions) {
    qzo_status status = QZO_OK;
    if (!schedule->ops->has_rungs) return QZO_OK;
    for (int64_t i = 0; i < schedule->listing->trial_count; i++) {
        qzo_event *last = &schedule->last[i];
        if (last->type == QZO_DECISION_STOP)
            QZO_TRY(qzo_schedule_end_journal(schedule, i, last->rung));
        if (last->type == QZO_DECISION_FORK) QZO_TRY(write_fork(schedule, i));
        if (last->type != QZO_DECISION_DISPATCH) continue;
        QZO_TRY(qzo_decisions_outcome(decisions, i, QZO_ERR_INTERRUPTED));
        schedule->ops->report(schedule->state, i, QZO_REPORT_PARKED, (double)NAN);
    }
    QZO_TRY(qzo_decisions_sync(decisions));
cleanup:
    return status;
}

/* --- checking --- */

static const char *status_of_outcome(int64_t outcome) {
    return outcome == QZO_OK ? "finished" : outcome == QZO_ERR_DIVERGED ? "diverged" : "failed";
}

/* What the last event of a trial says of its journal. NULL: they agree. */
static const char *disagreement(char reason[REASON_BYTES], const qzo_schedule *s,
                                const qzo_event *last, const qzo_result_row *row, bool is_live) {
    const qzo_trial_summary *summary = &row->summary;
    int64_t steps = s->ops->has_rungs ? qzo_schedule_steps(s, last->rung) : INT64_MAX;
    bool is_parked = last->type == QZO_DECISION_OUTCOME && last->value == QZO_ERR_INTERRUPTED;
    const char *expected = NULL;
    if (last->type == QZO_DECISION_OUTCOME && !is_parked)
        expected = status_of_outcome(last->value);
    else if (last->type == QZO_DECISION_STOP && summary->ended)
        expected = "stopped"; /* a run that was killed in between ends it at its next start */
    /* The rows of a live run were read before its decisions. */
    bool is_older = is_live && !summary->ended;
    if (expected != NULL && !is_older && strcmp(row->status, expected) != 0) {
        snprintf(reason, REASON_BYTES, "is %s by the decisions, %s by its journal", expected,
                 row->status);
        return reason;
    }
    bool is_at_rung = last->type == QZO_DECISION_RUNG || last->type == QZO_DECISION_STOP ||
                      (last->type == QZO_DECISION_FORK && summary->exists);
    bool is_wrong = (is_at_rung && summary->steps != steps && !is_live) ||
                    (last->type == QZO_DECISION_DISPATCH && summary->steps > steps) ||
                    (s->ops->has_rungs && last->type == 0 && summary->steps > 0);
    if (!is_wrong) return NULL;
    snprintf(reason, REASON_BYTES, "has %" PRId64 " steps in its journal, %" PRId64 " by decision",
             summary->steps, last->type == 0 ? 0 : steps);
    return reason;
}

static qzo_status check_journals(const qzo_schedule *s, const qzo_results *results, bool is_live) {
    char reason[REASON_BYTES];
    for (int64_t i = 0; i < results->row_count; i++) {
        const qzo_result_row *row = &results->rows[i];
        const char *wrong = disagreement(reason, s, &s->last[i], row, is_live);
        if (wrong != NULL)
            return qzo_fail(QZO_ERR_DESYNC, "%s: trial %" PRId64 " (%s) %s", s->folder, i + 1,
                            row->id, wrong);
    }
    return QZO_OK;
}

/* Each has the settings that its number gives, and its parent's journal up to where it was forked.
 * One that was decided last may have none yet: the next start writes it. */
static qzo_status check_forks(const qzo_schedule *s) {
    qzo_status status = QZO_OK;
    qzo_journal_file parent = {0}, fork = {0};
    qzo_trial_spec spec;
    for (int64_t i = qzo_listing_asked(s->listing); i < s->listing->trial_count; i++) {
        const qzo_listed_trial *listed = &s->listing->trials[i];
        QZO_TRY(load_journal(&parent, s, listed->parent));
        QZO_TRY(load_journal(&fork, s, i));
        QZO_TRY(fork_spec(&spec, s, &parent, i));
        if (fork.frame_count > 0)
            QZO_TRY(qzo_fork_check(&fork, &parent, qzo_schedule_steps(s, listed->rung)));
        qzo_journal_release(&parent);
        qzo_journal_release(&fork);
    }
cleanup:
    qzo_journal_release(&parent);
    qzo_journal_release(&fork);
    return status;
}

/* The events before a fork that a live run has made since the list was read. */
static int64_t count_known(const qzo_event *events, int64_t count, const qzo_listing *listing) {
    int64_t known = 0;
    while (known < count && events[known].trial < listing->trial_count) known++;
    return known;
}

qzo_status qzo_schedule_check(int64_t *event_count, const qzo_results *results, const char *folder,
                              bool is_live) {
    qzo_status status = QZO_OK;
    qzo_schedule *s = NULL;
    qzo_event *events = NULL;
    QZO_TRY(qzo_decisions_events(&events, event_count, folder, QZO_DECISIONS_NAME));
    *event_count = count_known(events, *event_count, results->listing);
    QZO_TRY(qzo_schedule_open(&s, results->listing, folder));
    QZO_TRY(repeat_events(s, events, *event_count));
    QZO_TRY(check_journals(s, results, is_live));
    QZO_TRY(check_forks(s));
cleanup:
    qzo_schedule_close(s);
    free(events);
    return status;
}
