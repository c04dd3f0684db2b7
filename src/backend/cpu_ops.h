/* The CPU backend's inner loops, one table per instruction set; private to the backend.
 *
 * Every table computes the same bits: sums run in a fixed order with explicit fma, 16 running sums
 * where a reduction may be reordered (lane j takes elements j, j + 16, ...; then a fixed tree).
 * Threading, scratch and memory belong to backend_cpu.c. */
#ifndef QZO_BACKEND_CPU_OPS_H
#define QZO_BACKEND_CPU_OPS_H

#include "backend/backend.h"

struct qzo_weight {
    const qzo_qtensor *tensor;
};

/* One linear layer; see backend.h `linear`. */
typedef struct cpu_linear {
    float *out;     /* (rows, out_features) */
    const float *x; /* (rows, in_features) */
    const qzo_qtensor *weight;
    const float *masters;
    qzo_perturbation perturbation;
    int64_t rows;
    uint16_t *packed; /* x in bf16, of cpu_bf16.h alone */
} cpu_linear;

enum {
    CPU_UPDATE_BLOCK = 1024,  /* elements per piece of update and digest */
    CPU_LINEAR_K_BLOCK = 256, /* inputs decoded at a time: 64 KB of 64 outputs stay in L2 */
    CPU_LINEAR_TILE_MAX = 64, /* outputs per tile, at most */
    CPU_ATTENTION_LANES = 16, /* queries of a block of attention, at most */
    CPU_HEAD_MAX = 512,       /* values of an attention head */
    CPU_ALIGNMENT_BYTES = 64
};

typedef struct cpu_ops {
    const char *name;
    int64_t linear_tile_rows; /* outputs per piece */

    /* All tokens, outputs first_output and on, as many as fit a tile. scratch: see
     * qzo_cpu_linear_scratch_floats. */
    void (*linear_tile)(const cpu_linear *job, int64_t first_output, float *scratch);
    void (*norm_row)(float *out, const float *x, const float *gain, int64_t width, float epsilon);
    void (*layer_norm_row)(float *out, const float *x, const float *gain, const float *bias,
                           int64_t width, float epsilon);
    void (*modulate_row)(float *out, const float *x, const float *shift, const float *scale,
                         int64_t width, float epsilon);
    void (*add_gated_row)(float *residual, const float *x, const float *gate, int64_t width);
    /* Queries [first_query, first_query + query_count) of one text; scores: scratch of
     * qzo_cpu_attention_scratch_floats. */
    void (*attention_block)(float *out, const float *q, const float *k, const float *v,
                            const qzo_attention *attention, int64_t first_query,
                            int64_t query_count, float *scores);
    void (*rope_row)(float *x, const float *table_row, int64_t head_count, int64_t head_dim);
    void (*activations[QZO_ACTIVATION_COUNT])(float *gate, const float *up, int64_t count);
    void (*add)(float *residual, const float *x, int64_t count);
    void (*add_scaled)(float *x, const float *y, float factor, int64_t count);
    void (*soft_cap)(float *x, int64_t count, float cap);
    /* ln sum exp of a row of logits, and the largest of them */
    double (*log_sum_exp)(const float *logits, int64_t count);
    /* values: pointers to element `first` of a span; count <= CPU_UPDATE_BLOCK elements */
    void (*update_block)(const qzo_update_values *values, const qzo_span *span, int64_t first,
                         int64_t count, const qzo_gain *gains, int64_t gain_count,
                         qzo_directions directions);
    uint64_t (*digest_block)(const float *values, const qzo_span *span, int64_t first,
                             int64_t count);
    /* Multiply-adds in registers alone, `rounds` times; returns how many floating-point operations
     * that were. *sink keeps the compiler from dropping them. */
    double (*fma_burst)(int64_t rounds, float *sink);
} cpu_ops;

extern const cpu_ops qzo_cpu_ops_reference;
extern const cpu_ops qzo_cpu_ops_avx2;
extern const cpu_ops qzo_cpu_ops_avx512;

/* out (in_features) = row `output` of W with its perturbed values, by the format's own decode_row;
 * scratch: (group_count). */
void qzo_cpu_decode_row(float *out, const cpu_linear *job, int64_t output, float *scratch);

/* Scratch of one thread for any of the tables' linear_tile. */
int64_t qzo_cpu_linear_scratch_floats(const qzo_qtensor *weight);

#endif
