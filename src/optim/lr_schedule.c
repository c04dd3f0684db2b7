#include "optim/lr_schedule.h"

#include "base/math64.h"

#include <stddef.h>
#include <string.h>

static double constant_factor(double progress) {
    (void)progress;
    return 1.0;
}

static double linear_factor(double progress) { return 1.0 - progress; }

static double cosine_factor(double progress) { return 0.5 * (1.0 + qzo_cospi(progress)); }

static const qzo_lr_schedule constant = {"constant", constant_factor};
static const qzo_lr_schedule linear = {"linear", linear_factor};
static const qzo_lr_schedule cosine = {"cosine", cosine_factor};

const qzo_lr_schedule *const qzo_lr_schedules[] = {&constant, &linear, &cosine, NULL};

const qzo_lr_schedule *qzo_lr_schedule_find(const char *name) {
    for (int i = 0; qzo_lr_schedules[i] != NULL; i++)
        if (strcmp(qzo_lr_schedules[i]->name, name) == 0) return qzo_lr_schedules[i];
    return NULL;
}

double qzo_lr_factor(const qzo_lr_schedule *schedule, int64_t step, int64_t steps,
                     int64_t warmup_steps) {
    if (step <= warmup_steps) return (double)step / (double)(warmup_steps + 1);
    return schedule->factor((double)(step - 1 - warmup_steps) / (double)(steps - warmup_steps));
}
