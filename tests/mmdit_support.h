/* The small diffusion transformers of tests/fixtures/mmdit: what diffusers recorded of them, and
 * passes over it. */
#ifndef QZO_TESTS_MMDIT_SUPPORT_H
#define QZO_TESTS_MMDIT_SUPPORT_H

#include "model_support.h"

#include "model/mmdit_forward.h"

#include <stdio.h>

static const char *const test_image_models[] = {"mmdit/sd3", "mmdit/sd35-large",
                                                "mmdit/sd35-medium", "mmdit/wide-nf4"};
enum { TEST_IMAGE_MODELS = sizeof test_image_models / sizeof *test_image_models };

/* A fixture's inputs and output, of two examples of 4 x 8 x 6 with 5 text rows. */
enum { EXAMPLES = 2, LATENT = 4 * 8 * 6, TEXT_ROWS = 5, EMBEDDING_MAX = 64 };

typedef struct test_images {
    float latents[EXAMPLES * LATENT], output[EXAMPLES * LATENT], timesteps[EXAMPLES];
    float text[EXAMPLES * TEXT_ROWS * EMBEDDING_MAX], pooled[EXAMPLES * EMBEDDING_MAX];
    int64_t text_count, pooled_count; /* numbers of one example */
} test_images;

static inline void test_images_take(float *out, const qzo_safetensors *file, const char *name,
                                    int64_t count) {
    const qzo_tensor_view *view = qzo_safetensors_find(file, name);
    if (view == NULL || view->dtype != QZO_DTYPE_F32 || view->count != count)
        fail_msg("expected %lld numbers named %s", (long long)count, name);
    memcpy(out, view->data, view->size_bytes);
}

/* How many numbers of that name an example has, at most `max`. */
static inline int64_t test_images_count(const qzo_safetensors *file, const char *name,
                                        int64_t max) {
    const qzo_tensor_view *view = qzo_safetensors_find(file, name);
    if (view == NULL || view->count > EXAMPLES * max) fail_msg("expected %s", name);
    return view->count / EXAMPLES;
}

static inline void test_images_load(test_images *out, const char *folder) {
    char path[256];
    qzo_safetensors *file = NULL;
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    assert_ok(qzo_safetensors_open(&file, qzo_test_fixture(path)));
    test_images_take(out->latents, file, "latents", EXAMPLES * LATENT);
    test_images_take(out->output, file, "output", EXAMPLES * LATENT);
    out->text_count = test_images_count(file, "text", TEXT_ROWS * EMBEDDING_MAX);
    out->pooled_count = test_images_count(file, "pooled", EMBEDDING_MAX);
    test_images_take(out->text, file, "text", EXAMPLES * out->text_count);
    test_images_take(out->pooled, file, "pooled", EXAMPLES * out->pooled_count);
    test_images_take(out->timesteps, file, "timesteps", EXAMPLES);
    qzo_safetensors_close(file);
}

/* out (count, LATENT) of examples first .. first + count - 1, in a workspace with room for all. */
static inline void test_images_run(float *out, const test_model *model, const test_images *data,
                                   int64_t first, int64_t count,
                                   const qzo_perturbation *perturbation) {
    const qzo_mmdit_limits limits = {
        .examples = EXAMPLES, .height = 8, .width = 6, .text_rows = TEXT_ROWS};
    const qzo_mmdit_batch batch = {.example_count = count,
                                   .latents = data->latents + first * LATENT,
                                   .timesteps = data->timesteps + first,
                                   .text = data->text + first * data->text_count,
                                   .pooled = data->pooled + first * data->pooled_count};
    qzo_mmdit_forward *forward = NULL;
    assert_ok(qzo_mmdit_forward_open(&forward, model->model, &limits));
    assert_ok(qzo_mmdit_forward_set(forward, &batch));
    assert_ok(qzo_mmdit_forward_run(forward, model->masters, perturbation, out));
    qzo_mmdit_forward_close(forward);
}

#endif
