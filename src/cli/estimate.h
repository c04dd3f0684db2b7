/* How long a sweep will take, from a few timed steps: `qzo plan --calibrate`. */
#ifndef QZO_CLI_ESTIMATE_H
#define QZO_CLI_ESTIMATE_H

#include "cli/options.h"
#include "sweep/grid.h"
#include "sweep/sweep_spec.h"

#include <jansson.h>

/* What one rank takes for the parts of a trial. */
typedef struct qzo_calibration {
    double step_seconds;   /* of the settings that were timed, on one rank: median of 3 */
    double pass_seconds;   /* a forward pass of a training micro-batch */
    double update_seconds; /* one record applied; every rank applies all */
    double eval_seconds;   /* a forward pass of an evaluation */
    int64_t thread_count;
    const char *backend_name;
} qzo_calibration;

/* Three steps of a trial like spec after one to warm up, and an evaluation pass. */
qzo_status qzo_calibrate(qzo_calibration *out, const qzo_trial_spec *spec,
                         const qzo_options *options);

/* Numbers of a trial that its time comes from. */
typedef struct qzo_trial_size {
    int64_t steps, evaluations;
    int64_t passes_per_step; /* 2 per perturbation and micro-batch */
    int64_t records_per_step;
    int64_t passes_per_evaluation, test_passes;
} qzo_trial_size;

/* Seconds of one trial on so many ranks: passes are dealt, updates are not. */
double qzo_trial_seconds(const qzo_trial_size *size, const qzo_calibration *calibration,
                         int64_t ranks);

/* Steps that the sweep's scheduler lets the trials take, where the trials of grid end in the order
 * of their rows: exact for fifo and hyperband, an example for the others. NULL status where the
 * grid does not fit the scheduler. steps (trial_count) is the caller's. */
qzo_status qzo_scheduled_steps(int64_t *steps, const qzo_sweep_spec *sweep, const qzo_grid *grid);

/* "HH:MM:SS", "D-HH:MM:SS", "MM:SS" or minutes, as Slurm reads --time; QZO_ERR_USAGE. */
qzo_status qzo_time_parse(double *seconds, const char *text);

enum { QZO_TIME_TEXT_BYTES = 40 };

/* "D-HH:MM:SS"; returns out. */
const char *qzo_time_text(char out[QZO_TIME_TEXT_BYTES], double seconds);

#endif
