/* Lifetime, memory and table of the CUDA backend; the kernels are in kernels/. Part of the CUDA
 * module (cuda_module.h), plain C over the CUDA runtime and cuBLAS.
 *
 * Activations are fp16 with fp32 accumulation: three bits more than bf16, so that the difference of
 * two close losses keeps more of its sense; decoded weights are kept finite, and an activation that
 * overflows gives infinity, then a loss that is not finite, which is never applied. Residual
 * stream, masters and logits are fp32, losses double.
 *
 * Everything runs in order on one stream with one cuBLAS handle and a workspace of its own: what
 * cuBLAS chooses then depends on the device, its version and the shape alone. Several ranks may
 * share a device. */
#include "backend/cuda_module.h"
#include "backend/cuda_state.h"
#include "base/check.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PART_ALIGNMENT_BYTES = 256,   /* of the parts of a weight; what cudaMalloc gives */
    TARGETS_PER_LAUNCH = 1 << 16, /* log-probabilities that the results hold at a time */
    GAINS_MAX = 1 << 16           /* records of a step */
};

_Static_assert(sizeof(qzo_cuda_gain) == sizeof(qzo_gain), "gains are uploaded as they are");
_Static_assert(offsetof(qzo_cuda_gain, k) == offsetof(qzo_gain, k), "the same");
_Static_assert((int)QZO_CUDA_FREE == QZO_CONSTRAINT_FREE &&
                   (int)QZO_CUDA_POSITIVE == QZO_CONSTRAINT_POSITIVE &&
                   (int)QZO_CUDA_KEEP_SIGN == QZO_CONSTRAINT_KEEP_SIGN,
               "constraints are passed as they are");
_Static_assert((int)QZO_CUDA_SILU == QZO_ACTIVATION_SILU &&
                   (int)QZO_CUDA_RELU == QZO_ACTIVATION_RELU &&
                   (int)QZO_CUDA_GELU_TANH == QZO_ACTIVATION_GELU_TANH && QZO_ACTIVATION_COUNT == 3,
               "activations are passed as they are");
_Static_assert(QZO_DIRECTIONS_COUNT == 2, "kernels know gaussian and rademacher");

qzo_status qzo_status_from_cuda(cudaError_t code, const char *call) {
    if (code == cudaSuccess) return QZO_OK;
    qzo_status status = code == cudaErrorMemoryAllocation ? QZO_ERR_MEMORY : QZO_ERR_ENVIRONMENT;
    return qzo_fail(status, "%s: %s (%s)", call, cudaGetErrorString(code), cudaGetErrorName(code));
}

qzo_status qzo_status_from_cublas(cublasStatus_t code, const char *call) {
    if (code == CUBLAS_STATUS_SUCCESS) return QZO_OK;
    qzo_status status = code == CUBLAS_STATUS_ALLOC_FAILED ? QZO_ERR_MEMORY : QZO_ERR_ENVIRONMENT;
    return qzo_fail(status, "%s: %s", call, cublasGetStatusString(code));
}

/* --- memory --- */

static qzo_status cuda_allocate(qzo_backend *backend, void **out, size_t size_bytes) {
    qzo_status status = QZO_OK;
    size_t free_bytes = 0, total_bytes = 0;
    void *memory = NULL;
    cudaError_t code = cudaMalloc(&memory, size_bytes > 0 ? size_bytes : 1);
    if (code == cudaErrorMemoryAllocation) {
        cudaGetLastError(); /* forgotten: the device itself is well */
        cudaMemGetInfo(&free_bytes, &total_bytes);
        return qzo_fail(QZO_ERR_MEMORY,
                        "out of device memory: %zu bytes wanted, %zu of %zu are free", size_bytes,
                        free_bytes, total_bytes);
    }
    TRY_CUDA(code);
    TRY_CUDA(cudaMemsetAsync(memory, 0, size_bytes, state_of(backend)->stream));
    *out = memory;
    memory = NULL;
cleanup:
    if (memory != NULL) cudaFree(memory);
    return status;
}

static void cuda_release(qzo_backend *backend, void *memory) {
    (void)backend;
    cudaFree(memory); /* waits for what uses it */
}

/* Waits: the source may be reused at once, whatever its kind of memory. */
static qzo_status cuda_upload(qzo_backend *backend, void *out, const void *in_host,
                              size_t size_bytes) {
    qzo_status status = QZO_OK;
    cudaStream_t stream = state_of(backend)->stream;
    if (size_bytes == 0) return QZO_OK;
    TRY_CUDA(cudaMemcpyAsync(out, in_host, size_bytes, cudaMemcpyHostToDevice, stream));
    TRY_CUDA(cudaStreamSynchronize(stream));
cleanup:
    return status;
}

static qzo_status cuda_download(qzo_backend *backend, void *out_host, const void *in,
                                size_t size_bytes) {
    qzo_status status = QZO_OK;
    cudaStream_t stream = state_of(backend)->stream;
    if (size_bytes > 0)
        TRY_CUDA(cudaMemcpyAsync(out_host, in, size_bytes, cudaMemcpyDeviceToHost, stream));
    TRY_CUDA(cudaStreamSynchronize(stream));
cleanup:
    return status;
}

static qzo_status cuda_copy(qzo_backend *backend, void *out, const void *in, size_t size_bytes) {
    if (size_bytes == 0) return QZO_OK;
    return qzo_status_from_cuda(
        cudaMemcpyAsync(out, in, size_bytes, cudaMemcpyDeviceToDevice, state_of(backend)->stream),
        "copy");
}

/* Replaces a buffer by a larger one; its content is lost. */
static qzo_status grow(qzo_backend *backend, void **buffer, size_t *held_bytes,
                       size_t wanted_bytes) {
    if (wanted_bytes <= *held_bytes) return QZO_OK;
    cuda_release(backend, *buffer);
    *buffer = NULL;
    *held_bytes = 0;
    qzo_status status = cuda_allocate(backend, buffer, wanted_bytes);
    if (status == QZO_OK) *held_bytes = wanted_bytes;
    return status;
}

/* Attention keeps its scores in registers. */
static qzo_status cuda_reserve(qzo_backend *backend, int64_t context_max) {
    (void)backend, (void)context_max;
    return QZO_OK;
}

/* --- weights --- */

static size_t padded(size_t size_bytes) {
    return (size_bytes + PART_ALIGNMENT_BYTES - 1) / PART_ALIGNMENT_BYTES * PART_ALIGNMENT_BYTES;
}

static qzo_status load_gptq(qzo_backend *backend, qzo_weight *weight) {
    qzo_status status = QZO_OK;
    const qzo_qtensor *tensor = weight->tensor;
    size_t out_features = (size_t)tensor->out_features, in_features = (size_t)tensor->in_features;
    size_t codes_bytes = in_features / 8 * out_features * sizeof(uint32_t);
    size_t zeros_bytes = (size_t)tensor->group_count * (out_features / 8) * sizeof(uint32_t);
    size_t groups_bytes = in_features * sizeof(int32_t);
    QZO_TRY(cuda_allocate(backend, &weight->memory,
                          padded(codes_bytes) + padded(zeros_bytes) + groups_bytes));
    uint8_t *codes = weight->memory, *zeros = codes + padded(codes_bytes);
    uint8_t *groups = zeros + padded(zeros_bytes);
    QZO_TRY(cuda_upload(backend, codes, tensor->as.gptq.codes, codes_bytes));
    QZO_TRY(cuda_upload(backend, zeros, tensor->as.gptq.zeros, zeros_bytes));
    QZO_TRY(cuda_upload(backend, groups, tensor->as.gptq.group_of_input, groups_bytes));
    weight->gptq = (qzo_cuda_gptq){.codes = (const void *)codes,
                                   .zeros = (const void *)zeros,
                                   .group_of_input = (const void *)groups,
                                   .zero_correction = tensor->as.gptq.zero_correction,
                                   .out_features = tensor->out_features,
                                   .in_features = tensor->in_features,
                                   .group_count = tensor->group_count};
cleanup:
    return status;
}

static qzo_status load_dense(qzo_backend *backend, qzo_weight *weight) {
    qzo_status status = QZO_OK;
    const qzo_tensor_view *view = &weight->tensor->as.dense;
    switch (view->dtype) {
    case QZO_DTYPE_F32: weight->dtype = QZO_CUDA_F32; break;
    case QZO_DTYPE_F16: weight->dtype = QZO_CUDA_F16; break;
    case QZO_DTYPE_BF16: weight->dtype = QZO_CUDA_BF16; break;
    default:
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: the CUDA backend takes no %s", view->name,
                        qzo_dtype_name(view->dtype));
    }
    QZO_TRY(cuda_allocate(backend, &weight->memory, view->size_bytes));
    QZO_TRY(cuda_upload(backend, weight->memory, view->data, view->size_bytes));
cleanup:
    return status;
}

/* Buffers of the state that this weight's product will need. */
static qzo_status reserve_product(qzo_backend *backend, const qzo_weight *weight) {
    qzo_status status = QZO_OK;
    cuda_state *state = state_of(backend);
    const qzo_qtensor *tensor = weight->tensor;
    int64_t outputs = cuda_plan_tile_outputs(state->plan, tensor->in_features);
    if (outputs > tensor->out_features) outputs = tensor->out_features;
    void *tile = state->tile, *values = state->values;
    if (weight->is_gptq || weight->dtype != QZO_CUDA_F16) {
        status = grow(backend, &tile, &state->tile_bytes,
                      (size_t)(outputs * tensor->in_features) * sizeof(uint16_t));
        state->tile = tile;
        if (status != QZO_OK) return status;
    }
    status = grow(backend, &values, &state->values_bytes,
                  (size_t)(tensor->out_features * tensor->group_count) * sizeof(float));
    state->values = values;
    return status;
}

static void cuda_weight_free(qzo_backend *backend, qzo_weight *weight) {
    if (weight == NULL) return;
    cuda_release(backend, weight->memory);
    free(weight);
}

static const qzo_qtensor *cuda_weight_tensor(const qzo_weight *weight) { return weight->tensor; }

static qzo_status cuda_weight_load(qzo_backend *backend, qzo_weight **out,
                                   const qzo_qtensor *tensor) {
    qzo_status status = QZO_OK;
    qzo_weight *weight = NULL;
    bool is_gptq = tensor->format == &qzo_quant_gptq;
    if (!is_gptq && tensor->format != &qzo_quant_dense)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: the CUDA backend has no kernel for format %s",
                        tensor->name, tensor->format->name);
    if (tensor->out_features > INT_MAX || tensor->in_features > INT_MAX)
        return qzo_fail(QZO_ERR_LIMIT, "%s: (%lld, %lld), cuBLAS takes at most %d", tensor->name,
                        (long long)tensor->out_features, (long long)tensor->in_features, INT_MAX);
    weight = calloc(1, sizeof *weight);
    if (weight == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for a weight");
    weight->tensor = tensor;
    weight->is_gptq = is_gptq;
    QZO_TRY(is_gptq ? load_gptq(backend, weight) : load_dense(backend, weight));
    QZO_TRY(reserve_product(backend, weight));
    *out = weight;
    weight = NULL;
cleanup:
    cuda_weight_free(backend, weight);
    return status;
}

/* --- the other operations of the forward pass --- */

static qzo_status cuda_embed(qzo_backend *backend, float *residual, const qzo_weight *table,
                             const int32_t *ids, int64_t rows, float scale, bool add) {
    QZO_ASSERT(!table->is_gptq);
    return qzo_status_from_cuda(qzo_cuda_embed(residual, table->memory, ids, rows,
                                               table->tensor->in_features, table->dtype, scale, add,
                                               state_of(backend)->stream),
                                "embed");
}

static qzo_status cuda_norm(qzo_backend *backend, qzo_act *out, const float *residual,
                            const float *gain, const float *bias, int64_t rows, int64_t width,
                            qzo_norm_kind kind, float epsilon) {
    cudaStream_t stream = state_of(backend)->stream;
    return qzo_status_from_cuda(
        kind == QZO_NORM_LAYER
            ? qzo_cuda_norm_layer((void *)out, residual, gain, bias, rows, width, epsilon, stream)
            : qzo_cuda_norm_rms((void *)out, residual, gain, rows, width, epsilon, stream),
        "norm");
}

static qzo_status cuda_add_bias(qzo_backend *backend, qzo_act *x, const float *bias, int64_t rows,
                                int64_t width) {
    return qzo_status_from_cuda(
        qzo_cuda_add_bias((void *)x, bias, rows, width, state_of(backend)->stream), "add_bias");
}

static qzo_status cuda_select(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                              const int32_t *rows, int64_t row_count, int64_t x_width,
                              int64_t first, int64_t width) {
    return qzo_status_from_cuda(qzo_cuda_select((void *)out, (const void *)x, rows, row_count,
                                                x_width, first, width, state_of(backend)->stream),
                                "select");
}

static qzo_status cuda_rope(qzo_backend *backend, qzo_act *x, const int32_t *positions,
                            const float *table, int64_t rows, int64_t head_count,
                            int64_t head_dim) {
    return qzo_status_from_cuda(qzo_cuda_rope((void *)x, positions, table, rows, head_count,
                                              head_dim, state_of(backend)->stream),
                                "rope");
}

static qzo_status cuda_attention(qzo_backend *backend, qzo_act *out, const qzo_act *q,
                                 const qzo_act *k, const qzo_act *v, const qzo_attention *attention,
                                 int64_t queries) {
    if (attention->head_dim > QZO_CUDA_HEAD_DIM_MAX || attention->head_dim % 2 != 0)
        return qzo_fail(QZO_ERR_UNSUPPORTED,
                        "heads of %lld dimensions: the CUDA backend takes even ones up to %d",
                        (long long)attention->head_dim, QZO_CUDA_HEAD_DIM_MAX);
    qzo_cuda_attention shape = {.query_rows = attention->query_rows,
                                .prefix_begin = attention->prefix_begin,
                                .prefix_end = attention->prefix_end,
                                .own_begin = attention->own_begin,
                                .head_count = (int32_t)attention->head_count,
                                .kv_head_count = (int32_t)attention->kv_head_count,
                                .head_dim = (int32_t)attention->head_dim,
                                .scale = attention->scale,
                                .score_cap = attention->score_cap,
                                .window = attention->window};
    return qzo_status_from_cuda(qzo_cuda_attention_rows((void *)out, (const void *)q,
                                                        (const void *)k, (const void *)v, shape,
                                                        queries, state_of(backend)->stream),
                                "attention");
}

static qzo_status cuda_activate(qzo_backend *backend, qzo_act *gate, const qzo_act *up,
                                int64_t count, qzo_activation activation) {
    return qzo_status_from_cuda(qzo_cuda_activate((void *)gate, (const void *)up, count,
                                                  (qzo_cuda_activation)activation,
                                                  state_of(backend)->stream),
                                "activate");
}

static qzo_status cuda_add(qzo_backend *backend, float *residual, const qzo_act *x, int64_t count) {
    return qzo_status_from_cuda(
        qzo_cuda_add(residual, (const void *)x, count, state_of(backend)->stream), "add");
}

static qzo_status cuda_widen(qzo_backend *backend, float *out, const qzo_act *x, int64_t count) {
    return qzo_status_from_cuda(
        qzo_cuda_widen(out, (const void *)x, count, state_of(backend)->stream), "widen");
}

static qzo_status cuda_narrow(qzo_backend *backend, qzo_act *out, const float *x, int64_t count) {
    return qzo_status_from_cuda(qzo_cuda_narrow((void *)out, x, count, state_of(backend)->stream),
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
    for (int64_t first = 0; first < target_count; first += TARGETS_PER_LAUNCH) {
        int64_t left = target_count - first;
        int64_t count = left < TARGETS_PER_LAUNCH ? left : TARGETS_PER_LAUNCH;
        TRY_CUDA(qzo_cuda_log_probs(state->results, logits, target_row + first, target_id + first,
                                    count, vocab, state->stream));
        QZO_TRY(cuda_download(backend, out_host + first, state->results,
                              (size_t)count * sizeof(double)));
    }
cleanup:
    return status;
}

/* --- the optimizer --- */

static qzo_cuda_span span_of(const qzo_span *span) {
    return (qzo_cuda_span){.count = span->count,
                           .tensor_id = span->tensor_id,
                           .constraint = (qzo_cuda_constraint)span->constraint,
                           .floor = span->floor};
}

static qzo_status cuda_update(qzo_backend *backend, float *masters, const float *unit,
                              const qzo_span *spans, int64_t span_count, const qzo_gain *gains,
                              int64_t gain_count, qzo_directions directions) {
    qzo_status status = QZO_OK;
    const cuda_state *state = state_of(backend);
    if (gain_count > GAINS_MAX)
        return qzo_fail(QZO_ERR_LIMIT, "%lld records in a step, the CUDA backend takes %d",
                        (long long)gain_count, GAINS_MAX);
    QZO_TRY(cuda_upload(backend, state->gains, gains, (size_t)gain_count * sizeof *gains));
    for (int64_t i = 0; i < span_count; i++)
        TRY_CUDA(qzo_cuda_update(masters + spans[i].offset,
                                 unit == NULL ? NULL : unit + spans[i].offset, span_of(&spans[i]),
                                 state->gains, gain_count, directions == QZO_DIRECTIONS_RADEMACHER,
                                 state->stream));
cleanup:
    return status;
}

static qzo_status cuda_digest(qzo_backend *backend, uint64_t *out_host, const float *masters,
                              const qzo_span *spans, int64_t span_count) {
    qzo_status status = QZO_OK;
    const cuda_state *state = state_of(backend);
    TRY_CUDA(cudaMemsetAsync(state->digest, 0, sizeof *state->digest, state->stream));
    for (int64_t i = 0; i < span_count; i++)
        TRY_CUDA(qzo_cuda_digest(state->digest, masters + spans[i].offset, span_of(&spans[i]),
                                 state->stream));
    QZO_TRY(cuda_download(backend, out_host, state->digest, sizeof *out_host));
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
    if (state->cublas != NULL) cublasDestroy(state->cublas);
    void *const buffers[] = {state->workspace, state->tile,  state->values,
                             state->results,   state->gains, state->digest};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) cudaFree(buffers[i]);
    if (state->stream != NULL) cudaStreamDestroy(state->stream);
    free(state);
    free(backend);
}

static const qzo_backend_ops cuda_backend_ops = {
    .name = "cuda",
    .activation_bytes = sizeof(uint16_t),
    .arithmetic = cuda_arithmetic,
    .device = cuda_device,
    .close = cuda_close,
    .allocate = cuda_allocate,
    .release = cuda_release,
    .upload = cuda_upload,
    .download = cuda_download,
    .copy = cuda_copy,
    .reserve = cuda_reserve,
    .weight_load = cuda_weight_load,
    .weight_free = cuda_weight_free,
    .weight_tensor = cuda_weight_tensor,
    .embed = cuda_embed,
    .norm = cuda_norm,
    .linear = qzo_cuda_linear,
    .add_bias = cuda_add_bias,
    .select = cuda_select,
    .decode = qzo_cuda_decode,
    .rope = cuda_rope,
    .attention = cuda_attention,
    .activate = cuda_activate,
    .add = cuda_add,
    .widen = cuda_widen,
    .narrow = cuda_narrow,
    .gather = cuda_gather,
    .logits = qzo_cuda_logits,
    .soft_cap = cuda_soft_cap,
    .log_probs = cuda_log_probs,
    .update = cuda_update,
    .measure_peaks = qzo_cuda_measure_peaks,
    .digest = cuda_digest,
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

static qzo_status open_device(cuda_state *state, const qzo_backend_options *options) {
    qzo_status status = QZO_OK;
    int count = 0, version = 0;
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
    TRY_CUBLAS(cublasCreate(&state->cublas));
    TRY_CUBLAS(cublasGetVersion(state->cublas, &version));
    /* The number of multiprocessors tells apart variants of one name, for which cuBLAS may choose
     * other kernels; the toolkit's version stands for the compiler of ours. */
    snprintf(state->arithmetic, sizeof state->arithmetic,
             "cuda %s sm_%d%d x%d fp16 toolkit %d cublas %d plan " CUDA_PLAN_VERSION, device.name,
             device.major, device.minor, device.multiProcessorCount, CUDART_VERSION, version);
cleanup:
    return status;
}

/* Setting the stream takes a workspace away: the workspace comes second. */
static qzo_status open_buffers(qzo_backend *backend) {
    qzo_status status = QZO_OK;
    cuda_state *state = state_of(backend);
    void *results = NULL, *gains = NULL, *digest = NULL;
    TRY_CUBLAS(cublasSetStream(state->cublas, state->stream));
    QZO_TRY(cuda_allocate(backend, &state->workspace, QZO_CUDA_WORKSPACE_BYTES));
    TRY_CUBLAS(cublasSetWorkspace(state->cublas, state->workspace, QZO_CUDA_WORKSPACE_BYTES));
    TRY_CUBLAS(cublasSetMathMode(
        state->cublas, CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION));
    TRY_CUBLAS(cublasSetAtomicsMode(state->cublas, CUBLAS_ATOMICS_NOT_ALLOWED));
    QZO_TRY(cuda_allocate(backend, &results, TARGETS_PER_LAUNCH * sizeof(double)));
    state->results = results;
    QZO_TRY(cuda_allocate(backend, &gains, GAINS_MAX * sizeof(qzo_cuda_gain)));
    state->gains = gains;
    QZO_TRY(cuda_allocate(backend, &digest, sizeof(uint64_t)));
    state->digest = digest;
cleanup:
    return status;
}

static qzo_status backend_open(qzo_backend **out, const qzo_backend_options *options) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = calloc(1, sizeof *backend);
    cuda_state *state = calloc(1, sizeof *state);
    if (backend == NULL || state == NULL) {
        free(backend);
        free(state);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for the CUDA backend");
    }
    backend->ops = &cuda_backend_ops;
    backend->state = state;
    QZO_TRY(open_device(state, options));
    QZO_TRY(open_buffers(backend));
    QZO_TRY(qzo_cuda_check_bits(backend));
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
