/* Digests of models' and tasks' contents for the expansion of a sweep. Every byte is read once per
 * path, however many expansions ask. A path that cannot be read gets the digest of its own text and
 * its reason is kept: its trials fail one by one, and a sweep of nothing else can say why. */
#ifndef QZO_SWEEP_CONTENTS_H
#define QZO_SWEEP_CONTENTS_H

#include "base/digest.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct qzo_content {
    char *path;
    bool is_model;
    qzo_digest digest; /* of the path's text where status is not QZO_OK */
    qzo_status status;
    char *message; /* why it cannot be read; NULL where it can */
} qzo_content;

/* Zeroed: empty. */
typedef struct qzo_contents {
    qzo_content *entries;
    int64_t entry_count;
} qzo_contents;

/* A qzo_content_digest of sweep/grid.h; context is a qzo_contents. */
qzo_status qzo_contents_digest(qzo_digest *out, const char *path, bool is_model, void *context);

/* NULL where the path was never asked for. */
const qzo_content *qzo_contents_find(const qzo_contents *contents, const char *path, bool is_model);

void qzo_contents_release(qzo_contents *contents);

#endif
