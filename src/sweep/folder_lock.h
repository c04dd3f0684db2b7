/* The lock of an output folder: one `qzo run` writes there at a time. DIR/lock names who; flock
 * makes it die with its process, so a killed job never blocks the next one. Where the file system
 * has no flock, the text alone decides: a process of this host that no longer lives is stale. */
#ifndef QZO_SWEEP_FOLDER_LOCK_H
#define QZO_SWEEP_FOLDER_LOCK_H

#include "base/status.h"

#include <stdbool.h>

typedef struct qzo_folder_lock qzo_folder_lock;

/* Slices of a sweep (sweep/slice.h) write to one folder, each under a lock file of its own. Every
 * lock's name begins with this; it alone is the name of a whole run's lock. */
#define QZO_FOLDER_LOCK_NAME "lock"

/* name: of the file in the folder. job: the scheduler's number of this job, for the text; NULL
 * where there is none. QZO_ERR_BUSY with the text of who holds it where a live process does; a
 * stale one is taken over and *took_over is set. The caller releases it. */
qzo_status qzo_folder_lock_take(qzo_folder_lock **out, const char *folder, const char *name,
                                const char *job, bool *took_over);
void qzo_folder_lock_release(qzo_folder_lock *lock); /* removes the file; NULL is fine */

/* Whether a live process holds any of the folder's locks. */
bool qzo_folder_lock_is_held(const char *folder);

/* Whether a live process holds this one. */
bool qzo_folder_lock_name_is_held(const char *folder, const char *name);

#endif
