/* Any bytes as a journal: the prefix of whole frames is read, nothing else. Checksums are made
 * right in a second pass, or every change would end there: the input is then a list of frames, each
 * a type byte, two bytes of length and the payload. */
#include "base/digest.h"
#include "base/file_io.h"
#include "trial/journal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

enum { HEAD_BYTES = 3, RECORDS_MAX = 128, TYPES = 8 };

/* Decodes every frame as what it says it is. */
static void walk(const qzo_journal_file *file) {
    static qzo_record records[RECORDS_MAX];
    static float k[RECORDS_MAX];
    qzo_frame_reader reader;
    qzo_frame frame;
    int64_t count = 0;
    qzo_frame_reader_start(&reader, file->bytes, file->valid_bytes, QZO_JOURNAL_MAGIC);
    while (qzo_frame_next(&reader, &frame)) {
        qzo_step step;
        qzo_evaluation evaluation;
        qzo_end end;
        const char *text = NULL;
        size_t text_bytes = 0;
        int64_t at = 0;
        count++;
        if (qzo_step_decode(&step, records, k, RECORDS_MAX, &frame) == QZO_OK &&
            step.record_count > RECORDS_MAX)
            abort();
        if (qzo_end_decode(&end, &frame) == QZO_OK && end.text_bytes > frame.payload_bytes) abort();
        if (qzo_change_decode(&at, &text, &text_bytes, &frame) == QZO_OK &&
            text_bytes > frame.payload_bytes)
            abort();
        (void)qzo_evaluation_decode(&evaluation, &frame);
    }
    if (count != file->frame_count || reader.tail != QZO_TAIL_CLEAN) abort();
    qzo_trial_summary summary;
    if (qzo_trial_summarize(&summary, file) != QZO_OK && qzo_error_message()[0] == '\0') abort();
    qzo_trial_summary_release(&summary);
}

/* Takes bytes over. */
static void read_all(uint8_t *bytes, size_t size_bytes) {
    qzo_journal_file file;
    qzo_journal_adopt(&file, bytes, size_bytes);
    if (file.valid_bytes > size_bytes) abort();
    walk(&file);
    qzo_journal_release(&file);
}

/* The input as frames with right checksums; fresh. */
static uint8_t *make_journal(size_t *out_bytes, const uint8_t *bytes, size_t size_bytes) {
    /* A frame takes 3 bytes in the input and 16 here. */
    uint8_t *made = malloc(QZO_FRAMES_MAGIC_BYTES + 6 * size_bytes + 1), *at = made;
    uint64_t checksum = 0;
    if (made == NULL) abort();
    memcpy(at, QZO_JOURNAL_MAGIC, QZO_FRAMES_MAGIC_BYTES);
    at += QZO_FRAMES_MAGIC_BYTES;
    while (size_bytes >= HEAD_BYTES) {
        size_t payload_bytes = bytes[1] | (size_t)bytes[2] << 8;
        if (payload_bytes > size_bytes - HEAD_BYTES) payload_bytes = size_bytes - HEAD_BYTES;
        qzo_put_u32(at, bytes[0] % TYPES);
        qzo_put_u32(at + 4, (uint32_t)payload_bytes);
        memcpy(at + 8, bytes + HEAD_BYTES, payload_bytes);
        checksum = qzo_checksum(at, 8 + payload_bytes, checksum);
        qzo_put_u64(at + 8 + payload_bytes, checksum);
        at += 16 + payload_bytes;
        bytes += HEAD_BYTES + payload_bytes;
        size_bytes -= HEAD_BYTES + payload_bytes;
    }
    *out_bytes = (size_t)(at - made);
    return made;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes) {
    uint8_t *copy = malloc(size_bytes + 1);
    if (copy == NULL) abort();
    memcpy(copy, bytes, size_bytes);
    read_all(copy, size_bytes);
    size_t made_bytes = 0;
    uint8_t *made = make_journal(&made_bytes, bytes, size_bytes);
    read_all(made, made_bytes);
    return 0;
}
