/* The CUDA backend's memory without a device: what a model, a task and a batch would take, for
 * plans. Sizes are those of cuda_sizes.h, which the backend itself allocates; nothing computes. */
#include "backend/backend.h"
#include "backend/cuda_sizes.h"
#include "backend/ledger.h"

#include <stdlib.h>
#include <string.h>

typedef struct dry_state {
    qzo_backend_ops ops; /* the table, with the backend's name */
    qzo_dtype act;       /* of activations and decoded weights */
    qzo_ledger ledger;
    void *fixed[CUDA_FIXED_COUNT];
    void *tile, *values;
    size_t tile_bytes, values_bytes, tile_held_bytes, values_held_bytes;
    int signs; /* as cuda_state has these */
} dry_state;

struct qzo_weight {
    void *memory;
};

static dry_state *state_of(const qzo_backend *backend) { return backend->state; }

/* One byte stands for all: nobody may look into a device's memory. */
static qzo_status take(qzo_backend *backend, void **out, size_t size_bytes, qzo_memory_kind kind) {
    void *memory = calloc(1, 1);
    qzo_status status = memory != NULL
                            ? qzo_ledger_add(&state_of(backend)->ledger, memory, size_bytes, kind)
                            : qzo_fail(QZO_ERR_MEMORY, "out of memory for a plan");
    if (status != QZO_OK) {
        free(memory);
        return status;
    }
    *out = memory;
    return QZO_OK;
}

static qzo_status dry_allocate(qzo_backend *backend, void **out, size_t size_bytes) {
    return take(backend, out, size_bytes, QZO_MEMORY_BUFFERS);
}

static void dry_release(qzo_backend *backend, void *memory) {
    qzo_ledger_remove(&state_of(backend)->ledger, memory);
    free(memory);
}

static qzo_status dry_transfer(qzo_backend *backend, void *out, const void *in, size_t size_bytes) {
    (void)backend, (void)out, (void)in, (void)size_bytes;
    return QZO_OK;
}

static qzo_status grow(qzo_backend *backend, void **buffer, size_t *held_bytes,
                       size_t wanted_bytes) {
    if (wanted_bytes <= *held_bytes) return QZO_OK;
    dry_release(backend, *buffer);
    *buffer = NULL;
    *held_bytes = 0;
    qzo_status status = take(backend, buffer, wanted_bytes, QZO_MEMORY_SCRATCH);
    if (status == QZO_OK) *held_bytes = wanted_bytes;
    return status;
}

static qzo_status reserve_scratch(qzo_backend *backend) {
    dry_state *state = state_of(backend);
    size_t signs = (size_t)state->signs;
    qzo_status status =
        grow(backend, &state->tile, &state->tile_held_bytes, signs * state->tile_bytes);
    if (status != QZO_OK) return status;
    return grow(backend, &state->values, &state->values_held_bytes, signs * state->values_bytes);
}

static qzo_status dry_reserve(qzo_backend *backend, int64_t context_max, bool pair) {
    (void)context_max;
    if (pair) state_of(backend)->signs = 2;
    return reserve_scratch(backend);
}

/* The device is not known yet: the largest tile of any. */
static size_t largest_tile_bytes(const qzo_cuda_layout *layout) {
    size_t largest_bytes = 0;
    for (size_t i = 0; i < sizeof cuda_plans / sizeof *cuda_plans; i++) {
        size_t tile_bytes = qzo_cuda_tile_bytes(layout, &cuda_plans[i]);
        if (tile_bytes > largest_bytes) largest_bytes = tile_bytes;
    }
    return largest_bytes;
}

static void dry_weight_free(qzo_backend *backend, qzo_weight *weight) {
    if (weight == NULL) return;
    dry_release(backend, weight->memory);
    free(weight);
}

static qzo_status dry_weight_load(qzo_backend *backend, qzo_weight **out,
                                  const qzo_qtensor *tensor) {
    qzo_status status = QZO_OK;
    dry_state *state = state_of(backend);
    qzo_cuda_layout layout;
    qzo_weight *weight = calloc(1, sizeof *weight);
    if (weight == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for a plan");
    QZO_TRY(qzo_cuda_layout_of(&layout, tensor, state->act));
    QZO_TRY(take(backend, &weight->memory, layout.total_bytes, QZO_MEMORY_WEIGHTS));
    qzo_cuda_scratch_raise(&state->tile_bytes, largest_tile_bytes(&layout));
    qzo_cuda_scratch_raise(&state->values_bytes, layout.values_bytes);
    QZO_TRY(reserve_scratch(backend));
    *out = weight;
    weight = NULL;
cleanup:
    dry_weight_free(backend, weight);
    return status;
}

static qzo_status dry_memory_use(const qzo_backend *backend, qzo_memory_use *out_host) {
    qzo_memory_use_fill(out_host, &state_of(backend)->ledger);
    return QZO_OK;
}

static const char *dry_arithmetic(const qzo_backend *backend) {
    (void)backend;
    return "cuda, planned";
}

static void dry_close(qzo_backend *backend) {
    dry_state *state = state_of(backend);
    for (int i = 0; i < CUDA_FIXED_COUNT; i++) dry_release(backend, state->fixed[i]);
    dry_release(backend, state->tile);
    dry_release(backend, state->values);
    qzo_ledger_release(&state->ledger);
    free(state);
    free(backend);
}

static const qzo_backend_ops dry_ops = {
    .name = QZO_BACKEND_CUDA,
    .activation_bytes = sizeof(uint16_t),
    .library_memory = qzo_cuda_library_memory,
    .arithmetic = dry_arithmetic,
    .close = dry_close,
    .memory_use = dry_memory_use,
    .allocate = dry_allocate,
    .release = dry_release,
    .upload = dry_transfer,
    .download = dry_transfer,
    .copy = dry_transfer,
    .check_heads = qzo_cuda_check_heads,
    .reserve = dry_reserve,
    .weight_load = dry_weight_load,
    .weight_free = dry_weight_free,
};

qzo_status qzo_backend_cuda_dry_open(qzo_backend **out, bool is_bf16) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = calloc(1, sizeof *backend);
    dry_state *state = calloc(1, sizeof *state);
    if (backend == NULL || state == NULL) {
        free(backend);
        free(state);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for a plan");
    }
    state->act = is_bf16 ? QZO_DTYPE_BF16 : QZO_DTYPE_F16;
    state->ops = dry_ops;
    if (is_bf16) state->ops.name = QZO_BACKEND_CUDA_BF16;
    *backend = (qzo_backend){.ops = &state->ops,
                             .state = state,
                             .dry = true,
                             .pair_rows_max = cuda_plan_pair_rows_max()};
    state->signs = 1;
    for (int i = 0; i < CUDA_FIXED_COUNT; i++)
        QZO_TRY(take(backend, &state->fixed[i], qzo_cuda_fixed_bytes[i], QZO_MEMORY_SCRATCH));
    *out = backend;
    backend = NULL;
cleanup:
    if (backend != NULL) dry_close(backend);
    return status;
}
