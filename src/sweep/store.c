#include "sweep/store.h"

#include "base/file_io.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

static const char schema[] = "PRAGMA foreign_keys = ON;"
                             "PRAGMA user_version = 1;"
                             "BEGIN;"
                             "CREATE TABLE trials("
                             "  trial INTEGER PRIMARY KEY,"
                             "  id TEXT NOT NULL UNIQUE,"
                             "  status TEXT NOT NULL,"
                             "  steps INTEGER NOT NULL,"
                             "  best_step INTEGER,"
                             "  zero_shot_dev REAL,"
                             "  dev_score REAL,"
                             "  dev_loss REAL,"
                             "  test_score REAL,"
                             "  test_loss REAL);"
                             "CREATE TABLE parameters("
                             "  trial INTEGER NOT NULL REFERENCES trials,"
                             "  key TEXT NOT NULL,"
                             "  value TEXT NOT NULL,"
                             "  PRIMARY KEY(trial, key)) WITHOUT ROWID;"
                             "CREATE TABLE evals("
                             "  trial INTEGER NOT NULL REFERENCES trials,"
                             "  split TEXT NOT NULL,"
                             "  step INTEGER NOT NULL,"
                             "  score REAL,"
                             "  loss REAL,"
                             "  PRIMARY KEY(trial, split, step)) WITHOUT ROWID;";

struct qzo_store {
    char *path;
    sqlite3 *database;
    sqlite3_stmt *insert_trial;
    sqlite3_stmt *insert_parameter;
    sqlite3_stmt *insert_eval;
};

static qzo_status status_from_sqlite(const qzo_store *store, int code) {
    if (code == SQLITE_OK || code == SQLITE_DONE) return QZO_OK;
    if (code == SQLITE_NOMEM) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", store->path);
    const char *reason =
        store->database != NULL ? sqlite3_errmsg(store->database) : sqlite3_errstr(code);
    return qzo_fail(QZO_ERR_IO, "%s: SQLite: %s", store->path, reason);
}

static qzo_status statement_prepare(sqlite3_stmt **out, const qzo_store *store, const char *text) {
    return status_from_sqlite(store, sqlite3_prepare_v2(store->database, text, -1, out, NULL));
}

/* Runs an insert whose parameters are bound. SQLite's bind calls fail only out of memory or on a
 * wrong index, and an unbound parameter of a NOT NULL column fails here. */
static qzo_status statement_run(const qzo_store *store, sqlite3_stmt *statement) {
    qzo_status status = status_from_sqlite(store, sqlite3_step(statement));
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return status;
}

static void bind_text(sqlite3_stmt *statement, int index, const char *text) {
    sqlite3_bind_text(statement, index, text, -1, SQLITE_TRANSIENT);
}

qzo_status qzo_store_begin(qzo_store **out, const char *path) {
    qzo_status status = QZO_OK;
    *out = NULL;
    qzo_store *store = calloc(1, sizeof *store);
    if (store == NULL || (store->path = strdup(path)) == NULL) {
        free(store);
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    }
    QZO_TRY(status_from_sqlite(store, sqlite3_open(":memory:", &store->database)));
    QZO_TRY(status_from_sqlite(store, sqlite3_exec(store->database, schema, NULL, NULL, NULL)));
    QZO_TRY(statement_prepare(&store->insert_trial, store,
                              "INSERT INTO trials VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
    QZO_TRY(statement_prepare(&store->insert_parameter, store,
                              "INSERT INTO parameters VALUES(?, ?, ?)"));
    QZO_TRY(
        statement_prepare(&store->insert_eval, store, "INSERT INTO evals VALUES(?, ?, ?, ?, ?)"));
    *out = store;
    return QZO_OK;
cleanup:
    qzo_store_abort(store);
    return status;
}

qzo_status qzo_store_trial(qzo_store *store, const qzo_store_row *row) {
    qzo_status status = QZO_OK;
    sqlite3_stmt *insert = store->insert_trial;
    sqlite3_bind_int64(insert, 1, row->trial);
    bind_text(insert, 2, row->id);
    bind_text(insert, 3, row->status);
    sqlite3_bind_int64(insert, 4, row->steps);
    if (row->best_step >= 0) sqlite3_bind_int64(insert, 5, row->best_step);
    sqlite3_bind_double(insert, 6, row->zero_shot_dev);
    sqlite3_bind_double(insert, 7, row->dev_score);
    sqlite3_bind_double(insert, 8, row->dev_loss);
    sqlite3_bind_double(insert, 9, row->test_score);
    sqlite3_bind_double(insert, 10, row->test_loss);
    QZO_TRY(statement_run(store, insert));
    for (int64_t i = 0; i < row->parameter_count; i++) {
        sqlite3_bind_int64(store->insert_parameter, 1, row->trial);
        bind_text(store->insert_parameter, 2, row->keys[i]);
        bind_text(store->insert_parameter, 3, row->values[i]);
        QZO_TRY(statement_run(store, store->insert_parameter));
    }
cleanup:
    return status;
}

qzo_status qzo_store_eval(qzo_store *store, int64_t trial, const char *split, int64_t step,
                          double score, double loss) {
    sqlite3_bind_int64(store->insert_eval, 1, trial);
    bind_text(store->insert_eval, 2, split);
    sqlite3_bind_int64(store->insert_eval, 3, step);
    sqlite3_bind_double(store->insert_eval, 4, score);
    sqlite3_bind_double(store->insert_eval, 5, loss);
    return statement_run(store, store->insert_eval);
}

qzo_status qzo_store_commit(qzo_store *store) {
    qzo_status status = QZO_OK;
    sqlite3_int64 size_bytes = 0;
    unsigned char *bytes = NULL;
    QZO_TRY(status_from_sqlite(store, sqlite3_exec(store->database, "COMMIT", NULL, NULL, NULL)));
    bytes = sqlite3_serialize(store->database, "main", &size_bytes, 0);
    if (bytes == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", store->path);
        goto cleanup;
    }
    QZO_TRY(qzo_file_replace(store->path, bytes, (size_t)size_bytes));
cleanup:
    sqlite3_free(bytes);
    qzo_store_abort(store);
    return status;
}

void qzo_store_abort(qzo_store *store) {
    if (store == NULL) return;
    sqlite3_finalize(store->insert_trial);
    sqlite3_finalize(store->insert_parameter);
    sqlite3_finalize(store->insert_eval);
    sqlite3_close(store->database);
    free(store->path);
    free(store);
}
