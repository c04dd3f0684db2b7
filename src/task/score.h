/* Losses and metrics of prepared tasks: registries over the log-probabilities of one example's
 * options. MeZO's definitions (arXiv 2305.17333, appendix; facts in its code): an option's score is
 * the mean log-probability of its answer tokens. */
#ifndef QZO_TASK_SCORE_H
#define QZO_TASK_SCORE_H

#include "task/task_file.h"

#include <stdbool.h>
#include <stdint.h>

/* What the model says of one example. */
typedef struct qzo_scored_example {
    int64_t option_count;
    const double *log_prob_sum;   /* (option_count): over the answer tokens */
    const int32_t *answer_tokens; /* (option_count) */
    int32_t gold;                 /* index of the right option, or of the first right one */
    const uint8_t *right;         /* (option_count): 1 where right; NULL: gold alone */
} qzo_scored_example;

typedef struct qzo_loss {
    const char *name;
    bool gold_only; /* the loss reads the gold option alone: the others need not be computed */
    double (*sum)(const qzo_scored_example *example);
    /* What sums are divided by: the weights of the examples added up. */
    double (*weight)(const qzo_split *split, int64_t example);
} qzo_loss;

/* NULL-terminated:
 *   classification  -ln softmax over the options' scores at gold; mean over examples
 *   lm              -sum of ln p over the gold answer's tokens; mean over all tokens */
extern const qzo_loss *const qzo_losses[];
const qzo_loss *qzo_loss_find(const char *name); /* NULL where there is none */

typedef struct qzo_metric {
    const char *name;
    bool
        is_generated; /* of a text that the model would have to write: score is NaN until it does */
    /* 0 .. 1 of one example; a split's score is the mean */
    double (*score)(const qzo_scored_example *example);
} qzo_metric;

/* NULL-terminated: accuracy (the best option, the first on a tie, is a right one); f1 and
 * exact_match, of generated answers: a task with one is trained by its loss, and has no score. */
extern const qzo_metric *const qzo_metrics[];
const qzo_metric *qzo_metric_find(const char *name); /* NULL where there is none */

#endif
