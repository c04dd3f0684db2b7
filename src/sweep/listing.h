/* The trials of an output folder, as decisions.qzj lists them: those that the sweep file asks for,
 * in grid order, then the forks that the scheduler made, in the order of its decisions. */
#ifndef QZO_SWEEP_LISTING_H
#define QZO_SWEEP_LISTING_H

#include "base/digest.h"
#include "base/status.h"
#include "sweep/scheduling.h"

#include <stdbool.h>
#include <stdint.h>

enum { QZO_NO_TRIAL = -1 };

typedef struct qzo_listed_trial {
    qzo_digest id;
    char *model_path, *task_path; /* absolute */
    char **values;                /* (swept_count) */
    int64_t parent;               /* whose journal it goes on from; QZO_NO_TRIAL: it is no fork */
    int64_t rung;                 /* where it was forked (index) */
} qzo_listed_trial;

typedef struct qzo_listing {
    char *name;
    char **swept_keys;
    int64_t swept_count;
    qzo_listed_trial *trials;
    int64_t trial_count; /* forks included */
    int64_t fork_count;  /* the last ones */
    qzo_scheduling scheduling;
} qzo_listing;

/* From a GRID frame's text; name stands in messages. */
qzo_status qzo_listing_parse(qzo_listing **out, const char *text, size_t text_bytes,
                             const char *name);

/* Whether both list the same trials with the same keys and values; names and places aside. */
bool qzo_listing_equal(const qzo_listing *a, const qzo_listing *b);
void qzo_listing_free(qzo_listing *listing); /* NULL is fine */

/* How many the sweep file asks for. */
static inline int64_t qzo_listing_asked(const qzo_listing *listing) {
    return listing->trial_count - listing->fork_count;
}

/* Adds a fork of a listed trial, whose model and task it has; id and values are copied. */
qzo_status qzo_listing_add_fork(qzo_listing *listing, int64_t parent, int64_t rung,
                                const qzo_digest *id, char *const *values);

/* The same from the JSON text of a FORK frame. */
qzo_status qzo_listing_read_fork(qzo_listing *listing, int64_t parent, int64_t rung,
                                 const char *text, size_t text_bytes, const char *name);

#endif
