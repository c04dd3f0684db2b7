/* The table of trials, recomputed from a listing and journals. */
#include "sweep_support.h"

#include "base/file_io.h"
#include "sweep/decisions.h"
#include "sweep/results.h"
#include "sweep/retry.h"
#include "sweep/schedule.h"
#include "task/task_file.h"
#include "trial/journal.h"

#include <math.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const qzo_scheduling FIFO = {.ops = &qzo_sched_fifo};

static const char PARAMETERS[] = "  learning_rate: { values: [1e-5, 1e-4, 1e-3] }\n"
                                 "  seed: { values: [0, 1] }\n";
enum { TRIAL_COUNT = 6 };

/* A folder with a listing of six trials and no journals. */
typedef struct place {
    char *folder;
    qzo_grid *grid;
} place;

static int make_place(void **state) {
    place *made = calloc(1, sizeof *made);
    qzo_decisions *decisions = NULL;
    bool changed = false;
    made->folder = qzo_test_folder_create();
    made->grid = expand_sweep(PARAMETERS);
    assert_int_equal(made->grid->trial_count, TRIAL_COUNT);
    assert_ok(qzo_decisions_open(&decisions, made->folder, QZO_DECISIONS_NAME));
    assert_ok(qzo_decisions_grid(decisions, "test", made->grid, &FIFO, &changed));
    assert_ok(qzo_decisions_close(decisions));
    char *trials = qzo_path_join(made->folder, "trials");
    assert_ok(qzo_folder_create(trials));
    free(trials);
    *state = made;
    return 0;
}

static int remove_place(void **state) {
    place *made = *state;
    qzo_test_folder_remove(made->folder);
    qzo_grid_free(made->grid);
    free(made);
    return 0;
}

/* A journal of one step and two evaluations; outcome QZO_OUTCOME_COUNT: not ended. */
static void write_journal_with(const place *at, int64_t trial, qzo_outcome outcome,
                               double dev_loss) {
    const qzo_grid_trial *entry = &at->grid->trials[trial];
    char *path = qzo_journal_path(at->folder, &entry->id);
    char *settings = qzo_trial_spec_canonical(&entry->spec);
    qzo_journal_file file;
    qzo_journal *journal = NULL;
    qzo_record record = {.loss_plus = 1.0f, .loss_minus = 0.5f};
    float k = 1e-6f;
    qzo_step step = {.step = 1, .records = &record, .k = &k, .record_count = 1};
    qzo_evaluation before = {.step = 0, .split = QZO_SPLIT_DEV, .score = 0.5, .loss = 1.0};
    qzo_evaluation after = {.step = 1, .split = QZO_SPLIT_DEV, .score = 0.75, .loss = dev_loss};
    qzo_journal_header header = {.identity = entry->id, .settings = settings, .arithmetic = "test"};
    assert_ok(qzo_journal_load(&file, path));
    assert_ok(qzo_journal_open(&journal, path, &file, 1));
    assert_ok(qzo_journal_header_append(journal, &header));
    assert_ok(qzo_journal_evaluation_append(journal, &before));
    assert_ok(qzo_journal_step_append(journal, &step));
    assert_ok(qzo_journal_evaluation_append(journal, &after));
    if (outcome != QZO_OUTCOME_COUNT)
        assert_ok(qzo_journal_end_append(journal, 1, outcome, "reason"));
    assert_ok(qzo_journal_close(journal));
    qzo_journal_release(&file);
    free(settings);
    free(path);
}

static void write_journal(const place *at, int64_t trial, qzo_outcome outcome) {
    write_journal_with(at, trial, outcome, 0.5);
}

/* Fails unless the rows' statuses are these. */
static void check_statuses(const char *folder, const char *const expected[TRIAL_COUNT]) {
    qzo_results *results = NULL;
    assert_ok(qzo_results_load(&results, folder));
    assert_int_equal(results->row_count, TRIAL_COUNT);
    for (int64_t i = 0; i < TRIAL_COUNT; i++) {
        assert_int_equal(results->rows[i].number, i + 1);
        if (strcmp(results->rows[i].status, expected[i]) != 0)
            fail_msg("trial %lld is %s, expected %s", (long long)i + 1, results->rows[i].status,
                     expected[i]);
    }
    qzo_results_free(results);
}

/* What a trial reported at a rung stays what it was when the trial fails before its next step. */
static void a_later_failure_changes_no_decision(void **state) {
    const place *at = *state;
    int64_t rungs[] = {1, 2}, count = 0;
    bool changed = false;
    const qzo_scheduling halving = {.ops = &qzo_sched_hyperband,
                                    .rungs = rungs,
                                    .rung_count = 2,
                                    .eta = TRIAL_COUNT,
                                    .brackets = 1,
                                    .min_trials = 1};
    qzo_decisions *decisions = NULL;
    qzo_results *results = NULL;
    write_journal(at, 0, QZO_OUTCOME_FAILED);
    for (int64_t i = 1; i < TRIAL_COUNT; i++) write_journal(at, i, QZO_OUTCOME_STOPPED);
    assert_ok(qzo_decisions_open(&decisions, at->folder, QZO_DECISIONS_NAME));
    assert_ok(qzo_decisions_grid(decisions, "test", at->grid, &halving, &changed));
    for (int64_t i = 0; i < TRIAL_COUNT; i++) {
        assert_ok(qzo_decisions_dispatch(decisions, i, 0, 0));
        assert_ok(qzo_decisions_rung(decisions, i, 0));
    }
    for (int64_t i = 1; i < TRIAL_COUNT; i++) assert_ok(qzo_decisions_stop(decisions, i, 0));
    assert_ok(qzo_decisions_dispatch(decisions, 0, 0, 1)); /* the first of equals goes on */
    assert_ok(qzo_decisions_outcome(decisions, 0, QZO_ERR_CONFIG));
    assert_ok(qzo_decisions_close(decisions));
    assert_ok(qzo_results_load(&results, at->folder));
    assert_ok(qzo_schedule_check(&count, results, at->folder, false));
    qzo_results_free(results);
}

/* Killed in between, a retry leaves decisions that the journals do not contradict. */
static void a_retry_is_decided_before_it_is_done(void **state) {
    const place *at = *state;
    const qzo_slice whole = {0};
    int64_t count = 0;
    qzo_decisions *decisions = NULL;
    qzo_results *results = NULL;
    qzo_event *events = NULL;
    write_journal(at, 0, QZO_OUTCOME_DIVERGED);
    assert_ok(qzo_results_load(&results, at->folder));
    char *path = qzo_journal_path(at->folder, &at->grid->trials[0].id);
    assert_int_equal(unlink(path), 0); /* so that it cannot be set aside */
    assert_ok(qzo_decisions_open(&decisions, at->folder, QZO_DECISIONS_NAME));
    assert_fails(qzo_retry(&count, results, at->folder, &whole, QZO_OUTCOME_DIVERGED, decisions),
                 QZO_ERR_IO, "cannot set aside");
    assert_ok(qzo_decisions_close(decisions));
    assert_ok(qzo_decisions_events(&events, &count, at->folder, QZO_DECISIONS_NAME));
    assert_int_equal(count, 1);
    assert_int_equal(events[0].value, QZO_ERR_INTERRUPTED);
    free(events);
    free(path);
    qzo_results_free(results);
}

/* A trial may end between the reading of its journal and that of the decisions. */
static void a_live_run_may_be_ahead_of_its_rows(void **state) {
    const place *at = *state;
    int64_t count = 0;
    qzo_decisions *decisions = NULL;
    qzo_results *results = NULL;
    write_journal(at, 0, QZO_OUTCOME_COUNT);
    assert_ok(qzo_decisions_open(&decisions, at->folder, QZO_DECISIONS_NAME));
    assert_ok(qzo_decisions_dispatch(decisions, 0, 0, 0));
    assert_ok(qzo_decisions_outcome(decisions, 0, QZO_OK));
    assert_ok(qzo_decisions_close(decisions));
    assert_ok(qzo_results_load(&results, at->folder));
    assert_ok(qzo_schedule_check(&count, results, at->folder, true));
    assert_fails(qzo_schedule_check(&count, results, at->folder, false), QZO_ERR_DESYNC,
                 "is finished by the decisions, waiting by its journal");
    qzo_results_free(results);
}

/* A live run may have forked a trial since the rows were read. */
static void a_fork_may_be_younger_than_the_rows(void **state) {
    const place *at = *state;
    int64_t rungs[] = {1, 2}, count = 0;
    bool changed = false;
    enum { KEPT = TRIAL_COUNT - 1 };
    const qzo_scheduling population = {.ops = &qzo_sched_pbt,
                                       .rungs = rungs,
                                       .rung_count = 2,
                                       .eta = 2,
                                       .brackets = 1,
                                       .min_trials = 1,
                                       .perturbing = {.quantile = 0.2,
                                                      .factors = {2.0},
                                                      .factor_count = 1,
                                                      .settings = {qzo_setting_find("eps")},
                                                      .setting_count = 1}};
    qzo_decisions *decisions = NULL;
    qzo_results *results = NULL;
    assert_ok(qzo_decisions_open(&decisions, at->folder, QZO_DECISIONS_NAME));
    assert_ok(qzo_decisions_grid(decisions, "test", at->grid, &population, &changed));
    for (int64_t i = 0; i < TRIAL_COUNT; i++) {
        write_journal_with(at, i, QZO_OUTCOME_COUNT, (double)(i + 1));
        assert_ok(qzo_decisions_dispatch(decisions, i, 0, 0));
        assert_ok(qzo_decisions_rung(decisions, i, 0));
    }
    assert_ok(qzo_decisions_stop(decisions, KEPT, 0));
    assert_ok(qzo_decisions_sync(decisions));
    assert_ok(qzo_results_load(&results, at->folder));
    assert_ok(qzo_decisions_fork(decisions, TRIAL_COUNT, 0, 0, &at->grid->trials[0].id,
                                 at->grid->trials[0].values, at->grid->swept_count));
    assert_ok(qzo_decisions_close(decisions));
    assert_ok(qzo_schedule_check(&count, results, at->folder, true));
    assert_int_equal(count, 2 * TRIAL_COUNT + 1);
    qzo_results_free(results);
}

static void a_journal_gives_the_status(void **state) {
    const place *at = *state;
    write_journal(at, 0, QZO_OUTCOME_FINISHED);
    write_journal(at, 1, QZO_OUTCOME_DIVERGED);
    write_journal(at, 2, QZO_OUTCOME_FAILED);
    write_journal(at, 3, QZO_OUTCOME_STOPPED);
    write_journal(at, 4, QZO_OUTCOME_COUNT);
    write_journal(at, 5, QZO_OUTCOME_COUNT);
    qzo_decisions *decisions = NULL;
    assert_ok(qzo_decisions_open(&decisions, at->folder, QZO_DECISIONS_NAME));
    assert_ok(qzo_decisions_dispatch(decisions, 5, 0, 0));
    assert_ok(qzo_decisions_rung(decisions, 5, 0)); /* it waits there */
    assert_ok(qzo_decisions_dispatch(decisions, 4, 0, 0));
    assert_ok(qzo_decisions_close(decisions));
    const char *const idle[] = {"finished", "diverged", "failed", "stopped", "waiting", "waiting"};
    check_statuses(at->folder, idle);
    qzo_folder_lock *lock = NULL;
    bool took_over = false;
    assert_ok(qzo_folder_lock_take(&lock, at->folder, QZO_FOLDER_LOCK_NAME, NULL, &took_over));
    const char *const busy[] = {"finished", "diverged", "failed", "stopped", "running", "waiting"};
    check_statuses(at->folder, busy);
    qzo_folder_lock_release(lock);
}

static void rows_hold_what_the_journal_says(void **state) {
    const place *at = *state;
    qzo_results *results = NULL;
    write_journal(at, 1, QZO_OUTCOME_FINISHED);
    assert_ok(qzo_results_load(&results, at->folder));
    const qzo_trial_summary *ran = &results->rows[1].summary, *idle = &results->rows[0].summary;
    assert_true(ran->steps == 1 && ran->best_step == 1 && ran->zero_shot_dev == 0.5);
    assert_true(ran->dev_score == 0.75 && ran->dev_loss == 0.5 && isnan(ran->test_score));
    assert_true(idle->steps == 0 && idle->best_step == -1 && isnan(idle->zero_shot_dev));
    char id[QZO_DIGEST_TEXT_BYTES];
    qzo_digest_text(id, &at->grid->trials[1].id);
    assert_string_equal(results->rows[1].id, id);
    assert_string_equal(results->rows[1].trial->values[1], "1");
    qzo_results_free(results);
}

static void one_unreadable_journal_spoils_one_row(void **state) {
    const place *at = *state;
    write_journal(at, 0, QZO_OUTCOME_FINISHED);
    write_journal(at, 1, QZO_OUTCOME_FINISHED);
    char *path = qzo_journal_path(at->folder, &at->grid->trials[1].id);
    assert_int_equal(unlink(path), 0);
    qzo_journal_file file;
    qzo_journal *journal = NULL;
    qzo_journal_header header = {.settings = "no such setting=1\n", .arithmetic = ""};
    assert_ok(qzo_journal_load(&file, path));
    assert_ok(qzo_journal_open(&journal, path, &file, 1));
    assert_ok(qzo_journal_header_append(journal, &header));
    assert_ok(qzo_journal_close(journal));
    qzo_journal_release(&file);
    free(path);
    const char *const expected[] = {"finished", "failed",  "waiting",
                                    "waiting",  "waiting", "waiting"};
    check_statuses(at->folder, expected);
}

static void a_trial_is_found_by_number_and_prefix(void **state) {
    const place *at = *state;
    qzo_results *results = NULL;
    const qzo_result_row *row = NULL;
    assert_ok(qzo_results_load(&results, at->folder));
    assert_ok(qzo_results_find(&row, results, "6"));
    assert_int_equal(row->number, 6);
    for (int64_t i = 0; i < TRIAL_COUNT; i++) {
        assert_ok(qzo_results_find(&row, results, results->rows[i].id));
        assert_int_equal(row->number, i + 1);
        char prefix[13];
        snprintf(prefix, sizeof prefix, "%.12s", results->rows[i].id);
        assert_ok(qzo_results_find(&row, results, prefix));
        assert_int_equal(row->number, i + 1);
    }
    qzo_results_free(results);
}

static void wrong_names_of_trials_are_refused(void **state) {
    const place *at = *state;
    static const struct {
        const char *text, *message;
    } cases[] = {{"", "found ''"},
                 {"x1", "found 'x1'"},
                 {"-1", "found '-1'"},
                 {"ABC", "found 'ABC'"},
                 {"7777777", "the numbers are 1 to 6, and 0 ids"},
                 {"999999999999999999999999999999999", "0 ids"}};
    qzo_results *results = NULL;
    const qzo_result_row *row = NULL;
    assert_ok(qzo_results_load(&results, at->folder));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_fails(qzo_results_find(&row, results, cases[i].text), QZO_ERR_USAGE,
                     cases[i].message);
        assert_null(row);
    }
    /* A prefix that two share: made here, since digests share none worth testing. */
    memcpy(results->rows[0].id, "aabbccdd", 8);
    memcpy(results->rows[1].id, "aabbccee", 8);
    assert_fails(qzo_results_find(&row, results, "aabbcc"), QZO_ERR_USAGE, "2 ids");
    assert_ok(qzo_results_find(&row, results, "aabbcce"));
    assert_int_equal(row->number, 2);
    qzo_results_free(results);
}

static void a_folder_of_someone_else_is_refused(void **state) {
    const place *at = *state;
    qzo_results *results = NULL;
    char *other = qzo_path_join(at->folder, "trials");
    assert_fails(qzo_results_load(&results, other), QZO_ERR_NOT_FOUND, other);
    assert_null(results);
    free(other);
}

/* --- the view --- */

static int64_t query_int(const char *path, const char *query) {
    sqlite3 *database = NULL;
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_open_v2(path, &database, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(database, query, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(database);
    return value;
}

static void the_view_holds_all_rows(void **state) {
    const place *at = *state;
    qzo_results *results = NULL;
    char *path = qzo_path_join(at->folder, "store.sqlite");
    write_journal(at, 0, QZO_OUTCOME_FINISHED);
    write_journal(at, 3, QZO_OUTCOME_COUNT);
    assert_ok(qzo_results_load(&results, at->folder));
    for (int round = 0; round < 2; round++) {
        assert_ok(qzo_results_store(results, at->folder));
        assert_int_equal(query_int(path, "SELECT count(*) FROM trials"), TRIAL_COUNT);
        assert_int_equal(query_int(path, "SELECT count(*) FROM parameters"), 2 * TRIAL_COUNT);
        assert_int_equal(query_int(path, "SELECT count(*) FROM evals"), 4);
        assert_int_equal(query_int(path, "SELECT count(*) FROM trials WHERE best_step IS NULL"), 4);
        assert_int_equal(query_int(path, "SELECT count(*) FROM trials WHERE status = 'finished' "
                                         "AND dev_score = 0.75 AND test_score IS NULL"),
                         1);
    }
    qzo_results_free(results);
    free(path);
}

/* What a scheduler compares: a model whose dev loss is exactly 0 has collapsed, whatever else it
 * was before, and a fork's worth is what it is at its rung. */
static void a_collapsed_model_has_no_score(void **state) {
    const place *at = *state;
    int64_t rungs[] = {1, 2};
    static const struct {
        const qzo_scheduler_ops *ops;
        double dev_loss, expected; /* of the second evaluation; NaN: none */
    } cases[] = {
        {&qzo_sched_hyperband, 0.5, 0.5}, {&qzo_sched_hyperband, 2.0, 1.0},
        {&qzo_sched_pbt, 2.0, 2.0},       {&qzo_sched_hyperband, 0.0, NAN},
        {&qzo_sched_pbt, 0.0, NAN},       {&qzo_sched_pbt, INFINITY, NAN},
    };
    for (int64_t i = 0; i < (int64_t)(sizeof cases / sizeof *cases); i++) {
        qzo_listing *listing = NULL;
        qzo_schedule *schedule = NULL;
        qzo_trial_summary summary;
        double score = 0.0;
        write_journal_with(at, i, QZO_OUTCOME_COUNT, cases[i].dev_loss);
        assert_ok(qzo_listing_load(&listing, at->folder));
        listing->scheduling = (qzo_scheduling){
            .ops = cases[i].ops, .eta = 3, .brackets = 1, .perturbing = {.quantile = 0.2}};
        listing->scheduling.rungs = malloc(sizeof rungs);
        memcpy(listing->scheduling.rungs, rungs, sizeof rungs);
        listing->scheduling.rung_count = 2;
        assert_ok(qzo_schedule_open(&schedule, listing, at->folder));
        assert_ok(qzo_schedule_score(&score, &summary, schedule, i, 0));
        if (isnan(cases[i].expected) ? !isnan(score) : score != cases[i].expected)
            fail_msg("case %d: score %g", (int)i, score);
        qzo_trial_summary_release(&summary);
        qzo_schedule_close(schedule);
        qzo_listing_free(listing);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_place, remove_place)
    const struct CMUnitTest tests[] = {
        TEST(a_later_failure_changes_no_decision),
        TEST(a_retry_is_decided_before_it_is_done),
        TEST(a_live_run_may_be_ahead_of_its_rows),
        TEST(a_fork_may_be_younger_than_the_rows),
        TEST(a_journal_gives_the_status),
        TEST(a_collapsed_model_has_no_score),
        TEST(rows_hold_what_the_journal_says),
        TEST(one_unreadable_journal_spoils_one_row),
        TEST(a_trial_is_found_by_number_and_prefix),
        TEST(wrong_names_of_trials_are_refused),
        TEST(a_folder_of_someone_else_is_refused),
        TEST(the_view_holds_all_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
