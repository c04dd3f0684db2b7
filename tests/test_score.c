/* Losses and metrics of one example against values worked out by hand. */
#include "test_support.h"

#include "task/score.h"

#include <math.h>

/* Three options with mean log-probabilities -1, -2 and -1. */
static const double sums[] = {-1.0, -4.0, -3.0};
static const int32_t answers[] = {1, 2, 3};

static qzo_scored_example example_with(int32_t gold, const uint8_t *right) {
    return (qzo_scored_example){.option_count = 3,
                                .log_prob_sum = sums,
                                .answer_tokens = answers,
                                .gold = gold,
                                .right = right};
}

static void classification_is_taken_over_length_normalised_options(void **state) {
    (void)state;
    const qzo_loss *loss = qzo_loss_find("classification");
    qzo_scored_example example = example_with(1, NULL);
    /* ln(2 e^-1 + e^-2) + 2; qzo_exp and qzo_log are correct to a few units in the last place. */
    const double expected = log(2.0 * exp(-1.0) + exp(-2.0)) + 2.0;
    assert_non_null(loss);
    assert_true(fabs(loss->sum(&example) - expected) < 1e-15 * 8.0);
}

static void lm_is_the_gold_options_sum(void **state) {
    (void)state;
    const qzo_loss *loss = qzo_loss_find("lm");
    qzo_scored_example example = example_with(2, NULL);
    assert_non_null(loss);
    assert_true(loss->gold_only);
    assert_true(loss->sum(&example) == 3.0);
}

static void the_first_of_equal_options_is_the_answer(void **state) {
    (void)state;
    const qzo_metric *accuracy = qzo_metric_find("accuracy");
    const double expected[] = {1.0, 0.0, 0.0};
    assert_non_null(accuracy);
    for (int32_t gold = 0; gold < 3; gold++) {
        qzo_scored_example example = example_with(gold, NULL);
        assert_true(accuracy->score(&example) == expected[gold]);
    }
}

static void any_right_option_counts(void **state) {
    (void)state;
    const qzo_metric *accuracy = qzo_metric_find("accuracy");
    const uint8_t with[] = {1, 1, 0}, without[] = {0, 1, 1};
    qzo_scored_example example = example_with(1, with);
    assert_true(accuracy->score(&example) == 1.0);
    example.right = without;
    assert_true(accuracy->score(&example) == 0.0);
}

static void generated_answers_have_no_score(void **state) {
    (void)state;
    for (int i = 0; qzo_metrics[i] != NULL; i++) {
        qzo_scored_example example = example_with(0, NULL);
        assert_int_equal(isnan(qzo_metrics[i]->score(&example)) != 0, qzo_metrics[i]->is_generated);
    }
    assert_true(qzo_metric_find("f1")->is_generated);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classification_is_taken_over_length_normalised_options),
        cmocka_unit_test(lm_is_the_gold_options_sum),
        cmocka_unit_test(the_first_of_equal_options_is_the_answer),
        cmocka_unit_test(any_right_option_counts),
        cmocka_unit_test(generated_answers_have_no_score),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
