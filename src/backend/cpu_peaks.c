/* What the processor can do at most, measured: the ceilings of `qzo bench`. */
#include "backend/cpu_state.h"
#include "base/check.h"
#include "base/clock.h"

#include <string.h>

/* Bursts of about a millisecond, copies larger than a last-level cache's share. */
enum { BURST_ROUNDS = 300000, PEAK_RUNS = 9 };

static const size_t COPY_BYTES = (size_t)1 << 28;

typedef double burst_function(int64_t rounds, float *sink);

typedef struct peak_job {
    burst_function *burst;
    double flops; /* of one piece */
    uint8_t *from, *to;
    size_t piece_bytes;
} peak_job;

static void burst_piece(void *context, int64_t piece, int thread) {
    (void)piece, (void)thread;
    const peak_job *job = context;
    float sink = 0.5f;
    double flops = job->burst(BURST_ROUNDS, &sink);
    QZO_ASSERT(flops == job->flops && sink < 1e9f);
}

static void copy_piece(void *context, int64_t piece, int thread) {
    (void)thread;
    const peak_job *job = context;
    memcpy(job->to + (size_t)piece * job->piece_bytes, job->from + (size_t)piece * job->piece_bytes,
           job->piece_bytes);
}

/* The best of several runs: anything else that this machine does only lowers them. */
static double best_seconds(const cpu_state *state, int64_t pieces, qzo_pool_piece *piece,
                           peak_job *job) {
    double best = 1e30;
    for (int run = 0; run < PEAK_RUNS; run++) {
        double begin = qzo_clock_seconds();
        qzo_thread_pool_run(state->pool, pieces, piece, job);
        double seconds = qzo_clock_seconds() - begin;
        if (seconds < best) best = seconds;
    }
    return best;
}

qzo_status qzo_cpu_measure_peaks(qzo_backend *backend, qzo_peaks *out_host) {
    qzo_status status = QZO_OK;
    const cpu_state *state = state_of(backend);
    int64_t threads = qzo_thread_pool_size(state->pool);
    void *from = NULL, *to = NULL;
    float sink = 0.5f;
    peak_job job = {.burst = state->bf16 != NULL ? state->bf16->burst : state->ops->fma_burst};
    job.flops = job.burst(BURST_ROUNDS, &sink);
    job.piece_bytes = COPY_BYTES / (size_t)threads;
    QZO_TRY(backend->ops->allocate(backend, &from, COPY_BYTES));
    QZO_TRY(backend->ops->allocate(backend, &to, COPY_BYTES));
    job.from = from;
    job.to = to;
    out_host->flops_per_second =
        (double)threads * job.flops / best_seconds(state, threads, burst_piece, &job);
    out_host->copy_bytes_per_second = 2.0 * (double)job.piece_bytes * (double)threads /
                                      best_seconds(state, threads, copy_piece, &job);
cleanup:
    backend->ops->release(backend, from);
    backend->ops->release(backend, to);
    return status;
}
