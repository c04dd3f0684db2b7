#include "optim/cores.h"

#include <string.h>

/* --- none: the program's own arithmetic --- */

static qzo_status apply_gains(const qzo_trainable *trainable, qzo_gain *gains,
                              const qzo_core_step *step) {
    for (int64_t i = 0; i < step->record_count; i++) {
        gains[i].seed = step->records[i].seed;
        gains[i].k = step->k[i];
    }
    const qzo_update_values values = {.masters = trainable->masters,
                                      .unit = trainable->unit,
                                      .velocity = trainable->velocity,
                                      .decay = trainable->decay};
    return trainable->backend->ops->update(trainable->backend, &values, trainable->spans,
                                           trainable->span_count, gains, step->record_count,
                                           step->directions, step->digest);
}

const qzo_core qzo_core_none = {.name = "none", .apply = apply_gains};

/* --- the registry --- */

const qzo_core *const qzo_cores[] = {&qzo_core_none, &qzo_core_paper, NULL};

const qzo_core *qzo_core_find(const char *name) {
    for (int i = 0; qzo_cores[i] != NULL; i++)
        if (strcmp(qzo_cores[i]->name, name) == 0) return qzo_cores[i];
    return NULL;
}

static const qzo_core *core_of(const qzo_trainable *trainable) {
    return trainable->core != NULL ? trainable->core : &qzo_core_none;
}

qzo_status qzo_core_start(const qzo_trainable *trainable) {
    const qzo_core *core = core_of(trainable);
    return core->start != NULL ? core->start(trainable) : QZO_OK;
}

qzo_status qzo_core_enter(const qzo_trainable *trainable, qzo_perturbation *perturbation) {
    const qzo_core *core = core_of(trainable);
    return core->enter != NULL ? core->enter(trainable, perturbation) : QZO_OK;
}

qzo_status qzo_core_leave(const qzo_trainable *trainable) {
    const qzo_core *core = core_of(trainable);
    return core->leave != NULL ? core->leave(trainable) : QZO_OK;
}

qzo_status qzo_core_apply(const qzo_trainable *trainable, qzo_gain *gains,
                          const qzo_core_step *step) {
    return core_of(trainable)->apply(trainable, gains, step);
}
