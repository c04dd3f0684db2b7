/* Learning-rate schedules: a factor in [0, 1] that multiplies the learning rate at a step. Computed
 * in double by IEEE operations (cosine by the polynomial of base/math64.h), so that a journal's k
 * can be derived anywhere. */
#ifndef QZO_OPTIM_LR_SCHEDULE_H
#define QZO_OPTIM_LR_SCHEDULE_H

#include <stdint.h>

typedef struct qzo_lr_schedule {
    const char *name;
    /* step in 1 .. steps, after warm-up; progress = (step - 1 - warmup) / (steps - warmup). */
    double (*factor)(double progress);
} qzo_lr_schedule;

/* NULL-terminated: constant, linear, cosine. */
extern const qzo_lr_schedule *const qzo_lr_schedules[];

const qzo_lr_schedule *qzo_lr_schedule_find(const char *name); /* NULL where there is none */

/* Factor at step 1 .. steps: step / (warmup_steps + 1) while step <= warmup_steps, then the
 * schedule's. */
double qzo_lr_factor(const qzo_lr_schedule *schedule, int64_t step, int64_t steps,
                     int64_t warmup_steps);

#endif
