#include "trial/example_scores.h"

#include "trial/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool never(void *context) {
    (void)context;
    return false;
}

static void nothing(void *context) { (void)context; }

static int64_t option_count(const qzo_split *split) {
    return split->option_begin != NULL ? split->option_begin[split->example_count] : 0;
}

static int64_t best_option(const qzo_scored_example *scored) {
    int64_t best = 0;
    double best_score = -INFINITY;
    for (int64_t i = 0; i < scored->option_count; i++) {
        double score = scored->log_prob_sum[i] / (double)scored->answer_tokens[i];
        if (!(score > best_score)) continue;
        best_score = score;
        best = i;
    }
    return best;
}

typedef struct recording {
    qzo_example_scores *out;
    const qzo_workbench *bench;
    bool lacks_memory;
} recording;

static void record_example(void *context, int64_t example, const qzo_scored_example *scored) {
    recording *r = context;
    qzo_example_scores *out = r->out;
    memcpy(out->log_prob_sums + out->split.option_begin[example], scored->log_prob_sum,
           (size_t)scored->option_count * sizeof(double));
    out->losses[example] = r->bench->loss->sum(scored);
    out->weights[example] = r->bench->loss->weight(&out->split, example);
    out->score_weights[example] = r->bench->metric->weight(&out->split, example);
    if (r->bench->metric->score != NULL) out->scores[example] = r->bench->metric->score(scored);
    out->predictions[example] = best_option(scored);
}

/* An example without options has no score. */
static void record_loss(void *context, int64_t example, double loss) {
    recording *r = context;
    r->out->losses[example] = loss;
    r->out->weights[example] = r->bench->loss->weight(&r->out->split, example);
    r->out->scores[example] = (double)NAN;
    r->out->predictions[example] = -1;
}

static void record_answer(void *context, int64_t example, qzo_text text, double score) {
    recording *r = context;
    char *copy = calloc(text.size_bytes + 1, 1);
    r->lacks_memory |= copy == NULL;
    if (copy != NULL) memcpy(copy, text.bytes, text.size_bytes);
    r->out->texts[example] = copy;
    r->out->scores[example] = score;
}

qzo_status qzo_example_scores_take(qzo_example_scores *out, qzo_workbench *bench,
                                   const qzo_split *split, int64_t limit,
                                   const qzo_trial_spec *spec) {
    qzo_status status = QZO_OK;
    qzo_comm *alone = NULL;
    const qzo_trial_hooks hooks = {.should_park = never, .poll = nothing};
    *out = (qzo_example_scores){.split = *split};
    if (limit < split->example_count) out->split.example_count = limit;
    recording r = {.out = out, .bench = bench};
    size_t examples = (size_t)out->split.example_count, options = (size_t)option_count(&out->split);
    out->log_prob_sums = calloc(options + 1, sizeof(double));
    out->losses = calloc(examples + 1, sizeof(double));
    out->weights = calloc(examples + 1, sizeof(double));
    out->scores = calloc(examples + 1, sizeof(double));
    out->score_weights = calloc(examples + 1, sizeof(double));
    out->texts = calloc(examples + 1, sizeof(char *));
    out->predictions = calloc(examples + 1, sizeof(int64_t));
    if (out->log_prob_sums == NULL || out->losses == NULL || out->weights == NULL ||
        out->scores == NULL || out->score_weights == NULL || out->texts == NULL ||
        out->predictions == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu examples", examples);
        goto cleanup;
    }
    QZO_TRY(qzo_comm_local_open(&alone));
    bench->observer = (qzo_observer){record_example, record_loss, record_answer, &r};
    QZO_TRY(qzo_evaluate_split(&out->score, &out->loss, bench, alone, &out->split, spec, QZO_OK,
                               &hooks));
    if (r.lacks_memory) status = qzo_fail(QZO_ERR_MEMORY, "out of memory for generated answers");
cleanup:
    bench->observer = (qzo_observer){0};
    qzo_comm_close(alone);
    if (status != QZO_OK) qzo_example_scores_release(out);
    return status;
}

void qzo_example_scores_release(qzo_example_scores *scores) {
    free(scores->log_prob_sums);
    free(scores->losses);
    free(scores->weights);
    for (int64_t e = 0; scores->texts != NULL && e < scores->split.example_count; e++)
        free(scores->texts[e]);
    free(scores->texts);
    free(scores->score_weights);
    free(scores->scores);
    free(scores->predictions);
    *scores = (qzo_example_scores){0};
}

/* --- calibration --- */

static qzo_status check_same_examples(const qzo_split *split, const qzo_split *base) {
    if (base->example_count != split->example_count)
        return qzo_fail(QZO_ERR_CONFIG,
                        "calibration: expected the task's %lld examples, found %lld",
                        (long long)split->example_count, (long long)base->example_count);
    for (int64_t e = 0; e < split->example_count; e++)
        if (base->option_begin[e + 1] != split->option_begin[e + 1] ||
            base->gold[e] != split->gold[e])
            return qzo_fail(QZO_ERR_CONFIG,
                            "calibration: example %lld is another one than the task's: expected "
                            "%lld options up to here and right option %d, found %lld and %d",
                            (long long)e, (long long)split->option_begin[e + 1], split->gold[e],
                            (long long)base->option_begin[e + 1], base->gold[e]);
    return QZO_OK;
}

qzo_status qzo_example_scores_calibrate(qzo_example_scores *scores, const qzo_metric *metric,
                                        const qzo_example_scores *base) {
    const qzo_split *split = &scores->split;
    qzo_status status = check_same_examples(split, &base->split);
    if (status != QZO_OK) return status;
    size_t options = (size_t)option_count(split);
    double *gains = calloc(options + 1, sizeof *gains);
    int32_t *ones = calloc(options + 1, sizeof *ones); /* a mean over one is the sum */
    double total = 0.0;
    if (gains == NULL || ones == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu options", options);
        goto cleanup;
    }
    for (size_t i = 0; i < options; i++) {
        gains[i] = scores->log_prob_sums[i] - base->log_prob_sums[i];
        ones[i] = 1;
    }
    for (int64_t e = 0; e < split->example_count; e++) {
        int64_t begin = split->option_begin[e];
        qzo_scored_example scored = {.option_count = split->option_begin[e + 1] - begin,
                                     .log_prob_sum = gains + begin,
                                     .answer_tokens = ones + begin,
                                     .gold = split->gold[e],
                                     .right = split->right != NULL ? split->right + begin : NULL};
        scores->scores[e] = metric->score(&scored);
        scores->predictions[e] = best_option(&scored);
        total += scores->scores[e];
    }
    scores->score = total / (double)split->example_count;
cleanup:
    free(gains);
    free(ones);
    return status;
}
