/* k = fp32((rate / samples) clip(gradient, C)): the one number that a journal replays from; and
 * what rules with a memory make of the steps before. */
#include "test_support.h"

#include "optim/rules.h"

#include <float.h>
#include <math.h>

enum { COUNT = 5 };

static qzo_rule *open_rule(const char *name, qzo_rule_settings settings) {
    qzo_rule *rule = NULL;
    const qzo_update_rule *kind = qzo_update_rule_find(name);
    assert_non_null(kind);
    assert_ok(qzo_rule_open(&rule, kind, &settings));
    return rule;
}

static void factors(float k[COUNT], const float gradients[COUNT], double rate, double clip) {
    qzo_record records[COUNT] = {0};
    qzo_rule *rule = open_rule("plain", (qzo_rule_settings){.clip = clip});
    for (int i = 0; i < COUNT; i++) records[i].gradient = gradients[i];
    qzo_rule_factors(k, rule, records, COUNT, rate);
    qzo_rule_close(rule);
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

/* Of every rule without a guide, before its first step, with a bound of 10 in force: the others,
 * whose gradients are the same, are applied alike. */
static void losses_that_are_not_finite_are_never_applied(void **state) {
    (void)state;
    const qzo_rule_settings settings = {.eps = 1e-3,
                                        .clip = 10.0,
                                        .clip_factor = 3.0,
                                        .clip_memory = 5,
                                        .clip_quantile = 0.5,
                                        .moment_memory = 1};
    qzo_record records[COUNT + 1] = {0}; /* the last may be read as the clean one */
    float k[COUNT];
    for (int i = 0; i < COUNT; i++) {
        records[i].gradient = 1.0f;
        records[i].loss_plus = (float)i;
        records[i].loss_minus = -(float)i; /* no curvature around 0 */
    }
    records[1].flags = QZO_FLAG_NOT_FINITE;
    records[1].gradient = records[1].loss_plus = NAN;
    records[3].flags = QZO_FLAG_NOT_FINITE | QZO_FLAG_CLIPPED;
    records[3].gradient = INFINITY;
    records[4].flags = QZO_FLAG_CLIPPED | QZO_FLAG_ZERO_LOSS;
    for (int r = 0; qzo_update_rules[r] != NULL; r++) {
        if (qzo_update_rules[r]->share != NULL) continue;
        qzo_rule *rule = open_rule(qzo_update_rules[r]->name, settings);
        qzo_rule_factors(k, rule, records, COUNT, 1.0);
        for (int i = 0; i < COUNT; i++) assert_true(k[i] == (i % 2 != 0 ? 0.0f : k[0]));
        assert_true(isfinite(k[0]) && k[0] > 0.0f);
        qzo_rule_close(rule);
    }
}

/* --- mean_clip --- */

static void observe(qzo_rule *rule, const float *gradients, int64_t count) {
    qzo_record records[COUNT] = {0};
    for (int64_t i = 0; i < count; i++) {
        records[i].gradient = gradients[i];
        if (!isfinite(gradients[i])) records[i].flags = QZO_FLAG_NOT_FINITE;
    }
    qzo_rule_observe(rule, records, count);
}

/* By hand: factor 3, the mean remembers 4. */
static void mean_clip_follows_the_running_mean(void **state) {
    (void)state;
    qzo_rule *rule = open_rule(
        "mean_clip", (qzo_rule_settings){.clip = 100.0, .clip_factor = 3.0, .clip_memory = 4});
    float k[2];
    assert_true(qzo_rule_bound(rule) == 100.0); /* nothing known yet */
    observe(rule, (const float[]){2.0f, -4.0f}, 2);
    assert_true(qzo_rule_bound(rule) == 9.0); /* mean (2 + 4) / 2 */
    const qzo_record records[2] = {{.gradient = 8.0f}, {.gradient = -50.0f}};
    qzo_rule_factors(k, rule, records, 2, 1.0);
    assert_true(k[0] == 4.0f && k[1] == -4.5f);
    observe(rule, (const float[]){3.0f, 300.0f}, 2); /* the second counts as 9 */
    assert_true(qzo_rule_bound(rule) == 13.5);       /* mean (2 + 4 + 3 + 9) / 4 */
    observe(rule, (const float[]){0.5f}, 1);         /* 4.5 + (0.5 - 4.5) / 4 */
    assert_true(qzo_rule_bound(rule) == 10.5);
    qzo_rule_close(rule);
}

static void mean_clip_is_not_poisoned(void **state) {
    (void)state;
    qzo_rule *rule = open_rule(
        "mean_clip", (qzo_rule_settings){.clip = INFINITY, .clip_factor = 3.0, .clip_memory = 4});
    observe(rule, (const float[]){NAN, INFINITY, 0.0f}, 3);
    assert_true(isinf(qzo_rule_bound(rule))); /* still nothing known */
    observe(rule, (const float[]){0.0f, 1.0f, NAN, -1.0f, 0.0f}, 5);
    assert_true(qzo_rule_bound(rule) == 3.0);
    for (int i = 0; i < 100; i++) observe(rule, (const float[]){0.0f, NAN}, 2);
    assert_true(qzo_rule_bound(rule) == 3.0);
    observe(rule, (const float[]){FLT_MAX}, 1); /* 1 + (3 - 1) / 3 */
    assert_true(fabs(qzo_rule_bound(rule) - 5.0) < 1e-15);
    qzo_rule_close(rule);
}

/* The fixed clip stays the outer bound. */
static void mean_clip_never_exceeds_clip(void **state) {
    (void)state;
    qzo_rule *rule = open_rule(
        "mean_clip", (qzo_rule_settings){.clip = 5.0, .clip_factor = 3.0, .clip_memory = 10});
    observe(rule, (const float[]){40.0f}, 1); /* counts as 5 */
    assert_true(qzo_rule_bound(rule) == 5.0);
    observe(rule, (const float[]){0.1f, 0.1f, 0.1f, 0.1f, 0.1f}, 5);
    assert_true(qzo_rule_bound(rule) < 5.0);
    qzo_rule_close(rule);
}

/* --- quantile_clip, meazo --- */

/* By hand: the third smallest of the last four; nothing that is not measured enters. */
static void quantile_clip_follows_the_last_sizes(void **state) {
    (void)state;
    qzo_rule *rule =
        open_rule("quantile_clip",
                  (qzo_rule_settings){.clip = 100.0, .clip_memory = 4, .clip_quantile = 0.75});
    assert_true(qzo_rule_bound(rule) == 100.0);
    observe(rule, (const float[]){2.0f, NAN, 0.0f, INFINITY}, 4);
    assert_true(qzo_rule_bound(rule) == 2.0);
    observe(rule, (const float[]){-8.0f, 4.0f, 6.0f}, 3); /* 2 4 6 8 */
    assert_true(qzo_rule_bound(rule) == 6.0);
    observe(rule, (const float[]){-1000.0f, 500.0f}, 2); /* 4 6 500 1000 */
    assert_true(qzo_rule_bound(rule) == 100.0);
    observe(rule, (const float[]){1.0f, -3.0f}, 2); /* 1 3 500 1000 */
    assert_true(qzo_rule_bound(rule) == 100.0);
    observe(rule, (const float[]){2.0f, 2.0f}, 2); /* 1 2 2 3 */
    assert_true(qzo_rule_bound(rule) == 2.0);
    qzo_rule_close(rule);
}

/* Two steps by hand: b = 3/4; v = 9/4, corrected 9; then v = 27/16 + 1/4 = 31/16, corrected by
 * 1 - 9/16. */
static void meazo_divides_by_one_moment(void **state) {
    (void)state;
    float k[2];
    qzo_rule *rule = open_rule("meazo", (qzo_rule_settings){.clip = INFINITY, .moment_memory = 4});
    const qzo_record one[2] = {{.gradient = 4.0f}, {.gradient = 2.0f}};  /* mean 3 */
    const qzo_record two[2] = {{.gradient = -5.0f}, {.gradient = 3.0f}}; /* mean -1 */
    qzo_rule_factors(k, rule, one, 2, 0.5);
    assert_true(k[0] == (float)(0.25 * 4.0 / (3.0 + 1e-8)));
    assert_true(k[1] == (float)(0.25 * 2.0 / (3.0 + 1e-8)));
    qzo_rule_observe(rule, one, 2);
    observe(rule, (const float[]){NAN, NAN}, 2); /* a step of which nothing is known */
    qzo_rule_factors(k, rule, two, 2, 0.5);
    double root = sqrt(31.0 / 16.0 / (1.0 - 9.0 / 16.0)) + 1e-8;
    assert_true(k[0] == (float)(0.25 * -5.0 / root) && k[1] == (float)(0.25 * 3.0 / root));
    qzo_rule_close(rule);
}

/* By hand: losses 1, 2, 3, 6 of mean 3 and variance 14 / 4 against a clean loss of 2; the last is
 * clipped. Without a spread nothing is known of the scale. */
static void fzoo_divides_by_the_spread_of_the_losses(void **state) {
    (void)state;
    static const float losses[] = {1.0f, 2.0f, 3.0f, 6.0f};
    qzo_rule *rule = open_rule("fzoo", (qzo_rule_settings){.eps = 0.5, .clip = 3.0});
    qzo_record records[4] = {0};
    float k[4];
    for (int i = 0; i < 4; i++) {
        records[i].loss_plus = losses[i];
        records[i].loss_minus = 2.0f;
        records[i].gradient = (losses[i] - 2.0f) / 0.5f;
    }
    double spread = sqrt(14.0 / 4.0);
    qzo_rule_factors(k, rule, records, 4, 0.5);
    assert_true(k[0] == (float)(0.125 * -2.0 * 0.5 / spread));
    assert_true(k[1] == 0.0f);
    assert_true(k[2] == (float)(0.125 * 2.0 * 0.5 / spread));
    assert_true(k[3] == (float)(0.125 * 3.0 * 0.5 / spread));
    for (int i = 0; i < 4; i++) records[i].loss_plus = 3.0f, records[i].gradient = 2.0f;
    qzo_rule_factors(k, rule, records, 4, 0.5);
    for (int i = 0; i < 4; i++) assert_true(k[i] == 0.0f);
    qzo_rule_close(rule);
}

/* By hand, with eps 1/2 and power 1/2 around a clean loss of 2: curvatures 4, -16, 1/2 and 0. */
static void spsa_1_5_divides_by_a_power_of_the_curvature(void **state) {
    (void)state;
    static const float losses[4][2] = {{4.0f, 1.0f}, {1.0f, -1.0f}, {3.0f, 1.125f}, {4.0f, 0.0f}};
    static const double expected[4] = {1.5, 0.5, 1.875, 4.0};
    qzo_rule *rule = open_rule(
        "spsa_1_5", (qzo_rule_settings){.eps = 0.5, .clip = INFINITY, .curvature_power = 0.5});
    qzo_record records[5] = {0};
    float k[4];
    for (int i = 0; i < 4; i++) {
        records[i].loss_plus = losses[i][0];
        records[i].loss_minus = losses[i][1];
        records[i].gradient = losses[i][0] - losses[i][1];
    }
    records[4] = (qzo_record){.loss_plus = 2.0f, .loss_minus = 2.0f, .flags = QZO_FLAG_CLEAN};
    qzo_rule_factors(k, rule, records, 4, 0.5);
    for (int i = 0; i < 4; i++) /* the square root by exp and ln, then one rounding to fp32 */
        assert_true(fabs((double)k[i] / (0.125 * expected[i]) - 1.0) <= 0x1p-24 + 1e-14);
    records[4].loss_plus = NAN;
    qzo_rule_factors(k, rule, records, 4, 0.5);
    for (int i = 0; i < 4; i++) assert_true(k[i] == 0.0f);
    qzo_rule_close(rule);
}

/* By hand: two of five lead, the first of two equal losses before the other. */
static void mezo_gv_goes_from_high_to_low_losses(void **state) {
    (void)state;
    static const float losses[COUNT] = {3.0f, 1.0f, 2.0f, 5.0f, 2.0f};
    static const double shares[COUNT] = {-1.0 / 3, 0.5, 0.5, -1.0 / 3, -1.0 / 3};
    qzo_rule *rule = open_rule("mezo_gv", (qzo_rule_settings){.clip = 4.0, .guide_share = 0.5});
    qzo_record records[COUNT + 1] = {0};
    float k[COUNT];
    for (int i = 0; i < COUNT; i++) records[i].loss_plus = losses[i];
    records[COUNT] = (qzo_record){.gradient = -3.0f, .flags = QZO_FLAG_GUIDED};
    for (int i = 0; i < COUNT; i++)
        assert_true(qzo_rule_share(rule, records, COUNT, i) == shares[i]);
    qzo_rule_factors(k, rule, records, COUNT, 0.1); /* as it is, whatever the samples */
    for (int i = 0; i < COUNT; i++) assert_true(k[i] == (float)(0.1 * -3.0 * shares[i]));
    records[COUNT].gradient = -INFINITY;
    qzo_rule_factors(k, rule, records, COUNT, 0.1); /* clipped */
    for (int i = 0; i < COUNT; i++) assert_true(k[i] == (float)(0.1 * -4.0 * shares[i]));
    qzo_rule_close(rule);
}

static void mezo_gv_leaves_out_what_is_not_finite(void **state) {
    (void)state;
    qzo_rule *rule = open_rule("mezo_gv", (qzo_rule_settings){.clip = 4.0, .guide_share = 0.5});
    qzo_record records[4] = {{.loss_plus = -INFINITY, .flags = QZO_FLAG_NOT_FINITE},
                             {.loss_plus = 2.0f},
                             {.loss_plus = 1.0f},
                             {.gradient = 1.0f, .flags = QZO_FLAG_GUIDED}};
    float k[3];
    qzo_rule_factors(k, rule, records, 3, 1.0);
    assert_true(k[0] == 0.0f && k[1] == -1.0f && k[2] == 1.0f);
    records[3].flags |= QZO_FLAG_NOT_FINITE; /* the pair */
    qzo_rule_factors(k, rule, records, 3, 1.0);
    assert_true(k[0] == 0.0f && k[1] == 0.0f && k[2] == 0.0f);
    records[3].flags = QZO_FLAG_GUIDED;
    records[1].flags = QZO_FLAG_NOT_FINITE; /* one is left, which cannot be above and below */
    qzo_rule_factors(k, rule, records, 3, 1.0);
    assert_true(k[0] == 0.0f && k[1] == 0.0f && k[2] == 0.0f);
    qzo_rule_close(rule);
}

/* Of every rule: its state comes from records alone, and reset forgets them. */
static void told_the_same_records_a_rule_is_the_same(void **state) {
    (void)state;
    const qzo_rule_settings settings = {.clip = 10.0,
                                        .clip_factor = 2.0,
                                        .clip_memory = 3,
                                        .clip_quantile = 0.5,
                                        .moment_memory = 4};
    for (int r = 0; qzo_update_rules[r] != NULL; r++) {
        qzo_rule *lived = open_rule(qzo_update_rules[r]->name, settings);
        qzo_rule *told = open_rule(qzo_update_rules[r]->name, settings);
        qzo_record steps[20][COUNT + 1] = {0};
        float k[2][COUNT];
        observe(told, (const float[]){5.0f, 6.0f}, 2);
        qzo_rule_reset(told);
        for (int s = 0; s < 20; s++) {
            for (int i = 0; i < COUNT; i++) steps[s][i].gradient = sinf((float)(7 * s + i)) * 4.0f;
            qzo_rule_factors(k[0], lived, steps[s], COUNT, 0.1);
            qzo_rule_observe(lived, steps[s], COUNT);
            qzo_rule_observe(told, steps[s], COUNT);
        }
        qzo_rule_factors(k[0], lived, steps[0], COUNT, 0.1);
        qzo_rule_factors(k[1], told, steps[0], COUNT, 0.1);
        assert_memory_equal(k[0], k[1], sizeof k[0]);
        assert_true(qzo_rule_bound(lived) == qzo_rule_bound(told));
        qzo_rule_close(lived);
        qzo_rule_close(told);
    }
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
        cmocka_unit_test(mean_clip_follows_the_running_mean),
        cmocka_unit_test(mean_clip_is_not_poisoned),
        cmocka_unit_test(mean_clip_never_exceeds_clip),
        cmocka_unit_test(quantile_clip_follows_the_last_sizes),
        cmocka_unit_test(meazo_divides_by_one_moment),
        cmocka_unit_test(fzoo_divides_by_the_spread_of_the_losses),
        cmocka_unit_test(spsa_1_5_divides_by_a_power_of_the_curvature),
        cmocka_unit_test(mezo_gv_goes_from_high_to_low_losses),
        cmocka_unit_test(mezo_gv_leaves_out_what_is_not_finite),
        cmocka_unit_test(told_the_same_records_a_rule_is_the_same),
        cmocka_unit_test(rules_and_perturbations_have_names),
        cmocka_unit_test(record_is_32_bytes_without_padding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
