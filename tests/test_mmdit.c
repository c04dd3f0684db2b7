/* The diffusion transformer against outputs that diffusers recorded (tests/fixtures/mmdit), and
 * against itself: threads and the other examples of a batch must not change a bit. */
#include "model_support.h"

#include "base/json.h"
#include "model/mmdit_forward.h"

#include <math.h>
#include <stdio.h>

/* fp32 against fp32 of another library; docs/error-analysis.md, "Logits". */
static const double OUTPUT_ERROR = 1e-4;

static const char *const folders[] = {"mmdit/sd3", "mmdit/sd35-large", "mmdit/sd35-medium"};
enum { FOLDERS = sizeof folders / sizeof *folders };

/* A fixture's inputs and output, of two examples of 4 x 8 x 6 with 5 text rows. */
enum { EXAMPLES = 2, LATENT = 4 * 8 * 6, TEXT_ROWS = 5, TEXT = TEXT_ROWS * 24, POOLED = 12 };

typedef struct recorded {
    float latents[EXAMPLES * LATENT], output[EXAMPLES * LATENT];
    float text[EXAMPLES * TEXT], pooled[EXAMPLES * POOLED], timesteps[EXAMPLES];
} recorded;

static void take(float *out, const qzo_safetensors *file, const char *name, int64_t count) {
    const qzo_tensor_view *view = qzo_safetensors_find(file, name);
    if (view == NULL || view->dtype != QZO_DTYPE_F32 || view->count != count)
        fail_msg("expected %lld numbers named %s", (long long)count, name);
    memcpy(out, view->data, view->size_bytes);
}

static void load_recorded(recorded *out, const char *folder) {
    char path[256];
    qzo_safetensors *file = NULL;
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    assert_ok(qzo_safetensors_open(&file, qzo_test_fixture(path)));
    take(out->latents, file, "latents", EXAMPLES * LATENT);
    take(out->output, file, "output", EXAMPLES * LATENT);
    take(out->text, file, "text", EXAMPLES * TEXT);
    take(out->pooled, file, "pooled", EXAMPLES * POOLED);
    take(out->timesteps, file, "timesteps", EXAMPLES);
    qzo_safetensors_close(file);
}

/* out (count, LATENT) of examples first .. first + count - 1, in a workspace with room for all. */
static void run(float *out, const test_model *model, const recorded *data, int64_t first,
                int64_t count, const qzo_perturbation *perturbation) {
    const qzo_mmdit_limits limits = {
        .examples = EXAMPLES, .height = 8, .width = 6, .text_rows = TEXT_ROWS};
    const qzo_mmdit_batch batch = {.example_count = count,
                                   .latents = data->latents + first * LATENT,
                                   .timesteps = data->timesteps + first,
                                   .text = data->text + first * TEXT,
                                   .pooled = data->pooled + first * POOLED};
    qzo_mmdit_forward *forward = NULL;
    assert_ok(qzo_mmdit_forward_open(&forward, model->model, &limits));
    assert_ok(qzo_mmdit_forward_set(forward, &batch));
    assert_ok(qzo_mmdit_forward_run(forward, model->masters, perturbation, out));
    qzo_mmdit_forward_close(forward);
}

static void outputs_are_those_recorded(void **state) {
    (void)state;
    for (int f = 0; f < FOLDERS; f++) {
        recorded data;
        test_model model = {0};
        float actual[EXAMPLES * LATENT];
        double worst = 0.0;
        load_recorded(&data, folders[f]);
        test_model_open(&model, qzo_test_fixture(folders[f]), 2);
        run(actual, &model, &data, 0, EXAMPLES, &test_no_perturbation);
        for (int i = 0; i < EXAMPLES * LATENT; i++)
            worst = fmax(worst, fabs((double)actual[i] - (double)data.output[i]));
        print_message("%s: largest error %.3g\n", folders[f], worst);
        if (!(worst <= OUTPUT_ERROR)) fail_msg("%s: off by %g", folders[f], worst);
        test_model_close(&model);
    }
}

static void threads_and_neighbours_change_no_bit(void **state) {
    (void)state;
    for (int f = 0; f < FOLDERS; f++) {
        recorded data;
        float both[EXAMPLES * LATENT], other[EXAMPLES * LATENT];
        test_model model = {0};
        load_recorded(&data, folders[f]);
        test_model_open(&model, qzo_test_fixture(folders[f]), 1);
        run(both, &model, &data, 0, EXAMPLES, &test_no_perturbation);
        for (int e = 0; e < EXAMPLES; e++) {
            run(other, &model, &data, e, 1, &test_no_perturbation);
            assert_memory_equal(other, both + e * LATENT, LATENT * sizeof(float));
        }
        test_model_close(&model);
        test_model_open(&model, qzo_test_fixture(folders[f]), 3);
        run(other, &model, &data, 0, EXAMPLES, &test_no_perturbation);
        assert_memory_equal(other, both, sizeof both);
        test_model_close(&model);
    }
}

/* --- what cannot be --- */

static void sizes_that_do_not_fit_are_refused(void **state) {
    (void)state;
    static const qzo_mmdit_limits bad[] = {
        {1, 7, 6, 5}, {1, 8, 14, 5}, {1, 0, 6, 5}, {1, 8, 6, 0}, {0, 8, 6, 5}};
    test_model model = {0};
    test_model_open(&model, qzo_test_fixture(folders[0]), 1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        qzo_mmdit_forward *forward = NULL;
        assert_int_equal(qzo_mmdit_forward_open(&forward, model.model, &bad[i]), QZO_ERR_LIMIT);
        assert_null(forward);
    }
    test_model_close(&model);
}

static void configs_that_are_not_supported_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\"num_layers\":0}", "num_layers"},
        {"{\"caption_projection_dim\":100}", "18 heads of 64 are 1152"},
        {"{\"qk_norm\":\"layer_norm\"}", "qk_norm \"layer_norm\" is not supported"},
        {"{\"dual_attention_layers\":[0,18]}", "entry 1 is no layer of 18"},
        {"{\"dual_attention_layers\":3}", "must be a list"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *config = NULL;
        qzo_mmdit_shape shape;
        assert_ok(qzo_json_parse(&config, cases[i].text, strlen(cases[i].text), "config"));
        assert_int_not_equal(qzo_mmdit_read_shape(&shape, config, "config"), QZO_OK);
        if (strstr(qzo_error_message(), cases[i].message) == NULL)
            fail_msg("%s: \"%s\"", cases[i].text, qzo_error_message());
        json_decref(config);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_are_those_recorded),
        cmocka_unit_test(threads_and_neighbours_change_no_bit),
        cmocka_unit_test(sizes_that_do_not_fit_are_refused),
        cmocka_unit_test(configs_that_are_not_supported_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
