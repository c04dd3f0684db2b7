/* A whole file mapped read-only. The bytes are borrowed: valid until qzo_file_map_close. */
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

/* Safe on a zeroed map; zeroes it. */
void qzo_file_map_close(qzo_file_map *map);

#endif
