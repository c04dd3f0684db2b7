/* Scores a split on all ranks of a group. Its chunks (trial/eval_chunks.h) are
 * dealt round by round: rank r takes chunk round * ranks + r. Sums are added in the order of the
 * chunks, so the result does not depend on the ranks. */
#ifndef QZO_TRIAL_EVALUATE_H
#define QZO_TRIAL_EVALUATE_H

#include "comm/comm.h"
#include "trial/trial.h"
#include "trial/workbench.h"

/* Collective. score, loss: means over the split, of the bench's masters as they are. my_status: an
 * error of this rank that the others must learn of. QZO_ERR_INTERRUPTED on all ranks where one
 * wants to park. */
qzo_status qzo_evaluate_split(double *score, double *loss, qzo_workbench *bench, qzo_comm *group,
                              const qzo_split *split, const qzo_trial_spec *spec,
                              qzo_status my_status, const qzo_trial_hooks *hooks);

#endif
