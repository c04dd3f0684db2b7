/* Losses and metrics of one example against values worked out by hand. */
#include "test_support.h"

#include "task/score.h"

#include <math.h>
#include <string.h>

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

static void perplexity_is_taken_over_all_tokens(void **state) {
    (void)state;
    const qzo_metric *perplexity = qzo_metric_find("perplexity");
    const int64_t begin[] = {0, 3};
    const int32_t gold[] = {2};
    const qzo_split split = {
        .example_count = 1, .option_begin = begin, .answer_tokens = answers, .gold = gold};
    qzo_scored_example example = example_with(2, NULL);
    assert_true(perplexity->is_cost);
    assert_true(perplexity->score(&example) == 3.0 && perplexity->weight(&split, 0) == 3.0);
    assert_true(fabs(perplexity->of_mean(1.0) - exp(1.0)) < 1e-15 * 4.0);
}

/* --- generated answers --- */

static qzo_text text_of(const char *text) {
    return (qzo_text){(const uint8_t *)text, strlen(text)};
}

static void texts_are_compared_by_squads_rules(void **state) {
    (void)state;
    const struct {
        const char *answer, *reference;
        double f1, exact_match;
    } cases[] = {
        {"The cat sat.", "cat", 2.0 / 3.0, 0.0},
        {" The  CAT\n", "a cat!", 1.0, 1.0},
        {"x x y", "x y y", 2.0 / 3.0, 0.0},
        {"in 1,000 B.C.", "1000 BC", 4.0 / 5.0, 0.0},
        {"theatre", "re atthe", 0.0, 0.0},
        {"the", "the", 0.0, 1.0}, /* nothing is left of either */
        {"", "cat", 0.0, 0.0},
        {"\xC3\x89T\xC3\x89", "\xC3\xA9t\xC3\xA9", 1.0, 1.0},
        {"\xE2\x80\x9Cthe\xE2\x80\x9D\xC2\xA0x", "\xE2\x80\x9C \xE2\x80\x9D x", 1.0, 1.0},
        {"\xC3", "\xC3", 1.0, 1.0}, /* half a character */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t rooms[2][64];
        qzo_text answer = qzo_text_normalised(rooms[0], text_of(cases[i].answer));
        qzo_text reference = qzo_text_normalised(rooms[1], text_of(cases[i].reference));
        double f1 = qzo_text_f1(answer, reference);
        /* Two divisions and a product of small integers: a few units in the last place. */
        if (fabs(f1 - cases[i].f1) > 4e-16 ||
            qzo_text_exact_match(answer, reference) != cases[i].exact_match)
            fail_msg("case %d: F1 %.17g, exact match %g", (int)i, f1,
                     qzo_text_exact_match(answer, reference));
    }
}

static void the_best_reference_counts(void **state) {
    (void)state;
    static const char bytes[] = "dogthe cat satcat";
    const int64_t begin[] = {0, 1, 3}, text_begin[] = {0, 3, 14, 17};
    const qzo_split split = {.example_count = 2,
                             .reference_begin = begin,
                             .reference_text_begin = text_begin,
                             .reference_bytes = (const uint8_t *)bytes};
    uint8_t rooms[2][64];
    const qzo_metric *f1 = qzo_metric_find("f1");
    assert_true(qzo_metric_of_text(f1, &split, 0, text_of("cat"), rooms[0], rooms[1]) == 0.0);
    assert_true(qzo_metric_of_text(f1, &split, 1, text_of("cat"), rooms[0], rooms[1]) == 1.0);
    assert_true(qzo_metric_of_text(qzo_metric_find("exact_match"), &split, 1, text_of("sat"),
                                   rooms[0], rooms[1]) == 0.0);
}

/* Every metric says of what it is, and is found by its name. */
static void metrics_are_of_options_or_of_texts(void **state) {
    (void)state;
    for (int i = 0; qzo_metrics[i] != NULL; i++) {
        const qzo_metric *metric = qzo_metrics[i];
        assert_true((metric->compare == NULL) != (metric->score == NULL));
        assert_ptr_equal(qzo_metric_find(metric->name), metric);
    }
    assert_null(qzo_metric_find("bleu"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classification_is_taken_over_length_normalised_options),
        cmocka_unit_test(lm_is_the_gold_options_sum),
        cmocka_unit_test(the_first_of_equal_options_is_the_answer),
        cmocka_unit_test(any_right_option_counts),
        cmocka_unit_test(perplexity_is_taken_over_all_tokens),
        cmocka_unit_test(texts_are_compared_by_squads_rules),
        cmocka_unit_test(the_best_reference_counts),
        cmocka_unit_test(metrics_are_of_options_or_of_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
