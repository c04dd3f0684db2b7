#include "base/file_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The open mappings; an entry is complete before it stands in the list. */
typedef struct mapping {
    struct mapping *next;
    const uint8_t *bytes;
    size_t size_bytes;
    char path[];
} mapping;

static mapping *_Atomic mappings;

static mapping *new_mapping(const qzo_file_map *map, const char *path) {
    size_t path_bytes = strlen(path) + 1;
    mapping *entry = malloc(sizeof *entry + path_bytes);
    if (entry == NULL) return NULL;
    *entry = (mapping){.next = mappings, .bytes = map->bytes, .size_bytes = map->size_bytes};
    memcpy(entry->path, path, path_bytes);
    return entry;
}

static void forget(const uint8_t *bytes) {
    mapping *before = NULL, *entry = mappings;
    while (entry != NULL && entry->bytes != bytes) {
        before = entry;
        entry = entry->next;
    }
    if (entry == NULL) return;
    if (before != NULL)
        before->next = entry->next;
    else
        mappings = entry->next;
    free(entry);
}

const char *qzo_file_map_path_at(const void *address) {
    uintptr_t at = (uintptr_t)address;
    for (const mapping *entry = mappings; entry != NULL; entry = entry->next) {
        uintptr_t first = (uintptr_t)entry->bytes;
        if (at >= first && at - first < entry->size_bytes) return entry->path;
    }
    return NULL;
}

static qzo_status fail_system(const char *action, const char *path) {
    int code = errno;
    return qzo_fail(code == ENOENT || code == ENOTDIR ? QZO_ERR_NOT_FOUND : QZO_ERR_IO,
                    "%s: cannot %s: %s", path, action, strerror(code));
}

qzo_status qzo_file_map_open(qzo_file_map *out, const char *path) {
    qzo_status status = QZO_OK;
    *out = (qzo_file_map){0};
    /* A FIFO would block the open; O_NONBLOCK does nothing to regular files. */
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) return fail_system("open", path);

    struct stat info;
    if (fstat(descriptor, &info) != 0) {
        status = fail_system("look at", path);
        goto cleanup;
    }
    if (!S_ISREG(info.st_mode)) {
        status = qzo_fail(QZO_ERR_IO, "%s: expected a regular file", path);
        goto cleanup;
    }
    if (info.st_size > 0) { /* a mapping of no bytes is an error */
        size_t size_bytes = (size_t)info.st_size;
        void *bytes = mmap(NULL, size_bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (bytes == MAP_FAILED) {
            status = fail_system("map", path);
            goto cleanup;
        }
        *out = (qzo_file_map){.bytes = bytes, .size_bytes = size_bytes};
        mapping *entry = new_mapping(out, path);
        if (entry == NULL) {
            munmap(bytes, size_bytes);
            *out = (qzo_file_map){0};
            status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
            goto cleanup;
        }
        mappings = entry;
    }
cleanup:
    close(descriptor); /* the mapping stays */
    return status;
}

void qzo_file_map_close(qzo_file_map *map) {
    if (map->bytes != NULL) {
        forget(map->bytes);
        /* munmap wants a pointer to writable bytes, though it writes none. */
        munmap((void *)(uintptr_t)map->bytes, map->size_bytes);
    }
    *map = (qzo_file_map){0};
}
