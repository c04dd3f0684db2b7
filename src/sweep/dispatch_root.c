#include "sweep/dispatcher.h"

#include "base/clock.h"
#include "base/log.h"
#include "sweep/results.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void qzo_dispatch_note(dispatcher *d, qzo_status status) {
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
            qzo_dispatch_note(d,
                              qzo_comm_send(d->settings->world, leader_rank(d, group), &message));
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
    long long number = (long long)trial + 1, steps = (long long)summary->steps;
    long long count = (long long)qzo_forks_trial_count(d->settings->forks);
    if (isnan(summary->dev_score)) /* a task without a score */
        qzo_log_info("trial %lld/%lld %s after %lld steps: dev loss %.4g, test loss %.4g", number,
                     count, what, steps, summary->dev_loss, summary->test_loss);
    else
        qzo_log_info("trial %lld/%lld %s after %lld steps: dev %.4g (zero-shot %.4g), test %.4g",
                     number, count, what, steps, summary->dev_score, summary->zero_shot_dev,
                     summary->test_score);
}

/* Whether it had been stopped at this rung, by a decision that the file has lost since: it is taken
 * once more. */
static bool was_stopped_there(const dispatcher *d, int group, const qzo_trial_summary *summary) {
    const qzo_schedule *schedule = d->settings->schedule;
    return schedule->ops->has_rungs && summary->outcome == QZO_OUTCOME_STOPPED &&
           summary->steps == qzo_schedule_steps(schedule, d->leaders[group].rung);
}

/* A group's trial is over, or at its rung. status: QZO_OK (the journal says how), else parked or an
 * error. */
static void take_result(dispatcher *d, int group, int64_t trial, qzo_status status) {
    const qzo_dispatch_settings *s = d->settings;
    qzo_trial_summary summary = {0};
    qzo_report_kind kind = QZO_REPORT_PARKED;
    qzo_status outcome = status;
    double score = (double)NAN;
    /* What is wrong with one trial's journal concerns no other; where they are compared, it ranks
     * last. */
    bool is_lost = status == QZO_ERR_FORMAT;
    if (is_lost) kind = QZO_REPORT_ENDED;
    if (status == QZO_OK) {
        qzo_status read =
            qzo_schedule_score(&score, &summary, s->schedule, trial, d->leaders[group].rung);
        qzo_dispatch_note(d, read);
        bool is_at_rung = !summary.ended || was_stopped_there(d, group, &summary);
        kind = read != QZO_OK ? QZO_REPORT_PARKED : is_at_rung ? QZO_REPORT_RUNG : QZO_REPORT_ENDED;
        if (kind == QZO_REPORT_ENDED && summary.outcome == QZO_OUTCOME_DIVERGED)
            outcome = QZO_ERR_DIVERGED;
        if (kind == QZO_REPORT_ENDED && summary.outcome == QZO_OUTCOME_FAILED)
            outcome = QZO_ERR_CONFIG;
        take_time(d, &d->leaders[group], summary.steps);
        log_result(d, trial, &summary);
    }
    /* Whatever the error was: what is left of the trial is for the next start. */
    bool is_parked = kind == QZO_REPORT_PARKED;
    if (is_parked) outcome = QZO_ERR_INTERRUPTED;
    if (kind == QZO_REPORT_RUNG)
        qzo_dispatch_note(d, qzo_decisions_rung(s->decisions, trial, d->leaders[group].rung));
    else
        qzo_dispatch_note(d, qzo_decisions_outcome(s->decisions, trial, outcome));
    s->schedule->ops->report(s->schedule->state, trial, kind, score);
    qzo_trial_summary_release(&summary);
    /* Parked, or an error of the machine, which its ranks hold with its sentence: all stop. */
    if (is_parked) start_parking(d);
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
    qzo_dispatch_note(d, qzo_comm_send(d->settings->world, leader_rank(d, group), &message));
}

/* Steps that the trial has in its journal. */
static int64_t steps_of(dispatcher *d, const qzo_action *action) {
    double score;
    qzo_trial_summary summary;
    const qzo_schedule *schedule = d->settings->schedule;
    if (!schedule->ops->has_rungs) return 0;
    qzo_status status = qzo_schedule_score(&score, &summary, schedule, action->trial, action->rung);
    /* A journal that cannot be read is the trial's misfortune, which its group will find. */
    if (status != QZO_ERR_FORMAT) qzo_dispatch_note(d, status);
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
    qzo_dispatch_note(d, qzo_decisions_dispatch(s->decisions, action->trial, group, action->rung));
    if (d->worst == QZO_OK && s->schedule->ops->has_rungs)
        qzo_dispatch_note(d, qzo_decisions_sync(s->decisions));
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
                 (long long)qzo_forks_trial_count(s->forks), (long long)action->rung + 1,
                 (long long)s->schedule->settings.rung_count);
    qzo_dispatch_note(d, qzo_decisions_stop(s->decisions, action->trial, action->rung));
    if (d->worst == QZO_OK) qzo_dispatch_note(d, qzo_decisions_sync(s->decisions));
    if (d->worst == QZO_OK)
        qzo_dispatch_note(d, qzo_schedule_end_journal(s->schedule, action->trial, action->rung));
    if (d->worst != QZO_OK) start_parking(d);
}

/* Decided, written down, then told to everyone who may be asked to run it. */
static void fork_trial(dispatcher *d, const qzo_action *action) {
    const qzo_dispatch_settings *s = d->settings;
    work_item item = {action->parent, qzo_schedule_steps(s->schedule, action->rung)};
    qzo_log_info("trial %lld goes on from trial %lld after step %lld", (long long)action->trial + 1,
                 (long long)item.trial + 1, (long long)item.until);
    qzo_dispatch_note(d, qzo_schedule_fork(s->schedule, s->forks, s->decisions, action));
    if (d->worst != QZO_OK) {
        start_parking(d);
        return;
    }
    qzo_message message = message_of(KIND_FORK, item.trial, item.until, QZO_OK);
    for (int group = 1; group < d->group_count; group++)
        if (d->leaders[group].state != LEADER_STOPPED)
            qzo_dispatch_note(d, qzo_comm_send(s->world, leader_rank(d, group), &message));
    qzo_dispatch_tell_group(d, KIND_FORK, &item);
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
            else if (action.kind == QZO_ACTION_FORK)
                fork_trial(d, &action);
            else
                send_trial(d, group, &action);
        }
    }
}

void qzo_dispatch_serve(dispatcher *d) {
    bool received = true;
    if (d->settings->should_park != NULL && d->settings->should_park()) start_parking(d);
    while (received) {
        qzo_message message;
        int from = 0;
        qzo_dispatch_note(d, qzo_comm_poll(d->settings->world, &received, &from, &message));
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

message_kind qzo_dispatch_ask_root(dispatcher *d, int64_t last, qzo_status last_status,
                                   work_item *next) {
    if (last != NO_TRIAL) take_result(d, 0, last, last_status);
    d->leaders[0].state = LEADER_WAITING;
    d->own_answer = 0;
    for (;;) {
        qzo_dispatch_serve(d);
        if (d->own_answer != 0) break;
        nanosleep(&POLL_PAUSE, NULL);
    }
    *next = (work_item){d->own_trial, d->own_until};
    return (message_kind)d->own_answer;
}
