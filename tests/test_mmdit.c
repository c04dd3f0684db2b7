/* The diffusion transformer against outputs that diffusers recorded (tests/fixtures/mmdit), and
 * against itself: threads and the other examples of a batch must not change a bit. */
#include "mmdit_support.h"

#include "base/json.h"

#include <math.h>

/* fp32 against fp32 of another library; docs/error-analysis.md, "Logits". */
static const double OUTPUT_ERROR = 1e-4;

static void outputs_are_those_recorded(void **state) {
    (void)state;
    for (int f = 0; f < TEST_IMAGE_MODELS; f++) {
        test_images data;
        test_model model = {0};
        float actual[EXAMPLES * LATENT];
        double worst = 0.0;
        test_images_load(&data, test_image_models[f]);
        test_model_open(&model, qzo_test_fixture(test_image_models[f]), 2);
        test_images_run(actual, &model, &data, 0, EXAMPLES, &test_no_perturbation);
        for (int i = 0; i < EXAMPLES * LATENT; i++)
            worst = fmax(worst, fabs((double)actual[i] - (double)data.output[i]));
        print_message("%s: largest error %.3g\n", test_image_models[f], worst);
        if (!(worst <= OUTPUT_ERROR)) fail_msg("%s: off by %g", test_image_models[f], worst);
        test_model_close(&model);
    }
}

static void threads_and_neighbours_change_no_bit(void **state) {
    (void)state;
    for (int f = 0; f < TEST_IMAGE_MODELS; f++) {
        test_images data;
        float both[EXAMPLES * LATENT], other[EXAMPLES * LATENT];
        test_model model = {0};
        test_images_load(&data, test_image_models[f]);
        test_model_open(&model, qzo_test_fixture(test_image_models[f]), 1);
        test_images_run(both, &model, &data, 0, EXAMPLES, &test_no_perturbation);
        for (int e = 0; e < EXAMPLES; e++) {
            test_images_run(other, &model, &data, e, 1, &test_no_perturbation);
            assert_memory_equal(other, both + e * LATENT, LATENT * sizeof(float));
        }
        test_model_close(&model);
        test_model_open(&model, qzo_test_fixture(test_image_models[f]), 3);
        test_images_run(other, &model, &data, 0, EXAMPLES, &test_no_perturbation);
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
    test_model_open(&model, qzo_test_fixture(test_image_models[0]), 1);
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
