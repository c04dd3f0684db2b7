/* Twenty steps on a 16-bit arithmetic beside the same steps in fp32: losses, projected gradients
 * and the scales at the end. docs/error-analysis-cuda.md, "Trajectories", derives the limits. */
#ifndef QZO_TESTS_TRAJECTORY_SUPPORT_H
#define QZO_TESTS_TRAJECTORY_SUPPORT_H

#include "test_support.h"

#include "trial/batches.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TRAJECTORY_STEPS = 20, TRAJECTORY_SAMPLES = 4, TRAJECTORY_BATCH = 16 };
enum { TRAJECTORY_RECORDS = TRAJECTORY_STEPS * TRAJECTORY_SAMPLES };

/* Small, so that the paths part by their rounding and not by what they learn. */
static const double TRAJECTORY_RATE = 1e-5;
static const double TRAJECTORY_EPS = 1e-3;

/* Rounding may add one percent to the second moment of a step: sqrt(0.01) of its gradients. */
static const double ROUNDING_SHARE = 0.1;
/* Two paths are compared by one draw of 2560 directions per record, whose squares spread by 3 %,
 * and 80 gradients, whose signs add up by chance. */
static const double CHANCE = 1.5;

typedef struct trajectory {
    qzo_record records[TRAJECTORY_RECORDS];
    float *initial, *values; /* (value_count), before and after */
    int64_t value_count;
} trajectory;

static inline void trajectory_spec(qzo_trial_spec *out) {
    qzo_trial_spec_defaults(out);
    out->model_path = strdup(qzo_test_fixture("tiny-llama"));
    out->task_path = strdup(qzo_test_fixture("tiny-task.qzt"));
    out->steps = TRAJECTORY_STEPS;
    out->samples_per_step = TRAJECTORY_SAMPLES;
    out->batch = TRAJECTORY_BATCH;
    out->learning_rate = TRAJECTORY_RATE;
    out->eps = TRAJECTORY_EPS;
    assert_ok(qzo_trial_spec_complete(out));
}

static inline float *trajectory_download(const qzo_workbench *bench) {
    size_t size_bytes = (size_t)bench->model->value_count * sizeof(float);
    float *out = malloc(size_bytes);
    assert_ok(bench->backend->ops->download(bench->backend, out, bench->masters, size_bytes));
    return out;
}

/* The caller frees out->initial and out->values. */
static inline void trajectory_run(trajectory *out, const char *backend_name) {
    const qzo_backend_options options = {.thread_count = 2};
    qzo_trial_spec spec = {0};
    qzo_backend *backend = NULL;
    qzo_comm *alone = NULL;
    qzo_workbench bench;
    qzo_batches batches = {0};
    qzo_qspsa *optimizer = NULL;
    trajectory_spec(&spec);
    assert_ok(qzo_backend_open(&backend, backend_name, &options));
    assert_ok(qzo_comm_local_open(&alone));
    qzo_workbench_init(&bench, backend);
    assert_ok(qzo_workbench_prepare(&bench, &spec));
    assert_ok(qzo_workbench_reset(&bench, &spec));
    assert_ok(qzo_batches_open(&batches, &bench, &spec));
    const qzo_qspsa_settings settings = qzo_batches_settings(&spec);
    const qzo_objective objective = {.context = &batches,
                                     .unit_count = qzo_batches_unit_count(&spec),
                                     .loss_sum = qzo_batches_loss_sum,
                                     .loss_weight = qzo_batches_loss_weight};
    assert_ok(qzo_qspsa_open(&optimizer, &settings, &bench.trainable, &objective, alone));
    assert_ok(qzo_qspsa_sync(optimizer));
    out->value_count = bench.model->value_count;
    out->initial = trajectory_download(&bench);
    for (int64_t step = 1; step <= TRAJECTORY_STEPS; step++) {
        qzo_step done;
        uint32_t flags = 0;
        assert_ok(qzo_qspsa_step(optimizer, step, 0, &done, &flags));
        assert_int_equal(done.record_count, TRAJECTORY_SAMPLES);
        memcpy(&out->records[(step - 1) * TRAJECTORY_SAMPLES], done.records,
               TRAJECTORY_SAMPLES * sizeof *done.records);
    }
    out->values = trajectory_download(&bench);
    qzo_qspsa_close(optimizer);
    qzo_batches_close(&batches);
    qzo_workbench_release(&bench);
    qzo_comm_close(alone);
    qzo_backend_close(backend);
    qzo_trial_spec_release(&spec);
}

static inline double root_mean_square(double sum, int64_t count) {
    return sqrt(sum / (double)count);
}

/* log_prob_error: the largest error of a log-probability in that arithmetic; error_name says where
 * it comes from. */
static inline void trajectory_compare(const char *backend_name, double log_prob_error,
                                      const char *error_name) {
    static trajectory expected, found;
    trajectory_run(&expected, "cpu");
    trajectory_run(&found, backend_name);
    assert_int_equal(found.value_count, expected.value_count);
    const double loss_limit = 2.0 * log_prob_error; /* of two options */
    double loss = 0.0, largest = 0.0, errors = 0.0, gradients = 0.0, drift = 0.0, moved = 0.0;
    for (int i = 0; i < TRAJECTORY_RECORDS; i++) {
        const qzo_record *a = &expected.records[i], *b = &found.records[i];
        assert_true(a->seed == b->seed && a->sample == b->sample);
        double error = (double)b->gradient - (double)a->gradient;
        loss = fmax(loss, fabs((double)b->loss_plus - (double)a->loss_plus));
        loss = fmax(loss, fabs((double)b->loss_minus - (double)a->loss_minus));
        largest = fmax(largest, fabs(error));
        errors += error * error;
        gradients += (double)a->gradient * (double)a->gradient;
    }
    assert_memory_equal(found.initial, expected.initial,
                        (size_t)found.value_count * sizeof *found.initial);
    for (int64_t i = 0; i < found.value_count; i++) {
        double apart = (double)found.values[i] - (double)expected.values[i];
        double way = (double)expected.values[i] - (double)expected.initial[i];
        drift += apart * apart;
        moved += way * way;
    }
    errors = root_mean_square(errors, TRAJECTORY_RECORDS);
    drift = root_mean_square(drift, found.value_count);
    gradients = root_mean_square(gradients, TRAJECTORY_RECORDS);
    moved = root_mean_square(moved, found.value_count);
    print_message("%s beside cpu: largest error of a loss %.3g; projected gradients err by %.3g "
                  "rms of %.3g (largest %.3g); scales end %.3g rms apart after moving %.3g\n",
                  backend_name, loss, errors, gradients, largest, drift, moved);
    qzo_test_assert_close(loss, 0.0, loss_limit, error_name);
    qzo_test_assert_close(errors, 0.0, ROUNDING_SHARE * gradients, "ROUNDING_SHARE");
    qzo_test_assert_close(drift, 0.0, CHANCE * ROUNDING_SHARE * moved, "CHANCE * ROUNDING_SHARE");
    free(expected.initial), free(expected.values);
    free(found.initial), free(found.values);
}

/* The same steps twice give the same bits. */
static inline void trajectory_repeat(const char *backend_name) {
    static trajectory first, second;
    trajectory_run(&first, backend_name);
    trajectory_run(&second, backend_name);
    assert_memory_equal(first.records, second.records, sizeof first.records);
    assert_memory_equal(first.values, second.values,
                        (size_t)first.value_count * sizeof *first.values);
    free(first.initial), free(first.values);
    free(second.initial), free(second.values);
}

#endif
