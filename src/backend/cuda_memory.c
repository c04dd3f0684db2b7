/* Memory and weights of the CUDA backend; part of the CUDA module. Sizes come from cuda_sizes.h, so
 * that a plan and the device agree. */
#include "backend/cuda_state.h"
#include "base/check.h"

#include <stdlib.h>
#include <string.h>

enum { STAGE_BYTES = 16 << 20 };

/* --- memory --- */

qzo_status qzo_cuda_take(qzo_backend *backend, void **out, size_t size_bytes,
                         qzo_memory_kind kind) {
    qzo_status status = QZO_OK;
    size_t free_bytes = 0, total_bytes = 0;
    void *base = NULL;
    size_t taken_bytes = (size_bytes > 0 ? size_bytes : 1) + 2 * (size_t)CUDA_GUARD_BYTES;
    cudaError_t code = cudaMalloc(&base, taken_bytes);
    if (code == cudaErrorMemoryAllocation) {
        cudaGetLastError(); /* forgotten: the device itself is well */
        cudaMemGetInfo(&free_bytes, &total_bytes);
        return qzo_fail(QZO_ERR_MEMORY,
                        "out of device memory: %zu bytes wanted, %zu of %zu are free", size_bytes,
                        free_bytes, total_bytes);
    }
    TRY_CUDA(code);
    uint8_t *memory = (uint8_t *)base + CUDA_GUARD_BYTES;
    TRY_CUDA(cudaMemsetAsync(memory, 0, size_bytes, state_of(backend)->stream));
    QZO_TRY(qzo_cuda_guard_place(state_of(backend), memory, size_bytes));
    QZO_TRY(qzo_ledger_add(&state_of(backend)->ledger, memory, size_bytes, kind));
    *out = memory;
    base = NULL;
cleanup:
    if (base != NULL) cudaFree(base);
    return status;
}

qzo_status qzo_cuda_allocate(qzo_backend *backend, void **out, size_t size_bytes) {
    return qzo_cuda_take(backend, out, size_bytes, QZO_MEMORY_BUFFERS);
}

void qzo_cuda_release(qzo_backend *backend, void *memory) {
    if (memory == NULL) return;
    qzo_cuda_guard_release(state_of(backend), memory);
    qzo_ledger_remove(&state_of(backend)->ledger, memory);
    cudaFree((uint8_t *)memory - CUDA_GUARD_BYTES); /* waits for what uses it */
}

qzo_status qzo_cuda_memory_use(const qzo_backend *backend, qzo_memory_use *out) {
    qzo_status status = QZO_OK;
    size_t free_bytes = 0, total_bytes = 0;
    qzo_memory_use_fill(out, &state_of(backend)->ledger);
    TRY_CUDA(cudaMemGetInfo(&free_bytes, &total_bytes));
    out->device_bytes = (int64_t)total_bytes;
    out->device_used_bytes = (int64_t)(total_bytes - free_bytes);
cleanup:
    return status;
}

/* Waits: the source may be reused at once, whatever its kind of memory. */
qzo_status qzo_cuda_upload(qzo_backend *backend, void *out, const void *in_host,
                           size_t size_bytes) {
    qzo_status status = QZO_OK;
    cudaStream_t stream = state_of(backend)->stream;
    if (size_bytes == 0) return QZO_OK;
    TRY_CUDA(cudaMemcpyAsync(out, in_host, size_bytes, cudaMemcpyHostToDevice, stream));
    TRY_CUDA(cudaStreamSynchronize(stream));
cleanup:
    return status;
}

qzo_status qzo_cuda_download(qzo_backend *backend, void *out_host, const void *in,
                             size_t size_bytes) {
    qzo_status status = QZO_OK;
    cudaStream_t stream = state_of(backend)->stream;
    if (size_bytes > 0)
        TRY_CUDA(cudaMemcpyAsync(out_host, in, size_bytes, cudaMemcpyDeviceToHost, stream));
    TRY_CUDA(cudaStreamSynchronize(stream));
    QZO_TRY(qzo_cuda_guard_check(state_of(backend)));
cleanup:
    return status;
}

qzo_status qzo_cuda_copy(qzo_backend *backend, void *out, const void *in, size_t size_bytes) {
    if (size_bytes == 0) return QZO_OK;
    return qzo_status_from_cuda(
        cudaMemcpyAsync(out, in, size_bytes, cudaMemcpyDeviceToDevice, state_of(backend)->stream),
        "copy");
}

/* Replaces a buffer by a larger one; its content is lost. */
static qzo_status grow(qzo_backend *backend, void **buffer, size_t *held_bytes,
                       size_t wanted_bytes) {
    if (wanted_bytes <= *held_bytes) return QZO_OK;
    qzo_cuda_release(backend, *buffer);
    *buffer = NULL;
    *held_bytes = 0;
    qzo_status status = qzo_cuda_take(backend, buffer, wanted_bytes, QZO_MEMORY_SCRATCH);
    if (status == QZO_OK) *held_bytes = wanted_bytes;
    return status;
}

/* What products need of the weights loaded so far. */
static qzo_status reserve_scratch(qzo_backend *backend) {
    cuda_state *state = state_of(backend);
    void *tile = state->tile, *values = state->values;
    size_t signs = (size_t)state->signs;
    qzo_status status = grow(backend, &tile, &state->tile_held_bytes, signs * state->tile_bytes);
    state->tile = tile;
    if (status != QZO_OK) return status;
    status = grow(backend, &values, &state->values_held_bytes, signs * state->values_bytes);
    state->values = values;
    return status;
}

/* Attention keeps its scores in registers. */
qzo_status qzo_cuda_reserve(qzo_backend *backend, int64_t context_max, bool pair) {
    (void)context_max;
    if (pair) state_of(backend)->signs = 2;
    return reserve_scratch(backend);
}

/* --- from files to the device --- */

static qzo_status open_stage(cuda_state *state) {
    qzo_status status = QZO_OK;
    for (int i = 0; i < CUDA_STAGE_COUNT; i++) {
        void *memory = NULL;
        TRY_CUDA(cudaEventCreateWithFlags(&state->stage_free[i], cudaEventDisableTiming));
        TRY_CUDA(cudaHostAlloc(&memory, STAGE_BYTES, cudaHostAllocDefault));
        state->stage[i] = memory;
    }
cleanup:
    if (status != QZO_OK) qzo_cuda_stage_close(state);
    return status;
}

void qzo_cuda_stage_close(cuda_state *state) {
    for (int i = 0; i < CUDA_STAGE_COUNT; i++) {
        if (state->stage[i] != NULL) cudaFreeHost(state->stage[i]);
        if (state->stage_free[i] != NULL) cudaEventDestroy(state->stage_free[i]);
        state->stage[i] = NULL;
        state->stage_free[i] = NULL;
    }
}

/* From a file's mapping. The driver would copy such memory itself, and the transfer wait for it:
 * here the next piece is read from the file into one half of the stage while the device takes the
 * other. Returns while the last pieces travel; the file's bytes are not needed any more. */
static qzo_status upload_mapped(qzo_backend *backend, uint8_t *out, const void *mapped,
                                size_t size_bytes) {
    qzo_status status = QZO_OK;
    cuda_state *state = state_of(backend);
    const uint8_t *in = mapped;
    if (state->stage[0] == NULL) QZO_TRY(open_stage(state));
    for (size_t done = 0, bytes; done < size_bytes; done += bytes) {
        int half = state->stage_next;
        bytes = size_bytes - done < STAGE_BYTES ? size_bytes - done : STAGE_BYTES;
        TRY_CUDA(cudaEventSynchronize(state->stage_free[half])); /* at once where never used */
        memcpy(state->stage[half], in + done, bytes);
        TRY_CUDA(cudaMemcpyAsync(out + done, state->stage[half], bytes, cudaMemcpyHostToDevice,
                                 state->stream));
        TRY_CUDA(cudaEventRecord(state->stage_free[half], state->stream));
        state->stage_next = (half + 1) % CUDA_STAGE_COUNT;
    }
cleanup:
    return status;
}

/* --- weights --- */

/* qzo_cuda_gptq.inputs_per_group. A single group may end inside a chunk: past the last input there
 * is nothing to add. */
static int64_t inputs_per_group(const qzo_qtensor *tensor) {
    const int32_t *groups = tensor->as.gptq.group_of_input;
    int64_t inputs = tensor->in_features, length = 0;
    if (tensor->group_count == 1)
        return (inputs + QZO_CUDA_MMA_CHUNK - 1) / QZO_CUDA_MMA_CHUNK * QZO_CUDA_MMA_CHUNK;
    while (length < inputs && groups[length] == 0) length++;
    for (int64_t i = 0; i < inputs; i++)
        if (length == 0 || groups[i] != i / length) return 0;
    return length;
}

static qzo_status load_gptq(qzo_backend *backend, qzo_weight *weight,
                            const qzo_cuda_layout *layout) {
    qzo_status status = QZO_OK;
    const qzo_qtensor *tensor = weight->tensor;
    uint8_t *codes = weight->memory;
    uint8_t *zeros = codes + layout->zeros_at, *groups = codes + layout->groups_at;
    QZO_TRY(upload_mapped(backend, codes, tensor->as.gptq.codes, layout->codes_bytes));
    bool is_float = tensor->as.gptq.has_float_zeros;
    const void *zeros_host =
        is_float ? (const void *)tensor->as.gptq.float_zeros : tensor->as.gptq.zeros;
    QZO_TRY(upload_mapped(backend, zeros, zeros_host, layout->zeros_bytes));
    QZO_TRY(upload_mapped(backend, groups, tensor->as.gptq.group_of_input, layout->groups_bytes));
    weight->as.gptq = (qzo_cuda_gptq){.bits = tensor->as.gptq.bits,
                                      .codes = (const void *)codes,
                                      .zeros = is_float ? NULL : (const void *)zeros,
                                      .float_zeros = is_float ? (const void *)zeros : NULL,
                                      .group_of_input = (const void *)groups,
                                      .zero_correction = tensor->as.gptq.zero_correction,
                                      .out_features = tensor->out_features,
                                      .in_features = tensor->in_features,
                                      .group_count = tensor->group_count,
                                      .inputs_per_group = inputs_per_group(tensor)};
cleanup:
    return status;
}

static qzo_status load_bnb(qzo_backend *backend, qzo_weight *weight,
                           const qzo_cuda_layout *layout) {
    const qzo_qtensor *tensor = weight->tensor;
    const qzo_bnb_tensor *bnb = &tensor->as.bnb;
    weight->as.bnb = (qzo_cuda_bnb){
        .codes = weight->memory, .block = bnb->block, .in_features = tensor->in_features};
    memcpy(weight->as.bnb.levels, bnb->levels, sizeof bnb->levels);
    return upload_mapped(backend, weight->memory, bnb->codes, layout->codes_bytes);
}

static qzo_status load_aqlm(qzo_backend *backend, qzo_weight *weight,
                            const qzo_cuda_layout *layout) {
    qzo_status status = QZO_OK;
    const qzo_aqlm_layout *aqlm = &weight->tensor->as.aqlm.layout;
    uint8_t *codes = weight->memory, *codebooks = codes + layout->codebooks_at;
    QZO_TRY(upload_mapped(backend, codes, aqlm->codes, layout->codes_bytes));
    QZO_TRY(upload_mapped(backend, codebooks, aqlm->codebooks, layout->codebooks_bytes));
    weight->as.aqlm = (qzo_cuda_aqlm){.layout = *aqlm, .in_features = weight->tensor->in_features};
    weight->as.aqlm.layout.codes = codes;
    weight->as.aqlm.layout.codebooks = (const void *)codebooks;
cleanup:
    return status;
}

static qzo_status load_gguf(qzo_backend *backend, qzo_weight *weight,
                            const qzo_cuda_layout *layout) {
    const qzo_gguf_blocks *gguf = &weight->tensor->as.gguf.layout;
    weight->as.gguf = *gguf;
    weight->as.gguf.blocks = weight->memory;
    return upload_mapped(backend, weight->memory, gguf->blocks, layout->codes_bytes);
}

static qzo_status load_dense(qzo_backend *backend, qzo_weight *weight) {
    const qzo_tensor_view *view = &weight->tensor->as.dense;
    if (weight->tensor->group_count > 0) return QZO_OK; /* the masters hold every element */
    weight->as.dtype = view->dtype == QZO_DTYPE_F32   ? QZO_CUDA_F32
                       : view->dtype == QZO_DTYPE_F16 ? QZO_CUDA_F16
                                                      : QZO_CUDA_BF16;
    return upload_mapped(backend, weight->memory, view->data, view->size_bytes);
}

static qzo_status load_parts(qzo_backend *backend, qzo_weight *weight,
                             const qzo_cuda_layout *layout) {
    switch (weight->tensor->format->layout) {
    case QZO_LAYOUT_GPTQ: return load_gptq(backend, weight, layout);
    case QZO_LAYOUT_BNB: return load_bnb(backend, weight, layout);
    case QZO_LAYOUT_AQLM: return load_aqlm(backend, weight, layout);
    case QZO_LAYOUT_GGUF: return load_gguf(backend, weight, layout);
    default: return load_dense(backend, weight);
    }
}

void qzo_cuda_weight_free(qzo_backend *backend, qzo_weight *weight) {
    if (weight == NULL) return;
    qzo_cuda_release(backend, weight->memory);
    free(weight);
}

const qzo_qtensor *qzo_cuda_weight_tensor(const qzo_weight *weight) { return weight->tensor; }

static qzo_dtype act_dtype(const cuda_state *state) {
    return state->act == QZO_CUDA_BF16 ? QZO_DTYPE_BF16 : QZO_DTYPE_F16;
}

qzo_status qzo_cuda_weight_load(qzo_backend *backend, qzo_weight **out, const qzo_qtensor *tensor) {
    qzo_status status = QZO_OK;
    cuda_state *state = state_of(backend);
    qzo_cuda_layout layout;
    qzo_weight *weight = calloc(1, sizeof *weight);
    if (weight == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for a weight");
    QZO_TRY(qzo_cuda_layout_of(&layout, tensor, act_dtype(state_of(backend))));
    weight->tensor = tensor;
    QZO_TRY(qzo_cuda_take(backend, &weight->memory, layout.total_bytes, QZO_MEMORY_WEIGHTS));
    QZO_TRY(load_parts(backend, weight, &layout));
    qzo_cuda_scratch_raise(&state->tile_bytes, qzo_cuda_tile_bytes(&layout, state->plan));
    qzo_cuda_scratch_raise(&state->values_bytes, layout.values_bytes);
    QZO_TRY(reserve_scratch(backend));
    *out = weight;
    weight = NULL;
cleanup:
    qzo_cuda_weight_free(backend, weight);
    return status;
}
