/* The store against what SQLite itself reads back from the file. */
#include "test_support.h"

#include "base/file_io.h"
#include "sweep/store.h"

#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const keys[] = {"learning_rate", "seed"};
static const char *const first_values[] = {"1e-07", "0"};
static const char *const second_values[] = {"1e-06", "18446744073709551615"};

static const qzo_store_row finished_row = {.trial = 1,
                                           .id = "00112233445566778899aabbccddeeff",
                                           .status = "finished",
                                           .steps = 300,
                                           .best_step = 0,
                                           .zero_shot_dev = 0.5,
                                           .dev_score = 0.75,
                                           .dev_loss = 0.1,
                                           .test_score = 0.7,
                                           .test_loss = 1.0 / 3.0,
                                           .keys = keys,
                                           .values = first_values,
                                           .parameter_count = 2};

/* A trial that has not begun: all its numbers are unknown. */
static qzo_store_row waiting_row(void) {
    return (qzo_store_row){.trial = 2,
                           .id = "ffeeddccbbaa99887766554433221100",
                           .status = "waiting",
                           .best_step = -1,
                           .zero_shot_dev = NAN,
                           .dev_score = NAN,
                           .dev_loss = NAN,
                           .test_score = NAN,
                           .test_loss = NAN,
                           .keys = keys,
                           .values = second_values,
                           .parameter_count = 2};
}

static void write_store(const char *path) {
    qzo_store *store = NULL;
    qzo_store_row second = waiting_row();
    assert_ok(qzo_store_begin(&store, path));
    assert_ok(qzo_store_trial(store, &finished_row));
    assert_ok(qzo_store_trial(store, &second));
    assert_ok(qzo_store_eval(store, 1, "dev", 0, 0.5, 0.7));
    assert_ok(qzo_store_eval(store, 1, "dev", 300, 0.75, 0.1));
    assert_ok(qzo_store_eval(store, 1, "test", 300, 0.7, 1.0 / 3.0));
    assert_ok(qzo_store_commit(store));
}

/* The rows of a query, "a|b\n", NULL as "-", doubles in full; fresh. */
static char *query_text(const char *path, const char *query) {
    sqlite3 *database = NULL;
    sqlite3_stmt *statement = NULL;
    char *text = NULL;
    size_t text_bytes = 0;
    FILE *stream = open_memstream(&text, &text_bytes);
    assert_int_equal(sqlite3_open_v2(path, &database, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    if (sqlite3_prepare_v2(database, query, -1, &statement, NULL) != SQLITE_OK)
        fail_msg("%s: %s", query, sqlite3_errmsg(database));
    while (sqlite3_step(statement) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(statement); i++) {
            const char *separator = i > 0 ? "|" : "";
            if (sqlite3_column_type(statement, i) == SQLITE_NULL)
                fprintf(stream, "%s-", separator);
            else if (sqlite3_column_type(statement, i) == SQLITE_FLOAT)
                fprintf(stream, "%s%.17g", separator, sqlite3_column_double(statement, i));
            else
                fprintf(stream, "%s%s", separator, (const char *)sqlite3_column_text(statement, i));
        }
        fprintf(stream, "\n");
    }
    sqlite3_finalize(statement);
    sqlite3_close(database);
    fclose(stream);
    return text;
}

static void assert_query(const char *path, const char *query, const char *expected) {
    char *text = query_text(path, query);
    assert_string_equal(text, expected);
    free(text);
}

static void rows_come_back(void **state) {
    (void)state;
    char *folder = qzo_test_folder_create();
    char *path = qzo_path_join(folder, "store.sqlite");
    write_store(path);
    assert_query(path, "SELECT * FROM trials ORDER BY trial",
                 "1|00112233445566778899aabbccddeeff|finished|300|0|0.5|0.75|0.10000000000000001|"
                 "0.69999999999999996|0.33333333333333331\n"
                 "2|ffeeddccbbaa99887766554433221100|waiting|0|-|-|-|-|-|-\n");
    assert_query(path, "SELECT * FROM parameters ORDER BY trial, key",
                 "1|learning_rate|1e-07\n1|seed|0\n"
                 "2|learning_rate|1e-06\n2|seed|18446744073709551615\n");
    assert_query(path, "SELECT split, step, score FROM evals ORDER BY trial, split, step",
                 "dev|0|0.5\ndev|300|0.75\ntest|300|0.69999999999999996\n");
    assert_query(path, "PRAGMA integrity_check", "ok\n");
    free(path);
    qzo_test_folder_remove(folder);
}

static void rebuilt_twice_is_the_same_file(void **state) {
    (void)state;
    char *folder = qzo_test_folder_create();
    char *path = qzo_path_join(folder, "store.sqlite");
    size_t first_bytes = 0, second_bytes = 0;
    write_store(path);
    uint8_t *first = qzo_test_file_read(path, &first_bytes);
    write_store(path);
    uint8_t *second = qzo_test_file_read(path, &second_bytes);
    assert_int_equal(first_bytes, second_bytes);
    assert_memory_equal(first, second, first_bytes);
    free(first);
    free(second);
    free(path);
    qzo_test_folder_remove(folder);
}

/* Readers on a shared disk must need neither a WAL file nor its shared memory. */
static void journal_mode_is_rollback(void **state) {
    (void)state;
    char *folder = qzo_test_folder_create();
    char *path = qzo_path_join(folder, "store.sqlite");
    write_store(path);
    assert_query(path, "PRAGMA journal_mode", "delete\n");
    free(path);
    qzo_test_folder_remove(folder);
}

static void abort_leaves_the_old_file(void **state) {
    (void)state;
    char *folder = qzo_test_folder_create();
    char *path = qzo_path_join(folder, "store.sqlite");
    qzo_store *store = NULL;
    write_store(path);
    assert_ok(qzo_store_begin(&store, path));
    assert_ok(qzo_store_trial(store, &finished_row));
    qzo_store_abort(store);
    qzo_store_abort(NULL);
    assert_query(path, "SELECT count(*) FROM trials", "2\n");
    free(path);
    qzo_test_folder_remove(folder);
}

static void bad_rows_are_refused(void **state) {
    (void)state;
    qzo_store *store = NULL;
    assert_ok(qzo_store_begin(&store, "store.sqlite"));
    assert_ok(qzo_store_trial(store, &finished_row));
    assert_fails(qzo_store_trial(store, &finished_row), QZO_ERR_IO, "UNIQUE");
    assert_fails(qzo_store_eval(store, 7, "dev", 0, 0.5, 0.5), QZO_ERR_IO, "FOREIGN KEY");
    qzo_store_abort(store);
    assert_int_equal(access("store.sqlite", F_OK), -1);
}

static void unwritable_folder_is_an_error(void **state) {
    (void)state;
    char *folder = qzo_test_folder_create();
    char *path = qzo_path_join(folder, "absent/store.sqlite");
    qzo_store *store = NULL;
    assert_ok(qzo_store_begin(&store, path));
    assert_fails(qzo_store_commit(store), QZO_ERR_NOT_FOUND, path);
    free(path);
    qzo_test_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(rebuilt_twice_is_the_same_file),
        cmocka_unit_test(journal_mode_is_rollback),
        cmocka_unit_test(abort_leaves_the_old_file),
        cmocka_unit_test(bad_rows_are_refused),
        cmocka_unit_test(unwritable_folder_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
