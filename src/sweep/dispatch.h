/* Trials to groups of ranks, as groups become free. Rank 0 of the world decides, between the units
 * of work of its own trial; no rank is set aside for it.
 *
 * Control messages (qzo_message) between rank 0 and the leaders (rank 0) of the other groups:
 *   WANT  leader to 0: the group is free; carries how its last trial ended
 *   PARK  leader to 0: a signal asks this job to stop; 0 to leader: stop at the next boundary
 *   RUN   0 to leader: this trial, up to this step     STOP  0 to leader: no more work,
 *                                                      or larger groups are formed
 *   FORK  0 to leader: the next trial is a fork of this one after this step
 * Within a group the leader broadcasts what it was told. Every decision is in decisions.qzj before
 * it is sent. */
#ifndef QZO_SWEEP_DISPATCH_H
#define QZO_SWEEP_DISPATCH_H

#include "comm/peers.h"
#include "sweep/decisions.h"
#include "sweep/grid.h"
#include "sweep/kinds.h"
#include "sweep/schedule.h"
#include "sweep/slice.h"
#include "trial/workbench.h"

#include <stdbool.h>

typedef struct qzo_dispatch_settings {
    qzo_comm *world;
    int64_t ranks_per_trial; /* QZO_RANKS_ALL or a count; the last group may be smaller */
    const qzo_grid *grid;
    const char *folder;
    const qzo_slice *slice; /* which part of the sweep this world runs */
    qzo_backend *backend;
    const qzo_peer *peers; /* (world->size) */
    qzo_transport_choice transport;
    qzo_residency residency;     /* of every rank */
    qzo_decisions *decisions;    /* rank 0 */
    qzo_schedule *schedule;      /* rank 0: restored */
    qzo_forks *forks;            /* that were made before; those of this run are added */
    int64_t end_time;            /* of the job, seconds since 1970; 0: none. No rung is started
                                    that would end later, by the slowest step so far */
    double started_at;           /* when the program began to prepare this; base/clock.h */
    bool (*should_park)(void);   /* a signal came; NULL: never */
    void (*tick)(void *context); /* rank 0, now and then; NULL: never */
    void *tick_context;
} qzo_dispatch_settings;

/* Ranks of a group, but for the last one, which may be smaller. */
int64_t qzo_dispatch_group_size(int64_t rank_count, int64_t ranks_per_trial);

/* Runs all trials that are left; collective over the world, the same status on all ranks:
 * QZO_ERR_INTERRUPTED where some were parked, or the error that stopped the run. Trials that
 * diverged or failed are no error here: their journals say so. */
qzo_status qzo_dispatch(const qzo_dispatch_settings *settings);

#endif
