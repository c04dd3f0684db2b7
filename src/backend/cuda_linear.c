/* The matrix product of the CUDA backend: weights are decoded, with their perturbed values, into a
 * tile of 16-bit values that stays in L2, and cuBLASLt multiplies tile by tile; few rows of a GPTQ
 * weight go through a fused kernel (cuda_plan.h decides). Part of the CUDA module. */
#include "backend/cuda_state.h"
#include "base/check.h"

#include <limits.h>

typedef struct product {
    uint8_t *out;      /* (signs, rows, out_features) */
    const uint16_t *x; /* the same of in_features; NULL: decode only */
    const qzo_weight *weight;
    int64_t rows; /* of each sign: what is chosen by it does not depend on their number */
    int signs;    /* 1, or 2: under c and -c */
    bool wide;    /* out is fp32, else of the activations' type */
} product;

/* Outputs first .. first + count - 1 of one sign from their decoded weights (count, in_features).
 */
static qzo_status multiply(const cuda_state *state, const product *p, int sign,
                           const uint16_t *decoded, int64_t first, int64_t count) {
    size_t item_bytes = p->wide ? sizeof(float) : sizeof(uint16_t);
    const cudaDataType_t type = act_type(state);
    const qzo_qtensor *tensor = p->weight->tensor;
    const uint16_t *x = p->x + sign * p->rows * tensor->in_features;
    uint8_t *out = p->out + (size_t)(sign * p->rows * tensor->out_features + first) * item_bytes;
    const cuda_gemm_shape shape = {.outputs = count,
                                   .rows = p->rows,
                                   .inputs = tensor->in_features,
                                   .out_pitch = tensor->out_features,
                                   .in_type = type,
                                   .out_type = p->wide ? CUDA_R_32F : type};
    return qzo_cuda_gemm(state, out, x, decoded, &shape);
}

/* The same of all signs; decoded: of each, or of all alike. */
static qzo_status multiply_signs(const cuda_state *state, const product *p,
                                 const qzo_cuda_signs *decoded, int64_t first, int64_t count) {
    qzo_status status = QZO_OK;
    for (int sign = 0; p->x != NULL && sign < p->signs; sign++)
        QZO_TRY(multiply(state, p, sign, decoded->tile[sign % decoded->count], first, count));
cleanup:
    return status;
}

/* Where decoded weights go, and the trainable values of a quantized weight as the forward pass sees
 * them: the masters themselves, for all signs, where nothing is perturbed. */
static qzo_status perturbed_values(const cuda_state *state, qzo_cuda_signs *out, const product *p,
                                   const float *masters, const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    const qzo_qtensor *tensor = p->weight->tensor;
    qzo_cuda_noise noise = noise_of(tensor, perturbation);
    *out = (qzo_cuda_signs){
        .tile = {state->tile, state->tile + state->tile_bytes / sizeof *state->tile}};
    out->count = noise.c == 0.0f ? 1 : p->signs;
    if (noise.c == 0.0f || tensor->format->layout == QZO_LAYOUT_DENSE) {
        out->values[0] = masters + tensor->span_offset;
        return QZO_OK;
    }
    float *const values = state->values;
    float *const minus = out->count == 2 ? values + state->values_bytes / sizeof *values : NULL;
    TRY_CUDA(qzo_cuda_perturb(values, minus, masters + tensor->span_offset,
                              unit_of(tensor, perturbation),
                              tensor->out_features * tensor->group_count, noise, state->stream));
    out->values[0] = values;
    out->values[1] = minus;
cleanup:
    return status;
}

static bool is_gptq(const qzo_weight *weight) {
    return weight->tensor->format->layout == QZO_LAYOUT_GPTQ;
}

static cuda_linear_path path_of(const cuda_state *state, const product *p) {
    if (!is_gptq(p->weight)) return CUDA_LINEAR_TILES;
    int64_t group = p->weight->as.gptq.inputs_per_group;
    bool by_mma = group > 0 && group % QZO_CUDA_MMA_CHUNK == 0 &&
                  p->weight->as.gptq.float_zeros == NULL; /* differences are exact in fp16 */
    return cuda_plan_linear(state->plan, p->rows, by_mma);
}

static cudaError_t multiply_fused(const cuda_state *state, const product *p,
                                  const qzo_cuda_signs *signs, cuda_linear_path path) {
    cudaError_t code = cudaSuccess;
    const float *minus = p->signs == 2 ? signs->values[signs->count - 1] : NULL;
    int64_t out_count = p->rows * p->weight->tensor->out_features;
    if (path == CUDA_LINEAR_MMA)
        return qzo_cuda_linear_gptq_mma(p->out, p->x, p->weight->as.gptq, signs->values[0], minus,
                                        p->rows, p->wide, state->act, state->stream);
    for (int sign = 0; code == cudaSuccess && sign < p->signs; sign++)
        code = qzo_cuda_linear_gptq_few(
            p->out + (size_t)(sign * out_count) * (p->wide ? sizeof(float) : sizeof(uint16_t)),
            p->x + sign * p->rows * p->weight->tensor->in_features, p->weight->as.gptq,
            signs->values[sign % signs->count], p->rows, p->wide, state->act, state->stream);
    return code;
}

/* Outputs first .. first + count - 1 of a weight whose trainable values are in the masters. */
static cudaError_t decode_tiles(const cuda_state *state, const qzo_weight *weight,
                                const qzo_cuda_signs *signs, const qzo_perturbation *perturbation,
                                int64_t first, int64_t count) {
    const qzo_qtensor *tensor = weight->tensor;
    switch (tensor->format->layout) {
    case QZO_LAYOUT_GPTQ:
        return qzo_cuda_decode_gptq(*signs, weight->as.gptq, first, count, state->act,
                                    state->stream);
    case QZO_LAYOUT_BNB:
        return qzo_cuda_decode_bnb(*signs, weight->as.bnb, first, count, state->act, state->stream);
    case QZO_LAYOUT_AQLM:
        return qzo_cuda_decode_aqlm(*signs, weight->as.aqlm, first, count, state->act,
                                    state->stream);
    case QZO_LAYOUT_GGUF:
        return qzo_cuda_decode_gguf(*signs, weight->as.gguf, first, count, state->act,
                                    state->stream);
    case QZO_LAYOUT_DENSE:
        return qzo_cuda_decode_values(*signs, unit_of(tensor, perturbation),
                                      first * tensor->in_features, count * tensor->in_features,
                                      noise_of(tensor, perturbation), state->act, state->stream);
    default: return cudaErrorInvalidValue; /* qzo_cuda_layout_of refused it */
    }
}

static qzo_status multiply_tiles(const cuda_state *state, const product *p,
                                 const qzo_cuda_signs *signs,
                                 const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    const qzo_weight *weight = p->weight;
    int64_t out_features = weight->tensor->out_features, in_features = weight->tensor->in_features;
    int64_t outputs = cuda_plan_tile_outputs(state->plan, in_features);
    for (int64_t first = 0; first < out_features; first += outputs) {
        int64_t left = out_features - first, count = left < outputs ? left : outputs;
        if (weight->tensor->group_count > 0)
            TRY_CUDA(decode_tiles(state, weight, signs, perturbation, first, count));
        else
            TRY_CUDA(qzo_cuda_decode_dense(signs->tile[0], weight->memory, first * in_features,
                                           count * in_features, weight->as.dtype, state->act,
                                           state->stream));
        QZO_TRY(multiply_signs(state, p, signs, first, count));
    }
cleanup:
    return status;
}

static qzo_status run_product(const cuda_state *state, const product *p, const float *masters,
                              const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    const qzo_weight *weight = p->weight;
    qzo_cuda_signs signs = {.count = 1, .tile = {weight->memory}}; /* as it is */
    if (p->rows == 0) return QZO_OK;
    if (p->rows > INT_MAX)
        return qzo_fail(QZO_ERR_LIMIT, "%lld rows, cuBLAS takes at most %d", (long long)p->rows,
                        INT_MAX);
    if (weight->tensor->group_count == 0 && weight->as.dtype == state->act)
        return multiply_signs(state, p, &signs, 0, weight->tensor->out_features);
    if (weight->tensor->group_count > 0)
        QZO_TRY(perturbed_values(state, &signs, p, masters, perturbation));
    else
        signs.tile[0] = state->tile;
    cuda_linear_path path = path_of(state, p);
    if (path == CUDA_LINEAR_TILES)
        QZO_TRY(multiply_tiles(state, p, &signs, perturbation));
    else if (p->x != NULL)
        TRY_CUDA(multiply_fused(state, p, &signs, path));
cleanup:
    return status;
}

qzo_status qzo_cuda_linear(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                           const qzo_weight *weight, const float *masters,
                           const qzo_perturbation *perturbation, int64_t rows) {
    product p = {
        .out = (void *)out, .x = (const void *)x, .weight = weight, .rows = rows, .signs = 1};
    return run_product(state_of(backend), &p, masters, perturbation);
}

qzo_status qzo_cuda_linear_pair(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                                const qzo_weight *weight, const float *masters,
                                const qzo_perturbation *perturbation, int64_t rows) {
    product p = {
        .out = (void *)out, .x = (const void *)x, .weight = weight, .rows = rows, .signs = 2};
    QZO_ASSERT(state_of(backend)->signs == 2); /* qzo_cuda_reserve */
    return run_product(state_of(backend), &p, masters, perturbation);
}

qzo_status qzo_cuda_logits(qzo_backend *backend, float *out, const qzo_act *x,
                           const qzo_weight *head, const float *masters,
                           const qzo_perturbation *perturbation, int64_t rows) {
    product p = {.out = (void *)out,
                 .x = (const void *)x,
                 .weight = head,
                 .rows = rows,
                 .signs = 1,
                 .wide = true};
    return run_product(state_of(backend), &p, masters, perturbation);
}

qzo_status qzo_cuda_decode(qzo_backend *backend, const qzo_weight *weight, const float *masters,
                           const qzo_perturbation *perturbation, int64_t rows, bool pair) {
    product p = {.weight = weight, .rows = rows, .signs = pair ? 2 : 1};
    return run_product(state_of(backend), &p, masters, perturbation);
}
