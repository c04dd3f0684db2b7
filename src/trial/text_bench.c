/* Decoder transformers on prepared texts: packed rows of tokens, scored by the log-probabilities of
 * answers or by answers that the model generates. */
#include "trial/bench_kind.h"

#include "model/forward.h"
#include "trial/answers.h"
#include "trial/task_sizes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct text_bench {
    qzo_workspace base;
    qzo_pack_limits limits;
    qzo_pack pack;
    qzo_forward *forward;
    qzo_answers *answers; /* NULL: the metric does not ask for them */
    double *log_probs;    /* (limits.targets), twice where there are pairs */
    double *option_sums;  /* (qzo_task_options_max): one example's */
    const int32_t **rows; /* the same, one question's tokens */
    int64_t *lengths;     /* the same */
} text_bench;

/* base comes first. */
static text_bench *texts_of(qzo_workspace *workspace) { return (text_bench *)workspace; }

static bool has_model(const qzo_model *model) { return model->mmdit == NULL; }

static bool has_task(const qzo_task *task) { return task->images == NULL; }

/* --- what must fit together --- */

/* Generated answers are compared with texts that the task must have. */
static qzo_status check_references(const qzo_metric *metric, const qzo_task *task,
                                   const char *path) {
    for (int s = 0; metric->compare != NULL && s < QZO_SPLIT_COUNT; s++)
        if (task->splits[s].example_count > 0 && task->splits[s].reference_begin == NULL)
            return qzo_fail(QZO_ERR_CONFIG,
                            "%s is scored by %s of generated answers: its split %s has no texts to "
                            "compare them with (version 2 of the file: %s.reference_begin)",
                            path, metric->name, qzo_split_name((qzo_split_kind)s),
                            qzo_split_name((qzo_split_kind)s));
    return QZO_OK;
}

static qzo_status find_scoring(const qzo_loss **loss, const qzo_metric **metric,
                               const qzo_task *task, const char *path) {
    *loss = qzo_loss_find(task->loss);
    *metric = qzo_metric_find(task->metric);
    if (*loss == NULL)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: loss \"%s\" is not known", path, task->loss);
    if (*metric == NULL)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: metric \"%s\" is not known", path, task->metric);
    return check_references(*metric, task, path);
}

/* A score that falls is never the better for being higher. */
static qzo_status check_goal(const qzo_metric *metric, const qzo_trial_spec *spec) {
    if (!metric->is_cost || strcmp(spec->metric_name, "dev_score") != 0 ||
        strcmp(spec->metric_goal, "minimize") == 0)
        return QZO_OK;
    return qzo_fail(QZO_ERR_CONFIG,
                    "%s is scored by %s, the lower the better: expected goal minimize with metric "
                    "dev_score, found %s",
                    spec->task_path, metric->name, spec->metric_goal);
}

static qzo_status check_fit(const qzo_shape *shape, const qzo_task *task,
                            const qzo_pack_limits *limits, const qzo_trial_spec *spec) {
    if (task->vocab_size > shape->vocab)
        return qzo_fail(QZO_ERR_CONFIG,
                        "%s was prepared for a vocabulary of %lld tokens, the model %s has %lld",
                        spec->task_path, (long long)task->vocab_size, spec->model_path,
                        (long long)shape->vocab);
    if (limits->context > shape->positions_max)
        return qzo_fail(QZO_ERR_CONFIG,
                        "%s has a row of %lld tokens, the model %s has %lld positions: prepare the "
                        "task with --max-length %lld",
                        spec->task_path, (long long)limits->context, spec->model_path,
                        (long long)shape->positions_max, (long long)shape->positions_max);
    return QZO_OK;
}

/* --- the workspace --- */

static void close_workspace(qzo_workspace *workspace) {
    text_bench *texts = texts_of(workspace);
    qzo_answers_close(texts->answers);
    qzo_forward_close(texts->forward);
    qzo_pack_release(&texts->pack);
    free(texts->log_probs);
    free(texts->option_sums);
    free(texts->rows);
    free(texts->lengths);
    free(texts);
}

static qzo_status open_workspace(qzo_workspace **out, const qzo_workbench *bench,
                                 const qzo_pack_limits *limits) {
    qzo_status status = QZO_OK;
    size_t options = (size_t)qzo_task_options_max(bench->task);
    size_t sides = limits->pair_rows > 0 ? 2 : 1;
    text_bench *texts = calloc(1, sizeof *texts);
    if (texts == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for texts");
    texts->base = (qzo_workspace){.row_max = limits->rows, .pair_rows = limits->pair_rows};
    texts->limits = *limits;
    texts->log_probs = calloc(sides * (size_t)limits->targets, sizeof(double));
    texts->option_sums = calloc(options, sizeof(double));
    texts->rows = calloc(options, sizeof *texts->rows);
    texts->lengths = calloc(options, sizeof *texts->lengths);
    if (texts->log_probs == NULL || texts->option_sums == NULL || texts->rows == NULL ||
        texts->lengths == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu options", options);
        goto cleanup;
    }
    QZO_TRY(qzo_pack_create(&texts->pack, limits));
    QZO_TRY(qzo_forward_open_adapted(&texts->forward, bench->model, bench->adapters, limits));
    if (bench->metric->compare != NULL)
        QZO_TRY(
            qzo_answers_open(&texts->answers, bench->task, bench->model, texts->forward, limits));
    *out = &texts->base;
cleanup:
    if (status != QZO_OK) close_workspace(&texts->base);
    return status;
}

static qzo_status prepare(qzo_workbench *bench, const qzo_trial_spec *spec) {
    qzo_status status = QZO_OK;
    qzo_pack_limits limits;
    QZO_TRY(check_goal(bench->metric, spec));
    QZO_TRY(qzo_task_limits(&limits, bench->task, bench->loss, spec, bench->backend->pair_rows_max,
                            bench->scores_train));
    if (bench->metric->compare != NULL)
        QZO_TRY(qzo_answers_limits(&limits, bench->task, &bench->model->shape));
    QZO_TRY(check_fit(&bench->model->shape, bench->task, &limits, spec));
    if (bench->workspace != NULL) {
        if (memcmp(&texts_of(bench->workspace)->limits, &limits, sizeof limits) == 0) return QZO_OK;
        close_workspace(bench->workspace);
        bench->workspace = NULL;
    }
    QZO_TRY(open_workspace(&bench->workspace, bench, &limits));
cleanup:
    return status;
}

/* --- evaluating --- */

/* Packs the batch's examples; with gold_only the others' options are left out. */
static qzo_status pack_batch(text_bench *texts, const qzo_batch *batch, bool gold_only) {
    qzo_pack_clear(&texts->pack);
    for (int64_t i = 0; i < batch->count; i++) {
        const int32_t *answers = NULL;
        int64_t options = qzo_task_options(batch->split, batch->examples[i], gold_only, texts->rows,
                                           texts->lengths, &answers);
        qzo_status status =
            qzo_pack_add(&texts->pack, options, texts->rows, texts->lengths, answers);
        if (status != QZO_OK) return status;
    }
    qzo_pack_finish(&texts->pack);
    texts->base.rows = texts->pack.row_count;
    return QZO_OK;
}

/* The example's part of the pack's log-probabilities; *option is its first, moved behind its last.
 */
static qzo_scored_example scored(text_bench *texts, const double *log_probs, const qzo_split *split,
                                 int64_t example, bool gold_only, int64_t *option) {
    int64_t begin = split->option_begin[example];
    qzo_scored_example out = {.option_count = split->option_begin[example + 1] - begin,
                              .log_prob_sum = texts->option_sums,
                              .answer_tokens = split->answer_tokens + begin,
                              .gold = split->gold[example],
                              .right = split->right != NULL ? split->right + begin : NULL};
    if (gold_only) {
        out.right = NULL;
        out.answer_tokens += out.gold;
        out.option_count = 1;
        out.gold = 0;
    }
    for (int64_t i = 0; i < out.option_count; i++, (*option)++) {
        double sum = 0.0;
        int64_t end = texts->pack.option_target_begin[*option + 1];
        for (int64_t t = texts->pack.option_target_begin[*option]; t < end; t++)
            sum += log_probs[t];
        texts->option_sums[i] = sum;
    }
    return out;
}

/* Of the pack's examples, from its log-probabilities. */
static void add_up(qzo_workbench *bench, qzo_sums *out, const double *log_probs,
                   const qzo_batch *batch, bool gold_only) {
    int64_t option = 0;
    for (int64_t i = 0; i < batch->count; i++) {
        qzo_scored_example example = scored(texts_of(bench->workspace), log_probs, batch->split,
                                            batch->examples[i], gold_only, &option);
        if (bench->observer.scored != NULL)
            bench->observer.scored(bench->observer.context, batch->examples[i], &example);
        out->loss += bench->loss->sum(&example);
        out->weight += bench->loss->weight(batch->split, batch->examples[i]);
        if (gold_only || bench->metric->score == NULL) continue;
        out->score += bench->metric->score(&example);
        out->score_weight += bench->metric->weight(batch->split, batch->examples[i]);
    }
}

static qzo_status add_options(qzo_workbench *bench, qzo_sums *out, const qzo_batch *batch,
                              bool gold_only, const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    text_bench *texts = texts_of(bench->workspace);
    QZO_TRY(pack_batch(texts, batch, gold_only));
    QZO_TRY(qzo_forward_log_probs(texts->forward, &texts->pack, bench->masters, perturbation,
                                  texts->log_probs));
    add_up(bench, out, texts->log_probs, batch, gold_only);
cleanup:
    return status;
}

/* The scores of generated answers. */
static qzo_status add_answers(qzo_workbench *bench, qzo_sums *out, const qzo_batch *batch,
                              const qzo_perturbation *perturbation) {
    qzo_answers *answers = texts_of(bench->workspace)->answers;
    qzo_status status = qzo_answers_generate(answers, batch->split, batch->examples, batch->count,
                                             bench->masters, perturbation);
    for (int64_t i = 0; status == QZO_OK && i < batch->count; i++) {
        double score = qzo_answers_score(answers, i, bench->metric);
        if (bench->observer.answered != NULL)
            bench->observer.answered(bench->observer.context, batch->examples[i],
                                     qzo_answers_text(answers, i), score);
        out->score += score;
        out->score_weight += bench->metric->weight(batch->split, batch->examples[i]);
    }
    return status;
}

static qzo_status evaluate(qzo_workbench *bench, qzo_sums *out, const qzo_batch *batch,
                           const qzo_perturbation *perturbation) {
    bool gold_only = batch->is_training && bench->loss->gold_only;
    qzo_status status = add_options(bench, out, batch, gold_only, perturbation);
    bool is_answered = !batch->is_training && bench->metric->compare != NULL;
    if (status != QZO_OK || !is_answered) return status;
    return add_answers(bench, out, batch, perturbation);
}

static qzo_status evaluate_pair(qzo_workbench *bench, qzo_sums out[2], const qzo_batch *batch,
                                const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    text_bench *texts = texts_of(bench->workspace);
    const qzo_pack *pack = &texts->pack;
    bool gold_only = bench->loss->gold_only;
    qzo_perturbation minus = *perturbation;
    minus.c = -perturbation->c;
    QZO_TRY(pack_batch(texts, batch, gold_only));
    double *first = texts->log_probs, *second = first + pack->target_count;
    if (qzo_forward_has_pair(texts->forward, pack)) {
        QZO_TRY(
            qzo_forward_log_probs_pair(texts->forward, pack, bench->masters, perturbation, first));
    } else {
        QZO_TRY(qzo_forward_log_probs(texts->forward, pack, bench->masters, perturbation, first));
        QZO_TRY(qzo_forward_log_probs(texts->forward, pack, bench->masters, &minus, second));
    }
    add_up(bench, &out[0], first, batch, gold_only);
    add_up(bench, &out[1], second, batch, gold_only);
cleanup:
    return status;
}

/* Whether all of the pack's log-probabilities are numbers. */
static bool are_numbers(const text_bench *texts) {
    for (int64_t t = 0; t < texts->pack.target_count; t++)
        if (isnan(texts->log_probs[t])) return false;
    return true;
}

/* By all options, or by what is generated, whichever the metric reads. Comparisons with what is no
 * number are false, and a score made of them looks like any other. */
static qzo_status score(qzo_workbench *bench, qzo_sums *out, const qzo_batch *batch,
                        const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    const text_bench *texts = texts_of(bench->workspace);
    bool is_usable = false;
    if (bench->metric->score != NULL) {
        QZO_TRY(add_options(bench, out, batch, false, perturbation));
        is_usable = are_numbers(texts);
    } else {
        bench->workspace->rows = 0; /* answers grow by a token at a time */
        QZO_TRY(add_answers(bench, out, batch, perturbation));
        is_usable = qzo_answers_are_of_numbers(texts->answers, batch->count);
    }
    if (!is_usable) out->score = (double)NAN;
cleanup:
    return status;
}

const qzo_bench_kind qzo_bench_texts = {.name = "texts",
                                        .has_model = has_model,
                                        .has_task = has_task,
                                        .find_scoring = find_scoring,
                                        .prepare = prepare,
                                        .close = close_workspace,
                                        .evaluate = evaluate,
                                        .evaluate_pair = evaluate_pair,
                                        .score = score};
