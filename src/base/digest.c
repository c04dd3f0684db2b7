#include "base/digest.h"

#define XXH_STATIC_LINKING_ONLY /* states on the stack need their definition */
#include <xxhash.h>

#include <stdlib.h>
#include <string.h>

struct qzo_digest_stream {
    XXH3_state_t *state;
};

static qzo_digest digest_from_hash(XXH128_hash_t hash) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    qzo_digest digest;
    memcpy(digest.bytes, canonical.digest, sizeof digest.bytes);
    return digest;
}

qzo_digest qzo_digest_of(const void *bytes, size_t size_bytes) {
    return digest_from_hash(XXH3_128bits(bytes, size_bytes));
}

qzo_digest_stream *qzo_digest_begin(void) {
    qzo_digest_stream *stream = malloc(sizeof *stream);
    if (stream == NULL) return NULL;
    stream->state = XXH3_createState();
    if (stream->state == NULL) {
        free(stream);
        return NULL;
    }
    XXH3_128bits_reset(stream->state);
    return stream;
}

void qzo_digest_add(qzo_digest_stream *stream, const void *bytes, size_t size_bytes) {
    if (size_bytes > 0) XXH3_128bits_update(stream->state, bytes, size_bytes);
}

qzo_digest qzo_digest_end(qzo_digest_stream *stream) {
    qzo_digest digest = digest_from_hash(XXH3_128bits_digest(stream->state));
    XXH3_freeState(stream->state);
    free(stream);
    return digest;
}

void qzo_digest_text(char out[QZO_DIGEST_TEXT_BYTES], const qzo_digest *digest) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof digest->bytes; i++) {
        out[2 * i] = digits[digest->bytes[i] >> 4];
        out[2 * i + 1] = digits[digest->bytes[i] & 15];
    }
    out[2 * sizeof digest->bytes] = '\0';
}

bool qzo_digest_equal(const qzo_digest *a, const qzo_digest *b) {
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

uint64_t qzo_checksum(const void *bytes, size_t size_bytes, uint64_t seed) {
    return XXH3_64bits_withSeed(bytes, size_bytes, seed);
}

uint64_t qzo_checksum_pair(const void *first, size_t first_bytes, const void *second,
                           size_t second_bytes) {
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset(&state);
    if (first_bytes > 0) XXH3_64bits_update(&state, first, first_bytes);
    if (second_bytes > 0) XXH3_64bits_update(&state, second, second_bytes);
    return XXH3_64bits_digest(&state);
}

uint32_t qzo_tensor_id(const char *canonical_name) {
    return XXH32(canonical_name, strlen(canonical_name), 0);
}
