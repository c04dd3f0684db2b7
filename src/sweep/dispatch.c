#include "sweep/dispatch.h"

#include "base/clock.h"
#include "base/file_io.h"
#include "base/log.h"
#include "comm/comm_nccl.h"
#include "sweep/results.h"
#include "trial/trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef enum { KIND_WANT = 1, KIND_PARK = 2, KIND_RUN = 3, KIND_STOP = 4 } message_kind;

enum { NO_TRIAL = -1, PATH_BYTES = 4096, LINE_BYTES = 512, SENTENCE_BYTES = 1024 };

static const double PROGRESS_PERIOD_SECONDS = 1.0;
static const struct timespec POLL_PAUSE = {.tv_nsec = 200000};

typedef enum { LEADER_RUNNING, LEADER_WAITING, LEADER_STOPPED } leader_state;

/* What rank 0 knows of a group. */
typedef struct leader {
    leader_state state;
    int64_t rung;       /* that its trial runs to */
    int64_t steps_then; /* of the trial when it was sent */
    double sent_at;
} leader;

typedef struct dispatcher {
    const qzo_dispatch_settings *settings;
    qzo_comm *group;
    int64_t group_size;
    int group_index, group_count;
    qzo_workbench bench;
    bool park; /* this rank knows that the job is to stop */
    bool park_sent;
    int64_t trial;       /* of this group now */
    uint64_t bytes_sent; /* by this rank in all its trials */
    double wait_seconds;
    double progress_at;
    /* rank 0 of the world */
    leader *leaders;         /* (group_count) */
    double step_seconds_max; /* of any trial so far */
    bool out_of_time;        /* what is left would end after the job */
    int own_answer;          /* message_kind for group 0; 0: none yet */
    int64_t own_trial, own_until;
    /* Of any rank; sentences are kept, since later ones would replace them. */
    qzo_status worst; /* what stopped the run beside its trials; QZO_OK so far */
    char worst_sentence[SENTENCE_BYTES];
    qzo_status last_status; /* of this rank's last trial */
    char last_sentence[SENTENCE_BYTES];
} dispatcher;

static bool is_world_root(const dispatcher *d) { return d->settings->world->rank == 0; }
static bool leads(const dispatcher *d) { return d->group->rank == 0; }

int64_t qzo_dispatch_group_size(int64_t rank_count, int64_t ranks_per_trial) {
    return ranks_per_trial == QZO_RANKS_ALL || ranks_per_trial > rank_count ? rank_count
                                                                            : ranks_per_trial;
}

static int leader_rank(const dispatcher *d, int group) { return (int)(group * d->group_size); }

static qzo_message message_of(message_kind kind, int64_t trial, int64_t until, qzo_status status) {
    qzo_message message = {{0}};
    qzo_put_u32(message.bytes, (uint32_t)kind);
    qzo_put_u64(message.bytes + 4, (uint64_t)trial);
    qzo_put_u32(message.bytes + 12, (uint32_t)status);
    qzo_put_u64(message.bytes + 16, (uint64_t)until);
    return message;
}

/* What a group is to do, of a message. */
typedef struct work_item {
    int64_t trial, until; /* until: step; 0: to the trial's end */
} work_item;

static work_item item_of(const qzo_message *message) {
    return (work_item){(int64_t)qzo_get_u64(message->bytes + 4),
                       (int64_t)qzo_get_u64(message->bytes + 16)};
}

/* --- rank 0: decisions --- */

static void note_error(dispatcher *d, qzo_status status) {
    if (status == QZO_OK) return;
    qzo_log_error("%s; the run stops", qzo_error_message());
    if (status <= d->worst) return;
    d->worst = status;
    snprintf(d->worst_sentence, sizeof d->worst_sentence, "%.1000s", qzo_error_message());
}

/* Tells the running groups, once, to stop at their next boundary. */
static void start_parking(dispatcher *d) {
    if (d->park) return;
    d->park = true;
    qzo_log_info("parking all trials");
    qzo_message message = message_of(KIND_PARK, NO_TRIAL, 0, QZO_OK);
    for (int group = 1; group < d->group_count; group++)
        if (d->leaders[group].state == LEADER_RUNNING)
            note_error(d, qzo_comm_send(d->settings->world, leader_rank(d, group), &message));
}

/* How long a step of this trial took, all that is around steps included. */
static void take_time(dispatcher *d, const leader *from, int64_t steps) {
    int64_t made = steps - from->steps_then;
    double seconds = qzo_clock_seconds() - from->sent_at;
    if (made > 0 && seconds / (double)made > d->step_seconds_max)
        d->step_seconds_max = seconds / (double)made;
}

static void log_result(const dispatcher *d, int64_t trial, const qzo_trial_summary *summary) {
    const char *what = summary->ended ? qzo_outcome_name(summary->outcome) : "at a rung";
    qzo_log_info("trial %lld/%lld %s after %lld steps: dev %.4g (zero-shot %.4g), test %.4g",
                 (long long)trial + 1, (long long)d->settings->grid->trial_count, what,
                 (long long)summary->steps, summary->dev_score, summary->zero_shot_dev,
                 summary->test_score);
}

/* A group's trial is over, or at its rung. status: QZO_OK (the journal says how), else parked or an
 * error. */
static void take_result(dispatcher *d, int group, int64_t trial, qzo_status status) {
    const qzo_dispatch_settings *s = d->settings;
    qzo_trial_summary summary = {0};
    qzo_report_kind kind = QZO_REPORT_PARKED;
    qzo_status outcome = status;
    double score = (double)NAN;
    /* What is wrong with one trial's journal concerns no other, unless they are compared by it. */
    bool is_lost = status == QZO_ERR_FORMAT && !s->schedule->ops->has_rungs;
    if (is_lost) kind = QZO_REPORT_ENDED;
    if (status == QZO_ERR_FORMAT && !is_lost)
        note_error(d, qzo_fail(status, "the journal of trial %lld cannot be taken into account",
                               (long long)trial + 1));
    if (status == QZO_OK) {
        qzo_status read =
            qzo_schedule_score(&score, &summary, s->schedule, trial, d->leaders[group].rung);
        note_error(d, read);
        kind = read != QZO_OK || !summary.ended ? QZO_REPORT_RUNG : QZO_REPORT_ENDED;
        if (kind == QZO_REPORT_ENDED && summary.outcome == QZO_OUTCOME_DIVERGED)
            outcome = QZO_ERR_DIVERGED;
        if (kind == QZO_REPORT_ENDED && summary.outcome == QZO_OUTCOME_FAILED)
            outcome = QZO_ERR_CONFIG;
        take_time(d, &d->leaders[group], summary.steps);
        log_result(d, trial, &summary);
    }
    if (kind == QZO_REPORT_RUNG)
        note_error(d, qzo_decisions_rung(s->decisions, trial, d->leaders[group].rung));
    else
        note_error(d, qzo_decisions_outcome(s->decisions, trial, outcome));
    s->schedule->ops->report(s->schedule->state, trial, kind, score);
    qzo_trial_summary_release(&summary);
    /* Parked, or an error of the machine, which its ranks hold with its sentence: all stop. */
    if (status != QZO_OK && !is_lost) start_parking(d);
}

static void answer(dispatcher *d, int group, message_kind kind, int64_t trial, int64_t until) {
    d->leaders[group].state = kind == KIND_RUN ? LEADER_RUNNING : LEADER_STOPPED;
    if (group == 0) {
        d->own_answer = (int)kind;
        d->own_trial = trial;
        d->own_until = until;
        return;
    }
    qzo_message message = message_of(kind, trial, until, QZO_OK);
    note_error(d, qzo_comm_send(d->settings->world, leader_rank(d, group), &message));
}

/* Steps that the trial has in its journal. */
static int64_t steps_of(dispatcher *d, const qzo_action *action) {
    double score;
    qzo_trial_summary summary;
    const qzo_schedule *schedule = d->settings->schedule;
    if (!schedule->ops->has_rungs) return 0;
    note_error(d, qzo_schedule_score(&score, &summary, schedule, action->trial, action->rung));
    int64_t steps = summary.steps;
    qzo_trial_summary_release(&summary);
    return steps;
}

/* Whether the rung cannot end before the job does. A trial without rungs can be left at any step,
 * so it is started in any case. */
static bool is_too_long(const dispatcher *d, int64_t until, int64_t steps_then) {
    if (d->settings->end_time == 0 || !d->settings->schedule->ops->has_rungs) return false;
    double left = difftime((time_t)d->settings->end_time, time(NULL));
    return (double)(until - steps_then) * d->step_seconds_max > left;
}

/* Sends the action's trial to a group, once the decision is on disk. */
static void send_trial(dispatcher *d, int group, const qzo_action *action) {
    const qzo_dispatch_settings *s = d->settings;
    leader *to = &d->leaders[group];
    int64_t until = qzo_schedule_steps(s->schedule, action->rung);
    int64_t steps_then = steps_of(d, action);
    if (is_too_long(d, until, steps_then)) {
        s->schedule->ops->report(s->schedule->state, action->trial, QZO_REPORT_PARKED, (double)NAN);
        d->out_of_time = true;
        qzo_log_info("%lld steps would not end before the job: nothing more is started",
                     (long long)(until - steps_then));
        answer(d, group, KIND_STOP, NO_TRIAL, 0);
        return;
    }
    note_error(d, qzo_decisions_dispatch(s->decisions, action->trial, group, action->rung));
    if (d->worst == QZO_OK && s->schedule->ops->has_rungs)
        note_error(d, qzo_decisions_sync(s->decisions));
    if (d->worst != QZO_OK) { /* the decision is not on disk: do not act on it */
        start_parking(d);
        answer(d, group, KIND_STOP, NO_TRIAL, 0);
        return;
    }
    *to = (leader){LEADER_RUNNING, action->rung, steps_then, qzo_clock_seconds()};
    answer(d, group, KIND_RUN, action->trial, until);
}

static void stop_trial(dispatcher *d, const qzo_action *action) {
    const qzo_dispatch_settings *s = d->settings;
    qzo_log_info("trial %lld/%lld stopped at rung %lld of %lld", (long long)action->trial + 1,
                 (long long)s->grid->trial_count, (long long)action->rung + 1,
                 (long long)s->schedule->settings.rung_count);
    note_error(d, qzo_decisions_stop(s->decisions, action->trial, action->rung));
    if (d->worst == QZO_OK) note_error(d, qzo_decisions_sync(s->decisions));
    if (d->worst == QZO_OK)
        note_error(d, qzo_schedule_end_journal(s->schedule, action->trial, action->rung));
    if (d->worst != QZO_OK) start_parking(d);
}

/* Where all groups wait and fewer trials do: the size of groups that serves just these; else 0. */
static int64_t larger_group_size(const dispatcher *d) {
    const qzo_schedule *schedule = d->settings->schedule;
    if (d->park || d->out_of_time || schedule->ops->waiting == NULL) return 0;
    for (int group = 0; group < d->group_count; group++)
        if (d->leaders[group].state != LEADER_WAITING) return 0;
    int64_t waiting = schedule->ops->waiting(schedule->state);
    int64_t size = waiting > 0 ? d->settings->world->size / waiting : 0;
    if (size <= d->group_size) return 0;
    /* Ranks that share a GPU may work alone over NCCL, but not together. */
    const qzo_dispatch_settings *s = d->settings;
    return qzo_transport_check(s->transport, s->peers, s->world->size, size) == QZO_OK ? size : 0;
}

static void assign_waiting(dispatcher *d) {
    const qzo_schedule *schedule = d->settings->schedule;
    int64_t larger = larger_group_size(d);
    if (larger > 0) {
        for (int group = 0; group < d->group_count; group++)
            answer(d, group, KIND_STOP, NO_TRIAL, larger);
        return;
    }
    for (int group = 0; group < d->group_count; group++) {
        qzo_action action;
        while (d->leaders[group].state == LEADER_WAITING) {
            if (d->park || d->out_of_time || schedule->ops->done(schedule->state))
                answer(d, group, KIND_STOP, NO_TRIAL, 0);
            else if (!schedule->ops->next(schedule->state, &action))
                break;
            else if (action.kind == QZO_ACTION_STOP)
                stop_trial(d, &action);
            else
                send_trial(d, group, &action);
        }
    }
}

/* Everything that waits for rank 0; quick, and never blocks. */
static void serve(dispatcher *d) {
    bool received = true;
    if (d->settings->should_park != NULL && d->settings->should_park()) start_parking(d);
    while (received) {
        qzo_message message;
        int from = 0;
        note_error(d, qzo_comm_poll(d->settings->world, &received, &from, &message));
        if (!received) break;
        uint32_t kind = qzo_get_u32(message.bytes);
        int64_t trial = (int64_t)qzo_get_u64(message.bytes + 4);
        int group = (int)(from / d->group_size);
        if (kind == KIND_PARK) start_parking(d);
        if (kind != KIND_WANT) continue;
        d->leaders[group].state = LEADER_WAITING;
        if (trial != NO_TRIAL)
            take_result(d, group, trial, (qzo_status)qzo_get_u32(message.bytes + 12));
    }
    assign_waiting(d);
    if (d->settings->tick != NULL) d->settings->tick(d->settings->tick_context);
}

/* --- every leader: asking for work --- */

static message_kind ask_root(dispatcher *d, int64_t last, qzo_status last_status, work_item *next) {
    if (last != NO_TRIAL) take_result(d, 0, last, last_status);
    d->leaders[0].state = LEADER_WAITING;
    d->own_answer = 0;
    for (;;) {
        serve(d);
        if (d->own_answer != 0) break;
        nanosleep(&POLL_PAUSE, NULL);
    }
    *next = (work_item){d->own_trial, d->own_until};
    return (message_kind)d->own_answer;
}

static void send_park(dispatcher *d) {
    if (d->park_sent) return;
    d->park_sent = true;
    qzo_message message = message_of(KIND_PARK, NO_TRIAL, 0, QZO_OK);
    note_error(d, qzo_comm_send(d->settings->world, 0, &message));
}

/* The next control message from rank 0; false where there is none. */
static bool poll_root(dispatcher *d, message_kind *kind, work_item *next) {
    qzo_message message;
    bool received = false;
    int from = 0;
    note_error(d, qzo_comm_poll(d->settings->world, &received, &from, &message));
    if (!received) return false;
    *kind = (message_kind)qzo_get_u32(message.bytes);
    *next = item_of(&message);
    if (*kind == KIND_PARK) d->park = true;
    return true;
}

static message_kind ask_by_message(dispatcher *d, int64_t last, qzo_status last_status,
                                   work_item *next) {
    qzo_message message = message_of(KIND_WANT, last, 0, last_status);
    note_error(d, qzo_comm_send(d->settings->world, 0, &message));
    message_kind kind = KIND_WANT;
    while (d->worst == QZO_OK) {
        if (poll_root(d, &kind, next)) {
            if (kind == KIND_RUN || kind == KIND_STOP) return kind;
        } else {
            if (d->settings->should_park != NULL && d->settings->should_park()) send_park(d);
            nanosleep(&POLL_PAUSE, NULL);
        }
    }
    return KIND_STOP; /* the transport is broken */
}

/* --- the other ranks of a group --- */

static void tell_group(dispatcher *d, message_kind kind, const work_item *next) {
    qzo_message message = message_of(kind, next->trial, next->until, QZO_OK);
    for (int rank = 1; rank < d->group->size; rank++)
        note_error(d, qzo_comm_send(d->group, rank, &message));
}

/* By messages rather than a broadcast: a rank that waits for work sleeps, and hears signals. */
static message_kind hear_leader(dispatcher *d, work_item *next) {
    qzo_message message;
    bool received = false;
    int from = 0;
    while (d->worst == QZO_OK) {
        note_error(d, qzo_comm_poll(d->group, &received, &from, &message));
        if (received) {
            *next = item_of(&message);
            return (message_kind)qzo_get_u32(message.bytes);
        }
        if (d->settings->should_park != NULL && d->settings->should_park()) send_park(d);
        nanosleep(&POLL_PAUSE, NULL);
    }
    return KIND_STOP; /* the transport is broken */
}

/* --- hooks of the running trial --- */

static bool hook_should_park(void *context) {
    const dispatcher *d = context;
    return d->park || (d->settings->should_park != NULL && d->settings->should_park());
}

static void hook_poll(void *context) {
    dispatcher *d = context;
    message_kind kind;
    work_item next;
    if (is_world_root(d))
        serve(d);
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
                 grid->trials[d->trial].values[i]);
    }
    char measured[LINE_BYTES] = "";
    if (!isnan(progress->loss)) snprintf(measured, sizeof measured, ", loss %.4f", progress->loss);
    size_t used = strlen(measured);
    if (!isnan(progress->dev_score))
        snprintf(measured + used, sizeof measured - used, ", dev %.4f", progress->dev_score);
    qzo_log_info("trial %lld/%lld%s: step %lld/%lld%s", (long long)d->trial + 1,
                 (long long)grid->trial_count, values, (long long)progress->step,
                 (long long)progress->steps, measured);
}

/* --- the loop of every rank --- */

static qzo_status run_trial(dispatcher *d, const work_item *item) {
    int64_t trial = item->trial;
    const qzo_grid_trial *entry = &d->settings->grid->trials[trial];
    char id[QZO_DIGEST_TEXT_BYTES], timing[PATH_BYTES];
    qzo_outcome outcome = QZO_OUTCOME_FAILED;
    qzo_digest_text(id, &entry->id);
    char *journal = qzo_journal_path(d->settings->folder, &entry->id);
    if (journal == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for a path");
    snprintf(timing, sizeof timing, "%s/timing/%s.jsonl", d->settings->folder, id);
    qzo_trial_files files = {.journal_path = journal, .timing_path = timing};
    qzo_trial_hooks hooks = {.context = d,
                             .should_park = hook_should_park,
                             .poll = hook_poll,
                             .progress = hook_progress,
                             .until_step = item->until};
    d->trial = trial;
    d->progress_at = qzo_clock_seconds();
    qzo_status status = qzo_trial_run(&outcome, &entry->spec, &d->bench, d->group, &files, &hooks);
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
    message_kind kind = is_world_root(d) ? ask_root(d, last, d->last_status, next)
                                         : ask_by_message(d, last, d->last_status, next);
    tell_group(d, kind, next);
    return kind;
}

/* *larger: the size of groups to go on with; 0: nothing is left to do. */
static qzo_status work(dispatcher *d, int64_t *larger) {
    int64_t last = NO_TRIAL;
    work_item next = {NO_TRIAL, 0};
    while (next_work(d, last, &next) == KIND_RUN) {
        last = next.trial;
        d->last_status = run_trial(d, &next);
        snprintf(d->last_sentence, sizeof d->last_sentence, "%.1000s", qzo_error_message());
    }
    *larger = next.until;
    while (is_world_root(d)) { /* the other groups still work */
        bool all_stopped = true;
        for (int group = 0; group < d->group_count; group++)
            all_stopped &= d->leaders[group].state == LEADER_STOPPED;
        if (all_stopped) break;
        serve(d);
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

typedef struct rank_use {
    uint64_t bytes_sent;
    double wait_seconds;
    int64_t peak_bytes, device_used_bytes;
} rank_use;

static qzo_status use_of(rank_use *out, const dispatcher *d) {
    const qzo_backend *backend = d->settings->backend;
    qzo_memory_use memory = {0};
    qzo_status status = backend->ops->memory_use(backend, &memory);
    *out = (rank_use){.bytes_sent = d->bytes_sent,
                      .wait_seconds = d->wait_seconds,
                      .peak_bytes = memory.peak_bytes,
                      .device_used_bytes = memory.device_used_bytes};
    qzo_log_debug("memory: at most %lld bytes of own allocations, %lld planned; %lld in use on the "
                  "device, driver, libraries and other processes included",
                  (long long)memory.peak_bytes, (long long)d->settings->planned_bytes,
                  (long long)memory.device_used_bytes);
    return status;
}

/* On rank 0: what the ranks told each other, how long they waited for it, and their memory. */
static void log_use(const dispatcher *d, const rank_use *all) {
    int count = d->settings->world->size, slowest = 0, largest = 0, fullest = 0;
    uint64_t sum_bytes = 0;
    for (int rank = 0; rank < count; rank++) {
        sum_bytes += all[rank].bytes_sent;
        if (all[rank].wait_seconds > all[slowest].wait_seconds) slowest = rank;
        if (all[rank].peak_bytes > all[largest].peak_bytes) largest = rank;
        if (all[rank].device_used_bytes > all[fullest].device_used_bytes) fullest = rank;
    }
    if (count > 1)
        qzo_log_info("%d ranks sent %llu bytes over %s; rank %d waited longest for the others: "
                     "%.1f s",
                     count, (unsigned long long)sum_bytes, d->group->ops->name, slowest,
                     all[slowest].wait_seconds);
    qzo_log_info("memory of a rank: at most %lld bytes of own allocations (rank %d), %lld planned",
                 (long long)all[largest].peak_bytes, largest,
                 (long long)d->settings->planned_bytes);
    if (all[fullest].device_used_bytes > 0)
        qzo_log_info("memory of a device: %lld bytes in use (rank %d), driver, libraries and other "
                     "processes included",
                     (long long)all[fullest].device_used_bytes, fullest);
}

static qzo_status report_use(const dispatcher *d) {
    qzo_status status = QZO_OK;
    qzo_comm *world = d->settings->world;
    rank_use mine = {0}, *all = calloc((size_t)world->size, sizeof *all);
    if (all == NULL)
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %d ranks", world->size);
    else
        status = use_of(&mine, d);
    QZO_TRY(qzo_comm_worst_status(world, status));
    QZO_TRY(qzo_comm_gather(world, all, &mine, sizeof mine));
    if (is_world_root(d)) log_use(d, all);
cleanup:
    free(all);
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
cleanup:
    return status;
}

qzo_status qzo_dispatch(const qzo_dispatch_settings *settings) {
    qzo_status status = QZO_OK;
    qzo_comm *world = settings->world;
    dispatcher d = {.settings = settings, .trial = NO_TRIAL};
    int64_t larger = qzo_dispatch_group_size(world->size, settings->ranks_per_trial);
    d.leaders = calloc((size_t)world->size, sizeof *d.leaders);
    if (d.leaders == NULL)
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %d groups", world->size);
    QZO_TRY(qzo_comm_worst_status(world, status));
    qzo_workbench_init(&d.bench, settings->backend);
    d.bench.free_since = settings->started_at;
    while (status == QZO_OK && larger > 0) {
        d.group_size = larger;
        if (is_world_root(&d) && d.group != NULL)
            qzo_log_info("%lld ranks per trial from here on", (long long)larger);
        status = work_in_groups(&d, &larger);
    }
    if (status == QZO_OK || status == QZO_ERR_INTERRUPTED) {
        qzo_status reported = report_use(&d);
        if (reported != QZO_OK) status = reported;
    }
cleanup:
    qzo_workbench_release(&d.bench);
    qzo_comm_close(d.group);
    free(d.leaders);
    return status;
}
