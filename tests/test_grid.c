/* Expanded sweeps: counts, order, identities, dropped repetitions. */
#include "test_support.h"

#include "sweep/grid.h"

#include <stdlib.h>
#include <string.h>

#define HEAD "model: m\ntask: t.qzt\n"

typedef struct calls {
    int count;
    char paths[8][64];
} calls;

/* Contents stand in for real ones: a path that ends in "same" has those of "/base/m". */
static qzo_status digest_of_name(qzo_digest *out, const char *path, bool is_model, void *context) {
    calls *seen = context;
    if (seen->count < 8) strncpy(seen->paths[seen->count], path, 63);
    seen->count++;
    const char *contents = strstr(path, "same") ? "/base/m" : path;
    *out = qzo_digest_of(contents, strlen(contents));
    out->bytes[0] = is_model;
    return QZO_OK;
}

static qzo_status digest_zero(qzo_digest *out, const char *path, bool is_model, void *context) {
    (void)path, (void)is_model, (void)context;
    *out = (qzo_digest){{0}};
    return QZO_OK;
}

static qzo_status digest_fails(qzo_digest *out, const char *path, bool is_model, void *context) {
    (void)out, (void)path, (void)is_model, (void)context;
    return qzo_fail(QZO_ERR_MEMORY, "made to fail");
}

static qzo_sweep_spec *sweep_of(const char *text) {
    qzo_sweep_spec *sweep = NULL;
    assert_ok(qzo_sweep_spec_parse(&sweep, text, strlen(text), "s.yaml", "/base", NULL));
    return sweep;
}

static qzo_grid *grid_of(const char *text, qzo_content_digest content_digest, void *context) {
    qzo_sweep_spec *sweep = sweep_of(text);
    qzo_grid *grid = NULL;
    assert_ok(qzo_grid_expand(&grid, sweep, content_digest, context));
    qzo_sweep_spec_free(sweep); /* the grid must stand on its own */
    return grid;
}

static void the_last_parameter_varies_fastest(void **state) {
    (void)state;
    qzo_grid *grid = grid_of(HEAD "parameters:\n"
                                  "  learning_rate: { values: [1e-7, 0.000001] }\n"
                                  "  zo_eps: { value: 2e-3 }\n"
                                  "  seed: { values: [0, 5, 1] }\n",
                             digest_zero, NULL);
    static const char *const expected[][2] = {{"1e-07", "0"}, {"1e-07", "5"}, {"1e-07", "1"},
                                              {"1e-06", "0"}, {"1e-06", "5"}, {"1e-06", "1"}};
    assert_int_equal(grid->trial_count, 6);
    assert_int_equal(grid->duplicate_count, 0);
    assert_int_equal(grid->swept_count, 2);
    assert_string_equal(grid->swept_keys[0], "learning_rate");
    assert_string_equal(grid->swept_keys[1], "seed");
    for (int i = 0; i < 6; i++) {
        assert_string_equal(grid->trials[i].values[0], expected[i][0]);
        assert_string_equal(grid->trials[i].values[1], expected[i][1]);
        assert_true(grid->trials[i].spec.learning_rate == (i < 3 ? 1e-7 : 1e-6));
        assert_true(grid->trials[i].spec.eps == 2e-3);
        assert_true(grid->trials[i].spec.noise_seed == strtoull(expected[i][1], NULL, 10));
        for (int j = 0; j < i; j++)
            assert_false(qzo_digest_equal(&grid->trials[i].id, &grid->trials[j].id));
    }
    qzo_grid_free(grid);
}

static void a_sweep_without_parameters_is_one_trial(void **state) {
    (void)state;
    qzo_grid *grid = grid_of(HEAD, digest_zero, NULL);
    assert_int_equal(grid->trial_count, 1);
    assert_int_equal(grid->swept_count, 0);
    assert_string_equal(grid->trials[0].spec.model_path, "/base/m");
    assert_int_equal(grid->trials[0].spec.micro_batch, 16);
    qzo_grid_free(grid);
}

/* These values are a promise to folders of results that exist: where one changes, finished trials
 * are run again. Change them only together with a reason for that. */
static void identities_stay_what_they_were(void **state) {
    (void)state;
    static const char *const expected[] = {"a9c62af8a38b7d9f89fed1cc8afe280f",
                                           "bb025ad8f6aa013ba4d1792b795714db"};
    qzo_grid *grid = grid_of(HEAD "parameters: { seed: { values: [0, 1] } }\n", digest_zero, NULL);
    for (int i = 0; i < 2; i++) {
        char text[QZO_DIGEST_TEXT_BYTES];
        qzo_digest_text(text, &grid->trials[i].id);
        assert_string_equal(text, expected[i]);
    }
    qzo_grid_free(grid);
}

static void identities_do_not_depend_on_spelling_names_or_ranks(void **state) {
    (void)state;
    qzo_grid *a = grid_of(HEAD "train: { learning_rate: 1e-6, seed: 3 }\n", digest_zero, NULL);
    qzo_grid *b =
        grid_of("task: x/u.qzt\nmodel: elsewhere\nname: other\nranks_per_trial: all\n"
                "train: { steps: 20000 }\n"
                "parameters: { seed: { values: [3] }, learning_rate: { value: 0.000001 } }",
                digest_zero, NULL);
    assert_true(qzo_digest_equal(&a->trials[0].id, &b->trials[0].id));
    qzo_grid_free(a);
    qzo_grid_free(b);
}

static void repetitions_are_dropped_and_counted(void **state) {
    (void)state;
    qzo_grid *grid = grid_of(HEAD "parameters: { learning_rate: { values: [1e-6, 1e-7, 0.000001] },"
                                  " micro_batch: { values: [0, 16, 8] } }\n",
                             digest_zero, NULL);
    assert_int_equal(grid->trial_count, 4);
    assert_int_equal(grid->duplicate_count, 5);
    assert_string_equal(grid->trials[0].values[0], "1e-06");
    assert_string_equal(grid->trials[0].values[1], "0");
    assert_string_equal(grid->trials[1].values[1], "8");
    assert_string_equal(grid->trials[2].values[0], "1e-07");
    qzo_grid_free(grid);
    grid = grid_of(HEAD "train: { data_seed: 1, noise_seed: 2 }\n"
                        "parameters: { seed: { values: [0, 1, 2] } }\n",
                   digest_zero, NULL);
    assert_int_equal(grid->trial_count, 1);
    assert_int_equal(grid->duplicate_count, 2);
    qzo_grid_free(grid);
}

static void contents_are_looked_up_once_and_tell_trials_apart(void **state) {
    (void)state;
    calls seen = {0};
    qzo_grid *grid = grid_of("task: t.qzt\nparameters:\n"
                             "  model: { values: [m, n, /abs/same] }\n"
                             "  seed: { values: [0, 1] }\n",
                             digest_of_name, &seen);
    assert_int_equal(seen.count, 4); /* three models, one task */
    assert_string_equal(seen.paths[0], "/base/m");
    assert_string_equal(seen.paths[1], "/base/t.qzt");
    assert_string_equal(seen.paths[3], "/abs/same");
    assert_int_equal(grid->trial_count, 4); /* the third model has the contents of the first */
    assert_int_equal(grid->duplicate_count, 2);
    assert_string_equal(grid->trials[2].values[0], "n"); /* as written: no path of this machine */
    assert_string_equal(grid->trials[2].spec.model_path, "/base/n");
    assert_int_equal(grid->trials[2].spec.model_digest.bytes[0], 1);
    qzo_grid_free(grid);
}

static void refused_grids_say_why(void **state) {
    (void)state;
    qzo_grid *grid = NULL;
    qzo_sweep_spec *sweep = sweep_of(HEAD "train: { micro_batch: 16 }\n"
                                          "parameters: { batch: { values: [16, 8] } }\n");
    assert_fails(qzo_grid_expand(&grid, sweep, digest_zero, NULL), QZO_ERR_CONFIG,
                 "s.yaml: combination 2 of 2: expected micro_batch <= batch, found micro_batch 16 "
                 "and batch 8");
    assert_null(grid);
    qzo_sweep_spec_free(sweep);
    sweep = sweep_of(HEAD);
    assert_fails(qzo_grid_expand(&grid, sweep, digest_fails, NULL), QZO_ERR_MEMORY, "made to fail");
    qzo_sweep_spec_free(sweep);
}

static void too_many_combinations_are_refused(void **state) {
    (void)state;
    char text[32768] = HEAD "parameters:\n";
    static const char *const keys[] = {"seed", "data_seed", "noise_seed"};
    for (int k = 0; k < 3; k++) {
        strcat(strcat(strcat(text, "  "), keys[k]), ": { values: [0");
        for (int i = 1; i < 101; i++) strcat(text, ", 1");
        strcat(text, "] }\n");
    }
    qzo_grid *grid = NULL;
    qzo_sweep_spec *sweep = sweep_of(text);
    assert_fails(qzo_grid_expand(&grid, sweep, digest_zero, NULL), QZO_ERR_LIMIT,
                 "1030301 combinations of parameters, at most 1000000");
    qzo_sweep_spec_free(sweep);
}

static void the_quickstart_has_eight_trials(void **state) {
    (void)state;
    qzo_sweep_spec *sweep = NULL;
    qzo_grid *grid = NULL;
    assert_ok(qzo_sweep_spec_load(&sweep, qzo_test_fixture("../../sweeps/quickstart.yaml"), NULL));
    assert_ok(qzo_grid_expand(&grid, sweep, digest_zero, NULL));
    assert_int_equal(grid->trial_count, 8);
    assert_string_equal(grid->trials[7].values[0], "0.0003");
    assert_string_equal(grid->trials[7].values[1], "1");
    qzo_grid_free(grid);
    qzo_sweep_spec_free(sweep);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_parameter_varies_fastest),
        cmocka_unit_test(a_sweep_without_parameters_is_one_trial),
        cmocka_unit_test(identities_stay_what_they_were),
        cmocka_unit_test(identities_do_not_depend_on_spelling_names_or_ranks),
        cmocka_unit_test(repetitions_are_dropped_and_counted),
        cmocka_unit_test(contents_are_looked_up_once_and_tell_trials_apart),
        cmocka_unit_test(refused_grids_say_why),
        cmocka_unit_test(too_many_combinations_are_refused),
        cmocka_unit_test(the_quickstart_has_eight_trials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
