/* Draws of a search: number n of what has this name, a pure function of the search seed. More
 * draws, or another name beside it, change no other draw. */
#ifndef QZO_SWEEP_DRAWS_H
#define QZO_SWEEP_DRAWS_H

#include "base/digest.h"
#include "base/file_io.h"
#include "base/philox.h"

#include <string.h>

static inline uint64_t qzo_draw_bits(uint64_t search_seed, const char *name, int64_t n) {
    qzo_digest digest = qzo_digest_of(name, strlen(name));
    qzo_philox_block block =
        qzo_philox(search_seed, (uint64_t)n, qzo_get_u32(digest.bytes), QZO_PURPOSE_SEARCH);
    return (uint64_t)block.word[0] << 32 | block.word[1];
}

/* In [0, 1). */
static inline double qzo_draw_uniform(uint64_t search_seed, const char *name, int64_t n) {
    return (double)(qzo_draw_bits(search_seed, name, n) >> 11) * 0x1p-53;
}

/* In 0 .. count - 1, each as likely but for a part in 2^53. */
static inline int64_t qzo_draw_index(uint64_t search_seed, const char *name, int64_t n,
                                     int64_t count) {
    return (int64_t)(qzo_draw_uniform(search_seed, name, n) * (double)count);
}

#endif
