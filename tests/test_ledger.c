/* A backend's memory is counted by what it is for, and a dry backend counts the same without
 * holding it. */
#include "test_support.h"

#include "backend/backend.h"

#include <stdint.h>

static void held_and_peak_follow_what_comes_and_goes(void **state) {
    (void)state;
    qzo_ledger ledger = {0};
    static uint8_t memory[200];
    for (int i = 0; i < 200; i++)
        assert_ok(qzo_ledger_add(&ledger, &memory[i], 10,
                                 i % 2 ? QZO_MEMORY_WEIGHTS : QZO_MEMORY_BUFFERS));
    assert_int_equal(ledger.held_bytes[QZO_MEMORY_WEIGHTS], 1000);
    assert_int_equal(ledger.held_bytes[QZO_MEMORY_BUFFERS], 1000);
    for (int i = 0; i < 200; i += 2) qzo_ledger_remove(&ledger, &memory[i]);
    qzo_ledger_remove(&ledger, NULL);
    assert_int_equal(ledger.held_bytes[QZO_MEMORY_BUFFERS], 0);
    assert_int_equal(ledger.held_bytes[QZO_MEMORY_WEIGHTS], 1000);
    assert_ok(qzo_ledger_add(&ledger, &memory[0], 500, QZO_MEMORY_SCRATCH));
    assert_int_equal(ledger.peak_bytes, 2000);
    assert_ok(qzo_ledger_add(&ledger, &memory[2], 501, QZO_MEMORY_SCRATCH));
    assert_int_equal(ledger.peak_bytes, 2001);
    qzo_ledger_release(&ledger);
}

/* 1 TB: a dry backend must not take what it counts. */
static void check_dry(const char *name) {
    const qzo_backend_options options = {.thread_count = 1, .dry = true};
    const size_t size_bytes = (size_t)1 << 40;
    qzo_backend *backend = NULL;
    qzo_memory_use before, use;
    void *memory = NULL;
    assert_ok(qzo_backend_open(&backend, name, &options));
    assert_string_equal(backend->ops->name, name);
    assert_ok(backend->ops->memory_use(backend, &before));
    assert_ok(backend->ops->allocate(backend, &memory, size_bytes));
    assert_ok(backend->ops->upload(backend, memory, &size_bytes, size_bytes));
    assert_ok(backend->ops->memory_use(backend, &use));
    assert_int_equal(use.held_bytes[QZO_MEMORY_BUFFERS], size_bytes);
    assert_int_equal(use.own_bytes - before.own_bytes, size_bytes);
    backend->ops->release(backend, memory);
    assert_ok(backend->ops->memory_use(backend, &use));
    assert_int_equal(use.own_bytes, before.own_bytes);
    assert_true(use.peak_bytes >= (int64_t)size_bytes);
    qzo_backend_close(backend);
}

static void a_dry_backend_holds_nothing(void **state) {
    (void)state;
    check_dry("cpu");
    check_dry("cuda"); /* in every build */
    check_dry("cuda-bf16");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(held_and_peak_follow_what_comes_and_goes),
        cmocka_unit_test(a_dry_backend_holds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
