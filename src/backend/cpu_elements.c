/* Operations of the CPU backend that work element by element, in blocks, or copy rows. */
#include "backend/cpu_state.h"

#include <string.h>

enum { ELEMENTS_PER_PIECE = 16384 };

/* What the pieces of one call share; each operation uses its part. */
typedef struct element_job {
    const cpu_state *state;
    float *out;
    const float *in;
    int64_t count;
    qzo_activation activation;
    float cap, factor;
} element_job;

typedef void element_function(const element_job *job, int64_t begin, int64_t count);

typedef struct element_call {
    const element_job *job;
    element_function *function;
} element_call;

static void element_piece(void *context, int64_t piece, int thread) {
    (void)thread;
    const element_call *call = context;
    int64_t begin = piece * ELEMENTS_PER_PIECE, left = call->job->count - begin;
    call->function(call->job, begin, left < ELEMENTS_PER_PIECE ? left : ELEMENTS_PER_PIECE);
}

static void run_elements(const element_job *job, element_function *function) {
    element_call call = {.job = job, .function = function};
    int64_t pieces = (job->count + ELEMENTS_PER_PIECE - 1) / ELEMENTS_PER_PIECE;
    qzo_thread_pool_run(job->state->pool, pieces, element_piece, &call);
}

static void activate_block(const element_job *job, int64_t begin, int64_t count) {
    job->state->ops->activations[job->activation](job->out + begin,
                                                  job->in != NULL ? job->in + begin : NULL, count);
}

qzo_status qzo_cpu_activate(qzo_backend *backend, qzo_act *gate, const qzo_act *up, int64_t count,
                            qzo_activation activation) {
    element_job job = {.state = state_of(backend),
                       .out = (float *)gate,
                       .in = (const float *)up,
                       .count = count,
                       .activation = activation};
    run_elements(&job, activate_block);
    return QZO_OK;
}

static void add_block(const element_job *job, int64_t begin, int64_t count) {
    job->state->ops->add(job->out + begin, job->in + begin, count);
}

qzo_status qzo_cpu_add(qzo_backend *backend, float *residual, const qzo_act *x, int64_t count) {
    element_job job = {
        .state = state_of(backend), .out = residual, .in = (const float *)x, .count = count};
    run_elements(&job, add_block);
    return QZO_OK;
}

static void add_scaled_block(const element_job *job, int64_t begin, int64_t count) {
    job->state->ops->add_scaled(job->out + begin, job->in + begin, job->factor, count);
}

qzo_status qzo_cpu_add_scaled(qzo_backend *backend, qzo_act *x, const qzo_act *y, float factor,
                              int64_t count) {
    element_job job = {.state = state_of(backend),
                       .out = (float *)x,
                       .in = (const float *)y,
                       .count = count,
                       .factor = factor};
    run_elements(&job, add_scaled_block);
    return QZO_OK;
}

static void copy_block(const element_job *job, int64_t begin, int64_t count) {
    memcpy(job->out + begin, job->in + begin, (size_t)count * sizeof(float));
}

qzo_status qzo_cpu_widen(qzo_backend *backend, float *out, const qzo_act *x, int64_t count) {
    element_job job = {
        .state = state_of(backend), .out = out, .in = (const float *)x, .count = count};
    run_elements(&job, copy_block);
    return QZO_OK;
}

qzo_status qzo_cpu_narrow(qzo_backend *backend, qzo_act *out, const float *x, int64_t count) {
    return qzo_cpu_widen(backend, (float *)out, (const qzo_act *)x, count);
}

static void soft_cap_block(const element_job *job, int64_t begin, int64_t count) {
    job->state->ops->soft_cap(job->out + begin, count, job->cap);
}

qzo_status qzo_cpu_soft_cap(qzo_backend *backend, float *x, int64_t count, float cap) {
    element_job job = {.state = state_of(backend), .out = x, .count = count, .cap = cap};
    run_elements(&job, soft_cap_block);
    return QZO_OK;
}

typedef struct scatter_call {
    float *out;
    const float *x;
    const int32_t *rows;
    int64_t width;
} scatter_call;

static void scatter_piece(void *context, int64_t piece, int thread) {
    (void)thread;
    const scatter_call *call = context;
    memcpy(call->out + call->rows[piece] * call->width, call->x + piece * call->width,
           (size_t)call->width * sizeof(float));
}

qzo_status qzo_cpu_scatter(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                           const int32_t *rows, int64_t row_count, int64_t width) {
    scatter_call call = {(float *)out, (const float *)x, rows, width};
    qzo_thread_pool_run(state_of(backend)->pool, row_count, scatter_piece, &call);
    return QZO_OK;
}
