#include "trial/image_bench.h"

#include "model/mmdit_rows.h"
#include "task/image_file.h"

#include <stdlib.h>
#include <string.h>

struct qzo_image_bench {
    qzo_workspace base;
    qzo_flow_settings training; /* of the trial */
    double *losses;             /* (2, room): of both signs */
    const qzo_images *images;   /* borrowed */
    qzo_mmdit_forward *forward;
    int64_t room, pair_room; /* examples */
    int64_t rows;            /* of one example: its patches and its text */
    float *latent;           /* of one example */
    float *noisy, *target;   /* (room, latent) */
    float *said;             /* the same, of both signs where there are pairs */
    float *text, *pooled, *timesteps;
    qzo_flow_draw *draws; /* (room) */
    /* What the arrays hold. */
    bool is_set;
    qzo_split_kind split;
    uint64_t seed, round;
    int64_t first;
    qzo_flow_settings settings;
    int64_t *examples, count;
};

/* base comes first. */
static qzo_image_bench *images_of(qzo_workspace *workspace) { return (qzo_image_bench *)workspace; }

static bool has_model(const qzo_model *model) { return model->mmdit != NULL; }

static bool has_task(const qzo_task *task) { return task->images != NULL; }

/* --- the workspace --- */

static qzo_status check_fit(const qzo_mmdit_shape *shape, const qzo_images *images,
                            const qzo_task *task, const qzo_model *model) {
    const struct {
        const char *what;
        int64_t found, expected;
    } sizes[] = {{"latents with channels", images->channels, shape->channels},
                 {"predictions with channels", images->channels, shape->out_channels},
                 {"text embeddings of width", images->text_width, shape->text_width},
                 {"pooled embeddings of width", images->pooled_width, shape->pooled_width}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].found != sizes[i].expected)
            return qzo_fail(QZO_ERR_CONFIG,
                            "task %s: %s %lld, the model %s has %lld: prepare the images with its "
                            "encoders",
                            task->name, sizes[i].what, (long long)sizes[i].found,
                            qzo_model_dir_path(model->dir), (long long)sizes[i].expected);
    return QZO_OK;
}

static qzo_status allocate(qzo_image_bench *bench, int64_t examples, int64_t pair_examples) {
    const qzo_images *images = bench->images;
    size_t latent = (size_t)qzo_images_latent_count(images), room = (size_t)examples;
    size_t text = (size_t)(images->text_rows * images->text_width);
    bench->room = examples;
    bench->pair_room = pair_examples;
    bench->losses = calloc(2 * room, sizeof(double));
    bench->latent = malloc(latent * sizeof(float));
    bench->noisy = malloc(room * latent * sizeof(float));
    bench->target = malloc(room * latent * sizeof(float));
    size_t said = 2 * (size_t)pair_examples > room ? 2 * (size_t)pair_examples : room;
    bench->said = malloc(said * latent * sizeof(float));
    bench->text = malloc(room * text * sizeof(float));
    bench->pooled = malloc(room * (size_t)images->pooled_width * sizeof(float));
    bench->timesteps = malloc(room * sizeof(float));
    bench->draws = calloc(room, sizeof *bench->draws);
    bench->examples = calloc(room, sizeof *bench->examples);
    if (bench->losses == NULL || bench->latent == NULL || bench->noisy == NULL ||
        bench->target == NULL || bench->said == NULL || bench->text == NULL ||
        bench->pooled == NULL || bench->timesteps == NULL || bench->draws == NULL ||
        bench->examples == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld images", (long long)examples);
    return QZO_OK;
}

static int64_t rows_of(const qzo_model *model, const qzo_images *images) {
    const qzo_mmdit_limits one = {.examples = 1, .height = images->height, .width = images->width};
    return qzo_mmdit_patches_of(&model->mmdit->shape, &one) + images->text_rows;
}

qzo_status qzo_image_bench_open(qzo_image_bench **out, const qzo_model *model, const qzo_task *task,
                                int64_t examples, int64_t pair_examples) {
    qzo_status status = QZO_OK;
    const qzo_images *images = task->images;
    qzo_image_bench *bench = NULL;
    QZO_TRY(check_fit(&model->mmdit->shape, images, task, model));
    bench = calloc(1, sizeof *bench);
    if (bench == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for images");
    bench->images = images;
    QZO_TRY(allocate(bench, examples, pair_examples));
    const qzo_mmdit_limits limits = {.examples = examples,
                                     .height = images->height,
                                     .width = images->width,
                                     .text_rows = images->text_rows,
                                     .pair_examples = pair_examples};
    bench->rows = rows_of(model, images);
    bench->base = (qzo_workspace){.row_max = examples * bench->rows,
                                  .pair_rows = pair_examples * bench->rows};
    QZO_TRY(qzo_mmdit_forward_open(&bench->forward, model, &limits));
    *out = bench;
    bench = NULL;
cleanup:
    qzo_image_bench_close(bench);
    return status;
}

void qzo_image_bench_close(qzo_image_bench *bench) {
    if (bench == NULL) return;
    qzo_mmdit_forward_close(bench->forward);
    free(bench->losses);
    free(bench->latent);
    free(bench->noisy);
    free(bench->target);
    free(bench->said);
    free(bench->text);
    free(bench->pooled);
    free(bench->timesteps);
    free(bench->draws);
    free(bench->examples);
    free(bench);
}

/* --- losses --- */

static bool holds(const qzo_image_bench *bench, const qzo_flow_settings *settings,
                  const qzo_batch *batch) {
    return bench->is_set && bench->split == batch->split->kind && bench->count == batch->count &&
           bench->seed == batch->seed && bench->round == batch->round &&
           bench->first == batch->first &&
           memcmp(&bench->settings, settings, sizeof *settings) == 0 &&
           memcmp(bench->examples, batch->examples, (size_t)batch->count * sizeof(int64_t)) == 0;
}

/* An evaluation's place is the example itself, so that it does not depend on how it is cut. */
static void fill(qzo_image_bench *bench, const qzo_flow_settings *settings,
                 const qzo_batch *batch) {
    const qzo_images *images = bench->images;
    int64_t latent = qzo_images_latent_count(images);
    for (int64_t i = 0; i < batch->count; i++) {
        int64_t example = batch->examples[i];
        int64_t place = batch->round == QZO_FLOW_EVALUATION ? example : batch->first + i;
        qzo_images_fetch(images, batch->split->kind, example, bench->latent,
                         bench->text + i * images->text_rows * images->text_width,
                         bench->pooled + i * images->pooled_width);
        bench->draws[i] = qzo_flow_draw_of(settings, batch->seed, batch->round, (uint32_t)place);
        bench->timesteps[i] = bench->draws[i].timestep;
        qzo_flow_mix(bench->noisy + i * latent, bench->target + i * latent, bench->latent, latent,
                     &bench->draws[i]);
    }
}

static qzo_status set(qzo_image_bench *bench, const qzo_flow_settings *settings,
                      const qzo_batch *batch) {
    bench->base.rows = batch->count * bench->rows;
    if (holds(bench, settings, batch)) return QZO_OK;
    bench->is_set = false;
    fill(bench, settings, batch);
    const qzo_mmdit_batch inputs = {.example_count = batch->count,
                                    .latents = bench->noisy,
                                    .timesteps = bench->timesteps,
                                    .text = bench->text,
                                    .pooled = bench->pooled};
    qzo_status status = qzo_mmdit_forward_set(bench->forward, &inputs);
    if (status != QZO_OK) return status;
    memcpy(bench->examples, batch->examples, (size_t)batch->count * sizeof *bench->examples);
    bench->split = batch->split->kind;
    bench->count = batch->count;
    bench->seed = batch->seed;
    bench->round = batch->round;
    bench->first = batch->first;
    bench->settings = *settings;
    bench->is_set = true;
    return QZO_OK;
}

static void take_losses(const qzo_image_bench *bench, double *losses,
                        const qzo_flow_settings *settings, const float *said) {
    int64_t latent = qzo_images_latent_count(bench->images);
    for (int64_t i = 0; i < bench->count; i++)
        losses[i] = qzo_flow_loss(settings, said + i * latent, bench->target + i * latent, latent,
                                  &bench->draws[i]);
}

qzo_status qzo_image_bench_evaluate(qzo_image_bench *bench, double *losses,
                                    const qzo_flow_settings *settings, const qzo_batch *batch,
                                    const float *masters, const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    QZO_TRY(set(bench, settings, batch));
    QZO_TRY(qzo_mmdit_forward_run(bench->forward, masters, perturbation, bench->said));
    take_losses(bench, losses, settings, bench->said);
cleanup:
    return status;
}

qzo_status qzo_image_bench_evaluate_pair(qzo_image_bench *bench, double *losses,
                                         const qzo_flow_settings *settings, const qzo_batch *batch,
                                         const float *masters,
                                         const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    int64_t count = batch->count, latents = count * qzo_images_latent_count(bench->images);
    qzo_perturbation minus = *perturbation;
    minus.c = -perturbation->c;
    QZO_TRY(set(bench, settings, batch));
    if (qzo_mmdit_forward_has_pair(bench->forward)) {
        QZO_TRY(qzo_mmdit_forward_run_pair(bench->forward, masters, perturbation, bench->said));
        take_losses(bench, losses, settings, bench->said);
        take_losses(bench, losses + count, settings, bench->said + latents);
        goto cleanup;
    }
    QZO_TRY(qzo_mmdit_forward_run(bench->forward, masters, perturbation, bench->said));
    take_losses(bench, losses, settings, bench->said);
    QZO_TRY(qzo_mmdit_forward_run(bench->forward, masters, &minus, bench->said));
    take_losses(bench, losses + count, settings, bench->said);
cleanup:
    return status;
}

/* --- as a workbench drives them --- */

static qzo_status find_scoring(const qzo_loss **loss, const qzo_metric **metric,
                               const qzo_task *task, const char *path) {
    (void)task;
    (void)path;
    *loss = &qzo_flow_matching;
    *metric = &qzo_metric_none;
    return QZO_OK;
}

/* Names were checked when the sweep file was read. */
static int index_of(const char *(*choice)(int), const char *name) {
    int index = 0;
    while (strcmp(choice(index), name) != 0) index++;
    return index;
}

static qzo_flow_settings flow_of(const qzo_trial_spec *spec) {
    return (qzo_flow_settings){
        .density = (qzo_density)index_of(qzo_density_name, spec->timestep_density),
        .weighting = (qzo_weighting)index_of(qzo_weighting_name, spec->loss_weighting),
        .logit_mean = spec->logit_mean,
        .logit_std = spec->logit_std,
        .mode_scale = spec->mode_scale,
        .shift = spec->timestep_shift};
}

/* Examples of a micro-batch where both signs of them go at once. */
static int64_t pair_room_of(const qzo_workbench *bench, const qzo_trial_spec *spec) {
    int64_t rows = rows_of(bench->model, bench->task->images);
    bool pays = rows <= bench->backend->pair_rows_max / spec->micro_batch;
    return pays && qzo_trial_spec_has_pairs(spec) ? spec->micro_batch : 0;
}

static void close_workspace(qzo_workspace *workspace) {
    qzo_image_bench_close(images_of(workspace));
}

static qzo_status prepare(qzo_workbench *bench, const qzo_trial_spec *spec) {
    qzo_status status = QZO_OK;
    int64_t room = spec->micro_batch > spec->eval_batch ? spec->micro_batch : spec->eval_batch;
    int64_t pair_room = pair_room_of(bench, spec);
    qzo_image_bench *images = images_of(bench->workspace);
    if (strcmp(spec->metric_name, "dev_loss") != 0 || qzo_trial_spec_by_metric(spec))
        return qzo_fail(QZO_ERR_CONFIG,
                        "%s is of images and has no score: expected metric dev_loss and objective "
                        "loss",
                        spec->task_path);
    if (images == NULL || images->room != room || images->pair_room != pair_room) {
        qzo_image_bench_close(images);
        bench->workspace = NULL;
        QZO_TRY(qzo_image_bench_open(&images, bench->model, bench->task, room, pair_room));
        bench->workspace = &images->base;
    }
    images->training = flow_of(spec);
cleanup:
    return status;
}

static void add_up(const qzo_workbench *bench, qzo_sums *out, const double *losses,
                   const qzo_batch *batch) {
    for (int64_t i = 0; i < batch->count; i++) {
        out->loss += losses[i];
        out->weight += bench->loss->weight(batch->split, batch->examples[i]);
        if (bench->observer.seen != NULL)
            bench->observer.seen(bench->observer.context, batch->examples[i], losses[i]);
    }
}

static qzo_status evaluate(qzo_workbench *bench, qzo_sums *out, const qzo_batch *batch,
                           const qzo_perturbation *perturbation) {
    qzo_image_bench *images = images_of(bench->workspace);
    qzo_flow_settings settings = images->training;
    qzo_batch drawn = *batch;
    if (!batch->is_training) {
        settings = qzo_flow_measure(&images->training);
        drawn.seed = 0;
        drawn.round = QZO_FLOW_EVALUATION;
    }
    qzo_status status = qzo_image_bench_evaluate(images, images->losses, &settings, &drawn,
                                                 bench->masters, perturbation);
    if (status == QZO_OK) add_up(bench, out, images->losses, batch);
    return status;
}

static qzo_status evaluate_pair(qzo_workbench *bench, qzo_sums out[2], const qzo_batch *batch,
                                const qzo_perturbation *perturbation) {
    qzo_image_bench *images = images_of(bench->workspace);
    qzo_status status = qzo_image_bench_evaluate_pair(images, images->losses, &images->training,
                                                      batch, bench->masters, perturbation);
    for (int sign = 0; status == QZO_OK && sign < 2; sign++)
        add_up(bench, &out[sign], images->losses + sign * batch->count, batch);
    return status;
}

const qzo_bench_kind qzo_bench_images = {.name = "images",
                                         .has_model = has_model,
                                         .has_task = has_task,
                                         .find_scoring = find_scoring,
                                         .prepare = prepare,
                                         .close = close_workspace,
                                         .evaluate = evaluate,
                                         .evaluate_pair = evaluate_pair};
