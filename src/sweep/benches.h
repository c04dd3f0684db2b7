/* The workbenches of a rank, one per model that it keeps loaded. A trial whose model is on one
 * takes that; else the one that was not used for longest loads it. */
#ifndef QZO_SWEEP_BENCHES_H
#define QZO_SWEEP_BENCHES_H

#include "trial/workbench.h"

typedef struct qzo_benches {
    qzo_workbench *entries; /* (count) */
    int64_t *used;          /* (count): when, in trials; 0: never */
    int64_t count, trial_count;
    int64_t load_count; /* models loaded so far */
    double free_since;  /* when the last trial, or what came before the first, ended */
    const qzo_workbench *taken;
    bool was_loaded;
} qzo_benches;

qzo_status qzo_benches_open(qzo_benches *out, qzo_backend *backend, int64_t count);
void qzo_benches_close(qzo_benches *benches); /* safe on a zeroed one */

/* Before and after every trial. */
qzo_workbench *qzo_benches_take(qzo_benches *benches, const qzo_trial_spec *spec);
void qzo_benches_give(qzo_benches *benches, const qzo_trial_spec *spec);

#endif
