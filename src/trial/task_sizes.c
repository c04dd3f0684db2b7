#include "trial/task_sizes.h"

#include "trial/eval_chunks.h"

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

static int64_t options_max_of(const qzo_split *split) {
    int64_t most = 1;
    for (int64_t e = 0; split->option_begin != NULL && e < split->example_count; e++) {
        int64_t count = split->option_begin[e + 1] - split->option_begin[e];
        if (count > most) most = count;
    }
    return most;
}

int64_t qzo_task_options_max(const qzo_task *task) {
    int64_t most = 1;
    for (int s = 0; s < QZO_SPLIT_COUNT; s++) {
        int64_t count = options_max_of(&task->splits[s]);
        if (count > most) most = count;
    }
    return most;
}

qzo_status qzo_task_meter_open(qzo_task_meter *out, const qzo_split *split) {
    size_t room = (size_t)options_max_of(split);
    *out = (qzo_task_meter){.split = split,
                            .rows = malloc(room * sizeof *out->rows),
                            .lengths = malloc(room * sizeof *out->lengths)};
    if (out->rows != NULL && out->lengths != NULL) return QZO_OK;
    qzo_task_meter_close(out);
    return qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu options", room);
}

void qzo_task_meter_read(qzo_pack_limits *out, const qzo_task_meter *meter, int64_t example,
                         bool gold_only) {
    const int32_t *answers = NULL;
    int64_t options =
        qzo_task_options(meter->split, example, gold_only, meter->rows, meter->lengths, &answers);
    qzo_pack_measure(out, options, meter->rows, meter->lengths, answers);
}

void qzo_task_meter_close(qzo_task_meter *meter) {
    free(meter->rows);
    free(meter->lengths);
    *meter = (qzo_task_meter){0};
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

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static void raise(int64_t *limit, int64_t need) {
    if (need > *limit) *limit = need;
}

/* Raises limits to what any `batch` examples of the split need: for each dimension the sum of the
 * batch largest (a batch over the end of an epoch may repeat an example: the largest is repeated
 * where there are fewer examples than a batch has). */
static qzo_status raise_to_batches(qzo_pack_limits *limits, const qzo_split *split, int64_t batch,
                                   bool gold_only) {
    qzo_status status = QZO_OK;
    qzo_task_meter meter = {0};
    int64_t count = split->example_count;
    if (count == 0) return QZO_OK;
    int64_t *needs = malloc((size_t)count * DIMENSIONS * sizeof *needs);
    if (needs == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld examples", (long long)count);
    QZO_TRY(qzo_task_meter_open(&meter, split));
    for (int64_t e = 0; e < count; e++) {
        qzo_pack_limits need;
        qzo_task_meter_read(&need, &meter, e, gold_only);
        needs[ROWS * count + e] = need.rows;
        needs[GATHERS * count + e] = need.gathers;
        needs[TARGETS * count + e] = need.targets;
        needs[OPTIONS * count + e] = need.options;
        raise(&limits->context, need.context);
    }
    raise(&limits->rows, sum_of_largest(needs + ROWS * count, count, batch));
    raise(&limits->gathers, sum_of_largest(needs + GATHERS * count, count, batch));
    raise(&limits->targets, sum_of_largest(needs + TARGETS * count, count, batch));
    raise(&limits->options, sum_of_largest(needs + OPTIONS * count, count, batch));
cleanup:
    qzo_task_meter_close(&meter);
    free(needs);
    return status;
}

/* Raises limits to what the chunks of an evaluation need, as they are cut. */
static qzo_status raise_to_chunks(qzo_pack_limits *limits, const qzo_split *split,
                                  const qzo_trial_spec *spec) {
    qzo_status status = QZO_OK;
    qzo_task_meter meter = {0};
    qzo_eval_chunks chunks = {0};
    QZO_TRY(qzo_eval_chunks_make(&chunks, split, spec));
    QZO_TRY(qzo_task_meter_open(&meter, split));
    for (int64_t c = 0; c < chunks.count; c++) {
        qzo_pack_limits sum = {0};
        for (int64_t e = chunks.begin[c]; e < chunks.begin[c + 1]; e++) {
            qzo_pack_limits need;
            qzo_task_meter_read(&need, &meter, e, false);
            sum.rows += need.rows;
            sum.gathers += need.gathers;
            sum.targets += need.targets;
            sum.options += need.options;
            raise(&limits->context, need.context);
        }
        raise(&limits->rows, sum.rows);
        raise(&limits->gathers, sum.gathers);
        raise(&limits->targets, sum.targets);
        raise(&limits->options, sum.options);
    }
cleanup:
    qzo_task_meter_close(&meter);
    qzo_eval_chunks_release(&chunks);
    return status;
}

static qzo_status raise_to_evaluations(qzo_pack_limits *limits, const qzo_split *split,
                                       const qzo_trial_spec *spec) {
    return spec->eval_tokens > 0 ? raise_to_chunks(limits, split, spec)
                                 : raise_to_batches(limits, split, spec->eval_batch, false);
}

qzo_status qzo_task_limits(qzo_pack_limits *out, const qzo_task *task, const qzo_loss *loss,
                           const qzo_trial_spec *spec, int64_t pair_rows_max, bool scores_train) {
    qzo_status status = QZO_OK;
    bool gold_only = loss->gold_only && !qzo_trial_spec_by_metric(spec);
    *out = (qzo_pack_limits){0};
    QZO_TRY(raise_to_batches(out, &task->splits[QZO_SPLIT_TRAIN], spec->micro_batch, gold_only));
    if (qzo_trial_spec_has_pairs(spec)) {
        out->pair_rows = smaller(out->rows, pair_rows_max);
        out->pair_gathers = smaller(out->gathers, out->pair_rows);
    }
    if (scores_train) QZO_TRY(raise_to_evaluations(out, &task->splits[QZO_SPLIT_TRAIN], spec));
    QZO_TRY(raise_to_evaluations(out, &task->splits[QZO_SPLIT_DEV], spec));
    QZO_TRY(raise_to_evaluations(out, &task->splits[QZO_SPLIT_TEST], spec));
cleanup:
    return status;
}
