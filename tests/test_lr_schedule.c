/* Schedules by their formulas: factors lie in [0, 1], warm-up rises by equal steps, every
 * registered schedule is found by its name. */
#include "test_support.h"

#include "optim/lr_schedule.h"

#include <math.h>

/* cos by a series against the C library's; docs/error-analysis.md, "Elementary functions". */
static const double COSINE_ERROR = 1e-15;
enum { STEPS = 200, WARMUP = 20 };

static const double PI = 3.14159265358979323846;

static double factor(const char *name, int64_t step, int64_t warmup) {
    const qzo_lr_schedule *schedule = qzo_lr_schedule_find(name);
    assert_non_null(schedule);
    return qzo_lr_factor(schedule, step, STEPS, warmup);
}

static void every_schedule_stays_in_0_to_1_and_starts_at_1(void **state) {
    (void)state;
    for (int i = 0; qzo_lr_schedules[i] != NULL; i++) {
        const qzo_lr_schedule *schedule = qzo_lr_schedules[i];
        assert_ptr_equal(qzo_lr_schedule_find(schedule->name), schedule);
        assert_true(qzo_lr_factor(schedule, 1, STEPS, 0) == 1.0);
        for (int64_t warmup = 0; warmup <= STEPS; warmup += 40)
            for (int64_t step = 1; step <= STEPS; step++) {
                double value = qzo_lr_factor(schedule, step, STEPS, warmup);
                if (!(value > 0.0 && value <= 1.0))
                    fail_msg("%s: %g at step %lld", schedule->name, value, (long long)step);
            }
    }
    assert_null(qzo_lr_schedule_find("cubic"));
}

static void warm_up_rises_by_equal_steps(void **state) {
    (void)state;
    for (int64_t step = 1; step <= WARMUP; step++)
        assert_true(factor("constant", step, WARMUP) == (double)step / (WARMUP + 1));
    assert_true(factor("linear", WARMUP + 1, WARMUP) == 1.0);
    assert_true(factor("cosine", WARMUP + 1, WARMUP) == 1.0);
}

static void constant_stays(void **state) {
    (void)state;
    for (int64_t step = 1; step <= STEPS; step++) assert_true(factor("constant", step, 0) == 1.0);
}

static void linear_falls_to_one_step_above_zero(void **state) {
    (void)state;
    for (int64_t step = WARMUP + 1; step <= STEPS; step++)
        assert_true(factor("linear", step, WARMUP) ==
                    1.0 - (double)(step - 1 - WARMUP) / (STEPS - WARMUP));
    qzo_test_assert_close(factor("linear", STEPS, 0), 1.0 / STEPS, 1e-15, "one rounding");
}

static void cosine_is_half_a_wave(void **state) {
    (void)state;
    for (int64_t step = WARMUP + 1; step <= STEPS; step++) {
        double progress = (double)(step - 1 - WARMUP) / (STEPS - WARMUP);
        qzo_test_assert_close(factor("cosine", step, WARMUP), 0.5 * (1.0 + cos(PI * progress)),
                              COSINE_ERROR, "COSINE_ERROR");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_schedule_stays_in_0_to_1_and_starts_at_1),
        cmocka_unit_test(warm_up_rises_by_equal_steps),
        cmocka_unit_test(constant_stays),
        cmocka_unit_test(linear_falls_to_one_step_above_zero),
        cmocka_unit_test(cosine_is_half_a_wave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
