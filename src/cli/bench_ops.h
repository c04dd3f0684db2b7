/* The operations of a forward pass, each alone, at a model's own shapes: for `qzo bench`.
 *
 * Method: weights of the first layer (one tensor per distinct shape), activations of seeded noise,
 * N packed rows; each operation runs until PERIOD_SECONDS have passed and at least twice; the best
 * time counts, because whatever else the machine does can only add. Short operations run in batches
 * of BATCH_SECONDS, so that launching and waiting for a device do not count as theirs. Bytes are
 * those that must move at least once: codes, scales and both activations. */
#ifndef QZO_CLI_BENCH_OPS_H
#define QZO_CLI_BENCH_OPS_H

#include "model/model.h"

enum { QZO_BENCH_RESULTS_MAX = 64, QZO_BENCH_NAME_BYTES = 96 };

typedef struct qzo_bench_result {
    char name[QZO_BENCH_NAME_BYTES];
    int64_t rows;
    double seconds, flops, bytes;
} qzo_bench_result;

/* Everything in the backend's memory. The first five are the caller's. */
typedef struct qzo_bench {
    const qzo_model *model;
    qzo_backend *backend;
    int64_t rows;
    int64_t gain_count; /* records of an update */
    qzo_peaks peaks;
    float *masters, *residual, *logits;
    float *rope_table; /* (length of a sequence, head_dim / 2, {cos, sin}) */
    qzo_act *x, *y, *z, *out;
    int32_t *ids, *positions, *begin, *end, *zero;
    double *log_probs_host;
    qzo_gain *gains_host; /* (gain_count) */
    qzo_bench_result results[QZO_BENCH_RESULTS_MAX];
    int result_count;
} qzo_bench;

/* Fills results; what it allocates it gives back. */
qzo_status qzo_bench_measure(qzo_bench *bench);

#endif
