#include "model/prefixes.h"

#include <stdlib.h>

int64_t qzo_prefix_common_rows(qzo_prefix a, qzo_prefix b) {
    int64_t most = a.rows < b.rows ? a.rows : b.rows, equal = 0;
    while (equal < most && a.tokens[equal] == b.tokens[equal]) equal++;
    return equal;
}

qzo_prefix qzo_prefix_of_options(int64_t option_count, const int32_t *const *tokens,
                                 const int64_t *lengths) {
    qzo_prefix shared = {tokens[0], lengths[0] - 1};
    for (int64_t i = 1; i < option_count; i++)
        shared.rows = qzo_prefix_common_rows(shared, (qzo_prefix){tokens[i], lengths[i] - 1});
    return shared;
}

qzo_status qzo_prefixes_open(qzo_prefixes *out, int64_t room) {
    *out = (qzo_prefixes){.of = calloc((size_t)room + 1, sizeof *out->of)};
    if (out->of != NULL) return QZO_OK;
    return qzo_fail(QZO_ERR_MEMORY, "out of memory for what %lld questions begin with",
                    (long long)room);
}

void qzo_prefixes_close(qzo_prefixes *prefixes) {
    free(prefixes->of);
    *prefixes = (qzo_prefixes){0};
}

qzo_shared_rows qzo_prefixes_find(const qzo_prefixes *prefixes, qzo_prefix prefix) {
    qzo_shared_rows best = {0};
    for (int64_t i = 0; i < prefixes->count && best.rows < prefix.rows; i++) {
        const qzo_prefix *other = &prefixes->of[i];
        /* One that has more in common has the next row, too: of many questions with the same
         * demonstrations one is compared from the beginning, and the others where they part. */
        if (other->rows <= best.rows || other->tokens[best.rows] != prefix.tokens[best.rows])
            continue;
        int64_t rows = qzo_prefix_common_rows(*other, prefix);
        if (rows > best.rows) best = (qzo_shared_rows){rows, i};
    }
    return best.rows >= QZO_SHARED_ROWS_MIN ? best : (qzo_shared_rows){0};
}
