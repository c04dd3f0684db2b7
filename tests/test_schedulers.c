/* Every registered scheduler on simulated trials and groups: what each must do, whatever its
 * policy; then what each of them promises. */
#include "test_support.h"

#include "sweep/scheduler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ASKED_MAX = 81, GROUPS_MAX = 8, EVENTS_MAX = 4096, RUNG_COUNT = 4 };
enum { TRIALS_MAX = ASKED_MAX * RUNG_COUNT }; /* with all forks that may come */

static const int64_t RUNGS[RUNG_COUNT] = {10, 30, 90, 270};

typedef struct simulation {
    int64_t trial_count;
    int group_count;
    uint32_t seed;     /* of the order in which groups come back, and of how */
    bool with_parking; /* some runs are parked first */
    bool with_losses;  /* some trials diverge on their way */
    bool with_nan;     /* some have no score, and go on */
} simulation;

typedef struct history {
    int64_t events[EVENTS_MAX][4]; /* kind, trial, rung, parent of every decision */
    int event_count;
    int64_t trial_count;     /* forks included */
    int started[TRIALS_MAX]; /* runs that were not parked */
    int parked[TRIALS_MAX];
    int64_t rung[TRIALS_MAX]; /* of the last start; -1 none */
    bool is_running[TRIALS_MAX], is_ended[TRIALS_MAX], is_finished[TRIALS_MAX];
    bool is_stopped[TRIALS_MAX], was_parked[TRIALS_MAX];
} history;

/* A small generator of its own, so that a failure repeats on every machine. */
static uint32_t draw(uint32_t *state, uint32_t below) {
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 16) % below;
}

/* Fixed for a trial: the order of arrival changes no score. Trial 37 % count is the best. */
static double score_of(int64_t trial, int64_t rung, const simulation *s) {
    if (s->with_nan && trial % 5 == 3) return (double)NAN;
    int64_t quality = (trial * 29 + 8) % s->trial_count;
    return (double)quality / (double)(rung + 1);
}

static qzo_scheduler_settings settings_of(const simulation *s, const qzo_scheduler_ops *ops) {
    static const int64_t to_the_end[] = {0};
    return (qzo_scheduler_settings){.trial_count = s->trial_count,
                                    .rungs = ops->has_rungs ? RUNGS : to_the_end,
                                    .rung_count = ops->has_rungs ? RUNG_COUNT : 1,
                                    .eta = 3,
                                    .brackets = 2,
                                    .min_trials = 3,
                                    .quantile = 0.2,
                                    .seed = 11};
}

/* The next number, of a trial that stands at that rung. */
static void take_fork(history *h, const qzo_scheduler_ops *ops, const qzo_action *action) {
    int64_t parent = action->parent;
    if (!ops->forks) fail_msg("%s forks trials and does not say so", ops->name);
    assert_int_equal(action->trial, h->trial_count);
    assert_true(parent >= 0 && parent < h->trial_count);
    if (h->is_running[parent] || h->is_ended[parent] || h->rung[parent] != action->rung)
        fail_msg("%s forks trial %d, which is not at rung %d", ops->name, (int)parent,
                 (int)action->rung);
    h->rung[h->trial_count++] = action->rung;
}

static void take_decision(history *h, const qzo_scheduler_ops *ops, const qzo_action *action) {
    int64_t trial = action->trial;
    if (action->kind == QZO_ACTION_FORK) take_fork(h, ops, action);
    if (trial < 0 || trial >= h->trial_count) fail_msg("%s gave a trial that is none", ops->name);
    if (h->is_running[trial]) fail_msg("%s gave a running trial", ops->name);
    if (h->is_ended[trial]) fail_msg("%s gave a trial that had ended", ops->name);
    assert_true(h->event_count < EVENTS_MAX);
    int64_t *event = h->events[h->event_count++];
    event[0] = action->kind;
    event[1] = trial;
    event[2] = action->rung;
    event[3] = action->parent;
    if (action->kind == QZO_ACTION_FORK) return;
    if (action->kind == QZO_ACTION_STOP) {
        if (action->rung != h->rung[trial]) fail_msg("%s stops a trial elsewhere", ops->name);
        h->is_ended[trial] = h->is_stopped[trial] = true;
        return;
    }
    if (h->was_parked[trial] ? action->rung != h->rung[trial] : action->rung <= h->rung[trial])
        fail_msg("%s sends trial %d from rung %d to rung %d", ops->name, (int)trial,
                 (int)h->rung[trial], (int)action->rung);
    h->rung[trial] = action->rung;
    h->was_parked[trial] = false;
    h->is_running[trial] = true;
}

static void end_run(history *h, const qzo_scheduler_ops *ops, void *state, const simulation *s,
                    int64_t trial, uint32_t *random) {
    int64_t last = ops->has_rungs ? RUNG_COUNT - 1 : 0;
    h->is_running[trial] = false;
    if (s->with_parking && h->parked[trial] < 2 && draw(random, 3) == 0) {
        h->parked[trial]++;
        h->was_parked[trial] = true;
        ops->report(state, trial, QZO_REPORT_PARKED, (double)NAN);
        return;
    }
    h->started[trial]++;
    bool is_lost = s->with_losses && trial % 7 == 2 && h->rung[trial] > 0;
    h->is_finished[trial] = !is_lost && h->rung[trial] == last;
    h->is_ended[trial] = is_lost || h->is_finished[trial];
    ops->report(state, trial, h->is_ended[trial] ? QZO_REPORT_ENDED : QZO_REPORT_RUNG,
                is_lost ? (double)NAN : score_of(trial, h->rung[trial], s));
}

/* Groups take decisions as long as there are some, then one of the busy ones ends. */
static void simulate(history *h, const qzo_scheduler_ops *ops, const simulation *s) {
    void *state = NULL;
    int64_t running[GROUPS_MAX];
    int running_count = 0;
    uint32_t random = s->seed;
    qzo_action action;
    qzo_scheduler_settings settings = settings_of(s, ops);
    *h = (history){.trial_count = s->trial_count};
    for (int i = 0; i < TRIALS_MAX; i++) h->rung[i] = -1;
    assert_ok(ops->create(&state, &settings));
    while (!ops->done(state)) {
        while (running_count < s->group_count && ops->next(state, &action)) {
            take_decision(h, ops, &action);
            if (action.kind == QZO_ACTION_RUN) running[running_count++] = action.trial;
        }
        if (ops->done(state)) break;
        if (running_count == 0) fail_msg("%s waits for nothing", ops->name);
        int group = (int)draw(&random, (uint32_t)running_count);
        int64_t trial = running[group];
        running[group] = running[--running_count];
        end_run(h, ops, state, s, trial, &random);
    }
    assert_int_equal(running_count, 0);
    assert_false(ops->next(state, &action));
    ops->destroy(state);
}

static const simulation simulations[] = {
    {0, 1, 1, false, false, false},  {1, 1, 2, false, false, false}, {2, 3, 3, true, false, false},
    {7, 1, 4, false, true, false},   {7, 3, 5, true, true, true},    {9, 8, 6, false, false, false},
    {81, 8, 7, false, false, false}, {81, 8, 8, true, true, true},   {64, 3, 9, true, false, true},
    {27, 1, 10, true, true, false},
};
enum { SIMULATION_COUNT = sizeof simulations / sizeof simulations[0] };

static void every_trial_ends_once(void **state) {
    (void)state;
    for (int k = 0; qzo_schedulers[k]; k++)
        for (int i = 0; i < SIMULATION_COUNT; i++) {
            const simulation *s = &simulations[i];
            history h;
            simulate(&h, qzo_schedulers[k], s);
            bool any_finished = s->trial_count == 0;
            for (int64_t t = 0; t < h.trial_count; t++) {
                if (!h.is_ended[t])
                    fail_msg("%s, simulation %d: trial %d never ended", qzo_schedulers[k]->name, i,
                             (int)t);
                any_finished |= h.is_finished[t];
                if (!qzo_schedulers[k]->has_rungs) assert_int_equal(h.started[t], 1);
            }
            if (!any_finished && !s->with_losses)
                fail_msg("%s, simulation %d: no trial ran to its end", qzo_schedulers[k]->name, i);
        }
}

static void the_same_reports_give_the_same_decisions(void **state) {
    (void)state;
    static history a, b;
    for (int k = 0; qzo_schedulers[k]; k++)
        for (int i = 0; i < SIMULATION_COUNT; i++) {
            simulate(&a, qzo_schedulers[k], &simulations[i]);
            simulate(&b, qzo_schedulers[k], &simulations[i]);
            assert_int_equal(a.event_count, b.event_count);
            assert_memory_equal(a.events, b.events, sizeof a.events);
        }
}

static void the_best_trial_is_never_stopped(void **state) {
    (void)state;
    for (int k = 0; qzo_schedulers[k]; k++)
        for (uint32_t seed = 1; seed <= 20; seed++) {
            simulation s = {.trial_count = 64,
                            .group_count = 1 + (int)(seed % 8),
                            .seed = seed,
                            .with_parking = true};
            history h;
            simulate(&h, qzo_schedulers[k], &s);
            for (int64_t t = 0; t < s.trial_count; t++)
                if (score_of(t, 0, &s) == 0.0 && !h.is_finished[t])
                    fail_msg("%s, seed %u: the best trial was stopped at rung %d",
                             qzo_schedulers[k]->name, seed, (int)h.rung[t]);
        }
}

static void a_trial_without_a_score_ranks_last(void **state) {
    (void)state;
    for (int k = 0; qzo_schedulers[k]; k++) {
        simulation s = {.trial_count = 60, .group_count = 4, .seed = 3, .with_nan = true};
        history h;
        if (!qzo_schedulers[k]->has_rungs || qzo_schedulers[k]->forks) continue;
        simulate(&h, qzo_schedulers[k], &s);
        int finished = 0;
        for (int64_t t = 0; t < s.trial_count; t++) {
            finished += h.is_finished[t];
            if (h.is_finished[t] && isnan(score_of(t, 0, &s)) &&
                qzo_schedulers[k] != &qzo_sched_median) /* it needs three others to judge */
                fail_msg("%s: trial %d has no score and ran to its end", qzo_schedulers[k]->name,
                         (int)t);
        }
        assert_true(finished > 0);
    }
}

static void schedulers_are_found_by_name(void **state) {
    (void)state;
    for (int k = 0; qzo_schedulers[k]; k++)
        assert_ptr_equal(qzo_scheduler_find(qzo_schedulers[k]->name), qzo_schedulers[k]);
    assert_null(qzo_scheduler_find("none"));
    assert_non_null(qzo_scheduler_find("fifo"));
}

static void fifo_keeps_the_order_it_is_given(void **state) {
    (void)state;
    static const int64_t order[] = {4, 0, 1, 2, 3};
    qzo_scheduler_settings settings = {
        .trial_count = 5, .order = order, .rungs = (const int64_t[]){0}, .rung_count = 1};
    void *fifo = NULL;
    qzo_action action;
    assert_ok(qzo_sched_fifo.create(&fifo, &settings));
    qzo_sched_fifo.report(fifo, 1, QZO_REPORT_ENDED, 0.1); /* in an earlier run */
    static const int64_t expected[] = {4, 0, 2};
    for (int i = 0; i < 3; i++) {
        assert_true(qzo_sched_fifo.next(fifo, &action));
        assert_int_equal(action.trial, expected[i]);
    }
    qzo_sched_fifo.report(fifo, 2, QZO_REPORT_PARKED, (double)NAN);
    qzo_sched_fifo.report(fifo, 4, QZO_REPORT_PARKED, (double)NAN);
    static const int64_t after_parking[] = {4, 2, 3};
    for (int i = 0; i < 3; i++) {
        assert_true(qzo_sched_fifo.next(fifo, &action));
        assert_int_equal(action.trial, after_parking[i]);
    }
    assert_false(qzo_sched_fifo.next(fifo, &action));
    qzo_sched_fifo.destroy(fifo);
    qzo_sched_fifo.destroy(NULL);
}

/* How many trials came to each rung. */
static void count_rungs(int *counts, const history *h, const simulation *s) {
    for (int r = 0; r < RUNG_COUNT; r++) counts[r] = 0;
    for (int64_t t = 0; t < s->trial_count; t++)
        for (int64_t r = 0; r <= h->rung[t]; r++) counts[r]++;
}

static void halving_keeps_one_in_eta(void **state) {
    (void)state;
    static const int64_t rungs[] = {1, 3, 9};
    simulation s = {.trial_count = 9};
    qzo_scheduler_settings settings = {.trial_count = 9,
                                       .rungs = rungs,
                                       .rung_count = 3,
                                       .eta = 3,
                                       .brackets = 1,
                                       .min_trials = 1};
    void *scheduler = NULL;
    qzo_action action;
    int64_t reached[] = {0, 0, 0}, stopped = 0;
    assert_ok(qzo_sched_hyperband.create(&scheduler, &settings));
    while (!qzo_sched_hyperband.done(scheduler)) {
        assert_true(qzo_sched_hyperband.next(scheduler, &action));
        if (action.kind == QZO_ACTION_STOP) {
            stopped++;
            continue;
        }
        reached[action.rung]++;
        qzo_sched_hyperband.report(scheduler, action.trial,
                                   action.rung == 2 ? QZO_REPORT_ENDED : QZO_REPORT_RUNG,
                                   score_of(action.trial, action.rung, &s));
    }
    qzo_sched_hyperband.destroy(scheduler);
    static const int64_t expected[] = {9, 3, 1};
    assert_memory_equal(reached, expected, sizeof expected);
    assert_int_equal(stopped, 8);
}

/* What an undisturbed run must equal, byte for byte. */
static void hyperband_does_not_depend_on_arrival(void **state) {
    (void)state;
    static history first, other;
    simulation s = {.trial_count = 81, .group_count = 1, .seed = 1, .with_losses = true};
    simulate(&first, &qzo_sched_hyperband, &s);
    for (uint32_t seed = 2; seed < 30; seed++) {
        s = (simulation){.trial_count = 81,
                         .group_count = 1 + (int)(seed % 8),
                         .seed = seed,
                         .with_parking = seed % 2 == 0,
                         .with_losses = true};
        simulate(&other, &qzo_sched_hyperband, &s);
        assert_memory_equal(first.rung, other.rung, sizeof first.rung);
        assert_memory_equal(first.is_stopped, other.is_stopped, sizeof first.is_stopped);
    }
}

static void hyperband_deals_trials_to_brackets(void **state) {
    (void)state;
    history h;
    simulation s = {.trial_count = 81, .group_count = 8, .seed = 5};
    simulate(&h, &qzo_sched_hyperband, &s);
    int first_at_rung[2] = {0, 0};
    for (int e = 0; e < h.event_count; e++) {
        bool seen = false;
        for (int before = 0; before < e; before++) seen |= h.events[before][1] == h.events[e][1];
        if (!seen) {
            assert_true(h.events[e][2] < 2);
            first_at_rung[h.events[e][2]]++;
        }
    }
    /* Weights 27/4 and 9/3 of 81 trials: 56.08 and 24.92. */
    assert_int_equal(first_at_rung[0], 56);
    assert_int_equal(first_at_rung[1], 25);
}

static void asha_promotes_about_one_in_eta(void **state) {
    (void)state;
    for (uint32_t seed = 1; seed < 20; seed++) {
        history h;
        int counts[RUNG_COUNT];
        simulation s = {.trial_count = 81, .group_count = 8, .seed = seed};
        simulate(&h, &qzo_sched_asha, &s);
        count_rungs(counts, &h, &s);
        assert_int_equal(counts[0], 81);
        for (int r = 1; r < RUNG_COUNT; r++) {
            /* Nobody is called back: a rung may have sent on more than the third it ends with. */
            assert_true(counts[r] >= 1);
            assert_true(counts[r] <= (counts[r - 1] * 2 + 2) / 3);
        }
    }
}

static void median_stops_the_worse_half(void **state) {
    (void)state;
    history h;
    simulation s = {.trial_count = 64, .group_count = 1, .seed = 1};
    simulate(&h, &qzo_sched_median, &s);
    int64_t judged_first = 3; /* min_trials: too few others for these */
    for (int64_t t = judged_first; t < s.trial_count; t++) {
        int others = 0, better = 0;
        for (int64_t o = 0; o < t; o++) { /* one group: all before it had come to the first rung */
            others++;
            better += score_of(o, 0, &s) < score_of(t, 0, &s);
        }
        bool stops_first = h.is_stopped[t] && h.rung[t] == 0;
        if (stops_first != (2 * better > others))
            fail_msg("trial %d of which %d of %d are better: %s", (int)t, better, others,
                     stops_first ? "stopped" : "went on");
    }
}

/* As hyperband: forks have the same numbers and parents too. */
static void a_population_does_not_depend_on_arrival(void **state) {
    (void)state;
    static history first, other;
    simulation s = {.trial_count = 40, .group_count = 1, .seed = 1, .with_losses = true};
    simulate(&first, &qzo_sched_pbt, &s);
    assert_true(first.trial_count > s.trial_count);
    for (uint32_t seed = 2; seed < 30; seed++) {
        s = (simulation){.trial_count = 40,
                         .group_count = 1 + (int)(seed % 8),
                         .seed = seed,
                         .with_parking = seed % 2 == 0,
                         .with_losses = true};
        simulate(&other, &qzo_sched_pbt, &s);
        assert_int_equal(first.trial_count, other.trial_count);
        assert_memory_equal(first.rung, other.rung, sizeof first.rung);
        assert_memory_equal(first.is_stopped, other.is_stopped, sizeof first.is_stopped);
    }
}

static int count_better(int64_t trial, const simulation *s) {
    int better = 0;
    double score = score_of(trial, 0, s);
    for (int64_t t = 0; t < s->trial_count; t++)
        better += score_of(t, 0, s) < score || (isnan(score) && !isnan(score_of(t, 0, s)));
    return better;
}

/* At the first rung of 40 trials the last 8 give way to some of the first 8. */
static void the_worst_go_on_from_the_best(void **state) {
    (void)state;
    history h;
    enum { EIGHT = 8 };
    for (int with_nan = 0; with_nan < 2; with_nan++) {
        simulation s = {.trial_count = 40, .group_count = 3, .seed = 4, .with_nan = with_nan != 0};
        int stopped = 0, forked = 0;
        simulate(&h, &qzo_sched_pbt, &s);
        for (int e = 0; e < h.event_count; e++) {
            const int64_t *event = h.events[e];
            if (event[2] != 0) continue;
            stopped += event[0] == QZO_ACTION_STOP;
            forked += event[0] == QZO_ACTION_FORK;
            if (event[0] == QZO_ACTION_STOP) assert_true(count_better(event[1], &s) >= 32);
            if (event[0] == QZO_ACTION_FORK) assert_true(count_better(event[3], &s) < EIGHT);
        }
        assert_int_equal(stopped, EIGHT);
        assert_int_equal(forked, EIGHT);
    }
}

/* Members that diverged are replaced, however many, before one without a score that can go on;
 * where nobody is left to fork, none is. */
static void lost_members_are_replaced(void **state) {
    (void)state;
    enum { POPULATION = 6 };
    static const int64_t rungs[] = {1, 2, 3};
    for (int lost = 0; lost <= POPULATION; lost++) {
        qzo_scheduler_settings settings = {
            .trial_count = POPULATION, .rungs = rungs, .rung_count = 3, .quantile = 0.2};
        void *scheduler = NULL;
        qzo_action action;
        int forks = 0, stops = 0;
        assert_ok(qzo_sched_pbt.create(&scheduler, &settings));
        while (qzo_sched_pbt.next(scheduler, &action)) {
            bool is_lost = action.trial < lost && action.rung == 0;
            forks += action.kind == QZO_ACTION_FORK && action.rung == 0;
            stops += action.kind == QZO_ACTION_STOP && action.rung == 0;
            if (action.kind != QZO_ACTION_RUN) continue;
            bool has_score = !is_lost && (action.trial != POPULATION - 1 || action.rung > 0);
            qzo_sched_pbt.report(scheduler, action.trial,
                                 is_lost || action.rung == 2 ? QZO_REPORT_ENDED : QZO_REPORT_RUNG,
                                 has_score ? (double)action.trial : (double)NAN);
        }
        assert_true(qzo_sched_pbt.done(scheduler));
        assert_int_equal(forks, lost >= POPULATION - 1 ? 0 : lost > 1 ? lost : 1);
        assert_int_equal(stops, lost == 0);
        qzo_sched_pbt.destroy(scheduler);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_trial_ends_once),
        cmocka_unit_test(the_same_reports_give_the_same_decisions),
        cmocka_unit_test(the_best_trial_is_never_stopped),
        cmocka_unit_test(a_trial_without_a_score_ranks_last),
        cmocka_unit_test(schedulers_are_found_by_name),
        cmocka_unit_test(fifo_keeps_the_order_it_is_given),
        cmocka_unit_test(halving_keeps_one_in_eta),
        cmocka_unit_test(hyperband_does_not_depend_on_arrival),
        cmocka_unit_test(hyperband_deals_trials_to_brackets),
        cmocka_unit_test(asha_promotes_about_one_in_eta),
        cmocka_unit_test(median_stops_the_worse_half),
        cmocka_unit_test(a_population_does_not_depend_on_arrival),
        cmocka_unit_test(the_worst_go_on_from_the_best),
        cmocka_unit_test(lost_members_are_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
