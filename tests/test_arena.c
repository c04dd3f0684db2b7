/* The arena: planned bytes equal used bytes, alignment, limits. */
#include "test_support.h"

#include "base/arena.h"

typedef struct buffers {
    float *a;
    uint8_t *b;
    double *none;
    double *c;
} buffers;

static void slice(buffers *out, qzo_arena *arena) {
    out->a = qzo_arena_reserve(arena, 17, sizeof(float));
    out->b = qzo_arena_reserve(arena, 1, 1);
    out->none = qzo_arena_reserve(arena, 0, sizeof(double));
    out->c = qzo_arena_reserve(arena, 8, sizeof(double));
}

static void slices_are_aligned_disjoint_and_zero(void **state) {
    (void)state;
    qzo_arena arena = {0};
    buffers used = {0};
    slice(&used, &arena);
    assert_null(used.a);
    assert_int_equal(arena.planned_bytes, 128 + 64 + 0 + 64);
    assert_ok(qzo_arena_allocate(&arena, 256, "buffers"));
    slice(&used, &arena);
    assert_ok(qzo_arena_finish(&arena));
    assert_int_equal((uintptr_t)used.a % QZO_ARENA_ALIGNMENT_BYTES, 0);
    assert_int_equal((uintptr_t)used.c % QZO_ARENA_ALIGNMENT_BYTES, 0);
    assert_ptr_equal(used.b, (uint8_t *)used.a + 128);
    assert_ptr_equal(used.c, used.b + 64);
    for (int i = 0; i < 17; i++) assert_true(used.a[i] == 0.0f);
    qzo_arena_release(&arena);
    assert_null(arena.base);
}

static void plan_above_the_limit_is_refused_with_both_numbers(void **state) {
    (void)state;
    qzo_arena arena = {0};
    buffers used = {0};
    slice(&used, &arena);
    assert_fails(qzo_arena_allocate(&arena, 255, "buffers"), QZO_ERR_LIMIT,
                 "buffers: 256 bytes are needed, at most 255");
    assert_null(arena.base);
    qzo_arena_release(&arena);
}

static void less_used_than_planned_is_reported(void **state) {
    (void)state;
    qzo_arena arena = {0};
    buffers used = {0};
    slice(&used, &arena);
    assert_ok(qzo_arena_allocate(&arena, 256, "buffers"));
    assert_non_null(qzo_arena_reserve(&arena, 1, 1));
    assert_fails(qzo_arena_finish(&arena), QZO_ERR_LIMIT, "256 bytes planned, 64 used");
    qzo_arena_release(&arena);
}

static void more_used_than_planned_is_refused(void **state) {
    (void)state;
    qzo_arena arena = {0};
    buffers used = {0};
    slice(&used, &arena);
    assert_ok(qzo_arena_allocate(&arena, 256, "buffers"));
    slice(&used, &arena);
    assert_null(qzo_arena_reserve(&arena, 1, 1));
    assert_fails(qzo_arena_finish(&arena), QZO_ERR_LIMIT, "256 bytes planned, 320 used");
    qzo_arena_release(&arena);
}

static void sizes_that_overflow_are_refused(void **state) {
    (void)state;
    static const struct {
        int64_t count;
        size_t element_bytes;
    } cases[] = {{INT64_MAX, 16}, {-1, 4}, {1, SIZE_MAX}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qzo_arena arena = {0};
        assert_null(qzo_arena_reserve(&arena, cases[i].count, cases[i].element_bytes));
        assert_fails(qzo_arena_allocate(&arena, SIZE_MAX, "buffers"), QZO_ERR_LIMIT,
                     "exceeds the address space");
    }
    qzo_arena arena = {0};
    qzo_arena_reserve(&arena, INT64_MAX, 1);
    qzo_arena_reserve(&arena, INT64_MAX, 1);
    qzo_arena_reserve(&arena, INT64_MAX, 1);
    assert_fails(qzo_arena_allocate(&arena, SIZE_MAX, "buffers"), QZO_ERR_LIMIT,
                 "exceeds the address space");
}

static void empty_plan_is_fine(void **state) {
    (void)state;
    qzo_arena arena = {0};
    assert_ok(qzo_arena_allocate(&arena, 0, "nothing"));
    assert_ok(qzo_arena_finish(&arena));
    qzo_arena_release(&arena);
    qzo_arena_release(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_are_aligned_disjoint_and_zero),
        cmocka_unit_test(plan_above_the_limit_is_refused_with_both_numbers),
        cmocka_unit_test(less_used_than_planned_is_reported),
        cmocka_unit_test(more_used_than_planned_is_refused),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(empty_plan_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
