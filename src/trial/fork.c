#include "trial/fork.h"

#include "base/file_io.h"
#include "task/task_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const size_t JOURNAL_BYTES_MAX = (size_t)1 << 36;

bool qzo_change_has_settings(const char **settings, size_t *settings_bytes, const char *text,
                             size_t text_bytes) {
    size_t mark = strlen(QZO_CHANGE_SETTINGS);
    if (text_bytes < mark || memcmp(text, QZO_CHANGE_SETTINGS, mark) != 0) return false;
    *settings = text + mark;
    *settings_bytes = text_bytes - mark;
    return true;
}

/* Whether the settings of a fork say that it goes on from that trial after that step: their last
 * line. */
static bool is_fork_of(const char *settings, const qzo_digest *parent, int64_t step) {
    char line[96], id[QZO_DIGEST_TEXT_BYTES];
    qzo_digest_text(id, parent);
    size_t bytes = (size_t)snprintf(line, sizeof line, "\nfork=%s@%" PRId64 "\n", id, step);
    size_t all = strlen(settings);
    return all > bytes && strcmp(settings + all - bytes, line) == 0;
}

static qzo_status take_header(char **settings, qzo_digest *identity, const qzo_frame *frame) {
    qzo_journal_header header;
    char *texts = NULL;
    qzo_status status = qzo_header_decode(&header, &texts, frame);
    if (status != QZO_OK) return status;
    *identity = header.identity;
    *settings = strdup(header.settings);
    free(texts);
    return *settings != NULL ? QZO_OK : qzo_fail(QZO_ERR_MEMORY, "out of memory for settings");
}

/* A CHANGE of the arithmetic is left alone. */
static qzo_status take_change(char **settings, qzo_digest *identity, const qzo_frame *frame) {
    const char *text = NULL, *changed = NULL;
    size_t text_bytes = 0, changed_bytes = 0;
    int64_t step = 0;
    qzo_status status = qzo_change_decode(&step, &text, &text_bytes, frame);
    if (status != QZO_OK) return status;
    if (!qzo_change_has_settings(&changed, &changed_bytes, text, text_bytes)) return QZO_OK;
    char *next = strndup(changed, changed_bytes);
    if (next == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for settings");
    if (!is_fork_of(next, identity, step)) {
        free(next);
        return qzo_fail(QZO_ERR_FORMAT,
                        "the settings after step %" PRId64 " are of no fork of this trial", step);
    }
    free(*settings);
    *settings = next;
    *identity = qzo_digest_of(next, strlen(next));
    return QZO_OK;
}

qzo_status qzo_journal_settings(char **settings, qzo_digest *identity,
                                const qzo_journal_file *file) {
    qzo_status status = QZO_OK;
    qzo_frame_reader reader;
    qzo_frame frame;
    *settings = NULL;
    qzo_frame_reader_start(&reader, file->bytes, file->valid_bytes, QZO_JOURNAL_MAGIC);
    while (status == QZO_OK && qzo_frame_next(&reader, &frame)) {
        if (*settings == NULL)
            status = take_header(settings, identity, &frame);
        else if (frame.type == QZO_FRAME_CHANGE)
            status = take_change(settings, identity, &frame);
    }
    if (status != QZO_OK) {
        free(*settings);
        *settings = NULL;
    }
    return status;
}

qzo_status qzo_journal_check_identity(const qzo_journal_file *file, const qzo_digest *identity) {
    char *settings = NULL;
    qzo_digest found;
    qzo_status status = qzo_journal_settings(&settings, &found, file);
    if (status == QZO_OK && settings != NULL && !qzo_digest_equal(&found, identity))
        status = qzo_fail(QZO_ERR_FORMAT, "the journal belongs to another trial");
    free(settings);
    return status;
}

qzo_status qzo_fork_prefix(size_t *prefix_bytes, uint64_t *checksum, const qzo_journal_file *file,
                           int64_t step) {
    qzo_frame_reader reader;
    qzo_frame frame;
    qzo_evaluation evaluation;
    qzo_frame_reader_start(&reader, file->bytes, file->valid_bytes, QZO_JOURNAL_MAGIC);
    while (qzo_frame_next(&reader, &frame)) {
        if (frame.type != QZO_FRAME_EVAL) continue;
        qzo_status status = qzo_evaluation_decode(&evaluation, &frame);
        if (status != QZO_OK) return status;
        if (evaluation.step != step || evaluation.split != QZO_SPLIT_DEV) continue;
        *prefix_bytes = reader.valid_bytes;
        *checksum = reader.checksum;
        return QZO_OK;
    }
    return qzo_fail(QZO_ERR_FORMAT, "the journal has no evaluation after step %" PRId64, step);
}

/* At a path of its own: the prefix, and the frame behind it. */
static qzo_status write_part(const char *path, const qzo_journal_file *parent,
                             const qzo_trial_spec *spec) {
    qzo_status status = QZO_OK;
    qzo_journal_file prefix = {.bytes = parent->bytes, .tail = QZO_TAIL_CLEAN, .frame_count = 1};
    qzo_journal *journal = NULL;
    char *text = NULL, *canonical = qzo_trial_spec_canonical(spec);
    size_t text_bytes =
        canonical != NULL ? sizeof QZO_CHANGE_SETTINGS + strlen(canonical) : sizeof "";
    text = malloc(text_bytes);
    if (canonical == NULL || text == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
        goto cleanup;
    }
    snprintf(text, text_bytes, QZO_CHANGE_SETTINGS "%s", canonical);
    QZO_TRY(qzo_fork_prefix(&prefix.valid_bytes, &prefix.checksum, parent, spec->fork_step));
    prefix.size_bytes = prefix.valid_bytes;
    QZO_TRY(qzo_file_replace(path, parent->bytes, prefix.size_bytes));
    QZO_TRY(qzo_journal_open(&journal, path, &prefix, 0));
    QZO_TRY(qzo_journal_change_append(journal, spec->fork_step, text));
cleanup:;
    qzo_status closed = qzo_journal_close(journal);
    if (status == QZO_OK) status = closed;
    free(canonical);
    free(text);
    return status;
}

qzo_status qzo_fork_write(const char *path, const qzo_journal_file *parent,
                          const qzo_trial_spec *spec) {
    qzo_status status = QZO_OK;
    char *bytes = NULL;
    size_t size_bytes = 0, part_bytes = strlen(path) + sizeof ".part";
    if (access(path, F_OK) == 0) return QZO_OK;
    char *part = malloc(part_bytes);
    if (part == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    snprintf(part, part_bytes, "%s.part", path);
    QZO_TRY(write_part(part, parent, spec));
    QZO_TRY(qzo_file_read(&bytes, &size_bytes, part, JOURNAL_BYTES_MAX));
    QZO_TRY(qzo_file_replace(path, bytes, size_bytes));
cleanup:
    unlink(part);
    free(bytes);
    free(part);
    return status == QZO_OK ? status : qzo_fail_context(status, "%s", path);
}

qzo_status qzo_fork_check(const qzo_journal_file *fork, const qzo_journal_file *parent,
                          int64_t step) {
    size_t bytes = 0;
    uint64_t checksum = 0;
    qzo_status status = qzo_fork_prefix(&bytes, &checksum, parent, step);
    if (status != QZO_OK) return status;
    if (fork->valid_bytes >= bytes && memcmp(fork->bytes, parent->bytes, bytes) == 0) return QZO_OK;
    return qzo_fail(QZO_ERR_DESYNC,
                    "the journal of a fork differs from its origin's before step %" PRId64, step);
}
