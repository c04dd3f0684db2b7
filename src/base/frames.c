#include "base/frames.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/file_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { HEAD_BYTES = 8, CHECKSUM_BYTES = 8 };

static const double SYNC_PERIOD_SECONDS = 1.0;

/* --- reading --- */

void qzo_frame_reader_start(qzo_frame_reader *out, const uint8_t *bytes, size_t size_bytes,
                            const char magic[QZO_FRAMES_MAGIC_BYTES]) {
    *out = (qzo_frame_reader){.bytes = bytes, .size_bytes = size_bytes};
    size_t compared = size_bytes < QZO_FRAMES_MAGIC_BYTES ? size_bytes : QZO_FRAMES_MAGIC_BYTES;
    if (compared > 0 && memcmp(bytes, magic, compared) != 0) {
        out->tail = QZO_TAIL_DAMAGED;
        out->size_bytes = 0;
    } else if (compared < QZO_FRAMES_MAGIC_BYTES) {
        out->tail = compared == 0 ? QZO_TAIL_CLEAN : QZO_TAIL_TORN;
        out->size_bytes = 0;
    } else {
        out->valid_bytes = QZO_FRAMES_MAGIC_BYTES;
    }
}

bool qzo_frame_next(qzo_frame_reader *reader, qzo_frame *out) {
    size_t left =
        reader->size_bytes > reader->valid_bytes ? reader->size_bytes - reader->valid_bytes : 0;
    if (left == 0) return false;
    reader->tail = QZO_TAIL_TORN;
    if (left < HEAD_BYTES) return false;
    const uint8_t *head = reader->bytes + reader->valid_bytes;
    size_t payload_bytes = qzo_get_u32(head + 4);
    if (payload_bytes > QZO_FRAME_PAYLOAD_MAX) {
        reader->tail = QZO_TAIL_DAMAGED;
        return false;
    }
    size_t frame_bytes = HEAD_BYTES + payload_bytes + CHECKSUM_BYTES;
    if (left < frame_bytes) return false;
    uint64_t checksum = qzo_checksum(head, HEAD_BYTES + payload_bytes, reader->checksum);
    if (checksum != qzo_get_u64(head + HEAD_BYTES + payload_bytes)) {
        reader->tail = QZO_TAIL_DAMAGED;
        return false;
    }
    reader->tail = QZO_TAIL_CLEAN;
    reader->checksum = checksum;
    reader->valid_bytes += frame_bytes;
    *out = (qzo_frame){qzo_get_u32(head), head + HEAD_BYTES, payload_bytes};
    return true;
}

/* --- writing --- */

struct qzo_frame_writer {
    int descriptor;
    char *path;
    uint8_t *frame; /* head, payload, checksum */
    size_t payload_max;
    size_t size_bytes; /* of the file: whole frames only */
    uint64_t checksum;
    double synced_at;
    bool dirty;
};

static qzo_status io_error(const qzo_frame_writer *writer, const char *what) {
    return qzo_fail(QZO_ERR_IO, "%s: %s: %s", writer->path, what, strerror(errno));
}

static qzo_status lock_file(const qzo_frame_writer *writer) {
    if (flock(writer->descriptor, LOCK_EX | LOCK_NB) == 0) return QZO_OK;
    if (errno == EWOULDBLOCK)
        return qzo_fail(QZO_ERR_BUSY, "%s: another process is writing to it", writer->path);
    /* A file system without locks: the folder's lock file still guards the run. */
    return errno == ENOLCK || errno == ENOSYS || errno == EOPNOTSUPP ? QZO_OK
                                                                     : io_error(writer, "lock");
}

qzo_status qzo_frame_writer_open(qzo_frame_writer **out, const char *path,
                                 const char magic[QZO_FRAMES_MAGIC_BYTES], size_t valid_bytes,
                                 uint64_t checksum, size_t payload_max) {
    qzo_status status = QZO_OK;
    QZO_ASSERT(payload_max <= QZO_FRAME_PAYLOAD_MAX);
    qzo_frame_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    writer->payload_max = payload_max;
    writer->path = strdup(path);
    writer->frame = malloc(HEAD_BYTES + payload_max + CHECKSUM_BYTES);
    writer->descriptor = -1;
    if (writer->path == NULL || writer->frame == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
        goto cleanup;
    }
    writer->descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (writer->descriptor < 0) {
        status = io_error(writer, "open");
        goto cleanup;
    }
    QZO_TRY(lock_file(writer));
    if (ftruncate(writer->descriptor, (off_t)valid_bytes) != 0 ||
        lseek(writer->descriptor, 0, SEEK_END) < 0) {
        status = io_error(writer, "cut the tail");
        goto cleanup;
    }
    if (valid_bytes == 0) {
        QZO_TRY(qzo_file_write_all(writer->descriptor, magic, QZO_FRAMES_MAGIC_BYTES, path));
        valid_bytes = QZO_FRAMES_MAGIC_BYTES;
        checksum = 0;
    }
    writer->size_bytes = valid_bytes;
    writer->checksum = checksum;
    writer->synced_at = qzo_clock_seconds();
    writer->dirty = true;
    *out = writer;
    writer = NULL;
cleanup:
    if (writer != NULL) {
        writer->dirty = false;
        qzo_frame_writer_close(writer);
    }
    return status;
}

uint8_t *qzo_frame_writer_payload(qzo_frame_writer *writer) { return writer->frame + HEAD_BYTES; }

qzo_status qzo_frame_writer_append(qzo_frame_writer *writer, uint32_t type, size_t payload_bytes) {
    QZO_ASSERT(payload_bytes <= writer->payload_max);
    qzo_put_u32(writer->frame, type);
    qzo_put_u32(writer->frame + 4, (uint32_t)payload_bytes);
    uint64_t checksum = qzo_checksum(writer->frame, HEAD_BYTES + payload_bytes, writer->checksum);
    qzo_put_u64(writer->frame + HEAD_BYTES + payload_bytes, checksum);
    size_t frame_bytes = HEAD_BYTES + payload_bytes + CHECKSUM_BYTES;
    qzo_status status =
        qzo_file_write_all(writer->descriptor, writer->frame, frame_bytes, writer->path);
    if (status != QZO_OK) { /* a part of the frame may be there; a failure to cut it is harmless */
        if (ftruncate(writer->descriptor, (off_t)writer->size_bytes) == 0)
            (void)!lseek(writer->descriptor, 0, SEEK_END);
        return status;
    }
    writer->size_bytes += frame_bytes;
    writer->checksum = checksum;
    writer->dirty = true;
    if (qzo_clock_seconds() - writer->synced_at > SYNC_PERIOD_SECONDS)
        return qzo_frame_writer_sync(writer);
    return QZO_OK;
}

qzo_status qzo_frame_writer_sync(qzo_frame_writer *writer) {
    if (!writer->dirty) return QZO_OK;
    /* A file system that cannot sync (EINVAL) still holds the data. */
    if (fdatasync(writer->descriptor) != 0 && errno != EINVAL) return io_error(writer, "sync");
    writer->synced_at = qzo_clock_seconds();
    writer->dirty = false;
    return QZO_OK;
}

qzo_status qzo_frame_writer_close(qzo_frame_writer *writer) {
    if (writer == NULL) return QZO_OK;
    qzo_status status = writer->descriptor >= 0 ? qzo_frame_writer_sync(writer) : QZO_OK;
    if (writer->descriptor >= 0) close(writer->descriptor);
    free(writer->frame);
    free(writer->path);
    free(writer);
    return status;
}
