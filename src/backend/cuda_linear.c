/* The matrix product of the CUDA backend: weights are decoded, with their perturbed values, into a
 * tile of fp16 that stays in L2, and cuBLASLt multiplies tile by tile; few rows of a GPTQ weight go
 * through a fused kernel (cuda_plan.h decides). Part of the CUDA module. */
#include "backend/cuda_state.h"

#include <limits.h>

typedef struct product {
    uint8_t *out;      /* (rows, out_features) */
    const uint16_t *x; /* NULL: decode only */
    const qzo_weight *weight;
    int64_t rows;
    bool wide; /* out is fp32, else fp16 */
} product;

/* Outputs first .. first + count - 1 from their decoded weights (count, in_features). */
static qzo_status multiply(const cuda_state *state, const product *p, const uint16_t *decoded,
                           int64_t first, int64_t count) {
    size_t item_bytes = p->wide ? sizeof(float) : sizeof(uint16_t);
    const cuda_gemm_shape shape = {.outputs = count,
                                   .rows = p->rows,
                                   .inputs = p->weight->tensor->in_features,
                                   .out_pitch = p->weight->tensor->out_features,
                                   .in_type = CUDA_R_16F,
                                   .out_type = p->wide ? CUDA_R_32F : CUDA_R_16F};
    return qzo_cuda_gemm(state, p->out + (size_t)first * item_bytes, p->x, decoded, &shape);
}

/* The weight's trainable values as the forward pass sees them; the masters themselves where
 * nothing is perturbed. */
static qzo_status perturbed_values(const cuda_state *state, const float **out,
                                   const qzo_qtensor *tensor, const float *masters,
                                   const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    qzo_cuda_noise noise = noise_of(tensor, perturbation);
    *out = masters + tensor->span_offset;
    if (noise.c == 0.0f) return QZO_OK;
    TRY_CUDA(qzo_cuda_perturb(state->values, *out, unit_of(tensor, perturbation),
                              tensor->out_features * tensor->group_count, noise, state->stream));
    *out = state->values;
cleanup:
    return status;
}

static bool is_dense(const qzo_weight *weight) {
    return weight->tensor->format->layout == QZO_LAYOUT_DENSE;
}

static bool is_gptq(const qzo_weight *weight) {
    return weight->tensor->format->layout == QZO_LAYOUT_GPTQ;
}

static cuda_linear_path path_of(const cuda_state *state, const product *p) {
    if (!is_gptq(p->weight)) return CUDA_LINEAR_TILES;
    int64_t group = p->weight->as.gptq.inputs_per_group;
    return cuda_plan_linear(state->plan, p->rows, group > 0 && group % QZO_CUDA_MMA_CHUNK == 0);
}

static cudaError_t multiply_fused(const cuda_state *state, const product *p, const float *values,
                                  cuda_linear_path path) {
    if (path == CUDA_LINEAR_MMA)
        return qzo_cuda_linear_gptq_mma(p->out, p->x, p->weight->as.gptq, values, NULL, p->rows,
                                        p->wide, state->stream);
    return qzo_cuda_linear_gptq_few(p->out, p->x, p->weight->as.gptq, values, p->rows, p->wide,
                                    state->stream);
}

/* Outputs first .. first + count - 1 of a quantized weight, given its perturbed values. */
static cudaError_t decode_tile(const cuda_state *state, const qzo_weight *weight,
                               const float *values, int64_t first, int64_t count) {
    uint16_t *tile = state->tile;
    switch (weight->tensor->format->layout) {
    case QZO_LAYOUT_GPTQ:
        return qzo_cuda_decode_gptq(tile, weight->as.gptq, values, first, count, state->stream);
    case QZO_LAYOUT_BNB:
        return qzo_cuda_decode_bnb(tile, weight->as.bnb, values, first, count, state->stream);
    case QZO_LAYOUT_AQLM:
        return qzo_cuda_decode_aqlm(tile, weight->as.aqlm, values, first, count, state->stream);
    default: return cudaErrorInvalidValue; /* qzo_cuda_layout_of refused it */
    }
}

static qzo_status multiply_tiles(const cuda_state *state, const product *p, const float *values,
                                 const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    const qzo_weight *weight = p->weight;
    qzo_cuda_noise noise = noise_of(weight->tensor, perturbation);
    const float *unit = unit_of(weight->tensor, perturbation);
    int64_t out_features = weight->tensor->out_features, in_features = weight->tensor->in_features;
    int64_t outputs = cuda_plan_tile_outputs(state->plan, in_features);
    for (int64_t first = 0; first < out_features; first += outputs) {
        int64_t left = out_features - first, count = left < outputs ? left : outputs;
        if (!is_dense(weight))
            TRY_CUDA(decode_tile(state, weight, values, first, count));
        else if (values != NULL)
            TRY_CUDA(qzo_cuda_decode_values(state->tile, values, unit, first * in_features,
                                            count * in_features, noise, state->stream));
        else
            TRY_CUDA(qzo_cuda_decode_dense(state->tile, weight->memory, first * in_features,
                                           count * in_features, weight->as.dtype, state->stream));
        if (p->x != NULL) QZO_TRY(multiply(state, p, state->tile, first, count));
    }
cleanup:
    return status;
}

static qzo_status run_product(const cuda_state *state, const product *p, const float *masters,
                              const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    const qzo_weight *weight = p->weight;
    const float *values = NULL; /* of a weight without any in the masters */
    if (p->rows == 0) return QZO_OK;
    if (p->rows > INT_MAX)
        return qzo_fail(QZO_ERR_LIMIT, "%lld rows, cuBLAS takes at most %d", (long long)p->rows,
                        INT_MAX);
    bool in_masters = weight->tensor->group_count > 0;
    if (!in_masters && weight->as.dtype == QZO_CUDA_F16)
        return p->x == NULL ? QZO_OK
                            : multiply(state, p, weight->memory, 0, weight->tensor->out_features);
    if (!is_dense(weight))
        QZO_TRY(perturbed_values(state, &values, weight->tensor, masters, perturbation));
    else if (in_masters)
        values = masters + weight->tensor->span_offset;
    cuda_linear_path path = path_of(state, p);
    if (path == CUDA_LINEAR_TILES)
        QZO_TRY(multiply_tiles(state, p, values, perturbation));
    else if (p->x != NULL)
        TRY_CUDA(multiply_fused(state, p, values, path));
cleanup:
    return status;
}

qzo_status qzo_cuda_linear(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                           const qzo_weight *weight, const float *masters,
                           const qzo_perturbation *perturbation, int64_t rows) {
    product p = {
        .out = (void *)out, .x = (const void *)x, .weight = weight, .rows = rows, .wide = false};
    return run_product(state_of(backend), &p, masters, perturbation);
}

qzo_status qzo_cuda_logits(qzo_backend *backend, float *out, const qzo_act *x,
                           const qzo_weight *head, const float *masters,
                           const qzo_perturbation *perturbation, int64_t rows) {
    product p = {
        .out = (void *)out, .x = (const void *)x, .weight = head, .rows = rows, .wide = true};
    return run_product(state_of(backend), &p, masters, perturbation);
}

qzo_status qzo_cuda_decode(qzo_backend *backend, const qzo_weight *weight, const float *masters,
                           const qzo_perturbation *perturbation, int64_t rows, bool pair) {
    (void)pair;
    product p = {.weight = weight, .rows = rows};
    return run_product(state_of(backend), &p, masters, perturbation);
}
