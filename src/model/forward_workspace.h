/* The memory of a forward pass: what qzo_forward_open allocates. For forward.c alone. */
#ifndef QZO_MODEL_FORWARD_WORKSPACE_H
#define QZO_MODEL_FORWARD_WORKSPACE_H

#include "model/forward.h"
#include "model/sides.h"

/* All in the backend's memory; rows and gathers: of all sides. */
typedef struct qzo_forward_buffers {
    float *residual;      /* (rows, width) */
    float *last_residual; /* (gathers, width) */
    qzo_act *x;           /* (rows, width) */
    qzo_act *q, *mixed;   /* (rows, head_count * head_dim) */
    qzo_act *k, *v;       /* (rows, kv_head_count * head_dim) */
    /* (places, kv_head_count * head_dim): the same where questions of a pack share rows */
    qzo_act *placed_k, *placed_v;
    qzo_act *gate, *up; /* (rows, ffn_width) */
    qzo_act *wide;      /* (rows, what is widest of fused layers and the embedding) */
    float *widened;     /* (rows, width): activations in fp32, for norms of them */
    float *logits;      /* (qzo_forward_chunk_rows, vocab) */
    float *rope_table;  /* (context, head_dim / 2, {cos, sin}) */
    float *vectors[2];  /* (vector_width): a norm's gain and bias where they train */
    /* positions: rows of the table of learned positions where the model has one */
    int32_t *ids, *positions, *row_places;                   /* (rows) */
    int32_t *place_rows;                                     /* (places) */
    int32_t *prefix_begin, *prefix_end, *own_begin;          /* (rows or places, what is more) */
    int32_t *gather_rows, *gather_positions, *gather_places; /* (gathers) */
    int32_t *target_row, *target_id;                         /* (targets) */
} qzo_forward_buffers;

struct qzo_forward {
    const qzo_model *model;
    qzo_adapters *adapters; /* NULL: none */
    qzo_pack_limits limits;
    void *memory;
    qzo_forward_buffers at;
    int32_t *row_numbers; /* host side, (rows or places): on their way to the backend */
    /* Host side, (targets): ordered copies of a pack's targets and their results. */
    int32_t *ordered_row, *ordered_id;
    double *ordered_log_probs;
};

static inline int64_t qzo_q_width(const qzo_shape *shape) {
    return shape->head_count * shape->head_dim;
}
static inline int64_t qzo_kv_width(const qzo_shape *shape) {
    return shape->kv_head_count * shape->head_dim;
}
static inline int64_t qzo_qkv_width(const qzo_shape *shape) {
    return qzo_q_width(shape) + 2 * qzo_kv_width(shape);
}

/* Rows of logits at a time. */
int64_t qzo_forward_chunk_rows(const qzo_pack_limits *limits);

#endif
