#include "model/sides.h"

#include "model/model_parts.h"

qzo_sides qzo_sides_one(qzo_backend *backend, const float *masters,
                        const qzo_perturbation *perturbation) {
    return (qzo_sides){.backend = backend, .masters = masters, .of = {*perturbation}, .count = 1};
}

qzo_sides qzo_sides_both(qzo_backend *backend, const float *masters,
                         const qzo_perturbation *perturbation) {
    qzo_sides both = qzo_sides_one(backend, masters, perturbation);
    both.of[1] = both.of[0];
    both.of[1].c = -both.of[0].c;
    both.count = 2;
    return both;
}

qzo_act *qzo_act_at(const qzo_backend *backend, qzo_act *x, int64_t count) {
    return (qzo_act *)(void *)((char *)x + (size_t)count * backend->ops->activation_bytes);
}

const qzo_act *qzo_act_from(const qzo_backend *backend, const qzo_act *x, int64_t count) {
    return (const qzo_act *)(const void *)((const char *)x +
                                           (size_t)count * backend->ops->activation_bytes);
}

qzo_status qzo_sides_embed(const qzo_sides *sides, float *residual, const qzo_weight *table,
                           const int32_t *ids, int64_t rows, float scale, bool add) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = sides->backend;
    int64_t each = rows / sides->count, width = backend->ops->weight_tensor(table)->in_features;
    for (int side = 0; status == QZO_OK && side < sides->count; side++)
        status = backend->ops->embed(backend, residual + side * each * width, table, sides->masters,
                                     &sides->of[side], ids + side * each, each, scale, add);
    return status;
}

qzo_status qzo_sides_linear(const qzo_sides *sides, qzo_act *out, const qzo_act *x,
                            const qzo_weight *weight, int64_t rows) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = sides->backend;
    const qzo_qtensor *tensor = backend->ops->weight_tensor(weight);
    int64_t each = rows / sides->count;
    if (sides->count == 2 && backend->ops->linear_pair != NULL)
        return backend->ops->linear_pair(backend, out, x, weight, sides->masters, &sides->of[0],
                                         each);
    for (int side = 0; status == QZO_OK && side < sides->count; side++)
        status = backend->ops->linear(backend,
                                      qzo_act_at(backend, out, side * each * tensor->out_features),
                                      qzo_act_from(backend, x, side * each * tensor->in_features),
                                      weight, sides->masters, &sides->of[side], each);
    return status;
}

/* Sides that differ in a vector, which are those where it trains; else all rows are alike. */
static int sides_of_vector(const qzo_sides *sides, const qzo_vector *vector) {
    return vector->tensor.group_count > 0 ? sides->count : 1;
}

qzo_status qzo_sides_add_bias(const qzo_sides *sides, qzo_act *x, const qzo_vector *bias,
                              float *scratch, int64_t rows, int64_t width) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = sides->backend;
    int count = sides_of_vector(sides, bias);
    int64_t each = rows / count;
    if (bias->values == NULL) return QZO_OK;
    for (int side = 0; side < count; side++) {
        const float *values = NULL;
        QZO_TRY(
            qzo_vector_values(&values, backend, bias, scratch, sides->masters, &sides->of[side]));
        QZO_TRY(backend->ops->add_bias(backend, qzo_act_at(backend, x, side * each * width), values,
                                       each, width));
    }
cleanup:
    return status;
}

qzo_status qzo_sides_norm(const qzo_sides *sides, qzo_act *out, const float *in,
                          const qzo_norm *with, float *const scratch[2], int64_t rows,
                          int64_t width, qzo_norm_kind kind, float epsilon) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = sides->backend;
    int of_gain = sides_of_vector(sides, &with->gain),
        of_bias = sides_of_vector(sides, &with->bias);
    int count = of_gain > of_bias ? of_gain : of_bias;
    int64_t each = rows / count;
    for (int side = 0; side < count; side++) {
        const float *gain = NULL, *bias = NULL;
        QZO_TRY(qzo_vector_values(&gain, backend, &with->gain, scratch[0], sides->masters,
                                  &sides->of[side]));
        QZO_TRY(qzo_vector_values(&bias, backend, &with->bias, scratch[1], sides->masters,
                                  &sides->of[side]));
        QZO_TRY(backend->ops->norm(backend, qzo_act_at(backend, out, side * each * width),
                                   in + side * each * width, gain, bias, each, width, kind,
                                   epsilon));
    }
cleanup:
    return status;
}
