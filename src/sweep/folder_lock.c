#include "sweep/folder_lock.h"

#include "base/file_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A reader that asks whether the lock is held has it for a moment: so a refusal is tried again. */
enum { TRIES_MAX = 10, TRY_NANOSECONDS = 20000000, TEXT_BYTES = 512, HOST_BYTES = 256 };

struct qzo_folder_lock {
    int descriptor;
    char *path;
};

typedef enum { FLOCK_TAKEN, FLOCK_REFUSED, FLOCK_ABSENT, FLOCK_ERROR } flock_result;

static flock_result try_flock(int descriptor, int operation) {
    if (flock(descriptor, operation | LOCK_NB) == 0) return FLOCK_TAKEN;
    if (errno == EWOULDBLOCK) return FLOCK_REFUSED;
    return errno == ENOLCK || errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL
               ? FLOCK_ABSENT
               : FLOCK_ERROR;
}

static void read_text(char out[TEXT_BYTES], int descriptor) {
    ssize_t bytes = pread(descriptor, out, TEXT_BYTES - 1, 0);
    out[bytes > 0 ? bytes : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

static void write_text_to(char out[TEXT_BYTES], const char *job) {
    char host[HOST_BYTES] = "";
    gethostname(host, sizeof host - 1);
    snprintf(out, TEXT_BYTES, "host %s process %ld%s%.64s", host, (long)getpid(),
             job != NULL ? " job " : "", job != NULL ? job : "");
}

/* Whether the text, on a file system without flock, names a process that may live: one of another
 * host cannot be asked. */
static bool names_live_process(const char *text) {
    char own[TEXT_BYTES], host[HOST_BYTES] = "";
    long process = 0;
    if (sscanf(text, "host %255s process %ld", host, &process) != 2 || process <= 0) return false;
    gethostname(own, HOST_BYTES - 1);
    if (strcmp(own, host) != 0) return true;
    return process != (long)getpid() && (kill((pid_t)process, 0) == 0 || errno == EPERM);
}

static qzo_status fail_system(const char *path, const char *what) {
    return qzo_fail(QZO_ERR_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

static qzo_status fail_held(const char *path, const char *text, bool can_lock) {
    return qzo_fail(QZO_ERR_BUSY, "%s: another run writes to this folder: %s%s", path,
                    text[0] != '\0' ? text : "it has not said who it is",
                    can_lock ? "" : "; if it is gone, remove that file");
}

/* Whether path still names the file that the descriptor is of: its last holder may have removed it
 * between our open and our lock. */
static bool is_current(int descriptor, const char *path) {
    struct stat opened, named;
    return fstat(descriptor, &opened) == 0 && stat(path, &named) == 0 &&
           opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

/* One try: *descriptor is the locked file, or -1 where another try may help. text: who held or
 * holds it. */
static qzo_status try_take(int *descriptor, char text[TEXT_BYTES], const char *path) {
    *descriptor = -1;
    int opened = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (opened < 0) return fail_system(path, "create the lock");
    flock_result result = try_flock(opened, LOCK_EX);
    qzo_status status = QZO_OK;
    read_text(text, opened);
    if (result == FLOCK_ERROR)
        status = fail_system(path, "lock");
    else if (result == FLOCK_REFUSED)
        status = fail_held(path, text, true);
    else if (result == FLOCK_ABSENT && names_live_process(text))
        status = fail_held(path, text, false);
    else if (is_current(opened, path))
        *descriptor = opened;
    if (*descriptor < 0) close(opened);
    return status;
}

qzo_status qzo_folder_lock_take(qzo_folder_lock **out, const char *folder, const char *name,
                                const char *job, bool *took_over) {
    qzo_status status = QZO_OK;
    char text[TEXT_BYTES], own[TEXT_BYTES + 1];
    qzo_folder_lock *lock = calloc(1, sizeof *lock);
    if (lock == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", folder);
    lock->descriptor = -1;
    lock->path = qzo_path_join(folder, name);
    if (lock->path == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", folder);
        goto cleanup;
    }
    for (int tries = 0; tries < TRIES_MAX && lock->descriptor < 0; tries++) {
        if (tries > 0) nanosleep(&(struct timespec){.tv_nsec = TRY_NANOSECONDS}, NULL);
        status = try_take(&lock->descriptor, text, lock->path);
        if (status != QZO_OK && status != QZO_ERR_BUSY) goto cleanup;
    }
    if (lock->descriptor < 0) {
        if (status == QZO_OK) status = fail_held(lock->path, "", true);
        goto cleanup;
    }
    *took_over = text[0] != '\0';
    write_text_to(own, job);
    strcat(own, "\n");
    if (ftruncate(lock->descriptor, 0) != 0) {
        status = fail_system(lock->path, "empty the lock");
        goto cleanup;
    }
    QZO_TRY(qzo_file_write_all(lock->descriptor, own, strlen(own), lock->path));
    *out = lock;
    lock = NULL;
cleanup:
    qzo_folder_lock_release(lock);
    return status;
}

void qzo_folder_lock_release(qzo_folder_lock *lock) {
    if (lock == NULL) return;
    if (lock->descriptor >= 0) {
        unlink(lock->path); /* while it is still ours; a leftover would only be taken over */
        close(lock->descriptor);
    }
    free(lock->path);
    free(lock);
}

bool qzo_folder_lock_name_is_held(const char *folder, const char *name) {
    char *path = qzo_path_join(folder, name), text[TEXT_BYTES];
    int descriptor = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    bool held = false;
    if (descriptor >= 0) {
        flock_result result = try_flock(descriptor, LOCK_SH);
        read_text(text, descriptor);
        held = result == FLOCK_REFUSED || (result == FLOCK_ABSENT && names_live_process(text));
        close(descriptor);
    }
    free(path);
    return held;
}

bool qzo_folder_lock_is_held(const char *folder) {
    DIR *entries = opendir(folder);
    const struct dirent *entry = NULL;
    bool held = false;
    while (!held && entries != NULL && (entry = readdir(entries)) != NULL)
        held = strncmp(entry->d_name, QZO_FOLDER_LOCK_NAME, strlen(QZO_FOLDER_LOCK_NAME)) == 0 &&
               qzo_folder_lock_name_is_held(folder, entry->d_name);
    if (entries != NULL) closedir(entries);
    return held;
}
