#include "sweep/dispatcher.h"

#include "base/clock.h"
#include "base/log.h"
#include "comm/comm_nccl.h"
#include "sweep/pace.h"
#include "sweep/results.h"
#include "trial/trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096, LINE_BYTES = 512 };

static const double PROGRESS_PERIOD_SECONDS = 1.0;

int64_t qzo_dispatch_group_size(int64_t rank_count, int64_t ranks_per_trial) {
    return ranks_per_trial == QZO_RANKS_ALL || ranks_per_trial > rank_count ? rank_count
                                                                            : ranks_per_trial;
}

/* --- every leader: asking for work --- */

void qzo_dispatch_tell_group(dispatcher *d, message_kind kind, const work_item *next) {
    qzo_message message = message_of(kind, next->trial, next->until, QZO_OK);
    for (int rank = 1; rank < d->group->size; rank++)
        qzo_dispatch_note(d, qzo_comm_send(d->group, rank, &message));
}

static void tell_root(dispatcher *d, const qzo_message *message) {
    qzo_status status = qzo_comm_send(d->settings->world, 0, message);
    if (status != QZO_OK) d->is_cut_off = true;
    qzo_dispatch_note(d, status);
}

/* Whether a message came from somebody of comm. */
static bool hear(dispatcher *d, qzo_comm *comm, qzo_message *message) {
    bool received = false;
    int from = 0;
    qzo_status status = qzo_comm_poll(comm, &received, &from, message);
    if (status != QZO_OK) d->is_cut_off = true;
    qzo_dispatch_note(d, status);
    return received;
}

static bool wants_to_park(const dispatcher *d) {
    return d->worst != QZO_OK || (d->settings->should_park != NULL && d->settings->should_park());
}

/* Between two looks at what came: asks rank 0 to park, once, where this rank wants it. */
static void wait_a_moment(dispatcher *d) {
    if (wants_to_park(d) && !d->park_sent) {
        d->park_sent = true;
        qzo_message message = message_of(KIND_PARK, NO_TRIAL, 0, QZO_OK);
        tell_root(d, &message);
    }
    nanosleep(&POLL_PAUSE, NULL);
}

/* Ranks make the same fork as rank 0, since it is a function of these numbers. Without one of them
 * the numbers of the next would be others. */
static void take_fork(dispatcher *d, const work_item *item) {
    if (d->worst == QZO_OK)
        qzo_dispatch_note(d, qzo_forks_add(d->settings->forks, item->trial, item->until));
}

/* The next control message from rank 0; false where there is none. */
static bool poll_root(dispatcher *d, message_kind *kind, work_item *next) {
    qzo_message message;
    if (!hear(d, d->settings->world, &message)) return false;
    *kind = (message_kind)qzo_get_u32(message.bytes);
    *next = item_of(&message);
    if (*kind == KIND_PARK) d->park = true;
    if (*kind == KIND_FORK) {
        take_fork(d, next);
        qzo_dispatch_tell_group(d, KIND_FORK, next);
    }
    return true;
}

static message_kind ask_by_message(dispatcher *d, int64_t last, qzo_status last_status,
                                   work_item *next) {
    qzo_message message = message_of(KIND_WANT, last, 0, last_status);
    message_kind kind = KIND_WANT;
    tell_root(d, &message);
    while (!d->is_cut_off) {
        if (!poll_root(d, &kind, next))
            wait_a_moment(d);
        else if (kind == KIND_RUN || kind == KIND_STOP)
            return kind;
    }
    return KIND_STOP;
}

/* --- the other ranks of a group --- */

/* By messages rather than a broadcast: a rank that waits for work sleeps, and hears signals. */
static message_kind hear_leader(dispatcher *d, work_item *next) {
    qzo_message message;
    while (!d->is_cut_off) {
        if (!hear(d, d->group, &message)) {
            wait_a_moment(d);
            continue;
        }
        *next = item_of(&message);
        message_kind kind = (message_kind)qzo_get_u32(message.bytes);
        if (kind != KIND_FORK) return kind;
        take_fork(d, next);
    }
    return KIND_STOP;
}

/* --- hooks of the running trial --- */

static bool hook_should_park(void *context) {
    const dispatcher *d = context;
    return d->park || wants_to_park(d);
}

static void hook_poll(void *context) {
    dispatcher *d = context;
    message_kind kind;
    work_item next;
    if (is_world_root(d))
        qzo_dispatch_serve(d);
    else if (leads(d))
        while (poll_root(d, &kind, &next)) {
        }
}

static void hook_progress(void *context, const qzo_trial_progress *progress) {
    dispatcher *d = context;
    const qzo_grid *grid = d->settings->grid;
    double now = qzo_clock_seconds();
    if (!progress->evaluated && now - d->progress_at < PROGRESS_PERIOD_SECONDS) return;
    d->progress_at = now;
    char values[LINE_BYTES] = "";
    for (int64_t i = 0; i < grid->swept_count; i++) {
        size_t used = strlen(values);
        snprintf(values + used, sizeof values - used, " %s=%s", grid->swept_keys[i],
                 qzo_forks_trial(d->settings->forks, d->trial)->values[i]);
    }
    char measured[LINE_BYTES] = "";
    if (!isnan(progress->loss)) snprintf(measured, sizeof measured, ", loss %.4f", progress->loss);
    size_t used = strlen(measured);
    if (!isnan(progress->dev_score))
        snprintf(measured + used, sizeof measured - used, ", dev %.4f", progress->dev_score);
    qzo_log_info("trial %lld/%lld%s: step %lld/%lld%s", (long long)d->trial + 1,
                 (long long)qzo_forks_trial_count(d->settings->forks), values,
                 (long long)progress->step, (long long)progress->steps, measured);
}

/* --- the loop of every rank --- */

/* Collective over the group: a rank that cannot run the trial says so before the others wait for it
 * in there. *journal is fresh. */
static qzo_status begin_trial(dispatcher *d, char **journal, const work_item *item) {
    qzo_status status = QZO_OK;
    *journal = NULL;
    if (d->worst != QZO_OK) {
        status = qzo_fail(d->worst, "%s", d->worst_sentence);
    } else {
        const qzo_grid_trial *entry = qzo_forks_trial(d->settings->forks, item->trial);
        *journal = qzo_journal_path(d->settings->folder, &entry->id);
        if (*journal == NULL) status = qzo_fail(QZO_ERR_MEMORY, "out of memory for a path");
    }
    status = qzo_comm_worst_status(d->group, status);
    if (status != QZO_OK) free(*journal);
    return status;
}

static qzo_status run_trial(dispatcher *d, const work_item *item) {
    int64_t trial = item->trial;
    char *journal = NULL;
    qzo_status status = begin_trial(d, &journal, item);
    if (status != QZO_OK) return status;
    const qzo_grid_trial *entry = qzo_forks_trial(d->settings->forks, trial);
    char id[QZO_DIGEST_TEXT_BYTES], timing[PATH_BYTES];
    qzo_outcome outcome = QZO_OUTCOME_FAILED;
    qzo_digest_text(id, &entry->id);
    snprintf(timing, sizeof timing, "%s/timing/%s.jsonl", d->settings->folder, id);
    qzo_trial_files files = {.journal_path = journal, .timing_path = timing};
    qzo_trial_hooks hooks = {.context = d,
                             .should_park = hook_should_park,
                             .poll = hook_poll,
                             .progress = hook_progress,
                             .until_step = item->until};
    d->trial = trial;
    d->progress_at = qzo_clock_seconds();
    qzo_workbench *bench = qzo_benches_take(&d->benches, &entry->spec);
    status = qzo_trial_run(&outcome, &entry->spec, bench, d->group, &files, &hooks);
    qzo_benches_give(&d->benches, &entry->spec);
    d->bytes_sent += d->group->bytes_sent;
    d->wait_seconds += d->group->wait_seconds;
    if (status != QZO_OK && status != QZO_ERR_INTERRUPTED) {
        qzo_fail_context(status, "trial %lld (%s)", (long long)trial + 1, id);
        if (leads(d)) qzo_log_error("%s", qzo_error_message());
    }
    free(journal);
    return status;
}

static message_kind next_work(dispatcher *d, int64_t last, work_item *next) {
    if (!leads(d)) return hear_leader(d, next);
    message_kind kind = is_world_root(d) ? qzo_dispatch_ask_root(d, last, d->last_status, next)
                                         : ask_by_message(d, last, d->last_status, next);
    qzo_dispatch_tell_group(d, kind, next);
    return kind;
}

static bool wait_for_work(dispatcher *d, int64_t last, work_item *next) {
    double begin = qzo_clock_seconds();
    message_kind kind = next_work(d, last, next);
    d->idle_seconds += qzo_clock_seconds() - begin;
    return kind == KIND_RUN;
}

/* *larger: the size of groups to go on with; 0: nothing is left to do. */
static qzo_status work(dispatcher *d, int64_t *larger) {
    int64_t last = NO_TRIAL;
    work_item next = {NO_TRIAL, 0};
    while (wait_for_work(d, last, &next)) {
        last = next.trial;
        d->last_status = run_trial(d, &next);
        snprintf(d->last_sentence, sizeof d->last_sentence, "%.1000s", qzo_error_message());
    }
    *larger = next.until;
    d->stopped_at = qzo_clock_seconds();
    while (is_world_root(d)) { /* the other groups still work */
        bool all_stopped = true;
        for (int group = 0; group < d->group_count; group++)
            all_stopped &= d->leaders[group].state == LEADER_STOPPED;
        if (all_stopped) break;
        qzo_dispatch_serve(d);
        nanosleep(&POLL_PAUSE, NULL);
    }
    if (d->worst > d->last_status) return qzo_fail(d->worst, "%s", d->worst_sentence);
    if (d->last_status != QZO_OK && d->last_status != QZO_ERR_FORMAT)
        return qzo_fail(d->last_status, "%s", d->last_sentence);
    const qzo_schedule *schedule = d->settings->schedule;
    if (is_world_root(d) && (d->park || d->out_of_time) && !schedule->ops->done(schedule->state))
        return qzo_fail(QZO_ERR_INTERRUPTED, "parked between trials, work is left");
    return QZO_OK;
}

/* This rank's group, kept until larger ones are formed. */
static qzo_status open_group(dispatcher *d) {
    qzo_status status = QZO_OK;
    const qzo_dispatch_settings *s = d->settings;
    bool nccl = false;
    qzo_comm *base = NULL;
    QZO_TRY(qzo_comm_split(s->world, &d->group, d->group_index, s->world->rank));
    QZO_TRY(qzo_transport_decide(&nccl, s->transport, s->peers, leader_rank(d, d->group_index),
                                 d->group->size, leads(d)));
    if (!nccl) goto cleanup;
    base = d->group;
    status = qzo_comm_nccl_open(&d->group, base); /* all ranks of the group, or none */
    if (status != QZO_OK && s->transport == QZO_TRANSPORT_AUTO) {
        if (leads(d)) qzo_log_warn("%s; its records travel over MPI", qzo_error_message());
        status = QZO_OK;
    }
cleanup:
    return status;
}

/* Groups of d->group_size ranks work until nothing is left, or larger ones are to be formed. */
static qzo_status work_in_groups(dispatcher *d, int64_t *larger) {
    qzo_status status = QZO_OK;
    qzo_comm *world = d->settings->world;
    d->group_index = (int)(world->rank / d->group_size);
    d->group_count = (int)((world->size + d->group_size - 1) / d->group_size);
    memset(d->leaders, 0, (size_t)d->group_count * sizeof *d->leaders);
    qzo_comm_close(d->group);
    d->group = NULL;
    *larger = 0;
    QZO_TRY(qzo_comm_worst_status(world, open_group(d)));
    status = work(d, larger);
    status = qzo_comm_worst_status(world, status);
    d->idle_seconds += qzo_clock_seconds() - d->stopped_at;
cleanup:
    return status;
}

qzo_status qzo_dispatch(const qzo_dispatch_settings *settings) {
    qzo_status status = QZO_OK;
    qzo_comm *world = settings->world;
    dispatcher d = {.settings = settings, .trial = NO_TRIAL, .began_at = qzo_clock_seconds()};
    int64_t larger = qzo_dispatch_group_size(world->size, settings->ranks_per_trial);
    d.leaders = calloc((size_t)world->size, sizeof *d.leaders);
    if (d.leaders == NULL)
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %d groups", world->size);
    else
        status = qzo_benches_open(&d.benches, settings->backend, settings->residency.kept_count);
    QZO_TRY(qzo_comm_worst_status(world, status));
    d.benches.free_since = settings->started_at;
    if (is_world_root(&d) && settings->end_time > 0)
        d.step_seconds_max = qzo_pace_read(settings->schedule->listing, settings->folder, larger);
    while (status == QZO_OK && larger > 0) {
        d.group_size = larger;
        if (is_world_root(&d) && d.group != NULL)
            qzo_log_info("%lld ranks per trial from here on", (long long)larger);
        status = work_in_groups(&d, &larger);
    }
    if (status == QZO_OK || status == QZO_ERR_INTERRUPTED) {
        qzo_status reported = qzo_dispatch_report_use(&d);
        if (reported != QZO_OK) status = reported;
    }
cleanup:
    qzo_benches_close(&d.benches);
    qzo_comm_close(d.group);
    free(d.leaders);
    return status;
}
