/* Durable writes, paths and little-endian fields. Errors carry the path and the system's reason. */
#ifndef QZO_BASE_FILE_IO_H
#define QZO_BASE_FILE_IO_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* Writes path.tmp, syncs it, renames it to path and syncs the folder: a reader sees old or new. */
qzo_status qzo_file_replace(const char *path, const void *bytes, size_t size_bytes);

/* A piece of a file; the bytes are borrowed. */
typedef struct qzo_file_part {
    const void *bytes;
    size_t size_bytes;
} qzo_file_part;

/* The same for the pieces one after the other: for files that are too large to be put together. */
qzo_status qzo_file_replace_parts(const char *path, const qzo_file_part *parts, int64_t part_count);

/* Reads a whole file; the caller frees *out (NUL-terminated for convenience). Refuses files larger
 * than size_bytes_max with QZO_ERR_LIMIT. */
qzo_status qzo_file_read(char **out, size_t *size_bytes, const char *path, size_t size_bytes_max);

/* Writes all bytes to a descriptor, through short writes and EINTR. name is for the message. */
qzo_status qzo_file_write_all(int descriptor, const void *bytes, size_t size_bytes,
                              const char *name);

/* Creates one folder; an existing one is fine. */
qzo_status qzo_folder_create(const char *path);

/* "a" and "b" to "a/b" in a fresh string (the caller frees it); an absolute b is returned alone. */
char *qzo_path_join(const char *folder, const char *name);

/* A path that stays right when the program is started somewhere else; fresh. One that does not
 * exist is only joined with the working folder. */
char *qzo_path_absolute(const char *path);

/* The folder part of a path ("." if it has none), fresh. */
char *qzo_path_folder(const char *path);

static inline void qzo_put_u32(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (8 * i));
}

static inline void qzo_put_u64(uint8_t *at, uint64_t value) {
    for (int i = 0; i < 8; i++) at[i] = (uint8_t)(value >> (8 * i));
}

static inline uint32_t qzo_get_u32(const uint8_t *at) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) value |= (uint32_t)at[i] << (8 * i);
    return value;
}

static inline uint64_t qzo_get_u64(const uint8_t *at) {
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) value |= (uint64_t)at[i] << (8 * i);
    return value;
}

#endif
