/* `qzo run --retry failed|diverged`: trials that ended so are run anew. A trial is a pure function
 * of its settings, so a retry is for what was wrong around it: a file that was missing, a memory
 * error. The old journal stays beside the new one as ID.qzj.1, ID.qzj.2, ..., which no command
 * takes for a journal. */
#ifndef QZO_SWEEP_RETRY_H
#define QZO_SWEEP_RETRY_H

#include "sweep/results.h"
#include "sweep/slice.h"

/* Sets the journals of the slice's trials with that outcome aside and counts them; the decisions
 * hear that work is left. The caller holds the folder's lock. */
qzo_status qzo_retry(int64_t *count, const qzo_results *results, const char *folder,
                     const qzo_slice *slice, qzo_outcome outcome, qzo_decisions *decisions);

#endif
