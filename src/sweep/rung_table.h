/* What the schedulers with rungs share: where each trial stands, and who is better. Every decision
 * takes a time that grows with the logarithm of the trials, so that ten thousand of them do not
 * wait for rank 0. */
#ifndef QZO_SWEEP_RUNG_TABLE_H
#define QZO_SWEEP_RUNG_TABLE_H

#include "sweep/scheduler.h"

typedef enum {
    QZO_RUNG_WAITING, /* to be sent to `rung` */
    QZO_RUNG_RUNNING, /* towards `rung` */
    QZO_RUNG_REACHED, /* at `rung`, without a decision */
    QZO_RUNG_TO_STOP, /* decided, not yet said */
    QZO_RUNG_ENDED
} qzo_rung_state;

typedef struct qzo_rung_trial {
    qzo_rung_state state;
    int64_t rung;    /* index */
    double score;    /* at the last rung it came to; NAN: ranks last */
    int64_t bracket; /* of Hyperband */
    int64_t place;   /* in the starting order */
} qzo_rung_trial;

typedef struct qzo_rung_table {
    const qzo_scheduler_settings *settings;
    int64_t ended_count, running_count;
    bool prefers_higher;   /* of those that wait, one that is on its way up is run first */
    int64_t *waiting;      /* heap of those that wait, the next one first */
    int64_t waiting_count; /* in it, also those that have ended since */
    int64_t stop_count;    /* to stop */
    int64_t stop_first;    /* none before it is */
    qzo_rung_trial trials[];
} qzo_rung_table;

/* All trials wait for rung 0. The caller destroys it. */
qzo_status qzo_rung_table_create(qzo_rung_table **out, const qzo_scheduler_settings *settings);
void qzo_rung_table_destroy(qzo_rung_table *table); /* NULL is fine */

/* The trial at a place of the starting order. */
int64_t qzo_rung_trial_at(const qzo_rung_table *table, int64_t place);

/* Takes the report into the trial's state; false where it needs no decision (parked, or ended
 * before the first rung asked for it). */
bool qzo_rung_table_report(qzo_rung_table *table, int64_t trial, qzo_report_kind kind,
                           double score);

/* What becomes of a trial: it waits for its rung, or is to stop at it. */
void qzo_rung_wait(qzo_rung_table *table, int64_t trial);
void qzo_rung_stop(qzo_rung_table *table, int64_t trial);

/* Decisions; false where there is none. */
bool qzo_rung_stop_one(qzo_rung_table *table, qzo_action *out); /* the first that is to stop */
bool qzo_rung_run_one(qzo_rung_table *table, qzo_action *out);  /* the next that waits */
bool qzo_rung_run(qzo_rung_table *table, int64_t trial, qzo_action *out);

/* Whether a ranks before b: smaller is better, NAN last, the earlier row on a tie. */
bool qzo_rung_better(double score_a, int64_t trial_a, double score_b, int64_t trial_b);

#endif
