/* The CPU backend's other arithmetic: products of bf16 operands with fp32 sums. Everything else
 * stays fp32; private to the backend.
 *
 * Every table computes the same bits, those of AMX's TDPBF16PS (cpu_linear_bf16.h has the order).
 */
#ifndef QZO_BACKEND_CPU_BF16_H
#define QZO_BACKEND_CPU_BF16_H

#include "backend/cpu_ops.h"
#include "base/thread_pool.h"

enum {
    CPU_BF16_SIDE = 16,      /* rows packed as one piece */
    CPU_BF16_ROWS_MAX = 512, /* rows of one pass over the weights: 512 sums of 256 outputs fit L2 */
};

/* The rows of a job, at most CPU_BF16_ROWS_MAX, are packed first, then read by every piece. */
typedef struct cpu_bf16_ops {
    const char *name;
    int64_t piece_outputs;
    int64_t (*scratch_floats)(const qzo_qtensor *weight); /* of one thread */
    int64_t (*packed_bytes)(const qzo_qtensor *weight);   /* of CPU_BF16_ROWS_MAX rows */
    void (*pack_rows)(const cpu_linear *job, int64_t row_tile);
    /* Outputs first_output and on, as many as fit a piece. */
    void (*linear_piece)(const cpu_linear *job, int64_t first_output, float *scratch);
    double (*burst)(int64_t rounds, float *sink); /* as cpu_ops' fma_burst */
} cpu_bf16_ops;

extern const cpu_bf16_ops qzo_cpu_bf16_amx;
extern const cpu_bf16_ops qzo_cpu_bf16_avx512;

/* The best table of this processor; NULL where it has none. */
const cpu_bf16_ops *qzo_cpu_bf16_best(void);

/* job->packed: packed_bytes; scratch: (threads, scratch_floats). */
void qzo_cpu_bf16_linear(const cpu_bf16_ops *ops, qzo_thread_pool *pool, const cpu_linear *job,
                         float *scratch, int64_t scratch_floats);

#endif
