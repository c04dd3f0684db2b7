/* The SQLite view of a sweep's folder. It is always written whole, from rows that the caller read
 * out of the journals: nothing is ever updated in place, so it can be deleted at any time and never
 * disagrees with itself. The database is built in memory and replaces the file by a rename: a
 * reader sees the old or the new one, no lock of a shared file system is needed, and there is no
 * WAL.
 *
 *   trials(trial, id, status, steps, best_step, zero_shot_dev, dev_score, dev_loss, test_score,
 *          test_loss)             one row per trial, in the order and with the columns of the table
 *   parameters(trial, key, value) the swept settings, as the table prints them
 *   evals(trial, split, step, score, loss)
 */
#ifndef QZO_SWEEP_STORE_H
#define QZO_SWEEP_STORE_H

#include "base/status.h"

#include <stdint.h>

typedef struct qzo_store qzo_store;

/* Texts are borrowed for the call. NaN is stored as NULL. */
typedef struct qzo_store_row {
    int64_t trial;      /* number in the table */
    const char *id;     /* 32 hexadecimal digits */
    const char *status; /* waiting, running, finished, stopped, diverged, failed */
    int64_t steps;      /* finished so far */
    int64_t best_step;  /* negative: none yet, stored as NULL */
    double zero_shot_dev;
    double dev_score;
    double dev_loss;
    double test_score;
    double test_loss;
    const char *const *keys;   /* (parameter_count) */
    const char *const *values; /* (parameter_count) */
    int64_t parameter_count;
} qzo_store_row;

/* Starts a new view for path; what is there stays untouched until the commit. */
qzo_status qzo_store_begin(qzo_store **out, const char *path);

qzo_status qzo_store_trial(qzo_store *store, const qzo_store_row *row);

/* The trial's row comes first. */
qzo_status qzo_store_eval(qzo_store *store, int64_t trial, const char *split, int64_t step,
                          double score, double loss);

/* Replaces the file. Frees the store in any case. */
qzo_status qzo_store_commit(qzo_store *store);

/* Frees the store and leaves the file as it was; NULL is fine. */
void qzo_store_abort(qzo_store *store);

#endif
