/* Finds what questions begin with in common, in whatever order they come: for packs, and for those
 * who measure what a pack will need. */
#ifndef QZO_MODEL_PREFIXES_H
#define QZO_MODEL_PREFIXES_H

#include "base/status.h"

#include <stdint.h>

/* Fewer rows than this are computed again. Sharing copies the keys and values of all questions of a
 * pack in each layer, and a few words that two texts happen to begin with are not worth that. */
enum { QZO_SHARED_ROWS_MIN = 16 };

/* The rows that all options of a question begin with. Borrowed. */
typedef struct qzo_prefix {
    const int32_t *tokens;
    int64_t rows;
} qzo_prefix;

/* The last token of an option is never fed. */
qzo_prefix qzo_prefix_of_options(int64_t option_count, const int32_t *const *tokens,
                                 const int64_t *lengths);

int64_t qzo_prefix_common_rows(qzo_prefix a, qzo_prefix b);

typedef struct qzo_prefixes { /* zeroed: no room */
    qzo_prefix *of;
    int64_t count;
} qzo_prefixes;

typedef struct qzo_shared_rows {
    int64_t rows;     /* 0 or at least QZO_SHARED_ROWS_MIN */
    int64_t question; /* that has them: the index-th one that was added */
} qzo_shared_rows;

qzo_status qzo_prefixes_open(qzo_prefixes *out, int64_t room); /* QZO_ERR_MEMORY */
void qzo_prefixes_close(qzo_prefixes *prefixes);               /* safe on zeroed ones */

/* The question that has the most rows in common with `prefix`, the first of several. */
qzo_shared_rows qzo_prefixes_find(const qzo_prefixes *prefixes, qzo_prefix prefix);

static inline void qzo_prefixes_add(qzo_prefixes *prefixes, qzo_prefix prefix) {
    prefixes->of[prefixes->count++] = prefix;
}

#endif
