/* Cores: the arithmetic by which a step's values are perturbed and updated; a registry, one line
 * per entry. The setting `compat` names one.
 *
 *   none    fp32 masters that are never perturbed in place: the forward pass reads
 *           fma(c, z, master) while it decodes, an update is fma(-k, z, master) (base/update.h)
 *   paper   what the program of the paper does, for comparison (core_paper.c)
 *
 * Whatever the core, the values after a step are a function of those before it, the settings and
 * the step's records. */
#ifndef QZO_OPTIM_CORES_H
#define QZO_OPTIM_CORES_H

#include "backend/backend.h"
#include "optim/rules.h"

typedef struct qzo_core qzo_core;

/* What a core may need beyond the masters; opened for a number of values. */
typedef struct qzo_core_room qzo_core_room;

/* The trainable values of one trial; borrowed. */
typedef struct qzo_trainable {
    qzo_backend *backend;
    float *masters;    /* in the backend's memory */
    const float *unit; /* what z is multiplied with, element by element; NULL: 1 */
    float *velocity;   /* of a rule with momentum, laid out as the masters; NULL: none */
    float decay;       /* share of the velocity that a step keeps */
    float *aside;      /* laid out as the masters, for a rule with a guide (guide.h); NULL: none */
    const qzo_span *spans;
    int64_t span_count;
    qzo_value_group *groups; /* of the spans: each step says which of them are active; or NULL */
    int64_t group_count;
    const qzo_core *core; /* NULL: none */
    qzo_core_room *room;  /* of the core; NULL where it needs none */
} qzo_trainable;

/* A finished step as a core applies it. */
typedef struct qzo_core_step {
    const qzo_record *records;
    const float *k;
    int64_t record_count;
    qzo_directions directions;
    double rate; /* learning rate times schedule */
    double eps, clip;
    uint64_t *digest; /* of the masters after it; NULL: not asked */
} qzo_core_step;

struct qzo_core {
    const char *name;    /* as `compat` says it */
    int64_t value_bytes; /* of host memory that the room takes per value */

    /* Once before the first step: the initial values in the core's own type. NULL: they stay. */
    qzo_status (*start)(const qzo_trainable *trainable);

    /* Before losses at values perturbed by *perturbation: what the forward pass has left to add is
     * written there. NULL: all of it. */
    qzo_status (*enter)(const qzo_trainable *trainable, qzo_perturbation *perturbation);

    /* After the losses, or whatever ended them: the masters are as before `enter`. */
    qzo_status (*leave)(const qzo_trainable *trainable);

    /* gains: room for as many as the step has records. */
    qzo_status (*apply)(const qzo_trainable *trainable, qzo_gain *gains, const qzo_core_step *step);
};

/* NULL-terminated. */
extern const qzo_core *const qzo_cores[];
extern const qzo_core qzo_core_none, qzo_core_paper;

const qzo_core *qzo_core_find(const char *name); /* NULL where there is none */

/* Room for one trial's values; *out is NULL where the core needs none. The caller closes it. */
qzo_status qzo_core_room_open(qzo_core_room **out, const qzo_core *core, int64_t value_count);
void qzo_core_room_close(qzo_core_room *room); /* NULL is fine */

/* The entries of the trainable values' core. */
qzo_status qzo_core_start(const qzo_trainable *trainable);
qzo_status qzo_core_enter(const qzo_trainable *trainable, qzo_perturbation *perturbation);
qzo_status qzo_core_leave(const qzo_trainable *trainable);
qzo_status qzo_core_apply(const qzo_trainable *trainable, qzo_gain *gains,
                          const qzo_core_step *step);

#endif
