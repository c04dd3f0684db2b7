/* How an evaluation cuts a split into forward passes: in the order of the examples, eval_batch of
 * them each, or as many as have eval_tokens packed tokens together. What examples begin with in
 * common is packed once, and counts once, where they begin alike (trial/task_sizes.h). */
#ifndef QZO_TRIAL_EVAL_CHUNKS_H
#define QZO_TRIAL_EVAL_CHUNKS_H

#include "base/status.h"
#include "task/task_file.h"
#include "trial/trial_spec.h"

typedef struct qzo_eval_chunks { /* zeroed: none */
    int64_t *begin;              /* (count + 1) examples; owned */
    int64_t count;
    int64_t examples_max; /* of a chunk */
} qzo_eval_chunks;

/* split: the first examples of `whole`, or all. With spec->eval_tokens each chunk has at least one
 * example, however long; examples without tokens come in batches of eval_batch. QZO_ERR_MEMORY. */
qzo_status qzo_eval_chunks_make(qzo_eval_chunks *out, const qzo_split *split,
                                const qzo_split *whole, const qzo_trial_spec *spec);
void qzo_eval_chunks_release(qzo_eval_chunks *chunks); /* safe on zeroed ones */

#endif
