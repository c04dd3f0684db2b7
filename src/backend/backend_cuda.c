/* Lifetime, memory and table of the CUDA backend; the kernels are in kernels/. Part of the CUDA
 * module (cuda_module.h), plain C over the CUDA runtime and cuBLASLt.
 *
 * Activations and decoded weights of "cuda" are fp16: three bits more than the bf16 of "cuda-bf16",
 * so that the difference of two close losses keeps more of its sense. Decoded weights are kept
 * finite, and an activation that overflows gives infinity, then a loss that is not finite, which is
 * never applied; bf16 is for models whose activations leave fp16's range. Products are summed in
 * fp32; residual stream, masters and logits are fp32, losses double.
 *
 * Everything runs in order on one stream, products of cuBLASLt with one workspace: what it chooses
 * depends on the device, its version and the shape alone (cuda_gemm.c). Several ranks may
 * share a device. */
#include "backend/cuda_module.h"
#include "backend/cuda_state.h"
#include "base/check.h"
#include "base/digest.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)QZO_CUDA_SILU == QZO_ACTIVATION_SILU &&
                   (int)QZO_CUDA_RELU == QZO_ACTIVATION_RELU &&
                   (int)QZO_CUDA_GELU_TANH == QZO_ACTIVATION_GELU_TANH &&
                   (int)QZO_CUDA_GELU == QZO_ACTIVATION_GELU && QZO_ACTIVATION_COUNT == 4,
               "activations are passed as they are");
_Static_assert((int)QZO_CUDA_HEAD_DIM_MAX == CUDA_HEAD_DIM_MAX, "what is refused cannot run");
_Static_assert((int)QZO_CUDA_TILE_HEAD_DIM_MAX == CUDA_TILE_HEAD_DIM_MAX, "what is chosen runs");
_Static_assert(QZO_DIRECTIONS_COUNT == 2, "kernels know gaussian and rademacher");

qzo_status qzo_status_from_cuda(cudaError_t code, const char *call) {
    if (code == cudaSuccess) return QZO_OK;
    cudaGetLastError(); /* told here: the next launch must not find it and take it for its own */
    qzo_status status = code == cudaErrorMemoryAllocation ? QZO_ERR_MEMORY : QZO_ERR_ENVIRONMENT;
    return qzo_fail(status, "%s: %s (%s)", call, cudaGetErrorString(code), cudaGetErrorName(code));
}

/* --- the other operations of the forward pass --- */

static qzo_status cuda_embed(qzo_backend *backend, float *residual, const qzo_weight *table,
                             const float *masters, const qzo_perturbation *perturbation,
                             const int32_t *ids, int64_t rows, float scale, bool add) {
    const qzo_qtensor *tensor = table->tensor;
    if (tensor->format->layout == QZO_LAYOUT_GGUF) /* its values are at rest */
        return qzo_status_from_cuda(qzo_cuda_embed_gguf(residual, table->as.gguf,
                                                        masters + tensor->span_offset, ids, rows,
                                                        scale, add, state_of(backend)->stream),
                                    "embed");
    QZO_ASSERT(table->tensor->format->layout == QZO_LAYOUT_DENSE);
    if (tensor->group_count > 0)
        return qzo_status_from_cuda(qzo_cuda_embed_values(residual, masters + tensor->span_offset,
                                                          unit_of(tensor, perturbation), ids, rows,
                                                          tensor->in_features,
                                                          noise_of(tensor, perturbation), scale,
                                                          add, state_of(backend)->stream),
                                    "embed");
    return qzo_status_from_cuda(qzo_cuda_embed(residual, table->memory, ids, rows,
                                               table->tensor->in_features, table->as.dtype, scale,
                                               add, state_of(backend)->stream),
                                "embed");
}

static qzo_status cuda_perturb(qzo_backend *backend, float *out, const qzo_qtensor *tensor,
                               const float *masters, const qzo_perturbation *perturbation) {
    return qzo_status_from_cuda(qzo_cuda_perturb(out, NULL, masters + tensor->span_offset,
                                                 unit_of(tensor, perturbation), tensor->in_features,
                                                 noise_of(tensor, perturbation),
                                                 state_of(backend)->stream),
                                "perturb");
}

static qzo_status cuda_norm(qzo_backend *backend, qzo_act *out, const float *residual,
                            const float *gain, const float *bias, int64_t rows, int64_t width,
                            qzo_norm_kind kind, float epsilon) {
    cudaStream_t stream = state_of(backend)->stream;
    return qzo_status_from_cuda(
        kind == QZO_NORM_LAYER ? qzo_cuda_norm_layer((void *)out, residual, gain, bias, rows, width,
                                                     epsilon, state_of(backend)->act, stream)
                               : qzo_cuda_norm_rms((void *)out, residual, gain, rows, width,
                                                   epsilon, state_of(backend)->act, stream),
        "norm");
}

static qzo_cuda_modulation modulation_of(const qzo_modulation *modulation) {
    return (qzo_cuda_modulation){.values = (const void *)modulation->values,
                                 .stride = modulation->stride,
                                 .rows_per_example = modulation->rows_per_example};
}

static qzo_status cuda_modulate(qzo_backend *backend, qzo_act *out, const float *residual,
                                const qzo_modulation *modulation, int64_t shift_at,
                                int64_t scale_at, int64_t rows, int64_t width, float epsilon) {
    return qzo_status_from_cuda(
        qzo_cuda_modulate((void *)out, residual, modulation_of(modulation), shift_at, scale_at,
                          rows, width, epsilon, state_of(backend)->act, state_of(backend)->stream),
        "modulate");
}

static qzo_status cuda_add_gated(qzo_backend *backend, float *residual, const qzo_act *x,
                                 const qzo_modulation *modulation, int64_t gate_at, int64_t rows,
                                 int64_t width) {
    return qzo_status_from_cuda(
        qzo_cuda_add_gated(residual, (const void *)x, modulation_of(modulation), gate_at, rows,
                           width, state_of(backend)->act, state_of(backend)->stream),
        "add_gated");
}

static qzo_status cuda_add_bias(qzo_backend *backend, qzo_act *x, const float *bias, int64_t rows,
                                int64_t width) {
    return qzo_status_from_cuda(qzo_cuda_add_bias((void *)x, bias, rows, width,
                                                  state_of(backend)->act,
                                                  state_of(backend)->stream),
                                "add_bias");
}

static qzo_status cuda_select(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                              const int32_t *rows, int64_t row_count, int64_t x_width,
                              int64_t first, int64_t width) {
    return qzo_status_from_cuda(qzo_cuda_select((void *)out, (const void *)x, rows, row_count,
                                                x_width, first, width, state_of(backend)->stream),
                                "select");
}

static qzo_status cuda_scatter(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                               const int32_t *rows, int64_t row_count, int64_t width) {
    return qzo_status_from_cuda(qzo_cuda_scatter((void *)out, (const void *)x, rows, row_count,
                                                 width, state_of(backend)->stream),
                                "scatter");
}

static qzo_status cuda_rope(qzo_backend *backend, qzo_act *x, const int32_t *positions,
                            const float *table, int64_t rows, int64_t head_count,
                            int64_t head_dim) {
    return qzo_status_from_cuda(qzo_cuda_rope((void *)x, positions, table, rows, head_count,
                                              head_dim, state_of(backend)->act,
                                              state_of(backend)->stream),
                                "rope");
}

static qzo_status cuda_attention(qzo_backend *backend, qzo_act *out, const qzo_act *q,
                                 const qzo_act *k, const qzo_act *v, const qzo_attention *attention,
                                 int64_t queries) {
    qzo_status status = qzo_cuda_check_heads(backend, attention->head_dim);
    if (status != QZO_OK) return status;
    qzo_cuda_attention shape = {.query_rows = attention->query_rows,
                                .prefix_begin = attention->prefix_begin,
                                .prefix_end = attention->prefix_end,
                                .own_begin = attention->own_begin,
                                .own_end = attention->own_end,
                                .head_count = (int32_t)attention->head_count,
                                .kv_head_count = (int32_t)attention->kv_head_count,
                                .head_dim = (int32_t)attention->head_dim,
                                .scale = attention->scale,
                                .score_cap = attention->score_cap,
                                .window = attention->window};
    cuda_state *state = state_of(backend);
    bool tiles =
        cuda_plan_attention_tiles(state->plan, attention->context_max, attention->head_dim);
    return qzo_status_from_cuda((tiles ? qzo_cuda_attention_tiles : qzo_cuda_attention_rows)(
                                    (void *)out, (const void *)q, (const void *)k, (const void *)v,
                                    shape, queries, state->act, state->stream),
                                "attention");
}

static qzo_status cuda_activate(qzo_backend *backend, qzo_act *gate, const qzo_act *up,
                                int64_t count, qzo_activation activation) {
    return qzo_status_from_cuda(
        qzo_cuda_activate((void *)gate, (const void *)up, count, (qzo_cuda_activation)activation,
                          state_of(backend)->act, state_of(backend)->stream),
        "activate");
}

static qzo_status cuda_add_scaled(qzo_backend *backend, qzo_act *x, const qzo_act *y, float factor,
                                  int64_t count) {
    return qzo_status_from_cuda(qzo_cuda_add_scaled((void *)x, (const void *)y, factor, count,
                                                    state_of(backend)->act,
                                                    state_of(backend)->stream),
                                "add_scaled");
}

static qzo_status cuda_add(qzo_backend *backend, float *residual, const qzo_act *x, int64_t count) {
    return qzo_status_from_cuda(qzo_cuda_add(residual, (const void *)x, count,
                                             state_of(backend)->act, state_of(backend)->stream),
                                "add");
}

static qzo_status cuda_widen(qzo_backend *backend, float *out, const qzo_act *x, int64_t count) {
    return qzo_status_from_cuda(qzo_cuda_widen(out, (const void *)x, count, state_of(backend)->act,
                                               state_of(backend)->stream),
                                "widen");
}

static qzo_status cuda_narrow(qzo_backend *backend, qzo_act *out, const float *x, int64_t count) {
    return qzo_status_from_cuda(
        qzo_cuda_narrow((void *)out, x, count, state_of(backend)->act, state_of(backend)->stream),
        "narrow");
}

static qzo_status cuda_soft_cap(qzo_backend *backend, float *x, int64_t count, float cap) {
    return qzo_status_from_cuda(qzo_cuda_soft_cap(x, count, cap, state_of(backend)->stream),
                                "soft_cap");
}

static qzo_status cuda_gather(qzo_backend *backend, float *out, const float *residual,
                              const int32_t *rows, int64_t row_count, int64_t width) {
    return qzo_status_from_cuda(
        qzo_cuda_gather(out, residual, rows, row_count, width, state_of(backend)->stream),
        "gather");
}

static qzo_status cuda_log_probs(qzo_backend *backend, double *out_host, const float *logits,
                                 const int32_t *target_row, const int32_t *target_id,
                                 int64_t target_count, int64_t vocab) {
    qzo_status status = QZO_OK;
    const cuda_state *state = state_of(backend);
    for (int64_t first = 0; first < target_count; first += CUDA_TARGETS_PER_LAUNCH) {
        int64_t left = target_count - first;
        int64_t count = left < CUDA_TARGETS_PER_LAUNCH ? left : CUDA_TARGETS_PER_LAUNCH;
        TRY_CUDA(qzo_cuda_log_probs(state->results, logits, target_row + first, target_id + first,
                                    count, vocab, state->stream));
        QZO_TRY(qzo_cuda_download(backend, out_host + first, state->results,
                                  (size_t)count * sizeof(double)));
    }
cleanup:
    return status;
}

/* --- lifetime --- */

static const char *cuda_arithmetic(const qzo_backend *backend) {
    return state_of(backend)->arithmetic;
}

static const char *cuda_device(const qzo_backend *backend) { return state_of(backend)->device; }

static void cuda_close(qzo_backend *backend) {
    cuda_state *state = state_of(backend);
    if (state->stream != NULL) cudaStreamSynchronize(state->stream);
    qzo_cuda_gemm_close(state->gemm);
    void *const buffers[] = {state->workspace, state->tile,  state->values, state->results,
                             state->gains,     state->spans, state->digest};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        qzo_cuda_release(backend, buffers[i]);
    qzo_cuda_stage_close(state);
    qzo_ledger_release(&state->ledger);
    free(state->spans_host);
    if (state->stream != NULL) cudaStreamDestroy(state->stream);
    free(state);
    free(backend);
}

static const qzo_backend_ops cuda_backend_ops = {
    .name = QZO_BACKEND_CUDA,
    .activation_bytes = sizeof(uint16_t),
    .library_memory = qzo_cuda_library_memory,
    .arithmetic = cuda_arithmetic,
    .device = cuda_device,
    .close = cuda_close,
    .memory_use = qzo_cuda_memory_use,
    .allocate = qzo_cuda_allocate,
    .release = qzo_cuda_release,
    .upload = qzo_cuda_upload,
    .download = qzo_cuda_download,
    .copy = qzo_cuda_copy,
    .check_heads = qzo_cuda_check_heads,
    .reserve = qzo_cuda_reserve,
    .weight_load = qzo_cuda_weight_load,
    .weight_free = qzo_cuda_weight_free,
    .weight_tensor = qzo_cuda_weight_tensor,
    .embed = cuda_embed,
    .perturb = cuda_perturb,
    .norm = cuda_norm,
    .modulate = cuda_modulate,
    .add_gated = cuda_add_gated,
    .linear = qzo_cuda_linear,
    .linear_pair = qzo_cuda_linear_pair,
    .add_bias = cuda_add_bias,
    .select = cuda_select,
    .scatter = cuda_scatter,
    .decode = qzo_cuda_decode,
    .rope = cuda_rope,
    .attention = cuda_attention,
    .activate = cuda_activate,
    .add_scaled = cuda_add_scaled,
    .add = cuda_add,
    .widen = cuda_widen,
    .narrow = cuda_narrow,
    .gather = cuda_gather,
    .logits = qzo_cuda_logits,
    .soft_cap = cuda_soft_cap,
    .log_probs = cuda_log_probs,
    .update = qzo_cuda_update_op,
    .measure_peaks = qzo_cuda_measure_peaks,
    .digest = qzo_cuda_digest_op,
};

static qzo_status device_count(int *count) {
    *count = 0; /* left alone by a call that fails */
    cudaError_t code = cudaGetDeviceCount(count);
    if (code != cudaSuccess) *count = 0;
    if (code == cudaErrorInsufficientDriver) {
        int driver = 0, runtime = 0;
        cudaDriverGetVersion(&driver);
        cudaRuntimeGetVersion(&runtime);
        if (driver == 0) return qzo_fail(QZO_ERR_ENVIRONMENT, "there is no NVIDIA driver");
        return qzo_fail(QZO_ERR_ENVIRONMENT,
                        "the NVIDIA driver knows CUDA %d.%d, qzo was built with %d.%d",
                        driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    }
    if (code != cudaSuccess) return qzo_status_from_cuda(code, "no CUDA device");
    return *count > 0 ? QZO_OK : qzo_fail(QZO_ERR_ENVIRONMENT, "the driver shows no CUDA device");
}

/* As nvidia-smi -L prints it; of a part of a device, where it is divided. */
static void name_device(char out[QZO_DEVICE_ID_BYTES], const cudaUUID_t *uuid) {
    static const int dashes[] = {4, 6, 8, 10}; /* before these bytes */
    int length = snprintf(out, QZO_DEVICE_ID_BYTES, "GPU-");
    for (int byte = 0, dash = 0; byte < 16; byte++) {
        bool divide = dash < 4 && dashes[dash] == byte;
        dash += divide;
        length += snprintf(out + length, QZO_DEVICE_ID_BYTES - (size_t)length, "%s%02x",
                           divide ? "-" : "", (unsigned)(unsigned char)uuid->bytes[byte]);
    }
}

/* Of the entry's numbers that choose kernels or shapes of products: two programs that differ in one
 * of them do not share a journal, even where the table's version was forgotten. */
static uint32_t plan_digest(const cuda_plan *plan) {
    const int64_t chosen[] = {plan->compute_capability, plan->mma_rows_max, plan->few_rows_max,
                              (int64_t)plan->tile_bytes, plan->tile_context_min};
    return (uint32_t)qzo_checksum(chosen, sizeof chosen, 0);
}

static qzo_status open_device(cuda_state *state, const qzo_backend_options *options) {
    qzo_status status = QZO_OK;
    int count = 0;
    struct cudaDeviceProp device;
    QZO_TRY(device_count(&count));
    TRY_CUDA(cudaSetDevice(options->local_rank % count));
    TRY_CUDA(cudaGetDeviceProperties(&device, options->local_rank % count));
    name_device(state->device, &device.uuid);
    state->plan = cuda_plan_find(10 * device.major + device.minor);
    if (state->plan == NULL) {
        status = qzo_fail(QZO_ERR_ENVIRONMENT, "%s has compute capability %d.%d, 8.0 is the least",
                          device.name, device.major, device.minor);
        goto cleanup;
    }
    TRY_CUDA(cudaStreamCreateWithFlags(&state->stream, cudaStreamNonBlocking));
    QZO_TRY(qzo_cuda_gemm_open(&state->gemm));
    /* The number of multiprocessors tells apart variants of one name, for which cuBLAS may choose
     * other kernels; the toolkit's version stands for the compiler of ours. */
    snprintf(state->arithmetic, sizeof state->arithmetic,
             "cuda %s sm_%d%d x%d %s toolkit %d cublaslt %zu plan " CUDA_PLAN_VERSION " %08x",
             device.name, device.major, device.minor, device.multiProcessorCount,
             state->act == QZO_CUDA_BF16 ? "bf16" : "fp16", CUDART_VERSION, cublasLtGetVersion(),
             plan_digest(state->plan));
cleanup:
    return status;
}

static qzo_status take_fixed(qzo_backend *backend, void **out, int which) {
    return qzo_cuda_take(backend, out, qzo_cuda_fixed_bytes[which], QZO_MEMORY_SCRATCH);
}

static qzo_status open_buffers(qzo_backend *backend) {
    qzo_status status = QZO_OK;
    cuda_state *state = state_of(backend);
    void *results = NULL, *gains = NULL, *spans = NULL, *digest = NULL;
    state->spans_host = calloc(CUDA_SPANS_MAX, sizeof *state->spans_host);
    if (state->spans_host == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for spans");
    QZO_TRY(take_fixed(backend, &state->workspace, CUDA_FIXED_WORKSPACE));
    QZO_TRY(take_fixed(backend, &results, CUDA_FIXED_RESULTS));
    state->results = results;
    QZO_TRY(take_fixed(backend, &gains, CUDA_FIXED_GAINS));
    state->gains = gains;
    QZO_TRY(take_fixed(backend, &spans, CUDA_FIXED_SPANS));
    state->spans = spans;
    QZO_TRY(take_fixed(backend, &digest, CUDA_FIXED_DIGEST));
    state->digest = digest;
cleanup:
    return status;
}

static qzo_status backend_open(qzo_backend **out, const qzo_backend_options *options,
                               bool is_bf16) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = calloc(1, sizeof *backend);
    cuda_state *state = calloc(1, sizeof *state);
    if (backend == NULL || state == NULL) {
        free(backend);
        free(state);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for the CUDA backend");
    }
    state->act = is_bf16 ? QZO_CUDA_BF16 : QZO_CUDA_F16;
    state->ops = cuda_backend_ops;
    if (is_bf16) state->ops.name = QZO_BACKEND_CUDA_BF16;
    backend->ops = &state->ops;
    backend->state = state;
    state->signs = 1;
    QZO_TRY(open_device(state, options));
    QZO_TRY(open_buffers(backend));
    QZO_TRY(qzo_cuda_check_bits(backend));
    backend->pair_rows_max = state->plan->pair_rows_max;
    *out = backend;
    backend = NULL;
cleanup:
    if (backend != NULL) cuda_close(backend);
    return status;
}

#if defined(QZO_HAVE_NCCL) /* comm_nccl.c */
qzo_status qzo_cuda_comm_open(struct qzo_comm **out, struct qzo_comm *base);
const char *qzo_cuda_comm_version(void);
#else
#define qzo_cuda_comm_open    NULL
#define qzo_cuda_comm_version NULL
#endif

/* The one symbol of the module that the program looks up. */
extern const qzo_cuda_module qzo_cuda_module_table;
__attribute__((visibility("default"))) const qzo_cuda_module qzo_cuda_module_table = {
    .version = QZO_CUDA_MODULE_VERSION,
    .ops_bytes = sizeof(qzo_backend_ops),
    .device_count = device_count,
    .backend_open = backend_open,
    .comm_open = qzo_cuda_comm_open,
    .comm_version = qzo_cuda_comm_version,
};
