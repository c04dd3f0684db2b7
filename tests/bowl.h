/* A quadratic bowl over two spans of trainable values, as an objective of the optimizer, and a run
 * of it recorded byte by byte. */
#ifndef QZO_TESTS_BOWL_H
#define QZO_TESTS_BOWL_H

#include "test_support.h"

#include "base/host_device.h"
#include "optim/qspsa.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BOWL_VALUES = 1400, BOWL_FIRST_COUNT = 1100, BOWL_STEPS_MAX = 400, BOWL_SAMPLES_MAX = 8 };

typedef struct bowl {
    qzo_backend *backend;
    float *masters;    /* (BOWL_VALUES) */
    const float *unit; /* NULL: absolute */
    float *velocity;   /* (BOWL_VALUES), or NULL */
    float aside[BOWL_VALUES];
    qzo_value_group groups[1]; /* of both spans, where group_count is 1 */
    int64_t group_count;
    qzo_span spans[2];
    int64_t unit_count;
    int64_t calls;
    bool is_together; /* both signs by one call, where the optimizer asks for them so */
    int64_t both;     /* such calls */
    /* What goes wrong: a seed whose loss is `bad_loss`, a step that returns `failure`. */
    uint64_t bad_seed;
    bool bad_minus_only;
    double bad_loss;
    int64_t failing_step;
    int64_t failing_call; /* or a call of its loss: 1, 2, ... */
    qzo_status failure;
    double slope; /* of the whole loss */
    bool may_be_zero;
} bowl;

/* All that a run leaves behind, in a form for memcmp. */
typedef struct bowl_path {
    int64_t steps;
    uint64_t digests[BOWL_STEPS_MAX];
    float k[BOWL_STEPS_MAX][BOWL_SAMPLES_MAX + 1]; /* one more for a clean record */
    qzo_record records[BOWL_STEPS_MAX][BOWL_SAMPLES_MAX + 1];
    float masters[BOWL_VALUES];
} bowl_path;

static inline float bowl_target(int64_t i) { return 0.5f + 0.25f * (float)(i % 7) / 7.0f; }

/* z (BOWL_VALUES) of a seed. */
static inline void bowl_directions(float *z, uint64_t seed, qzo_directions directions) {
    qzo_noise_fill(z, seed, 71, 0, BOWL_FIRST_COUNT, directions);
    qzo_noise_fill(z + BOWL_FIRST_COUNT, seed, 72, 0, BOWL_VALUES - BOWL_FIRST_COUNT, directions);
}

/* Sum of (value - target)^2 over every unit_count-th value from `unit`, a little different each
 * batch. */
static inline qzo_status bowl_loss_sum(void *context, double *sum, const qzo_probe *probe) {
    const qzo_perturbation *perturbation = &probe->perturbation;
    bowl *b = context;
    float z[BOWL_VALUES];
    b->calls++;
    if (b->failing_step == probe->step || b->failing_call == b->calls)
        return qzo_fail(b->failure, "the disk of this test is gone");
    bool is_bad = perturbation->seed == b->bad_seed && perturbation->c != 0.0f;
    if (is_bad && (perturbation->c < 0.0f || !b->bad_minus_only)) {
        *sum = b->bad_loss;
        return QZO_OK;
    }
    bowl_directions(z, perturbation->seed, perturbation->directions);
    *sum = 0.0;
    for (int64_t i = probe->unit; i < BOWL_VALUES; i += b->unit_count) {
        if (perturbation->unit != NULL) z[i] *= perturbation->unit[i];
        double value = (double)fmaf(perturbation->c, z[i], b->masters[i]);
        double distance = value - (double)bowl_target(i + probe->batch % 3);
        *sum += b->slope * distance * distance;
    }
    return QZO_OK;
}

static inline double bowl_loss_weight(void *context, int64_t batch) {
    (void)context, (void)batch;
    return BOWL_VALUES;
}

static inline void bowl_open(bowl *out, int64_t unit_count) {
    const qzo_backend_options options = {.thread_count = 1};
    void *memory = NULL;
    *out = (bowl){.unit_count = unit_count,
                  .slope = 1.0,
                  .spans = {{.name = "first",
                             .tensor_id = 71,
                             .constraint = QZO_CONSTRAINT_POSITIVE,
                             .floor = 1e-7f,
                             .count = BOWL_FIRST_COUNT},
                            {.name = "second",
                             .tensor_id = 72,
                             .constraint = QZO_CONSTRAINT_FREE,
                             .offset = BOWL_FIRST_COUNT,
                             .count = BOWL_VALUES - BOWL_FIRST_COUNT}}};
    assert_ok(qzo_backend_open(&out->backend, "cpu", &options));
    assert_ok(out->backend->ops->allocate(out->backend, &memory, BOWL_VALUES * sizeof(float)));
    out->masters = memory;
    for (int64_t i = 0; i < BOWL_VALUES; i++) out->masters[i] = 0.1f;
}

static inline void bowl_close(bowl *b) {
    b->backend->ops->release(b->backend, b->masters);
    qzo_backend_close(b->backend);
}

static inline qzo_trainable bowl_trainable(bowl *b) {
    return (qzo_trainable){.backend = b->backend,
                           .masters = b->masters,
                           .unit = b->unit,
                           .velocity = b->velocity,
                           .decay = 0.9f,
                           .aside = b->aside,
                           .groups = b->groups,
                           .group_count = b->group_count,
                           .spans = b->spans,
                           .span_count = 2};
}

/* Both signs at once. */
static inline qzo_status bowl_loss_sums(void *context, double sums[2], const qzo_probe *probe) {
    qzo_probe minus = *probe;
    bowl *b = context;
    b->both++;
    minus.perturbation.c = -probe->perturbation.c;
    qzo_status status = bowl_loss_sum(context, &sums[0], probe);
    return status == QZO_OK ? bowl_loss_sum(context, &sums[1], &minus) : status;
}

static inline qzo_qspsa_settings bowl_settings(int64_t samples) {
    return (qzo_qspsa_settings){.steps = BOWL_STEPS_MAX,
                                .samples_per_step = samples,
                                .learning_rate = 0.15,
                                .eps = 1e-3,
                                .noise_seed = 2024,
                                .rule = qzo_update_rule_find("plain"),
                                .rule_settings = {.clip = 100.0},
                                .schedule = qzo_lr_schedule_find("linear")};
}

static inline void bowl_optimizer(qzo_qspsa **out, bowl *b, const qzo_qspsa_settings *settings,
                                  qzo_comm *comm) {
    qzo_trainable trainable = bowl_trainable(b);
    qzo_objective objective = {.context = b,
                               .unit_count = b->unit_count,
                               .loss_sum = bowl_loss_sum,
                               .loss_sums = b->is_together ? bowl_loss_sums : NULL,
                               .loss_weight = bowl_loss_weight,
                               .may_be_zero = b->may_be_zero};
    assert_ok(qzo_qspsa_open(out, settings, &trainable, &objective, comm));
    assert_ok(qzo_qspsa_sync(*out));
}

/* Steps 1 .. steps; stops at the first that does not succeed and returns its status. No assertion
 * between the exchanges: a rank that stops there would leave the others waiting. */
static inline qzo_status bowl_run(bowl_path *out, bowl *b, const qzo_qspsa_settings *settings,
                                  qzo_comm *comm, int64_t steps) {
    qzo_qspsa *optimizer = NULL;
    qzo_status status = QZO_OK;
    memset(out, 0, sizeof *out);
    bowl_optimizer(&optimizer, b, settings, comm);
    for (int64_t step = 1; status == QZO_OK && step <= steps; step++) {
        qzo_step done = {0};
        uint32_t any_flags = 0;
        status = qzo_qspsa_step(optimizer, step, 0, &done, &any_flags);
        if (status != QZO_OK) break;
        size_t count = (size_t)done.record_count;
        out->digests[step - 1] = done.digest;
        memcpy(out->k[step - 1], done.k, count * sizeof *done.k);
        memcpy(out->records[step - 1], done.records, count * sizeof *done.records);
        out->steps = step;
    }
    memcpy(out->masters, b->masters, sizeof out->masters);
    qzo_qspsa_close(optimizer);
    return status;
}

#endif
