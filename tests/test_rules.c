/* k = fp32((rate / samples) clip(gradient, C)): the one number that a journal replays from. */
#include "test_support.h"

#include "optim/rules.h"

#include <float.h>
#include <math.h>

enum { COUNT = 5 };

static void factors(float k[COUNT], const float gradients[COUNT], double rate, double clip) {
    qzo_record records[COUNT] = {0};
    const qzo_update_rule *rule = qzo_update_rule_find("plain");
    assert_non_null(rule);
    for (int i = 0; i < COUNT; i++) records[i].gradient = gradients[i];
    rule->factors(k, records, COUNT, rate, clip);
}

static void k_is_one_rounding_of_the_formula_in_double(void **state) {
    (void)state;
    const float gradients[COUNT] = {1.0f, -0.3f, 12.3456789f, 1e-30f, 0.0f};
    float k[COUNT];
    factors(k, gradients, 1e-7, 100.0);
    for (int i = 0; i < COUNT; i++)
        assert_true(k[i] == (float)(1e-7 / COUNT * (double)gradients[i]));
}

static void gradient_is_clipped_on_both_sides(void **state) {
    (void)state;
    const float gradients[COUNT] = {99.0f, 100.0f, 101.0f, -101.0f, -FLT_MAX};
    float k[COUNT];
    factors(k, gradients, 0.5, 100.0);
    assert_true(k[0] == (float)(0.5 / COUNT * 99.0));
    assert_true(k[1] == (float)(0.5 / COUNT * 100.0));
    assert_true(k[2] == k[1]);
    assert_true(k[3] == -k[1]);
    assert_true(k[4] == -k[1]);
}

/* A difference of losses too large for fp32 is still a direction. */
static void infinite_gradient_is_clipped(void **state) {
    (void)state;
    const float gradients[COUNT] = {INFINITY, -INFINITY, 0.0f, 0.0f, 0.0f};
    float k[COUNT];
    factors(k, gradients, 1e-3, 2.0);
    assert_true(k[0] == (float)(1e-3 / COUNT * 2.0));
    assert_true(k[1] == -k[0]);
}

static void losses_that_are_not_finite_are_never_applied(void **state) {
    (void)state;
    qzo_record records[COUNT] = {0};
    float k[COUNT];
    for (int i = 0; i < COUNT; i++) records[i].gradient = 1.0f;
    records[1].flags = QZO_FLAG_NOT_FINITE;
    records[1].gradient = NAN;
    records[3].flags = QZO_FLAG_NOT_FINITE | QZO_FLAG_CLIPPED;
    records[3].gradient = INFINITY;
    records[4].flags = QZO_FLAG_CLIPPED | QZO_FLAG_ZERO_LOSS;
    qzo_update_rule_find("plain")->factors(k, records, COUNT, 1.0, 10.0);
    for (int i = 0; i < COUNT; i++)
        assert_true(k[i] == (i == 1 || i == 3 ? 0.0f : (float)(1.0 / COUNT)));
}

static void rules_and_perturbations_have_names(void **state) {
    (void)state;
    for (int i = 0; qzo_update_rules[i] != NULL; i++)
        assert_ptr_equal(qzo_update_rule_find(qzo_update_rules[i]->name), qzo_update_rules[i]);
    assert_null(qzo_update_rule_find("adam"));
    for (const qzo_perturbation_kind *kind = qzo_perturbation_kinds; kind->name != NULL; kind++)
        assert_ptr_equal(qzo_perturbation_kind_find(kind->name), kind);
    assert_false(qzo_perturbation_kind_find("absolute")->is_relative);
    assert_true(qzo_perturbation_kind_find("relative")->is_relative);
    assert_null(qzo_perturbation_kind_find("logarithmic"));
}

static void record_is_32_bytes_without_padding(void **state) {
    (void)state;
    assert_int_equal(sizeof(qzo_record), 32);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(k_is_one_rounding_of_the_formula_in_double),
        cmocka_unit_test(gradient_is_clipped_on_both_sides),
        cmocka_unit_test(infinite_gradient_is_clipped),
        cmocka_unit_test(losses_that_are_not_finite_are_never_applied),
        cmocka_unit_test(rules_and_perturbations_have_names),
        cmocka_unit_test(record_is_32_bytes_without_padding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
