/* A folder that appears whole or not at all: it is filled under another name beside its place and
 * renamed at the end. */
#ifndef QZO_BASE_NEW_FOLDER_H
#define QZO_BASE_NEW_FOLDER_H

#include "base/status.h"

/* Zeroed: none. */
typedef struct qzo_new_folder {
    char *path;      /* where it will be */
    char *temporary; /* where it is filled */
} qzo_new_folder;

/* QZO_ERR_CONFIG where path exists already: nothing is overwritten. */
qzo_status qzo_new_folder_begin(qzo_new_folder *out, const char *path);

/* Syncs and renames; the folder may still be closed. */
qzo_status qzo_new_folder_commit(qzo_new_folder *folder);

/* Removes what was filled unless it was committed. Safe on a zeroed one. */
void qzo_new_folder_close(qzo_new_folder *folder);

#endif
