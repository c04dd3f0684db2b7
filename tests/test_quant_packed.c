/* Integer weights that are laid out anew at load: small files of our own decode by the definitions
 * of AWQ and compressed-tensors, wherever their data lies; sizes and values, with their signs, are
 * known before that. */
#include "tensor_writer.h"

#include "weights/quant.h"

#include <stdio.h>

enum { OUTPUTS = 16, INPUTS = 32, GROUPS = 2, GROUP = INPUTS / GROUPS, CODES = 8 };

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

/* What the weight is made of, in terms of no format. */
static int code_of(int output, int input) { return (7 * output + 5 * input + output * input) % 16; }

static int zero_of(int output, int group) { return (3 * output + 11 * group) % 16; }

static float scale_of(int output, int group) {
    return (output % 3 == 1 ? -0.125f : 0.25f) * (float)(1 + output + group);
}

typedef float weight_values[OUTPUTS][INPUTS];

static void expect(weight_values out, const int32_t *group_of_input) {
    for (int o = 0; o < OUTPUTS; o++)
        for (int i = 0; i < INPUTS; i++) {
            int group = group_of_input != NULL ? group_of_input[i] : i / GROUP;
            out[o][i] = scale_of(o, group) * (float)(code_of(o, i) - zero_of(o, group));
        }
}

/* Binds m and decodes it whole; what can be known before it is laid out anew is asked before. */
static void decode(weight_values out) {
    qzo_model_dir *dir = NULL;
    qzo_qtensor weight = {0};
    float values[OUTPUTS * GROUPS];
    assert_ok(qzo_model_dir_open(&dir, folder));
    assert_ok(qzo_qtensor_bind(&weight, dir, "m", OUTPUTS, INPUTS));
    assert_null(weight.owned);
    assert_true(qzo_qtensor_repacked_bytes(&weight) >= OUTPUTS * INPUTS / 2);
    assert_int_equal(weight.group_count, GROUPS);
    assert_ok(weight.format->read_values(values, &weight));
    for (int o = 0; o < OUTPUTS; o++)
        for (int g = 0; g < GROUPS; g++) assert_true(values[o * GROUPS + g] == scale_of(o, g));
    assert_ok(qzo_qtensor_repack(&weight));
    const void *owned = weight.owned;
    assert_ok(qzo_qtensor_repack(&weight)); /* a second time does nothing */
    assert_ptr_equal(weight.owned, owned);
    for (int o = 0; o < OUTPUTS; o++)
        weight.format->decode_row(out[o], &weight, o, values + o * GROUPS);
    qzo_qtensor_release(&weight);
    qzo_model_dir_close(dir);
}

static void save(tensor_writer *writer, const char *config, size_t shift) {
    char *path = qzo_path_join(folder, "model.safetensors");
    tensor_folder_write(folder, "config.json", config);
    tensor_writer_save(writer, path, shift);
    free(path);
    free(writer);
}

static void assert_same_weight(weight_values found, weight_values expected) {
    for (int o = 0; o < OUTPUTS; o++)
        for (int i = 0; i < INPUTS; i++)
            if (found[o][i] != expected[o][i])
                fail_msg("[%d][%d] is %g, expected %g", o, i, (double)found[o][i],
                         (double)expected[o][i]);
}

/* --- AWQ --- */

/* Field i of a word belongs to this output of its eight. */
static const int awq_place[CODES] = {0, 2, 4, 6, 1, 3, 5, 7};

static void awq_write(size_t shift) {
    uint32_t codes[INPUTS][OUTPUTS / CODES] = {{0}}, zeros[GROUPS][OUTPUTS / CODES] = {{0}};
    float scales[GROUPS][OUTPUTS];
    for (int o = 0; o < OUTPUTS; o++) {
        int field = 0;
        while (awq_place[field] != o % CODES) field++;
        for (int i = 0; i < INPUTS; i++)
            codes[i][o / CODES] |= (uint32_t)code_of(o, i) << (4 * field);
        for (int g = 0; g < GROUPS; g++) {
            zeros[g][o / CODES] |= (uint32_t)zero_of(o, g) << (4 * field);
            scales[g][o] = scale_of(o, g);
        }
    }
    tensor_writer *writer = tensor_writer_create();
    tensor_writer_add(writer, "m.qweight", "I32", "32,2", codes, sizeof codes);
    tensor_writer_add(writer, "m.qzeros", "I32", "2,2", zeros, sizeof zeros);
    tensor_writer_add(writer, "m.scales", "F32", "2,16", scales, sizeof scales);
    save(writer,
         "{\"quantization_config\": {\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 16, "
         "\"version\": \"GEMM\"}}",
         shift);
}

static void awq_values_follow_the_definition(void **state) {
    (void)state;
    weight_values found, expected;
    expect(expected, NULL);
    for (size_t shift = 0; shift < 8; shift++) {
        awq_write(shift);
        decode(found);
        assert_same_weight(found, expected);
    }
}

/* --- compressed-tensors --- */

static const char compressed_config[] =
    "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"config_groups\": "
    "{\"group_0\": {\"weights\": {\"num_bits\": 4}}}}}";

static void compressed_write(const int32_t *group_of_input, size_t shift) {
    uint32_t codes[OUTPUTS][INPUTS / CODES] = {{0}}, zeros[OUTPUTS / CODES][GROUPS] = {{0}};
    float scales[OUTPUTS][GROUPS];
    const int64_t shape[] = {OUTPUTS, INPUTS};
    for (int o = 0; o < OUTPUTS; o++) {
        for (int i = 0; i < INPUTS; i++)
            codes[o][i / CODES] |= (uint32_t)code_of(o, i) << (4 * (i % CODES));
        for (int g = 0; g < GROUPS; g++) {
            zeros[o / CODES][g] |= (uint32_t)zero_of(o, g) << (4 * (o % CODES));
            scales[o][g] = scale_of(o, g);
        }
    }
    tensor_writer *writer = tensor_writer_create();
    tensor_writer_add(writer, "m.weight_packed", "I32", "16,4", codes, sizeof codes);
    tensor_writer_add(writer, "m.weight_zero_point", "I32", "2,2", zeros, sizeof zeros);
    tensor_writer_add(writer, "m.weight_scale", "F32", "16,2", scales, sizeof scales);
    tensor_writer_add(writer, "m.weight_shape", "I64", "2", shape, sizeof shape);
    if (group_of_input != NULL)
        tensor_writer_add(writer, "m.weight_g_idx", "I32", "32", group_of_input,
                          INPUTS * sizeof *group_of_input);
    save(writer, compressed_config, shift);
}

static void compressed_values_follow_the_definition(void **state) {
    (void)state;
    int32_t mixed[INPUTS];
    weight_values found, expected;
    for (int i = 0; i < INPUTS; i++) mixed[i] = i % 3 == 0;
    for (int is_mixed = 0; is_mixed < 2; is_mixed++) {
        const int32_t *groups = is_mixed ? mixed : NULL;
        expect(expected, groups);
        for (size_t shift = 0; shift < 8; shift++) {
            compressed_write(groups, shift);
            decode(found);
            assert_same_weight(found, expected);
        }
    }
}

#define folder_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        folder_test(awq_values_follow_the_definition),
        folder_test(compressed_values_follow_the_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
