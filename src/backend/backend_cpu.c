/* Lifetime, memory and threading of the CPU backend; the loops are in cpu_ops_*.c.
 *
 * Work is cut into pieces whose results do not depend on each other: tiles of outputs, blocks of
 * rows, blocks of elements. Partial digests are added modulo 2^64, so their order does not matter.
 */
#include "backend/cpu_state.h"
#include "base/check.h"
#include "base/cpu.h"
#include "base/update.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_PER_PIECE = 16 };

int64_t qzo_cpu_linear_scratch_floats(const qzo_qtensor *weight) {
    /* One that is not quantized may come to train: room for a row of its values. */
    bool is_dense = weight->format->layout == QZO_LAYOUT_DENSE;
    int64_t groups = is_dense ? weight->in_features : weight->group_count;
    int64_t tile = CPU_LINEAR_TILE_MAX * (CPU_LINEAR_K_BLOCK + (is_dense ? 0 : 3 * groups));
    if (is_dense) tile += CPU_LINEAR_K_BLOCK;
    int64_t row = weight->in_features + groups;
    return tile > row ? tile : row;
}

/* --- lifetime and memory --- */

static qzo_status take(qzo_backend *backend, void **out, size_t size_bytes, qzo_memory_kind kind) {
    size_t held_bytes = backend->dry ? 0 : size_bytes;
    size_t rounded =
        (held_bytes + CPU_ALIGNMENT_BYTES - 1) / CPU_ALIGNMENT_BYTES * CPU_ALIGNMENT_BYTES;
    if (rounded == 0) rounded = CPU_ALIGNMENT_BYTES;
    void *memory = aligned_alloc(CPU_ALIGNMENT_BYTES, rounded);
    if (memory == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu bytes", size_bytes);
    memset(memory, 0, rounded);
    qzo_status status = qzo_ledger_add(&state_of(backend)->ledger, memory, size_bytes, kind);
    if (status != QZO_OK) {
        free(memory);
        return status;
    }
    *out = memory;
    return QZO_OK;
}

static qzo_status cpu_allocate(qzo_backend *backend, void **out, size_t size_bytes) {
    return take(backend, out, size_bytes, QZO_MEMORY_BUFFERS);
}

static void cpu_release(qzo_backend *backend, void *memory) {
    qzo_ledger_remove(&state_of(backend)->ledger, memory);
    free(memory);
}

static qzo_status cpu_memory_use(const qzo_backend *backend, qzo_memory_use *out_host) {
    qzo_memory_use_fill(out_host, &state_of(backend)->ledger);
    return QZO_OK;
}

static qzo_status cpu_transfer(qzo_backend *backend, void *out, const void *in, size_t size_bytes) {
    if (size_bytes > 0 && !backend->dry) memcpy(out, in, size_bytes);
    return QZO_OK;
}

/* Replaces a buffer by a larger one; its content is lost. */
static qzo_status grow(qzo_backend *backend, void **buffer, size_t size_bytes) {
    cpu_release(backend, *buffer);
    *buffer = NULL;
    return take(backend, buffer, size_bytes, QZO_MEMORY_SCRATCH);
}

static qzo_status grow_scratch(qzo_backend *backend, int64_t floats) {
    cpu_state *state = state_of(backend);
    if (floats <= state->scratch_floats) return QZO_OK;
    int64_t line = CPU_ALIGNMENT_BYTES / (int64_t)sizeof(float);
    floats = (floats + line - 1) / line * line;
    void *scratch = state->scratch;
    size_t size_bytes = (size_t)floats * sizeof(float) * (size_t)qzo_thread_pool_size(state->pool);
    qzo_status status = grow(backend, &scratch, size_bytes);
    state->scratch = scratch;
    state->scratch_floats = status == QZO_OK ? floats : 0;
    return status;
}

static qzo_status grow_packed(qzo_backend *backend, int64_t size_bytes) {
    cpu_state *state = state_of(backend);
    if (size_bytes <= state->packed_bytes) return QZO_OK;
    void *packed = state->packed;
    qzo_status status = grow(backend, &packed, (size_t)size_bytes);
    state->packed = packed;
    state->packed_bytes = status == QZO_OK ? size_bytes : 0;
    return status;
}

static qzo_status cpu_reserve(qzo_backend *backend, int64_t context_max, bool pair) {
    (void)pair;
    return grow_scratch(backend, qzo_cpu_attention_scratch_floats(context_max));
}

static qzo_status cpu_weight_load(qzo_backend *backend, qzo_weight **out,
                                  const qzo_qtensor *tensor) {
    qzo_status status = QZO_OK;
    const cpu_bf16_ops *bf16 = state_of(backend)->bf16;
    QZO_TRY(grow_scratch(backend, bf16 != NULL ? bf16->scratch_floats(tensor)
                                               : qzo_cpu_linear_scratch_floats(tensor)));
    if (bf16 != NULL) QZO_TRY(grow_packed(backend, bf16->packed_bytes(tensor)));
    *out = calloc(1, sizeof **out);
    if (*out == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for a weight");
    (*out)->tensor = tensor;
cleanup:
    return status;
}

static void cpu_weight_free(qzo_backend *backend, qzo_weight *weight) {
    (void)backend;
    free(weight);
}

static const qzo_qtensor *cpu_weight_tensor(const qzo_weight *weight) { return weight->tensor; }

/* The same for every instruction set, since they give the same bits. The number changes with any
 * change of an order of summation or of a polynomial. */
static const char *cpu_arithmetic(const qzo_backend *backend) {
    return state_of(backend)->bf16 != NULL ? "cpu bf16 2" : "cpu fp32 2";
}

static void cpu_close(qzo_backend *backend) {
    cpu_state *state = state_of(backend);
    if (state != NULL) {
        qzo_thread_pool_close(state->pool);
        cpu_release(backend, state->scratch);
        cpu_release(backend, state->packed);
        qzo_ledger_release(&state->ledger);
        free(state);
    }
    free(backend);
}

/* --- operations by blocks of rows --- */

/* What the pieces of one call share; each operation uses its part. */
typedef struct row_job {
    const cpu_state *state;
    float *out;
    const float *a, *b, *c;
    const int32_t *indices;
    const qzo_weight *weight;
    qzo_perturbation perturbation;
    int64_t rows, width, head_count, head_dim;
    int64_t x_width, first; /* of rows that are selected from */
    float epsilon, scale;
    bool add;
} row_job;

typedef void row_function(const row_job *job, int64_t row, float *scratch);

typedef struct row_call {
    const row_job *job;
    row_function *function;
} row_call;

static void row_piece(void *context, int64_t piece, int thread) {
    const row_call *call = context;
    int64_t end = (piece + 1) * ROWS_PER_PIECE;
    if (end > call->job->rows) end = call->job->rows;
    float *scratch = scratch_of(call->job->state, thread);
    for (int64_t row = piece * ROWS_PER_PIECE; row < end; row++)
        call->function(call->job, row, scratch);
}

static void run_rows(const row_job *job, row_function *function) {
    row_call call = {.job = job, .function = function};
    int64_t pieces = (job->rows + ROWS_PER_PIECE - 1) / ROWS_PER_PIECE;
    qzo_thread_pool_run(job->state->pool, pieces, row_piece, &call);
}

/* The perturbation of a tensor's values. */
static qzo_perturbation of_group(const qzo_perturbation *perturbation, const qzo_qtensor *tensor) {
    qzo_perturbation own = *perturbation;
    own.c = qzo_value_group_c(tensor->group, own.c);
    return own;
}

/* out (count) = elements first and on of the tensor's values. */
static void perturb(float *out, const qzo_qtensor *tensor, const float *masters,
                    const qzo_perturbation *perturbation, int64_t first, int64_t count) {
    masters += tensor->span_offset + first;
    if (perturbation->c == 0.0f) {
        memcpy(out, masters, (size_t)count * sizeof *out);
        return;
    }
    qzo_noise_fill(out, perturbation->seed, tensor->tensor_id, (uint64_t)first, count,
                   perturbation->directions);
    const float *unit = perturbation->unit;
    if (unit != NULL) unit += tensor->span_offset + first;
    for (int64_t i = 0; i < count; i++) {
        float z = unit == NULL ? out[i] : qzo_scaled_direction(unit[i], out[i]);
        out[i] = qzo_perturbed(masters[i], perturbation->c, z);
    }
}

/* scratch: one row of the table; weight_load made room for it. */
static void embed_row(const row_job *job, int64_t row, float *scratch) {
    const qzo_qtensor *table = job->weight->tensor;
    float *out = job->out + row * job->width;
    int64_t id = job->indices[row];
    if (table->format->layout != QZO_LAYOUT_DENSE) /* its values are at rest */
        table->format->decode_row(scratch, table, id,
                                  job->a + table->span_offset + id * table->group_count);
    else if (table->group_count > 0)
        perturb(scratch, table, job->a, &job->perturbation, id * job->width, job->width);
    else
        table->format->decode_row(scratch, table, id, NULL);
    for (int64_t i = 0; i < job->width; i++) {
        float value = job->scale * scratch[i];
        out[i] = job->add ? out[i] + value : value;
    }
}

static qzo_status cpu_embed(qzo_backend *backend, float *residual, const qzo_weight *table,
                            const float *masters, const qzo_perturbation *perturbation,
                            const int32_t *ids, int64_t rows, float scale, bool add) {
    QZO_ASSERT(table->tensor->format->layout == QZO_LAYOUT_DENSE ||
               table->tensor->span == QZO_SPAN_NONE);
    row_job job = {.state = state_of(backend),
                   .out = residual,
                   .a = masters,
                   .indices = ids,
                   .weight = table,
                   .perturbation = of_group(perturbation, table->tensor),
                   .rows = rows,
                   .width = table->tensor->in_features,
                   .scale = scale,
                   .add = add};
    run_rows(&job, embed_row);
    return QZO_OK;
}

static qzo_status cpu_perturb(qzo_backend *backend, float *out, const qzo_qtensor *tensor,
                              const float *masters, const qzo_perturbation *perturbation) {
    (void)backend;
    QZO_ASSERT(tensor->out_features == 1 && tensor->group_count == tensor->in_features);
    qzo_perturbation own = of_group(perturbation, tensor);
    perturb(out, tensor, masters, &own, 0, tensor->in_features);
    return QZO_OK;
}

static void norm_rms_one(const row_job *job, int64_t row, float *scratch) {
    (void)scratch;
    job->state->ops->norm_row(job->out + row * job->width, job->a + row * job->width, job->b,
                              job->width, job->epsilon);
}

static void norm_layer_one(const row_job *job, int64_t row, float *scratch) {
    (void)scratch;
    job->state->ops->layer_norm_row(job->out + row * job->width, job->a + row * job->width, job->b,
                                    job->c, job->width, job->epsilon);
}

static qzo_status cpu_norm(qzo_backend *backend, qzo_act *out, const float *residual,
                           const float *gain, const float *bias, int64_t rows, int64_t width,
                           qzo_norm_kind kind, float epsilon) {
    row_job job = {.state = state_of(backend),
                   .out = (float *)out,
                   .a = residual,
                   .b = gain,
                   .c = bias,
                   .rows = rows,
                   .width = width,
                   .epsilon = epsilon};
    run_rows(&job, kind == QZO_NORM_LAYER ? norm_layer_one : norm_rms_one);
    return QZO_OK;
}

static void bias_one(const row_job *job, int64_t row, float *scratch) {
    (void)scratch;
    job->state->ops->add(job->out + row * job->width, job->a, job->width);
}

static qzo_status cpu_add_bias(qzo_backend *backend, qzo_act *x, const float *bias, int64_t rows,
                               int64_t width) {
    row_job job = {
        .state = state_of(backend), .out = (float *)x, .a = bias, .rows = rows, .width = width};
    run_rows(&job, bias_one);
    return QZO_OK;
}

static void select_one(const row_job *job, int64_t row, float *scratch) {
    (void)scratch;
    int64_t from = job->indices != NULL ? job->indices[row] : row;
    memcpy(job->out + row * job->width, job->a + from * job->x_width + job->first,
           (size_t)job->width * sizeof(float));
}

static qzo_status cpu_select(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                             const int32_t *rows, int64_t row_count, int64_t x_width, int64_t first,
                             int64_t width) {
    row_job job = {.state = state_of(backend),
                   .out = (float *)out,
                   .a = (const float *)x,
                   .indices = rows,
                   .rows = row_count,
                   .width = width,
                   .x_width = x_width,
                   .first = first};
    run_rows(&job, select_one);
    return QZO_OK;
}

static void rope_one(const row_job *job, int64_t row, float *scratch) {
    (void)scratch;
    const float *table_row = job->a + (int64_t)job->indices[row] * job->head_dim;
    job->state->ops->rope_row(job->out + row * job->head_count * job->head_dim, table_row,
                              job->head_count, job->head_dim);
}

static qzo_status cpu_rope(qzo_backend *backend, qzo_act *x, const int32_t *positions,
                           const float *table, int64_t rows, int64_t head_count, int64_t head_dim) {
    row_job job = {.state = state_of(backend),
                   .out = (float *)x,
                   .a = table,
                   .indices = positions,
                   .rows = rows,
                   .head_count = head_count,
                   .head_dim = head_dim};
    run_rows(&job, rope_one);
    return QZO_OK;
}

static qzo_status cpu_gather(qzo_backend *backend, float *out, const float *residual,
                             const int32_t *rows, int64_t row_count, int64_t width) {
    return cpu_select(backend, (qzo_act *)out, (const qzo_act *)residual, rows, row_count, width, 0,
                      width);
}

/* --- matrix product --- */

typedef struct linear_call {
    const cpu_state *state;
    cpu_linear job;
} linear_call;

static void linear_piece(void *context, int64_t piece, int thread) {
    const linear_call *call = context;
    const cpu_ops *ops = call->state->ops;
    ops->linear_tile(&call->job, piece * ops->linear_tile_rows, scratch_of(call->state, thread));
}

static qzo_status cpu_linear_op(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                                const qzo_weight *weight, const float *masters,
                                const qzo_perturbation *perturbation, int64_t rows) {
    const cpu_state *state = state_of(backend);
    linear_call call = {.state = state,
                        .job = {.out = (float *)out,
                                .x = (const float *)x,
                                .weight = weight->tensor,
                                .masters = masters,
                                .perturbation = of_group(perturbation, weight->tensor),
                                .rows = rows,
                                .packed = state->packed}};
    if (state->bf16 != NULL) {
        qzo_cpu_bf16_linear(state->bf16, state->pool, &call.job, state->scratch,
                            state->scratch_floats);
        return QZO_OK;
    }
    int64_t tile = call.state->ops->linear_tile_rows;
    int64_t pieces = (weight->tensor->out_features + tile - 1) / tile;
    qzo_thread_pool_run(call.state->pool, pieces, linear_piece, &call);
    return QZO_OK;
}

/* A product with no rows decodes every tile and multiplies nothing. */
static qzo_status cpu_decode(qzo_backend *backend, const qzo_weight *weight, const float *masters,
                             const qzo_perturbation *perturbation, int64_t rows, bool pair) {
    (void)rows, (void)pair;
    return cpu_linear_op(backend, NULL, NULL, weight, masters, perturbation, 0);
}

static qzo_status cpu_logits(qzo_backend *backend, float *out, const qzo_act *x,
                             const qzo_weight *head, const float *masters,
                             const qzo_perturbation *perturbation, int64_t rows) {
    return cpu_linear_op(backend, (qzo_act *)out, x, head, masters, perturbation, rows);
}

static qzo_status cpu_log_probs(qzo_backend *backend, double *out_host, const float *logits,
                                const int32_t *target_row, const int32_t *target_id,
                                int64_t target_count, int64_t vocab) {
    double log_sum = 0.0;
    for (int64_t i = 0; i < target_count; i++) {
        const float *row = logits + target_row[i] * vocab;
        if (i == 0 || target_row[i] != target_row[i - 1])
            log_sum = state_of(backend)->ops->log_sum_exp(row, vocab);
        out_host[i] = (double)row[target_id[i]] - log_sum;
    }
    return QZO_OK;
}

/* --- the optimizer --- */

typedef struct span_job {
    const cpu_state *state;
    const qzo_update_values *values; /* where it updates */
    const float *masters;
    const qzo_span *span;
    const qzo_gain *gains;
    int64_t gain_count;
    qzo_directions directions;
    bool updates, digests;
    atomic_uint_fast64_t digest;
} span_job;

static int64_t block_count(const qzo_span *span) {
    return (span->count + CPU_UPDATE_BLOCK - 1) / CPU_UPDATE_BLOCK;
}

static int64_t block_size(const qzo_span *span, int64_t first) {
    int64_t left = span->count - first;
    return left < CPU_UPDATE_BLOCK ? left : CPU_UPDATE_BLOCK;
}

static void span_piece(void *context, int64_t piece, int thread) {
    (void)thread;
    span_job *job = context;
    const cpu_ops *ops = job->state->ops;
    int64_t first = piece * CPU_UPDATE_BLOCK, offset = job->span->offset + first;
    int64_t count = block_size(job->span, first);
    if (job->updates) {
        const qzo_update_values *all = job->values;
        const qzo_update_values block = {.masters = all->masters + offset,
                                         .unit = all->unit == NULL ? NULL : all->unit + offset,
                                         .velocity =
                                             all->velocity == NULL ? NULL : all->velocity + offset,
                                         .decay = all->decay};
        ops->update_block(&block, job->span, first, count, job->gains, job->gain_count,
                          job->directions);
    }
    if (job->digests)
        atomic_fetch_add(&job->digest,
                         ops->digest_block(job->masters + offset, job->span, first, count));
}

static qzo_status cpu_update(qzo_backend *backend, const qzo_update_values *values,
                             const qzo_span *spans, int64_t span_count, const qzo_gain *gains,
                             int64_t gain_count, qzo_directions directions, uint64_t *digest_host) {
    span_job job = {.state = state_of(backend),
                    .values = values,
                    .masters = values->masters,
                    .gains = gains,
                    .gain_count = gain_count,
                    .directions = directions,
                    .digests = digest_host != NULL};
    atomic_init(&job.digest, 0);
    for (int64_t i = 0; i < span_count; i++) {
        job.span = &spans[i];
        job.updates = job.span->group == NULL || job.span->group->is_active;
        if (job.updates || job.digests)
            qzo_thread_pool_run(job.state->pool, block_count(job.span), span_piece, &job);
    }
    if (digest_host != NULL) *digest_host = atomic_load(&job.digest);
    return QZO_OK;
}

static qzo_status cpu_digest(qzo_backend *backend, uint64_t *out_host, const float *masters,
                             const qzo_span *spans, int64_t span_count) {
    span_job job = {.state = state_of(backend), .masters = masters, .digests = true};
    atomic_init(&job.digest, 0);
    for (int64_t i = 0; i < span_count; i++) {
        job.span = &spans[i];
        qzo_thread_pool_run(job.state->pool, block_count(job.span), span_piece, &job);
    }
    *out_host = atomic_load(&job.digest);
    return QZO_OK;
}

static const qzo_backend_ops cpu_backend_ops = {
    .name = "cpu",
    .activation_bytes = sizeof(float),
    .arithmetic = cpu_arithmetic,
    .close = cpu_close,
    .memory_use = cpu_memory_use,
    .allocate = cpu_allocate,
    .release = cpu_release,
    .upload = cpu_transfer,
    .download = cpu_transfer,
    .copy = cpu_transfer,
    .check_heads = qzo_cpu_check_heads,
    .reserve = cpu_reserve,
    .weight_load = cpu_weight_load,
    .weight_free = cpu_weight_free,
    .weight_tensor = cpu_weight_tensor,
    .embed = cpu_embed,
    .perturb = cpu_perturb,
    .norm = cpu_norm,
    .modulate = qzo_cpu_modulate,
    .add_gated = qzo_cpu_add_gated,
    .linear = cpu_linear_op,
    .add_bias = cpu_add_bias,
    .select = cpu_select,
    .scatter = qzo_cpu_scatter,
    .decode = cpu_decode,
    .rope = cpu_rope,
    .attention = qzo_cpu_attention,
    .activate = qzo_cpu_activate,
    .add_scaled = qzo_cpu_add_scaled,
    .add = qzo_cpu_add,
    .widen = qzo_cpu_widen,
    .narrow = qzo_cpu_narrow,
    .gather = cpu_gather,
    .logits = cpu_logits,
    .soft_cap = qzo_cpu_soft_cap,
    .log_probs = cpu_log_probs,
    .update = cpu_update,
    .measure_peaks = qzo_cpu_measure_peaks,
    .digest = cpu_digest,
};

static const cpu_ops *best_ops(void) {
#if defined(__x86_64__)
    if (qzo_cpu() >= QZO_CPU_AVX512) return &qzo_cpu_ops_avx512;
    if (qzo_cpu() >= QZO_CPU_AVX2) return &qzo_cpu_ops_avx2;
#endif
    return &qzo_cpu_ops_reference;
}

static qzo_status open_with(qzo_backend **out, const qzo_backend_options *options,
                            const cpu_bf16_ops *bf16) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = NULL;
    QZO_TRY(qzo_cpu_check_float_mode());
    backend = calloc(1, sizeof *backend);
    cpu_state *state = calloc(1, sizeof *state);
    if (backend == NULL || state == NULL) {
        free(backend);
        free(state);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for the CPU backend");
    }
    *backend = (qzo_backend){.ops = &cpu_backend_ops, .state = state, .dry = options->dry};
    state->ops = best_ops();
    state->bf16 = bf16;
    QZO_TRY(qzo_thread_pool_open(&state->pool, options->thread_count));
    *out = backend;
    backend = NULL;
cleanup:
    if (backend != NULL) cpu_close(backend);
    return status;
}

qzo_status qzo_backend_cpu_open(qzo_backend **out, const qzo_backend_options *options) {
    return open_with(out, options, NULL);
}

qzo_status qzo_backend_cpu_bf16_open(qzo_backend **out, const qzo_backend_options *options) {
    const cpu_bf16_ops *bf16 = qzo_cpu_bf16_best();
    if (bf16 == NULL)
        return qzo_fail(QZO_ERR_ENVIRONMENT,
                        "bf16 products need a processor with AMX or AVX-512, this one has %s: "
                        "\"cpu\" computes in fp32",
                        qzo_cpu_name(qzo_cpu()));
    return open_with(out, options, bf16);
}
