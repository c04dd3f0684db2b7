/* How long steps took in earlier starts of a sweep, from timing/: what a job goes by that has not
 * yet seen a rung of its own. */
#ifndef QZO_SWEEP_PACE_H
#define QZO_SWEEP_PACE_H

#include "sweep/listing.h"

/* The slowest seconds per step, evaluations included, of any trial in a group of so many ranks; 0
 * where nothing is known. Files that are not there or not understood tell nothing. */
double qzo_pace_read(const qzo_listing *listing, const char *folder, int64_t ranks);

#endif
