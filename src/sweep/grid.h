/* A sweep to its ordered list of trials: the same file and contents give the same list and the same
 * identities, on any machine. The last parameter varies fastest. A combination that repeats an
 * earlier one (equal identity) is dropped, and counted.
 *
 * A random search draws number n of a parameter from Philox with the search seed as key, counter n
 * and the hash of the parameter's name: more draws, or another parameter, change no earlier draw.
 * Drawn numbers are rounded to six digits, as they stand in tables. */
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
    int64_t excluded_count;
} qzo_grid;

enum { QZO_GRID_TRIALS_MAX = QZO_SWEEP_TRIALS_MAX };

/* Finds the digest of a model's or a task's contents; an unreadable one gives a digest of its path
 * and QZO_OK (its trials fail one by one), anything else an error. Called once per distinct path.
 */
typedef qzo_status (*qzo_content_digest)(qzo_digest *out, const char *path, bool is_model,
                                         void *context);

qzo_status qzo_grid_expand(qzo_grid **out, const qzo_sweep_spec *sweep,
                           qzo_content_digest content_digest, void *context);
void qzo_grid_free(qzo_grid *grid); /* NULL is fine */

#endif
