#include "sweep/decisions.h"

#include "base/file_io.h"
#include "base/frames.h"
#include "base/json.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OLD_EVENT_BYTES = 8, EVENT_BYTES = 16, FORK_BYTES_MAX = 1 << 16 };

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

static bool same_trials(const qzo_listing *a, const qzo_listing *b) {
    int64_t count = qzo_listing_asked(a);
    bool same = count == qzo_listing_asked(b);
    for (int64_t i = 0; same && i < count; i++)
        same = qzo_digest_equal(&a->trials[i].id, &b->trials[i].id);
    return same;
}

/* What stands in the frames so far. */
typedef struct history {
    qzo_listing *list; /* NULL before the first GRID */
    qzo_event *events; /* since the list or the scheduler last changed; NULL: not asked for */
    int64_t event_count;
    const char *path;
} history;

/* Takes a GRID frame: forks and events before it count where it lists the same trials, whatever it
 * calls them: a key that has one value may become a column, and decisions stay decided. */
static qzo_status take_list(history *h, const qzo_frame *frame) {
    qzo_listing *next = NULL, *last = h->list;
    qzo_status status = QZO_OK;
    QZO_TRY(qzo_listing_parse(&next, (const char *)frame->payload, frame->payload_bytes, h->path));
    bool is_same = last != NULL && same_trials(last, next) &&
                   qzo_scheduling_equal(&last->scheduling, &next->scheduling);
    if (!is_same) h->event_count = 0;
    for (int64_t i = is_same ? qzo_listing_asked(last) : 0; is_same && i < last->trial_count; i++) {
        const qzo_listed_trial *fork = &last->trials[i];
        if (last->swept_count != next->swept_count) {
            status = qzo_fail(QZO_ERR_FORMAT, "%s: forks with values of other keys", h->path);
            goto cleanup;
        }
        QZO_TRY(qzo_listing_add_fork(next, fork->parent, fork->rung, &fork->id, fork->values));
    }
    qzo_listing_free(last);
    h->list = next;
    next = NULL;
cleanup:
    qzo_listing_free(next);
    return status;
}

static bool is_event(uint32_t type) {
    return type >= QZO_DECISION_DISPATCH && type <= QZO_DECISION_FORK;
}

static qzo_status take_fork(history *h, const qzo_event *event, const qzo_frame *frame) {
    if (event->trial != h->list->trial_count || event->value >= h->list->trial_count ||
        event->rung < 0 || event->rung >= h->list->scheduling.rung_count)
        return qzo_fail(QZO_ERR_FORMAT, "%s: trial %lld as a fork of trial %lld, after %lld trials",
                        h->path, (long long)event->trial + 1, (long long)event->value + 1,
                        (long long)h->list->trial_count);
    return qzo_listing_read_fork(h->list, event->value, event->rung,
                                 (const char *)frame->payload + EVENT_BYTES,
                                 frame->payload_bytes - EVENT_BYTES, h->path);
}

static qzo_status take_event(history *h, const qzo_frame *frame) {
    qzo_status status = QZO_OK;
    bool is_fork = frame->type == QZO_DECISION_FORK;
    if (is_fork ? frame->payload_bytes < EVENT_BYTES
                : frame->payload_bytes != EVENT_BYTES && frame->payload_bytes != OLD_EVENT_BYTES)
        return qzo_fail(QZO_ERR_FORMAT, "%s: an event of %zu bytes, expected %d", h->path,
                        frame->payload_bytes, EVENT_BYTES);
    qzo_event event = {.type = (qzo_decision_type)frame->type,
                       .trial = qzo_get_u32(frame->payload),
                       .value = qzo_get_u32(frame->payload + 4)};
    if (frame->payload_bytes >= EVENT_BYTES) event.rung = (int64_t)qzo_get_u64(frame->payload + 8);
    if (is_fork) status = take_fork(h, &event, frame);
    if (status == QZO_OK && event.trial >= h->list->trial_count)
        status = qzo_fail(QZO_ERR_FORMAT, "%s: an event of trial %lld, of %lld", h->path,
                          (long long)event.trial + 1, (long long)h->list->trial_count);
    if (status == QZO_OK && h->events != NULL) h->events[h->event_count++] = event;
    return status;
}

/* Walks the frames; the caller frees the list. */
static qzo_status read_history(history *h, const decisions_file *file) {
    qzo_status status = QZO_OK;
    qzo_frame_reader reader;
    qzo_frame frame;
    qzo_frame_reader_start(&reader, (const uint8_t *)file->bytes, file->size_bytes, MAGIC);
    while (status == QZO_OK && qzo_frame_next(&reader, &frame)) {
        if (frame.type == QZO_DECISION_GRID)
            status = take_list(h, &frame);
        else if (is_event(frame.type) && h->list != NULL) /* without a list they are of nothing */
            status = take_event(h, &frame);
    }
    return status;
}

qzo_status qzo_listing_load(qzo_listing **out, const char *folder) {
    qzo_status status = QZO_OK;
    decisions_file file = {0};
    char *path = qzo_path_join(folder, QZO_DECISIONS_NAME);
    history h = {.path = path};
    *out = NULL;
    if (path == NULL) return fail_memory(folder);
    QZO_TRY(file_load(&file, path));
    QZO_TRY(read_history(&h, &file));
    if (h.list == NULL) {
        h.list = calloc(1, sizeof *h.list);
        if (h.list == NULL) {
            status = fail_memory(folder);
            goto cleanup;
        }
        h.list->scheduling.ops = &qzo_sched_fifo;
    }
    *out = h.list;
    h.list = NULL;
cleanup:
    qzo_listing_free(h.list);
    file_release(&file);
    free(path);
    return status;
}

qzo_status qzo_decisions_events(qzo_event **out, int64_t *count, const char *folder,
                                const char *name) {
    qzo_status status = QZO_OK;
    decisions_file file = {0};
    char *path = qzo_path_join(folder, name);
    history h = {.path = path};
    *out = NULL;
    *count = 0;
    if (path == NULL) return fail_memory(folder);
    QZO_TRY(file_load(&file, path));
    h.events = calloc((size_t)file.frame_count + 1, sizeof *h.events);
    if (h.events == NULL) {
        status = fail_memory(path);
        goto cleanup;
    }
    QZO_TRY(read_history(&h, &file));
    *out = h.events;
    *count = h.event_count;
    h.events = NULL;
cleanup:
    qzo_listing_free(h.list);
    file_release(&file);
    free(h.events);
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
    QZO_TRY(open_writer(decisions, &file, FORK_BYTES_MAX));
    *out = decisions;
    decisions = NULL;
cleanup:
    file_release(&file);
    qzo_decisions_close(decisions);
    return status;
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
    char *model = qzo_path_absolute(trial->spec.model_path);
    char *task = qzo_path_absolute(trial->spec.task_path);
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

static void put_event(uint8_t *at, int64_t trial, int64_t value, int64_t rung) {
    qzo_put_u32(at, (uint32_t)trial);
    qzo_put_u32(at + 4, (uint32_t)value);
    qzo_put_u64(at + 8, (uint64_t)rung);
}

static qzo_status append_event(qzo_decisions *decisions, qzo_decision_type type, int64_t trial,
                               int64_t value, int64_t rung) {
    if (decisions->writer == NULL) return fail_closed(decisions);
    put_event(qzo_frame_writer_payload(decisions->writer), trial, value, rung);
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

qzo_status qzo_decisions_fork(qzo_decisions *decisions, int64_t trial, int64_t parent, int64_t rung,
                              const qzo_digest *id, char *const *values, int64_t value_count) {
    qzo_status status = QZO_OK;
    char id_text[QZO_DIGEST_TEXT_BYTES], *text = NULL;
    if (decisions->writer == NULL) return fail_closed(decisions);
    qzo_digest_text(id_text, id);
    json_t *list = texts_to_json((const char *const *)(const void *)values, value_count);
    json_t *root = json_pack("{ss, so}", "id", id_text, "values", list);
    if (root != NULL) text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    size_t text_bytes = text != NULL ? strlen(text) : 0;
    if (text == NULL || EVENT_BYTES + text_bytes > decisions->payload_max) {
        status = qzo_fail(QZO_ERR_LIMIT, "%s: a fork's values take %zu bytes, at most %d",
                          decisions->path, text_bytes, FORK_BYTES_MAX - EVENT_BYTES);
        goto cleanup;
    }
    uint8_t *at = qzo_frame_writer_payload(decisions->writer);
    put_event(at, trial, parent, rung);
    memcpy(at + EVENT_BYTES, text, text_bytes);
    QZO_TRY(
        qzo_frame_writer_append(decisions->writer, QZO_DECISION_FORK, EVENT_BYTES + text_bytes));
cleanup:
    free(text);
    return status;
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
