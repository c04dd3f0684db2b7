/* What the rows of a task of texts need of a forward pass. */
#ifndef QZO_TRIAL_TASK_SIZES_H
#define QZO_TRIAL_TASK_SIZES_H

#include "model/pack.h"
#include "task/score.h"
#include "trial/trial_spec.h"

/* Points rows and lengths (qzo_task_options_max) at the options of one example, and *answers at
 * their answer tokens; returns how many. With gold_only: the gold one. */
int64_t qzo_task_options(const qzo_split *split, int64_t example, bool gold_only,
                         const int32_t **rows, int64_t *lengths, const int32_t **answers);

/* The most options of any example. */
int64_t qzo_task_options_max(const qzo_task *task);

/* Reads what examples of a split need of a pack. */
typedef struct qzo_task_meter { /* zeroed: none */
    const qzo_split *split;     /* borrowed */
    const int32_t **rows;
    int64_t *lengths;
    qzo_prefix prefix;  /* of the example that was read last */
    qzo_prefixes taken; /* of those that are in the pack already */
} qzo_task_meter;

qzo_status qzo_task_meter_open(qzo_task_meter *out, const qzo_split *split); /* QZO_ERR_MEMORY */

/* What the example adds to a pack of those that were taken: a place for each of its rows, and the
 * rows that no example has yet. */
void qzo_task_meter_read(qzo_pack_limits *out, qzo_task_meter *meter, int64_t example,
                         bool gold_only);
void qzo_task_meter_take(qzo_task_meter *meter); /* the example that was read last */
void qzo_task_meter_clear(qzo_task_meter *meter);
void qzo_task_meter_close(qzo_task_meter *meter); /* safe on a zeroed one */

/* Whether the examples of a split begin alike, one after the other, so that an evaluation gains by
 * computing that part once: see SAVED_PART. A function of the split alone. */
qzo_status qzo_task_begins_alike(bool *out, const qzo_split *split);

/* Room for any micro-batch of the trial and any chunk of its evaluations, which read dev and test,
 * or, with scores_train, all splits; with places for keys and values where that saves rows; where
 * it has pairs, for micro-batches of at most pair_rows_max rows under both signs at once. */
qzo_status qzo_task_limits(qzo_pack_limits *out, const qzo_task *task, const qzo_loss *loss,
                           const qzo_trial_spec *spec, int64_t pair_rows_max, bool scores_train);

#endif
