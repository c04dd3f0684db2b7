/* DIR/decisions.qzj: what the sweep was asked and what its scheduler decided, appended before it is
 * acted on. Written by rank 0 alone; the frames of base/frames.h.
 *
 *   GRID      JSON text: {"name", "swept": [keys], "trials": [{"id", "model", "task", "values":
 *             [texts]}], "scheduler": {...}}: the trials asked for, in grid order, with the places
 *             of model and task; "scheduler" (sweep/scheduling.h) is absent for fifo. A new one
 *             follows whenever the list differs from the last.
 *   DISPATCH  u32 trial (index in the last GRID), u32 group, u64 rung: the trial starts or resumes
 *             there, to run to that rung (index)
 *   OUTCOME   u32 trial, u32 qzo_status, u64 0: it ended (QZO_OK, diverged, failed) or was parked
 *   STOP      u32 trial, u32 0, u64 rung: the scheduler ends it where it stands
 *   RUNG      u32 trial, u32 0, u64 rung: it came there
 *   FORK      u32 trial, u32 parent, u64 rung, JSON text {"id", "values"}: the next trial of the
 *             list, which goes on from the parent's journal as it was at that rung
 *
 * Files of older versions lack the u64. Frames of other types are skipped. */
#ifndef QZO_SWEEP_DECISIONS_H
#define QZO_SWEEP_DECISIONS_H

#include "base/status.h"
#include "sweep/grid.h"
#include "sweep/listing.h"
#include "sweep/scheduling.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    QZO_DECISION_GRID = 1,
    QZO_DECISION_DISPATCH = 2,
    QZO_DECISION_OUTCOME = 3,
    QZO_DECISION_STOP = 4,
    QZO_DECISION_RUNG = 5,
    QZO_DECISION_FORK = 6
} qzo_decision_type;

/* The listing of an output folder; an empty one (trial_count 0) where there is no file yet, or
 * where a torn or damaged file holds none. The caller frees it. */
qzo_status qzo_listing_load(qzo_listing **out, const char *folder);

typedef struct qzo_decisions qzo_decisions;

/* Where a whole run keeps them; a slice's events stand in a file of its own (sweep/slice.h). */
#define QZO_DECISIONS_NAME "decisions.qzj"

/* Opens DIR/name for appending, a torn tail cut (a damaged one kept beside it, with ".damaged"
 * instead of ".qzj"). The caller closes it. */
qzo_status qzo_decisions_open(qzo_decisions **out, const char *folder, const char *name);

/* Appends a GRID frame unless the last one is the same. *changed: whether trials, keys or values
 * differ from the last one's (a model that only moved is written down, but changes nothing). */
qzo_status qzo_decisions_grid(qzo_decisions *decisions, const char *name, const qzo_grid *grid,
                              const qzo_scheduling *scheduling, bool *changed);
qzo_status qzo_decisions_dispatch(qzo_decisions *decisions, int64_t trial, int group, int64_t rung);
qzo_status qzo_decisions_outcome(qzo_decisions *decisions, int64_t trial, qzo_status outcome);
qzo_status qzo_decisions_stop(qzo_decisions *decisions, int64_t trial, int64_t rung);
qzo_status qzo_decisions_rung(qzo_decisions *decisions, int64_t trial, int64_t rung);

/* The trial number is the list's next; values: (value_count) texts of the swept keys. */
qzo_status qzo_decisions_fork(qzo_decisions *decisions, int64_t trial, int64_t parent, int64_t rung,
                              const qzo_digest *id, char *const *values, int64_t value_count);

/* What was decided, and what came of it. */
typedef struct qzo_event {
    qzo_decision_type type; /* no GRID */
    int64_t trial;
    int64_t value; /* group, qzo_status or, of a fork, its parent */
    int64_t rung;
} qzo_event;

/* The events of DIR/name since its list of trials or its scheduler last changed; none where there
 * is no file. An event of a trial that the list lacks is QZO_ERR_FORMAT. The caller frees them. */
qzo_status qzo_decisions_events(qzo_event **out, int64_t *count, const char *folder,
                                const char *name);
qzo_status qzo_decisions_sync(qzo_decisions *decisions);
qzo_status qzo_decisions_close(qzo_decisions *decisions); /* syncs; NULL is fine */

#endif
