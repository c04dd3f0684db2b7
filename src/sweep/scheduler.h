/* What a scheduler must provide: which trial starts next, given how others ended. It is state in
 * memory and nothing else, on rank 0 alone: it reads no clock, no file, no random number, so that
 * the same calls in the same order give the same decisions, and a restart can repeat them from the
 * decision journal.
 *
 * Trials are the grid's, 0 .. trial_count - 1. Before the first `next` the caller reports those
 * that ended in an earlier run. To add one: a file sched_<name>.c and a line in sched_registry.c;
 * tests/test_schedulers.c simulates all. */
#ifndef QZO_SWEEP_SCHEDULER_H
#define QZO_SWEEP_SCHEDULER_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct qzo_scheduler_ops {
    const char *name;

    /* trial_count may be 0. *state is the scheduler's; `destroy` frees it, NULL is fine. */
    qzo_status (*create)(void **state, int64_t trial_count);
    void (*destroy)(void *state);

    /* *trial = one to start or to resume on a group that is free now; it counts as running from
     * here on. False: none now, either because all ended or because it waits for a report. */
    bool (*next)(void *state, int64_t *trial);

    /* The trial is no longer running (or, before the first `next`, needs no run). outcome: QZO_OK
     * finished; QZO_ERR_INTERRUPTED parked or its group was lost, work is left, `next` gives it
     * again; anything else ended for good. score: the metric's best value, its sign turned so that
     * smaller is better; NAN where there is none. */
    void (*report)(void *state, int64_t trial, qzo_status outcome, double score);

    /* True once every trial that is ever to run has ended. */
    bool (*done)(const void *state);
} qzo_scheduler_ops;

extern const qzo_scheduler_ops qzo_sched_fifo; /* grid order, every trial to its end */

/* NULL-terminated. */
extern const qzo_scheduler_ops *const qzo_schedulers[];

const qzo_scheduler_ops *qzo_scheduler_find(const char *name); /* NULL where there is none */

#endif
