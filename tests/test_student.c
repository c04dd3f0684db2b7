/* Quantiles of Student's t against published ones, and intervals against a worked example. */
#include "test_support.h"

#include "base/student.h"

#include <math.h>

/* The half unit of the tables' last digit. */
static const double TABLE_ERROR = 5e-4;

static void quantiles_match_the_published_table(void **state) {
    (void)state;
    /* NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2: two-sided 95 % and 99 %. */
    static const struct {
        int freedom;
        double at_95, at_99;
    } table[] = {{1, 12.706, 63.657}, {2, 4.303, 9.925},  {3, 3.182, 5.841},  {4, 2.776, 4.604},
                 {5, 2.571, 4.032},   {9, 2.262, 3.250},  {10, 2.228, 3.169}, {29, 2.045, 2.756},
                 {30, 2.042, 2.750},  {60, 2.000, 2.660}, {100, 1.984, 2.626}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        double at_95 = qzo_student_quantile(0.95, table[i].freedom);
        double at_99 = qzo_student_quantile(0.99, table[i].freedom);
        if (!(fabs(at_95 - table[i].at_95) <= TABLE_ERROR) ||
            !(fabs(at_99 - table[i].at_99) <= TABLE_ERROR))
            fail_msg("%d degrees of freedom: %.6f and %.6f, expected %.3f and %.3f",
                     table[i].freedom, at_95, at_99, table[i].at_95, table[i].at_99);
    }
    assert_true(fabs(qzo_student_quantile(0.95, 1000000) - 1.959966) < 1e-5);
}

static void intervals_are_those_of_the_formula(void **state) {
    (void)state;
    /* Mean 3, s = sqrt(2.5), n = 5: 2.776445 * 1.581139 / 2.236068. */
    static const double values[] = {1, 2, (double)NAN, 3, 4, 5};
    qzo_mean mean = qzo_mean_of(values, 6);
    assert_int_equal(mean.count, 5);
    assert_true(mean.mean == 3.0);
    assert_true(fabs(mean.half_width - 1.963243) < 1e-6);
    mean = qzo_mean_of(values, 1);
    assert_int_equal(mean.count, 1);
    assert_true(mean.mean == 1.0 && isnan(mean.half_width));
    mean = qzo_mean_of(values + 2, 1);
    assert_int_equal(mean.count, 0);
    assert_true(isnan(mean.mean) && isnan(mean.half_width));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_match_the_published_table),
        cmocka_unit_test(intervals_are_those_of_the_formula),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
