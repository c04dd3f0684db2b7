/* ctest: labels=real timeout=60
 * Files that other programs wrote: the official samples of safetensors, a published model, and
 * quantization settings of models on the hub. Skipped where QZO_TEST_DATA lacks them. */
#include "tensor_writer.h"

#include "weights/model_dir.h"
#include "weights/quant.h"

#include <dirent.h>

static int skipped;
static int ran;

/* The path of real data, or the end of this test. */
static const char *data_or_skip(const char *name) {
    const char *path = qzo_test_data(name);
    if (path == NULL) {
        skipped++;
        skip();
    }
    ran++;
    return path;
}

static void official_samples_open(void **state) {
    (void)state;
    const char *folder = data_or_skip("oracles/safetensors");
    int opened = 0;
    DIR *list = opendir(folder);
    assert_non_null(list);
    for (const struct dirent *entry; (entry = readdir(list)) != NULL;) {
        if (strstr(entry->d_name, ".safetensors") == NULL) continue;
        qzo_safetensors *file = NULL;
        char *path = qzo_path_join(folder, entry->d_name);
        assert_ok(qzo_safetensors_open(&file, path));
        assert_string_equal(qzo_safetensors_metadata(file, "test"), "a");
        for (int64_t i = 0; i < qzo_safetensors_count(file); i++)
            assert_int_equal(qzo_safetensors_at(file, i)->count, 6);
        qzo_safetensors_close(file);
        free(path);
        opened++;
    }
    closedir(list);
    assert_int_equal(opened, 10);
}

static void official_sample_has_the_right_values_where_unaligned(void **state) {
    (void)state;
    qzo_safetensors *file = NULL;
    const char *path = data_or_skip("oracles/safetensors/overall.safetensors");
    assert_ok(qzo_safetensors_open(&file, path));
    const qzo_tensor_view *halves = qzo_safetensors_find(file, "e");
    const qzo_tensor_view *floats = qzo_safetensors_find(file, "f");
    assert_non_null(halves);
    assert_non_null(floats);
    for (int i = 0; i < 6; i++) { /* -3 .. 2 */
        assert_true(qzo_tensor_float_at(halves, i) == (float)(i - 3));
        assert_true(qzo_tensor_float_at(floats, i) == (float)(i - 3));
    }
    assert_false(qzo_tensor_aligned(floats)); /* its data lies at 2 modulo 4 */
    qzo_safetensors_close(file);
}

static void published_model_opens(void **state) {
    (void)state;
    qzo_model_dir *dir = NULL;
    qzo_qtensor weight = {0};
    const qzo_tensor_view *norm = NULL;
    float row[64];
    assert_ok(qzo_model_dir_open(&dir, data_or_skip("models/stories260K")));
    assert_null(qzo_model_dir_quantization(dir));
    assert_ok(qzo_model_dir_require_float(&norm, dir, "model.norm.weight", 1, 64, 0));
    assert_ok(qzo_qtensor_bind(&weight, dir, "model.layers.4.mlp.down_proj", 64, 172));
    qzo_qtensor_release(&weight);
    assert_ok(qzo_qtensor_bind(&weight, dir, "model.embed_tokens", 512, 64));
    weight.format->decode_row(row, &weight, 511, NULL);
    assert_true(row[63] == qzo_tensor_float_at(&weight.as.dense, 512 * 64 - 1));
    qzo_qtensor_release(&weight);
    qzo_model_dir_close(dir);
}

/* Puts a real settings file beside GPTQ tensors of its group size and binds them. */
static void check_settings(const char *settings) {
    static const uint32_t codes[32 * 8] = {0}, zeros[2] = {0};
    static const float scales[2 * 8] = {0};
    const char *source = data_or_skip(settings);
    size_t size_bytes = 0;
    char *text = (char *)qzo_test_file_read(source, &size_bytes);
    char *folder = qzo_test_folder_create();
    char *path = qzo_path_join(folder, "model.safetensors");
    tensor_folder_write(folder, "config.json", "{}");
    tensor_folder_write(folder, "quantize_config.json", text);
    tensor_writer *writer = tensor_writer_create();
    tensor_writer_add(writer, "m.qweight", "I32", "32,8", codes, sizeof codes);
    tensor_writer_add(writer, "m.qzeros", "I32", "2,1", zeros, sizeof zeros);
    tensor_writer_add(writer, "m.scales", "F32", "2,8", scales, sizeof scales);
    tensor_writer_save(writer, path, 0);
    qzo_model_dir *dir = NULL;
    qzo_qtensor weight = {0};
    assert_ok(qzo_model_dir_open(&dir, folder));
    assert_ok(qzo_qtensor_bind(&weight, dir, "m", 8, 256));
    assert_int_equal(weight.group_count, 2); /* groups of 128 */
    assert_true(weight.as.gptq.zero_correction == 0x11111111u);
    qzo_qtensor_release(&weight);
    qzo_model_dir_close(dir);
    free(writer);
    free(path);
    free(text);
    qzo_test_folder_remove(folder);
}

static void optimum_settings_are_read(void **state) {
    (void)state;
    check_settings("oracles/quant_meta/phi2-gptq.quantize_config.json");
}

static void autogptq_settings_are_read(void **state) {
    (void)state;
    check_settings("oracles/quant_meta/qwen-vl-chat-int4.quantize_config.json");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(official_samples_open),
        cmocka_unit_test(official_sample_has_the_right_values_where_unaligned),
        cmocka_unit_test(published_model_opens),
        cmocka_unit_test(optimum_settings_are_read),
        cmocka_unit_test(autogptq_settings_are_read),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed == 0 && ran == 0 && skipped > 0 ? 77 : failed;
}
