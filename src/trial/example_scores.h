/* What an evaluation says of every example of a split, and not of their mean alone: for intervals,
 * for files of predictions, and for calibration. */
#ifndef QZO_TRIAL_EXAMPLE_SCORES_H
#define QZO_TRIAL_EXAMPLE_SCORES_H

#include "trial/workbench.h"

typedef struct qzo_example_scores {
    qzo_split split;       /* its first examples; borrows the task's arrays */
    double *log_prob_sums; /* (options of the split) over the answer tokens */
    double *losses;        /* (examples), to be divided by weights */
    double *weights;       /* (examples) */
    double *scores;        /* (examples), to be divided by score_weights: see qzo_metric */
    double *score_weights; /* (examples) */
    int64_t *predictions;  /* (examples): the option with the best score, the first on a tie; -1:
                              there is none */
    char **texts;          /* (examples): generated answers; NULL each where there are none */
    double score, loss;    /* over the split */
} qzo_example_scores;

/* Evaluates the bench's masters on the split's first `limit` examples (all where it has no more).
 * The bench's task must outlive the scores; the caller releases them. */
qzo_status qzo_example_scores_take(qzo_example_scores *out, qzo_workbench *bench,
                                   const qzo_split *split, int64_t limit,
                                   const qzo_trial_spec *spec);
void qzo_example_scores_release(qzo_example_scores *scores); /* safe on zeroed ones */

/* Surface form competition (arXiv 2104.08315) as MeZO computes it: an option's score becomes its
 * answer's log-probability less that after the calibration prompt, sums and not means. `base` has
 * the same examples and options after those prompts (QZO_ERR_CONFIG where not). Losses stay. */
qzo_status qzo_example_scores_calibrate(qzo_example_scores *scores, const qzo_metric *metric,
                                        const qzo_example_scores *base);

#endif
