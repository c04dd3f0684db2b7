#include "cli/findings.h"

#include "base/clock.h"
#include "base/file_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { SYNC_COUNT = 9, BLOCK_BYTES = 4096, PATH_BYTES = 4096 };

/* A journal is synced once a second and at every evaluation: beyond this the sync is felt. */
static const double SYNC_SECONDS_MAX = 0.05;
static const double FREE_BYTES_MIN = 1024.0 * 1024.0 * 1024.0;

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median seconds of a small write with fdatasync; negative where one fails, errno says why. */
static double sync_seconds(int descriptor) {
    static const char block[BLOCK_BYTES];
    double seconds[SYNC_COUNT];
    for (int i = 0; i < SYNC_COUNT; i++) {
        double begin = qzo_clock_seconds();
        if (write(descriptor, block, sizeof block) != BLOCK_BYTES || fdatasync(descriptor) != 0)
            return -1.0;
        seconds[i] = qzo_clock_seconds() - begin;
    }
    qsort(seconds, SYNC_COUNT, sizeof *seconds, ascending);
    return seconds[SYNC_COUNT / 2];
}

/* Whether a second lock of the same file is refused, as it must be. */
static bool locks_work(int descriptor, const char *path) {
    int other = open(path, O_RDWR | O_CLOEXEC);
    bool works = flock(descriptor, LOCK_EX | LOCK_NB) == 0 && other >= 0 &&
                 flock(other, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (other >= 0) close(other);
    return works;
}

/* The folder itself, or what is there of the path to it. */
static void nearest_folder(char out[PATH_BYTES], const char *folder) {
    snprintf(out, PATH_BYTES, "%s", folder);
    while (access(out, F_OK) != 0 && errno == ENOENT) {
        char *above = qzo_path_folder(out);
        bool is_last = above == NULL || strcmp(above, out) == 0;
        if (!is_last) snprintf(out, PATH_BYTES, "%s", above);
        free(above);
        if (is_last) return;
    }
}

static void check_file(qzo_findings *findings, int descriptor, const char *path,
                       const char *folder) {
    double seconds = sync_seconds(descriptor);
    if (seconds < 0) {
        qzo_finding *finding = qzo_finding_add(findings, "output folder", "%s: cannot write: %s",
                                               folder, strerror(errno));
        qzo_finding_advise(finding, QZO_FINDING_PROBLEM, "free some room, or choose another --out");
        return;
    }
    qzo_finding *sync = qzo_finding_add(
        findings, "output folder", "%s: writable, a sync takes %.3g ms", folder, 1e3 * seconds);
    if (seconds > SYNC_SECONDS_MAX)
        qzo_finding_advise(sync, QZO_FINDING_WARNING,
                           "a sync this slow holds a trial up once a second: choose a faster file "
                           "system, or a larger evaluate_every and longer steps");
    qzo_finding *lock = qzo_finding_add(findings, "locks", "flock %s here",
                                        locks_work(descriptor, path) ? "works" : "does not work");
    if (strstr(lock->found, "not") != NULL)
        qzo_finding_advise(lock, QZO_FINDING_WARNING,
                           "two jobs on one folder are told apart by host and process only: start "
                           "one at a time");
}

void qzo_findings_of_folder(qzo_findings *findings, const char *folder) {
    char there[PATH_BYTES], path[PATH_BYTES];
    struct statvfs room;
    nearest_folder(there, folder);
    if (snprintf(path, sizeof path, "%s/.qzo-doctor-XXXXXX", there) >= (int)sizeof path) return;
    int descriptor = mkstemp(path);
    if (descriptor < 0) {
        qzo_finding *finding = qzo_finding_add(findings, "output folder", "%s: not writable: %s",
                                               there, strerror(errno));
        qzo_finding_advise(finding, QZO_FINDING_PROBLEM,
                           "give --out a folder that every node may write to");
        return;
    }
    check_file(findings, descriptor, path, there);
    close(descriptor);
    unlink(path);
    if (statvfs(there, &room) != 0) return;
    double free_bytes = (double)room.f_bavail * (double)room.f_frsize;
    qzo_finding *space =
        qzo_finding_add(findings, "room", "%.3g GiB free", free_bytes / FREE_BYTES_MIN);
    if (free_bytes < FREE_BYTES_MIN)
        qzo_finding_advise(space, QZO_FINDING_WARNING,
                           "a step takes 60 bytes and a record 36: a long sweep may not fit");
}
