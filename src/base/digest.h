/* 128-bit content digests (XXH3-128) for identities. Not cryptographic: they tell versions apart.
 */
#ifndef QZO_BASE_DIGEST_H
#define QZO_BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct qzo_digest {
    uint8_t bytes[16]; /* big-endian, as XXH's canonical form prints */
} qzo_digest;

enum { QZO_DIGEST_TEXT_BYTES = 33 };

qzo_digest qzo_digest_of(const void *bytes, size_t size_bytes);

/* Accumulates pieces of any size; the same bytes in other pieces give the same digest. */
typedef struct qzo_digest_stream qzo_digest_stream;
qzo_digest_stream *qzo_digest_begin(void); /* NULL when out of memory */
void qzo_digest_add(qzo_digest_stream *stream, const void *bytes, size_t size_bytes);
qzo_digest qzo_digest_end(qzo_digest_stream *stream); /* frees the stream */

/* 32 lower-case hexadecimal digits and a NUL. */
void qzo_digest_text(char out[QZO_DIGEST_TEXT_BYTES], const qzo_digest *digest);

bool qzo_digest_equal(const qzo_digest *a, const qzo_digest *b);

/* XXH3-64 of a block: checksums of frames and files. */
uint64_t qzo_checksum(const void *bytes, size_t size_bytes, uint64_t seed);

/* The same, seed 0, of two blocks as if the second followed the first. */
uint64_t qzo_checksum_pair(const void *first, size_t first_bytes, const void *second,
                           size_t second_bytes);

/* The 32-bit id of a tensor of trainable values: XXH32 of its canonical name, seed 0. */
uint32_t qzo_tensor_id(const char *canonical_name);

#endif
