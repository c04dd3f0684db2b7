#include "trial/journal.h"

#include "base/file_io.h"
#include "base/host_device.h"
#include "base/philox.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char QZO_JOURNAL_MAGIC[QZO_FRAMES_MAGIC_BYTES] = {'Q', 'Z', 'O', 'J', 'R', 'N', 'L', '1'};

enum {
    DIGEST_BYTES = 16,
    HEADER_FIXED_BYTES = 8 + 3 * DIGEST_BYTES + 16,
    STEP_FIXED_BYTES = 20,
    STEP_RECORD_BYTES = 36,
    EVAL_BYTES = 32,
    END_FIXED_BYTES = 16,
    TEXT_BYTES_MAX = 1 << 16
};

static const size_t JOURNAL_BYTES_MAX = (size_t)1 << 36;

const char *qzo_outcome_name(qzo_outcome outcome) {
    static const char *const names[] = {"finished", "stopped", "diverged", "failed"};
    return names[outcome];
}

/* --- small fields --- */

static float get_float(const uint8_t *at) { return qzo_float_from_bits(qzo_get_u32(at)); }
static void put_float(uint8_t *at, float value) { qzo_put_u32(at, qzo_float_bits(value)); }

static double get_double(const uint8_t *at) {
    uint64_t bits = qzo_get_u64(at);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void put_double(uint8_t *at, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    qzo_put_u64(at, bits);
}

static qzo_status check_frame(const qzo_frame *frame, uint32_t type, size_t bytes_min,
                              const char *name) {
    if (frame->type == type && frame->payload_bytes >= bytes_min) return QZO_OK;
    return qzo_fail(QZO_ERR_FORMAT,
                    "expected a %s frame of at least %zu bytes, found type %u of %zu", name,
                    bytes_min, frame->type, frame->payload_bytes);
}

/* --- reading --- */

/* A counted text at `at`; moves *at behind it. */
static qzo_status get_text(const uint8_t **text, size_t *text_bytes, const uint8_t **at,
                           const uint8_t *end) {
    size_t left = (size_t)(end - *at);
    size_t bytes = left >= 4 ? qzo_get_u32(*at) : 0;
    if (left < 4 || bytes > left - 4 || bytes > TEXT_BYTES_MAX)
        return qzo_fail(QZO_ERR_FORMAT, "a text in the journal's header exceeds its frame");
    *text = *at + 4;
    *text_bytes = bytes;
    *at += 4 + bytes;
    return QZO_OK;
}

qzo_status qzo_header_decode(qzo_journal_header *out, char **texts, const qzo_frame *frame) {
    qzo_status status = QZO_OK;
    const uint8_t *at = frame->payload, *end = at + frame->payload_bytes, *settings = NULL,
                  *arithmetic = NULL;
    size_t settings_bytes = 0, arithmetic_bytes = 0;
    QZO_TRY(check_frame(frame, QZO_FRAME_HEADER, HEADER_FIXED_BYTES + 8, "HEADER"));
    *out = (qzo_journal_header){.format_version = qzo_get_u32(at),
                                .noise_version = qzo_get_u32(at + 4)};
    if (out->format_version != QZO_JOURNAL_VERSION || out->noise_version != QZO_NOISE_VERSION) {
        status = qzo_fail(
            QZO_ERR_UNSUPPORTED, "journal format %u with noise %u; this program writes %u with %u",
            out->format_version, out->noise_version, QZO_JOURNAL_VERSION, QZO_NOISE_VERSION);
        goto cleanup;
    }
    memcpy(out->identity.bytes, at + 8, DIGEST_BYTES);
    memcpy(out->model_digest.bytes, at + 24, DIGEST_BYTES);
    memcpy(out->task_digest.bytes, at + 40, DIGEST_BYTES);
    out->value_count = qzo_get_u64(at + 56);
    out->initial_digest = qzo_get_u64(at + 64);
    at += HEADER_FIXED_BYTES;
    QZO_TRY(get_text(&settings, &settings_bytes, &at, end));
    QZO_TRY(get_text(&arithmetic, &arithmetic_bytes, &at, end));
    char *copy = calloc(1, settings_bytes + arithmetic_bytes + 2);
    if (copy == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for a journal's header");
        goto cleanup;
    }
    memcpy(copy, settings, settings_bytes);
    memcpy(copy + settings_bytes + 1, arithmetic, arithmetic_bytes);
    out->settings = copy;
    out->arithmetic = copy + settings_bytes + 1;
    *texts = copy;
cleanup:
    return status;
}

qzo_status qzo_step_decode(qzo_step *out, qzo_record *records, float *k, int64_t records_max,
                           const qzo_frame *frame) {
    qzo_status status = check_frame(frame, QZO_FRAME_STEP, STEP_FIXED_BYTES, "STEP");
    if (status != QZO_OK) return status;
    const uint8_t *at = frame->payload;
    int64_t count = qzo_get_u32(at + 16);
    if (frame->payload_bytes != STEP_FIXED_BYTES + (size_t)count * STEP_RECORD_BYTES)
        return qzo_fail(QZO_ERR_FORMAT, "a STEP frame of %zu bytes says that it has %lld records",
                        frame->payload_bytes, (long long)count);
    if (count > records_max)
        return qzo_fail(QZO_ERR_LIMIT, "a STEP frame of %lld records, the trial has %lld per step",
                        (long long)count, (long long)records_max);
    *out = (qzo_step){.step = (int64_t)qzo_get_u64(at),
                      .digest = qzo_get_u64(at + 8),
                      .records = records,
                      .k = k,
                      .record_count = count};
    at += STEP_FIXED_BYTES;
    for (int64_t i = 0; i < count; i++, at += STEP_RECORD_BYTES) {
        records[i] = (qzo_record){.seed = qzo_get_u64(at),
                                  .loss_plus = get_float(at + 8),
                                  .loss_minus = get_float(at + 12),
                                  .gradient = get_float(at + 16),
                                  .sample = qzo_get_u32(at + 20),
                                  .flags = qzo_get_u32(at + 24),
                                  .digest = qzo_get_u32(at + 28)};
        k[i] = get_float(at + 32);
    }
    return QZO_OK;
}

qzo_status qzo_evaluation_decode(qzo_evaluation *out, const qzo_frame *frame) {
    qzo_status status = check_frame(frame, QZO_FRAME_EVAL, EVAL_BYTES, "EVAL");
    if (status != QZO_OK) return status;
    *out = (qzo_evaluation){.step = (int64_t)qzo_get_u64(frame->payload),
                            .split = qzo_get_u32(frame->payload + 8),
                            .score = get_double(frame->payload + 16),
                            .loss = get_double(frame->payload + 24)};
    return QZO_OK;
}

qzo_status qzo_end_decode(qzo_end *out, const qzo_frame *frame) {
    qzo_status status = check_frame(frame, QZO_FRAME_END, END_FIXED_BYTES, "END");
    if (status != QZO_OK) return status;
    uint32_t outcome = qzo_get_u32(frame->payload + 8);
    if (outcome >= QZO_OUTCOME_COUNT)
        return qzo_fail(QZO_ERR_FORMAT, "an END frame has the unknown outcome %u", outcome);
    *out = (qzo_end){.step = (int64_t)qzo_get_u64(frame->payload),
                     .outcome = (qzo_outcome)outcome,
                     .text = (const char *)frame->payload + END_FIXED_BYTES,
                     .text_bytes = frame->payload_bytes - END_FIXED_BYTES};
    return QZO_OK;
}

qzo_status qzo_change_decode(int64_t *step, const char **text, size_t *text_bytes,
                             const qzo_frame *frame) {
    qzo_status status = check_frame(frame, QZO_FRAME_CHANGE, 8, "CHANGE");
    if (status != QZO_OK) return status;
    *step = (int64_t)qzo_get_u64(frame->payload);
    *text = (const char *)frame->payload + 8;
    *text_bytes = frame->payload_bytes - 8;
    return QZO_OK;
}

void qzo_journal_adopt(qzo_journal_file *out, uint8_t *bytes, size_t size_bytes) {
    *out = (qzo_journal_file){.bytes = bytes, .size_bytes = size_bytes};
    qzo_frame_reader reader;
    qzo_frame frame;
    qzo_frame_reader_start(&reader, bytes, size_bytes, QZO_JOURNAL_MAGIC);
    while (qzo_frame_next(&reader, &frame)) out->frame_count++;
    out->valid_bytes = reader.valid_bytes;
    out->checksum = reader.checksum;
    out->tail = reader.tail;
}

qzo_status qzo_journal_load(qzo_journal_file *out, const char *path) {
    char *bytes = NULL;
    size_t size_bytes = 0;
    qzo_status status = qzo_file_read(&bytes, &size_bytes, path, JOURNAL_BYTES_MAX);
    *out = (qzo_journal_file){0};
    if (status == QZO_ERR_NOT_FOUND) return QZO_OK;
    if (status != QZO_OK) return status;
    qzo_journal_adopt(out, (uint8_t *)bytes, size_bytes);
    return QZO_OK;
}

void qzo_journal_release(qzo_journal_file *file) {
    free(file->bytes);
    *file = (qzo_journal_file){0};
}

/* --- writing --- */

struct qzo_journal {
    qzo_frame_writer *writer;
};

/* "trials/ID.qzj" to "trials/ID.damaged", holding the bytes as they were found. */
static qzo_status keep_damaged(const char *path, const qzo_journal_file *file) {
    size_t stem = strlen(path) - strlen(".qzj");
    size_t bytes = stem + sizeof ".damaged";
    char *kept = malloc(bytes);
    if (kept == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    snprintf(kept, bytes, "%.*s.damaged", (int)stem, path);
    qzo_status status = qzo_file_replace(kept, file->bytes, file->size_bytes);
    free(kept);
    return status;
}

qzo_status qzo_journal_open(qzo_journal **out, const char *path, const qzo_journal_file *file,
                            int64_t records_max) {
    qzo_status status = QZO_OK;
    qzo_journal *journal = calloc(1, sizeof *journal);
    if (journal == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    size_t step_bytes = STEP_FIXED_BYTES + (size_t)records_max * STEP_RECORD_BYTES;
    size_t text_bytes = HEADER_FIXED_BYTES + 2 * (TEXT_BYTES_MAX + 4);
    /* A torn tail is less than one frame. More than that is damage that looks torn: a length. */
    size_t cut_bytes = file->size_bytes - file->valid_bytes;
    bool torn = file->tail == QZO_TAIL_TORN && cut_bytes < step_bytes + QZO_FRAME_OVERHEAD_BYTES;
    if (file->tail != QZO_TAIL_CLEAN && !torn) QZO_TRY(keep_damaged(path, file));
    size_t valid_bytes = file->frame_count > 0 ? file->valid_bytes : 0;
    QZO_TRY(qzo_frame_writer_open(&journal->writer, path, QZO_JOURNAL_MAGIC, valid_bytes,
                                  file->checksum,
                                  step_bytes > text_bytes ? step_bytes : text_bytes));
    *out = journal;
    journal = NULL;
cleanup:
    free(journal);
    return status;
}

static uint8_t *put_text(uint8_t *at, const char *text) {
    size_t bytes = strnlen(text, TEXT_BYTES_MAX);
    qzo_put_u32(at, (uint32_t)bytes);
    memcpy(at + 4, text, bytes);
    return at + 4 + bytes;
}

qzo_status qzo_journal_header_append(qzo_journal *journal, const qzo_journal_header *header) {
    uint8_t *begin = qzo_frame_writer_payload(journal->writer), *at = begin;
    qzo_put_u32(at, QZO_JOURNAL_VERSION);
    qzo_put_u32(at + 4, QZO_NOISE_VERSION);
    memcpy(at + 8, header->identity.bytes, DIGEST_BYTES);
    memcpy(at + 24, header->model_digest.bytes, DIGEST_BYTES);
    memcpy(at + 40, header->task_digest.bytes, DIGEST_BYTES);
    qzo_put_u64(at + 56, header->value_count);
    qzo_put_u64(at + 64, header->initial_digest);
    at = put_text(at + HEADER_FIXED_BYTES, header->settings);
    at = put_text(at, header->arithmetic);
    return qzo_frame_writer_append(journal->writer, QZO_FRAME_HEADER, (size_t)(at - begin));
}

qzo_status qzo_journal_step_append(qzo_journal *journal, const qzo_step *step) {
    uint8_t *begin = qzo_frame_writer_payload(journal->writer), *at = begin + STEP_FIXED_BYTES;
    qzo_put_u64(begin, (uint64_t)step->step);
    qzo_put_u64(begin + 8, step->digest);
    qzo_put_u32(begin + 16, (uint32_t)step->record_count);
    for (int64_t i = 0; i < step->record_count; i++, at += STEP_RECORD_BYTES) {
        const qzo_record *record = &step->records[i];
        qzo_put_u64(at, record->seed);
        put_float(at + 8, record->loss_plus);
        put_float(at + 12, record->loss_minus);
        put_float(at + 16, record->gradient);
        qzo_put_u32(at + 20, record->sample);
        qzo_put_u32(at + 24, record->flags);
        qzo_put_u32(at + 28, 0);
        put_float(at + 32, step->k[i]);
    }
    return qzo_frame_writer_append(journal->writer, QZO_FRAME_STEP, (size_t)(at - begin));
}

qzo_status qzo_journal_evaluation_append(qzo_journal *journal, const qzo_evaluation *evaluation) {
    uint8_t *at = qzo_frame_writer_payload(journal->writer);
    qzo_put_u64(at, (uint64_t)evaluation->step);
    qzo_put_u32(at + 8, evaluation->split);
    qzo_put_u32(at + 12, 0);
    put_double(at + 16, evaluation->score);
    put_double(at + 24, evaluation->loss);
    qzo_status status = qzo_frame_writer_append(journal->writer, QZO_FRAME_EVAL, EVAL_BYTES);
    return status == QZO_OK ? qzo_frame_writer_sync(journal->writer) : status;
}

qzo_status qzo_journal_change_append(qzo_journal *journal, int64_t step, const char *text) {
    uint8_t *at = qzo_frame_writer_payload(journal->writer);
    size_t bytes = strnlen(text, TEXT_BYTES_MAX);
    qzo_put_u64(at, (uint64_t)step);
    memcpy(at + 8, text, bytes);
    return qzo_frame_writer_append(journal->writer, QZO_FRAME_CHANGE, 8 + bytes);
}

qzo_status qzo_journal_end_append(qzo_journal *journal, int64_t step, qzo_outcome outcome,
                                  const char *text) {
    uint8_t *at = qzo_frame_writer_payload(journal->writer);
    size_t bytes = strnlen(text, TEXT_BYTES_MAX);
    qzo_put_u64(at, (uint64_t)step);
    qzo_put_u32(at + 8, (uint32_t)outcome);
    qzo_put_u32(at + 12, 0);
    memcpy(at + END_FIXED_BYTES, text, bytes);
    qzo_status status =
        qzo_frame_writer_append(journal->writer, QZO_FRAME_END, END_FIXED_BYTES + bytes);
    return status == QZO_OK ? qzo_frame_writer_sync(journal->writer) : status;
}

qzo_status qzo_journal_sync(qzo_journal *journal) { return qzo_frame_writer_sync(journal->writer); }

qzo_status qzo_journal_close(qzo_journal *journal) {
    if (journal == NULL) return QZO_OK;
    qzo_status status = qzo_frame_writer_close(journal->writer);
    free(journal);
    return status;
}
