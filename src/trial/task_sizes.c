#include "trial/task_sizes.h"

#include "trial/eval_chunks.h"

#include <stdlib.h>
#include <string.h>

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
    qzo_status status = qzo_prefixes_open(&out->taken, split->example_count);
    if (status == QZO_OK && (out->rows == NULL || out->lengths == NULL))
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu options", room);
    if (status != QZO_OK) qzo_task_meter_close(out);
    return status;
}

void qzo_task_meter_read(qzo_pack_limits *out, qzo_task_meter *meter, int64_t example,
                         bool gold_only) {
    const int32_t *answers = NULL;
    int64_t options =
        qzo_task_options(meter->split, example, gold_only, meter->rows, meter->lengths, &answers);
    qzo_pack_measure(out, options, meter->rows, meter->lengths, answers);
    meter->prefix = qzo_prefix_of_options(options, meter->rows, meter->lengths);
    out->rows -= qzo_prefixes_find(&meter->taken, meter->prefix).rows;
}

void qzo_task_meter_take(qzo_task_meter *meter) { qzo_prefixes_add(&meter->taken, meter->prefix); }

void qzo_task_meter_clear(qzo_task_meter *meter) { meter->taken.count = 0; }

void qzo_task_meter_close(qzo_task_meter *meter) {
    free(meter->rows);
    free(meter->lengths);
    qzo_prefixes_close(&meter->taken);
    *meter = (qzo_task_meter){0};
}

/* Questions share rows where that saves at least one in so many: places for keys and values take
 * memory of their own, for whole texts, and are filled in each layer. */
enum { SAVED_PART = 8 };

qzo_status qzo_task_begins_alike(bool *out, const qzo_split *split) {
    int64_t rows = 0, places = 0;
    qzo_task_meter meter = {0};
    *out = false;
    if (split->token_begin == NULL) return QZO_OK; /* no tokens, nothing to share */
    qzo_status status = qzo_task_meter_open(&meter, split);
    for (int64_t e = 0; status == QZO_OK && e < split->example_count; e++) {
        qzo_pack_limits need;
        qzo_task_meter_read(&need, &meter, e, false);
        rows += need.rows;
        places += need.places;
        qzo_task_meter_clear(&meter); /* the one before is enough to see it */
        qzo_task_meter_take(&meter);
    }
    qzo_task_meter_close(&meter);
    *out = places > rows && (places - rows) >= places / SAVED_PART;
    return status;
}

static int descending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

enum { ROWS, GATHERS, TARGETS, OPTIONS, DIMENSIONS };

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static void raise(int64_t *limit, int64_t need) {
    if (need > *limit) *limit = need;
}

/* What the examples of a split need, each by itself. */
typedef struct needs {
    int64_t count;
    int64_t *of[DIMENSIONS]; /* (count) */
    int64_t *common;         /* (count): rows that it and the first one begin with, if worth it */
    int64_t *room;           /* (count): to sort in */
    void *storage;
} needs;

static qzo_status read_needs(needs *out, qzo_pack_limits *limits, const qzo_split *split,
                             bool gold_only) {
    qzo_status status = QZO_OK;
    qzo_task_meter meter = {0};
    size_t count = (size_t)split->example_count;
    int64_t *storage = malloc((DIMENSIONS + 2) * count * sizeof *storage);
    *out = (needs){.count = split->example_count, .storage = storage};
    if (storage == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu examples", count);
    for (size_t i = 0; i < DIMENSIONS; i++) out->of[i] = storage + i * count;
    out->common = storage + DIMENSIONS * count;
    out->room = storage + (DIMENSIONS + 1) * count;
    QZO_TRY(qzo_task_meter_open(&meter, split));
    for (int64_t e = 0; e < out->count; e++) {
        qzo_pack_limits need;
        qzo_task_meter_read(&need, &meter, e, gold_only);
        if (e == 0) qzo_task_meter_take(&meter);
        out->of[ROWS][e] = need.places;
        out->of[GATHERS][e] = need.gathers;
        out->of[TARGETS][e] = need.targets;
        out->of[OPTIONS][e] = need.options;
        out->common[e] = e == 0 ? meter.prefix.rows : need.places - need.rows;
        raise(&limits->context, need.context);
    }
cleanup:
    qzo_task_meter_close(&meter);
    return status;
}

/* The sum of the `batch` largest (a batch over the end of an epoch may repeat an example: the
 * largest is repeated where there are fewer examples than a batch has). */
static int64_t sum_of_largest(const needs *of, const int64_t *values, int64_t batch) {
    int64_t sum = 0;
    memcpy(of->room, values, (size_t)of->count * sizeof *values);
    qsort(of->room, (size_t)of->count, sizeof *values, descending);
    for (int64_t i = 0; i < batch; i++) sum += of->room[i < of->count ? i : of->count - 1];
    return sum;
}

/* Rows that any `batch` examples have at most where what they begin with is computed once. Of those
 * that begin with `shared` rows of the first example, all but one save them; more than half of the
 * examples do. 0: it is not worth it. */
static int64_t shared_rows_of_batches(const needs *of, int64_t batch) {
    int64_t places = sum_of_largest(of, of->of[ROWS], batch);
    memcpy(of->room, of->common, (size_t)of->count * sizeof *of->room);
    qsort(of->room, (size_t)of->count, sizeof *of->room, descending);
    int64_t shared = of->room[of->count / 2];
    if (shared < QZO_SHARED_ROWS_MIN) return 0;
    int64_t *own = of->common; /* read for the last time */
    for (int64_t e = 0; e < of->count; e++)
        own[e] = of->of[ROWS][e] - (of->common[e] >= shared ? shared : 0);
    int64_t rows = shared + sum_of_largest(of, own, batch);
    return places - rows >= places / SAVED_PART ? rows : 0;
}

/* Raises limits to what any `batch` examples of the split need: for each dimension the sum of the
 * batch largest. */
static qzo_status raise_to_batches(qzo_pack_limits *limits, bool *shares, const qzo_split *split,
                                   int64_t batch, bool gold_only) {
    qzo_status status = QZO_OK;
    needs all = {0};
    if (split->example_count == 0) return QZO_OK;
    QZO_TRY(read_needs(&all, limits, split, gold_only));
    int64_t places = sum_of_largest(&all, all.of[ROWS], batch);
    raise(&limits->gathers, sum_of_largest(&all, all.of[GATHERS], batch));
    raise(&limits->targets, sum_of_largest(&all, all.of[TARGETS], batch));
    raise(&limits->options, sum_of_largest(&all, all.of[OPTIONS], batch));
    raise(&limits->places, places);
    int64_t shared = shared_rows_of_batches(&all, batch);
    raise(&limits->rows, shared > 0 ? shared : places);
    *shares |= shared > 0;
cleanup:
    free(all.storage);
    return status;
}

/* Raises limits to what the chunks of an evaluation need, as they are cut. */
static qzo_status raise_to_chunks(qzo_pack_limits *limits, bool alike, const qzo_split *split,
                                  const qzo_trial_spec *spec) {
    qzo_status status = QZO_OK;
    qzo_task_meter meter = {0};
    qzo_eval_chunks chunks = {0};
    QZO_TRY(qzo_eval_chunks_make(&chunks, split, split, spec));
    QZO_TRY(qzo_task_meter_open(&meter, split));
    for (int64_t c = 0; c < chunks.count; c++) {
        qzo_pack_limits sum = {0};
        qzo_task_meter_clear(&meter);
        for (int64_t e = chunks.begin[c]; e < chunks.begin[c + 1]; e++) {
            qzo_pack_limits need;
            qzo_task_meter_read(&need, &meter, e, false);
            if (alike) qzo_task_meter_take(&meter);
            sum.rows += need.rows;
            sum.places += need.places;
            sum.gathers += need.gathers;
            sum.targets += need.targets;
            sum.options += need.options;
            raise(&limits->context, need.context);
        }
        raise(&limits->rows, sum.rows);
        raise(&limits->places, sum.places);
        raise(&limits->gathers, sum.gathers);
        raise(&limits->targets, sum.targets);
        raise(&limits->options, sum.options);
    }
cleanup:
    qzo_task_meter_close(&meter);
    qzo_eval_chunks_release(&chunks);
    return status;
}

static qzo_status raise_to_evaluations(qzo_pack_limits *limits, bool *shares,
                                       const qzo_split *split, const qzo_trial_spec *spec) {
    bool alike = false;
    qzo_status status = qzo_task_begins_alike(&alike, split);
    if (status != QZO_OK) return status;
    *shares |= alike;
    if (alike || spec->eval_tokens > 0) return raise_to_chunks(limits, alike, split, spec);
    return raise_to_batches(limits, shares, split, spec->eval_batch, false);
}

qzo_status qzo_task_limits(qzo_pack_limits *out, const qzo_task *task, const qzo_loss *loss,
                           const qzo_trial_spec *spec, int64_t pair_rows_max, bool scores_train) {
    qzo_status status = QZO_OK;
    bool gold_only = loss->gold_only && !qzo_trial_spec_by_metric(spec), shares = false;
    const qzo_split *train = &task->splits[QZO_SPLIT_TRAIN];
    *out = (qzo_pack_limits){0};
    QZO_TRY(raise_to_batches(out, &shares, train, spec->micro_batch, gold_only));
    if (qzo_trial_spec_has_pairs(spec)) {
        out->pair_rows = smaller(out->rows, pair_rows_max);
        out->pair_gathers = smaller(out->gathers, out->pair_rows);
        out->pair_places = out->pair_rows > 0 ? out->places : 0;
    }
    if (scores_train) QZO_TRY(raise_to_evaluations(out, &shares, train, spec));
    QZO_TRY(raise_to_evaluations(out, &shares, &task->splits[QZO_SPLIT_DEV], spec));
    QZO_TRY(raise_to_evaluations(out, &shares, &task->splits[QZO_SPLIT_TEST], spec));
    /* Where no split gains by it, no pack shares anything. */
    if (!shares) out->places = out->pair_places = 0;
cleanup:
    return status;
}
