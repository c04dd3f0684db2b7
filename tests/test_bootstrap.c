/* Bootstrap intervals against the distribution that resampled means have. */
#include "test_support.h"

#include "base/bootstrap.h"

#include <math.h>

enum { COUNT = 400, ONES = 120 };

/* Five standard deviations of the share of 10,000 resamples that lies below a 2.5 % quantile. */
static const double SHARE_ERROR = 5.0 * 0.00156;

/* P(X <= most) for X ~ Binomial(COUNT, ONES / COUNT): the number of ones in a resample. */
static double binomial_below(double most) {
    const double p = (double)ONES / COUNT;
    double total = 0.0;
    for (int k = 0; (double)k <= most; k++)
        total += exp(lgamma(COUNT + 1.0) - lgamma(k + 1.0) - lgamma(COUNT - k + 1.0) + k * log(p) +
                     (COUNT - k) * log(1.0 - p));
    return total;
}

static void fill(double *values) {
    for (int i = 0; i < COUNT; i++) values[i] = i < ONES ? 1.0 : 0.0;
}

static void the_ends_are_quantiles_of_the_binomial(void **state) {
    (void)state;
    double values[COUNT];
    qzo_interval interval;
    fill(values);
    assert_int_equal(qzo_bootstrap(&interval, values, NULL, COUNT, 1), QZO_OK);
    double low = interval.low * COUNT, high = interval.high * COUNT;
    assert_true(binomial_below(low + 0.5) >= 0.025 - SHARE_ERROR);
    assert_true(binomial_below(low - 0.5) <= 0.025 + SHARE_ERROR);
    assert_true(binomial_below(high + 0.5) >= 0.975 - SHARE_ERROR);
    assert_true(binomial_below(high - 0.5) <= 0.975 + SHARE_ERROR);
}

static void weights_divide_what_they_were_drawn_with(void **state) {
    (void)state;
    double values[COUNT], weights[COUNT];
    qzo_interval interval;
    /* Every example has the same ratio, whatever its weight: no resample can change it. */
    for (int i = 0; i < COUNT; i++) {
        weights[i] = (double)(1 << i % 8);
        values[i] = 0.25 * weights[i];
    }
    assert_int_equal(qzo_bootstrap(&interval, values, weights, COUNT, 1), QZO_OK);
    assert_true(interval.low == 0.25 && interval.high == 0.25);
}

static void the_seed_alone_decides(void **state) {
    (void)state;
    double values[COUNT];
    qzo_interval one, again, other;
    for (int i = 0; i < COUNT; i++) values[i] = sqrt(i); /* hardly two means are equal */
    assert_int_equal(qzo_bootstrap(&one, values, NULL, COUNT, 1), QZO_OK);
    assert_int_equal(qzo_bootstrap(&again, values, NULL, COUNT, 1), QZO_OK);
    assert_int_equal(qzo_bootstrap(&other, values, NULL, COUNT, 2), QZO_OK);
    assert_true(one.low == again.low && one.high == again.high);
    assert_true(one.low != other.low && one.high != other.high);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_ends_are_quantiles_of_the_binomial),
        cmocka_unit_test(weights_divide_what_they_were_drawn_with),
        cmocka_unit_test(the_seed_alone_decides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
