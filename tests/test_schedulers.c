/* Every registered scheduler on simulated trials and groups: what each must do, whatever its
 * policy; then what only fifo promises. */
#include "test_support.h"

#include "sweep/scheduler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TRIALS_MAX = 64, GROUPS_MAX = 8, EVENTS_MAX = 1024 };

typedef struct simulation {
    int64_t trial_count;
    int group_count;
    uint32_t seed;       /* of the order in which groups end, and of how */
    bool with_parking;   /* some runs end with QZO_ERR_INTERRUPTED first */
    int64_t ended_first; /* trials below it ended in an earlier run */
} simulation;

typedef struct history {
    int64_t events[EVENTS_MAX]; /* trials in the order of `next` */
    int event_count;
    int start_count[TRIALS_MAX];
    int parked_count[TRIALS_MAX];
    bool is_running[TRIALS_MAX];
    bool is_ended[TRIALS_MAX];
} history;

/* A small generator of its own, so that a failure repeats on every machine. */
static uint32_t draw(uint32_t *state, uint32_t below) {
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 16) % below;
}

static void start_one(history *h, const qzo_scheduler_ops *ops, int64_t trial, int64_t count) {
    if (trial < 0 || trial >= count) fail_msg("%s gave a trial that is none", ops->name);
    if (h->is_running[trial]) fail_msg("%s gave a running trial", ops->name);
    if (h->is_ended[trial]) fail_msg("%s gave a trial that had ended", ops->name);
    assert_true(h->event_count < EVENTS_MAX);
    h->events[h->event_count++] = trial;
    h->start_count[trial]++;
    h->is_running[trial] = true;
}

static qzo_status end_one(history *h, const simulation *s, int64_t trial, uint32_t *random) {
    h->is_running[trial] = false;
    if (s->with_parking && h->parked_count[trial] < 2 && draw(random, 3) == 0) {
        h->parked_count[trial]++;
        return QZO_ERR_INTERRUPTED;
    }
    static const qzo_status outcomes[] = {QZO_OK, QZO_OK, QZO_ERR_DIVERGED, QZO_ERR_FORMAT};
    h->is_ended[trial] = true;
    return outcomes[draw(random, 4)];
}

/* Groups take trials as long as there are some, then one of the busy ones ends. */
static void simulate(history *h, const qzo_scheduler_ops *ops, const simulation *s) {
    void *state = NULL;
    int64_t running[GROUPS_MAX];
    int running_count = 0;
    uint32_t random = s->seed;
    *h = (history){0};
    assert_ok(ops->create(&state, s->trial_count));
    for (int64_t t = 0; t < s->ended_first; t++) {
        h->is_ended[t] = true;
        ops->report(state, t, QZO_OK, 0.5);
    }
    while (!ops->done(state)) {
        int64_t trial = -1;
        while (running_count < s->group_count && ops->next(state, &trial)) {
            start_one(h, ops, trial, s->trial_count);
            running[running_count++] = trial;
        }
        if (running_count == 0) fail_msg("%s waits for nothing", ops->name);
        int group = (int)draw(&random, (uint32_t)running_count);
        trial = running[group];
        running[group] = running[--running_count];
        qzo_status outcome = end_one(h, s, trial, &random);
        double score = outcome == QZO_OK ? draw(&random, 100) / 100.0 : NAN;
        ops->report(state, trial, outcome, score);
    }
    int64_t trial = -1;
    assert_int_equal(running_count, 0);
    assert_false(ops->next(state, &trial));
    ops->destroy(state);
}

static const simulation simulations[] = {
    {0, 1, 1, false, 0}, {1, 1, 2, false, 0},  {7, 1, 3, false, 0},   {7, 3, 4, false, 0},
    {5, 8, 5, false, 0}, {64, 8, 6, false, 0}, {9, 2, 7, false, 4},   {9, 2, 8, false, 9},
    {12, 3, 9, true, 0}, {12, 1, 10, true, 5}, {64, 8, 11, true, 20},
};
enum { SIMULATION_COUNT = sizeof simulations / sizeof simulations[0] };

static void every_trial_starts_once_and_the_sweep_ends(void **state) {
    (void)state;
    for (int k = 0; qzo_schedulers[k]; k++)
        for (int i = 0; i < SIMULATION_COUNT; i++) {
            history h;
            simulate(&h, qzo_schedulers[k], &simulations[i]);
            for (int64_t t = 0; t < simulations[i].trial_count; t++) {
                int expected = t < simulations[i].ended_first ? 0 : 1 + h.parked_count[t];
                if (h.start_count[t] != expected)
                    fail_msg("%s, simulation %d: trial %d started %d times, expected %d",
                             qzo_schedulers[k]->name, i, (int)t, h.start_count[t], expected);
            }
        }
}

static void the_same_reports_give_the_same_order(void **state) {
    (void)state;
    for (int k = 0; qzo_schedulers[k]; k++)
        for (int i = 0; i < SIMULATION_COUNT; i++) {
            history a, b;
            simulate(&a, qzo_schedulers[k], &simulations[i]);
            simulate(&b, qzo_schedulers[k], &simulations[i]);
            assert_int_equal(a.event_count, b.event_count);
            assert_memory_equal(a.events, b.events, sizeof a.events);
        }
}

static void a_sweep_that_is_not_done_waits_for_reports(void **state) {
    (void)state;
    for (int k = 0; qzo_schedulers[k]; k++) {
        const qzo_scheduler_ops *ops = qzo_schedulers[k];
        void *scheduler = NULL;
        int64_t trial = -1;
        assert_ok(ops->create(&scheduler, 1));
        assert_true(ops->next(scheduler, &trial));
        assert_false(ops->next(scheduler, &trial));
        assert_false(ops->done(scheduler));
        ops->report(scheduler, 0, QZO_ERR_INTERRUPTED, NAN);
        assert_false(ops->done(scheduler));
        assert_true(ops->next(scheduler, &trial));
        ops->report(scheduler, 0, QZO_OK, 0.1);
        assert_true(ops->done(scheduler));
        ops->destroy(scheduler);
        ops->destroy(NULL);
    }
}

static void schedulers_are_found_by_name(void **state) {
    (void)state;
    for (int k = 0; qzo_schedulers[k]; k++)
        assert_ptr_equal(qzo_scheduler_find(qzo_schedulers[k]->name), qzo_schedulers[k]);
    assert_null(qzo_scheduler_find("none"));
    assert_non_null(qzo_scheduler_find("fifo"));
}

static void fifo_keeps_the_order_of_the_grid(void **state) {
    (void)state;
    void *fifo = NULL;
    int64_t trial = -1;
    assert_ok(qzo_sched_fifo.create(&fifo, 5));
    qzo_sched_fifo.report(fifo, 1, QZO_OK, 0.1); /* ended in an earlier run */
    static const int64_t expected[] = {0, 2, 3};
    for (int i = 0; i < 3; i++) {
        assert_true(qzo_sched_fifo.next(fifo, &trial));
        assert_int_equal(trial, expected[i]);
    }
    qzo_sched_fifo.report(fifo, 3, QZO_ERR_INTERRUPTED, NAN);
    qzo_sched_fifo.report(fifo, 0, QZO_ERR_INTERRUPTED, NAN);
    static const int64_t after_parking[] = {0, 3, 4};
    for (int i = 0; i < 3; i++) {
        assert_true(qzo_sched_fifo.next(fifo, &trial));
        assert_int_equal(trial, after_parking[i]);
    }
    assert_false(qzo_sched_fifo.next(fifo, &trial));
    qzo_sched_fifo.destroy(fifo);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_trial_starts_once_and_the_sweep_ends),
        cmocka_unit_test(the_same_reports_give_the_same_order),
        cmocka_unit_test(a_sweep_that_is_not_done_waits_for_reports),
        cmocka_unit_test(schedulers_are_found_by_name),
        cmocka_unit_test(fifo_keeps_the_order_of_the_grid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
