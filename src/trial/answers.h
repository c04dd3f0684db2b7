/* Generated answers to a task's examples, by MeZO's protocol: the prompt is the gold row without
 * its answer, tokens are the most likely ones, the text ends before the task's stop (a line's end)
 * or with the model's end-of-text token, or after so many tokens (50).
 *
 * A prompt that leaves no room for the answer in a row of the task, or in the model's positions,
 * loses its left; the token that begins every row stays. */
#ifndef QZO_TRIAL_ANSWERS_H
#define QZO_TRIAL_ANSWERS_H

#include "model/generate.h"
#include "task/score.h"

typedef struct qzo_answers qzo_answers;

/* Raises what a forward pass must have room for. QZO_ERR_CONFIG where an answer alone fills the
 * positions. */
qzo_status qzo_answers_limits(qzo_pack_limits *limits, const qzo_task *task,
                              const qzo_shape *shape);

/* For as many examples at once as limits->options; all is borrowed. */
qzo_status qzo_answers_open(qzo_answers **out, const qzo_task *task, const qzo_model *model,
                            qzo_forward *forward, const qzo_pack_limits *limits);
void qzo_answers_close(qzo_answers *answers); /* NULL is fine */

qzo_status qzo_answers_generate(qzo_answers *answers, const qzo_split *split,
                                const int64_t *examples, int64_t count, const float *masters,
                                const qzo_perturbation *perturbation);

/* Of the examples that were generated last: the text of the index-th, valid until the next call,
 * and its score by a metric of texts. */
qzo_text qzo_answers_text(qzo_answers *answers, int64_t index);
double qzo_answers_score(qzo_answers *answers, int64_t index, const qzo_metric *metric);

/* Whether every token of the first `count` of them was chosen among numbers. */
bool qzo_answers_are_of_numbers(const qzo_answers *answers, int64_t count);

#endif
