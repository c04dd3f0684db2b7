/* The table of settings, text forms, canonical text and identity. */
#include "test_support.h"

#include "base/suggest.h"
#include "optim/lr_schedule.h"
#include "optim/rules.h"
#include "trial/trial_spec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static qzo_status read_key(qzo_trial_spec *spec, const char *key, const char *text) {
    const qzo_setting *setting = qzo_setting_find(key);
    assert_non_null(setting);
    return qzo_setting_read(spec, setting, text);
}

static void assert_text(const qzo_trial_spec *spec, const char *key, const char *expected) {
    char *text = qzo_setting_text(spec, qzo_setting_find(key));
    assert_string_equal(text, expected);
    free(text);
}

static void defaults_are_the_papers(void **state) {
    (void)state;
    qzo_trial_spec spec;
    qzo_trial_spec_defaults(&spec);
    assert_int_equal(spec.steps, 20000);
    assert_int_equal(spec.batch, 16);
    assert_int_equal(spec.samples_per_step, 1);
    assert_true(spec.clip == 100);
    assert_true(spec.eps == 1e-3);
    assert_true(spec.learning_rate == 1e-7);
    assert_true(spec.floor == 1e-7);
    assert_string_equal(spec.directions, "gaussian");
    assert_string_equal(spec.perturbation, "absolute");
    assert_string_equal(spec.update_rule, "plain");
    assert_string_equal(spec.schedule, "constant");
    assert_string_equal(spec.metric_name, "dev_loss");
    assert_ok(qzo_trial_spec_complete(&spec));
    assert_int_equal(spec.micro_batch, 16);
    assert_int_equal(spec.evaluate_every, 4000);
}

static void complete_fills_what_follows(void **state) {
    (void)state;
    qzo_trial_spec spec;
    qzo_trial_spec_defaults(&spec);
    assert_ok(read_key(&spec, "steps", "300"));
    assert_ok(read_key(&spec, "seed", "18446744073709551615"));
    assert_ok(read_key(&spec, "noise_seed", "7"));
    assert_ok(qzo_trial_spec_complete(&spec));
    assert_int_equal(spec.evaluate_every, 300);
    assert_true(spec.data_seed == UINT64_MAX);
    assert_true(spec.noise_seed == 7);
}

static void settings_that_contradict_each_other_are_refused(void **state) {
    (void)state;
    qzo_trial_spec spec;
    qzo_trial_spec_defaults(&spec);
    assert_ok(read_key(&spec, "micro_batch", "17"));
    assert_fails(qzo_trial_spec_complete(&spec), QZO_ERR_CONFIG, "micro_batch 17 and batch 16");
    qzo_trial_spec_defaults(&spec);
    assert_ok(read_key(&spec, "warmup_steps", "20000"));
    assert_fails(qzo_trial_spec_complete(&spec), QZO_ERR_CONFIG, "warmup_steps < steps");
    qzo_trial_spec_defaults(&spec);
    assert_ok(read_key(&spec, "metric_goal", "maximize"));
    assert_fails(qzo_trial_spec_complete(&spec), QZO_ERR_CONFIG, "dev_loss");
}

static void numbers_are_read_in_every_usual_spelling(void **state) {
    (void)state;
    static const char *const spellings[] = {"1e-6",  "1e-06",    "1.0e-6", "1E-6",  "+1.e-6",
                                            ".1e-5", "0.000001", "10e-7",  "0.1e-5"};
    qzo_trial_spec spec;
    qzo_trial_spec_defaults(&spec);
    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++) {
        spec.learning_rate = 0;
        assert_ok(read_key(&spec, "learning_rate", spellings[i]));
        assert_text(&spec, "learning_rate", "1e-06");
    }
    static const char *const unbounded[] = {".inf", ".Inf", "+.INF", "inf", "none"};
    for (size_t i = 0; i < sizeof unbounded / sizeof unbounded[0]; i++) {
        spec.clip = 0;
        assert_ok(read_key(&spec, "clip", unbounded[i]));
        assert_true(isinf(spec.clip));
    }
    assert_ok(read_key(&spec, "learning_rate", "-0"));
    assert_text(&spec, "learning_rate", "0");
}

static void impossible_values_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *key, *text, *message;
    } cases[] = {
        {"learning_rate", "-1e-7", "expected a number >= 0 and <= 1000000, found \"-1e-7\""},
        {"learning_rate", "true", "found \"true\""},
        {"learning_rate", "", "found nothing"},
        {"learning_rate", "nan", "found \"nan\""},
        {"learning_rate", ".inf", "found \".inf\""},
        {"learning_rate", "0x1p-3", "found \"0x1p-3\""},
        {"learning_rate", "1e-7 ", "found \"1e-7 \""},
        {"learning_rate", "1e", "found \"1e\""},
        {"learning_rate", ".", "found \".\""},
        {"learning_rate", "1e-999", "found \"1e-999\""},
        {"learning_rate", "1e999", "found \"1e999\""},
        {"learning_rate", "1_000", "found \"1_000\""},
        {"eps", "0", "expected a number > 0"},
        {"eps", "1e-60", "expected a number > 0"},
        {"clip", "0", "expected a number > 0, or .inf or none"},
        {"clip", "-.inf", "expected a number > 0"},
        {"steps", "0", "expected an integer from 1 to 1000000000, found \"0\""},
        {"steps", "1.5", "expected an integer"},
        {"steps", "010", "expected an integer"},
        {"steps", "99999999999999999999999", "expected an integer"},
        {"batch", "0", "expected an integer from 1"},
        {"samples_per_step", "0", "expected an integer from 1"},
        {"samples_per_step", "65537", "to 65536"},
        {"seed", "-1", "from 0 to 18446744073709551615"},
        {"seed", "18446744073709551616", "from 0 to 18446744073709551615"},
        {"directions", "gausian",
         "expected gaussian or rademacher, found \"gausian\" (did you "
         "mean gaussian?)"},
        {"schedule", "step", "constant, linear or cosine"},
        {"task", "", "expected a path, found nothing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qzo_trial_spec spec;
        qzo_trial_spec_defaults(&spec);
        assert_fails(read_key(&spec, cases[i].key, cases[i].text), QZO_ERR_CONFIG,
                     cases[i].message);
        qzo_trial_spec_release(&spec);
    }
}

static void a_message_shows_hostile_text_in_one_bounded_line(void **state) {
    (void)state;
    qzo_trial_spec spec;
    char text[5000];
    memset(text, '\n', sizeof text);
    text[sizeof text - 1] = '\0';
    qzo_trial_spec_defaults(&spec);
    assert_fails(read_key(&spec, "steps", text), QZO_ERR_CONFIG, "\\n...");
    assert_null(strchr(qzo_error_message(), '\n'));
    assert_true(strlen(qzo_error_message()) < 200);
}

static void every_registered_choice_is_read(void **state) {
    (void)state;
    for (const qzo_setting *s = qzo_settings; s->key; s++) {
        if (s->kind != QZO_SETTING_CHOICE) continue;
        assert_non_null(s->choice(0));
        for (int i = 0; s->choice(i); i++) {
            qzo_trial_spec spec;
            qzo_trial_spec_defaults(&spec);
            assert_ok(qzo_setting_read(&spec, s, s->choice(i)));
            assert_text(&spec, s->key, s->choice(i));
        }
    }
    assert_non_null(qzo_lr_schedule_find("cosine"));
}

static void the_table_is_well_formed(void **state) {
    (void)state;
    for (const qzo_setting *s = qzo_settings; s->key; s++) {
        assert_ptr_equal(qzo_setting_find(s->key), s);
        assert_non_null(s->unit);
        assert_true(strlen(s->help) > 0);
        if (s->default_text && s->default_text[0] == '=')
            assert_non_null(qzo_setting_find(s->default_text + 1));
    }
    assert_ptr_equal(qzo_setting_find("zo_eps"), qzo_setting_find("eps"));
    assert_null(qzo_setting_find("learning-rate"));
}

static qzo_trial_spec spec_with(const char *key, const char *text) {
    qzo_trial_spec spec;
    qzo_trial_spec_defaults(&spec);
    if (key) assert_ok(read_key(&spec, key, text));
    assert_ok(qzo_trial_spec_complete(&spec));
    return spec;
}

static bool same_identity(const qzo_trial_spec *a, const qzo_trial_spec *b) {
    qzo_digest a_id = qzo_trial_spec_identity(a), b_id = qzo_trial_spec_identity(b);
    return qzo_digest_equal(&a_id, &b_id);
}

static void identity_holds_what_changes_a_journal_and_nothing_else(void **state) {
    (void)state;
    static const char *const changes[][2] = {{"steps", "19999"},
                                             {"batch", "17"},
                                             {"micro_batch", "8"},
                                             {"clip", ".inf"},
                                             {"samples_per_step", "2"},
                                             {"learning_rate", "2e-7"},
                                             {"eps", "2e-3"},
                                             {"floor", "0"},
                                             {"directions", "rademacher"},
                                             {"schedule", "cosine"},
                                             {"warmup_steps", "1"},
                                             {"evaluate_every", "10"},
                                             {"eval_batch", "8"},
                                             {"seed", "1"},
                                             {"data_seed", "1"},
                                             {"noise_seed", "1"},
                                             {"metric_name", "dev_score"},
                                             {"groups", "scales+weights"},
                                             {"groups.scales.eps", "2e-3"},
                                             {"groups.scales.until", "100"},
                                             {"groups.scales.exclude", "q_proj"},
                                             {"learning_rate", "1.0000000000000002e-7"}};
    static const char *const same[][2] = {{"learning_rate", "0.0000001"},
                                          {"micro_batch", "16"},
                                          {"data_seed", "0"},
                                          {"noise_seed", "0"},
                                          {"model", "a/b"},
                                          {"groups", "scales"},
                                          {"groups.scales.eps", "0.001"},
                                          {"groups.scales.until", "20000"},
                                          {"groups.weights.eps", "5"},
                                          {"task", "c"}};
    qzo_trial_spec plain = spec_with(NULL, NULL);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        qzo_trial_spec other = spec_with(changes[i][0], changes[i][1]);
        if (same_identity(&plain, &other))
            fail_msg("%s=%s must change the identity", changes[i][0], changes[i][1]);
        qzo_trial_spec_release(&other);
    }
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        qzo_trial_spec other = spec_with(same[i][0], same[i][1]);
        if (!same_identity(&plain, &other))
            fail_msg("%s=%s must not change the identity", same[i][0], same[i][1]);
        qzo_trial_spec_release(&other);
    }
    qzo_trial_spec other = spec_with(NULL, NULL);
    other.model_digest.bytes[15] = 1;
    assert_false(same_identity(&plain, &other));
    other = spec_with(NULL, NULL);
    other.task_digest.bytes[0] = 1;
    assert_false(same_identity(&plain, &other));
}

static void seed_and_its_overrides_meet_in_one_identity(void **state) {
    (void)state;
    qzo_trial_spec by_seed = spec_with("seed", "5"), by_parts;
    qzo_trial_spec_defaults(&by_parts);
    assert_ok(read_key(&by_parts, "data_seed", "5"));
    assert_ok(read_key(&by_parts, "noise_seed", "5"));
    assert_ok(qzo_trial_spec_complete(&by_parts));
    assert_true(same_identity(&by_seed, &by_parts));
}

static qzo_trial_spec spec_of_targets(const char *targets) {
    qzo_trial_spec spec;
    qzo_trial_spec_defaults(&spec);
    assert_ok(read_key(&spec, "groups", "lora+scales"));
    assert_ok(read_key(&spec, "groups.scales.exclude", "v_proj+q_proj+v_proj"));
    assert_ok(read_key(&spec, "groups.lora.targets", targets));
    assert_ok(qzo_trial_spec_complete(&spec));
    return spec;
}

/* Which tensors train is a set, however it is written. A journal that was written before it was
 * taken for one keeps its words, and with them its trial's identity. */
static void the_order_of_words_names_no_other_trial(void **state) {
    (void)state;
    qzo_trial_spec sorted = spec_of_targets("down_proj+q_proj"), back;
    qzo_trial_spec turned = spec_of_targets("q_proj+down_proj+q_proj");
    qzo_trial_spec other = spec_of_targets("q_proj");
    assert_string_equal(turned.group[QZO_GROUP_LORA].include, "down_proj+q_proj");
    assert_string_equal(turned.group[QZO_GROUP_SCALES].exclude, "q_proj+v_proj");
    assert_true(same_identity(&sorted, &turned));
    assert_false(same_identity(&sorted, &other));
    char *text = qzo_trial_spec_canonical(&sorted);
    char *words = strstr(text, "down_proj+q_proj");
    assert_non_null(words);
    memcpy(words, "q_proj+down_proj", strlen("q_proj+down_proj"));
    assert_ok(qzo_trial_spec_parse(&back, text));
    qzo_digest recorded = qzo_digest_of(text, strlen(text));
    qzo_digest identity = qzo_trial_spec_identity(&back);
    assert_true(qzo_digest_equal(&identity, &recorded));
    assert_false(same_identity(&back, &sorted));
    free(text);
}

static qzo_trial_spec spec_of_rule(const char *rule, const char *key, const char *text) {
    qzo_trial_spec spec;
    qzo_trial_spec_defaults(&spec);
    assert_ok(read_key(&spec, "update_rule", rule));
    assert_ok(read_key(&spec, "samples_per_step", "4"));
    if (key) assert_ok(read_key(&spec, key, text));
    assert_ok(qzo_trial_spec_complete(&spec));
    return spec;
}

/* A batch per sample is another trial, but not where a step has one sample. */
static void batches_per_sample_need_samples(void **state) {
    (void)state;
    static const char *const samples[] = {"1", "4"};
    for (int i = 0; i < 2; i++) {
        qzo_trial_spec shared, own;
        qzo_trial_spec_defaults(&shared);
        assert_ok(read_key(&shared, "samples_per_step", samples[i]));
        own = shared;
        assert_ok(read_key(&own, "batches", "per_sample"));
        assert_ok(qzo_trial_spec_complete(&shared));
        assert_ok(qzo_trial_spec_complete(&own));
        assert_true(same_identity(&shared, &own) == (i == 0));
        assert_true(qzo_trial_spec_batch_per_sample(&own) == (i == 1));
    }
}

/* Places in the order of the examples are 64-bit. */
static void more_examples_than_can_be_counted_are_refused(void **state) {
    (void)state;
    qzo_trial_spec spec;
    qzo_trial_spec_defaults(&spec);
    assert_ok(read_key(&spec, "steps", "1000000000"));
    assert_ok(read_key(&spec, "batch", "1000000"));
    assert_ok(read_key(&spec, "samples_per_step", "65536"));
    assert_ok(qzo_trial_spec_complete(&spec));
    assert_ok(read_key(&spec, "batches", "per_sample"));
    assert_fails(qzo_trial_spec_complete(&spec), QZO_ERR_CONFIG,
                 "expected at most 1000000000000000000 examples over all steps, found "
                 "65536000000000000000 with batches per_sample");
}

/* Rademacher with fzoo, unless the sweep says otherwise; never with the others. */
static void directions_may_follow_from_the_rule(void **state) {
    (void)state;
    qzo_trial_spec fzoo = spec_of_rule("fzoo", NULL, NULL);
    qzo_trial_spec said = spec_of_rule("fzoo", "directions", "gaussian");
    qzo_trial_spec plain = spec_of_rule("plain", NULL, NULL), back;
    assert_string_equal(fzoo.directions, "rademacher");
    assert_string_equal(said.directions, "gaussian");
    assert_string_equal(plain.directions, "gaussian");
    char *text = qzo_trial_spec_canonical(&said);
    assert_ok(qzo_trial_spec_parse(&back, text));
    assert_string_equal(back.directions, "gaussian");
    assert_true(same_identity(&back, &said));
    free(text);
}

static void what_a_rule_needs_of_a_step_is_asked_for(void **state) {
    (void)state;
    qzo_trial_spec spec;
    qzo_trial_spec_defaults(&spec);
    assert_ok(read_key(&spec, "update_rule", "fzoo"));
    assert_fails(qzo_trial_spec_complete(&spec), QZO_ERR_CONFIG,
                 "expected samples_per_step >= 2 with update_rule fzoo, found 1");
    assert_ok(read_key(&spec, "samples_per_step", "2"));
    assert_ok(read_key(&spec, "batches", "per_sample"));
    assert_fails(qzo_trial_spec_complete(&spec), QZO_ERR_CONFIG,
                 "expected batches shared with update_rule fzoo, found per_sample");
    assert_ok(read_key(&spec, "batches", "shared"));
    assert_ok(read_key(&spec, "micro_batch", "4")); /* of 16 */
    assert_ok(qzo_trial_spec_complete(&spec));
    assert_int_equal(qzo_trial_spec_passes(&spec), 3 * 4);
    spec.update_rule = "plain";
    assert_int_equal(qzo_trial_spec_passes(&spec), 4 * 4);
    spec.update_rule = "mezo_gv";
    assert_int_equal(qzo_trial_spec_passes(&spec), 4 * 4);
    assert_ok(read_key(&spec, "guide_share", "0.4"));
    assert_fails(qzo_trial_spec_complete(&spec), QZO_ERR_CONFIG,
                 "expected guide_share such that 1 to 1 of 2 samples_per_step lead, found 0.4: 0");
    assert_ok(read_key(&spec, "guide_share", "1"));
    assert_fails(qzo_trial_spec_complete(&spec), QZO_ERR_CONFIG, "found 1: 2 of them");
}

static void what_the_update_rule_does_not_read_names_no_other_trial(void **state) {
    (void)state;
    static const struct {
        const char *key, *text, *readers;
    } cases[] = {
        {"clip_factor", "7", " mean_clip "},
        {"clip_memory", "7", " mean_clip quantile_clip "},
        {"clip_quantile", "0.7", " quantile_clip "},
        {"moment_memory", "7", " meazo "},
        {"momentum", "0.7", " momentum "},
        {"curvature_power", "0.3", " spsa_1_5 "},
        {"guide_share", "0.7", " mezo_gv "},
        {"clip", "7", " plain mean_clip quantile_clip meazo momentum fzoo spsa_1_5 mezo_gv "}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int rule = 0; qzo_update_rules[rule]; rule++) {
            const char *name = qzo_update_rules[rule]->name;
            char word[64];
            snprintf(word, sizeof word, " %s ", name);
            bool is_read = strstr(cases[i].readers, word) != NULL;
            qzo_trial_spec with = spec_of_rule(name, cases[i].key, cases[i].text);
            qzo_trial_spec without = spec_of_rule(name, NULL, NULL);
            if (same_identity(&with, &without) == is_read)
                fail_msg("%s with %s=%s: %s trial", name, cases[i].key, cases[i].text,
                         is_read ? "the same" : "another");
        }
}

static void canonical_text_is_read_back(void **state) {
    (void)state;
    qzo_trial_spec spec, back;
    qzo_trial_spec_defaults(&spec);
    assert_ok(read_key(&spec, "learning_rate", "0.1"));
    assert_ok(read_key(&spec, "clip", "none"));
    assert_ok(read_key(&spec, "seed", "18446744073709551615"));
    for (int i = 0; i < 16; i++) spec.model_digest.bytes[i] = (uint8_t)(17 * i);
    assert_ok(qzo_trial_spec_complete(&spec));
    char *text = qzo_trial_spec_canonical(&spec);
    assert_non_null(strstr(text, "\nclip=inf\n"));
    assert_non_null(strstr(text, "\nlearning_rate=0.10000000000000001\n"));
    assert_ok(qzo_trial_spec_parse(&back, text));
    char *again = qzo_trial_spec_canonical(&back);
    assert_string_equal(again, text);
    assert_true(same_identity(&spec, &back));
    assert_null(back.model_path);
    free(again);
    free(text);
}

/* The canonical text with its first `from` replaced by `to`. */
static char *canonical_with(const char *from, const char *to) {
    qzo_trial_spec spec = spec_with(NULL, NULL);
    char *text = qzo_trial_spec_canonical(&spec);
    char *at = strstr(text, from);
    assert_non_null(at);
    size_t bytes = strlen(text) + strlen(to) + 1;
    char *changed = malloc(bytes);
    assert_non_null(changed);
    snprintf(changed, bytes, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    free(text);
    return changed;
}

static void damaged_canonical_text_is_refused(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        {"steps=", "stepz=", "unknown key \"stepz\""},
        {"\neps=", "\nzo_eps=", "unknown key \"zo_eps\""},
        {"data_seed=", "seed=", "unknown key \"seed\""},
        {"steps=20000\n", "", "steps is missing"},
        {"batch=16\n", "batch=16\nbatch=16\n", "batch stands there twice"},
        {"batch=16\n", "batch\n", "expected lines key=value"},
        {"batch=16\n", "batch=-16\n", "batch: expected an integer"},
        {"model=0", "model=G", "hexadecimal"},
        {"task=00", "task=0", "hexadecimal"},
        {"micro_batch=16", "micro_batch=17", "micro_batch <= batch"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = canonical_with(cases[i][0], cases[i][1]);
        qzo_trial_spec spec;
        assert_fails(qzo_trial_spec_parse(&spec, text), QZO_ERR_CONFIG, cases[i][2]);
        free(text);
    }
}

static void a_copy_owns_its_paths(void **state) {
    (void)state;
    qzo_trial_spec spec = spec_with("model", "m"), copy = {0};
    assert_ok(read_key(&spec, "task", "t"));
    assert_ok(qzo_trial_spec_copy(&copy, &spec));
    qzo_trial_spec_release(&spec);
    assert_string_equal(copy.model_path, "m");
    assert_string_equal(copy.task_path, "t");
    qzo_trial_spec_release(&copy);
    qzo_trial_spec_release(&copy);
}

static void the_nearest_word_is_suggested(void **state) {
    (void)state;
    static const char *const words[] = {"steps", "eps", "batch"};
    assert_int_equal(qzo_edit_distance("steps", "steps"), 0);
    assert_int_equal(qzo_edit_distance("stpes", "steps"), 1); /* swapped neighbours */
    assert_int_equal(qzo_edit_distance("", "eps"), 3);
    assert_string_equal(qzo_suggest("step", words, 3), "steps");
    assert_string_equal(qzo_suggest("bacht", words, 3), "batch");
    assert_null(qzo_suggest("learning", words, 3));
    char large[100];
    memset(large, 'x', sizeof large);
    large[sizeof large - 1] = '\0';
    assert_null(qzo_suggest(large, words, 3));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_the_papers),
        cmocka_unit_test(complete_fills_what_follows),
        cmocka_unit_test(settings_that_contradict_each_other_are_refused),
        cmocka_unit_test(numbers_are_read_in_every_usual_spelling),
        cmocka_unit_test(impossible_values_are_refused),
        cmocka_unit_test(a_message_shows_hostile_text_in_one_bounded_line),
        cmocka_unit_test(every_registered_choice_is_read),
        cmocka_unit_test(the_table_is_well_formed),
        cmocka_unit_test(identity_holds_what_changes_a_journal_and_nothing_else),
        cmocka_unit_test(seed_and_its_overrides_meet_in_one_identity),
        cmocka_unit_test(the_order_of_words_names_no_other_trial),
        cmocka_unit_test(batches_per_sample_need_samples),
        cmocka_unit_test(more_examples_than_can_be_counted_are_refused),
        cmocka_unit_test(directions_may_follow_from_the_rule),
        cmocka_unit_test(what_a_rule_needs_of_a_step_is_asked_for),
        cmocka_unit_test(what_the_update_rule_does_not_read_names_no_other_trial),
        cmocka_unit_test(canonical_text_is_read_back),
        cmocka_unit_test(damaged_canonical_text_is_refused),
        cmocka_unit_test(a_copy_owns_its_paths),
        cmocka_unit_test(the_nearest_word_is_suggested),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
