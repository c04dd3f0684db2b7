#include "sweep/decisions.h"

#include "base/file_io.h"
#include "base/frames.h"
#include "base/json.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OLD_EVENT_BYTES = 8, EVENT_BYTES = 16 };

static const char MAGIC[QZO_FRAMES_MAGIC_BYTES] = {'Q', 'Z', 'O', 'D', 'E', 'C', 'N', '1'};
static const size_t FILE_BYTES_MAX = (size_t)1 << 36;

/* The file in memory. */
typedef struct decisions_file {
    char *bytes;
    size_t size_bytes;
    size_t valid_bytes;
    uint64_t checksum;
    qzo_tail tail;
    int64_t frame_count;
    const char *grid; /* the last GRID frame's text, in bytes; or NULL */
    size_t grid_bytes;
} decisions_file;

struct qzo_decisions {
    char *path;
    qzo_frame_writer *writer;
    size_t payload_max;
};

static qzo_status fail_memory(const char *name) {
    return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", name);
}

/* --- reading --- */

static qzo_status file_load(decisions_file *out, const char *path) {
    *out = (decisions_file){0};
    qzo_status status = qzo_file_read(&out->bytes, &out->size_bytes, path, FILE_BYTES_MAX);
    if (status == QZO_ERR_NOT_FOUND) return QZO_OK;
    if (status != QZO_OK) return status;
    qzo_frame_reader reader;
    qzo_frame frame;
    qzo_frame_reader_start(&reader, (const uint8_t *)out->bytes, out->size_bytes, MAGIC);
    while (qzo_frame_next(&reader, &frame)) {
        out->frame_count++;
        if (frame.type != QZO_DECISION_GRID) continue;
        out->grid = (const char *)frame.payload;
        out->grid_bytes = frame.payload_bytes;
    }
    out->valid_bytes = reader.valid_bytes;
    out->checksum = reader.checksum;
    out->tail = reader.tail;
    return QZO_OK;
}

static void file_release(decisions_file *file) {
    free(file->bytes);
    *file = (decisions_file){0};
}

static qzo_status read_digest(qzo_digest *out, const char *text, const char *name) {
    size_t length = strspn(text, "0123456789abcdef");
    if (length != QZO_DIGEST_TEXT_BYTES - 1 || text[length] != '\0')
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: expected an id of 32 hexadecimal digits, found '%.40s'", name, text);
    for (size_t i = 0; i < sizeof out->bytes; i++) {
        unsigned byte;
        sscanf(text + 2 * i, "%2x", &byte);
        out->bytes[i] = (uint8_t)byte;
    }
    return QZO_OK;
}

/* A copy of a string field. */
static qzo_status read_text(char **out, const json_t *object, const char *key, const char *name) {
    const char *text = NULL;
    qzo_status status = qzo_json_string(&text, object, key, name);
    if (status != QZO_OK) return status;
    *out = strdup(text);
    return *out != NULL ? QZO_OK : fail_memory(name);
}

/* Copies of a list of strings; wanted < 0: any number of them. */
static qzo_status read_texts(char ***out, int64_t *count, const json_t *object, const char *key,
                             int64_t wanted, const char *name) {
    const json_t *list = json_object_get(object, key);
    size_t size = json_array_size(list);
    if (!json_is_array(list) || (wanted >= 0 && size != (size_t)wanted))
        return qzo_fail(QZO_ERR_FORMAT, "%s: \"%s\" must be a list with a text per swept key", name,
                        key);
    *out = calloc(size + 1, sizeof **out);
    if (*out == NULL) return fail_memory(name);
    *count = (int64_t)size;
    for (size_t i = 0; i < size; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (text == NULL)
            return qzo_fail(QZO_ERR_FORMAT, "%s: \"%s\" must hold texts only", name, key);
        (*out)[i] = strdup(text);
        if ((*out)[i] == NULL) return fail_memory(name);
    }
    return QZO_OK;
}

static qzo_status read_trial(qzo_listed_trial *out, const json_t *object, int64_t swept_count,
                             const char *name) {
    qzo_status status = QZO_OK;
    const char *id = NULL;
    int64_t count = 0;
    QZO_TRY(qzo_json_string(&id, object, "id", name));
    QZO_TRY(read_digest(&out->id, id, name));
    QZO_TRY(read_text(&out->model_path, object, "model", name));
    QZO_TRY(read_text(&out->task_path, object, "task", name));
    QZO_TRY(read_texts(&out->values, &count, object, "values", swept_count, name));
cleanup:
    return status;
}

qzo_status qzo_listing_parse(qzo_listing **out, const char *text, size_t text_bytes,
                             const char *name) {
    qzo_status status = QZO_OK;
    json_t *root = NULL;
    qzo_listing *listing = calloc(1, sizeof *listing);
    *out = NULL;
    if (listing == NULL) return fail_memory(name);
    QZO_TRY(qzo_json_parse(&root, text, text_bytes, name));
    QZO_TRY(read_text(&listing->name, root, "name", name));
    QZO_TRY(read_texts(&listing->swept_keys, &listing->swept_count, root, "swept", -1, name));
    QZO_TRY(
        qzo_scheduling_from_json(&listing->scheduling, json_object_get(root, "scheduler"), name));
    const json_t *trials = json_object_get(root, "trials");
    size_t count = json_array_size(trials);
    if (!json_is_array(trials) || count > QZO_GRID_TRIALS_MAX) {
        status = qzo_fail(QZO_ERR_FORMAT, "%s: \"trials\" must be a list of at most %d", name,
                          QZO_GRID_TRIALS_MAX);
        goto cleanup;
    }
    listing->trials = calloc(count + 1, sizeof *listing->trials);
    if (listing->trials == NULL) {
        status = fail_memory(name);
        goto cleanup;
    }
    for (size_t i = 0; i < count; i++) {
        listing->trial_count++; /* counted first: what was read of it is freed on failure */
        QZO_TRY(
            read_trial(&listing->trials[i], json_array_get(trials, i), listing->swept_count, name));
    }
    *out = listing;
    listing = NULL;
cleanup:
    json_decref(root);
    qzo_listing_free(listing);
    return status;
}

qzo_status qzo_listing_load(qzo_listing **out, const char *folder) {
    qzo_status status = QZO_OK;
    decisions_file file = {0};
    char *path = qzo_path_join(folder, QZO_DECISIONS_NAME);
    *out = NULL;
    if (path == NULL) return fail_memory(folder);
    QZO_TRY(file_load(&file, path));
    if (file.grid != NULL) {
        QZO_TRY(qzo_listing_parse(out, file.grid, file.grid_bytes, path));
    } else {
        *out = calloc(1, sizeof **out);
        if (*out == NULL)
            status = fail_memory(folder);
        else
            (*out)->scheduling.ops = &qzo_sched_fifo;
    }
cleanup:
    file_release(&file);
    free(path);
    return status;
}

bool qzo_listing_equal(const qzo_listing *a, const qzo_listing *b) {
    if (a->swept_count != b->swept_count || a->trial_count != b->trial_count) return false;
    for (int64_t k = 0; k < a->swept_count; k++)
        if (strcmp(a->swept_keys[k], b->swept_keys[k]) != 0) return false;
    for (int64_t i = 0; i < a->trial_count; i++) {
        if (!qzo_digest_equal(&a->trials[i].id, &b->trials[i].id)) return false;
        for (int64_t k = 0; k < a->swept_count; k++)
            if (strcmp(a->trials[i].values[k], b->trials[i].values[k]) != 0) return false;
    }
    return true;
}

static void free_texts(char **texts, int64_t count) {
    for (int64_t i = 0; texts != NULL && i < count; i++) free(texts[i]);
    free(texts);
}

void qzo_listing_free(qzo_listing *listing) {
    if (listing == NULL) return;
    for (int64_t i = 0; i < listing->trial_count; i++) {
        free(listing->trials[i].model_path);
        free(listing->trials[i].task_path);
        free_texts(listing->trials[i].values, listing->swept_count);
    }
    free(listing->trials);
    free_texts(listing->swept_keys, listing->swept_count);
    qzo_scheduling_release(&listing->scheduling);
    free(listing->name);
    free(listing);
}

static bool same_trials(const qzo_listing *a, const qzo_listing *b) {
    bool same = a->trial_count == b->trial_count;
    for (int64_t i = 0; same && i < a->trial_count; i++)
        same = qzo_digest_equal(&a->trials[i].id, &b->trials[i].id);
    return same;
}

/* Takes a GRID frame: events before it count where it lists the same trials, whatever it calls
 * them: a key that has one value may become a column, and decisions stay decided. */
static qzo_status take_list(qzo_listing **last, int64_t *event_count, const qzo_frame *frame,
                            const char *path) {
    qzo_listing *next = NULL;
    qzo_status status =
        qzo_listing_parse(&next, (const char *)frame->payload, frame->payload_bytes, path);
    if (status != QZO_OK) return status;
    if (*last == NULL || !same_trials(*last, next) ||
        !qzo_scheduling_equal(&(*last)->scheduling, &next->scheduling))
        *event_count = 0;
    qzo_listing_free(*last);
    *last = next;
    return QZO_OK;
}

static qzo_status take_event(qzo_event *out, const qzo_frame *frame, const qzo_listing *list,
                             const char *path) {
    if (frame->payload_bytes != EVENT_BYTES && frame->payload_bytes != OLD_EVENT_BYTES)
        return qzo_fail(QZO_ERR_FORMAT, "%s: an event of %zu bytes, expected %d", path,
                        frame->payload_bytes, EVENT_BYTES);
    *out = (qzo_event){.type = (qzo_decision_type)frame->type,
                       .trial = qzo_get_u32(frame->payload),
                       .value = qzo_get_u32(frame->payload + 4)};
    if (frame->payload_bytes == EVENT_BYTES) out->rung = (int64_t)qzo_get_u64(frame->payload + 8);
    if (out->trial >= list->trial_count)
        return qzo_fail(QZO_ERR_FORMAT, "%s: an event of trial %lld, of %lld", path,
                        (long long)out->trial + 1, (long long)list->trial_count);
    return QZO_OK;
}

static bool is_event(uint32_t type) {
    return type >= QZO_DECISION_DISPATCH && type <= QZO_DECISION_RUNG;
}

qzo_status qzo_decisions_events(qzo_event **out, int64_t *count, const char *folder,
                                const char *name) {
    qzo_status status = QZO_OK;
    decisions_file file = {0};
    qzo_listing *list = NULL;
    qzo_frame_reader reader;
    qzo_frame frame;
    qzo_event *events = NULL;
    char *path = qzo_path_join(folder, name);
    *out = NULL;
    *count = 0;
    if (path == NULL) return fail_memory(folder);
    QZO_TRY(file_load(&file, path));
    events = calloc((size_t)file.frame_count + 1, sizeof *events);
    if (events == NULL) {
        status = fail_memory(path);
        goto cleanup;
    }
    qzo_frame_reader_start(&reader, (const uint8_t *)file.bytes, file.size_bytes, MAGIC);
    while (qzo_frame_next(&reader, &frame)) {
        if (frame.type == QZO_DECISION_GRID) {
            QZO_TRY(take_list(&list, count, &frame, path));
        } else if (is_event(frame.type) && list != NULL) { /* without a list they are of nothing */
            QZO_TRY(take_event(&events[*count], &frame, list, path));
            ++*count;
        }
    }
    *out = events;
    events = NULL;
cleanup:
    if (status != QZO_OK) *count = 0;
    qzo_listing_free(list);
    file_release(&file);
    free(events);
    free(path);
    return status;
}

/* --- writing --- */

/* Opens the writer after the whole frames of the file as it is now. Its buffer has a fixed size, so
 * a GRID frame that exceeds it opens a new one. */
static qzo_status open_writer(qzo_decisions *decisions, const decisions_file *file,
                              size_t payload_max) {
    qzo_status status = qzo_frame_writer_close(decisions->writer);
    decisions->writer = NULL;
    decisions->payload_max = payload_max;
    return status != QZO_OK ? status
                            : qzo_frame_writer_open(&decisions->writer, decisions->path, MAGIC,
                                                    file->valid_bytes, file->checksum, payload_max);
}

/* "DIR/decisions.qzj" to "DIR/decisions.damaged", holding the bytes as they were found. */
static qzo_status keep_damaged(const char *path, const decisions_file *file) {
    static const char old_ending[] = ".qzj", new_ending[] = ".damaged";
    char kept[PATH_MAX];
    size_t stem = strlen(path) - strlen(old_ending);
    snprintf(kept, sizeof kept, "%.*s%s", (int)stem, path, new_ending);
    return qzo_file_replace(kept, file->bytes, file->size_bytes);
}

qzo_status qzo_decisions_open(qzo_decisions **out, const char *folder, const char *name) {
    qzo_status status = QZO_OK;
    decisions_file file = {0};
    qzo_decisions *decisions = calloc(1, sizeof *decisions);
    if (decisions == NULL) return fail_memory(folder);
    decisions->path = qzo_path_join(folder, name);
    if (decisions->path == NULL) {
        status = fail_memory(folder);
        goto cleanup;
    }
    QZO_TRY(file_load(&file, decisions->path));
    if (file.tail == QZO_TAIL_DAMAGED) QZO_TRY(keep_damaged(decisions->path, &file));
    QZO_TRY(open_writer(decisions, &file, EVENT_BYTES));
    *out = decisions;
    decisions = NULL;
cleanup:
    file_release(&file);
    qzo_decisions_close(decisions);
    return status;
}

/* A path that stays right when the program is started somewhere else; fresh. One that does not
 * exist is only joined with the working folder. */
static char *absolute_path(const char *path) {
    char *real = realpath(path, NULL);
    if (real != NULL) return real;
    char working[PATH_MAX];
    return qzo_path_join(getcwd(working, sizeof working) != NULL ? working : "/", path);
}

static json_t *texts_to_json(const char *const *texts, int64_t count) {
    json_t *list = json_array();
    for (int64_t i = 0; list != NULL && i < count; i++)
        if (json_array_append_new(list, json_string(texts[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

static json_t *trial_to_json(const qzo_grid *grid, const qzo_grid_trial *trial) {
    char id[QZO_DIGEST_TEXT_BYTES];
    qzo_digest_text(id, &trial->id);
    char *model = absolute_path(trial->spec.model_path);
    char *task = absolute_path(trial->spec.task_path);
    json_t *values =
        texts_to_json((const char *const *)(const void *)trial->values, grid->swept_count);
    json_t *object = model != NULL && task != NULL
                         ? json_pack("{ss, ss, ss, so}", "id", id, "model", model, "task", task,
                                     "values", values)
                         : NULL;
    free(model);
    free(task);
    return object;
}

/* The GRID frame's text; NULL out of memory, or where a path is not UTF-8. */
static char *grid_text(const char *name, const qzo_grid *grid, const qzo_scheduling *scheduling) {
    char *text = NULL;
    json_t *trials = json_array();
    json_t *keys = texts_to_json(grid->swept_keys, grid->swept_count);
    for (int64_t i = 0; trials != NULL && i < grid->trial_count; i++)
        if (json_array_append_new(trials, trial_to_json(grid, &grid->trials[i])) != 0) {
            json_decref(trials);
            trials = NULL;
        }
    json_t *root = json_pack("{ss, so, so}", "name", name, "swept", keys, "trials", trials);
    if (root != NULL && scheduling->ops != &qzo_sched_fifo &&
        json_object_set_new(root, "scheduler", qzo_scheduling_to_json(scheduling)) != 0) {
        json_decref(root);
        root = NULL;
    }
    if (root != NULL) text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

qzo_status qzo_decisions_grid(qzo_decisions *decisions, const char *name, const qzo_grid *grid,
                              const qzo_scheduling *scheduling, bool *changed) {
    qzo_status status = QZO_OK;
    decisions_file file = {0};
    qzo_listing *last = NULL, *next = NULL;
    char *text = grid_text(name, grid, scheduling);
    *changed = true;
    if (text == NULL)
        return qzo_fail(QZO_ERR_CONFIG, "%s: a name or a path is not UTF-8, or out of memory",
                        name);
    size_t text_bytes = strlen(text);
    if (text_bytes > QZO_FRAME_PAYLOAD_MAX) {
        status = qzo_fail(QZO_ERR_LIMIT, "%s: the list of %lld trials takes %zu bytes, at most %d",
                          name, (long long)grid->trial_count, text_bytes, QZO_FRAME_PAYLOAD_MAX);
        goto cleanup;
    }
    QZO_TRY(qzo_decisions_sync(decisions));
    QZO_TRY(file_load(&file, decisions->path));
    if (file.grid != NULL) {
        if (file.grid_bytes == text_bytes && memcmp(file.grid, text, text_bytes) == 0) {
            *changed = false;
            goto cleanup;
        }
        QZO_TRY(qzo_listing_parse(&last, file.grid, file.grid_bytes, decisions->path));
        QZO_TRY(qzo_listing_parse(&next, text, text_bytes, name));
        *changed = !qzo_listing_equal(last, next);
    }
    if (text_bytes > decisions->payload_max) QZO_TRY(open_writer(decisions, &file, text_bytes));
    memcpy(qzo_frame_writer_payload(decisions->writer), text, text_bytes);
    QZO_TRY(qzo_frame_writer_append(decisions->writer, QZO_DECISION_GRID, text_bytes));
    QZO_TRY(qzo_decisions_sync(decisions));
cleanup:
    qzo_listing_free(last);
    qzo_listing_free(next);
    file_release(&file);
    free(text);
    return status;
}

/* Only after an error that an earlier call returned. */
static qzo_status fail_closed(const qzo_decisions *decisions) {
    return qzo_fail(QZO_ERR_IO, "%s: not open after an earlier error", decisions->path);
}

static qzo_status append_event(qzo_decisions *decisions, qzo_decision_type type, int64_t trial,
                               int64_t value, int64_t rung) {
    if (decisions->writer == NULL) return fail_closed(decisions);
    uint8_t *at = qzo_frame_writer_payload(decisions->writer);
    qzo_put_u32(at, (uint32_t)trial);
    qzo_put_u32(at + 4, (uint32_t)value);
    qzo_put_u64(at + 8, (uint64_t)rung);
    return qzo_frame_writer_append(decisions->writer, (uint32_t)type, EVENT_BYTES);
}

qzo_status qzo_decisions_dispatch(qzo_decisions *decisions, int64_t trial, int group,
                                  int64_t rung) {
    return append_event(decisions, QZO_DECISION_DISPATCH, trial, group, rung);
}

qzo_status qzo_decisions_outcome(qzo_decisions *decisions, int64_t trial, qzo_status outcome) {
    return append_event(decisions, QZO_DECISION_OUTCOME, trial, (int64_t)outcome, 0);
}

qzo_status qzo_decisions_stop(qzo_decisions *decisions, int64_t trial, int64_t rung) {
    return append_event(decisions, QZO_DECISION_STOP, trial, 0, rung);
}

qzo_status qzo_decisions_rung(qzo_decisions *decisions, int64_t trial, int64_t rung) {
    return append_event(decisions, QZO_DECISION_RUNG, trial, 0, rung);
}

qzo_status qzo_decisions_sync(qzo_decisions *decisions) {
    if (decisions->writer == NULL) return fail_closed(decisions);
    return qzo_frame_writer_sync(decisions->writer);
}

qzo_status qzo_decisions_close(qzo_decisions *decisions) {
    if (decisions == NULL) return QZO_OK;
    qzo_status status = qzo_frame_writer_close(decisions->writer);
    free(decisions->path);
    free(decisions);
    return status;
}
