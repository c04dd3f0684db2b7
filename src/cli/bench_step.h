/* Whole steps of a trial for `qzo bench --task`: how long one takes, and where its time goes. */
#ifndef QZO_CLI_BENCH_STEP_H
#define QZO_CLI_BENCH_STEP_H

#include "backend/backend_profile.h"
#include "comm/comm.h"
#include "trial/workbench.h"

#include <jansson.h>

typedef struct qzo_bench_step {
    int64_t batch, samples;
    int64_t pair_rows;  /* of a pass under both signs of a perturbation, at most; 0: none */
    int64_t step_count; /* that were timed */
    double rows;        /* packed rows of an evaluation, on average */
    double seconds_best, seconds_median;     /* of a step that nothing watches */
    double watched_seconds;                  /* of a step under the profile, on average */
    double extra_seconds;                    /* of those: what only the profile does */
    qzo_phase_total phases[QZO_PHASE_COUNT]; /* of one watched step of this rank, on average */
    double exchange_seconds;                 /* of one watched step: between ranks */
    double weight_bytes;                     /* read once per evaluation, of one step */
    double master_bytes;                     /* read and written by the update */
} qzo_bench_step;

/* Takes spec->steps steps of a trial like it, collective over the ranks of `group`; the masters
 * change. The workbench's backend is a profile (backend_profile.h) and is prepared for spec. */
qzo_status qzo_bench_step_measure(qzo_bench_step *out, qzo_workbench *bench,
                                  const qzo_trial_spec *spec, qzo_comm *group);

/* Floating-point operations of a step of this rank: products and attention. */
double qzo_bench_step_flops(const qzo_bench_step *step);

/* The least time that the peaks leave a step: the larger of operations over the measured rate and
 * bytes over the measured copy; 0 where no peaks are known. */
double qzo_bench_step_floor_seconds(const qzo_bench_step *step, const qzo_peaks *peaks);

void qzo_bench_step_print(const qzo_bench_step *step, const qzo_peaks *peaks);
json_t *qzo_bench_step_json(const qzo_bench_step *step, const qzo_peaks *peaks);

#endif
