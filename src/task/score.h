/* Losses and metrics of prepared tasks: registries over the log-probabilities of one example's
 * options. MeZO's definitions (arXiv 2305.17333, appendix; facts in its code): an option's score is
 * the mean log-probability of its answer tokens. */
#ifndef QZO_TASK_SCORE_H
#define QZO_TASK_SCORE_H

#include "task/task_file.h"
#include "task/text_score.h"

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

/* Of a task of images (flow.h): a mean over examples, of which `sum` knows nothing. No file of
 * texts can name these two. */
extern const qzo_loss qzo_flow_matching;

typedef struct qzo_metric {
    const char *name;
    bool is_cost; /* the lower the better */
    /* 0 .. 1, of normalised texts: of one that the model generated and of a reference, the best of
     * an example's. NULL: of the options. */
    double (*compare)(qzo_text answer, qzo_text reference);
    double (*score)(const qzo_scored_example *example); /* of the options; NULL: of texts */
    /* Scores are added up over a split, weights too; of_mean(sum / weight) is the split's score. */
    double (*weight)(const qzo_split *split, int64_t example);
    double (*of_mean)(double mean);
} qzo_metric;

/* NULL-terminated:
 *   accuracy     whether the best option, the first on a tie, is a right one
 *   f1           the words that a generated answer shares with a reference
 *   exact_match  whether it is one
 *   perplexity   exp of the mean over all tokens of -ln p of the gold answers */
extern const qzo_metric *const qzo_metrics[];
extern const struct qzo_metric qzo_metric_none;      /* its score is NaN */
const qzo_metric *qzo_metric_find(const char *name); /* NULL where there is none */

/* Of an example that has references: the best comparison with one of them. rooms: each of the size
 * of the answer and of the longest reference. */
double qzo_metric_of_text(const qzo_metric *metric, const qzo_split *split, int64_t example,
                          qzo_text answer, uint8_t *answer_room, uint8_t *reference_room);

#endif
