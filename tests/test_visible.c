/* Names that others chose, in messages and in lines of the log: no control character of them gets
 * there, and all else does. */
#include "test_support.h"

#include "base/log.h"
#include "base/visible.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void control_characters_become_escapes(void **state) {
    (void)state;
    static const struct {
        const char *text, *visible;
    } pairs[] = {
        {"", ""},
        {"model.layers.0.mlp", "model.layers.0.mlp"},
        {"a\x1b[2Jb", "a\\x1b[2Jb"},
        {"one\ntwo\r\tthree\x7f", "one\\ntwo\\r\\tthree\\x7f"},
        {"C:\\new", "C:\\new"},
        {"na\xc3\xafve \xe2\x82\xac", "na\xc3\xafve \xe2\x82\xac"}, /* letters of UTF-8 stay */
        {"\xc2\x9b"
         "31m\xc2\xa0",
         "\\xc2\\x9b31m\xc2\xa0"},
        {"cut\xc2", "cut\xc2"},
    };
    char out[64], again[64];
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        assert_string_equal(qzo_visible_text(out, sizeof out, pairs[i].text), pairs[i].visible);
        assert_string_equal(qzo_visible_text(again, sizeof again, out), out);
    }
}

static void an_escape_without_room_is_left_out(void **state) {
    (void)state;
    char out[6];
    assert_string_equal(qzo_visible_text(out, sizeof out, "abc\x1b"), "abc");
    assert_string_equal(qzo_visible_text(out, sizeof out, "a\x1b!"), "a\\x1b");
    assert_string_equal(qzo_visible_text(out, sizeof out, "abcdef"), "abcde");
}

static void a_text_without_end_is_not_read_past_it(void **state) {
    (void)state;
    char next[QZO_VISIBLE_BYTES], *text = malloc(1); /* the sanitizer sees a byte more */
    text[0] = (char)0xC2;
    const char *at = text;
    assert_string_equal(qzo_visible_next(next, &at, text + 1), "\xc2");
    assert_ptr_equal(at, text + 1);
    free(text);
}

static void messages_and_log_lines_have_none(void **state) {
    (void)state;
    char *folder = qzo_test_folder_create(), path[4200];
    size_t size_bytes = 0;
    snprintf(path, sizeof path, "%s/log", folder);
    (void)qzo_fail(QZO_ERR_FORMAT, "tensor %s: wrong", "a\x1b[31m\nqzo: all is well");
    (void)qzo_fail_context(QZO_ERR_FORMAT, "%s", "b\a");
    assert_string_equal(qzo_error_message(), "b\\x07: tensor a\\x1b[31m\\nqzo: all is well: wrong");
    qzo_log_configure(QZO_LOG_ERROR, 0, 1);
    qzo_log_open(path);
    qzo_log_info("model %s", "c\n\x1b]0;title\a");
    qzo_log_open(NULL);
    char *line = (char *)qzo_test_file_read(path, &size_bytes);
    assert_true(size_bytes > 0);
    assert_ptr_equal(memchr(line, '\n', size_bytes), line + size_bytes - 1);
    assert_null(memchr(line, '\x1b', size_bytes));
    line[size_bytes - 1] = '\0';
    assert_non_null(strstr(line, "model c\\n\\x1b]0;title\\x07"));
    free(line);
    qzo_test_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_characters_become_escapes),
        cmocka_unit_test(an_escape_without_room_is_left_out),
        cmocka_unit_test(a_text_without_end_is_not_read_past_it),
        cmocka_unit_test(messages_and_log_lines_have_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
