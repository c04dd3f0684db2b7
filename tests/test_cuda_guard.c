/* ctest: labels=gpu timeout=120 emulated
 * A build with QZO_CUDA_CHECKS finds what is written outside a buffer of device memory; others, and
 * machines without a device, skip. */
#include "test_support.h"

#include "backend/cuda_module.h"

#include <stdlib.h>
#include <string.h>

enum { BUFFER_BYTES = 1000 };

static qzo_backend *backend;

static void *take(void) {
    void *memory = NULL;
    assert_ok(backend->ops->allocate(backend, &memory, BUFFER_BYTES));
    return memory;
}

static void writes_inside_are_fine(void **state) {
    (void)state;
    uint8_t bytes[BUFFER_BYTES] = {1}, found[BUFFER_BYTES];
    void *memory = take();
    assert_ok(backend->ops->upload(backend, memory, bytes, sizeof bytes));
    assert_ok(backend->ops->download(backend, found, memory, sizeof found));
    assert_memory_equal(found, bytes, sizeof found);
    backend->ops->release(backend, memory);
}

static void expect_found(int64_t byte_at, const char *side) {
    const uint8_t byte = 7;
    uint8_t found = 0, *memory = take();
    assert_ok(backend->ops->upload(backend, memory + byte_at, &byte, sizeof byte));
    qzo_status status = backend->ops->download(backend, &found, memory, sizeof found);
    assert_int_equal(status, QZO_ERR_ENVIRONMENT);
    assert_non_null(strstr(qzo_error_message(), side));
    backend->ops->release(backend, memory);
}

static void writes_outside_are_found(void **state) {
    (void)state;
    expect_found(BUFFER_BYTES, "behind a buffer of 1000 bytes");
    expect_found(-1, "before a buffer of 1000 bytes");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_inside_are_fine),
        cmocka_unit_test(writes_outside_are_found),
    };
    const qzo_backend_options options = {.thread_count = 1};
    const char *checks = getenv("QZO_CUDA_CHECKS");
    if (checks == NULL || strcmp(checks, "1") != 0) {
        print_message("skipped: built without QZO_CUDA_CHECKS\n");
        return 77;
    }
    if (qzo_cuda_available() != QZO_OK) {
        print_message("skipped: %s\n", qzo_error_message());
        return 77;
    }
    if (qzo_backend_open(&backend, "cuda", &options) != QZO_OK) {
        print_message("%s\n", qzo_error_message());
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    qzo_backend_close(backend);
    return failed;
}
