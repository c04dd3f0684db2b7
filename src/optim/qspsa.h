/* Q-SPSA: simultaneous perturbation (Spall 1992) of the trainable values of a quantized model (QZO,
 * arXiv 2505.13430, Algorithm 1), with the perturbations of a step dealt to the ranks of a group.
 *
 * This file knows spans of values and a loss, nothing of models. A step is
 *   for each sample s: seed = noise_seed(noise_seed, step, s)
 *       loss+- = objective under value +- eps z(seed); gradient = (loss+ - loss-) / (2 eps)
 *       (a one-sided rule: the loss without perturbation, taken once, for loss-, and eps for 2 eps;
 *       a rule with a guide: loss+ alone of each sample, and one pair along what they say: guide.h)
 *   records of all samples are exchanged; k = rule(records); value = fma(-k, z(seed), value) in
 * order of samples, then the constraint once. (Another core, see cores.h, has other arithmetic.)
 *
 * The work is a list of units (sample, sign, micro-batch) in this order, the loss without
 * perturbation last, cut into one contiguous range per rank. Where that loss is not asked for and
 * the samples divide evenly each rank holds whole samples and only records travel; otherwise a
 * fixed-size message of unit sums (double) goes first: pairs are split, then
 * micro-batches. Who computes a unit changes no bit: a loss is the sum of its units' sums in order.
 */
#ifndef QZO_OPTIM_QSPSA_H
#define QZO_OPTIM_QSPSA_H

#include "backend/backend.h"
#include "comm/comm.h"
#include "optim/cores.h"
#include "optim/lr_schedule.h"
#include "optim/rules.h"

#include <stdbool.h>
#include <stdint.h>

/* One forward pass that a step needs. */
typedef struct qzo_probe {
    int64_t step;
    int64_t batch; /* 1, 2, ...: the step's own, or its sample's */
    int64_t unit;  /* which micro-batch of it */
    qzo_perturbation perturbation;
} qzo_probe;

/* The loss of a batch, as a sum over micro-batches divided by a weight. */
typedef struct qzo_objective {
    void *context;
    int64_t unit_count; /* micro-batches per evaluation */
    /* Sum of the losses of the probe's micro-batch. NaN is a result, not an error. */
    qzo_status (*loss_sum)(void *context, double *sum, const qzo_probe *probe);
    /* Optional (NULL: one after the other): of the probe's micro-batch under its perturbation and
     * under the negated one, where a rank computes both. */
    qzo_status (*loss_sums)(void *context, double sums[2], const qzo_probe *probe);
    /* What the sums of a batch are divided by: examples, or answer tokens. */
    double (*loss_weight)(void *context, int64_t batch);
    bool may_be_zero; /* two losses of exactly 0 are no sign of a model that has collapsed */
} qzo_objective;

typedef struct qzo_qspsa_settings {
    int64_t steps, samples_per_step, warmup_steps;
    bool batch_per_sample; /* each sample draws its own batch; else those of a step share one */
    double learning_rate, eps;
    uint64_t noise_seed;
    qzo_directions directions;
    const qzo_update_rule *rule;
    qzo_rule_settings rule_settings;
    const qzo_lr_schedule *schedule;
} qzo_qspsa_settings;

/* One finished step; arrays (record_count: qzo_update_rule_records), owned by the optimizer. */
typedef struct qzo_step {
    int64_t step;              /* 1, 2, ... */
    const qzo_record *records; /* flags that depend on the run are cleared, digest is 0 */
    const float *k;
    int64_t record_count;
    uint64_t digest; /* of the masters after the step */
} qzo_step;

typedef struct qzo_qspsa qzo_qspsa;

/* Allocates all that steps need. The caller closes it. comm and what trainable points to must
 * outlive it. */
qzo_status qzo_qspsa_open(qzo_qspsa **out, const qzo_qspsa_settings *settings,
                          const qzo_trainable *trainable, const qzo_objective *objective,
                          qzo_comm *comm);
void qzo_qspsa_close(qzo_qspsa *optimizer); /* NULL is fine */

/* The optimizer's rule: a replay resets it and tells it the journal's records. */
qzo_rule *qzo_qspsa_rule(qzo_qspsa *optimizer);

/* Takes the masters as they are now (after opening, after a replay). */
qzo_status qzo_qspsa_sync(qzo_qspsa *optimizer);

/* One step, collective over the group. my_flags: QZO_FLAG_PARK where this rank wants to stop;
 * *any_flags: the union of all ranks' run-dependent flags. QZO_ERR_DESYNC on every rank where the
 * masters' digests differ (nothing was applied); the worst status where a rank could not evaluate,
 * or had failed before. An error after the exchange, when the step is applied, is this rank's
 * alone: it is remembered, see qzo_qspsa_failure. */
qzo_status qzo_qspsa_step(qzo_qspsa *optimizer, int64_t step, uint32_t my_flags, qzo_step *out,
                          uint32_t *any_flags);

/* An error of this rank that the others have not learned of: the next step ends with it on all
 * ranks. Whoever takes no further step must tell them. QZO_OK is no error; the first one stays. */
void qzo_qspsa_fail(qzo_qspsa *optimizer, qzo_status status);
qzo_status qzo_qspsa_failure(const qzo_qspsa *optimizer);

/* Applies a step that a journal holds: the same update as qzo_qspsa_step's, from its records and k.
 * digest: of the masters after it; NULL: not asked. */
qzo_status qzo_qspsa_apply(const qzo_trainable *trainable, qzo_gain *gains_scratch,
                           const qzo_qspsa_settings *settings, const qzo_step *step,
                           uint64_t *digest);

#endif
