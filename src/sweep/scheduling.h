/* A sweep's scheduler with its settings, as the sweep file asks for it and as the list of trials in
 * decisions.qzj keeps it: that file and the journals are all that a restart or a check needs. */
#ifndef QZO_SWEEP_SCHEDULING_H
#define QZO_SWEEP_SCHEDULING_H

#include "base/status.h"
#include "sweep/grid.h"
#include "sweep/scheduler.h"
#include "sweep/sweep_spec.h"

#include "base/json.h"

/* How population based training changes settings; zeroed with the other schedulers. */
typedef struct qzo_perturbing {
    double quantile;
    double factors[QZO_FACTORS_MAX];
    int64_t factor_count;
    const qzo_setting *settings[QZO_PERTURBED_MAX];
    int64_t setting_count;
    uint64_t seed; /* of the draws */
} qzo_perturbing;

typedef struct qzo_scheduling {
    const qzo_scheduler_ops *ops;
    int64_t *rungs; /* (rung_count) steps; none for a scheduler without rungs */
    int64_t rung_count;
    int64_t eta, brackets, min_trials;
    bool by_score, maximize; /* the metric */
    qzo_perturbing perturbing;
} qzo_scheduling;

enum { QZO_RUNGS_MAX = 100000 };

/* Rungs: min_steps, eta times as much, and so on up to the trials' steps; for median stopping every
 * evaluation from min_steps on, for population based training every interval. Each is moved up to
 * the next evaluation. QZO_ERR_CONFIG where the trials do not share their steps, evaluations and
 * metric. The caller releases it. */
qzo_status qzo_scheduling_make(qzo_scheduling *out, const qzo_sweep_spec *sweep,
                               const qzo_grid *grid);
void qzo_scheduling_release(qzo_scheduling *scheduling); /* safe on a zeroed one */
bool qzo_scheduling_equal(const qzo_scheduling *a, const qzo_scheduling *b);

/* NULL (out of memory) or a fresh object; and back. object NULL: fifo. name stands in messages. */
json_t *qzo_scheduling_to_json(const qzo_scheduling *scheduling);
qzo_status qzo_scheduling_from_json(qzo_scheduling *out, const json_t *object, const char *name);

/* The value that schedulers compare. */
double qzo_scheduling_score(const qzo_scheduling *scheduling, double dev_score, double dev_loss);

#endif
