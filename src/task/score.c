#include "task/score.h"

#include "base/math64.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static double option_score(const qzo_scored_example *example, int64_t option) {
    return example->log_prob_sum[option] / (double)example->answer_tokens[option];
}

/* --- losses --- */

static double classification_sum(const qzo_scored_example *example) {
    double largest = option_score(example, 0);
    for (int64_t i = 1; i < example->option_count; i++)
        if (!(option_score(example, i) <= largest)) largest = option_score(example, i);
    double total = 0.0;
    for (int64_t i = 0; i < example->option_count; i++)
        total += qzo_exp(option_score(example, i) - largest);
    if (!(total >= 1.0)) return (double)NAN; /* qzo_log wants a number */
    return qzo_log(total) + largest - option_score(example, example->gold);
}

static double one(const qzo_split *split, int64_t example) {
    (void)split, (void)example;
    return 1.0;
}

static double lm_sum(const qzo_scored_example *example) {
    return -example->log_prob_sum[example->gold];
}

static double gold_tokens(const qzo_split *split, int64_t example) {
    return (double)split->answer_tokens[split->option_begin[example] + split->gold[example]];
}

static const qzo_loss classification = {"classification", false, classification_sum, one};
static const qzo_loss lm = {"lm", true, lm_sum, gold_tokens};

const qzo_loss qzo_flow_matching = {"flow_matching", true, NULL, one};

const qzo_loss *const qzo_losses[] = {&classification, &lm, NULL};

const qzo_loss *qzo_loss_find(const char *name) {
    for (int i = 0; qzo_losses[i] != NULL; i++)
        if (strcmp(qzo_losses[i]->name, name) == 0) return qzo_losses[i];
    return NULL;
}

/* --- metrics --- */

static double accuracy_score(const qzo_scored_example *example) {
    int64_t best = 0;
    for (int64_t i = 1; i < example->option_count; i++)
        if (option_score(example, i) > option_score(example, best)) best = i;
    bool is_right = example->right != NULL ? example->right[best] != 0 : best == example->gold;
    return is_right ? 1.0 : 0.0;
}

static double same(double mean) { return mean; }

static const qzo_metric accuracy = {"accuracy", false, NULL, accuracy_score, one, same};
static const qzo_metric f1 = {"f1", false, qzo_text_f1, NULL, one, same};
static const qzo_metric exact_match = {"exact_match", false, qzo_text_exact_match, NULL, one, same};
static const qzo_metric perplexity = {"perplexity", true, NULL, lm_sum, gold_tokens, qzo_exp};

static double nothing(double mean) {
    (void)mean;
    return (double)NAN;
}

const qzo_metric qzo_metric_none = {"none", false, NULL, NULL, one, nothing};

const qzo_metric *const qzo_metrics[] = {&accuracy, &f1, &exact_match, &perplexity, NULL};

const qzo_metric *qzo_metric_find(const char *name) {
    for (int i = 0; qzo_metrics[i] != NULL; i++)
        if (strcmp(qzo_metrics[i]->name, name) == 0) return qzo_metrics[i];
    return NULL;
}

double qzo_metric_of_text(const qzo_metric *metric, const qzo_split *split, int64_t example,
                          qzo_text answer, uint8_t *answer_room, uint8_t *reference_room) {
    double best = 0.0;
    const qzo_text normalised = qzo_text_normalised(answer_room, answer);
    for (int64_t r = split->reference_begin[example]; r < split->reference_begin[example + 1];
         r++) {
        int64_t begin = split->reference_text_begin[r];
        qzo_text reference = {split->reference_bytes + begin,
                              (size_t)(split->reference_text_begin[r + 1] - begin)};
        double score = metric->compare(normalised, qzo_text_normalised(reference_room, reference));
        if (score > best) best = score;
    }
    return best;
}
