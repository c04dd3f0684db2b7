#include "optim/guide.h"

#include "base/check.h"

#include <stdlib.h>

struct qzo_guide {
    const qzo_trainable *trainable;
    qzo_span *spans;         /* (span_count): the trainable's, free, in groups of our own */
    qzo_value_group *groups; /* (group_count): their eps where an update has a learning rate */
    double *shares;          /* (samples) */
    qzo_gain *gains;         /* (samples) */
    int64_t samples;
    size_t values_bytes; /* of the masters up to the last value that trains */
    bool is_entered;
};

static void copy_spans(qzo_guide *guide) {
    const qzo_trainable *trainable = guide->trainable;
    for (int64_t i = 0; i < trainable->span_count; i++) {
        qzo_span *span = &guide->spans[i];
        *span = trainable->spans[i];
        span->constraint = QZO_CONSTRAINT_FREE;
        size_t end_bytes = (size_t)(span->offset + span->count) * sizeof(float);
        if (end_bytes > guide->values_bytes) guide->values_bytes = end_bytes;
        if (span->group == NULL) continue;
        int64_t group = span->group - trainable->groups;
        QZO_ASSERT(group >= 0 && group < trainable->group_count);
        span->group = &guide->groups[group];
    }
}

qzo_status qzo_guide_open(qzo_guide **out, const qzo_trainable *trainable, int64_t samples) {
    QZO_ASSERT(trainable->aside != NULL);
    qzo_guide *guide = calloc(1, sizeof *guide);
    if (guide == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for a guiding vector");
    guide->trainable = trainable;
    guide->samples = samples;
    guide->spans = calloc((size_t)trainable->span_count + 1, sizeof *guide->spans);
    guide->groups = calloc((size_t)trainable->group_count + 1, sizeof *guide->groups);
    guide->shares = calloc((size_t)samples, sizeof *guide->shares);
    guide->gains = calloc((size_t)samples, sizeof *guide->gains);
    if (guide->spans == NULL || guide->groups == NULL || guide->shares == NULL ||
        guide->gains == NULL) {
        qzo_guide_close(guide);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for a guiding vector of %lld samples",
                        (long long)samples);
    }
    copy_spans(guide);
    *out = guide;
    return QZO_OK;
}

void qzo_guide_close(qzo_guide *guide) {
    if (guide == NULL) return;
    free(guide->spans);
    free(guide->groups);
    free(guide->shares);
    free(guide->gains);
    free(guide);
}

void qzo_guide_set(qzo_guide *guide, int64_t sample, uint64_t seed, double share) {
    guide->gains[sample].seed = seed;
    guide->shares[sample] = share;
}

/* Which of them rest changes from step to step, and a fork changes their eps. */
static void take_groups(qzo_guide *guide) {
    const qzo_trainable *trainable = guide->trainable;
    for (int64_t i = 0; i < trainable->group_count; i++) {
        guide->groups[i] = trainable->groups[i];
        guide->groups[i].rate_factor = trainable->groups[i].eps_factor;
    }
}

qzo_status qzo_guide_enter(qzo_guide *guide, float c, qzo_directions directions) {
    const qzo_trainable *trainable = guide->trainable;
    qzo_backend *backend = trainable->backend;
    float *from = guide->is_entered ? trainable->aside : trainable->masters;
    float *to = guide->is_entered ? trainable->masters : trainable->aside;
    qzo_status status = backend->ops->copy(backend, to, from, guide->values_bytes);
    if (status != QZO_OK) return status;
    guide->is_entered = true;
    take_groups(guide);
    for (int64_t i = 0; i < guide->samples; i++)
        guide->gains[i].k = (float)(-(double)c * guide->shares[i]);
    const qzo_update_values values = {.masters = trainable->masters, .unit = trainable->unit};
    return backend->ops->update(backend, &values, guide->spans, trainable->span_count, guide->gains,
                                guide->samples, directions, NULL);
}

qzo_status qzo_guide_leave(qzo_guide *guide) {
    const qzo_trainable *trainable = guide->trainable;
    if (!guide->is_entered) return QZO_OK;
    guide->is_entered = false;
    return trainable->backend->ops->copy(trainable->backend, trainable->masters, trainable->aside,
                                         guide->values_bytes);
}
