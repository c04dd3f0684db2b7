/* What a scheduler must provide: which trial runs next and how far, and which one is given up. It
 * is state in memory and nothing else, on rank 0 alone: it reads no clock, no file, no random
 * number but draws of the search seed, so that the same calls in the same order give the same
 * decisions, and a restart repeats them from the decision journal (sweep/schedule.h).
 *
 * Trials are the table's, 0 .. trial_count - 1; forks follow. To add one: a file sched_<name>.c and
 * a line in sched_registry.c; tests/test_schedulers.c simulates all, tests/mpi_rungs.sh runs them.
 */
#ifndef QZO_SWEEP_SCHEDULER_H
#define QZO_SWEEP_SCHEDULER_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* What a scheduler works with. Arrays are the caller's and outlive the state. */
typedef struct qzo_scheduler_settings {
    int64_t trial_count;  /* may be 0 */
    const int64_t *order; /* (trial_count): which to start first; NULL: 0, 1, 2 ... */
    const int64_t
        *rungs; /* (rung_count), ascending: steps after which it is asked; the last is
                   the trials' end. One rung, 0 steps, where it is asked at the end only */
    int64_t rung_count;
    int64_t eta;        /* one of so many trials goes on from a rung */
    int64_t brackets;   /* of Hyperband */
    int64_t min_trials; /* of median stopping: so many others must have come to the rung */
    double quantile;    /* of population based training: which part gives way at a rung */
    uint64_t seed;      /* of its draws */
} qzo_scheduler_settings;

typedef enum {
    QZO_ACTION_RUN,  /* start or resume the trial; stop for a decision at rung `rung` */
    QZO_ACTION_STOP, /* end it where it stands; it counts as ended from here on */
    QZO_ACTION_FORK  /* a new trial, the next number, goes on from `parent` as it was at `rung` */
} qzo_action_kind;

typedef struct qzo_action {
    qzo_action_kind kind;
    int64_t trial;
    int64_t rung;   /* index */
    int64_t parent; /* of a fork */
} qzo_action;

typedef enum {
    QZO_REPORT_PARKED, /* or its group was lost: work is left, `next` gives it again */
    QZO_REPORT_RUNG,   /* it came to the rung it was sent to, and can go on from there */
    QZO_REPORT_ENDED   /* for good: finished, diverged, failed */
} qzo_report_kind;

typedef struct qzo_scheduler_ops {
    const char *name;
    const char *help; /* one line */
    bool has_rungs;   /* false: trials run to their end, and any order is as good */
    bool forks;       /* it makes new trials, and compares what trials are at a rung, not the best
                         that they have been */

    /* *state is the scheduler's; `destroy` frees it, NULL is fine. */
    qzo_status (*create)(void **state, const qzo_scheduler_settings *settings);
    void (*destroy)(void *state);

    /* The next decision; a trial to run counts as running from here on. False, and the state as it
     * was: nothing to do now, either because all ended or because it waits for a report. */
    bool (*next)(void *state, qzo_action *out);

    /* The trial is no longer running. (Before the first `next`: it needs no run.) score: the
     * metric's best value so far, its sign turned so that smaller is better; NAN where there is
     * none, and for a trial that diverged or failed: it ranks last. */
    void (*report)(void *state, int64_t trial, qzo_report_kind kind, double score);

    /* True once every trial has ended. */
    bool (*done)(const void *state);

    /* How many trials wait to be run while none runs: then groups may grow to serve so few, and the
     * trials' results do not change with it. NULL: they never do. */
    int64_t (*waiting)(const void *state);
} qzo_scheduler_ops;

extern const qzo_scheduler_ops qzo_sched_fifo;
extern const qzo_scheduler_ops qzo_sched_hyperband;
extern const qzo_scheduler_ops qzo_sched_asha;
extern const qzo_scheduler_ops qzo_sched_median;
extern const qzo_scheduler_ops qzo_sched_pbt;

/* NULL-terminated. */
extern const qzo_scheduler_ops *const qzo_schedulers[];

const qzo_scheduler_ops *qzo_scheduler_find(const char *name); /* NULL where there is none */

#endif
