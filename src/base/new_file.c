#include "base/new_file.h"

#include "base/file_io.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static qzo_status fail_system(const char *path) {
    return qzo_fail(QZO_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
}

/* mkstemp's files are private; this one is an ordinary one. */
static FILE *open_temporary(char *name) {
    int descriptor = mkstemp(name);
    if (descriptor < 0) return NULL;
    mode_t mask = umask(0);
    umask(mask);
    FILE *stream = fchmod(descriptor, 0666 & ~mask) == 0 ? fdopen(descriptor, "w") : NULL;
    if (stream != NULL) return stream;
    int code = errno;
    close(descriptor);
    unlink(name);
    errno = code;
    return NULL;
}

qzo_status qzo_new_file_begin(qzo_new_file *out, const char *path) {
    struct stat found;
    *out = (qzo_new_file){.path = qzo_path_absolute(path)};
    if (out->path == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    if (stat(path, &found) == 0 && !S_ISREG(found.st_mode)) {
        out->stream = fopen(path, "w");
    } else {
        if (asprintf(&out->temporary, "%s.XXXXXX", out->path) < 0) {
            out->temporary = NULL;
            qzo_new_file_close(out);
            return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
        }
        out->stream = open_temporary(out->temporary);
    }
    if (out->stream != NULL) return QZO_OK;
    qzo_status status = fail_system(path);
    free(out->temporary); /* there is no such file */
    out->temporary = NULL;
    qzo_new_file_close(out);
    return status;
}

qzo_status qzo_new_file_commit(qzo_new_file *file) {
    bool is_whole = fflush(file->stream) == 0;
    if (file->temporary != NULL) is_whole = is_whole && fsync(fileno(file->stream)) == 0;
    /* Some file systems report a full disk only here. */
    is_whole = fclose(file->stream) == 0 && is_whole;
    file->stream = NULL;
    if (!is_whole) return fail_system(file->path);
    if (file->temporary == NULL) return QZO_OK;
    if (rename(file->temporary, file->path) != 0) return fail_system(file->path);
    free(file->temporary);
    file->temporary = NULL;
    return QZO_OK;
}

void qzo_new_file_close(qzo_new_file *file) {
    if (file->stream != NULL) fclose(file->stream);
    if (file->temporary != NULL) unlink(file->temporary);
    free(file->temporary);
    free(file->path);
    *file = (qzo_new_file){0};
}
