/* What cmocka lacks: paths of fixtures and real data, temporary folders, comparisons that name the
 * tolerance they enforce. Include this instead of <cmocka.h>. */
#ifndef QZO_TESTS_TEST_SUPPORT_H
#define QZO_TESTS_TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/status.h"

#include <stdbool.h>

/* Fails with the stored message unless the call succeeds. */
#define assert_ok(call)                                                                            \
    do {                                                                                           \
        qzo_status assert_ok_status = (call);                                                      \
        if (assert_ok_status != QZO_OK)                                                            \
            fail_msg("%s: %s: %s", #call, qzo_status_text(assert_ok_status), qzo_error_message()); \
    } while (0)

/* Fails unless the call returns `expected` and its message contains `text`. */
#define assert_fails(call, expected, text)                                                         \
    qzo_test_assert_fails((call), (expected), (text), #call, __FILE__, __LINE__)
void qzo_test_assert_fails(qzo_status status, qzo_status expected, const char *text,
                           const char *call, const char *file, int line);

/* |actual - expected| <= limit; limit_name says where the bound comes from. */
void qzo_test_assert_close(double actual, double expected, double limit, const char *limit_name);

/* "<source>/tests/fixtures/NAME" in a static buffer of this thread. */
const char *qzo_test_fixture(const char *name);

/* "<QZO_TEST_DATA>/NAME", or NULL where that does not exist: then call skip(). */
const char *qzo_test_data(const char *name);

/* A fresh empty folder; qzo_test_folder_remove deletes it with all it holds. */
char *qzo_test_folder_create(void);
void qzo_test_folder_remove(char *path);

/* Reads a whole file or fails the test; the caller frees. */
uint8_t *qzo_test_file_read(const char *path, size_t *size_bytes);
void qzo_test_file_write(const char *path, const void *bytes, size_t size_bytes);

#endif
