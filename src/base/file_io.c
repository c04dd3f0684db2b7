#include "base/file_io.h"

#include "base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_BYTES_FIRST = 64 * 1024 };

static qzo_status fail_system(const char *action, const char *path) {
    int code = errno;
    return qzo_fail(code == ENOENT || code == ENOTDIR ? QZO_ERR_NOT_FOUND : QZO_ERR_IO,
                    "%s: cannot %s: %s", path, action, strerror(code));
}

qzo_status qzo_file_write_all(int descriptor, const void *bytes, size_t size_bytes,
                              const char *name) {
    const char *at = bytes;
    if (qzo_fault_on_occasion(QZO_FAULT_WRITE_ERROR)) { /* a disk fills up in the middle */
        (void)!write(descriptor, at, size_bytes / 2);
        errno = ENOSPC;
        return fail_system("write", name);
    }
    while (size_bytes > 0) {
        ssize_t written = write(descriptor, at, size_bytes);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) {
            if (written == 0) errno = EIO; /* never for a regular file; would loop for ever */
            return fail_system("write", name);
        }
        at += written;
        size_bytes -= (size_t)written;
    }
    return QZO_OK;
}

static qzo_status folder_sync(const char *path) {
    char *folder = qzo_path_folder(path);
    if (folder == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    qzo_status status = QZO_OK;
    int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* Some network file systems refuse to sync a folder; the rename itself is atomic there too. */
    if (descriptor < 0 || (fsync(descriptor) != 0 && errno != EINVAL && errno != ENOTSUP))
        status = fail_system("sync", folder);
    if (descriptor >= 0) close(descriptor);
    free(folder);
    return status;
}

static qzo_status file_write_synced(const char *path, const qzo_file_part *parts,
                                    int64_t part_count) {
    qzo_status status = QZO_OK;
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor < 0) return fail_system("create", path);
    for (int64_t i = 0; status == QZO_OK && i < part_count; i++)
        status = qzo_file_write_all(descriptor, parts[i].bytes, parts[i].size_bytes, path);
    if (status == QZO_OK && fsync(descriptor) != 0) status = fail_system("sync", path);
    /* Some file systems report a full disk only here. */
    if (close(descriptor) != 0 && status == QZO_OK) status = fail_system("close", path);
    return status;
}

qzo_status qzo_file_replace(const char *path, const void *bytes, size_t size_bytes) {
    const qzo_file_part whole = {.bytes = bytes, .size_bytes = size_bytes};
    return qzo_file_replace_parts(path, &whole, 1);
}

qzo_status qzo_file_replace_parts(const char *path, const qzo_file_part *parts,
                                  int64_t part_count) {
    qzo_status status = QZO_OK;
    char *temporary = NULL;
    if (asprintf(&temporary, "%s.tmp", path) < 0) {
        temporary = NULL;
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
        goto cleanup;
    }
    QZO_TRY(file_write_synced(temporary, parts, part_count));
    if (rename(temporary, path) != 0) {
        status = fail_system("replace", path);
        goto cleanup;
    }
    QZO_TRY(folder_sync(path));
cleanup:
    if (status != QZO_OK && temporary != NULL) unlink(temporary);
    free(temporary);
    return status;
}

/* Reads until the end or one byte more than the limit; grows by doubling, so that a file that
 * changes while it is read, or a pipe, is read too. */
static qzo_status read_all(char **out, size_t *size_bytes, int descriptor, const char *path,
                           size_t size_bytes_max) {
    size_t capacity = READ_BYTES_FIRST, used = 0;
    char *text = malloc(capacity);
    while (text != NULL) {
        ssize_t got = read(descriptor, text + used, capacity - used - 1);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            qzo_status status = fail_system("read", path);
            free(text);
            return status;
        }
        used += (size_t)got;
        if (used > size_bytes_max) {
            free(text);
            return qzo_fail(QZO_ERR_LIMIT, "%s: larger than %zu bytes", path, size_bytes_max);
        }
        if (got == 0) {
            text[used] = '\0';
            *out = text;
            *size_bytes = used;
            return QZO_OK;
        }
        if (capacity - used > 1) continue;
        char *grown = realloc(text, 2 * capacity);
        if (grown == NULL) free(text);
        text = grown;
        capacity *= 2;
    }
    return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory after %zu bytes", path, used);
}

qzo_status qzo_file_read(char **out, size_t *size_bytes, const char *path, size_t size_bytes_max) {
    *out = NULL;
    *size_bytes = 0;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return fail_system("open", path);

    qzo_status status = QZO_OK;
    struct stat info;
    if (fstat(descriptor, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0 &&
        (uint64_t)info.st_size > size_bytes_max)
        status = qzo_fail(QZO_ERR_LIMIT, "%s: %lld bytes, at most %zu", path,
                          (long long)info.st_size, size_bytes_max);
    else
        status = read_all(out, size_bytes, descriptor, path, size_bytes_max);
    close(descriptor);
    if (status == QZO_OK && qzo_fault_on_occasion(QZO_FAULT_SHORT_READ)) {
        *size_bytes /= 2;
        (*out)[*size_bytes] = '\0';
    }
    return status;
}

qzo_status qzo_folder_create(const char *path) {
    if (mkdir(path, 0777) == 0) return QZO_OK;
    if (errno != EEXIST) return fail_system("create the folder", path);
    struct stat info;
    if (stat(path, &info) != 0) return fail_system("look at", path);
    if (!S_ISDIR(info.st_mode))
        return qzo_fail(QZO_ERR_IO, "%s: expected a folder, found a file", path);
    return QZO_OK;
}

char *qzo_path_join(const char *folder, const char *name) {
    if (name[0] == '/' || folder[0] == '\0') return strdup(name);
    size_t length = strlen(folder);
    const char *separator = folder[length - 1] == '/' ? "" : "/";
    char *path = NULL;
    return asprintf(&path, "%s%s%s", folder, separator, name) < 0 ? NULL : path;
}

char *qzo_path_absolute(const char *path) {
    char *real = realpath(path, NULL);
    if (real != NULL) return real;
    char working[PATH_MAX];
    return qzo_path_join(getcwd(working, sizeof working) != NULL ? working : "/", path);
}

char *qzo_path_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL) return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}
