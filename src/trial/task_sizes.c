#include "trial/task_sizes.h"

#include <stdlib.h>

int64_t qzo_task_options(const qzo_split *split, int64_t example, bool gold_only,
                         const int32_t **rows, int64_t *lengths, const int32_t **answers) {
    int64_t begin = split->option_begin[example], end = split->option_begin[example + 1];
    if (gold_only) {
        begin += split->gold[example];
        end = begin + 1;
    }
    for (int64_t option = begin; option < end; option++) {
        rows[option - begin] = split->tokens + split->token_begin[option];
        lengths[option - begin] = split->token_begin[option + 1] - split->token_begin[option];
    }
    *answers = split->answer_tokens + begin;
    return end - begin;
}

int64_t qzo_task_options_max(const qzo_task *task) {
    int64_t most = 1;
    for (int s = 0; s < QZO_SPLIT_COUNT; s++) {
        const qzo_split *split = &task->splits[s];
        for (int64_t e = 0; e < split->example_count; e++) {
            int64_t count = split->option_begin[e + 1] - split->option_begin[e];
            if (count > most) most = count;
        }
    }
    return most;
}

static int descending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

static int64_t sum_of_largest(int64_t *values, int64_t count, int64_t taken) {
    qsort(values, (size_t)count, sizeof *values, descending);
    int64_t sum = 0;
    for (int64_t i = 0; i < taken; i++) sum += values[i < count ? i : count - 1];
    return sum;
}

enum { ROWS, GATHERS, TARGETS, OPTIONS, DIMENSIONS };

/* Raises limits to what any `batch` examples of the split need: for each dimension the sum of the
 * batch largest (a batch over the end of an epoch may repeat an example: the largest is repeated
 * where there are fewer examples than a batch has). */
static qzo_status raise_limits(qzo_pack_limits *limits, const qzo_split *split, int64_t batch,
                               bool gold_only, int64_t options_max) {
    qzo_status status = QZO_OK;
    int64_t count = split->example_count;
    if (count == 0) return QZO_OK;
    const int32_t **rows = malloc((size_t)options_max * sizeof *rows);
    int64_t *lengths = malloc((size_t)options_max * sizeof *lengths);
    int64_t *needs = malloc((size_t)count * DIMENSIONS * sizeof *needs);
    if (rows == NULL || lengths == NULL || needs == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld examples", (long long)count);
        goto cleanup;
    }
    for (int64_t e = 0; e < count; e++) {
        qzo_pack_limits need;
        const int32_t *answers = NULL;
        int64_t options = qzo_task_options(split, e, gold_only, rows, lengths, &answers);
        qzo_pack_measure(&need, options, rows, lengths, answers);
        needs[ROWS * count + e] = need.rows;
        needs[GATHERS * count + e] = need.gathers;
        needs[TARGETS * count + e] = need.targets;
        needs[OPTIONS * count + e] = need.options;
        if (need.context > limits->context) limits->context = need.context;
    }
    int64_t *const limit_of[DIMENSIONS] = {&limits->rows, &limits->gathers, &limits->targets,
                                           &limits->options};
    for (int d = 0; d < DIMENSIONS; d++) {
        int64_t sum = sum_of_largest(needs + d * count, count, batch);
        if (sum > *limit_of[d]) *limit_of[d] = sum;
    }
cleanup:
    free(rows);
    free(lengths);
    free(needs);
    return status;
}

qzo_status qzo_task_limits(qzo_pack_limits *out, const qzo_task *task, const qzo_loss *loss,
                           const qzo_trial_spec *spec) {
    qzo_status status = QZO_OK;
    int64_t options_max = qzo_task_options_max(task);
    bool gold_only = loss->gold_only && !qzo_trial_spec_by_metric(spec);
    *out = (qzo_pack_limits){0};
    QZO_TRY(raise_limits(out, &task->splits[QZO_SPLIT_TRAIN], spec->micro_batch, gold_only,
                         options_max));
    QZO_TRY(raise_limits(out, &task->splits[QZO_SPLIT_DEV], spec->eval_batch, false, options_max));
    QZO_TRY(raise_limits(out, &task->splits[QZO_SPLIT_TEST], spec->eval_batch, false, options_max));
cleanup:
    return status;
}
