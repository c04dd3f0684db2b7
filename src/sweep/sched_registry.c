#include "sweep/scheduler.h"

#include <stddef.h>
#include <string.h>

const qzo_scheduler_ops *const qzo_schedulers[] = {&qzo_sched_fifo, &qzo_sched_hyperband,
                                                   &qzo_sched_asha, &qzo_sched_median,
                                                   &qzo_sched_pbt,  NULL};

const qzo_scheduler_ops *qzo_scheduler_find(const char *name) {
    for (size_t i = 0; qzo_schedulers[i]; i++)
        if (strcmp(qzo_schedulers[i]->name, name) == 0) return qzo_schedulers[i];
    return NULL;
}
