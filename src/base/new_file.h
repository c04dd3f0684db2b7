/* A file that is written piece by piece and appears whole or not at all: it is filled under another
 * name beside its place and renamed at the end. What is there already and is no ordinary file (a
 * pipe, a terminal, /dev/null) is written to as it is. */
#ifndef QZO_BASE_NEW_FILE_H
#define QZO_BASE_NEW_FILE_H

#include "base/status.h"

#include <stdio.h>

/* Zeroed: none. */
typedef struct qzo_new_file {
    FILE *stream;    /* takes what is written */
    char *path;      /* where it will be, links followed */
    char *temporary; /* where it is filled; NULL: at its place */
} qzo_new_file;

/* Fails where the file could not be made; one that is there stays until the commit. */
qzo_status qzo_new_file_begin(qzo_new_file *out, const char *path);

/* Syncs and renames; the file must still be closed. */
qzo_status qzo_new_file_commit(qzo_new_file *file);

/* Removes what was written unless it was committed. Safe on a zeroed one. */
void qzo_new_file_close(qzo_new_file *file);

#endif
