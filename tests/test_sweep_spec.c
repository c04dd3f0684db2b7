/* Sweep files: what is read, what is refused and where, and that sweeps/README.md tells the truth.
 */
#include "test_support.h"

#include "sweep/sweep_spec.h"
#include "sweep/yaml_tree.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "model: m\ntask: t.qzt\n"

static qzo_status parse(qzo_sweep_spec **out, const char *text) {
    return qzo_sweep_spec_parse(out, text, strlen(text), "dir/s.yaml", "/base", NULL);
}

static void every_key_is_read(void **state) {
    (void)state;
    qzo_sweep_spec *sweep = NULL;
    assert_ok(parse(&sweep, "# a comment\n"
                            "name: \"two words\"\n"
                            "model: models/m\n"
                            "task: /abs/t.qzt\n"
                            "ranks_per_trial: all\n"
                            "train: { steps: 100, batch: 8, micro_batch: 4, samples_per_step: 2,\n"
                            "         clip: .inf, directions: rademacher, perturbation: absolute,\n"
                            "         update_rule: plain, schedule: cosine, warmup_steps: 5,\n"
                            "         evaluate_every: 20, eval_batch: 3, floor: 1e-8, eps: 2e-3 }\n"
                            "method: grid\n"
                            "metric:\n"
                            "  name: dev_score\n"
                            "  goal: minimize\n"
                            "parameters:\n"
                            "  learning_rate: { values: [1e-7, 0.000001] }\n"
                            "  data_seed: { value: 9 }\n"
                            "  seed:\n"
                            "    values:\n"
                            "      - 0\n"
                            "      - 18446744073709551615\n"));
    assert_string_equal(sweep->name, "two words");
    assert_string_equal(sweep->base.model_path, "/base/models/m");
    assert_string_equal(sweep->base.task_path, "/abs/t.qzt");
    assert_int_equal(sweep->ranks_per_trial, QZO_RANKS_ALL);
    assert_int_equal(sweep->base.steps, 100);
    assert_int_equal(sweep->base.micro_batch, 4);
    assert_true(isinf(sweep->base.clip));
    assert_true(sweep->base.eps == 2e-3);
    assert_string_equal(sweep->base.directions, "rademacher");
    assert_string_equal(sweep->base.schedule, "cosine");
    assert_string_equal(sweep->base.metric_name, "dev_score");
    assert_string_equal(sweep->base.metric_goal, "minimize");
    assert_int_equal(sweep->method, QZO_METHOD_GRID);
    assert_int_equal(sweep->spaces[0].parameter_count, 3);
    assert_string_equal(sweep->spaces[0].parameters[0].setting->key, "learning_rate");
    assert_true(sweep->spaces[0].parameters[0].swept);
    assert_string_equal(sweep->spaces[0].parameters[0].values[1], "0.000001");
    assert_false(sweep->spaces[0].parameters[1].swept);
    assert_string_equal(sweep->spaces[0].parameters[2].values[1], "18446744073709551615");
    qzo_sweep_spec_free(sweep);
}

static void the_smallest_file_has_the_defaults(void **state) {
    (void)state;
    qzo_sweep_spec *sweep = NULL;
    assert_ok(parse(&sweep, HEAD));
    assert_string_equal(sweep->name, "s");
    assert_string_equal(sweep->file_path, "dir/s.yaml");
    assert_int_equal(sweep->ranks_per_trial, 1);
    assert_int_equal(sweep->base.steps, 20000);
    assert_int_equal(sweep->method, QZO_METHOD_GRID);
    assert_int_equal(sweep->spaces[0].parameter_count, 0);
    assert_int_equal(sweep->text_bytes, strlen(HEAD));
    assert_string_equal(sweep->text, HEAD);
    qzo_sweep_spec_free(sweep);
}

static void a_score_is_maximized_unless_the_file_says_otherwise(void **state) {
    (void)state;
    qzo_sweep_spec *sweep = NULL;
    assert_ok(parse(&sweep, HEAD "metric: { name: dev_score }\n"));
    assert_string_equal(sweep->base.metric_goal, "maximize");
    qzo_sweep_spec_free(sweep);
    assert_ok(parse(&sweep, HEAD "metric: { goal: minimize }\n"));
    assert_string_equal(sweep->base.metric_name, "dev_loss");
    qzo_sweep_spec_free(sweep);
}

typedef struct refusal {
    const char *text, *message;
} refusal;

static void assert_refused(const refusal *cases, size_t count) {
    for (size_t i = 0; i < count; i++) {
        qzo_sweep_spec *sweep = NULL;
        assert_fails(parse(&sweep, cases[i].text), QZO_ERR_CONFIG, cases[i].message);
        assert_null(sweep);
    }
}

static void groups_are_read_from_a_mapping_a_list_or_a_text(void **state) {
    (void)state;
    static const char *const files[] = {
        HEAD "train: { groups: { weights: , scales: { exclude: [q_proj, '*.up_proj.*'] } } }\n",
        HEAD "train: { groups: [weights, scales], groups.scales.exclude: q_proj+*.up_proj.* }\n",
        HEAD "train: { groups: weights+scales, groups.scales.exclude: q_proj+*.up_proj.* }\n",
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        qzo_sweep_spec *sweep = NULL;
        assert_ok(parse(&sweep, files[i]));
        assert_string_equal(sweep->base.groups, "scales+weights");
        assert_string_equal(sweep->base.group[QZO_GROUP_SCALES].exclude, "*.up_proj.*+q_proj");
        qzo_sweep_spec_free(sweep);
    }
    static const refusal cases[] = {
        {HEAD "train: { groups: {} }\n", "groups: expected one or more of scales, unquantized"},
        {HEAD "train: { groups: [scales, scales] }\n", "dir/s.yaml:3:18: groups: expected one or"},
        {HEAD "train: { groups: { scales: { eps: 0 } } }\n",
         "groups.scales.eps: expected a number"},
        {HEAD "train: { groups: { scales: 5 } }\n", "scales: expected a mapping, found \"5\""},
        {HEAD "train: { groups: { scales: {} }, groups: scales }\n",
         "expected groups in one place"},
    };
    assert_refused(cases, sizeof cases / sizeof *cases);
}

static void model_and_task_may_be_swept(void **state) {
    (void)state;
    qzo_sweep_spec *sweep = NULL;
    assert_ok(parse(&sweep, "parameters: { model: { values: [a, b] }, task: { value: t } }"));
    assert_string_equal(sweep->spaces[0].parameters[0].values[1], "b");
    assert_null(sweep->base.model_path);
    qzo_sweep_spec_free(sweep);
}

static void wrong_keys_are_refused_with_their_place(void **state) {
    (void)state;
    static const refusal cases[] = {
        {HEAD "trian: {}\n", "dir/s.yaml:3:1: unknown key in the sweep file: expected one of name"},
        {HEAD "trian: {}\n", "(did you mean train?)"},
        {HEAD "steps: 5\n", "(it belongs in train or in parameters)"},
        {HEAD "train: { model: m }\n", "(it belongs at the top level or in parameters)"},
        {HEAD "train: { metric_name: dev_loss }\n", "(it belongs in metric, without"},
        {HEAD "train:\n  steps: 5\n  learning_rat: 1\n",
         "dir/s.yaml:5:3: unknown key in train: expected one of steps, batch"},
        {HEAD "train:\n  steps: 5\n  learning_rat: 1\n", "(did you mean learning_rate?)"},
        {HEAD "train: { nothing_like_it: 5 }\n", " more; found \"nothing_like_it\""},
        {HEAD "parameters: { metric_goal: { value: minimize } }\n", "unknown key in parameters"},
        {HEAD "parameters: { wholly_else: { value: 1 } }\n", "found \"wholly_else\""},
        {HEAD "metric: { nam: dev_loss }\n", "unknown key in metric: expected one of name, goal"},
        {HEAD "parameters: { eps: { min: 1 } }\n",
         "dir/s.yaml:3:20: eps: expected either value or values (or, with method: random, min and "
         "max), found neither"},
        {HEAD "parameters: { eps: { mim: 1 } }\n", "dir/s.yaml:3:22: unknown key in eps"},
        {HEAD "task: u\n", "dir/s.yaml:3:1: expected task once in the sweep file, found it again "
                           "(first at 2:1)"},
        {HEAD "train: { steps: 5, steps: 5 }\n", "expected steps in one place"},
        {HEAD "train: { eps: 1, zo_eps: 1 }\n", "3:18: expected eps in one place, found it again "
                                                "(first at 3:10)"},
        {HEAD "parameters: { eps: { value: 1 } }\ntrain: { eps: 1 }\n",
         "3:15: expected eps in one place, found it again (first at 4:10)"},
        {HEAD "parameters: { model: { value: n } }\n", "expected model in one place"},
        {HEAD "parameters: { eps: { value: 1, value: 2 } }\n", "expected value once in eps"},
        {HEAD "? [a, b]\n: 1\n", "expected a single word as key, found a list"},
        {"task: t\n",
         "dir/s.yaml: expected model (folder of the model, or a GGUF file), found none"},
        {"model: m\n", "dir/s.yaml: expected task"},
    };
    assert_refused(cases, sizeof cases / sizeof cases[0]);
}

static void wrong_values_are_refused_with_their_place(void **state) {
    (void)state;
    static const refusal cases[] = {
        {HEAD "train: 5\n", "dir/s.yaml:3:8: train: expected a mapping, found \"5\""},
        {HEAD "train:\n", "train: expected a mapping, found nothing"},
        {HEAD "train: [steps]\n", "train: expected a mapping, found a list"},
        {HEAD "train: { steps: true }\n",
         "dir/s.yaml:3:17: steps: expected an integer from 1 to 1000000000, found \"true\""},
        {HEAD "train: { steps: \"5\" }\n", "found the text \"5\""},
        {HEAD "train: { steps: '5' }\n", "found the text \"5\""},
        {HEAD "train: { steps: {} }\n", "found a mapping"},
        {HEAD "train: { steps: }\n", "found nothing"},
        {HEAD "train: { steps: ~ }\n", "found nothing"},
        {HEAD "train: { eps: 0 }\n", "eps: expected a number > 0 and <= 1000000, found \"0\""},
        {HEAD "train: { learning_rate: -1 }\n", "learning_rate: expected a number >= 0"},
        {HEAD "train: { directions: gausian }\n", "(did you mean gaussian?)"},
        {HEAD "ranks_per_trial: 0\n", "ranks_per_trial: expected an integer from 1 to 1048576, or "
                                      "all, found \"0\""},
        {HEAD "ranks_per_trial: \"2\"\n", "found the text \"2\""},
        {HEAD "ranks_per_trial: 2000000\n", "found \"2000000\""},
        {HEAD "ranks_per_trial: [2]\n", "found a list"},
        {HEAD "method: bayes\n", "method: expected grid, random, list, found \"bayes\""},
        {HEAD "metric: dev_loss\n", "metric: expected a mapping"},
        {HEAD "metric: { name: accuracy }\n", "expected dev_loss or dev_score"},
        {HEAD "metric: { goal: maximize }\n", "dir/s.yaml:3:17: goal: expected minimize"},
        {HEAD "name: []\n", "name: expected a text, found a list"},
        {HEAD "name: \"\"\n", "name: expected a text"},
        {HEAD "name: \"a\\nb\"\n", "name: expected a text in one line"},
        {"model: ''\ntask: t\n", "model: expected a path, found nothing"},
        {"model: [m]\ntask: t\n", "dir/s.yaml:1:8: model: expected a path, found a list"},
        {HEAD "parameters: { eps: 1e-3 }\n",
         "eps: expected a mapping {value: x} or {values: [x, ...]}, found \"1e-3\""},
        {HEAD "parameters: { eps: {} }\n", "eps: expected either value or values (or, with method: "
                                           "random, min and max), found neither"},
        {HEAD "parameters: { eps: { value: 1, values: [1] } }\n", "found both"},
        {HEAD "parameters: { eps: { values: [] } }\n", "found an empty one"},
        {HEAD "parameters: { eps: { values: 1 } }\n", "expected a list with at least one value"},
        {HEAD "parameters: { eps: { values: [1, [2]] } }\n", "found a list"},
        {HEAD "parameters: { eps: { value: [1] } }\n", "found a list"},
        {HEAD "parameters: { eps: { values: [1e-3, \"1e-4\"] } }\n",
         "dir/s.yaml:3:37: eps: expected a number > 0"},
    };
    assert_refused(cases, sizeof cases / sizeof cases[0]);
}

static void yaml_that_is_not_plain_is_refused(void **state) {
    (void)state;
    static const refusal cases[] = {
        {"", "dir/s.yaml: expected keys such as model and task, found nothing"},
        {"# only a comment\n", "found nothing"},
        {"---\n", "expected a mapping, found nothing"},
        {"- model: m\n", "dir/s.yaml:1:1: the sweep file: expected a mapping, found a list"},
        {"model\n", "expected a mapping, found \"model\""},
        {HEAD "train:\n\tsteps: 5\n", "dir/s.yaml:4:1: expected spaces, found a tab"},
        {HEAD "train: &a { steps: 5 }\n",
         "dir/s.yaml:3:8: expected a plain value, found an anchor"},
        {HEAD "name: &a b\n", "found an anchor"},
        {HEAD "parameters: { eps: { values: &a [1] } }\n", "found an anchor"},
        {HEAD "train: *a\n", "dir/s.yaml:3:8: expected a plain value, found an alias"},
        {HEAD "train: { <<: { steps: 5 } }\n", "3:10: expected a key, found << (merge keys"},
        {HEAD "train: { steps: !!int 5 }\n", "found a tag"},
        {HEAD "train: !t { steps: 5 }\n", "found a tag"},
        {HEAD "---\n" HEAD, "dir/s.yaml:3:1: expected one document, found a second one"},
        {HEAD "name: \"a\\0b\"\n", "found a NUL character"},
        {HEAD "train: { steps: 5\n", "dir/s.yaml:4:1: expected YAML, found an error"},
        {HEAD "name: \"open\n", "expected YAML, found an error"},
        {HEAD "name: a\x01\n", "dir/s.yaml:3:8: expected YAML, found an error"},
        {HEAD "name: \xff\n", "dir/s.yaml:3:7: expected YAML, found an error"},
    };
    assert_refused(cases, sizeof cases / sizeof cases[0]);
    qzo_sweep_spec *sweep = NULL;
    assert_fails(parse(&sweep, "model: [[[[[[[[[[[[[[[[[[[["), QZO_ERR_LIMIT,
                 "1:15: level 9 of nesting, at most 8");
}

static void a_file_is_loaded_relative_to_its_folder(void **state) {
    (void)state;
    char *folder = qzo_test_folder_create(), path[4096], expected[4096];
    snprintf(path, sizeof path, "%s/my.sweep.yaml", folder);
    snprintf(expected, sizeof expected, "%s/m", folder);
    qzo_test_file_write(path, HEAD, strlen(HEAD));
    qzo_sweep_spec *sweep = NULL;
    assert_ok(qzo_sweep_spec_load(&sweep, path, NULL));
    assert_string_equal(sweep->folder, folder);
    assert_string_equal(sweep->base.model_path, expected);
    assert_string_equal(sweep->name, "my.sweep");
    qzo_sweep_spec_free(sweep);
    snprintf(path, sizeof path, "%s/absent.yaml", folder);
    assert_fails(qzo_sweep_spec_load(&sweep, path, NULL), QZO_ERR_NOT_FOUND, "absent.yaml");
    qzo_test_folder_remove(folder);
}

static void a_file_above_the_limit_is_refused(void **state) {
    (void)state;
    size_t bytes = QZO_YAML_BYTES_MAX + 1;
    char *folder = qzo_test_folder_create(), path[4096], *text = malloc(bytes);
    assert_non_null(text);
    memset(text, '#', bytes);
    qzo_sweep_spec *sweep = NULL;
    assert_fails(qzo_sweep_spec_parse(&sweep, text, bytes, "large.yaml", ".", NULL), QZO_ERR_LIMIT,
                 "1048577 bytes, at most 1048576");
    snprintf(path, sizeof path, "%s/large.yaml", folder);
    qzo_test_file_write(path, text, bytes);
    assert_fails(qzo_sweep_spec_load(&sweep, path, NULL), QZO_ERR_LIMIT, "1048576");
    free(text);
    qzo_test_folder_remove(folder);
}

/* Each prefix and each single changed byte of a good file is read or refused, never a crash: run
 * under the sanitizers this finds most of what a fuzzer would. */
static void damaged_files_are_read_or_refused(void **state) {
    (void)state;
    size_t bytes = 0;
    char *text =
        (char *)qzo_test_file_read(qzo_test_fixture("../../sweeps/quickstart.yaml"), &bytes);
    static const char replacements[] = {'\0', '[', '{', ':', '&', '\n', '\t', '"', '\xff', '-'};
    for (size_t i = 0; i < bytes; i += 3) {
        qzo_sweep_spec *sweep = NULL;
        if (qzo_sweep_spec_parse(&sweep, text, i, "cut", "/", NULL) != QZO_OK) assert_null(sweep);
        qzo_sweep_spec_free(sweep);
        char original = text[i];
        text[i] = replacements[i / 3 % sizeof replacements];
        sweep = NULL;
        if (qzo_sweep_spec_parse(&sweep, text, bytes, "changed", "/", NULL) != QZO_OK)
            assert_null(sweep);
        qzo_sweep_spec_free(sweep);
        text[i] = original;
    }
    free(text);
}

/* The corpus of tests/fuzz_sweep_spec.c also runs here, where there is no clang. */
static void the_fuzz_corpus_is_read_or_refused(void **state) {
    (void)state;
    char folder[4096], path[8192];
    snprintf(folder, sizeof folder, "%s", qzo_test_fixture("fuzz/sweep_spec"));
    DIR *files = opendir(folder);
    assert_non_null(files);
    int good = 0, refused = 0;
    for (struct dirent *entry = readdir(files); entry; entry = readdir(files)) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        qzo_sweep_spec *sweep = NULL;
        qzo_status status = qzo_sweep_spec_load(&sweep, path, NULL);
        bool is_meant_good = strncmp(entry->d_name, "good", 4) == 0;
        if ((status == QZO_OK) != is_meant_good)
            fail_msg("%s: %s", entry->d_name, status == QZO_OK ? "read" : qzo_error_message());
        good += status == QZO_OK;
        refused += status != QZO_OK;
        qzo_sweep_spec_free(sweep);
    }
    closedir(files);
    assert_true(good > 0);
    assert_true(refused > 0);
}

static void the_projects_own_sweeps_are_read(void **state) {
    (void)state;
    qzo_sweep_spec *sweep = NULL;
    assert_ok(qzo_sweep_spec_load(&sweep, qzo_test_fixture("../../sweeps/quickstart.yaml"), NULL));
    assert_int_equal(sweep->base.steps, 300);
    assert_int_equal(sweep->base.samples_per_step, 4);
    assert_int_equal(sweep->ranks_per_trial, 1);
    qzo_sweep_spec_free(sweep);
    assert_ok(qzo_sweep_spec_load(&sweep, qzo_test_fixture("../../sweeps/lr_eps_grid.yaml"), NULL));
    qzo_sweep_spec_free(sweep);
}

/* The table of sweeps/README.md as the program has it. */
static char *settings_table(void) {
    size_t bytes = 16384, used = 0;
    char *text = malloc(bytes);
    assert_non_null(text);
    used += (size_t)snprintf(text, bytes,
                             "| setting | takes | default | unit | meaning |\n"
                             "| --- | --- | --- | --- | --- |\n");
    for (const qzo_setting *s = qzo_settings; s->key; s++) {
        char expected[QZO_SETTING_EXPECTED_BYTES], also[64] = "", otherwise[64] = "required";
        qzo_setting_expected(expected, s);
        if (s->alias) snprintf(also, sizeof also, " (or `%s`)", s->alias);
        if (s->default_text && s->default_text[0] == '=')
            snprintf(otherwise, sizeof otherwise, "that of `%s`", s->default_text + 1);
        else if (s->default_text)
            snprintf(otherwise, sizeof otherwise, "%s", s->default_text);
        used += (size_t)snprintf(text + used, bytes - used, "| `%s`%s | %s | %s | %s | %s |\n",
                                 s->key, also, expected, otherwise, s->unit, s->help);
        assert_true(used < bytes);
    }
    return text;
}

static void the_readme_has_the_programs_table(void **state) {
    (void)state;
    size_t bytes = 0;
    char *readme = (char *)qzo_test_file_read(qzo_test_fixture("../../sweeps/README.md"), &bytes);
    char *table = settings_table();
    const char *actual = strstr(readme, "<!-- settings: begin"), *expected = table;
    assert_non_null(actual);
    for (actual = strchr(actual, '\n') + 1; *expected;) {
        int actual_bytes = (int)strcspn(actual, "\n"),
            expected_bytes = (int)strcspn(expected, "\n");
        if (actual_bytes != expected_bytes || strncmp(actual, expected, (size_t)actual_bytes) != 0)
            fail_msg("sweeps/README.md says\n%.*s\nand the program\n%.*s", actual_bytes, actual,
                     expected_bytes, expected);
        actual += actual_bytes + 1;
        expected += expected_bytes + 1;
    }
    assert_int_equal(strncmp(actual, "<!-- settings: end", 18), 0);
    free(table);
    free(readme);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(the_smallest_file_has_the_defaults),
        cmocka_unit_test(a_score_is_maximized_unless_the_file_says_otherwise),
        cmocka_unit_test(model_and_task_may_be_swept),
        cmocka_unit_test(groups_are_read_from_a_mapping_a_list_or_a_text),
        cmocka_unit_test(wrong_keys_are_refused_with_their_place),
        cmocka_unit_test(wrong_values_are_refused_with_their_place),
        cmocka_unit_test(yaml_that_is_not_plain_is_refused),
        cmocka_unit_test(a_file_is_loaded_relative_to_its_folder),
        cmocka_unit_test(a_file_above_the_limit_is_refused),
        cmocka_unit_test(damaged_files_are_read_or_refused),
        cmocka_unit_test(the_fuzz_corpus_is_read_or_refused),
        cmocka_unit_test(the_projects_own_sweeps_are_read),
        cmocka_unit_test(the_readme_has_the_programs_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
