/* Weight formats: every fixture decodes to the recorded values bit for bit; what a file must not
 * say is refused by the name of the tensor. */
#include "tensor_writer.h"

#include "base/new_folder.h"
#include "weights/model_dir_write.h"
#include "weights/quant.h"

#include <dirent.h>
#include <math.h>
#include <unistd.h>

/* --- fixtures ------------------------------------------------------------------------------- */

/* A folder written with the module's own values gives them back, bit for bit. */
static void assert_written_and_read(const qzo_model_dir *dir, const qzo_qtensor *weight,
                                    const float *values) {
    qzo_new_folder folder = {0};
    qzo_tensor_changes changes = {0};
    qzo_model_dir *written = NULL;
    qzo_qtensor again = {0};
    char *parent = qzo_test_folder_create(), *path = qzo_path_join(parent, "folder");
    const int64_t groups = weight->group_count > 0 ? weight->group_count : weight->in_features;
    const size_t size_bytes = (size_t)(weight->out_features * groups) * sizeof(float);
    float *back = calloc(1, size_bytes + 1);
    assert_ok(qzo_new_folder_begin(&folder, path));
    assert_ok(weight->format->write_values(&changes, weight, values));
    assert_ok(qzo_model_dir_write(dir, &changes, folder.temporary));
    assert_ok(qzo_model_dir_open(&written, folder.temporary));
    assert_ok(
        qzo_qtensor_bind(&again, written, weight->name, weight->out_features, weight->in_features));
    assert_ok(again.format->read_values(back, &again));
    assert_memory_equal(back, values, size_bytes);
    qzo_qtensor_release(&again);
    qzo_model_dir_close(written);
    qzo_tensor_changes_release(&changes);
    qzo_new_folder_close(&folder); /* never committed: it goes away */
    assert_int_equal(rmdir(parent), 0);
    qzo_test_folder_remove(parent);
    free(path);
    free(back);
}

/* Decodes all rows of one module and compares them with expected (out, in), bit for bit. */
static void assert_decodes_to(const qzo_model_dir *dir, const qzo_tensor_view *expected,
                              const char *format) {
    char module[256];
    snprintf(module, sizeof module, "%.*s", (int)(strlen(expected->name) - strlen(".weight")),
             expected->name);
    qzo_qtensor weight = {0};
    const int64_t rows = expected->shape[0], columns = expected->shape[1];
    assert_ok(qzo_qtensor_bind(&weight, dir, module, rows, columns));
    assert_string_equal(weight.format->name, format);
    assert_ok(qzo_qtensor_repack(&weight));
    assert_int_equal(weight.span, QZO_SPAN_NONE);
    const int64_t groups = weight.group_count;
    float *values = calloc((size_t)(rows * (groups > 0 ? groups : columns)), sizeof(float));
    float *row = calloc((size_t)columns, sizeof(float));
    if (weight.format->read_values != NULL) assert_ok(weight.format->read_values(values, &weight));
    for (int64_t i = 0; i < rows; i++) {
        weight.format->decode_row(row, &weight, i, values + i * groups);
        for (int64_t j = 0; j < columns; j++) {
            const float want = qzo_tensor_float_at(expected, i * columns + j);
            if (memcmp(&row[j], &want, sizeof want) != 0)
                fail_msg("%s: %s [%lld][%lld] is %a, expected %a", qzo_model_dir_path(dir), module,
                         (long long)i, (long long)j, (double)row[j], (double)want);
        }
    }
    if (weight.format->read_values != NULL) assert_written_and_read(dir, &weight, values);
    free(row);
    free(values);
    qzo_qtensor_release(&weight);
}

/* Returns how many modules were compared. */
static int check_fixture(const char *name, const char *expected_file, const char *format) {
    qzo_model_dir *dir = NULL;
    qzo_safetensors *expected = NULL;
    int compared = 0;
    char *path = qzo_path_join(qzo_test_fixture(name), expected_file);
    assert_ok(qzo_model_dir_open(&dir, qzo_test_fixture(name)));
    assert_ok(qzo_safetensors_open(&expected, path));
    for (int64_t i = 0; i < qzo_safetensors_count(expected); i++) {
        const qzo_tensor_view *view = qzo_safetensors_at(expected, i);
        const char *ending = strstr(view->name, "_proj.weight");
        if (ending == NULL || view->rank != 2) continue;
        assert_decodes_to(dir, view, format);
        compared++;
    }
    qzo_safetensors_close(expected);
    qzo_model_dir_close(dir);
    free(path);
    return compared;
}

static void gptq_fixtures_decode_bit_for_bit(void **state) {
    (void)state;
    int folders = 0;
    DIR *list = opendir(qzo_test_fixture("gptq"));
    assert_non_null(list);
    for (const struct dirent *entry; (entry = readdir(list)) != NULL;) {
        char name[300], config[330];
        snprintf(name, sizeof name, "gptq/%s", entry->d_name);
        snprintf(config, sizeof config, "%s/config.json", name);
        if (access(qzo_test_fixture(config), R_OK) != 0) continue; /* not a model's folder */
        assert_int_equal(check_fixture(name, "expected.safetensors", "gptq"), 7);
        folders++;
    }
    closedir(list);
    assert_in_range(folders, 6, 100); /* v1, v2, asym, desc_act, groups, shards, ties */
}

static void decoders_of_the_owning_libraries_agree(void **state) {
    (void)state;
    static const struct {
        const char *folder, *format;
        int modules;
    } cases[] = {{"bnb/nf4", "bnb", 3},
                 {"bnb/nf4-nested", "bnb", 3},
                 {"bnb/fp4", "bnb", 3},
                 {"bnb/fp4-nested", "bnb", 3},
                 {"aqlm/2x8", "aqlm", 3},
                 {"gguf/tiny-llama-q4_0", "gguf", 6}, /* of two layers */
                 {"gguf/llama-q4_k_m", "gguf", 2},    /* q in Q4_K, v in Q6_K */
                 {"gguf/qwen2-q8_0", "gguf", 3},
                 {"gguf/qwen3-q4_0", "gguf", 3},
                 {"gguf/llama-f16", "dense", 3},
                 {"awq/g32", "awq", 3},
                 {"awq/whole-row", "awq", 3},
                 {"compressed/int4-g32", "compressed-tensors", 3},
                 {"compressed/int4-g16-asym", "compressed-tensors", 3},
                 {"compressed/int4-channel-asym", "compressed-tensors", 3},
                 {"compressed/int3-g32-asym", "compressed-tensors", 3},
                 {"compressed/int8-channel", "compressed-tensors", 3},
                 {"compressed/int8-bytes", "compressed-tensors", 3},
                 {"compressed/int8-bytes-asym", "compressed-tensors", 3},
                 {"hqq/4bit-g32", "hqq", 3},
                 {"hqq/8bit-g16", "hqq", 3},
                 {"hqq/3bit-g16", "hqq", 3},
                 {"hqq/2bit-g16", "hqq", 3},
                 {"hqq/1bit-g8", "hqq", 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(check_fixture(cases[i].folder, "expected.safetensors", cases[i].format),
                         cases[i].modules);
}

static void dense_fixture_decodes_to_itself(void **state) {
    (void)state;
    assert_int_equal(check_fixture("tiny-llama-fp32", "model.safetensors", "dense"), 14);
}

/* --- a small file of our own: 16 inputs, 8 outputs, groups of 8 ---------------------------------
 */

enum { INPUTS = 16, OUTPUTS = 8, GROUPS = 2 };

static const char settings_v2[] =
    "{\"quantization_config\": {\"bits\": 4, \"group_size\": 8, \"quant_method\": \"gptq\", "
    "\"checkpoint_format\": \"gptq_v2\"}}";

typedef struct small_file { /* what is written; tests change it first */
    uint32_t codes[INPUTS / 8][OUTPUTS];
    uint32_t zeros[GROUPS][1];
    float scales[GROUPS][OUTPUTS];
    int32_t g_idx[INPUTS];
    const char *config;
    const char *qweight_shape, *qzeros_shape, *scales_shape, *g_idx_shape; /* NULL: left out */
    const char *qzeros_dtype;
    size_t shift; /* place of the data modulo 8 */
} small_file;

static char *folder;

static small_file small_file_default(void) {
    small_file file = {.config = settings_v2,
                       .qweight_shape = "2,8",
                       .qzeros_shape = "2,1",
                       .scales_shape = "2,8",
                       .g_idx_shape = NULL,
                       .qzeros_dtype = "I32"};
    for (int o = 0; o < OUTPUTS; o++) {
        file.codes[0][o] = 0x76543210u;
        file.codes[1][o] = 0xfedcba98u;
        file.scales[0][o] = 0.5f + (float)o;
        file.scales[1][o] = -0.25f;
    }
    file.zeros[0][0] = 0x76543210u; /* the zero point of output o is o, then 8 + o */
    file.zeros[1][0] = 0xfedcba98u;
    for (int i = 0; i < INPUTS; i++) file.g_idx[i] = i / 8;
    return file;
}

static void small_file_write(const small_file *file) {
    tensor_writer *writer = tensor_writer_create();
    char *path = qzo_path_join(folder, "model.safetensors");
    tensor_folder_write(folder, "config.json", file->config);
    if (file->qweight_shape != NULL)
        tensor_writer_add(writer, "m.qweight", "I32", file->qweight_shape, file->codes,
                          sizeof file->codes);
    if (file->qzeros_shape != NULL)
        tensor_writer_add(writer, "m.qzeros", file->qzeros_dtype, file->qzeros_shape, file->zeros,
                          sizeof file->zeros);
    if (file->scales_shape != NULL)
        tensor_writer_add(writer, "m.scales", "F32", file->scales_shape, file->scales,
                          sizeof file->scales);
    if (file->g_idx_shape != NULL)
        tensor_writer_add(writer, "m.g_idx", "I32", file->g_idx_shape, file->g_idx,
                          sizeof file->g_idx);
    tensor_writer_save(writer, path, file->shift);
    free(path);
    free(writer);
}

/* Writes the file, binds m and decodes it whole into out (OUTPUTS, INPUTS). */
static qzo_status small_file_decode(float out[OUTPUTS][INPUTS], const small_file *file) {
    qzo_status status = QZO_OK;
    qzo_model_dir *dir = NULL;
    qzo_qtensor weight = {0};
    float values[OUTPUTS * GROUPS];
    small_file_write(file);
    assert_ok(qzo_model_dir_open(&dir, folder));
    QZO_TRY(qzo_qtensor_bind(&weight, dir, "m", OUTPUTS, INPUTS));
    QZO_TRY(weight.format->read_values(values, &weight));
    for (int row = 0; row < OUTPUTS; row++)
        weight.format->decode_row(out[row], &weight, row, values + row * weight.group_count);
cleanup:
    qzo_qtensor_release(&weight);
    qzo_model_dir_close(dir);
    return status;
}

static void assert_refused(const small_file *file, qzo_status expected, const char *message) {
    float out[OUTPUTS][INPUTS];
    assert_fails(small_file_decode(out, file), expected, message);
}

static int setup(void **state) {
    (void)state;
    folder = qzo_test_folder_create();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    qzo_test_folder_remove(folder);
    return 0;
}

static void values_follow_the_definition(void **state) {
    (void)state;
    const small_file file = small_file_default();
    float out[OUTPUTS][INPUTS];
    assert_ok(small_file_decode(out, &file));
    for (int o = 0; o < OUTPUTS; o++)
        for (int i = 0; i < INPUTS; i++) {
            const int group = i / 8;
            const int zero = o + 8 * group; /* code i of the row is i */
            assert_true(out[o][i] == file.scales[group][o] * (float)(i - zero));
        }
}

static void first_version_stores_zeros_minus_one(void **state) {
    (void)state;
    small_file file = small_file_default();
    float v1[OUTPUTS][INPUTS], v2[OUTPUTS][INPUTS];
    assert_ok(small_file_decode(v2, &file));
    for (int g = 0; g < GROUPS; g++) file.zeros[g][0] -= 0x11111111u;
    file.config = "{\"quantization_config\": {\"bits\": 4, \"group_size\": 8}}";
    assert_ok(small_file_decode(v1, &file)); /* no checkpoint_format means the first version */
    assert_memory_equal(v1, v2, sizeof v1);
}

static void unaligned_data_decodes_alike(void **state) {
    (void)state;
    small_file file = small_file_default();
    float aligned[OUTPUTS][INPUTS], shifted[OUTPUTS][INPUTS];
    file.g_idx_shape = "16";
    assert_ok(small_file_decode(aligned, &file));
    for (file.shift = 1; file.shift < 8; file.shift++) {
        assert_ok(small_file_decode(shifted, &file));
        assert_memory_equal(aligned, shifted, sizeof aligned);
    }
}

static void group_indices_are_honoured_even_without_desc_act(void **state) {
    (void)state;
    small_file file = small_file_default();
    float out[OUTPUTS][INPUTS];
    file.g_idx_shape = "16";
    for (int i = 0; i < INPUTS; i++) file.g_idx[i] = i % 2;
    assert_ok(small_file_decode(out, &file));
    for (int o = 0; o < OUTPUTS; o++)
        for (int i = 0; i < INPUTS; i++)
            assert_true(out[o][i] == file.scales[i % 2][o] * (float)(i - (o + 8 * (i % 2))));
}

static void last_group_may_be_short(void **state) {
    (void)state;
    small_file file = small_file_default();
    float out[OUTPUTS][INPUTS];
    file.config = "{\"quantization_config\": {\"bits\": 4, \"group_size\": 12, "
                  "\"checkpoint_format\": \"gptq_v2\"}}";
    assert_ok(small_file_decode(out, &file));
    assert_true(out[1][11] == file.scales[0][1] * (11 - 1));
    assert_true(out[1][12] == file.scales[1][1] * (12 - 9));
}

static void old_settings_file_is_read(void **state) {
    (void)state;
    small_file file = small_file_default();
    float out[OUTPUTS][INPUTS];
    file.config = "{}";
    assert_refused(&file, QZO_ERR_FORMAT, "nor is there a quantize_config.json");
    tensor_folder_write(folder, "quantize_config.json", "{\"bits\": 4, \"group_size\": 8}");
    assert_ok(small_file_decode(out, &file));
}

typedef struct settings_case {
    const char *settings;
    qzo_status status;
    const char *message;
} settings_case;

static const settings_case settings_cases[] = {
    {"\"group_size\": 8", QZO_ERR_FORMAT, "\"bits\" is missing"},
    {"\"bits\": 5, \"group_size\": 8", QZO_ERR_UNSUPPORTED, "5 bits, only 2, 3, 4 and 8 are read"},
    {"\"bits\": \"4\", \"group_size\": 8", QZO_ERR_FORMAT, "\"bits\" must be an integer"},
    {"\"bits\": 4", QZO_ERR_FORMAT, "\"group_size\" is missing"},
    {"\"bits\": 4, \"group_size\": 0", QZO_ERR_FORMAT, "\"group_size\" must be -1 or positive"},
    {"\"bits\": 4, \"group_size\": -2", QZO_ERR_FORMAT, "found -2"},
    {"\"bits\": 4, \"group_size\": 8, \"desc_act\": 1", QZO_ERR_FORMAT,
     "\"desc_act\" must be true"},
    {"\"bits\": 4, \"group_size\": 8, \"quant_method\": \"quip\"", QZO_ERR_UNSUPPORTED,
     "quant_method \"quip\""},
    {"\"bits\": 4, \"group_size\": 8, \"checkpoint_format\": \"marlin\"", QZO_ERR_UNSUPPORTED,
     "checkpoint_format \"marlin\""},
    {"\"bits\": 4, \"group_size\": 8, \"desc_act\": true", QZO_ERR_FORMAT,
     "tensor m.g_idx is missing"},
    {"\"bits\": 4, \"group_size\": -1", QZO_ERR_FORMAT,
     "tensor m.qzeros: expected the shape (1, 1), found rank 2 and (2, 1)"},
    {"\"bits\": 4, \"group_size\": 4", QZO_ERR_FORMAT,
     "tensor m.qzeros: expected the shape (4, 1)"},
};

static void wrong_settings_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof settings_cases / sizeof settings_cases[0]; i++) {
        char config[512];
        small_file file = small_file_default();
        snprintf(config, sizeof config, "{\"quantization_config\": {%s}}",
                 settings_cases[i].settings);
        file.config = config;
        assert_refused(&file, settings_cases[i].status, settings_cases[i].message);
    }
}

static void wrong_tensors_are_refused_by_name(void **state) {
    (void)state;
    small_file file = small_file_default();
    file.qweight_shape = "16";
    assert_refused(&file, QZO_ERR_FORMAT, "tensor m.qweight: expected the shape (2, 8)");
    file = small_file_default();
    file.qweight_shape = "4,4";
    assert_refused(&file, QZO_ERR_FORMAT, "m.qweight: expected the shape (2, 8), found rank 2");
    file = small_file_default();
    file.qzeros_shape = NULL;
    assert_refused(&file, QZO_ERR_FORMAT, "tensor m.qzeros is missing");
    file = small_file_default();
    file.qzeros_dtype = "U32";
    assert_refused(&file, QZO_ERR_FORMAT, "tensor m.qzeros: expected I32, found U32");
    file = small_file_default();
    file.scales_shape = NULL;
    assert_refused(&file, QZO_ERR_FORMAT, "tensor m.scales is missing");
    file = small_file_default();
    file.scales_shape = "16";
    assert_refused(&file, QZO_ERR_FORMAT, "tensor m.scales: expected the shape (2, 8)");
    file = small_file_default();
    file.g_idx_shape = "2,8";
    assert_refused(&file, QZO_ERR_FORMAT, "tensor m.g_idx: expected the shape (16, 1)");
    file = small_file_default();
    file.qweight_shape = NULL;
    assert_refused(&file, QZO_ERR_FORMAT, "no weight of module m");
}

static void group_indices_out_of_range_are_refused(void **state) {
    (void)state;
    static const int32_t wrong[] = {2, -1, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char message[128];
        small_file file = small_file_default();
        file.g_idx_shape = "16";
        file.g_idx[13] = wrong[i];
        snprintf(message, sizeof message, "m.g_idx: input 13 is in group %d, expected 0 .. 1",
                 wrong[i]);
        assert_refused(&file, QZO_ERR_FORMAT, message);
    }
}

static void scales_that_are_not_finite_are_refused(void **state) {
    (void)state;
    small_file file = small_file_default();
    file.scales[1][5] = INFINITY;
    assert_refused(&file, QZO_ERR_FORMAT, "tensor m.scales: the scale of row 5, group 1");
    file.scales[1][5] = NAN;
    assert_refused(&file, QZO_ERR_FORMAT, "tensor m.scales: the scale of row 5, group 1");
}

static void shapes_that_do_not_pack_are_refused(void **state) {
    (void)state;
    const small_file file = small_file_default();
    qzo_model_dir *dir = NULL;
    qzo_qtensor weight = {0};
    small_file_write(&file);
    assert_ok(qzo_model_dir_open(&dir, folder));
    assert_fails(qzo_qtensor_bind(&weight, dir, "m", OUTPUTS, 12), QZO_ERR_UNSUPPORTED,
                 "GPTQ with 4 bits packs by 8, the weight is (8, 12)");
    assert_fails(qzo_qtensor_bind(&weight, dir, "m", 12, INPUTS), QZO_ERR_UNSUPPORTED,
                 "GPTQ with 4 bits packs by 8");
    assert_null(weight.format);
    qzo_qtensor_release(&weight);
    qzo_model_dir_close(dir);
}

static void dense_weights_of_every_type_decode(void **state) {
    (void)state;
    static const uint16_t halves[4] = {0x3c00, 0xc000, 0x4200, 0x0000};  /* 1 -2 3 0 */
    static const uint16_t bfloats[4] = {0x3f80, 0xc000, 0x4040, 0x0000}; /* 1 -2 3 0 */
    static const float floats[4] = {1.0f, -2.0f, 3.0f, 0.0f};
    static const char *const modules[] = {"half", "bfloat", "float"};
    qzo_model_dir *dir = NULL;
    char *path = qzo_path_join(folder, "model.safetensors");
    tensor_writer *writer = tensor_writer_create();
    tensor_folder_write(folder, "config.json", "{}");
    tensor_writer_add(writer, "half.weight", "F16", "2,2", halves, sizeof halves);
    tensor_writer_add(writer, "bfloat.weight", "BF16", "2,2", bfloats, sizeof bfloats);
    tensor_writer_add(writer, "float.weight", "F32", "2,2", floats, sizeof floats);
    tensor_writer_save(writer, path, 3); /* none is aligned */
    assert_ok(qzo_model_dir_open(&dir, folder));
    for (int i = 0; i < 3; i++) {
        qzo_qtensor weight = {0};
        float out[4];
        assert_ok(qzo_qtensor_bind(&weight, dir, modules[i], 2, 2));
        assert_string_equal(weight.format->name, "dense");
        assert_int_equal(weight.group_count, 0);
        assert_true(qzo_tensor_aligned(&weight.as.dense));
        weight.format->decode_row(out, &weight, 0, NULL);
        weight.format->decode_row(out + 2, &weight, 1, NULL);
        assert_memory_equal(out, floats, sizeof floats);
        qzo_qtensor_release(&weight);
        assert_fails(qzo_qtensor_bind(&weight, dir, modules[i], 4, 1), QZO_ERR_FORMAT,
                     "expected the shape (4, 1)");
    }
    qzo_model_dir_close(dir);
    free(writer);
    free(path);
}

static void every_format_is_complete(void **state) {
    (void)state;
    for (int i = 0; qzo_quant_formats[i] != NULL; i++) {
        const qzo_quant_format *format = qzo_quant_formats[i];
        assert_non_null(format->name);
        assert_non_null(format->detect);
        assert_non_null(format->bind);
        assert_non_null(format->decode_row);
        assert_int_equal(format->read_values == NULL, format->value_suffix == NULL);
        assert_int_equal(format->read_values == NULL, format->write_values == NULL);
    }
}

#define folder_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gptq_fixtures_decode_bit_for_bit),
        cmocka_unit_test(decoders_of_the_owning_libraries_agree),
        cmocka_unit_test(dense_fixture_decodes_to_itself),
        folder_test(values_follow_the_definition),
        folder_test(first_version_stores_zeros_minus_one),
        folder_test(unaligned_data_decodes_alike),
        folder_test(group_indices_are_honoured_even_without_desc_act),
        folder_test(last_group_may_be_short),
        folder_test(old_settings_file_is_read),
        folder_test(wrong_settings_are_refused),
        folder_test(wrong_tensors_are_refused_by_name),
        folder_test(group_indices_out_of_range_are_refused),
        folder_test(scales_that_are_not_finite_are_refused),
        folder_test(shapes_that_do_not_pack_are_refused),
        folder_test(dense_weights_of_every_type_decode),
        cmocka_unit_test(every_format_is_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
