/* Weights quantized at load: codes and absmax are those that bitsandbytes makes on a CPU, bit for
 * bit, of every type of checkpoint, whatever the number of threads; the result decodes as a tensor
 * of its files does, and what cannot be quantized is refused. */
#include "test_support.h"

#include "weights/bnb_quantize.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 24, COLUMNS = 128, BLOCK = 64, NAME_BYTES = 64 };

static const char *const types[] = {"F16", "BF16", "F32"};

static qzo_safetensors *file;

static int setup(void **state) {
    (void)state;
    return qzo_safetensors_open(&file, qzo_test_fixture("bnb-codes.safetensors")) != QZO_OK;
}

static int teardown(void **state) {
    (void)state;
    qzo_safetensors_close(file);
    return 0;
}

static const qzo_tensor_view *recorded(const char *a, const char *b, const char *c) {
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s%s%s%s%s", a, b[0] ? "." : "", b, c[0] ? "." : "", c);
    const qzo_tensor_view *view = qzo_safetensors_find(file, name);
    if (view == NULL) fail_msg("bnb-codes.safetensors has no tensor %s", name);
    return view;
}

static qzo_qtensor dense_of(const qzo_tensor_view *view) {
    return (qzo_qtensor){.format = &qzo_quant_dense,
                         .name = "model.layers.0.mlp.up_proj",
                         .out_features = view->shape[0],
                         .in_features = view->shape[1],
                         .span = QZO_SPAN_NONE,
                         .as.dense = *view};
}

static void codes_equal_bitsandbytes(void **state) {
    (void)state;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int k = 0; qzo_bnb_kinds[k] != NULL; k++)
            for (int threads = 1; threads <= 3; threads += 2) {
                const qzo_bnb_kind *kind = qzo_bnb_kinds[k];
                const qzo_tensor_view *codes = recorded(types[t], kind->name, "codes");
                const qzo_tensor_view *absmax = recorded(types[t], kind->name, "absmax");
                qzo_qtensor tensor = dense_of(recorded(types[t], "weight", ""));
                assert_ok(qzo_bnb_quantize(&tensor, kind, threads));
                assert_ptr_equal(tensor.format, &qzo_quant_bnb);
                assert_int_equal(tensor.group_count, COLUMNS / BLOCK);
                assert_int_equal(codes->size_bytes, ROWS * COLUMNS / 2);
                for (size_t i = 0; i < codes->size_bytes; i++)
                    if (tensor.as.bnb.codes[i] != codes->data[i])
                        fail_msg("%s as %s, codes %zu: expected %02x, found %02x", types[t],
                                 kind->name, 2 * i, codes->data[i], tensor.as.bnb.codes[i]);
                assert_memory_equal(tensor.as.bnb.absmax.data, absmax->data, absmax->size_bytes);
                assert_memory_equal(tensor.as.bnb.levels,
                                    recorded(kind->name, "quant_map", "")->data,
                                    sizeof kind->levels);
                qzo_qtensor_release(&tensor);
            }
}

/* bounds and code_of follow from the levels. */
static void tables_follow_from_the_levels(void **state) {
    (void)state;
    for (int k = 0; qzo_bnb_kinds[k] != NULL; k++) {
        const qzo_bnb_kind *kind = qzo_bnb_kinds[k];
        for (int i = 0; i < 15; i++) {
            float low = kind->levels[kind->code_of[i]], high = kind->levels[kind->code_of[i + 1]];
            assert_true(low <= high && kind->bounds[i] == (low + high) / 2.0f);
        }
    }
}

static void values_are_levels_times_absmax(void **state) {
    (void)state;
    qzo_qtensor tensor = dense_of(recorded("F16", "weight", ""));
    float values[ROWS * COLUMNS / BLOCK], row[COLUMNS];
    assert_ok(qzo_bnb_quantize(&tensor, qzo_bnb_kind_find("nf4"), 1));
    assert_ok(tensor.format->read_values(values, &tensor));
    const qzo_tensor_view *codes = recorded("F16", "nf4", "codes");
    const qzo_tensor_view *levels = recorded("nf4", "quant_map", "");
    const qzo_tensor_view *absmax = recorded("F16", "nf4", "absmax");
    for (int64_t r = 0; r < ROWS; r++) {
        tensor.format->decode_row(row, &tensor, r, values + r * (COLUMNS / BLOCK));
        for (int64_t c = 0; c < COLUMNS; c++) {
            int64_t at = r * COLUMNS + c;
            int code = c % 2 == 0 ? codes->data[at / 2] >> 4 : codes->data[at / 2] & 15;
            float expected =
                qzo_tensor_float_at(levels, code) * qzo_tensor_float_at(absmax, at / BLOCK);
            assert_true(row[c] == expected);
        }
    }
    qzo_qtensor_release(&tensor);
}

static void what_has_no_absmax_is_refused(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    float values[2 * 128];
    qzo_tensor_view view = {.name = "w.weight",
                            .dtype = QZO_DTYPE_F32,
                            .rank = 2,
                            .shape = {2, 128},
                            .count = 256,
                            .data = (const uint8_t *)values,
                            .size_bytes = sizeof values};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        for (int j = 0; j < 256; j++) values[j] = 0.5f;
        values[128 + 64 + 3] = bad[i];
        qzo_qtensor tensor = dense_of(&view);
        assert_fails(qzo_bnb_quantize(&tensor, qzo_bnb_kinds[0], 2), QZO_ERR_FORMAT,
                     "w.weight: a value of row 1, columns 64 to 127 is not finite");
    }
    view.shape[1] = 96;
    view.count = 192;
    qzo_qtensor tensor = dense_of(&view);
    assert_fails(qzo_bnb_quantize(&tensor, qzo_bnb_kinds[0], 1), QZO_ERR_UNSUPPORTED,
                 "blocks of 64 inputs cross the rows of a weight (2, 96)");
}

/* For plans: nothing is computed, and nothing is taken but the description. */
static void sizes_alone_need_no_data(void **state) {
    (void)state;
    qzo_tensor_view view = {.name = "w.weight",
                            .dtype = QZO_DTYPE_F16,
                            .rank = 2,
                            .shape = {1 << 20, 1 << 20},
                            .count = (int64_t)1 << 40};
    qzo_qtensor tensor = dense_of(&view);
    assert_ok(qzo_bnb_quantize(&tensor, qzo_bnb_kind_find("fp4"), 0));
    assert_true(qzo_bnb_made_bytes(&tensor) == ((int64_t)1 << 39) + ((int64_t)1 << 36));
    assert_true(tensor.group_count == 1 << 14 && tensor.as.bnb.codes == NULL);
    qzo_qtensor_release(&tensor);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_equal_bitsandbytes),
        cmocka_unit_test(tables_follow_from_the_levels),
        cmocka_unit_test(values_are_levels_times_absmax),
        cmocka_unit_test(what_has_no_absmax_is_refused),
        cmocka_unit_test(sizes_alone_need_no_data),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
