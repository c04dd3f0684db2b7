/* JSON: malformed input gives the error and its place; look-ups tell absent from wrong. */
#include "test_support.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

typedef struct malformed {
    const char *text;
    const char *message; /* part of what the error must say */
} malformed;

static const malformed malformed_cases[] = {
    {"", "byte 0"},
    {"{", "byte 1"},
    {"{\"a\": 1,}", "byte 9"},
    {"{\"a\" 1}", "line 1, column 6"},
    {"{\n\"a\": tru\n}", "line 2"},
    {"[1, 2", "byte 5"},
    {"{} x", "byte 4"},
    {"{\"a\": 1, \"a\": 2}", "duplicate object key"},
    {"{\"a\": 9223372036854775808}", "too big integer"},
    {"{\"a\": 1e999}", "real number overflow"},
    {"{\"a\": \"\xff\"}", "unable to decode byte 0xff"},
    {"{\"a\": \"\\u0000\"}", "byte"},
    {"{\"a\": \"\\ud800\"}", "Unicode"},
    {"{\"a\": 'x'}", "byte"},
    {"{\"a\": 01}", "byte"},
    {"{\"a\": NaN}", "byte"},
    {"// no comments\n{}", "line 1"},
};

static void malformed_text_is_refused_with_its_place(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof malformed_cases / sizeof malformed_cases[0]; i++) {
        json_t *value = NULL;
        const malformed *item = &malformed_cases[i];
        qzo_status status = qzo_json_parse(&value, item->text, strlen(item->text), "some.json");
        assert_null(value);
        qzo_test_assert_fails(status, QZO_ERR_FORMAT, item->message, item->text, __FILE__,
                              __LINE__);
        qzo_test_assert_fails(status, QZO_ERR_FORMAT, "some.json: ", item->text, __FILE__,
                              __LINE__);
    }
}

static void depth_is_limited(void **state) {
    (void)state;
    enum { DEPTH = 100000 };
    char *text = malloc(DEPTH);
    memset(text, '[', DEPTH);
    json_t *value = NULL;
    assert_fails(qzo_json_parse(&value, text, DEPTH, "deep.json"), QZO_ERR_FORMAT, "depth");
    free(text);
}

static json_t *parsed(const char *text) {
    json_t *value = NULL;
    assert_ok(qzo_json_parse(&value, text, strlen(text), "some.json"));
    return value;
}

static void numbers_are_exact(void **state) {
    (void)state;
    json_t *object = parsed("{\"i\": 9007199254740993, \"d\": 0.1, \"n\": -3}");
    int64_t integer = 0;
    double number = 0;
    assert_ok(qzo_json_int(&integer, object, "i", 0, INT64_MAX, "some.json"));
    assert_int_equal(integer, 9007199254740993);
    assert_ok(qzo_json_number(&number, object, "d", "some.json"));
    assert_true(number == 0.1);
    assert_ok(qzo_json_number(&number, object, "n", "some.json"));
    assert_true(number == -3.0);
    json_decref(object);
}

static void bools_and_strings_are_read(void **state) {
    (void)state;
    json_t *object = parsed("{\"t\": true, \"f\": false, \"s\": \"text\"}");
    bool truth = false;
    const char *string = NULL;
    assert_ok(qzo_json_bool(&truth, object, "t", "some.json"));
    assert_true(truth);
    assert_ok(qzo_json_bool(&truth, object, "f", "some.json"));
    assert_false(truth);
    assert_ok(qzo_json_string(&string, object, "s", "some.json"));
    assert_string_equal(string, "text");
    json_decref(object);
}

static void absent_and_wrong_are_different_errors(void **state) {
    (void)state;
    json_t *object = parsed("{\"i\": 4, \"s\": \"4\", \"d\": 4.0, \"n\": null}");
    int64_t integer = -1;
    double number = 0;
    bool truth = false;
    const char *string = NULL;
    assert_fails(qzo_json_int(&integer, object, "x", 0, 9, "f"), QZO_ERR_FORMAT,
                 "f: \"x\" is missing");
    assert_fails(qzo_json_int(&integer, object, "s", 0, 9, "f"), QZO_ERR_FORMAT,
                 "must be an integer, found a string");
    assert_fails(qzo_json_int(&integer, object, "d", 0, 9, "f"), QZO_ERR_FORMAT,
                 "found a number with a fraction");
    assert_fails(qzo_json_int(&integer, object, "i", 5, 9, "f"), QZO_ERR_FORMAT,
                 "must lie in 5 .. 9, found 4");
    assert_int_equal(integer, -1);
    assert_fails(qzo_json_number(&number, object, "n", "f"), QZO_ERR_FORMAT, "found null");
    assert_fails(qzo_json_bool(&truth, object, "i", "f"), QZO_ERR_FORMAT, "must be true or false");
    assert_fails(qzo_json_string(&string, object, "i", "f"), QZO_ERR_FORMAT, "must be a string");
    assert_fails(qzo_json_string(&string, NULL, "i", "f"), QZO_ERR_FORMAT, "expected an object");
    json_decref(object);
}

static void has_means_there_and_not_null(void **state) {
    (void)state;
    json_t *object = parsed("{\"a\": 0, \"b\": null}");
    assert_true(qzo_json_has(object, "a"));
    assert_false(qzo_json_has(object, "b"));
    assert_false(qzo_json_has(object, "c"));
    assert_false(qzo_json_has(NULL, "a"));
    json_decref(object);
}

static void files_are_read_up_to_their_limit(void **state) {
    (void)state;
    char *folder = qzo_test_folder_create();
    char path[4096];
    json_t *value = NULL;
    snprintf(path, sizeof path, "%s/a.json", folder);
    assert_fails(qzo_json_read(&value, path, 100), QZO_ERR_NOT_FOUND, path);
    qzo_test_file_write(path, "{\"a\": 1}", 8);
    assert_fails(qzo_json_read(&value, path, 7), QZO_ERR_LIMIT, "8 bytes, at most 7");
    assert_null(value);
    assert_ok(qzo_json_read(&value, path, 8));
    assert_true(qzo_json_has(value, "a"));
    json_decref(value);
    qzo_test_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_text_is_refused_with_its_place),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(numbers_are_exact),
        cmocka_unit_test(bools_and_strings_are_read),
        cmocka_unit_test(absent_and_wrong_are_different_errors),
        cmocka_unit_test(has_means_there_and_not_null),
        cmocka_unit_test(files_are_read_up_to_their_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
