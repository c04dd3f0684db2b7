/* The diffusion transformer against outputs that diffusers recorded (tests/fixtures/mmdit), and
 * against itself: threads and the other examples of a batch must not change a bit. */
#include "mmdit_support.h"
#include "tensor_writer.h"

#include "base/json.h"
#include "weights/bnb_quantize.h"
#include "weights/tensor_changes.h"

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

/* --- several files --- */

static void add_view(tensor_writer *out, const qzo_tensor_view *view) {
    char shape[64] = "";
    for (int i = 0; i < view->rank; i++) {
        size_t used = strlen(shape);
        snprintf(shape + used, sizeof shape - used, "%s%lld", i > 0 ? "," : "",
                 (long long)view->shape[i]);
    }
    tensor_writer_add(out, view->name, qzo_dtype_name(view->dtype), shape, view->data,
                      view->size_bytes);
}

/* The tensors by turns in two shards, as no program would deal them out, and diffusers' index. */
static void write_shards(const char *folder, const char *fixture) {
    enum { SHARDS = 2 };
    static const char *const names[SHARDS] = {"diffusion_pytorch_model-00001-of-00002.safetensors",
                                              "diffusion_pytorch_model-00002-of-00002.safetensors"};
    tensor_writer *shards[SHARDS] = {tensor_writer_create(), tensor_writer_create()};
    json_t *map = json_object();
    qzo_safetensors *file = NULL;
    size_t size_bytes = 0;
    char *path = qzo_path_join(qzo_test_fixture(fixture), "diffusion_pytorch_model.safetensors");
    assert_ok(qzo_safetensors_open(&file, path));
    free(path);
    for (int64_t i = 0; i < qzo_safetensors_count(file); i++) {
        const qzo_tensor_view *view = qzo_safetensors_at(file, i);
        add_view(shards[i % SHARDS], view);
        json_object_set_new(map, view->name, json_string(names[i % SHARDS]));
    }
    qzo_safetensors_close(file);
    for (int i = 0; i < SHARDS; i++) {
        path = qzo_path_join(folder, names[i]);
        tensor_writer_save(shards[i], path, 0);
        free(path);
        free(shards[i]);
    }
    json_t *index = json_pack("{s:{}, s:o}", "metadata", "weight_map", map);
    char *text = json_dumps(index, 0);
    tensor_folder_write(folder, "diffusion_pytorch_model.safetensors.index.json", text);
    free(text);
    json_decref(index);
    path = qzo_path_join(qzo_test_fixture(fixture), "config.json");
    uint8_t *config = qzo_test_file_read(path, &size_bytes);
    free(path);
    path = qzo_path_join(folder, "config.json");
    qzo_test_file_write(path, config, size_bytes);
    free(path);
    free(config);
}

static void shards_give_the_outputs_of_one_file(void **state) {
    (void)state;
    for (int f = 0; f < TEST_IMAGE_MODELS; f++) {
        test_images data;
        float whole[EXAMPLES * LATENT], parts[EXAMPLES * LATENT];
        test_model model = {0};
        char *folder = qzo_test_folder_create();
        write_shards(folder, test_image_models[f]);
        test_images_load(&data, test_image_models[f]);
        test_model_open(&model, qzo_test_fixture(test_image_models[f]), 1);
        test_images_run(whole, &model, &data, 0, EXAMPLES, &test_no_perturbation);
        test_model_close(&model);
        test_model_open(&model, folder, 1);
        assert_int_equal(qzo_model_dir_shard_count(model.model->dir), 2);
        test_images_run(parts, &model, &data, 0, EXAMPLES, &test_no_perturbation);
        assert_memory_equal(parts, whole, sizeof whole);
        test_model_close(&model);
        qzo_test_folder_remove(folder);
    }
}

/* --- 4 bits --- */

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* What diffusers saves of a model that it quantized with bitsandbytes: the same codes and absmax,
 * those of the layer that no pass reads too. */
static void quantizing_at_load_gives_what_diffusers_saves(void **state) {
    (void)state;
    test_model model = {0};
    qzo_safetensors *file = NULL;
    qzo_tensor_changes changes = {0};
    qzo_training training = qzo_training_default;
    int64_t compared = 0;
    training.quantize = qzo_bnb_kind_find("nf4");
    test_model_open_for(&model, qzo_test_fixture("mmdit/wide"), 2, &training);
    assert_ok(qzo_model_changes(&changes, model.model, model.masters));
    assert_ok(qzo_safetensors_open(
        &file, qzo_test_fixture("mmdit/wide-nf4/diffusion_pytorch_model.safetensors")));
    for (int64_t i = 0; i < qzo_safetensors_count(file); i++) {
        const qzo_tensor_view *expected = qzo_safetensors_at(file, i), *found;
        bool is_code = expected->dtype == QZO_DTYPE_U8 && ends_with(expected->name, ".weight");
        if (!is_code && !ends_with(expected->name, ".absmax")) continue;
        found = qzo_tensor_changes_find(&changes, expected->name);
        if (found == NULL || found->dtype != expected->dtype ||
            found->size_bytes != expected->size_bytes)
            fail_msg("%s: expected %zu bytes of %s", expected->name, expected->size_bytes,
                     qzo_dtype_name(expected->dtype));
        if (memcmp(found->data, expected->data, expected->size_bytes) != 0)
            fail_msg("%s differs from what diffusers saves", expected->name);
        compared++;
    }
    assert_int_equal(compared, 2 * 18); /* all linear layers of the fixture */
    qzo_tensor_changes_release(&changes);
    qzo_safetensors_close(file);
    test_model_close(&model);
}

/* --- what cannot be --- */

static void sizes_that_do_not_fit_are_refused(void **state) {
    (void)state;
    static const qzo_mmdit_limits bad[] = {
        {1, 7, 6, 5, 0}, {1, 8, 14, 5, 0}, {1, 0, 6, 5, 0}, {1, 8, 6, 0, 0}, {0, 8, 6, 5, 0}};
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
        cmocka_unit_test(shards_give_the_outputs_of_one_file),
        cmocka_unit_test(quantizing_at_load_gives_what_diffusers_saves),
        cmocka_unit_test(sizes_that_do_not_fit_are_refused),
        cmocka_unit_test(configs_that_are_not_supported_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
