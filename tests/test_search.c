/* How sweep files say which trials there are, beside a plain grid: random draws, lists, zip,
 * conditions, several grids, repeats, and files of Weights & Biases. */
#include "test_support.h"

#include "sweep/grid.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "model: m\ntask: t.qzt\n"

static qzo_status digest_of_path(qzo_digest *out, const char *path, bool is_model, void *context) {
    (void)is_model, (void)context;
    *out = qzo_digest_of(path, strlen(path));
    return QZO_OK;
}

static qzo_status expand(qzo_grid **out, const char *text) {
    qzo_sweep_spec *sweep = NULL;
    qzo_status status = qzo_sweep_spec_parse(&sweep, text, strlen(text), "s.yaml", "/base", NULL);
    if (status == QZO_OK) status = qzo_grid_expand(out, sweep, digest_of_path, NULL);
    qzo_sweep_spec_free(sweep);
    return status;
}

/* The trials' values, in one line: "1e-06 0; 1e-07 1". */
static const char *table_of(const qzo_grid *grid) {
    static char text[4096];
    size_t used = 0;
    text[0] = '\0';
    for (int64_t i = 0; i < grid->trial_count; i++)
        for (int64_t k = 0; k < grid->swept_count; k++)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s",
                                     k > 0   ? " "
                                     : i > 0 ? "; "
                                             : "",
                                     grid->trials[i].values[k]);
    return text;
}

static void assert_table(const char *text, const char *expected) {
    qzo_grid *grid = NULL;
    assert_ok(expand(&grid, text));
    assert_string_equal(table_of(grid), expected);
    qzo_grid_free(grid);
}

static void lists_name_their_trials(void **state) {
    (void)state;
    assert_table(HEAD "method: list\n"
                      "trials:\n"
                      "  - { learning_rate: 1e-6, eps: 1e-3 }\n"
                      "  - { learning_rate: 1e-7, schedule: cosine }\n",
                 "1e-06 0.001 constant; 1e-07 0.001 cosine");
    assert_table(HEAD "trials: [{ eps: 1e-2 }, { eps: 1e-4 }]\nparameters: { seed: { values: [0, "
                      "1] } }\n",
                 "0.01 0; 0.01 1; 0.0001 0; 0.0001 1");
}

static void values_may_be_lists_of_words(void **state) {
    (void)state;
    static const char *const texts[] = {
        HEAD "parameters: { groups: { values: [[unquantized, scales], scales] } }\n",
        HEAD "trials: [{ groups: [unquantized, scales] }, { groups: scales }]\n",
        HEAD "grids: [{ parameters: { groups: { value: [unquantized, scales] } } },\n"
             "        { parameters: { groups: { values: [scales] } } }]\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_table(texts[i], "scales+unquantized; scales");
}

static void zipped_parameters_vary_together(void **state) {
    (void)state;
    static const char values[] = "parameters: { learning_rate: { values: [1e-6, 1e-7] }, "
                                 "seed: { values: [0, 1] }, eps: { values: [1e-2, 1e-3] } }\n";
    char text[512];
    snprintf(text, sizeof text, HEAD "%szip: [learning_rate, eps]\n", values);
    assert_table(text, "1e-06 0 0.01; 1e-06 1 0.01; 1e-07 0 0.001; 1e-07 1 0.001");
    snprintf(text, sizeof text, HEAD "%szip: [[learning_rate, seed, eps]]\n", values);
    assert_table(text, "1e-06 0 0.01; 1e-07 1 0.001");
}

static void conditions_leave_out_and_leave_alone(void **state) {
    (void)state;
    assert_table(HEAD "parameters: { learning_rate: { values: [1e-6, 1e-7] }, eps: { values: "
                      "[1e-2, 1e-3] } }\n"
                      "exclude: [\"learning_rate > 5e-7 and not eps < 5e-3\"]\n",
                 "1e-06 0.001; 1e-07 0.01; 1e-07 0.001");
    assert_table(HEAD "parameters:\n"
                      "  schedule: { values: [constant, linear] }\n"
                      "  warmup_steps: { values: [10, 20], when: schedule == linear }\n",
                 "constant 0; linear 10; linear 20");
    assert_table(HEAD "train: { steps: 9, groups: scales+unquantized }\n"
                      "parameters: { groups.unquantized.until: { values: [2, 3] } }\n"
                      "exclude: groups.unquantized.until == 2\n",
                 "3");
    /* A condition that fails leaves out nothing of what is zipped with it. */
    assert_table(HEAD "parameters:\n"
                      "  schedule: { values: [constant, linear] }\n"
                      "  eps: { values: [1e-2, 1e-3] }\n"
                      "  warmup_steps: { values: [10, 20], when: schedule == linear }\n"
                      "zip: [eps, warmup_steps]\n",
                 "constant 0.01 0; constant 0.001 0; linear 0.01 10; linear 0.001 20");
}

static void grids_follow_one_another(void **state) {
    (void)state;
    qzo_grid *grid = NULL;
    assert_ok(expand(&grid, "task: t.qzt\ngrids:\n"
                            "  - parameters: { model: { values: [a, b] } }\n"
                            "  - parameters: { model: { value: a }, eps: { values: [1e-2, 1e-3] } "
                            "}\n"
                            "    exclude: model == b or eps * 10 == 1\n"));
    assert_string_equal(grid->swept_keys[0], "model");
    assert_string_equal(grid->swept_keys[1], "eps");
    assert_int_equal(grid->trial_count, 3);
    assert_int_equal(grid->duplicate_count, 1); /* a with the default eps */
    assert_string_equal(grid->trials[2].values[1], "0.01");
    assert_string_equal(grid->trials[2].values[0], "a"); /* as it is written, not /base/a */
    qzo_grid_free(grid);
}

/* Means over seeds must not mix trials of two models because each grid has one. */
static void what_grids_fix_differently_is_a_column(void **state) {
    (void)state;
    qzo_grid *grid = NULL;
    assert_ok(expand(&grid, "task: t.qzt\ngrids:\n"
                            "  - parameters: { model: { value: a }, eps: { value: 1e-3 },\n"
                            "                  seed: { values: [0, 1] } }\n"
                            "  - parameters: { model: { value: b }, eps: { value: 1e-3 },\n"
                            "                  batch: { value: 8 } }\n"));
    assert_int_equal(grid->swept_count, 3);
    assert_string_equal(grid->swept_keys[0], "model");
    assert_string_equal(grid->swept_keys[1], "seed");
    assert_string_equal(grid->swept_keys[2], "batch");
    assert_string_equal(grid->trials[1].values[0], "a");
    assert_string_equal(grid->trials[2].values[0], "b");
    assert_string_equal(grid->trials[2].values[2], "8");
    qzo_grid_free(grid);
}

static void repeats_are_seeds(void **state) {
    (void)state;
    assert_table(HEAD "repeats: 3\ntrain: { seed: 5 }\n"
                      "parameters: { eps: { values: [1e-2, 1e-3] } }\n",
                 "0.01 5; 0.01 6; 0.01 7; 0.001 5; 0.001 6; 0.001 7");
}

#define RANDOM                                                                                     \
    HEAD "method: random\nrun_cap: %d\nsearch_seed: %d\nrepeats: 2\nparameters:\n"                 \
         "  learning_rate: { distribution: log_uniform_values, min: 1e-8, max: 1e-6 }\n"           \
         "  batch: { distribution: q_uniform, min: 4, max: 32, q: 4 }\n"                           \
         "  schedule: { values: [constant, linear, cosine] }\n"                                    \
         "  eps: { min: 1e-4, max: 1e-2 }\n%s"

static qzo_grid *draw(int count, int search_seed, const char *more) {
    char text[1024];
    qzo_grid *grid = NULL;
    snprintf(text, sizeof text, RANDOM, count, search_seed, more);
    assert_ok(expand(&grid, text));
    return grid;
}

static void draws_keep_their_ranges(void **state) {
    (void)state;
    enum { COUNT = 2000 };
    qzo_grid *grid = draw(COUNT, 1, "");
    double low_decade = 0, batches[9] = {0}, schedules[3] = {0}, eps = 0;
    assert_int_equal(grid->trial_count, 2 * COUNT);
    for (int64_t i = 0; i < grid->trial_count; i += 2) {
        const qzo_trial_spec *spec = &grid->trials[i].spec;
        assert_true(spec->learning_rate >= 1e-8 && spec->learning_rate <= 1e-6);
        assert_true(spec->eps >= 1e-4 && spec->eps <= 1e-2);
        assert_true(spec->batch >= 4 && spec->batch <= 32 && spec->batch % 4 == 0);
        low_decade += spec->learning_rate < 1e-7;
        eps += spec->eps;
        batches[spec->batch / 4]++;
        schedules[spec->schedule[0] == 'l'                               ? 1
                  : spec->schedule[1] == 'o' && spec->schedule[2] == 's' ? 2
                                                                         : 0]++;
        assert_true(grid->trials[i + 1].spec.eps == spec->eps); /* the other seed of the draw */
        assert_int_equal(grid->trials[i + 1].spec.seed, 1);
    }
    /* Five standard deviations of a count of COUNT draws with probability p, and of a mean. */
    const double sigmas = 5;
    assert_true(fabs(low_decade - COUNT / 2.0) < sigmas * sqrt(COUNT * 0.25));
    assert_true(fabs(eps / COUNT - 0.00505) < sigmas * (0.0099 / sqrt(12.0 * COUNT)));
    for (int b = 1; b <= 8; b++)
        assert_true(fabs(batches[b] - COUNT / 8.0) < sigmas * sqrt(COUNT * 0.125 * 0.875));
    for (int s = 0; s < 3; s++)
        assert_true(fabs(schedules[s] - COUNT / 3.0) < sigmas * sqrt(COUNT * 2.0 / 9.0));
    qzo_grid_free(grid);
}

/* Also where the bounds are none, and only those in between. */
static void draws_are_multiples(void **state) {
    (void)state;
    enum { COUNT = 200 };
    qzo_grid *grid = draw(COUNT, 1,
                          "  eval_batch: { distribution: q_uniform, min: 10, max: 30, q: 8 }\n"
                          "  clip: { distribution: q_log_uniform_values, min: 0.3, max: 0.65, q: "
                          "0.1 }\n");
    int lower = 0, upper = 0;
    for (int64_t i = 0; i < grid->trial_count; i += 2) {
        const qzo_trial_spec *spec = &grid->trials[i].spec;
        lower += spec->eval_batch == 16;
        upper += spec->eval_batch == 24;
        assert_true(spec->clip == 0.3 || spec->clip == 0.4 || spec->clip == 0.5 ||
                    spec->clip == 0.6);
    }
    assert_int_equal(lower + upper, COUNT);
    assert_true(abs(lower - upper) < 5 * sqrt(COUNT)); /* five standard deviations */
    qzo_grid_free(grid);
}

static void draws_do_not_depend_on_each_other(void **state) {
    (void)state;
    qzo_grid *few = draw(3, 7, ""), *many = draw(6, 7, "  clip: { min: 1, max: 9 }\n");
    qzo_grid *other = draw(3, 8, "");
    for (int64_t i = 0; i < few->trial_count; i++) {
        assert_true(few->trials[i].spec.learning_rate == many->trials[i].spec.learning_rate);
        assert_true(few->trials[i].spec.batch == many->trials[i].spec.batch);
        assert_true(few->trials[i].spec.eps == many->trials[i].spec.eps);
        assert_string_equal(few->trials[i].spec.schedule, many->trials[i].spec.schedule);
        assert_true(few->trials[i].spec.learning_rate != other->trials[i].spec.learning_rate);
    }
    qzo_grid_free(few);
    qzo_grid_free(many);
    qzo_grid_free(other);
}

/* A sweep that goes on after an update of the program must find its own trials again. */
static void draws_stay_what_they_were(void **state) {
    (void)state;
    qzo_grid *grid = draw(3, 0, "");
    assert_string_equal(table_of(grid),
                        "1.50427e-08 12 cosine 0.00328759 0; 1.50427e-08 12 cosine 0.00328759 1; "
                        "3.31844e-07 12 linear 0.0057847 0; 3.31844e-07 12 linear 0.0057847 1; "
                        "3.12684e-07 32 linear 0.00499677 0; 3.12684e-07 32 linear 0.00499677 1");
    qzo_grid_free(grid);
}

typedef struct refusal {
    const char *text, *message;
} refusal;

static const refusal mistakes[] = {
    {"method: random\n", "expected run_cap"},
    {"method: list\n", "expected trials with method: list"},
    {"method: random\nrun_cap: 0\n", "run_cap: expected an integer from 1 to 1000000"},
    {"repeats: 1x\n", "repeats: expected an integer from 1 to 10000"},
    {"repeats: 2\nparameters: { seed: { values: [1] } }\n", "expected seed once"},
    {"parameters: { eps: { min: 1, max: 2 } }\n", "which need method: random"},
    {"method: random\nrun_cap: 2\nparameters: { eps: { min: 2, max: 1 } }\n",
     "expected min <= max"},
    {"method: random\nrun_cap: 2\nparameters: { eps: { min: 1, max: .nan } }\n",
     "expected a number > 0"},
    {"method: random\nrun_cap: 2\nparameters: { clip: { min: 1, max: .inf } }\n", "a finite bound"},
    {"method: random\nrun_cap: 2\nparameters: { schedule: { min: 1, max: 2 } }\n",
     "it is no number"},
    {"method: random\nrun_cap: 2\nparameters: { eps: { min: 1, max: 2, distribution: "
     "log_uniform } }\n",
     "distribution: expected uniform, int_uniform"},
    {"method: random\nrun_cap: 2\nparameters: { eps: { min: 1, max: 2, q: 1 } }\n",
     "expected q with q_uniform"},
    {"method: random\nrun_cap: 2\nparameters: { batch: { min: 10, max: 12, q: 8, distribution: "
     "q_uniform } }\n",
     "expected a multiple of q = 8 from 10 to 12"},
    {"method: random\nrun_cap: 2\nparameters: { floor: { min: 0, max: 2, distribution: "
     "log_uniform_values } }\n",
     "both above 0"},
    {"method: random\nrun_cap: 600000\nrepeats: 2\n", "1200000 combinations"},
    {"trials: []\n", "trials: expected a list of mappings"},
    {"trials: [{ eps: 1, eps: 2 }]\n", "s.yaml:3:20: expected eps once"},
    {"trials: [{ epz: 1 }]\n", "did you mean eps?"},
    {"trials: [{}]\n", "expected settings, found none"},
    {"trials: [{ eps: 1 }]\nparameters: { eps: { value: 2 } }\n", "expected eps in one place"},
    {"zip: [eps, seed]\n", "zip: expected a parameter that has values"},
    {"parameters: { eps: { values: [1] }, seed: { values: [0, 1] } }\nzip: [eps, seed]\n",
     "expected as many values as eps has, 1, found 2"},
    {"parameters: { eps: { values: [1] }, seed: { values: [0] } }\nzip: [eps, eps]\n", "zip"},
    {"exclude: eps >\n", "character 6: expected a setting or a number, found the end"},
    {"exclude: epz > 1\n", "\"epz\", which is no setting (did you mean eps?)"},
    {"exclude: schedule == linera\n", "expected constant, linear or cosine beside schedule"},
    {"exclude: eps\n", "expected a condition, found a number"},
    {"exclude: eps = 1\n", "expected ==, found ="},
    {"exclude: (eps > 1\n", "expected )"},
    {"exclude: eps > 1 or\n", "found the end"},
    {"exclude: eps > 1 and seed\n", "expected a condition, found a number"},
    {"exclude: schedule > 1\n", "expected a number, found a word"},
    {"exclude: not not not not not not not not not not not not not not not not not not not "
     "not not not not not not not not not not not not not not not eps > 1\n",
     "at most 32 levels"},
    {"exclude: eps > 0\n", "all 1 combinations are excluded"},
    {"grids: []\n", "grids: expected a list of mappings"},
    {"grids: [{ parameters: { eps: { value: 1 } } }]\nzip: [eps, seed]\n",
     "expected zip inside grids"},
    {"grids: [{ grids: [] }]\n", "unknown key in a grid"},
    {"scheduler: bandit\n", "scheduler: expected fifo, hyperband, asha, median, pbt"},
    {"scheduler: { eta: 3 }\n", "scheduler: expected a name, found none"},
    {"scheduler: { name: asha, etta: 3 }\n", "did you mean eta?"},
    {"scheduler: { name: pbt, eta: 3 }\n", "eta: scheduler pbt has no such key"},
    {"scheduler: { name: asha, quantile: 0.2 }\n", "quantile: scheduler asha has no such key"},
    {"scheduler: { name: pbt, quantile: 0.6 }\n", "quantile: expected a number > 0 and <= 0.5"},
    {"scheduler: { name: pbt, factors: [] }\n", "factors: expected 1 to 16 numbers, found 0"},
    {"scheduler: { name: pbt, factors: [0.8, x] }\n", "factors: expected a number > 0"},
    {"scheduler: { name: pbt, perturb: batch }\n", "perturb: expected learning_rate, eps, clip"},
    {"scheduler: { name: pbt, perturb: groups.lora.alpha }\n",
     "perturb: expected learning_rate, eps, clip"},
    {"scheduler: { name: pbt, perturb: timestep_shift }\n",
     "perturb: expected learning_rate, eps, clip"},
    {"scheduler: { name: pbt, perturb: [eps, eps] }\n", "perturb: eps stands there twice"},
    {"scheduler: { name: pbt, interval: 0 }\n", "interval: expected an integer of at least 1"},
    {"scheduler: { name: asha, eta: 1 }\n", "eta: expected an integer of at least 2"},
    {"scheduler: { name: fifo, eta: 3 }\n", "eta: expected a scheduler with rungs, found fifo"},
    {"program: x.py\nparameters: { weight_decay: { values: [0, 1] } }\n",
     "found \"weight_decay\" with several values"},
};

static void mistakes_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        char text[1024];
        qzo_grid *grid = NULL;
        snprintf(text, sizeof text, HEAD "%s", mistakes[i].text);
        qzo_status status = expand(&grid, text);
        if (status == QZO_OK) fail_msg("accepted: %s", mistakes[i].text);
        if (strstr(qzo_error_message(), mistakes[i].message) == NULL)
            fail_msg("%s\nsays: %s\nlacks: %s", mistakes[i].text, qzo_error_message(),
                     mistakes[i].message);
        assert_null(grid);
    }
}

/* name: of a file of the shape that people have for Weights & Biases. */
static qzo_grid *expand_wandb(const char *name, char **notes) {
    char path[256];
    qzo_sweep_spec *sweep = NULL;
    qzo_grid *grid = NULL;
    qzo_sweep_additions additions = {"m", "t.qzt"};
    snprintf(path, sizeof path, "wandb/%s.yml", name);
    assert_ok(qzo_sweep_spec_load(&sweep, qzo_test_fixture(path), &additions));
    assert_ok(qzo_grid_expand(&grid, sweep, digest_of_path, NULL));
    *notes = strdup(sweep->notes);
    assert_non_null(*notes);
    qzo_sweep_spec_free(sweep);
    return grid;
}

static void assert_notes(char *notes, const char *const *expected, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (strstr(notes, expected[i]) == NULL) fail_msg("%s\nlacks: %s", notes, expected[i]);
    free(notes);
}

static void files_of_wandb_are_read_unchanged(void **state) {
    (void)state;
    char *notes = NULL;
    qzo_grid *grid = expand_wandb("sst2_llama_7b_qzo", &notes);
    assert_string_equal(table_of(grid), "1e-06 0.001; 5e-07 0.001; 1e-07 0.001");
    const qzo_trial_spec *spec = &grid->trials[0].spec;
    assert_int_equal(spec->steps, 20000);
    assert_int_equal(spec->batch, 16);
    assert_int_equal(spec->evaluate_every, 500); /* named twice: the last counts */
    assert_string_equal(spec->metric_name, "dev_score");
    assert_string_equal(spec->model_path, "m");
    static const char *const sst2[] = {
        "metric test_acc is read as dev_score", "parameter weight_decay is ignored",
        "program is ignored", "--max_steps=20000 is read as steps", "--load_float16 is ignored"};
    assert_notes(notes, sst2, 5);
    qzo_grid_free(grid);

    grid = expand_wandb("copa_opt_13b_seeds", &notes);
    assert_string_equal(table_of(grid), "1e-07 0; 1e-07 21; 1e-07 42; 1e-06 0; 1e-06 21; 1e-06 42");
    static const char *const copa[] = {"parameter model_name is ignored"};
    assert_notes(notes, copa, 1);
    qzo_grid_free(grid);

    grid = expand_wandb("wic_roberta_sign", &notes);
    assert_string_equal(table_of(grid), "0.0001 0.001; 0.0001 0.01; 1e-05 0.001; 1e-05 0.01");
    assert_int_equal(grid->trials[0].spec.steps, 6000);
    assert_string_equal(grid->trials[0].spec.schedule, "linear");
    static const char *const wic[] = {"metric eval_loss is read as dev_loss", "entity is ignored"};
    assert_notes(notes, wic, 2);
    qzo_grid_free(grid);

    grid = expand_wandb("boolq_mistral_early", &notes);
    assert_string_equal(table_of(grid), "3e-07; 1e-07");
    assert_int_equal(grid->trials[0].spec.steps, 5000);
    assert_int_equal(grid->trials[0].spec.batch, 8);
    static const char *const boolq[] = {"early_terminate is ignored"};
    assert_notes(notes, boolq, 1);
    qzo_grid_free(grid);

    grid = expand_wandb("winogrande_random", &notes);
    assert_int_equal(grid->trial_count, 6);
    assert_int_equal(grid->swept_count, 4);
    free(notes);
    qzo_grid_free(grid);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_name_their_trials),
        cmocka_unit_test(values_may_be_lists_of_words),
        cmocka_unit_test(zipped_parameters_vary_together),
        cmocka_unit_test(conditions_leave_out_and_leave_alone),
        cmocka_unit_test(grids_follow_one_another),
        cmocka_unit_test(what_grids_fix_differently_is_a_column),
        cmocka_unit_test(repeats_are_seeds),
        cmocka_unit_test(draws_keep_their_ranges),
        cmocka_unit_test(draws_are_multiples),
        cmocka_unit_test(draws_do_not_depend_on_each_other),
        cmocka_unit_test(draws_stay_what_they_were),
        cmocka_unit_test(mistakes_are_refused),
        cmocka_unit_test(files_of_wandb_are_read_unchanged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
