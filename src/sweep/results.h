/* The table of trials of an output folder, recomputed from the last listing and the journals: the
 * one source of `qzo run`'s last table, `qzo report`, `qzo status` and the SQLite view. Reading
 * only; nothing in it depends on time, ranks or host. */
#ifndef QZO_SWEEP_RESULTS_H
#define QZO_SWEEP_RESULTS_H

#include "base/status.h"
#include "sweep/decisions.h"
#include "sweep/folder_lock.h"
#include "trial/journal.h"

typedef struct qzo_result_row {
    int64_t number;                /* 1, 2, ...: grid order; what users type as TRIAL */
    const qzo_listed_trial *trial; /* borrowed from the listing */
    char id[QZO_DIGEST_TEXT_BYTES];
    const char *status; /* waiting, running, finished, stopped, diverged, failed */
    qzo_trial_summary summary;
} qzo_result_row;

typedef struct qzo_results {
    qzo_listing *listing;
    qzo_result_row *rows;
    int64_t row_count;
} qzo_results;

/* A trial with a journal but without END is "running" where a live process holds the folder's lock
 * and its decisions say that it was sent to a group, else "waiting"; one whose journal this program
 * cannot read is "failed". QZO_ERR_NOT_FOUND where the folder is none of qzo's. */
qzo_status qzo_results_load(qzo_results **out, const char *folder);

/* Reads the trials again that had not ended, and forks that were made since: then rows are added,
 * and all are others. */
qzo_status qzo_results_refresh(qzo_results *results, const char *folder);
void qzo_results_free(qzo_results *results); /* NULL is fine */

/* The row that a user means: its number, or a unique prefix (at least 1 digit) of its id; numbers
 * win. QZO_ERR_USAGE tells what was wrong and how many match. */
qzo_status qzo_results_find(const qzo_result_row **out, const qzo_results *results,
                            const char *text);

/* trials/ID.qzj of the folder; fresh, the caller frees it. */
char *qzo_journal_path(const char *folder, const qzo_digest *id);

/* Rebuilds DIR/store.sqlite. */
qzo_status qzo_results_store(const qzo_results *results, const char *folder);

#endif
