#include "trial/image_bench.h"

#include "model/mmdit_rows.h"

#include <stdlib.h>
#include <string.h>

struct qzo_image_bench {
    const qzo_images *images; /* borrowed */
    qzo_mmdit_forward *forward;
    int64_t room;          /* examples */
    int64_t rows;          /* of one example */
                           /* examples */
    float *latent;         /* of one example */
    float *noisy, *target; /* (room, latent) */
    float *said;           /* the same, of both signs where there are pairs */
    float *text, *pooled, *timesteps;
    qzo_flow_draw *draws; /* (room) */
    /* What the arrays hold. */
    bool is_set;
    qzo_split_kind split;
    qzo_image_draw draw;
    qzo_flow_settings settings;
    int64_t *examples, count;
};

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
    if (bench->latent == NULL || bench->noisy == NULL || bench->target == NULL ||
        bench->said == NULL || bench->text == NULL || bench->pooled == NULL ||
        bench->timesteps == NULL || bench->draws == NULL || bench->examples == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld images", (long long)examples);
    return QZO_OK;
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
    bench->rows = qzo_mmdit_patches_of(&model->mmdit->shape, &limits) + limits.text_rows;
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

int64_t qzo_image_bench_rows(const qzo_image_bench *bench) { return bench->rows; }

static bool holds(const qzo_image_bench *bench, const qzo_flow_settings *settings,
                  qzo_split_kind split, const int64_t *examples, int64_t count,
                  const qzo_image_draw *draw) {
    return bench->is_set && bench->split == split && bench->count == count &&
           bench->draw.seed == draw->seed && bench->draw.round == draw->round &&
           bench->draw.first == draw->first &&
           memcmp(&bench->settings, settings, sizeof *settings) == 0 &&
           memcmp(bench->examples, examples, (size_t)count * sizeof *examples) == 0;
}

/* An evaluation's place is the example itself, so that it does not depend on how it is cut. */
static void fill(qzo_image_bench *bench, const qzo_flow_settings *settings, qzo_split_kind split,
                 const int64_t *examples, int64_t count, const qzo_image_draw *draw) {
    const qzo_images *images = bench->images;
    int64_t latent = qzo_images_latent_count(images);
    for (int64_t i = 0; i < count; i++) {
        int64_t place = draw->round == QZO_FLOW_EVALUATION ? examples[i] : draw->first + i;
        qzo_images_fetch(images, split, examples[i], bench->latent,
                         bench->text + i * images->text_rows * images->text_width,
                         bench->pooled + i * images->pooled_width);
        bench->draws[i] = qzo_flow_draw_of(settings, draw->seed, draw->round, (uint32_t)place);
        bench->timesteps[i] = bench->draws[i].timestep;
        qzo_flow_mix(bench->noisy + i * latent, bench->target + i * latent, bench->latent, latent,
                     &bench->draws[i]);
    }
}

static qzo_status set(qzo_image_bench *bench, const qzo_flow_settings *settings,
                      qzo_split_kind split, const int64_t *examples, int64_t count,
                      const qzo_image_draw *draw) {
    if (holds(bench, settings, split, examples, count, draw)) return QZO_OK;
    bench->is_set = false;
    fill(bench, settings, split, examples, count, draw);
    const qzo_mmdit_batch batch = {.example_count = count,
                                   .latents = bench->noisy,
                                   .timesteps = bench->timesteps,
                                   .text = bench->text,
                                   .pooled = bench->pooled};
    qzo_status status = qzo_mmdit_forward_set(bench->forward, &batch);
    if (status != QZO_OK) return status;
    memcpy(bench->examples, examples, (size_t)count * sizeof *examples);
    bench->split = split;
    bench->count = count;
    bench->draw = *draw;
    bench->settings = *settings;
    bench->is_set = true;
    return QZO_OK;
}

static void add_losses(const qzo_image_bench *bench, double *losses,
                       const qzo_flow_settings *settings, const float *said, int64_t count) {
    int64_t latent = qzo_images_latent_count(bench->images);
    for (int64_t i = 0; i < count; i++)
        losses[i] = qzo_flow_loss(settings, said + i * latent, bench->target + i * latent, latent,
                                  &bench->draws[i]);
}

qzo_status qzo_image_bench_evaluate(qzo_image_bench *bench, double *losses,
                                    const qzo_flow_settings *settings, qzo_split_kind split,
                                    const int64_t *examples, int64_t count,
                                    const qzo_image_draw *draw, const float *masters,
                                    const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    QZO_TRY(set(bench, settings, split, examples, count, draw));
    QZO_TRY(qzo_mmdit_forward_run(bench->forward, masters, perturbation, bench->said));
    add_losses(bench, losses, settings, bench->said, count);
cleanup:
    return status;
}

qzo_status qzo_image_bench_evaluate_pair(qzo_image_bench *bench, double *losses,
                                         const qzo_flow_settings *settings, qzo_split_kind split,
                                         const int64_t *examples, int64_t count,
                                         const qzo_image_draw *draw, const float *masters,
                                         const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    int64_t latents = count * qzo_images_latent_count(bench->images);
    qzo_perturbation minus = *perturbation;
    minus.c = -perturbation->c;
    QZO_TRY(set(bench, settings, split, examples, count, draw));
    if (qzo_mmdit_forward_has_pair(bench->forward)) {
        QZO_TRY(qzo_mmdit_forward_run_pair(bench->forward, masters, perturbation, bench->said));
        add_losses(bench, losses, settings, bench->said, count);
        add_losses(bench, losses + count, settings, bench->said + latents, count);
        goto cleanup;
    }
    QZO_TRY(qzo_mmdit_forward_run(bench->forward, masters, perturbation, bench->said));
    add_losses(bench, losses, settings, bench->said, count);
    QZO_TRY(qzo_mmdit_forward_run(bench->forward, masters, &minus, bench->said));
    add_losses(bench, losses + count, settings, bench->said, count);
cleanup:
    return status;
}
