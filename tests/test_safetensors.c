/* safetensors: good files open, everything else is refused with its reason; damage at any byte is
 * an error or a valid parse, never a crash. */
#include "tensor_writer.h"

#include "weights/safetensors.h"

#include <stdlib.h>

static qzo_status parse(qzo_safetensors **out, const char *header, const void *data,
                        size_t data_bytes) {
    size_t size_bytes = 0;
    uint8_t *bytes = tensor_file_bytes(&size_bytes, header, data, data_bytes);
    qzo_status status = qzo_safetensors_parse(out, bytes, size_bytes, "some.safetensors");
    /* Only failing cases come here: views of a good file would dangle. */
    qzo_safetensors_close(*out);
    free(bytes);
    return status;
}

/* Three tensors, out of the order of names; at 1 modulo 8 when shift is 1. */
static uint8_t *sample(size_t *size_bytes, size_t shift) {
    static const float floats[6] = {0.5f, -1.0f, 2.0f, 3.0f, 4.0f, 5.0f};
    static const int32_t integers[2] = {7, -8};
    static const uint16_t halves[3] = {0x3c00, 0xc000, 0x0001}; /* 1, -2, 2^-24 */
    tensor_writer *writer = tensor_writer_create();
    tensor_writer_metadata(writer, "zeta", "last");
    tensor_writer_metadata(writer, "alpha", "first");
    tensor_writer_add(writer, "c", "F32", "2,3", floats, sizeof floats);
    tensor_writer_add(writer, "a", "I32", "2", integers, sizeof integers);
    tensor_writer_add(writer, "empty", "F32", "0,4", NULL, 0);
    tensor_writer_add(writer, "b", "F16", "3", halves, sizeof halves);
    uint8_t *bytes = tensor_writer_bytes(size_bytes, writer, shift);
    free(writer);
    return bytes;
}

static void tensors_are_found_in_order_of_names(void **state) {
    (void)state;
    static const char *const names[] = {"a", "b", "c", "empty"};
    size_t size_bytes = 0;
    uint8_t *bytes = sample(&size_bytes, 0);
    qzo_safetensors *file = NULL;
    assert_ok(qzo_safetensors_parse(&file, bytes, size_bytes, "sample"));
    assert_int_equal(qzo_safetensors_count(file), 4);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(qzo_safetensors_at(file, i)->name, names[i]);
        assert_ptr_equal(qzo_safetensors_find(file, names[i]), qzo_safetensors_at(file, i));
    }
    assert_null(qzo_safetensors_find(file, "d"));
    assert_null(qzo_safetensors_find(file, "__metadata__"));
    qzo_safetensors_close(file);
    free(bytes);
}

static void views_have_type_shape_and_data(void **state) {
    (void)state;
    size_t size_bytes = 0, payload_bytes = 0;
    uint8_t *bytes = sample(&size_bytes, 0);
    qzo_safetensors *file = NULL;
    assert_ok(qzo_safetensors_parse(&file, bytes, size_bytes, "sample"));
    const qzo_tensor_view *c = qzo_safetensors_find(file, "c");
    assert_int_equal(c->dtype, QZO_DTYPE_F32);
    assert_int_equal(c->rank, 2);
    assert_int_equal(c->shape[0], 2);
    assert_int_equal(c->shape[1], 3);
    assert_int_equal(c->count, 6);
    assert_int_equal(c->size_bytes, 24);
    assert_ptr_equal(c->data, qzo_safetensors_payload(file, &payload_bytes));
    assert_int_equal(payload_bytes, 24 + 8 + 6);
    assert_true(qzo_tensor_aligned(c));
    assert_int_equal(qzo_safetensors_find(file, "empty")->count, 0);
    qzo_safetensors_close(file);
    free(bytes);
}

static void floats_are_read_at_any_alignment(void **state) {
    (void)state;
    for (size_t shift = 0; shift < 8; shift++) {
        size_t size_bytes = 0;
        uint8_t *bytes = sample(&size_bytes, shift);
        qzo_safetensors *file = NULL;
        assert_ok(qzo_safetensors_parse(&file, bytes, size_bytes, "sample"));
        const qzo_tensor_view *c = qzo_safetensors_find(file, "c");
        const qzo_tensor_view *b = qzo_safetensors_find(file, "b");
        assert_int_equal(qzo_tensor_aligned(c), shift % 4 == 0);
        assert_true(qzo_tensor_float_at(c, 1) == -1.0f);
        assert_true(qzo_tensor_float_at(c, 5) == 5.0f);
        assert_true(qzo_tensor_float_at(b, 1) == -2.0f);
        assert_true(qzo_tensor_float_at(b, 2) == 0x1p-24f);
        qzo_safetensors_close(file);
        free(bytes);
    }
}

static void bfloats_are_read(void **state) {
    (void)state;
    static const uint16_t values[2] = {0x3f80, 0xc040}; /* 1, -3 */
    const qzo_tensor_view view = {
        .dtype = QZO_DTYPE_BF16, .rank = 1, .count = 2, .data = (const uint8_t *)values};
    assert_true(qzo_tensor_float_at(&view, 0) == 1.0f);
    assert_true(qzo_tensor_float_at(&view, 1) == -3.0f);
}

static void metadata_is_listed_in_order(void **state) {
    (void)state;
    size_t size_bytes = 0;
    uint8_t *bytes = sample(&size_bytes, 0);
    qzo_safetensors *file = NULL;
    assert_ok(qzo_safetensors_parse(&file, bytes, size_bytes, "sample"));
    assert_string_equal(qzo_safetensors_metadata_key(file, 0), "alpha");
    assert_string_equal(qzo_safetensors_metadata_key(file, 1), "zeta");
    assert_null(qzo_safetensors_metadata_key(file, 2));
    assert_string_equal(qzo_safetensors_metadata(file, "zeta"), "last");
    assert_null(qzo_safetensors_metadata(file, "beta"));
    qzo_safetensors_close(file);
    free(bytes);
}

static void smallest_files_open(void **state) {
    (void)state;
    static const uint8_t empty[] = "\2\0\0\0\0\0\0\0{}";
    qzo_safetensors *file = NULL;
    assert_ok(qzo_safetensors_parse(&file, empty, sizeof empty - 1, "empty"));
    assert_int_equal(qzo_safetensors_count(file), 0);
    assert_null(qzo_safetensors_find(file, "a"));
    assert_null(qzo_safetensors_metadata(file, "a"));
    assert_null(qzo_safetensors_metadata_key(file, 0));
    qzo_safetensors_close(file);
    qzo_safetensors_close(NULL);

    tensor_writer *writer = tensor_writer_create(); /* a scalar has an empty shape */
    tensor_writer_add(writer, "s", "U8", "", "x", 1);
    size_t size_bytes = 0;
    uint8_t *bytes = tensor_writer_bytes(&size_bytes, writer, 0);
    assert_ok(qzo_safetensors_parse(&file, bytes, size_bytes, "scalar"));
    assert_int_equal(qzo_safetensors_at(file, 0)->count, 1);
    qzo_safetensors_close(file);
    free(bytes);
    free(writer);
}

typedef struct refusal {
    const char *header;
    size_t data_bytes;
    qzo_status status;
    const char *message;
} refusal;

#define TENSOR(name, dtype, shape, offsets)                                                        \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" offsets "]}"

static const refusal refusals[] = {
    {"", 0, QZO_ERR_FORMAT, "must start with {"},
    {" {}", 0, QZO_ERR_FORMAT, "must start with {"},
    {"[]", 0, QZO_ERR_FORMAT, "must start with {"},
    {"{", 0, QZO_ERR_FORMAT, "malformed JSON"},
    {"{}x", 0, QZO_ERR_FORMAT, "malformed JSON"},
    {"{}", 1, QZO_ERR_FORMAT, "cover 0 bytes of data, the file holds 1"},
    {"{\"a\":1}", 0, QZO_ERR_FORMAT, "tensor a: expected an object"},
    {"{\"a\":{}}", 0, QZO_ERR_FORMAT, "tensor: a: \"dtype\" is missing"},
    {"{\"a\":{\"dtype\":1}}", 0, QZO_ERR_FORMAT, "\"dtype\" must be a string"},
    {"{" TENSOR("a", "F8_E4M3", "1", "0,1") "}", 1, QZO_ERR_UNSUPPORTED, "type \"F8_E4M3\""},
    {"{\"a\":{\"dtype\":\"U8\"}}", 0, QZO_ERR_FORMAT, "\"shape\" must be a list"},
    {"{" TENSOR("a", "U8", "-1", "0,1") "}", 1, QZO_ERR_FORMAT, "shape[0] must be"},
    {"{" TENSOR("a", "U8", "1,1.0", "0,1") "}", 1, QZO_ERR_FORMAT, "shape[1] must be"},
    {"{" TENSOR("a", "U8", "1,1,1,1,1,1,1,1,1", "0,1") "}", 1, QZO_ERR_LIMIT, "9 dimensions"},
    {"{" TENSOR("a", "U8", "4294967296,4294967296", "0,0") "}", 0, QZO_ERR_LIMIT, "2^63 elements"},
    {"{" TENSOR("a", "F64", "9223372036854775807", "0,0") "}", 0, QZO_ERR_LIMIT, "2^64 bytes"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0]}}", 0, QZO_ERR_FORMAT, "\"data_offsets\" must be"},
    {"{" TENSOR("a", "U8", "1", "0") "}", 1, QZO_ERR_FORMAT, "a list of two integers"},
    {"{" TENSOR("a", "U8", "1", "0,1,2") "}", 1, QZO_ERR_FORMAT, "a list of two integers"},
    {"{" TENSOR("a", "U8", "1", "1,0") "}", 1, QZO_ERR_FORMAT, "data at [1, 0)"},
    {"{" TENSOR("a", "U8", "1", "-1,0") "}", 1, QZO_ERR_FORMAT, "data_offsets[0] must be"},
    {"{" TENSOR("a", "U8", "2", "0,2") "}", 1, QZO_ERR_FORMAT, "the file holds 1 bytes"},
    {"{" TENSOR("a", "U8", "1", "0,2") "}", 2, QZO_ERR_FORMAT, "its type and shape need 1"},
    {"{" TENSOR("a", "F32", "1", "0,2") "}", 2, QZO_ERR_FORMAT, "its type and shape need 4"},
    {"{" TENSOR("a", "U8", "1", "1,2") "}", 2, QZO_ERR_FORMAT, "tensors leave a hole"},
    {"{" TENSOR("a", "U8", "1", "0,1") "," TENSOR("b", "U8", "1", "2,3") "}", 3, QZO_ERR_FORMAT,
     "tensor b: data starts at 2, expected 1: tensors leave a hole"},
    {"{" TENSOR("a", "U8", "2", "0,2") "," TENSOR("b", "U8", "2", "1,3") "}", 3, QZO_ERR_FORMAT,
     "tensor b: data starts at 1, expected 2: tensors overlap"},
    {"{" TENSOR("a", "U8", "2", "0,2") "," TENSOR("b", "U8", "0", "1,1") "}", 2, QZO_ERR_FORMAT,
     "tensor b: data starts at 1, expected 2: tensors overlap"},
    {"{" TENSOR("a", "U8", "1", "0,1") "}", 2, QZO_ERR_FORMAT,
     "cover 1 bytes of data, the file holds 2"},
    {"{" TENSOR("a", "U8", "1", "0,1") "," TENSOR("a", "U8", "1", "1,2") "}", 2, QZO_ERR_FORMAT,
     "duplicate object key"},
    {"{\"__metadata__\":[]}", 0, QZO_ERR_FORMAT, "\"__metadata__\" must be an object"},
    {"{\"__metadata__\":{\"k\":1}}", 0, QZO_ERR_FORMAT, "metadata \"k\" must be a string"},
};

static void what_is_wrong_is_refused_with_its_reason(void **state) {
    (void)state;
    static const uint8_t data[8] = {0};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        qzo_safetensors *file = NULL;
        const refusal *item = &refusals[i];
        qzo_status status = parse(&file, item->header, data, item->data_bytes);
        qzo_test_assert_fails(status, item->status, item->message, item->header, __FILE__,
                              __LINE__);
        qzo_test_assert_fails(status, item->status, "some.safetensors: ", item->header, __FILE__,
                              __LINE__);
    }
}

static void header_lengths_are_checked_before_anything_is_read(void **state) {
    (void)state;
    static const struct {
        uint64_t header_bytes;
        qzo_status status;
        const char *message;
    } cases[] = {
        {3, QZO_ERR_FORMAT, "a header of 3 bytes, but the file ends after 2"},
        {100000000, QZO_ERR_FORMAT, "but the file ends after 2"},
        {100000001, QZO_ERR_LIMIT, "a header of 100000001 bytes, at most 100000000"},
        {UINT64_MAX, QZO_ERR_LIMIT, "a header of 18446744073709551615 bytes"},
        {UINT64_MAX - 7, QZO_ERR_LIMIT, "at most 100000000"},
    };
    uint8_t bytes[10] = {[8] = '{', [9] = '}'};
    qzo_safetensors *file = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qzo_put_u64(bytes, cases[i].header_bytes);
        assert_fails(qzo_safetensors_parse(&file, bytes, sizeof bytes, "f"), cases[i].status,
                     cases[i].message);
    }
    for (size_t size = 0; size < 8; size++)
        assert_fails(qzo_safetensors_parse(&file, size > 0 ? bytes : NULL, size, "f"),
                     QZO_ERR_FORMAT, "too short");
}

/* Parses an exact-size copy, so that a sanitizer sees any read past the end. */
static qzo_status parse_copy(const uint8_t *bytes, size_t size_bytes) {
    uint8_t *copy = malloc(size_bytes + (size_bytes == 0));
    if (size_bytes > 0) memcpy(copy, bytes, size_bytes);
    qzo_safetensors *file = NULL;
    const qzo_status status = qzo_safetensors_parse(&file, copy, size_bytes, "damaged");
    volatile uint8_t sink = 0;
    for (int64_t i = 0; status == QZO_OK && i < qzo_safetensors_count(file); i++) {
        const qzo_tensor_view *view = qzo_safetensors_at(file, i);
        for (size_t j = 0; j < view->size_bytes; j++) sink = (uint8_t)(sink ^ view->data[j]);
    }
    if (status != QZO_OK) assert_true(strstr(qzo_error_message(), "damaged") != NULL);
    qzo_safetensors_close(file);
    free(copy);
    return status;
}

static void truncation_at_every_byte_is_refused(void **state) {
    (void)state;
    size_t size_bytes = 0;
    uint8_t *bytes = sample(&size_bytes, 0);
    assert_int_equal(parse_copy(bytes, size_bytes), QZO_OK);
    for (size_t size = 0; size < size_bytes; size++)
        assert_int_equal(parse_copy(bytes, size), QZO_ERR_FORMAT);
    free(bytes);
}

static void a_byte_more_is_refused(void **state) {
    (void)state;
    size_t size_bytes = 0;
    uint8_t *bytes = sample(&size_bytes, 0);
    uint8_t *longer = calloc(1, size_bytes + 1);
    memcpy(longer, bytes, size_bytes);
    assert_int_equal(parse_copy(longer, size_bytes + 1), QZO_ERR_FORMAT);
    free(longer);
    free(bytes);
}

static void damage_of_every_header_byte_is_survived(void **state) {
    (void)state;
    static const char replacements[] = "{}[]:,\"\\-.e09 \n\xff"; /* after each of the 8 bits */
    size_t size_bytes = 0;
    uint8_t *bytes = sample(&size_bytes, 0);
    const size_t header_end = 8 + (size_t)qzo_get_u64(bytes);
    for (size_t at = 0; at < header_end; at++) {
        const uint8_t kept = bytes[at];
        for (size_t i = 0; i < 8 + sizeof replacements - 1; i++) {
            bytes[at] = (uint8_t)(i < 8 ? kept ^ (1 << i) : replacements[i - 8]);
            parse_copy(bytes, size_bytes); /* a changed name is still a valid file */
        }
        bytes[at] = kept;
    }
    free(bytes);
}

static void files_are_mapped_and_named_in_errors(void **state) {
    (void)state;
    char *folder = qzo_test_folder_create();
    char *path = qzo_path_join(folder, "a.safetensors");
    qzo_safetensors *file = NULL;
    assert_fails(qzo_safetensors_open(&file, path), QZO_ERR_NOT_FOUND, path);
    qzo_test_file_write(path, "short", 5);
    assert_fails(qzo_safetensors_open(&file, path), QZO_ERR_FORMAT, path);
    qzo_test_file_write(path, "", 0);
    assert_fails(qzo_safetensors_open(&file, path), QZO_ERR_FORMAT, path);
    size_t size_bytes = 0;
    uint8_t *bytes = sample(&size_bytes, 1);
    qzo_test_file_write(path, bytes, size_bytes);
    assert_ok(qzo_safetensors_open(&file, path));
    assert_int_equal(qzo_safetensors_count(file), 4);
    qzo_safetensors_close(file);
    free(bytes);
    free(path);
    qzo_test_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found_in_order_of_names),
        cmocka_unit_test(views_have_type_shape_and_data),
        cmocka_unit_test(floats_are_read_at_any_alignment),
        cmocka_unit_test(bfloats_are_read),
        cmocka_unit_test(metadata_is_listed_in_order),
        cmocka_unit_test(smallest_files_open),
        cmocka_unit_test(what_is_wrong_is_refused_with_its_reason),
        cmocka_unit_test(header_lengths_are_checked_before_anything_is_read),
        cmocka_unit_test(truncation_at_every_byte_is_refused),
        cmocka_unit_test(a_byte_more_is_refused),
        cmocka_unit_test(damage_of_every_header_byte_is_survived),
        cmocka_unit_test(files_are_mapped_and_named_in_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
