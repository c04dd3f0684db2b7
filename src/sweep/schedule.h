/* A scheduler that stands where the decisions of an output folder have brought it.
 *
 * The scheduler is a function of what was reported to it. Reports are in decisions.qzj in their
 * order, scores in the journals: so calling it again with the same reports must give the decisions
 * that the file has. A restart goes on from there, taking none twice and reversing none, and
 * `qzo report --check` compares all three. */
#ifndef QZO_SWEEP_SCHEDULE_H
#define QZO_SWEEP_SCHEDULE_H

#include "sweep/decisions.h"
#include "sweep/forks.h"
#include "sweep/results.h"
#include "sweep/slice.h"

typedef struct qzo_schedule {
    qzo_listing *listing; /* borrowed; forks are added to it */
    const char *folder;   /* borrowed */
    const qzo_scheduler_ops *ops;
    qzo_scheduler_settings settings;
    int64_t *order;  /* trials that load alike together, in the order of their first appearance */
    void *state;     /* the scheduler's */
    qzo_event *last; /* (trial_count): of each trial; type 0: none */
} qzo_schedule;

/* A scheduler before its first decision. The caller closes it. */
qzo_status qzo_schedule_open(qzo_schedule **out, qzo_listing *listing, const char *folder);
void qzo_schedule_close(qzo_schedule *schedule); /* NULL is fine */

/* Steps that a trial runs up to for this rung; 0: to its end. */
int64_t qzo_schedule_steps(const qzo_schedule *schedule, int64_t rung);

/* The trial's journal up to a rung, and the value that the scheduler compares. The caller releases
 * the summary. */
qzo_status qzo_schedule_score(double *score, qzo_trial_summary *summary,
                              const qzo_schedule *schedule, int64_t trial, int64_t rung);

/* Without rungs: reports the trials that need no run, ended or of another slice. With rungs: calls
 * the scheduler as the decisions say and compares; QZO_ERR_DESYNC names the first event that it
 * decides otherwise. */
qzo_status qzo_schedule_restore(qzo_schedule *schedule, const qzo_results *results,
                                const qzo_slice *slice);

/* After a restore: trials that ran when the last run ended are parked, in the file too; those that
 * it had decided to stop get the end of their journals, and those that it had decided to fork
 * theirs. */
qzo_status qzo_schedule_resume(qzo_schedule *schedule, qzo_decisions *decisions);

/* Ends the journal of a trial that is stopped at a rung, unless it has ended already. */
qzo_status qzo_schedule_end_journal(const qzo_schedule *schedule, int64_t trial, int64_t rung);

/* A fork that the scheduler decided: among the rank's forks, in the decisions, and once it stands
 * there in the listing and with a journal. */
qzo_status qzo_schedule_fork(qzo_schedule *schedule, qzo_forks *forks, qzo_decisions *decisions,
                             const qzo_action *action);

/* Compares decisions and journals; QZO_ERR_DESYNC tells where they first disagree. *event_count:
 * how many events were compared. is_live: a run may be writing now; what follows a fork that the
 * results lack is left out. */
qzo_status qzo_schedule_check(int64_t *event_count, const qzo_results *results, const char *folder,
                              bool is_live);

#endif
