#include "trial/workbench.h"

#include "base/clock.h"
#include "model/mmdit_rows.h"
#include "trial/task_sizes.h"
#include "trial/workbench_values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void qzo_workbench_init(qzo_workbench *out, qzo_backend *backend) {
    *out = (qzo_workbench){.backend = backend, .training = qzo_training_default};
}

/* --- what must fit together --- */

static int64_t adapter_values(const qzo_workbench *bench) {
    return bench->adapters != NULL ? bench->adapters->value_count : 0;
}

int64_t qzo_workbench_value_count(const qzo_workbench *bench) {
    return bench->model->value_count + adapter_values(bench);
}

qzo_status qzo_workbench_check_trainable(const qzo_workbench *bench) {
    if (qzo_workbench_value_count(bench) > 0) return QZO_OK;
    return qzo_fail(QZO_ERR_CONFIG,
                    "%s: the model has nothing to train: none of its weights is quantized, or the "
                    "trial's groups have none of its tensors (tools/quantize_gptq.py makes a GPTQ "
                    "folder; groups: weights trains what is not quantized, groups: lora trains "
                    "adapters)",
                    bench->model_path);
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

static qzo_status find_scoring(const qzo_loss **loss, const qzo_metric **metric,
                               const qzo_task *task, const char *path) {
    if (task->images != NULL) {
        *loss = &qzo_flow_matching;
        *metric = &qzo_metric_none;
        return QZO_OK;
    }
    *loss = qzo_loss_find(task->loss);
    *metric = qzo_metric_find(task->metric);
    if (*loss == NULL)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: loss \"%s\" is not known", path, task->loss);
    if (*metric == NULL)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: metric \"%s\" is not known", path, task->metric);
    return QZO_OK;
}

/* --- loading --- */

static void drop_workspace(qzo_workbench *bench) {
    qzo_image_bench_close(bench->images);
    free(bench->image_losses);
    bench->images = NULL;
    bench->image_losses = NULL;
    bench->images_room = bench->image_pairs = 0;
    qzo_answers_close(bench->answers);
    qzo_forward_close(bench->forward);
    qzo_pack_release(&bench->pack);
    free(bench->log_probs);
    free(bench->option_sums);
    free(bench->rows);
    free(bench->lengths);
    bench->answers = NULL;
    bench->forward = NULL;
    bench->log_probs = bench->option_sums = NULL;
    bench->rows = NULL;
    bench->lengths = NULL;
    bench->limits = (qzo_pack_limits){0};
}

static void drop_masters(qzo_workbench *bench) {
    bench->backend->ops->release(bench->backend, bench->initial);
    bench->backend->ops->release(bench->backend, bench->masters);
    bench->backend->ops->release(bench->backend, bench->beside);
    free(bench->best_host);
    bench->initial = bench->masters = bench->beside = bench->best_host = NULL;
    qzo_core_room_close(bench->room);
    bench->room = NULL;
    free(bench->spans);
    bench->spans = NULL;
    bench->trainable = (qzo_trainable){0};
}

static void drop_adapters(qzo_workbench *bench) {
    drop_workspace(bench); /* it borrows them */
    qzo_adapters_close(bench->adapters);
    bench->adapters = NULL;
}

static void drop_model(qzo_workbench *bench) {
    drop_adapters(bench);
    drop_masters(bench);
    qzo_model_free(bench->model);
    bench->model = NULL;
    free(bench->model_path);
    bench->model_path = NULL;
    bench->load_seconds = 0.0;
}

static void drop_task(qzo_workbench *bench) {
    qzo_task_close(bench->task);
    bench->task = NULL;
    free(bench->task_path);
    bench->task_path = NULL;
}

void qzo_workbench_release(qzo_workbench *bench) {
    if (bench->backend == NULL) return;
    drop_model(bench);
    drop_task(bench);
    *bench = (qzo_workbench){0};
}

/* Adapters are perturbed by themselves, whatever their trial does with scales: B starts at 0. */
static void fill_units(const qzo_workbench *bench, float *host) {
    float *units = host + bench->model->master_count;
    for (int64_t i = 0; i < adapter_values(bench); i++) units[i] = 1.0f;
}

static qzo_status load_initial(qzo_workbench *bench, size_t size_bytes) {
    qzo_status status = QZO_OK;
    float *host = malloc(size_bytes > 0 ? size_bytes : 1);
    if (host == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu bytes", size_bytes);
    QZO_TRY(qzo_model_initial_values(bench->model, host));
    fill_units(bench, host);
    QZO_TRY(bench->backend->ops->upload(bench->backend, bench->initial, host, size_bytes));
    /* What lies behind the values that train stays as it is. */
    QZO_TRY(bench->backend->ops->upload(bench->backend, bench->masters, host, size_bytes));
    bench->best_host = host; /* of the same size */
    host = NULL;
cleanup:
    free(host);
    return status;
}

static qzo_status load_masters(qzo_workbench *bench) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = bench->backend;
    const qzo_model *model = bench->model;
    const qzo_adapters *adapters = bench->adapters;
    int64_t adapter_spans = adapters != NULL ? adapters->span_count : 0;
    size_t size_bytes = qzo_workbench_masters_bytes(bench);
    float **const arrays[] = {&bench->initial, &bench->masters};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        void *memory = NULL;
        QZO_TRY(backend->ops->allocate(backend, &memory, size_bytes));
        *arrays[i] = memory;
    }
    if (!backend->dry) QZO_TRY(load_initial(bench, size_bytes));
    bench->spans = calloc((size_t)(model->span_count + adapter_spans) + 1, sizeof *bench->spans);
    if (bench->spans == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for the spans");
        goto cleanup;
    }
    for (int64_t i = 0; i < model->span_count; i++) bench->spans[i] = model->spans[i];
    for (int64_t i = 0; i < adapter_spans; i++)
        bench->spans[model->span_count + i] = adapters->spans[i];
    bench->trainable = (qzo_trainable){.backend = backend,
                                       .masters = bench->masters,
                                       .spans = bench->spans,
                                       .span_count = model->span_count + adapter_spans,
                                       .groups = bench->model->groups,
                                       .group_count = QZO_GROUP_COUNT};
cleanup:
    return status;
}

/* The adapters of the bench's settings, and masters with room for them. */
static qzo_status load_adapters(qzo_workbench *bench) {
    qzo_status status = QZO_OK;
    drop_adapters(bench);
    drop_masters(bench);
    if (bench->adapter_settings.rank > 0)
        QZO_TRY(qzo_adapters_open(&bench->adapters, bench->model, &bench->adapter_settings));
    QZO_TRY(load_masters(bench));
cleanup:
    return status;
}

qzo_status qzo_workbench_take_model(qzo_workbench *bench, qzo_model_dir *dir) {
    qzo_status status = QZO_OK;
    double begin = qzo_clock_seconds();
    drop_model(bench);
    bench->model_path = strdup(qzo_model_dir_path(dir));
    if (bench->model_path == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", qzo_model_dir_path(dir));
        qzo_model_dir_close(dir);
        return status;
    }
    QZO_TRY(qzo_model_load_for(&bench->model, dir, bench->backend, &bench->training));
    QZO_TRY(load_adapters(bench));
    bench->load_seconds = qzo_clock_seconds() - begin;
cleanup:
    if (status != QZO_OK) drop_model(bench);
    return status;
}

void qzo_workbench_log_load(qzo_workbench *bench, qzo_log_level level) {
    qzo_memory_use use;
    double seconds = bench->load_seconds, gigabyte = 1e9;
    if (bench->model == NULL || seconds <= 0.0) return;
    bench->load_seconds = 0.0;
    double mapped = (double)qzo_model_dir_data_bytes(bench->model->dir) / gigabyte;
    if (bench->backend->ops->memory_use(bench->backend, &use) != QZO_OK) return;
    double copied = (double)use.held_bytes[QZO_MEMORY_WEIGHTS] / gigabyte;
    if (copied > 0.0)
        qzo_log(level, "%s: %.3f GB to the device in %.3f s, %.2f GB/s", bench->model_path, copied,
                seconds, copied / seconds);
    else
        qzo_log(level, "%s: %.3f GB mapped in %.3f s; copies beside them have %.3f GB",
                bench->model_path, mapped, seconds, (double)bench->model->loaded_bytes / gigabyte);
}

static bool holds(const qzo_workbench *bench, const char *path, const qzo_training *training) {
    return bench->model != NULL && strcmp(bench->model_path, path) == 0 &&
           qzo_training_equal(&bench->training, training);
}

bool qzo_workbench_holds(const qzo_workbench *bench, const qzo_trial_spec *spec) {
    const qzo_training training = qzo_trial_spec_training(spec);
    return holds(bench, spec->model_path, &training);
}

/* The model at path, for that training and with these adapters. What is there already stays. */
static qzo_status load_for(qzo_workbench *bench, const char *path, const qzo_training *training,
                           const qzo_adapter_settings *adapters) {
    qzo_status status = QZO_OK;
    qzo_model_dir *dir = NULL;
    bool is_loaded = holds(bench, path, training);
    if (is_loaded && qzo_adapter_settings_equal(&bench->adapter_settings, adapters)) return QZO_OK;
    bench->training = *training;
    bench->adapter_settings = *adapters;
    if (is_loaded) {
        status = load_adapters(bench);
    } else {
        status = qzo_model_dir_open(&dir, path);
        if (status == QZO_OK) return qzo_workbench_take_model(bench, dir);
    }
    if (status != QZO_OK) drop_model(bench);
    return status;
}

qzo_status qzo_workbench_load_model(qzo_workbench *bench, const char *path,
                                    const qzo_bnb_kind *quantize) {
    qzo_training training = qzo_training_default;
    training.quantize = quantize;
    return load_for(bench, path, &training, &(qzo_adapter_settings){.targets = ""});
}

qzo_status qzo_workbench_load_for(qzo_workbench *bench, const qzo_trial_spec *spec) {
    const qzo_training training = qzo_trial_spec_training(spec);
    const qzo_adapter_settings adapters = qzo_trial_spec_adapters(spec);
    qzo_status status = load_for(bench, spec->model_path, &training, &adapters);
    if (status != QZO_OK) return status;
    /* The last trial's workspace may be larger than this one's: no plan has room for both. */
    if (bench->beside == NULL && qzo_workbench_needs_beside(spec)) drop_workspace(bench);
    return qzo_workbench_hold_beside(bench, spec);
}

static qzo_status load_task(qzo_workbench *bench, const char *path) {
    qzo_status status = QZO_OK;
    if (bench->task != NULL && strcmp(bench->task_path, path) == 0) return QZO_OK;
    drop_workspace(bench);
    drop_task(bench);
    QZO_TRY(qzo_task_open(&bench->task, path));
    QZO_TRY(find_scoring(&bench->loss, &bench->metric, bench->task, path));
    QZO_TRY(check_references(bench->metric, bench->task, path));
    bench->options_max = bench->task->images != NULL ? 0 : qzo_task_options_max(bench->task);
    bench->task_path = strdup(path);
    if (bench->task_path == NULL) status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
cleanup:
    if (status != QZO_OK) drop_task(bench);
    return status;
}

static qzo_status open_workspace(qzo_workbench *bench, const qzo_pack_limits *limits) {
    qzo_status status = QZO_OK;
    if (bench->forward != NULL && memcmp(&bench->limits, limits, sizeof *limits) == 0)
        return QZO_OK;
    drop_workspace(bench);
    size_t options = (size_t)bench->options_max;
    size_t sides = limits->pair_rows > 0 ? 2 : 1;
    bench->log_probs = calloc(sides * (size_t)limits->targets, sizeof(double));
    bench->option_sums = calloc(options, sizeof(double));
    bench->rows = calloc(options, sizeof *bench->rows);
    bench->lengths = calloc(options, sizeof *bench->lengths);
    if (bench->log_probs == NULL || bench->option_sums == NULL || bench->rows == NULL ||
        bench->lengths == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu options", options);
        goto cleanup;
    }
    QZO_TRY(qzo_pack_create(&bench->pack, limits));
    QZO_TRY(qzo_forward_open_adapted(&bench->forward, bench->model, bench->adapters, limits));
    if (bench->metric->compare != NULL)
        QZO_TRY(
            qzo_answers_open(&bench->answers, bench->task, bench->model, bench->forward, limits));
    bench->limits = *limits;
cleanup:
    if (status != QZO_OK) drop_workspace(bench);
    return status;
}

/* Images ask for a model of images, texts for one of texts. */
static qzo_status check_kind(const qzo_workbench *bench, const qzo_trial_spec *spec) {
    bool is_of_images = bench->model->mmdit != NULL;
    bool by_score = strcmp(spec->metric_name, "dev_loss") != 0 || qzo_trial_spec_by_metric(spec);
    if (is_of_images == (bench->task->images != NULL)) {
        if (!is_of_images || !by_score) return QZO_OK;
        return qzo_fail(QZO_ERR_CONFIG,
                        "%s is of images and has no score: expected metric dev_loss and objective "
                        "loss",
                        spec->task_path);
    }
    return qzo_fail(QZO_ERR_CONFIG, "%s is a model of %s, %s a task of %s", spec->model_path,
                    is_of_images ? "images" : "texts", spec->task_path,
                    is_of_images ? "texts" : "images");
}

/* Examples of a micro-batch where both signs of them go at once. */
static int64_t image_pairs_of(const qzo_workbench *bench, const qzo_trial_spec *spec) {
    const qzo_images *images = bench->task->images;
    const qzo_mmdit_limits one = {.examples = 1, .height = images->height, .width = images->width};
    int64_t rows = qzo_mmdit_patches_of(&bench->model->mmdit->shape, &one) + images->text_rows;
    bool pays = rows <= bench->backend->pair_rows_max / spec->micro_batch;
    return pays && qzo_trial_spec_has_pairs(spec) ? spec->micro_batch : 0;
}

static qzo_status prepare_images(qzo_workbench *bench, const qzo_trial_spec *spec) {
    int64_t room = spec->micro_batch > spec->eval_batch ? spec->micro_batch : spec->eval_batch;
    int64_t pairs = image_pairs_of(bench, spec);
    bench->flow = qzo_trial_spec_flow(spec);
    if (bench->images != NULL && bench->images_room == room && bench->image_pairs == pairs)
        return QZO_OK;
    drop_workspace(bench);
    bench->images_room = room;
    bench->image_pairs = pairs;
    bench->image_losses = calloc(2 * (size_t)room, sizeof(double));
    if (bench->image_losses == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld images", (long long)room);
    return qzo_image_bench_open(&bench->images, bench->model, bench->task, room, pairs);
}

void qzo_workbench_drop_model(qzo_workbench *bench) {
    if (bench->backend != NULL) drop_model(bench);
}

qzo_status qzo_workbench_prepare(qzo_workbench *bench, const qzo_trial_spec *spec) {
    qzo_status status = qzo_workbench_load_for(bench, spec);
    return status == QZO_OK ? qzo_workbench_prepare_task(bench, spec) : status;
}

qzo_status qzo_workbench_prepare_task(qzo_workbench *bench, const qzo_trial_spec *spec) {
    qzo_status status = QZO_OK;
    qzo_pack_limits limits;
    QZO_TRY(qzo_workbench_hold_beside(bench, spec)); /* not there after a model was taken */
    QZO_TRY(load_task(bench, spec->task_path));
    QZO_TRY(check_kind(bench, spec));
    if (bench->task->images != NULL) return prepare_images(bench, spec);
    QZO_TRY(check_goal(bench->metric, spec));
    QZO_TRY(qzo_task_limits(&limits, bench->task, bench->loss, spec, bench->backend->pair_rows_max,
                            bench->scores_train));
    if (bench->metric->compare != NULL)
        QZO_TRY(qzo_answers_limits(&limits, bench->task, &bench->model->shape));
    QZO_TRY(check_fit(&bench->model->shape, bench->task, &limits, spec));
    QZO_TRY(open_workspace(bench, &limits));
cleanup:
    return status;
}

/* --- evaluating --- */

qzo_status qzo_workbench_pack(qzo_workbench *bench, const qzo_split *split, const int64_t *examples,
                              int64_t count, bool gold_only) {
    qzo_pack_clear(&bench->pack);
    for (int64_t i = 0; i < count; i++) {
        const int32_t *answers = NULL;
        int64_t options =
            qzo_task_options(split, examples[i], gold_only, bench->rows, bench->lengths, &answers);
        qzo_status status =
            qzo_pack_add(&bench->pack, options, bench->rows, bench->lengths, answers);
        if (status != QZO_OK) return status;
    }
    qzo_pack_finish(&bench->pack);
    return QZO_OK;
}

/* The example's part of the pack's log-probabilities; *option is its first, moved behind its last.
 */
static qzo_scored_example scored(qzo_workbench *bench, const double *log_probs,
                                 const qzo_split *split, int64_t example, bool gold_only,
                                 int64_t *option) {
    int64_t begin = split->option_begin[example];
    qzo_scored_example out = {.option_count = split->option_begin[example + 1] - begin,
                              .log_prob_sum = bench->option_sums,
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
        int64_t end = bench->pack.option_target_begin[*option + 1];
        for (int64_t t = bench->pack.option_target_begin[*option]; t < end; t++)
            sum += log_probs[t];
        bench->option_sums[i] = sum;
    }
    return out;
}

static void add_up_images(qzo_workbench *bench, qzo_sums *out, const double *losses,
                          const qzo_split *split, const int64_t *examples, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        out->loss += losses[i];
        out->weight += bench->loss->weight(split, examples[i]);
        if (bench->observer.seen != NULL)
            bench->observer.seen(bench->observer.context, examples[i], losses[i]);
    }
}

static qzo_status evaluate_images(qzo_workbench *bench, qzo_sums *out, const qzo_split *split,
                                  const int64_t *examples, int64_t count,
                                  const qzo_image_draw *draw,
                                  const qzo_perturbation *perturbation) {
    static const qzo_image_draw evaluation = {.round = QZO_FLOW_EVALUATION};
    const qzo_flow_settings measure = qzo_flow_measure(&bench->flow);
    qzo_status status = qzo_image_bench_evaluate(
        bench->images, bench->image_losses, draw != NULL ? &bench->flow : &measure, split->kind,
        examples, count, draw != NULL ? draw : &evaluation, bench->masters, perturbation);
    if (status == QZO_OK) add_up_images(bench, out, bench->image_losses, split, examples, count);
    return status;
}

static qzo_status evaluate_image_pair(qzo_workbench *bench, qzo_sums out[2], const qzo_split *split,
                                      const int64_t *examples, int64_t count,
                                      const qzo_image_draw *draw,
                                      const qzo_perturbation *perturbation) {
    double *losses = bench->image_losses;
    qzo_status status =
        qzo_image_bench_evaluate_pair(bench->images, losses, &bench->flow, split->kind, examples,
                                      count, draw, bench->masters, perturbation);
    for (int sign = 0; status == QZO_OK && sign < 2; sign++)
        add_up_images(bench, &out[sign], losses + sign * count, split, examples, count);
    return status;
}

/* Of the pack's examples, from its log-probabilities. */
static void add_up(qzo_workbench *bench, qzo_sums *out, const double *log_probs,
                   const qzo_split *split, const int64_t *examples, int64_t count, bool gold_only) {
    int64_t option = 0;
    *out = (qzo_sums){0};
    for (int64_t i = 0; i < count; i++) {
        qzo_scored_example example =
            scored(bench, log_probs, split, examples[i], gold_only, &option);
        if (bench->observer.scored != NULL)
            bench->observer.scored(bench->observer.context, examples[i], &example);
        out->loss += bench->loss->sum(&example);
        out->weight += bench->loss->weight(split, examples[i]);
        if (gold_only || bench->metric->score == NULL) continue;
        out->score += bench->metric->score(&example);
        out->score_weight += bench->metric->weight(split, examples[i]);
    }
}

qzo_status qzo_workbench_evaluate(qzo_workbench *bench, qzo_sums *out, const qzo_split *split,
                                  const int64_t *examples, int64_t count, bool gold_only,
                                  const qzo_image_draw *draw,
                                  const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    *out = (qzo_sums){0};
    if (bench->images != NULL)
        return evaluate_images(bench, out, split, examples, count, draw, perturbation);
    QZO_TRY(qzo_workbench_pack(bench, split, examples, count, gold_only));
    QZO_TRY(qzo_forward_log_probs(bench->forward, &bench->pack, bench->masters, perturbation,
                                  bench->log_probs));
    add_up(bench, out, bench->log_probs, split, examples, count, gold_only);
cleanup:
    return status;
}

qzo_status qzo_workbench_evaluate_pair(qzo_workbench *bench, qzo_sums out[2],
                                       const qzo_split *split, const int64_t *examples,
                                       int64_t count, const qzo_image_draw *draw,
                                       const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    bool gold_only = bench->loss->gold_only;
    qzo_perturbation minus = *perturbation;
    minus.c = -perturbation->c;
    out[0] = out[1] = (qzo_sums){0};
    if (bench->images != NULL)
        return evaluate_image_pair(bench, out, split, examples, count, draw, perturbation);
    QZO_TRY(qzo_workbench_pack(bench, split, examples, count, gold_only));
    double *first = bench->log_probs, *second = first + bench->pack.target_count;
    if (qzo_forward_has_pair(bench->forward, &bench->pack)) {
        QZO_TRY(qzo_forward_log_probs_pair(bench->forward, &bench->pack, bench->masters,
                                           perturbation, first));
    } else {
        QZO_TRY(qzo_forward_log_probs(bench->forward, &bench->pack, bench->masters, perturbation,
                                      first));
        QZO_TRY(
            qzo_forward_log_probs(bench->forward, &bench->pack, bench->masters, &minus, second));
    }
    add_up(bench, &out[0], first, split, examples, count, gold_only);
    add_up(bench, &out[1], second, split, examples, count, gold_only);
cleanup:
    return status;
}

qzo_status qzo_workbench_answer(qzo_workbench *bench, qzo_sums *sums, const qzo_split *split,
                                const int64_t *examples, int64_t count,
                                const qzo_perturbation *perturbation) {
    if (bench->metric->compare == NULL) return QZO_OK;
    qzo_status status =
        qzo_answers_generate(bench->answers, split, examples, count, bench->masters, perturbation);
    for (int64_t i = 0; status == QZO_OK && i < count; i++) {
        double score = qzo_answers_score(bench->answers, i, bench->metric);
        if (bench->observer.answered != NULL)
            bench->observer.answered(bench->observer.context, examples[i],
                                     qzo_answers_text(bench->answers, i), score);
        sums->score += score;
        sums->score_weight += bench->metric->weight(split, examples[i]);
    }
    return status;
}

/* Whether all of the pack's log-probabilities are numbers. */
static bool are_numbers(const qzo_workbench *bench) {
    for (int64_t t = 0; t < bench->pack.target_count; t++)
        if (isnan(bench->log_probs[t])) return false;
    return true;
}

/* Comparisons with what is no number are false, and a score made of them looks like any other. */
qzo_status qzo_workbench_score(qzo_workbench *bench, qzo_sums *out, const qzo_split *split,
                               const int64_t *examples, int64_t count,
                               const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    bool is_usable = false;
    if (bench->metric->score != NULL) {
        QZO_TRY(
            qzo_workbench_evaluate(bench, out, split, examples, count, false, NULL, perturbation));
        is_usable = are_numbers(bench);
    } else {
        *out = (qzo_sums){0};
        qzo_pack_clear(&bench->pack);
        QZO_TRY(qzo_workbench_answer(bench, out, split, examples, count, perturbation));
        is_usable = qzo_answers_are_of_numbers(bench->answers, count);
    }
    if (!is_usable) out->score = (double)NAN;
cleanup:
    return status;
}
