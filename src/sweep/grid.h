/* A sweep to its ordered list of trials: the same file and contents give the same list and the same
 * identities. The last parameter varies fastest. A combination that repeats an earlier one (equal
 * identity) is dropped, and counted. */
#ifndef QZO_SWEEP_GRID_H
#define QZO_SWEEP_GRID_H

#include "base/digest.h"
#include "base/status.h"
#include "sweep/sweep_spec.h"

typedef struct qzo_grid_trial {
    qzo_trial_spec spec;
    qzo_digest id;
    char **values; /* (swept_count) texts in the order of the swept keys, as tables print them */
} qzo_grid_trial;

typedef struct qzo_grid {
    qzo_grid_trial *trials;
    int64_t trial_count;
    const char **swept_keys; /* in the file's order */
    int64_t swept_count;
    int64_t duplicate_count;
} qzo_grid;

enum { QZO_GRID_TRIALS_MAX = 1000000 };

/* Finds the digest of a model's or a task's contents; an unreadable one gives a digest of its path
 * and QZO_OK (its trials fail one by one), anything else an error. Called once per distinct path.
 */
typedef qzo_status (*qzo_content_digest)(qzo_digest *out, const char *path, bool is_model,
                                         void *context);

qzo_status qzo_grid_expand(qzo_grid **out, const qzo_sweep_spec *sweep,
                           qzo_content_digest content_digest, void *context);
void qzo_grid_free(qzo_grid *grid); /* NULL is fine */

#endif
