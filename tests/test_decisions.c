/* The decision journal, the folder's lock, and the digests of contents. */
#include "sweep_support.h"

#include "base/file_io.h"
#include "base/frames.h"
#include "sweep/decisions.h"
#include "sweep/folder_lock.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const qzo_scheduling FIFO = {.ops = &qzo_sched_fifo};

static const char FOUR_TRIALS[] = "  learning_rate: { values: [1e-5, 1e-4] }\n"
                                  "  seed: { values: [0, 1] }\n";
static const char TWO_TRIALS[] = "  learning_rate: { values: [1e-5, 1e-4] }\n";
static const char MAGIC[] = "QZODECN1";

static int make_folder(void **state) {
    *state = qzo_test_folder_create();
    return 0;
}

static int remove_folder(void **state) {
    qzo_test_folder_remove(*state);
    return 0;
}

/* One run's worth: open, list, decide, close. */
static bool write_grid(const char *folder, const char *parameters) {
    qzo_decisions *decisions = NULL;
    qzo_grid *grid = expand_sweep(parameters);
    bool changed = false;
    assert_ok(qzo_decisions_open(&decisions, folder, QZO_DECISIONS_NAME));
    assert_ok(qzo_decisions_grid(decisions, "test", grid, &FIFO, &changed));
    assert_ok(qzo_decisions_dispatch(decisions, 0, 1, 0));
    assert_ok(qzo_decisions_outcome(decisions, 0, QZO_ERR_DIVERGED));
    assert_ok(qzo_decisions_close(decisions));
    qzo_grid_free(grid);
    return changed;
}

/* Counts frames of a type. */
static int count_frames(const char *folder, uint32_t type) {
    char *path = qzo_path_join(folder, "decisions.qzj");
    size_t size_bytes = 0;
    uint8_t *bytes = qzo_test_file_read(path, &size_bytes);
    qzo_frame_reader reader;
    qzo_frame frame;
    int count = 0;
    qzo_frame_reader_start(&reader, bytes, size_bytes, MAGIC);
    while (qzo_frame_next(&reader, &frame)) count += frame.type == type;
    assert_int_equal(reader.tail, QZO_TAIL_CLEAN);
    free(bytes);
    free(path);
    return count;
}

/* --- listings --- */

static void a_listing_is_the_grid(void **state) {
    const char *folder = *state;
    qzo_grid *grid = expand_sweep(FOUR_TRIALS);
    qzo_listing *listing = NULL;
    assert_true(write_grid(folder, FOUR_TRIALS));
    assert_ok(qzo_listing_load(&listing, folder));
    assert_string_equal(listing->name, "test");
    assert_int_equal(listing->swept_count, 2);
    assert_string_equal(listing->swept_keys[0], "learning_rate");
    assert_string_equal(listing->swept_keys[1], "seed");
    assert_int_equal(listing->trial_count, 4);
    for (int64_t i = 0; i < 4; i++) {
        const qzo_listed_trial *trial = &listing->trials[i];
        assert_true(qzo_digest_equal(&trial->id, &grid->trials[i].id));
        for (int k = 0; k < 2; k++)
            assert_string_equal(trial->values[k], grid->trials[i].values[k]);
        assert_true(trial->model_path[0] == '/' && trial->task_path[0] == '/');
        assert_int_equal(access(trial->model_path, R_OK), 0);
        assert_int_equal(access(trial->task_path, R_OK), 0);
    }
    qzo_listing_free(listing);
    qzo_grid_free(grid);
}

static void an_equal_grid_is_listed_once(void **state) {
    const char *folder = *state;
    assert_true(write_grid(folder, FOUR_TRIALS));
    assert_false(write_grid(folder, FOUR_TRIALS));
    assert_int_equal(count_frames(folder, QZO_DECISION_GRID), 1);
    assert_int_equal(count_frames(folder, QZO_DECISION_DISPATCH), 2);
    assert_int_equal(count_frames(folder, QZO_DECISION_OUTCOME), 2);
}

static void the_last_grid_counts(void **state) {
    const char *folder = *state;
    qzo_listing *listing = NULL;
    assert_true(write_grid(folder, FOUR_TRIALS));
    assert_true(write_grid(folder, TWO_TRIALS));
    assert_true(write_grid(folder, FOUR_TRIALS));
    assert_true(write_grid(folder, TWO_TRIALS));
    assert_int_equal(count_frames(folder, QZO_DECISION_GRID), 4);
    assert_ok(qzo_listing_load(&listing, folder));
    assert_int_equal(listing->trial_count, 2);
    assert_int_equal(listing->swept_count, 1);
    qzo_listing_free(listing);
}

/* The writer's first buffer is far smaller than a long list. */
static void a_list_longer_than_the_buffer(void **state) {
    const char *folder = *state;
    char values[4096] = "  seed: { values: [0";
    for (int i = 1; i < 300; i++) sprintf(values + strlen(values), ", %d", i);
    strcat(values, "] }\n");
    qzo_listing *listing = NULL;
    assert_true(write_grid(folder, TWO_TRIALS));
    assert_true(write_grid(folder, values));
    assert_ok(qzo_listing_load(&listing, folder));
    assert_int_equal(listing->trial_count, 300);
    assert_string_equal(listing->trials[299].values[0], "299");
    qzo_listing_free(listing);
}

static void an_absent_file_lists_nothing(void **state) {
    qzo_listing *listing = NULL;
    assert_ok(qzo_listing_load(&listing, *state));
    assert_int_equal(listing->trial_count, 0);
    qzo_listing_free(listing);
}

static void every_cut_keeps_what_is_whole(void **state) {
    const char *folder = *state;
    char *path = qzo_path_join(folder, "decisions.qzj");
    size_t size_bytes = 0;
    assert_true(write_grid(folder, TWO_TRIALS));
    uint8_t *bytes = qzo_test_file_read(path, &size_bytes);
    size_t grid_end = 8 + 8 + qzo_get_u32(bytes + 12) + 8;
    for (size_t cut = 0; cut <= size_bytes; cut += cut < grid_end - 8 ? 7 : 1) {
        qzo_listing *listing = NULL;
        qzo_decisions *decisions = NULL;
        qzo_test_file_write(path, bytes, cut);
        assert_ok(qzo_listing_load(&listing, folder));
        if (listing->trial_count != (cut < grid_end ? 0 : 2))
            fail_msg("cut at byte %zu of %zu: %lld trials", cut, size_bytes,
                     (long long)listing->trial_count);
        qzo_listing_free(listing);
        assert_ok(qzo_decisions_open(&decisions, folder, QZO_DECISIONS_NAME));
        assert_ok(qzo_decisions_dispatch(decisions, 1, 0, 0));
        assert_ok(qzo_decisions_close(decisions));
        int before = cut >= grid_end + 32 ? 1 : 0; /* the DISPATCH that was there */
        assert_int_equal(count_frames(folder, QZO_DECISION_DISPATCH), before + 1);
    }
    free(bytes);
    free(path);
}

static void a_damaged_file_is_kept_beside_it(void **state) {
    const char *folder = *state;
    char *path = qzo_path_join(folder, "decisions.qzj");
    char *kept_path = qzo_path_join(folder, "decisions.damaged");
    size_t size_bytes = 0, kept_bytes = 0;
    assert_true(write_grid(folder, TWO_TRIALS));
    uint8_t *bytes = qzo_test_file_read(path, &size_bytes);
    bytes[40] ^= 1;
    qzo_test_file_write(path, bytes, size_bytes);
    assert_true(write_grid(folder, TWO_TRIALS));
    uint8_t *kept = qzo_test_file_read(kept_path, &kept_bytes);
    assert_int_equal(kept_bytes, size_bytes);
    assert_memory_equal(kept, bytes, size_bytes);
    assert_int_equal(count_frames(folder, QZO_DECISION_GRID), 1);
    free(kept);
    free(bytes);
    free(kept_path);
    free(path);
}

static void malformed_lists_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "malformed JSON"},
        {"[]", "expected an object"},
        {"{}", "\"name\" is missing"},
        {"{\"name\": \"a\", \"trials\": []}", "\"swept\""},
        {"{\"name\": \"a\", \"swept\": [1], \"trials\": []}", "texts only"},
        {"{\"name\": \"a\", \"swept\": [], \"trials\": {}}", "\"trials\""},
        {"{\"name\": \"a\", \"swept\": [], \"trials\": [{\"id\": \"12\"}]}", "32 hexadecimal"},
        {"{\"name\": \"a\", \"swept\": [], \"trials\": [{\"id\": "
         "\"00112233445566778899aabbccddeeff\", \"model\": \"m\", \"task\": \"t\", "
         "\"values\": [\"1\"]}]}",
         "\"values\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qzo_listing *listing = NULL;
        assert_fails(qzo_listing_parse(&listing, cases[i].text, strlen(cases[i].text), "list"),
                     QZO_ERR_FORMAT, cases[i].message);
        assert_null(listing);
    }
}

/* --- the lock --- */

static void a_lock_names_its_holder(void **state) {
    const char *folder = *state;
    qzo_folder_lock *lock = NULL, *second = NULL;
    bool took_over = true;
    char process[32];
    snprintf(process, sizeof process, "process %ld", (long)getpid());
    assert_false(qzo_folder_lock_is_held(folder));
    assert_ok(qzo_folder_lock_take(&lock, folder, QZO_FOLDER_LOCK_NAME, "job-7", &took_over));
    assert_false(took_over);
    assert_true(qzo_folder_lock_is_held(folder));
    assert_fails(qzo_folder_lock_take(&second, folder, QZO_FOLDER_LOCK_NAME, NULL, &took_over),
                 QZO_ERR_BUSY, process);
    assert_non_null(strstr(qzo_error_message(), "job-7"));
    qzo_folder_lock_release(lock);
    assert_false(qzo_folder_lock_is_held(folder));
    char *path = qzo_path_join(folder, "lock");
    assert_int_equal(access(path, F_OK), -1);
    free(path);
}

static void a_killed_holder_is_taken_over(void **state) {
    const char *folder = *state;
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        qzo_folder_lock *lock = NULL;
        bool took_over = false;
        char done =
            qzo_folder_lock_take(&lock, folder, QZO_FOLDER_LOCK_NAME, NULL, &took_over) == QZO_OK;
        (void)!write(ready[1], &done, 1);
        pause();
        _exit(0);
    }
    char done = 0;
    assert_int_equal(read(ready[0], &done, 1), 1);
    assert_int_equal(done, 1);
    qzo_folder_lock *lock = NULL;
    bool took_over = false;
    assert_true(qzo_folder_lock_is_held(folder));
    assert_fails(qzo_folder_lock_take(&lock, folder, QZO_FOLDER_LOCK_NAME, NULL, &took_over),
                 QZO_ERR_BUSY, "process");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_false(qzo_folder_lock_is_held(folder));
    assert_ok(qzo_folder_lock_take(&lock, folder, QZO_FOLDER_LOCK_NAME, NULL, &took_over));
    assert_true(took_over);
    qzo_folder_lock_release(lock);
    close(ready[0]);
    close(ready[1]);
}

static void a_folder_that_is_not_there_cannot_be_locked(void **state) {
    char *folder = qzo_path_join(*state, "absent");
    qzo_folder_lock *lock = NULL;
    bool took_over = false;
    assert_fails(qzo_folder_lock_take(&lock, folder, QZO_FOLDER_LOCK_NAME, NULL, &took_over),
                 QZO_ERR_IO, folder);
    assert_false(qzo_folder_lock_is_held(folder));
    free(folder);
}

/* --- digests of contents --- */

static void unreadable_contents_keep_their_reason(void **state) {
    char *path = qzo_path_join(*state, "absent.qzt");
    qzo_contents contents = {0};
    qzo_digest digest, absent, again;
    assert_ok(qzo_contents_digest(&absent, path, false, &contents));
    const qzo_content *content = qzo_contents_find(&contents, path, false);
    assert_non_null(content);
    assert_int_equal(content->status, QZO_ERR_NOT_FOUND);
    assert_non_null(strstr(content->message, path));
    assert_null(qzo_contents_find(&contents, path, true));
    /* Two unreadable paths are two trials, not a repeated one. */
    assert_ok(qzo_contents_digest(&again, *state, false, &contents));
    assert_false(qzo_digest_equal(&absent, &again));
    assert_ok(qzo_contents_digest(&digest, qzo_test_fixture("tiny-llama"), true, &contents));
    assert_ok(qzo_contents_digest(&again, qzo_test_fixture("tiny-llama"), true, &contents));
    assert_true(qzo_digest_equal(&digest, &again) && !qzo_digest_equal(&digest, &absent));
    assert_int_equal(contents.entry_count, 3);
    qzo_contents_release(&contents);
    free(path);
}

/* Events count from the last list that differs from the one before; moved models change nothing. */
static void events_belong_to_their_list(void **state) {
    const char *folder = *state;
    bool changed = false;
    qzo_decisions *decisions = NULL;
    qzo_event *events = NULL;
    int64_t count = -1, rungs[] = {2, 4};
    const qzo_scheduling asha = {.ops = &qzo_sched_asha,
                                 .rungs = rungs,
                                 .rung_count = 2,
                                 .eta = 3,
                                 .brackets = 1,
                                 .min_trials = 1};
    qzo_grid *grid = expand_sweep("  seed: { values: [0, 1] }\n");
    assert_ok(qzo_decisions_events(&events, &count, folder, QZO_DECISIONS_NAME));
    assert_int_equal(count, 0);
    free(events);
    assert_ok(qzo_decisions_open(&decisions, folder, QZO_DECISIONS_NAME));
    assert_ok(qzo_decisions_grid(decisions, "test", grid, &FIFO, &changed));
    assert_ok(qzo_decisions_dispatch(decisions, 0, 1, 0));
    assert_ok(qzo_decisions_grid(decisions, "test", grid, &asha, &changed));
    assert_false(changed);
    assert_ok(qzo_decisions_dispatch(decisions, 1, 3, 1));
    assert_ok(qzo_decisions_rung(decisions, 1, 1));
    assert_ok(qzo_decisions_grid(decisions, "another name", grid, &asha, &changed));
    assert_ok(qzo_decisions_stop(decisions, 1, 1));
    assert_ok(qzo_decisions_outcome(decisions, 0, QZO_ERR_DIVERGED));
    assert_ok(qzo_decisions_close(decisions));
    assert_ok(qzo_decisions_events(&events, &count, folder, QZO_DECISIONS_NAME));
    static const qzo_event expected[] = {{QZO_DECISION_DISPATCH, 1, 3, 1},
                                         {QZO_DECISION_RUNG, 1, 0, 1},
                                         {QZO_DECISION_STOP, 1, 0, 1},
                                         {QZO_DECISION_OUTCOME, 0, QZO_ERR_DIVERGED, 0}};
    assert_int_equal(count, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(events[i].type, expected[i].type);
        assert_int_equal(events[i].trial, expected[i].trial);
        assert_int_equal(events[i].value, expected[i].value);
        assert_int_equal(events[i].rung, expected[i].rung);
    }
    free(events);
    qzo_listing *listing = NULL;
    assert_ok(qzo_listing_load(&listing, folder));
    assert_true(qzo_scheduling_equal(&listing->scheduling, &asha));
    qzo_listing_free(listing);
    qzo_grid_free(grid);

    grid = expand_sweep("  seed: { values: [0, 1] }\n  eps: { values: [1e-3] }\n");
    assert_ok(qzo_decisions_open(&decisions, folder, QZO_DECISIONS_NAME));
    assert_ok(qzo_decisions_grid(decisions, "test", grid, &asha, &changed));
    assert_true(changed); /* one column more, of the same trials */
    assert_ok(qzo_decisions_close(decisions));
    assert_ok(qzo_decisions_events(&events, &count, folder, QZO_DECISIONS_NAME));
    assert_int_equal(count, 4);
    free(events);
    qzo_grid_free(grid);
}

/* Forks follow the trials that were asked for, also behind a list that only names them anew. */
static void forks_are_listed_behind_the_grid(void **state) {
    const char *folder = *state;
    bool changed = false;
    int64_t rungs[] = {2, 4}, count = 0;
    const qzo_scheduling pbt = {.ops = &qzo_sched_pbt,
                                .rungs = rungs,
                                .rung_count = 2,
                                .eta = 3,
                                .brackets = 1,
                                .min_trials = 1,
                                .perturbing = {.quantile = 0.2,
                                               .factors = {0.8, 1.25},
                                               .factor_count = 2,
                                               .settings = {qzo_setting_find("eps")},
                                               .setting_count = 1,
                                               .seed = UINT64_MAX}};
    char value[] = "a \"value\"", *values[] = {value};
    qzo_digest id = qzo_digest_of("fork", 4);
    qzo_decisions *decisions = NULL;
    qzo_event *events = NULL;
    qzo_listing *listing = NULL;
    qzo_grid *grid = expand_sweep("  seed: { values: [0, 1] }\n");
    assert_ok(qzo_decisions_open(&decisions, folder, QZO_DECISIONS_NAME));
    assert_ok(qzo_decisions_grid(decisions, "test", grid, &pbt, &changed));
    assert_ok(qzo_decisions_fork(decisions, 2, 1, 0, &id, values, 1));
    assert_ok(qzo_decisions_fork(decisions, 3, 2, 0, &id, values, 1));
    assert_ok(qzo_decisions_grid(decisions, "another name", grid, &pbt, &changed));
    assert_ok(qzo_decisions_sync(decisions));
    assert_ok(qzo_listing_load(&listing, folder));
    assert_int_equal(listing->trial_count, 4);
    assert_int_equal(qzo_listing_asked(listing), 2);
    assert_int_equal(listing->trials[1].parent, QZO_NO_TRIAL);
    assert_int_equal(listing->trials[3].parent, 2);
    assert_true(qzo_digest_equal(&listing->trials[2].id, &id));
    assert_string_equal(listing->trials[2].values[0], values[0]);
    assert_string_equal(listing->trials[2].model_path, listing->trials[1].model_path);
    assert_true(qzo_scheduling_equal(&listing->scheduling, &pbt));
    qzo_listing_free(listing);
    assert_ok(qzo_decisions_events(&events, &count, folder, QZO_DECISIONS_NAME));
    assert_int_equal(count, 2);
    assert_int_equal(events[1].type, QZO_DECISION_FORK);
    assert_int_equal(events[1].value, 2);
    free(events);
    assert_ok(qzo_decisions_fork(decisions, 6, 1, 0, &id, values, 1));
    assert_ok(qzo_decisions_close(decisions));
    assert_fails(qzo_listing_load(&listing, folder), QZO_ERR_FORMAT, "after 4 trials");
    qzo_grid_free(grid);
}

/* A file whose list was lost, and one whose event names a trial that the list lacks. */
static void events_without_a_trial_are_harmless(void **state) {
    const char *folder = *state;
    bool changed = false;
    qzo_decisions *decisions = NULL;
    qzo_event *events = NULL;
    int64_t count = -1;
    qzo_grid *grid = expand_sweep("  seed: { values: [0, 1] }\n");
    assert_ok(qzo_decisions_open(&decisions, folder, QZO_DECISIONS_NAME));
    assert_ok(qzo_decisions_dispatch(decisions, 7, 1, 0));
    assert_ok(qzo_decisions_sync(decisions));
    assert_ok(qzo_decisions_events(&events, &count, folder, QZO_DECISIONS_NAME));
    assert_int_equal(count, 0);
    free(events);
    assert_ok(qzo_decisions_grid(decisions, "test", grid, &FIFO, &changed));
    assert_ok(qzo_decisions_dispatch(decisions, 2, 1, 0));
    assert_ok(qzo_decisions_close(decisions));
    assert_fails(qzo_decisions_events(&events, &count, folder, QZO_DECISIONS_NAME), QZO_ERR_FORMAT,
                 "an event of trial 3, of 2");
    assert_null(events);
    qzo_grid_free(grid);
}

static void damaged_schedulers_are_refused(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"{}", "name"},
        {"{\"name\": \"bandit\"}", "bandit"},
        {"{\"name\": \"asha\"}", "eta >= 2"},
        {"{\"name\": \"asha\", \"eta\": 3, \"brackets\": 1, \"min_trials\": 1, \"rungs\": [4, 2]}",
         "ascending rungs"},
        {"{\"name\": \"asha\", \"eta\": 3, \"brackets\": 1, \"min_trials\": 1, \"rungs\": [0]}",
         "ascending rungs"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        qzo_listing *listing = NULL;
        snprintf(text, sizeof text,
                 "{\"name\": \"n\", \"swept\": [], \"trials\": [], \"scheduler\": %s}",
                 cases[i][0]);
        assert_true(qzo_listing_parse(&listing, text, strlen(text), "list") != QZO_OK);
        if (strstr(qzo_error_message(), cases[i][1]) == NULL)
            fail_msg("%s lacks %s", qzo_error_message(), cases[i][1]);
        assert_null(listing);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(a_listing_is_the_grid),
        TEST(forks_are_listed_behind_the_grid),
        TEST(an_equal_grid_is_listed_once),
        TEST(the_last_grid_counts),
        TEST(a_list_longer_than_the_buffer),
        TEST(an_absent_file_lists_nothing),
        TEST(every_cut_keeps_what_is_whole),
        TEST(a_damaged_file_is_kept_beside_it),
        TEST(malformed_lists_are_refused),
        TEST(a_lock_names_its_holder),
        TEST(a_killed_holder_is_taken_over),
        TEST(a_folder_that_is_not_there_cannot_be_locked),
        TEST(unreadable_contents_keep_their_reason),
        cmocka_unit_test_setup_teardown(events_belong_to_their_list, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(events_without_a_trial_are_harmless, make_folder,
                                        remove_folder),
        cmocka_unit_test(damaged_schedulers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
