/* An append-only file of typed frames, each with length and checksum: trials' journals and the
 * sweep's decisions.
 *
 *   file:   8 bytes of magic, then frames
 *   frame:  u32 type, u32 payload bytes, payload, u64 XXH3-64 of type, length and payload, seeded
 *           with the checksum of the frame before (0 at first): order and completeness are covered.
 *   All integers little-endian.
 *
 * A writer that dies leaves a prefix of a frame: that torn tail is cut when the file is opened
 * again. A frame that is complete but wrong is damage: the reader stops before it and says so. */
#ifndef QZO_BASE_FRAMES_H
#define QZO_BASE_FRAMES_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QZO_FRAMES_MAGIC_BYTES = 8, QZO_FRAME_OVERHEAD_BYTES = 16, QZO_FRAME_PAYLOAD_MAX = 1 << 28 };

typedef struct qzo_frame {
    uint32_t type;
    const uint8_t *payload; /* borrowed from the bytes that are read */
    size_t payload_bytes;
} qzo_frame;

typedef enum {
    QZO_TAIL_CLEAN,
    QZO_TAIL_TORN,   /* ends in the middle of a frame */
    QZO_TAIL_DAMAGED /* a complete frame, or the magic, is wrong */
} qzo_tail;

/* Reads frames from memory that the caller keeps. */
typedef struct qzo_frame_reader {
    const uint8_t *bytes;
    size_t size_bytes;
    size_t valid_bytes; /* the magic and all frames read so far */
    uint64_t checksum;  /* of the last frame read */
    qzo_tail tail;      /* once qzo_frame_next returned false */
} qzo_frame_reader;

void qzo_frame_reader_start(qzo_frame_reader *out, const uint8_t *bytes, size_t size_bytes,
                            const char magic[QZO_FRAMES_MAGIC_BYTES]);

/* The next whole frame; false at the end, torn or damaged or not. */
bool qzo_frame_next(qzo_frame_reader *reader, qzo_frame *out);

/* Appends frames to a file that it holds locked (flock) against other writers. */
typedef struct qzo_frame_writer qzo_frame_writer;

/* Opens or creates the file for writing after its first valid_bytes (0: it is emptied and gets the
 * magic); what lies behind is cut. checksum is that of the last valid frame. payload_max: the
 * largest payload that will be appended; its buffer is allocated here and never again.
 * QZO_ERR_BUSY where another process writes to it. The caller closes it. */
qzo_status qzo_frame_writer_open(qzo_frame_writer **out, const char *path,
                                 const char magic[QZO_FRAMES_MAGIC_BYTES], size_t valid_bytes,
                                 uint64_t checksum, size_t payload_max);

/* Where the next payload is assembled (payload_max bytes); valid until the writer closes. */
uint8_t *qzo_frame_writer_payload(qzo_frame_writer *writer);

/* Appends the assembled payload with one write; syncs where the last sync is over a second old.
 * After an error the file ends with the last whole frame again. */
qzo_status qzo_frame_writer_append(qzo_frame_writer *writer, uint32_t type, size_t payload_bytes);

/* fdatasync of what was written. */
qzo_status qzo_frame_writer_sync(qzo_frame_writer *writer);

/* Syncs and closes; the sync's failure is returned. NULL is fine. */
qzo_status qzo_frame_writer_close(qzo_frame_writer *writer);

#endif
