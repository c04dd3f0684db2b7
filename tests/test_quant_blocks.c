/* bitsandbytes and AQLM weights: small files of our own decode by their definitions, a wrong one is
 * refused by the name of the tensor, and changed values are written as the libraries read them. */
#include "tensor_writer.h"

#include "base/half.h"
#include "weights/quant.h"

#include <math.h>
#include <stdio.h>

enum { OUTPUTS = 4, INPUTS = 64, BLOCK = 32, BLOCKS = OUTPUTS * INPUTS / BLOCK };
enum { GROUP = 8, ENTRIES = 256, CODEBOOKS = 2, CODES = OUTPUTS * INPUTS / GROUP * CODEBOOKS };

static char *folder;

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

/* --- bitsandbytes --- */

typedef struct bnb_file { /* what is written; tests change it first */
    const char *state, *state_type;
    const char *codes_type, *codes_shape, *map_shape;
    const char *absmax_type, *absmax_shape; /* NULL: left out */
    bool is_nested;
    float map[16], absmax[BLOCKS], nested_absmax[1], nested_map[256];
    size_t shift;
} bnb_file;

static const char plain_state[] =
    "{\"quant_type\": \"nf4\", \"blocksize\": 32, \"shape\": [4, 64]}";
static const char nested_state[] =
    "{\"quant_type\": \"nf4\", \"blocksize\": 32, \"shape\": [4, 64], \"dtype\": \"float16\", "
    "\"nested_blocksize\": 256, \"nested_dtype\": \"float32\", \"nested_offset\": 0.25}";

static bnb_file bnb_default(bool is_nested) {
    bnb_file file = {.state = is_nested ? nested_state : plain_state,
                     .state_type = "U8",
                     .codes_type = "U8",
                     .codes_shape = "128,1",
                     .map_shape = "16",
                     .absmax_type = is_nested ? "U8" : "F32",
                     .absmax_shape = "8",
                     .is_nested = is_nested,
                     .nested_absmax = {2.0f}};
    for (int i = 0; i < 16; i++) file.map[i] = (float)(i - 7) / 8.0f;
    for (int i = 0; i < BLOCKS; i++) file.absmax[i] = 0.5f + (float)i;
    for (int i = 0; i < 256; i++) file.nested_map[i] = (float)i / 128.0f;
    return file;
}

static void bnb_write(const bnb_file *file) {
    tensor_writer *writer = tensor_writer_create();
    char *path = qzo_path_join(folder, "model.safetensors"), shape[32];
    uint8_t codes[OUTPUTS * INPUTS / 2], small[BLOCKS];
    for (int i = 0; i < OUTPUTS * INPUTS / 2; i++) codes[i] = (uint8_t)(37 * i);
    for (int i = 0; i < BLOCKS; i++) small[i] = (uint8_t)(16 * i);
    tensor_folder_write(folder, "config.json", "{}");
    tensor_writer_add(writer, "m.weight", file->codes_type, file->codes_shape, codes, sizeof codes);
    tensor_writer_add(writer, "m.weight.quant_map", "F32", file->map_shape, file->map,
                      sizeof file->map);
    if (file->absmax_shape != NULL)
        tensor_writer_add(writer, "m.weight.absmax", file->absmax_type, file->absmax_shape,
                          file->is_nested ? (const void *)small : file->absmax,
                          file->is_nested ? sizeof small : sizeof file->absmax);
    if (file->is_nested) {
        tensor_writer_add(writer, "m.weight.nested_absmax", "F32", "1", file->nested_absmax,
                          sizeof file->nested_absmax);
        tensor_writer_add(writer, "m.weight.nested_quant_map", "F32", "256", file->nested_map,
                          sizeof file->nested_map);
    }
    snprintf(shape, sizeof shape, "%zu", strlen(file->state));
    tensor_writer_add(writer, "m.weight.quant_state.bitsandbytes__nf4", file->state_type, shape,
                      file->state, strlen(file->state));
    tensor_writer_save(writer, path, file->shift);
    free(path);
    free(writer);
}

/* Binds m and decodes it whole. */
static qzo_status decode(float out[OUTPUTS][INPUTS]) {
    qzo_status status = QZO_OK;
    qzo_model_dir *dir = NULL;
    qzo_qtensor weight = {0};
    float values[BLOCKS];
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

static void bnb_values_follow_the_definition(void **state) {
    (void)state;
    float out[OUTPUTS][INPUTS];
    for (int nested = 0; nested < 2; nested++)
        for (size_t shift = 0; shift < 8; shift++) {
            bnb_file file = bnb_default(nested != 0);
            file.shift = shift;
            bnb_write(&file);
            assert_ok(decode(out));
            for (int i = 0; i < OUTPUTS * INPUTS; i++) {
                const int byte = (uint8_t)(37 * (i / 2)), block = i / BLOCK;
                const float level = file.map[i % 2 == 0 ? byte / 16 : byte % 16];
                const float absmax =
                    nested != 0 ? file.nested_map[16 * block] * 2.0f + 0.25f : file.absmax[block];
                assert_true(out[i / INPUTS][i % INPUTS] == level * absmax);
            }
        }
}

static void assert_bnb_refused(const bnb_file *file, qzo_status expected, const char *message) {
    float out[OUTPUTS][INPUTS];
    bnb_write(file);
    assert_fails(decode(out), expected, message);
}

static void wrong_bnb_states_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *state, *message;
        qzo_status status;
    } cases[] = {
        {"{\"shape\": [4, 64]}", "\"blocksize\" is missing", QZO_ERR_FORMAT},
        {"{\"blocksize\": 0, \"shape\": [4, 64]}", "found 0", QZO_ERR_FORMAT},
        {"{\"blocksize\": -64, \"shape\": [4, 64]}", "found -64", QZO_ERR_FORMAT},
        {"{\"blocksize\": 48, \"shape\": [4, 64]}", "must be a power of two, found 48",
         QZO_ERR_FORMAT},
        {"{\"blocksize\": 128, \"shape\": [4, 64]}", "blocks of 128 inputs cross the rows",
         QZO_ERR_UNSUPPORTED},
        {"{\"blocksize\": 32, \"shape\": [64, 4]}", "expected \"shape\" [4, 64], found [64, 4]",
         QZO_ERR_FORMAT},
        {"{\"blocksize\": 32}", "expected \"shape\" [4, 64]", QZO_ERR_FORMAT},
        {"{\"blocksize\": 32, \"shape\": [4, 64], \"nested_blocksize\": 3}", "nested_blocksize",
         QZO_ERR_FORMAT},
        {"{\"blocksize\": 32, \"shape\": [4, 64], \"nested_blocksize\": 256}", "nested_offset",
         QZO_ERR_FORMAT},
        {"{", "m.weight.quant_state.bitsandbytes__nf4", QZO_ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bnb_file file = bnb_default(false);
        file.state = cases[i].state;
        assert_bnb_refused(&file, cases[i].status, cases[i].message);
    }
}

static void wrong_bnb_tensors_are_refused_by_name(void **state) {
    (void)state;
    bnb_file file = bnb_default(false);
    file.codes_type = "I8";
    assert_bnb_refused(&file, QZO_ERR_FORMAT, "tensor m.weight: expected U8, found I8");
    file = bnb_default(false);
    file.state_type = "I8";
    assert_bnb_refused(&file, QZO_ERR_FORMAT, "bitsandbytes__nf4: expected U8, found I8");
    file = bnb_default(false);
    file.absmax_shape = NULL;
    assert_bnb_refused(&file, QZO_ERR_FORMAT, "tensor m.weight.absmax is missing");
    file = bnb_default(false);
    file.absmax_type = "I32";
    assert_bnb_refused(&file, QZO_ERR_FORMAT, "m.weight.absmax: expected F32, found I32");
    file = bnb_default(true);
    file.state = plain_state;
    assert_bnb_refused(&file, QZO_ERR_FORMAT, "m.weight.absmax: expected F32, found U8");
    file = bnb_default(false);
    file.state = nested_state;
    assert_bnb_refused(&file, QZO_ERR_FORMAT, "m.weight.absmax: expected U8, found F32");
    file = bnb_default(false);
    file.absmax[5] = NAN;
    assert_bnb_refused(&file, QZO_ERR_FORMAT, "the absmax of row 2, block 1 is not finite");
    file = bnb_default(true);
    file.nested_absmax[0] = INFINITY;
    assert_bnb_refused(&file, QZO_ERR_FORMAT, "the absmax of row 0, block 0 is not finite");
    file = bnb_default(false);
    file.map[3] = NAN;
    assert_bnb_refused(&file, QZO_ERR_FORMAT, "tensor m.weight.quant_map: element 3 is not finite");
}

/* Changed values go out in fp32; what described a quantized absmax leaves. */
static void bnb_values_are_written_plainly(void **state) {
    (void)state;
    const float values[BLOCKS] = {1.1f, 2.2f, 3.3f, 4.4f, 5.5f, 6.6f, 7.7f, 8.8f};
    qzo_model_dir *dir = NULL;
    qzo_qtensor weight = {0};
    qzo_tensor_changes changes = {0};
    const bnb_file file = bnb_default(true);
    bnb_write(&file);
    assert_ok(qzo_model_dir_open(&dir, folder));
    assert_ok(qzo_qtensor_bind(&weight, dir, "m", OUTPUTS, INPUTS));
    assert_ok(weight.format->write_values(&changes, &weight, values));
    const qzo_tensor_view *absmax = qzo_tensor_changes_find(&changes, "m.weight.absmax");
    assert_int_equal(absmax->dtype, QZO_DTYPE_F32);
    assert_memory_equal(absmax->data, values, sizeof values);
    assert_null(qzo_tensor_changes_find(&changes, "m.weight.nested_absmax")->data);
    assert_null(qzo_tensor_changes_find(&changes, "m.weight.nested_quant_map")->data);
    const qzo_tensor_view *plain =
        qzo_tensor_changes_find(&changes, "m.weight.quant_state.bitsandbytes__nf4");
    assert_null(memmem(plain->data, plain->size_bytes, "nested", strlen("nested")));
    assert_non_null(memmem(plain->data, plain->size_bytes, "float16", strlen("float16")));
    qzo_tensor_changes_release(&changes);
    qzo_qtensor_release(&weight);
    qzo_model_dir_close(dir);
}

/* --- AQLM --- */

typedef struct aqlm_file {
    const char *codes_type, *codes_shape, *codebooks_type, *codebooks_shape, *scales_shape;
    uint16_t codebooks[CODEBOOKS * ENTRIES * GROUP], scales[OUTPUTS];
    size_t shift;
} aqlm_file;

static float entry_of(int codebook, int entry, int place) {
    return (float)(entry - 100 * codebook) / 4.0f + (float)place;
}

static aqlm_file aqlm_default(void) {
    aqlm_file file = {.codes_type = "I8",
                      .codes_shape = "4,8,2",
                      .codebooks_type = "F16",
                      .codebooks_shape = "2,256,1,8",
                      .scales_shape = "4,1,1,1"};
    for (int i = 0; i < CODEBOOKS * ENTRIES * GROUP; i++)
        file.codebooks[i] =
            qzo_float_to_fp16(entry_of(i / (ENTRIES * GROUP), i / GROUP % ENTRIES, i % GROUP));
    for (int i = 0; i < OUTPUTS; i++) file.scales[i] = qzo_float_to_fp16(i % 2 ? -0.5f : 2.0f);
    return file;
}

static void aqlm_write(const aqlm_file *file) {
    tensor_writer *writer = tensor_writer_create();
    char *path = qzo_path_join(folder, "model.safetensors");
    uint8_t codes[CODES];
    for (int i = 0; i < CODES; i++) codes[i] = (uint8_t)(91 * i);
    tensor_folder_write(folder, "config.json", "{}");
    tensor_writer_add(writer, "m.codes", file->codes_type, file->codes_shape, codes, sizeof codes);
    tensor_writer_add(writer, "m.codebooks", file->codebooks_type, file->codebooks_shape,
                      file->codebooks, sizeof file->codebooks);
    if (file->scales_shape != NULL)
        tensor_writer_add(writer, "m.scales", "F16", file->scales_shape, file->scales,
                          sizeof file->scales);
    tensor_writer_save(writer, path, file->shift);
    free(path);
    free(writer);
}

static void aqlm_values_follow_the_definition(void **state) {
    (void)state;
    float out[OUTPUTS][INPUTS];
    for (size_t shift = 0; shift < 8; shift++) {
        aqlm_file file = aqlm_default();
        file.shift = shift;
        aqlm_write(&file);
        assert_ok(decode(out));
        for (int i = 0; i < OUTPUTS * INPUTS; i++) {
            const int first = (uint8_t)(91 * (i / GROUP * 2));
            const int second = (uint8_t)(91 * (i / GROUP * 2 + 1));
            const float sum = entry_of(0, first, i % GROUP) + entry_of(1, second, i % GROUP);
            assert_true(out[i / INPUTS][i % INPUTS] == sum * (i / INPUTS % 2 ? -0.5f : 2.0f));
        }
    }
}

static void assert_aqlm_refused(const aqlm_file *file, qzo_status expected, const char *message) {
    float out[OUTPUTS][INPUTS];
    aqlm_write(file);
    assert_fails(decode(out), expected, message);
}

static void wrong_aqlm_tensors_are_refused_by_name(void **state) {
    (void)state;
    aqlm_file file = aqlm_default();
    file.codes_type = "U8";
    assert_aqlm_refused(&file, QZO_ERR_FORMAT, "tensor m.codes: expected I8, found U8");
    file = aqlm_default();
    file.codes_type = "I16";
    file.codes_shape = "4,8,1";
    assert_aqlm_refused(&file, QZO_ERR_FORMAT, "tensor m.codes: expected I8, found I16");
    file = aqlm_default();
    file.codebooks_shape = "1,512,1,8";
    assert_aqlm_refused(&file, QZO_ERR_UNSUPPORTED, "tensor m.codebooks: expected the shape");
    file = aqlm_default();
    file.codebooks_shape = "4,256,1,4";
    assert_aqlm_refused(&file, QZO_ERR_UNSUPPORTED, "tensor m.codebooks: expected the shape");
    file = aqlm_default();
    file.codebooks_type = "I16";
    assert_aqlm_refused(&file, QZO_ERR_UNSUPPORTED, "m.codebooks: expected F16 or BF16");
    file = aqlm_default();
    file.scales_shape = NULL;
    assert_aqlm_refused(&file, QZO_ERR_FORMAT, "tensor m.scales is missing");
    file = aqlm_default();
    file.scales[2] = 0x7e00; /* NaN */
    assert_aqlm_refused(&file, QZO_ERR_FORMAT,
                        "tensor m.scales: the scale of row 2, group 0 is not finite");
    file = aqlm_default();
    file.codebooks[4095] = 0x7c00; /* infinity */
    assert_aqlm_refused(&file, QZO_ERR_FORMAT, "tensor m.codebooks: element 4095 is not finite");
}

#define folder_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        folder_test(bnb_values_follow_the_definition),
        folder_test(wrong_bnb_states_are_refused),
        folder_test(wrong_bnb_tensors_are_refused_by_name),
        folder_test(bnb_values_are_written_plainly),
        folder_test(aqlm_values_follow_the_definition),
        folder_test(wrong_aqlm_tensors_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
