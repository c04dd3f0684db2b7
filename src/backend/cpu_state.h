/* What the files of the CPU backend share; private to it. */
#ifndef QZO_BACKEND_CPU_STATE_H
#define QZO_BACKEND_CPU_STATE_H

#include "backend/cpu_bf16.h"
#include "backend/cpu_ops.h"
#include "base/thread_pool.h"

typedef struct cpu_state {
    const cpu_ops *ops;
    const cpu_bf16_ops *bf16; /* products in bf16; NULL: in fp32, by ops */
    qzo_ledger ledger;
    qzo_thread_pool *pool;
    float *scratch; /* (threads, scratch_floats) */
    int64_t scratch_floats;
    uint16_t *packed; /* rows in bf16 */
    int64_t packed_bytes;
} cpu_state;

static inline cpu_state *state_of(const qzo_backend *backend) { return backend->state; }

static inline float *scratch_of(const cpu_state *state, int thread) {
    return state->scratch + thread * state->scratch_floats;
}

/* src/backend/cpu_elements.c */
qzo_status qzo_cpu_activate(qzo_backend *backend, qzo_act *gate, const qzo_act *up, int64_t count,
                            qzo_activation activation);
qzo_status qzo_cpu_add(qzo_backend *backend, float *residual, const qzo_act *x, int64_t count);
qzo_status qzo_cpu_add_scaled(qzo_backend *backend, qzo_act *x, const qzo_act *y, float factor,
                              int64_t count);
qzo_status qzo_cpu_widen(qzo_backend *backend, float *out, const qzo_act *x, int64_t count);
qzo_status qzo_cpu_narrow(qzo_backend *backend, qzo_act *out, const float *x, int64_t count);
qzo_status qzo_cpu_scatter(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                           const int32_t *rows, int64_t row_count, int64_t width);
qzo_status qzo_cpu_soft_cap(qzo_backend *backend, float *x, int64_t count, float cap);

/* src/backend/cpu_attention.c */
qzo_status qzo_cpu_attention(qzo_backend *backend, qzo_act *out, const qzo_act *q, const qzo_act *k,
                             const qzo_act *v, const qzo_attention *attention, int64_t queries);
qzo_status qzo_cpu_check_heads(const qzo_backend *backend, int64_t head_dim);
int64_t qzo_cpu_attention_scratch_floats(int64_t context_max); /* of one thread */

/* src/backend/cpu_modulation.c */
qzo_status qzo_cpu_modulate(qzo_backend *backend, qzo_act *out, const float *residual,
                            const qzo_modulation *modulation, int64_t shift_at, int64_t scale_at,
                            int64_t rows, int64_t width, float epsilon);
qzo_status qzo_cpu_add_gated(qzo_backend *backend, float *residual, const qzo_act *x,
                             const qzo_modulation *modulation, int64_t gate_at, int64_t rows,
                             int64_t width);

/* src/backend/cpu_peaks.c */
qzo_status qzo_cpu_measure_peaks(qzo_backend *backend, qzo_peaks *out_host);

#endif
