#include "sweep/slice.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* As long as a folder of many trials may take to be listed on a slow file system. */
enum { START_TRIES_MAX = 100, START_TRY_NANOSECONDS = 100000000 };

/* Reads digits from 1 to QZO_SLICES_MAX; NULL where there are none, else what stands behind. */
static const char *read_count(int64_t *out, const char *text) {
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 7 || text[0] == '0') return NULL;
    *out = 0;
    for (size_t i = 0; i < digits; i++) *out = *out * 10 + (text[i] - '0');
    return *out <= QZO_SLICES_MAX ? text + digits : NULL;
}

qzo_status qzo_slice_parse(qzo_slice *out, const char *text) {
    *out = (qzo_slice){0};
    if (text == NULL) return QZO_OK;
    qzo_slice slice = {0};
    const char *at = read_count(&slice.index, text);
    if (at != NULL) at = *at == '/' ? read_count(&slice.count, at + 1) : NULL;
    if (at == NULL || *at != '\0' || slice.index > slice.count)
        return qzo_fail(QZO_ERR_USAGE,
                        "--slice: expected I/N with I from 1 to N, and N at most %d, found '%.40s'",
                        QZO_SLICES_MAX, text);
    *out = slice;
    return QZO_OK;
}

static void name_part(char out[QZO_SLICE_NAME_BYTES], const char *stem, const qzo_slice *slice,
                      const char *ending) {
    if (qzo_slice_is_whole(slice))
        snprintf(out, QZO_SLICE_NAME_BYTES, "%s%s", stem, ending);
    else
        snprintf(out, QZO_SLICE_NAME_BYTES, "%s-%" PRId64 "-of-%" PRId64 "%s", stem, slice->index,
                 slice->count, ending);
}

void qzo_slice_lock_name(char out[QZO_SLICE_NAME_BYTES], const qzo_slice *slice) {
    name_part(out, QZO_FOLDER_LOCK_NAME, slice, "");
}

void qzo_slice_decisions_name(char out[QZO_SLICE_NAME_BYTES], const qzo_slice *slice) {
    name_part(out, "decisions", slice, ".qzj");
}

/* Takes the folder's lock, which other slices hold while they start. */
static qzo_status take_start(qzo_slice_locks *out, const char *folder, const qzo_slice *slice,
                             const char *job) {
    int tries_max = qzo_slice_is_whole(slice) ? 1 : START_TRIES_MAX;
    qzo_status status = QZO_ERR_BUSY;
    for (int tries = 0; tries < tries_max && status == QZO_ERR_BUSY; tries++) {
        if (tries > 0) nanosleep(&(struct timespec){.tv_nsec = START_TRY_NANOSECONDS}, NULL);
        status =
            qzo_folder_lock_take(&out->start, folder, QZO_FOLDER_LOCK_NAME, job, &out->took_over);
    }
    return status;
}

/* Looks for live slices; *others where there are some of the same count. */
static qzo_status check_others(bool *others, const char *folder, const qzo_slice *slice) {
    DIR *entries = opendir(folder);
    const struct dirent *entry = NULL;
    qzo_status status = QZO_OK;
    *others = false;
    while (status == QZO_OK && entries != NULL && (entry = readdir(entries)) != NULL) {
        long long index = 0, count = 0;
        int end = 0;
        if (sscanf(entry->d_name, QZO_FOLDER_LOCK_NAME "-%lld-of-%lld%n", &index, &count, &end) <
                2 ||
            entry->d_name[end] != '\0' || !qzo_folder_lock_name_is_held(folder, entry->d_name))
            continue;
        if (count == slice->count)
            *others = true;
        else
            status = qzo_fail(QZO_ERR_BUSY, "%s: slice %lld/%lld of this folder is running", folder,
                              index, count);
    }
    if (entries != NULL) closedir(entries);
    return status;
}

qzo_status qzo_slice_lock(qzo_slice_locks *out, const char *folder, const qzo_slice *slice,
                          const char *job) {
    qzo_status status = QZO_OK;
    char name[QZO_SLICE_NAME_BYTES];
    *out = (qzo_slice_locks){0};
    QZO_TRY(take_start(out, folder, slice, job));
    QZO_TRY(check_others(&out->others, folder, slice));
    if (qzo_slice_is_whole(slice)) {
        out->own = out->start;
        out->start = NULL;
        goto cleanup;
    }
    qzo_slice_lock_name(name, slice);
    QZO_TRY(qzo_folder_lock_take(&out->own, folder, name, job, &out->took_over));
cleanup:
    if (status != QZO_OK) qzo_slice_unlock(out);
    return status;
}

void qzo_slice_unlock(qzo_slice_locks *locks) {
    qzo_folder_lock_release(locks->start);
    qzo_folder_lock_release(locks->own);
    locks->start = locks->own = NULL;
}

bool qzo_slices_exist(const char *folder) {
    DIR *entries = opendir(folder);
    const struct dirent *entry = NULL;
    bool found = false;
    while (!found && entries != NULL && (entry = readdir(entries)) != NULL)
        found = strncmp(entry->d_name, "decisions-", strlen("decisions-")) == 0;
    if (entries != NULL) closedir(entries);
    return found;
}
