/* The guiding vector of a step: v = sum of share_i z(seed_i) over its samples, along which a pair
 * of losses is taken. It is never stored. Values moved along it are what an update by the gains -c
 * share_i makes of the masters, one fma per sample, which every device does bit for bit: so the
 * masters are set aside, moved for the losses, and put back as they were. */
#ifndef QZO_OPTIM_GUIDE_H
#define QZO_OPTIM_GUIDE_H

#include "optim/cores.h"

typedef struct qzo_guide qzo_guide;

/* For the values and groups of `trainable`, which has room in `aside` and must outlive it. The
 * caller closes it. */
qzo_status qzo_guide_open(qzo_guide **out, const qzo_trainable *trainable, int64_t samples);
void qzo_guide_close(qzo_guide *guide); /* NULL is fine */

/* The direction of a sample and its share of v; all samples, before qzo_guide_enter. */
void qzo_guide_set(qzo_guide *guide, int64_t sample, uint64_t seed, double share);

/* The masters become masters + c v, c times the factor of their group; no constraint is applied,
 * and groups that rest stay. */
qzo_status qzo_guide_enter(qzo_guide *guide, float c, qzo_directions directions);

/* The masters are as before the first qzo_guide_enter. */
qzo_status qzo_guide_leave(qzo_guide *guide);

#endif
