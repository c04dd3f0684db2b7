/* ctest: timeout=60
 * Trials that take the same memory are measured once, and those that load alike run one after the
 * other, however many of either there are: both must not look at every pair of trials. The sizes
 * are such that comparing all pairs would outlast the test's time. */
#include "sweep_support.h"

#include "sweep/kinds.h"
#include "sweep/schedule.h"

#include <stdlib.h>

enum { MANY_MODELS = 200000, MANY_KINDS = 40000 };

static const qzo_kinds_settings ONE_THREAD = {
    .backend_name = "cpu", .thread_count = 1, .pairs = QZO_PAIRS_NEVER};

static void every_trial_finds_its_kind(void **state) {
    (void)state;
    qzo_kinds kinds = {0};
    qzo_pairs pairs;
    qzo_grid *grid = expand_sweep("  eval_batch: { values: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, "
                                  "13, 14, 15, 16, 17, 18, 19, 20] }\n"
                                  "  update_rule: { values: [plain, momentum] }\n"
                                  "  seed: { values: [0, 1, 2] }\n");
    assert_int_equal(grid->trial_count, 120);
    assert_ok(qzo_kinds_measure(&kinds, &pairs, grid, &ONE_THREAD));
    assert_int_equal(kinds.count, 40);
    for (int64_t i = 0; i < grid->trial_count; i++) {
        const qzo_kind *kind = qzo_kinds_find(&kinds, &grid->trials[i].spec);
        assert_ptr_equal(kind, &kinds.entries[i / 3]); /* in the order of their first trials */
        assert_int_equal(kind->first_trial, i / 3 * 3);
        assert_int_equal(kind->trial_count, 3);
    }
    qzo_kinds_release(&kinds);
    assert_int_equal(kinds.count, 0);
    qzo_grid_free(grid);
}

/* Of models that are not there, which is found at once. */
static void many_kinds_take_no_pairs_of_them(void **state) {
    (void)state;
    qzo_kinds kinds = {0};
    qzo_pairs pairs;
    qzo_trial_spec base;
    qzo_grid grid = {.trials = calloc(MANY_KINDS, sizeof *grid.trials), .trial_count = MANY_KINDS};
    qzo_trial_spec_defaults(&base);
    base.task_path = strdup("absent.qzt");
    for (int64_t i = 0; i < MANY_KINDS; i++) {
        char path[32];
        snprintf(path, sizeof path, "absent/%lld", (long long)i);
        assert_ok(qzo_trial_spec_copy(&grid.trials[i].spec, &base));
        grid.trials[i].spec.model_path = strdup(path);
        assert_ok(qzo_trial_spec_complete(&grid.trials[i].spec));
    }
    assert_ok(qzo_kinds_measure(&kinds, &pairs, &grid, &ONE_THREAD));
    assert_int_equal(kinds.count, MANY_KINDS);
    assert_ptr_equal(qzo_kinds_find(&kinds, &grid.trials[7].spec), &kinds.entries[7]);
    qzo_kinds_release(&kinds);
    for (int64_t i = 0; i < MANY_KINDS; i++) qzo_trial_spec_release(&grid.trials[i].spec);
    qzo_trial_spec_release(&base);
    free(grid.trials);
}

/* Six trials of two models, one of them loaded in two ways, then many of a model each. */
static void those_that_load_alike_stand_together(void **state) {
    (void)state;
    static char rate[] = "learning_rate", what[] = "groups", *keys[] = {rate, what};
    static const char *const models[] = {"a", "b", "a", "a", "b", "a"};
    static const char *const groups[] = {"scales", "scales", "weights",
                                         "scales", "scales", "weights"};
    static const int64_t expected[] = {0, 3, 1, 4, 2, 5};
    qzo_schedule *schedule = NULL;
    qzo_listing listing = {.swept_keys = keys,
                           .swept_count = 2,
                           .trials = calloc(MANY_MODELS, sizeof *listing.trials),
                           .trial_count = MANY_MODELS,
                           .scheduling = {.ops = &qzo_sched_fifo}};
    for (int64_t i = 0; i < MANY_MODELS; i++) {
        char name[32];
        snprintf(name, sizeof name, "%lld", (long long)i);
        qzo_listed_trial *trial = &listing.trials[i];
        trial->model_path = strdup(i < 6 ? models[i] : name);
        trial->task_path = strdup("task");
        trial->values = calloc(2, sizeof *trial->values);
        trial->values[0] = strdup(name);
        trial->values[1] = strdup(i < 6 ? groups[i] : "scales");
    }
    assert_ok(qzo_schedule_open(&schedule, &listing, "folder"));
    for (int64_t i = 0; i < MANY_MODELS; i++)
        assert_int_equal(schedule->order[i], i < 6 ? expected[i] : i);
    qzo_schedule_close(schedule);
    for (int64_t i = 0; i < MANY_MODELS; i++) {
        qzo_listed_trial *trial = &listing.trials[i];
        free(trial->model_path);
        free(trial->task_path);
        free(trial->values[0]);
        free(trial->values[1]);
        free(trial->values);
    }
    free(listing.trials);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_trial_finds_its_kind),
        cmocka_unit_test(many_kinds_take_no_pairs_of_them),
        cmocka_unit_test(those_that_load_alike_stand_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
