/* Operations of the CPU backend whose rows share the shifts, scales and gates of an example. */
#include "backend/cpu_state.h"

enum { ROWS_PER_PIECE = 16 };

/* What the pieces of one call share; each operation uses its part. */
typedef struct modulation_job {
    const cpu_ops *ops;
    float *out;
    const float *in;
    const qzo_modulation *modulation;
    int64_t first_at, second_at; /* columns */
    int64_t rows, width;
    float epsilon;
} modulation_job;

/* (width) values of the row's example, from that column on. */
static const float *columns_of(const modulation_job *job, int64_t row, int64_t at) {
    const qzo_modulation *modulation = job->modulation;
    const float *values = (const float *)modulation->values;
    return values + row / modulation->rows_per_example * modulation->stride + at;
}

static int64_t end_of(const modulation_job *job, int64_t piece) {
    int64_t end = (piece + 1) * ROWS_PER_PIECE;
    return end < job->rows ? end : job->rows;
}

static void modulate_piece(void *context, int64_t piece, int thread) {
    (void)thread;
    const modulation_job *job = context;
    for (int64_t row = piece * ROWS_PER_PIECE; row < end_of(job, piece); row++)
        job->ops->modulate_row(job->out + row * job->width, job->in + row * job->width,
                               columns_of(job, row, job->first_at),
                               columns_of(job, row, job->second_at), job->width, job->epsilon);
}

static void gate_piece(void *context, int64_t piece, int thread) {
    (void)thread;
    const modulation_job *job = context;
    for (int64_t row = piece * ROWS_PER_PIECE; row < end_of(job, piece); row++)
        job->ops->add_gated_row(job->out + row * job->width, job->in + row * job->width,
                                columns_of(job, row, job->first_at), job->width);
}

static void run(const qzo_backend *backend, modulation_job *job, qzo_pool_piece *piece) {
    job->ops = state_of(backend)->ops;
    int64_t pieces = (job->rows + ROWS_PER_PIECE - 1) / ROWS_PER_PIECE;
    qzo_thread_pool_run(state_of(backend)->pool, pieces, piece, job);
}

qzo_status qzo_cpu_modulate(qzo_backend *backend, qzo_act *out, const float *residual,
                            const qzo_modulation *modulation, int64_t shift_at, int64_t scale_at,
                            int64_t rows, int64_t width, float epsilon) {
    modulation_job job = {.out = (float *)out,
                          .in = residual,
                          .modulation = modulation,
                          .first_at = shift_at,
                          .second_at = scale_at,
                          .rows = rows,
                          .width = width,
                          .epsilon = epsilon};
    run(backend, &job, modulate_piece);
    return QZO_OK;
}

qzo_status qzo_cpu_add_gated(qzo_backend *backend, float *residual, const qzo_act *x,
                             const qzo_modulation *modulation, int64_t gate_at, int64_t rows,
                             int64_t width) {
    modulation_job job = {.out = residual,
                          .in = (const float *)x,
                          .modulation = modulation,
                          .first_at = gate_at,
                          .rows = rows,
                          .width = width};
    run(backend, &job, gate_piece);
    return QZO_OK;
}
