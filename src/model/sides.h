/* The values that a forward pass reads: the masters under one perturbation, or under both of its
 * signs at once. In the second case the rows of every operation are two halves, those under +c and
 * then as many under -c, and a backend may read the codes of a layer once for both. Operations
 * without values of the model take all rows as they are. The bits are those of two passes. */
#ifndef QZO_MODEL_SIDES_H
#define QZO_MODEL_SIDES_H

#include "model/model.h"

typedef struct qzo_sides {
    qzo_backend *backend;
    const float *masters;
    qzo_perturbation of[2];
    int count; /* 1, or 2: under of[0] and of[1] */
} qzo_sides;

qzo_sides qzo_sides_one(qzo_backend *backend, const float *masters,
                        const qzo_perturbation *perturbation);
qzo_sides qzo_sides_both(qzo_backend *backend, const float *masters,
                         const qzo_perturbation *perturbation);

/* The activation `count` elements behind x. */
qzo_act *qzo_act_at(const qzo_backend *backend, qzo_act *x, int64_t count);
const qzo_act *qzo_act_from(const qzo_backend *backend, const qzo_act *x, int64_t count);

/* Below, `rows` counts those of all sides. */

/* residual (rows, width) = scale table[ids], or += where add */
qzo_status qzo_sides_embed(const qzo_sides *sides, float *residual, const qzo_weight *table,
                           const int32_t *ids, int64_t rows, float scale, bool add);

/* out (rows, out_features) = x W^T */
qzo_status qzo_sides_linear(const qzo_sides *sides, qzo_act *out, const qzo_act *x,
                            const qzo_weight *weight, int64_t rows);

/* x (rows, width) += bias; one without values adds nothing. scratch (width): where it trains */
qzo_status qzo_sides_add_bias(const qzo_sides *sides, qzo_act *x, const qzo_vector *bias,
                              float *scratch, int64_t rows, int64_t width);

/* out (rows, width) = the norm of in; scratch (2 of width): where gain or bias trains */
qzo_status qzo_sides_norm(const qzo_sides *sides, qzo_act *out, const float *in,
                          const qzo_norm *with, float *const scratch[2], int64_t rows,
                          int64_t width, qzo_norm_kind kind, float epsilon);

#endif
