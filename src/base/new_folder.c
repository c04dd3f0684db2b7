#include "base/new_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN_FOLDERS_MAX = 8 };

static qzo_status fail_system(const char *action, const char *path) {
    return qzo_fail(errno == ENOENT ? QZO_ERR_NOT_FOUND : QZO_ERR_IO, "%s: cannot %s: %s", path,
                    action, strerror(errno));
}

qzo_status qzo_new_folder_begin(qzo_new_folder *out, const char *path) {
    struct stat found;
    *out = (qzo_new_folder){0};
    if (lstat(path, &found) == 0)
        return qzo_fail(QZO_ERR_CONFIG, "%s exists already; expected the name of a new folder",
                        path);
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    out->path = strndup(path, length);
    if (out->path == NULL || asprintf(&out->temporary, "%s.XXXXXX", out->path) < 0) {
        out->temporary = NULL;
        qzo_new_folder_close(out);
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    }
    if (mkdtemp(out->temporary) == NULL) {
        qzo_status status = fail_system("create a folder beside it", out->path);
        free(out->temporary);
        out->temporary = NULL;
        qzo_new_folder_close(out);
        return status;
    }
    /* mkdtemp's folders are private; this one is an ordinary one. */
    mode_t mask = umask(0);
    umask(mask);
    if (chmod(out->temporary, 0777 & ~mask) == 0) return QZO_OK;
    qzo_status status = fail_system("set the mode of", out->temporary);
    qzo_new_folder_close(out);
    return status;
}

/* Some network file systems refuse to sync a folder. */
static qzo_status sync_folder(const char *path) {
    qzo_status status = QZO_OK;
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0 || (fsync(descriptor) != 0 && errno != EINVAL && errno != ENOTSUP))
        status = fail_system("sync", path);
    if (descriptor >= 0) close(descriptor);
    return status;
}

qzo_status qzo_new_folder_commit(qzo_new_folder *folder) {
    qzo_status status = sync_folder(folder->temporary);
    if (status != QZO_OK) return status;
    /* An empty folder that came in between would be replaced, one with files refuses. */
    if (rename(folder->temporary, folder->path) != 0) return fail_system("create", folder->path);
    free(folder->temporary);
    folder->temporary = NULL;
    return QZO_OK;
}

static int remove_entry(const char *path, const struct stat *found, int type, struct FTW *place) {
    (void)found;
    (void)type;
    (void)place;
    return remove(path);
}

void qzo_new_folder_close(qzo_new_folder *folder) {
    if (folder->temporary != NULL)
        nftw(folder->temporary, remove_entry, OPEN_FOLDERS_MAX, FTW_DEPTH | FTW_PHYS);
    free(folder->temporary);
    free(folder->path);
    *folder = (qzo_new_folder){0};
}
