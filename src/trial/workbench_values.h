/* What workbench.c and workbench_values.c share. */
#ifndef QZO_TRIAL_WORKBENCH_VALUES_H
#define QZO_TRIAL_WORKBENCH_VALUES_H

#include "trial/workbench.h"

/* Of the masters, and of whatever is laid out as they are. */
size_t qzo_workbench_masters_bytes(const qzo_workbench *bench);

/* Whether the trial's rule keeps or sets aside something as large as its values. */
bool qzo_workbench_needs_beside(const qzo_trial_spec *spec);

/* Room for what the trial's update rule keeps beside the masters. Given back where the next trial
 * has no use for it: that is what its plan says. */
qzo_status qzo_workbench_hold_beside(qzo_workbench *bench, const qzo_trial_spec *spec);

#endif
