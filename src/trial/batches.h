/* The training batches of a trial as the optimizer's objective: which examples a step draws, and
 * the loss of a micro-batch of them. */
#ifndef QZO_TRIAL_BATCHES_H
#define QZO_TRIAL_BATCHES_H

#include "optim/qspsa.h"
#include "task/order.h"
#include "trial/workbench.h"

typedef struct qzo_batches {
    qzo_workbench *bench;       /* borrowed; prepared for spec */
    const qzo_trial_spec *spec; /* borrowed */
    qzo_order *order;
    int64_t *examples;                   /* (spec->batch): of drawn_batch */
    int64_t drawn_batch;                 /* 0: none */
    int64_t evaluation_count, row_count; /* so far: micro-batches, and their packed rows */
} qzo_batches;

qzo_status qzo_batches_open(qzo_batches *out, qzo_workbench *bench, const qzo_trial_spec *spec);
void qzo_batches_close(qzo_batches *batches); /* safe on zeroed batches */

int64_t qzo_batches_unit_count(const qzo_trial_spec *spec); /* micro-batches of a step */

/* For qzo_objective, whose context is the qzo_batches. */
qzo_status qzo_batches_loss_sum(void *context, double *sum, const qzo_probe *probe);
qzo_status qzo_batches_loss_sums(void *context, double sums[2], const qzo_probe *probe);
double qzo_batches_loss_weight(void *context, int64_t batch);

/* What the optimizer takes of a trial's settings. */
qzo_qspsa_settings qzo_batches_settings(const qzo_trial_spec *spec);

#endif
