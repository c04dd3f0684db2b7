#include "sweep/contents.h"

#include "task/task_file.h"
#include "weights/model_dir.h"

#include <stdlib.h>
#include <string.h>

static qzo_status read_digest(qzo_digest *out, const char *path, bool is_model) {
    qzo_status status = QZO_OK;
    qzo_model_dir *dir = NULL;
    qzo_task *task = NULL;
    if (is_model) {
        QZO_TRY(qzo_model_dir_open(&dir, path));
        QZO_TRY(qzo_model_dir_digest(out, dir));
    } else {
        QZO_TRY(qzo_task_open(&task, path));
        *out = task->digest;
    }
cleanup:
    qzo_model_dir_close(dir);
    qzo_task_close(task);
    return status;
}

static qzo_status fail_memory(const char *path) {
    return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for its digest", path);
}

const qzo_content *qzo_contents_find(const qzo_contents *contents, const char *path,
                                     bool is_model) {
    for (int64_t i = 0; i < contents->entry_count; i++) {
        const qzo_content *entry = &contents->entries[i];
        if (entry->is_model == is_model && strcmp(entry->path, path) == 0) return entry;
    }
    return NULL;
}

qzo_status qzo_contents_digest(qzo_digest *out, const char *path, bool is_model, void *context) {
    qzo_contents *contents = context;
    const qzo_content *known = qzo_contents_find(contents, path, is_model);
    if (known != NULL) {
        *out = known->digest;
        return QZO_OK;
    }
    size_t count = (size_t)contents->entry_count + 1;
    qzo_content *grown = realloc(contents->entries, count * sizeof *grown);
    if (grown == NULL) return fail_memory(path);
    contents->entries = grown;
    qzo_content fresh = {.path = strdup(path), .is_model = is_model};
    if (fresh.path == NULL) return fail_memory(path);
    fresh.status = read_digest(&fresh.digest, path, is_model);
    if (fresh.status != QZO_OK) {
        fresh.digest = qzo_digest_of(path, strlen(path)); /* two unreadable paths are two trials */
        /* To the sweep it is a file that is not there, and no fault of the machine. */
        if (fresh.status == QZO_ERR_IO) fresh.status = QZO_ERR_NOT_FOUND;
        fresh.message = strdup(qzo_error_message());
    }
    /* Running out of memory says nothing about the file. */
    if (fresh.status == QZO_ERR_MEMORY || (fresh.status != QZO_OK && fresh.message == NULL)) {
        free(fresh.path);
        free(fresh.message);
        return fail_memory(path);
    }
    contents->entries[contents->entry_count++] = fresh;
    *out = fresh.digest;
    return QZO_OK;
}

void qzo_contents_release(qzo_contents *contents) {
    for (int64_t i = 0; i < contents->entry_count; i++) {
        free(contents->entries[i].path);
        free(contents->entries[i].message);
    }
    free(contents->entries);
    *contents = (qzo_contents){0};
}
