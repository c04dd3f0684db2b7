/* A whole file mapped read-only. The bytes are borrowed: valid until qzo_file_map_close.
 *
 * All processes of a host that map a file share the pages that the kernel keeps of it: each page is
 * read from the disk once per host, for the first process that touches it. A file that becomes
 * shorter meanwhile gives SIGBUS where its missing bytes are touched; qzo_file_map_path_at tells a
 * handler which file that is. One thread opens and closes mappings. */
#ifndef QZO_BASE_FILE_MAP_H
#define QZO_BASE_FILE_MAP_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct qzo_file_map {
    const uint8_t *bytes; /* NULL for an empty file */
    size_t size_bytes;
} qzo_file_map;

/* QZO_ERR_NOT_FOUND where there is no such file, QZO_ERR_IO otherwise. */
qzo_status qzo_file_map_open(qzo_file_map *out, const char *path);

/* The path of the open mapping that holds the address, NULL where none does. Safe in a handler of
 * signals, which must not return. */
const char *qzo_file_map_path_at(const void *address);

/* Safe on a zeroed map; zeroes it. */
void qzo_file_map_close(qzo_file_map *map);

#endif
