/* Kinds of trials: what decides a trial's memory. Trials that agree in it are measured once. */
#ifndef QZO_SWEEP_KINDS_H
#define QZO_SWEEP_KINDS_H

#include "sweep/grid.h"
#include "trial/memory_plan.h"

typedef struct qzo_kind {
    uint64_t hash;              /* of what decides it */
    int64_t next;               /* in its place of the table; -1: none */
    const qzo_trial_spec *spec; /* of its first trial; borrowed from the grid */
    int64_t first_trial;        /* from 0 */
    int64_t trial_count;
    qzo_memory_plan memory;
    int64_t dev_passes, test_passes; /* forward passes of an evaluation */
    qzo_status status;
    char *message; /* why its trials cannot run; NULL where they can */
} qzo_kind;

typedef struct qzo_kinds { /* zeroed: none */
    qzo_kind *entries;     /* (room) */
    int64_t count;
    int64_t *heads; /* (room): a hash table of the entries; -1: none */
    int64_t room;   /* a power of two, or 0 */
} qzo_kinds;

/* How the memory of kinds is planned. */
typedef struct qzo_kinds_settings {
    const char *backend_name;
    int thread_count;    /* of a rank */
    qzo_pairs pairs;     /* as they were asked for */
    int64_t limit_bytes; /* of a rank; 0: none is known */
} qzo_kinds_settings;

/* Kinds in the order of their first trials. A kind that cannot run is no error. *pairs: as asked
 * for, or never where with them the largest kind takes more than the limit. */
qzo_status qzo_kinds_measure(qzo_kinds *out, qzo_pairs *pairs, const qzo_grid *grid,
                             const qzo_kinds_settings *settings);
void qzo_kinds_release(qzo_kinds *kinds);

/* The kind of one of the grid's trials. */
const qzo_kind *qzo_kinds_find(const qzo_kinds *kinds, const qzo_trial_spec *spec);

/* The kind that takes most of a rank's memory; NULL where none can run. */
const qzo_kind *qzo_kinds_largest(const qzo_kinds *kinds);

/* Models that a rank keeps loaded, each with the workspace of its largest trial. */
typedef struct qzo_residency {
    int64_t model_count; /* that can run; one that is loaded for another training is another */
    int64_t kept_count;  /* at least 1 */
    int64_t own_bytes, rank_bytes; /* at most, of those that are kept; as in qzo_memory_plan */
} qzo_residency;

/* As many of them as limit_bytes has room for, whichever they are; 0: not known, so one. */
qzo_status qzo_kinds_residency(qzo_residency *out, const qzo_kinds *kinds, int64_t limit_bytes);

/* QZO_ERR_MEMORY with both numbers where the largest kind takes more than limit_bytes, which
 * `limit_name` says where it comes from; 0: no limit. */
qzo_status qzo_kinds_check_limit(const qzo_kinds *kinds, int64_t limit_bytes,
                                 const char *limit_name);

#endif
