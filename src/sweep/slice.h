/* A part of a sweep that a job of its own runs: `qzo run --slice I/N` takes trials I, I + N, I + 2N
 * ... of the table. Slices share the output folder and nothing else. Each has a lock "lock-I-of-N"
 * and a file of decisions "decisions-I-of-N.qzj"; the list of trials stands once, in decisions.qzj,
 * written under the folder's own lock, which a slice holds only while it starts. */
#ifndef QZO_SWEEP_SLICE_H
#define QZO_SWEEP_SLICE_H

#include "base/status.h"
#include "sweep/folder_lock.h"

#include <stdbool.h>
#include <stdint.h>

enum { QZO_SLICES_MAX = 1 << 20, QZO_SLICE_NAME_BYTES = 64 };

/* Zeroed: the whole sweep. */
typedef struct qzo_slice {
    int64_t index, count; /* 1 <= index <= count */
} qzo_slice;

/* "I/N"; QZO_ERR_USAGE says what was expected. NULL gives the whole sweep. */
qzo_status qzo_slice_parse(qzo_slice *out, const char *text);

static inline bool qzo_slice_is_whole(const qzo_slice *slice) { return slice->count == 0; }

/* trial: from 0, in grid order. */
static inline bool qzo_slice_has(const qzo_slice *slice, int64_t trial) {
    return slice->count == 0 || trial % slice->count == slice->index - 1;
}

/* Name of the slice's lock or decisions: "lock" or "decisions-2-of-4.qzj". */
void qzo_slice_lock_name(char out[QZO_SLICE_NAME_BYTES], const qzo_slice *slice);
void qzo_slice_decisions_name(char out[QZO_SLICE_NAME_BYTES], const qzo_slice *slice);

/* Both locks of a run. Whole: `own` is the folder's and `start` is NULL. */
typedef struct qzo_slice_locks {
    qzo_folder_lock *start; /* of the folder; released once the list of trials is written */
    qzo_folder_lock *own;
    bool took_over;
    bool others; /* another slice of this sweep is running now */
} qzo_slice_locks;

/* QZO_ERR_BUSY where a live run holds what this one needs: the whole folder, this slice, or slices
 * of another count, whose trials would overlap. Waits a few seconds for slices that only start. */
qzo_status qzo_slice_lock(qzo_slice_locks *out, const char *folder, const qzo_slice *slice,
                          const char *job);
void qzo_slice_unlock(qzo_slice_locks *locks); /* safe on zeroed and released ones */

/* Whether slices have ever run here: then no run builds the SQLite view, `qzo report` does. */
bool qzo_slices_exist(const char *folder);

#endif
