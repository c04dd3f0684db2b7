/* GGUF files: what a file must not say is refused by name, wherever it is cut; an export changes
 * the scales of its blocks and not another byte. Decoding and logits are compared with llama.cpp's
 * package and transformers in quant_formats and forward. */
#include "test_support.h"

#include "base/file_io.h"
#include "trial/workbench_values.h"
#include "weights/gguf_model.h"
#include "weights/model_dir_write.h"
#include "weights/quant.h"
#include "weights/safetensors_write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- wrong files ---------------------------------------------------------------------------- */

/* A fixture's bytes, which tests change: qwen3, 14 tensors, Q4_0 with F16, BF16 and F32. */
static uint8_t *bytes;
static size_t size_bytes;

static int load(void **state) {
    (void)state;
    bytes = qzo_test_file_read(qzo_test_fixture("gguf/qwen3-q4_0/model.gguf"), &size_bytes);
    return 0;
}

static int unload(void **state) {
    (void)state;
    free(bytes);
    return 0;
}

/* The place right behind the first occurrence of a text, which stands in no other name. */
static size_t behind(const char *text) {
    size_t length = strlen(text);
    for (size_t i = 0; i + length <= size_bytes; i++)
        if (memcmp(bytes + i, text, length) == 0) return i + length;
    fail_msg("the fixture has no %s", text);
    return 0;
}

/* Parses a copy of the first `length` bytes: whoever reads past them is caught by the sanitizer. */
static qzo_status parse(size_t length) {
    qzo_gguf_model *model = NULL;
    uint8_t *copy = malloc(length + (length == 0));
    memcpy(copy, bytes, length);
    qzo_status status = qzo_gguf_model_parse(&model, copy, length, "x.gguf");
    if ((status == QZO_OK) != (model != NULL)) fail_msg("status %d and model disagree", status);
    qzo_gguf_model_close(model);
    free(copy);
    return status;
}

typedef struct edit {
    const char *text; /* "": the place is from the beginning */
    size_t skip;      /* bytes behind it; SIZE_MAX: its last byte */
    uint64_t value;
    int width; /* bytes of the value */
    qzo_status status;
    const char *message;
} edit;

static void assert_refused(const edit *e) {
    uint8_t kept[8], put[8];
    size_t place = (e->text[0] != '\0' ? behind(e->text) : 0) + e->skip;
    memcpy(kept, bytes + place, sizeof kept);
    qzo_put_u64(put, e->value);
    memcpy(bytes + place, put, (size_t)e->width);
    assert_fails(parse(size_bytes), e->status, e->message);
    memcpy(bytes + place, kept, sizeof kept);
}

/* Behind a key's name stand u32 kind and value; behind a tensor's u32 rank, its sizes of u64 each,
 * u32 type, u64 offset. */
static void wrong_fields_are_refused(void **state) {
    (void)state;
    static const edit edits[] = {
        {"", 0, 0x46554748, 4, QZO_ERR_FORMAT, "not a GGUF file"},
        {"", 4, 1, 4, QZO_ERR_UNSUPPORTED, "GGUF version 1, expected 2 or 3"},
        {"", 4, 0x03000000, 4, QZO_ERR_UNSUPPORTED, "big-endian"},
        {"", 8, UINT64_MAX, 8, QZO_ERR_LIMIT, "18446744073709551615 tensors, at most"},
        {"", 8, 60000, 8, QZO_ERR_FORMAT, "cut off: 60000 tensors"},
        {"", 16, (uint64_t)1 << 40, 8, QZO_ERR_LIMIT, "keys, at most"},
        {"", 24, UINT64_MAX, 8, QZO_ERR_FORMAT, "a key takes 18446744073709551615 bytes"},
        {"", 24, 0, 8, QZO_ERR_FORMAT, "a key of 0 bytes"},
        {"general.architecture", 0, 13, 4, QZO_ERR_FORMAT, "kind of a value 13"},
        {"general.architecture", 4, (uint64_t)1 << 62, 8, QZO_ERR_FORMAT, "cut off: a value"},
        {"general.architecture", 12, 0x616d6d6567, 5, QZO_ERR_UNSUPPORTED,
         "general.architecture is \"gemma\", expected llama, qwen2 or qwen3"},
        {"general.architecture", 0, 4, 4, QZO_ERR_FORMAT, "cut off: a key"},
        {"qwen3.block_coun", 0, 'x', 1, QZO_ERR_UNSUPPORTED, "key qwen3.block_counx is not known"},
        {"qwen3.block_count", 4, 0, 4, QZO_ERR_FORMAT, "qwen3.block_count is 0"},
        {"qwen3.block_count", 4, UINT32_MAX, 4, QZO_ERR_FORMAT, "block_count is 4294967295"},
        {"qwen3.block_count", 0, 6, 4, QZO_ERR_FORMAT, "block_count: expected an integer"},
        {"qwen3.attention.head_count", 4, 0, 4, QZO_ERR_FORMAT, "head_count is 0"},
        {"qwen3.attention.value_length", 4, 16, 4, QZO_ERR_UNSUPPORTED,
         "value_length is 16, expected 32"},
        {"layer_norm_rms_epsilon", 4, 0x7fc00000, 4, QZO_ERR_FORMAT, "expected a finite number"},
        {"general.quantization_version", 4, 1, 4, QZO_ERR_UNSUPPORTED, "is 1, expected 2"},
        {"tokenizer.ggml.tokens", 4, 9, 4, QZO_ERR_UNSUPPORTED, "is a list of lists"},
        {"tokenizer.ggml.tokens", 8, UINT64_MAX, 8, QZO_ERR_LIMIT, "values of a list, at most"},
        {"tokenizer.ggml.tokens", 8, 1 << 20, 8, QZO_ERR_FORMAT, "cut off: 1048576 values"},
        {"tokenizer.ggml.tokens", 16, UINT64_MAX / 2, 8, QZO_ERR_FORMAT, "a text of a list"},
        {"tokenizer.ggml.b", SIZE_MAX, 0x65, 1, QZO_ERR_FORMAT, "eos_token_id stands twice"},
        {"blk.", 0, '7', 1, QZO_ERR_UNSUPPORTED, "is not known of this architecture"},
        {"blk.0.attn_q_norm.weigh", 0, 'T', 1, QZO_ERR_UNSUPPORTED, "weighT is not known"},
        {"blk.0.attn_q_norm.weight", 0, 0, 4, QZO_ERR_FORMAT, "rank 0, expected 1 to 4"},
        {"blk.0.attn_q_norm.weight", 0, 5, 4, QZO_ERR_FORMAT, "rank 5, expected 1 to 4"},
        {"blk.0.attn_", 0, 'k', 1, QZO_ERR_FORMAT, "attn_k.weight stands twice"},
        {"blk.0.ffn_up.weight", 4, 0, 8, QZO_ERR_FORMAT, "size 0 is 0: empty or too large"},
        {"blk.0.ffn_up.weight", 4, (uint64_t)1 << 62, 8, QZO_ERR_FORMAT, "empty or too large"},
        {"blk.0.ffn_up.weight", 12, UINT64_MAX, 8, QZO_ERR_FORMAT, "empty or too large"},
        {"blk.0.ffn_up.weight", 4, 33, 8, QZO_ERR_FORMAT, "rows of 33 are no whole blocks of 32"},
        {"blk.0.ffn_up.weight", 20, 3, 4, QZO_ERR_UNSUPPORTED, "is of type Q4_1 (3), expected"},
        {"blk.0.ffn_up.weight", 20, 4, 4, QZO_ERR_UNSUPPORTED, "is of type unknown (4)"},
        {"blk.0.ffn_up.weight", 20, 1 << 30, 4, QZO_ERR_UNSUPPORTED, "is of type unknown"},
        {"blk.0.ffn_up.weight", 24, 1, 8, QZO_ERR_FORMAT, "offset 1 is no multiple of 32"},
        {"blk.0.ffn_up.weight", 24, UINT64_MAX - 31, 8, QZO_ERR_FORMAT, "cut off: tensor"},
        {"blk.0.ffn_up.weight", 24, 0, 8, QZO_ERR_FORMAT, "overlap"},
        {"blk.0.attn_q_norm.weight", 12, 2, 4, QZO_ERR_UNSUPPORTED, "rank 1 of type Q4_0"},
    };
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) assert_refused(&edits[i]);
    assert_ok(parse(size_bytes));
}

/* general.alignment in the place of a key of as many letters, which is asked for later. */
static void wrong_alignments_are_refused(void **state) {
    (void)state;
    size_t place = behind("qwen3.block_count") - strlen("qwen3.block_count");
    const struct {
        uint64_t value;
        const char *message;
    } cases[] = {{0, "general.alignment is 0, expected 8 to"},
                 {24, "general.alignment is 24, expected a power of two"},
                 {UINT32_MAX, "general.alignment is 4294967295"}};
    memcpy(bytes + place, "general.alignment", 17);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(
            &(edit){"general.alignment", 4, cases[i].value, 4, QZO_ERR_FORMAT, cases[i].message});
    memcpy(bytes + place, "qwen3.block_count", 17);
}

static void cut_files_are_refused(void **state) {
    (void)state;
    size_t header_bytes = behind("output_norm.weight") + 256;
    for (size_t length = 0; length < header_bytes; length++)
        if (parse(length) == QZO_OK) fail_msg("%zu bytes of the file were taken", length);
    for (size_t missing = 1; missing < 4096; missing += 13)
        assert_fails(parse(size_bytes - missing), QZO_ERR_FORMAT, "cut off: tensor");
}

/* --- values --------------------------------------------------------------------------------- */

static const char *const fixtures[] = {"tiny-llama-q4_0", "llama-q4_k_m", "qwen2-q8_0",
                                       "qwen3-q4_0", "llama-f16"};
enum { FIXTURE_COUNT = sizeof fixtures / sizeof *fixtures };

static void open_fixture(qzo_model_dir **dir, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "gguf/%s/model.gguf", name);
    assert_ok(qzo_model_dir_open(dir, qzo_test_fixture(path)));
}

/* A linear layer of the first decoder layer. */
static void bind(qzo_qtensor *out, const qzo_model_dir *dir, const char *view_name, char *module) {
    const char *dot = strrchr(view_name, '.');
    const qzo_tensor_view *view = qzo_model_dir_find(dir, view_name);
    qzo_gguf_blocks blocks;
    bool is_blocks = qzo_gguf_model_blocks(&blocks, qzo_model_dir_gguf(dir, NULL), view);
    snprintf(module, 256, "%.*s", (int)(dot - view_name), view_name);
    assert_ok(qzo_qtensor_bind(out, dir, module, view->shape[0],
                               is_blocks ? blocks.in_features : view->shape[1]));
}

/* Changes every value of every linear layer to -1.5 times what it was. */
static void change_all(qzo_tensor_changes *changes, const qzo_model_dir *dir) {
    for (int64_t i = 0; i < qzo_model_dir_count(dir); i++) {
        const char *name = qzo_model_dir_at(dir, i)->name;
        char module[256];
        qzo_qtensor weight = {0};
        if (strstr(name, "_proj.") == NULL || strstr(name, ".bias") != NULL) continue;
        bind(&weight, dir, name, module);
        int64_t groups = weight.group_count > 0 ? weight.group_count : weight.in_features;
        float *values = calloc((size_t)(weight.out_features * groups), sizeof *values);
        assert_ok(weight.format->read_values(values, &weight));
        for (int64_t j = 0; j < weight.out_features * groups; j++) values[j] *= -1.5f;
        assert_ok(weight.format->write_values(changes, &weight, values));
        free(values);
        qzo_qtensor_release(&weight);
    }
}

/* Where a block of that type has the d that trains; SIZE_MAX: it is a float. */
static size_t place_of_d(qzo_gguf_type type) {
    switch (type) {
    case QZO_GGUF_Q4_0:
    case QZO_GGUF_Q8_0:
    case QZO_GGUF_Q4_K: return 0;
    case QZO_GGUF_Q6_K: return 208;
    default: return SIZE_MAX;
    }
}

/* Every block of a linear layer has another d and nothing else. */
static void assert_only_d_changed(const qzo_gguf *old, const qzo_gguf *new_file) {
    size_t old_bytes = 0, new_bytes = 0;
    const uint8_t *a = qzo_gguf_bytes(old, &old_bytes), *b = qzo_gguf_bytes(new_file, &new_bytes);
    assert_int_equal(old_bytes, new_bytes);
    uint8_t *expected = malloc(old_bytes);
    memcpy(expected, a, old_bytes);
    for (int64_t i = 0; i < qzo_gguf_count(old); i++) {
        const qzo_gguf_tensor_info *tensor = qzo_gguf_at(old, i);
        size_t d_at = place_of_d(tensor->type), begin = (size_t)(tensor->data - a);
        size_t block_bytes = (size_t)qzo_gguf_layouts[tensor->type].block_bytes;
        bool is_linear = strncmp(tensor->name, "blk.", 4) == 0 && tensor->rank == 2;
        if (!is_linear) continue;
        for (size_t at = 0; at < tensor->size_bytes; at += block_bytes) {
            uint8_t *d = expected + begin + at + (d_at != SIZE_MAX ? d_at : 0);
            float value = qzo_gguf_half(d);
            assert_true(qzo_tensor_float_put(d, QZO_DTYPE_F16, 0, -1.5f * value));
        }
    }
    for (size_t i = 0; i < old_bytes; i++)
        if (expected[i] != b[i]) fail_msg("byte %zu is %d, expected %d", i, b[i], expected[i]);
    free(expected);
}

/* Also where rows of q and k are in llama.cpp's order, as blocks and as floats. */
static void exports_change_d_alone(void **state) {
    (void)state;
    for (int i = 0; i < FIXTURE_COUNT; i++) {
        qzo_model_dir *dir = NULL;
        qzo_gguf *written = NULL;
        qzo_tensor_changes changes = {0};
        char *folder = qzo_test_folder_create(), *path = qzo_path_join(folder, "model.gguf");
        open_fixture(&dir, fixtures[i]);
        assert_ok(qzo_model_dir_write(dir, &changes, folder));
        assert_ok(qzo_gguf_open(&written, path));
        const qzo_gguf *file = qzo_gguf_model_file(qzo_model_dir_gguf(dir, NULL));
        size_t old_bytes = 0, new_bytes = 0;
        const uint8_t *a = qzo_gguf_bytes(file, &old_bytes),
                      *b = qzo_gguf_bytes(written, &new_bytes);
        assert_int_equal(old_bytes, new_bytes);
        assert_memory_equal(a, b, old_bytes);
        qzo_gguf_close(written);
        change_all(&changes, dir);
        assert_ok(qzo_model_dir_write(dir, &changes, folder));
        assert_ok(qzo_gguf_open(&written, path));
        assert_only_d_changed(file, written);
        qzo_gguf_close(written);
        qzo_tensor_changes_release(&changes);
        qzo_model_dir_close(dir);
        qzo_test_folder_remove(folder);
        free(path);
    }
}

/* Q4_0 and Q6_K have scales of both signs, and each keeps its own. */
static void scales_have_both_signs(void **state) {
    (void)state;
    qzo_model_dir *dir = NULL;
    qzo_qtensor weight = {0};
    char module[256];
    float values[64];
    int negative = 0, positive = 0;
    open_fixture(&dir, "llama-q4_k_m");
    bind(&weight, dir, "model.layers.0.self_attn.v_proj.q6_k", module);
    assert_int_equal(weight.out_features * weight.group_count, 32);
    assert_int_equal(weight.format->constraint, QZO_CONSTRAINT_KEEP_SIGN);
    assert_ok(weight.format->read_values(values, &weight));
    for (int i = 0; i < 32; i++) {
        negative += values[i] < 0.0f;
        positive += values[i] > 0.0f;
    }
    assert_true(negative > 5 && positive > 5);
    qzo_qtensor_release(&weight);
    qzo_model_dir_close(dir);
}

/* The smallest d of a file is below the default floor, and stays where a step does not move it;
 * above it a trial may have another. */
static void the_smallest_scale_stays(void **state) {
    (void)state;
    static const struct {
        const char *floor;
        float kept;
    } cases[] = {{"1e-7", -0x1p-24f}, {"1e-3", -1e-3f}};
    const qzo_backend_options options = {.thread_count = 1};
    const qzo_gain still = {.seed = 1};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qzo_backend *backend = NULL;
        qzo_workbench bench;
        qzo_trial_spec spec;
        float value = -0x1p-24f;
        qzo_trial_spec_defaults(&spec);
        spec.model_path = strdup(qzo_test_fixture("gguf/qwen3-q4_0"));
        assert_ok(qzo_setting_read(&spec, qzo_setting_find("floor"), cases[i].floor));
        assert_ok(qzo_trial_spec_complete(&spec));
        assert_ok(qzo_backend_open(&backend, "cpu", &options));
        qzo_workbench_init(&bench, backend);
        assert_ok(qzo_workbench_load_for(&bench, &spec));
        assert_ok(qzo_workbench_reset(&bench, &spec));
        assert_int_equal(bench.spans[0].constraint, QZO_CONSTRAINT_KEEP_SIGN);
        const qzo_update_values values = {.masters = bench.masters};
        float *first = bench.masters + bench.spans[0].offset;
        assert_ok(backend->ops->upload(backend, first, &value, sizeof value));
        assert_ok(backend->ops->update(backend, &values, bench.spans, 1, &still, 1,
                                       QZO_DIRECTIONS_GAUSSIAN, NULL));
        assert_ok(backend->ops->download(backend, &value, first, sizeof value));
        if (value != cases[i].kept)
            fail_msg("floor %s: %g became %g", cases[i].floor, (double)-0x1p-24f, (double)value);
        qzo_workbench_release(&bench);
        qzo_backend_close(backend);
        qzo_trial_spec_release(&spec);
    }
}

/* A scale that is not finite is found when the model is loaded, one that is too large for fp16 when
 * it is written. */
static void scales_without_a_number_are_refused(void **state) {
    (void)state;
    qzo_model_dir *dir = NULL;
    qzo_qtensor weight = {0};
    qzo_tensor_changes changes = {0};
    char module[256], *folder = qzo_test_folder_create(), *path = qzo_path_join(folder, "x.gguf");
    float values[192];
    qzo_gguf_model *model = NULL;
    assert_ok(qzo_gguf_model_parse(&model, bytes, size_bytes, "x.gguf"));
    const qzo_gguf_tensor_info *up =
        qzo_gguf_find(qzo_gguf_model_file(model), "blk.0.ffn_up.weight");
    size_t place = (size_t)(up->data - bytes) + 18 * 5;
    uint8_t kept = bytes[place + 1];
    qzo_gguf_model_close(model);
    bytes[place + 1] = 0x7c;
    qzo_test_file_write(path, bytes, size_bytes);
    bytes[place + 1] = kept;
    assert_ok(qzo_model_dir_open(&dir, folder)); /* the only file of its folder */
    bind(&weight, dir, "model.layers.0.mlp.up_proj.q4_0", module);
    assert_fails(weight.format->read_values(values, &weight), QZO_ERR_FORMAT,
                 "up_proj.q4_0: the scale of row 2, block 1 is not finite");
    for (int i = 0; i < 192; i++) values[i] = i == 7 ? -65520.0f : 1.0f;
    assert_fails(weight.format->write_values(&changes, &weight, values), QZO_ERR_LIMIT,
                 "row 3, block 1 is -65520, too large for F16");
    assert_int_equal(changes.count, 0);
    qzo_qtensor_release(&weight);
    qzo_model_dir_close(dir);
    qzo_test_folder_remove(folder);
    free(path);
}

/* What a file has no place for is named, and no file is written. */
static void changes_without_a_place_are_refused(void **state) {
    (void)state;
    qzo_model_dir *dir = NULL;
    char *folder = qzo_test_folder_create(), *path = qzo_path_join(folder, "model.gguf");
    const struct {
        qzo_tensor_view view;
        const char *message;
    } cases[] = {
        {{.name = "model.other", .rank = 1, .shape = {4}, .dtype = QZO_DTYPE_U8},
         "no place for tensor model.other"},
        {{.name = "model.norm.weight", .rank = 1, .shape = {4}, .dtype = QZO_DTYPE_F32},
         "model.norm.weight: a GGUF file keeps its types and sizes"},
        {{.name = "model.norm.weight", .rank = 1, .shape = {128}, .dtype = QZO_DTYPE_F16},
         "keeps its types and sizes"},
    };
    open_fixture(&dir, "qwen3-q4_0");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qzo_tensor_changes changes = {0};
        qzo_tensor_view view = cases[i].view;
        view.data = calloc(1, 512);
        assert_ok(qzo_tensor_changes_put(&changes, &view));
        assert_fails(qzo_model_dir_write(dir, &changes, folder), QZO_ERR_UNSUPPORTED,
                     cases[i].message);
        FILE *file = fopen(path, "rb");
        assert_null(file);
        qzo_tensor_changes_release(&changes);
    }
    qzo_model_dir_close(dir);
    qzo_test_folder_remove(folder);
    free(path);
}

/* A delta's tensor stands for the file's own, which says how many bytes are read of it. */
static void a_delta_of_other_tensors_is_refused(void **state) {
    (void)state;
    static const char name[] = "model.layers.0.mlp.up_proj.q4_0";
    qzo_model_dir *dir = NULL;
    char *folder = qzo_test_folder_create(), *path = qzo_path_join(folder, "model.safetensors");
    open_fixture(&dir, "qwen3-q4_0");
    const qzo_tensor_view *own = qzo_model_dir_find(dir, name);
    assert_non_null(own);
    const struct {
        qzo_dtype dtype;
        int64_t rows, columns;
        const char *message;
    } cases[] = {
        {QZO_DTYPE_U8, own->shape[0] / 2, own->shape[1], "found U8 of rank 2 and"},
        {QZO_DTYPE_U8, own->shape[0] * 2, own->shape[1] / 2, "up_proj.q4_0: expected U8"},
        {QZO_DTYPE_F16, own->shape[0] / 2, own->shape[1], "found F16 of rank 2 and"},
        {QZO_DTYPE_U8, own->shape[0], own->shape[1], NULL},
    };
    uint8_t *data = calloc(1, 2 * own->size_bytes);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qzo_safetensors *delta = NULL;
        int64_t count = cases[i].rows * cases[i].columns;
        const qzo_tensor_view view = {.name = name,
                                      .dtype = cases[i].dtype,
                                      .rank = 2,
                                      .shape = {cases[i].rows, cases[i].columns},
                                      .count = count,
                                      .data = data,
                                      .size_bytes =
                                          (size_t)count * qzo_dtype_bytes(cases[i].dtype)};
        const qzo_tensor_view *views[] = {&view};
        assert_ok(qzo_safetensors_write(path, views, 1, NULL));
        assert_ok(qzo_safetensors_open(&delta, path));
        if (cases[i].message != NULL) {
            assert_fails(qzo_model_dir_overlay(dir, delta), QZO_ERR_FORMAT, cases[i].message);
            assert_ptr_equal(qzo_model_dir_find(dir, name), own);
        } else {
            assert_ok(qzo_model_dir_overlay(dir, delta));
            assert_ptr_equal(qzo_model_dir_find(dir, name), qzo_safetensors_at(delta, 0));
        }
        qzo_safetensors_close(delta);
    }
    free(data);
    qzo_model_dir_close(dir);
    qzo_test_folder_remove(folder);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(wrong_fields_are_refused, load, unload),
        cmocka_unit_test_setup_teardown(wrong_alignments_are_refused, load, unload),
        cmocka_unit_test_setup_teardown(cut_files_are_refused, load, unload),
        cmocka_unit_test(exports_change_d_alone),
        cmocka_unit_test(scales_have_both_signs),
        cmocka_unit_test(the_smallest_scale_stays),
        cmocka_unit_test_setup_teardown(scales_without_a_number_are_refused, load, unload),
        cmocka_unit_test(changes_without_a_place_are_refused),
        cmocka_unit_test(a_delta_of_other_tensors_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
