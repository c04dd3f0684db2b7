/* The trials that a scheduler makes while it runs: settings of each are a pure function of its
 * parent's, its number and the step, so that every rank has them from a few numbers, and a check
 * computes them again. trial/fork.h has their journals. */
#ifndef QZO_SWEEP_FORKS_H
#define QZO_SWEEP_FORKS_H

#include "sweep/grid.h"
#include "sweep/scheduling.h"

/* The settings of fork number `trial` (from 0, those that were asked for included) of a parent
 * after a step: each perturbed one times a drawn factor, to six digits, where it may have that
 * value; directions of its own, since two forks of one parent must differ. Paths are left NULL. */
qzo_status qzo_fork_spec(qzo_trial_spec *out, const qzo_trial_spec *parent,
                         const qzo_perturbing *perturbing, int64_t trial, int64_t step);

/* Of one rank; zeroed but for grid and perturbing: none yet. */
typedef struct qzo_forks {
    const qzo_grid *grid;             /* borrowed */
    const qzo_perturbing *perturbing; /* borrowed */
    qzo_grid_trial **trials;          /* (count), each at a place of its own */
    int64_t count;
} qzo_forks;

/* A trial of the grid, or a fork; stays where it is. */
const qzo_grid_trial *qzo_forks_trial(const qzo_forks *forks, int64_t trial);
int64_t qzo_forks_trial_count(const qzo_forks *forks); /* of the grid, and forks */

/* Makes the next one. */
qzo_status qzo_forks_add(qzo_forks *forks, int64_t parent, int64_t step);
void qzo_forks_release(qzo_forks *forks);

#endif
