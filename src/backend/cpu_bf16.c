#include "backend/cpu_bf16.h"

#include "base/cpu.h"

typedef struct bf16_call {
    const cpu_bf16_ops *ops;
    cpu_linear job;
    float *scratch;
    int64_t scratch_floats;
} bf16_call;

const cpu_bf16_ops *qzo_cpu_bf16_best(void) {
#if defined(__x86_64__)
    if (qzo_cpu() >= QZO_CPU_AMX) return &qzo_cpu_bf16_amx;
    if (qzo_cpu() >= QZO_CPU_AVX512) return &qzo_cpu_bf16_avx512;
#endif
    return NULL;
}

static void pack_piece(void *context, int64_t piece, int thread) {
    (void)thread;
    const bf16_call *call = context;
    call->ops->pack_rows(&call->job, piece);
}

static void linear_piece(void *context, int64_t piece, int thread) {
    const bf16_call *call = context;
    call->ops->linear_piece(&call->job, piece * call->ops->piece_outputs,
                            call->scratch + thread * call->scratch_floats);
}

void qzo_cpu_bf16_linear(const cpu_bf16_ops *ops, qzo_thread_pool *pool, const cpu_linear *job,
                         float *scratch, int64_t scratch_floats) {
    bf16_call call = {
        .ops = ops, .job = *job, .scratch = scratch, .scratch_floats = scratch_floats};
    int64_t pieces = (job->weight->out_features + ops->piece_outputs - 1) / ops->piece_outputs;
    for (int64_t first = 0; first < job->rows; first += CPU_BF16_ROWS_MAX) {
        int64_t left = job->rows - first;
        call.job.rows = left < CPU_BF16_ROWS_MAX ? left : CPU_BF16_ROWS_MAX;
        call.job.x = job->x + first * job->weight->in_features;
        call.job.out = job->out + first * job->weight->out_features;
        qzo_thread_pool_run(pool, (call.job.rows + CPU_BF16_SIDE - 1) / CPU_BF16_SIDE, pack_piece,
                            &call);
        qzo_thread_pool_run(pool, pieces, linear_piece, &call);
    }
}
