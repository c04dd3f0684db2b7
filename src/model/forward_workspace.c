#include "model/forward_workspace.h"

#include "base/arena.h"

#include <stdlib.h>

/* 128 rows of a vocabulary of 128 thousand are 64 MB. */
enum { LOGITS_CHUNK_ROWS = 128 };

int64_t qzo_forward_chunk_rows(const qzo_pack_limits *limits) {
    return limits->gathers < LOGITS_CHUNK_ROWS ? limits->gathers : LOGITS_CHUNK_ROWS;
}

static int64_t widest(int64_t a, int64_t b) { return a > b ? a : b; }

/* No norm and no bias is longer. */
static int64_t vector_width(const qzo_shape *shape) {
    return widest(widest(shape->width, shape->embed_width),
                  widest(qzo_qkv_width(shape), 2 * shape->ffn_width));
}

static int64_t wide_width(const qzo_arch *arch, const qzo_shape *shape) {
    int64_t width = 0;
    if (arch->linears[QZO_LINEAR_QKV] != NULL) width = qzo_qkv_width(shape);
    if (arch->linears[QZO_LINEAR_GATE_UP] != NULL) width = widest(width, 2 * shape->ffn_width);
    return shape->embed_width != shape->width ? widest(width, shape->embed_width) : width;
}

static int64_t widened_width(const qzo_arch *arch, const qzo_shape *shape) {
    int64_t width = shape->embed_width != shape->width ? shape->embed_width : 0;
    if (arch->norms[QZO_PLACE_ATTENTION_OUT] != NULL || arch->norms[QZO_PLACE_FFN_OUT] != NULL)
        width = widest(width, shape->width);
    return arch->norms[QZO_PLACE_Q] != NULL ? widest(width, qzo_q_width(shape)) : width;
}

/* Of the largest pack, alone or under both signs. */
static int64_t rows_of_sides(const qzo_pack_limits *limits) {
    return widest(limits->rows, 2 * limits->pair_rows);
}

static int64_t places_of_sides(const qzo_pack_limits *limits) {
    return widest(limits->places, 2 * limits->pair_places);
}

/* What a row attends to is said by row, or by place where a pack has places. */
static int64_t attended_of_sides(const qzo_pack_limits *limits) {
    return widest(rows_of_sides(limits), places_of_sides(limits));
}

static void slice(qzo_forward_buffers *at, qzo_arena *arena, const qzo_arch *arch,
                  const qzo_shape *shape, size_t act_bytes, const qzo_pack_limits *limits) {
    int64_t rows = rows_of_sides(limits), places = places_of_sides(limits);
    int64_t gathers = widest(limits->gathers, 2 * limits->pair_gathers);
    int64_t q_width = qzo_q_width(shape), kv_width = qzo_kv_width(shape);
    int64_t angles = arch->positions == NULL ? limits->context * shape->head_dim : 0;
    at->residual = qzo_arena_reserve(arena, rows * shape->width, sizeof(float));
    at->last_residual = qzo_arena_reserve(arena, gathers * shape->width, sizeof(float));
    at->x = qzo_arena_reserve(arena, rows * shape->width, act_bytes);
    at->q = qzo_arena_reserve(arena, rows * q_width, act_bytes);
    at->mixed = qzo_arena_reserve(arena, rows * q_width, act_bytes);
    at->k = qzo_arena_reserve(arena, rows * kv_width, act_bytes);
    at->v = qzo_arena_reserve(arena, rows * kv_width, act_bytes);
    at->placed_k = qzo_arena_reserve(arena, places * kv_width, act_bytes);
    at->placed_v = qzo_arena_reserve(arena, places * kv_width, act_bytes);
    at->gate = qzo_arena_reserve(arena, rows * shape->ffn_width, act_bytes);
    at->up = qzo_arena_reserve(arena, rows * shape->ffn_width, act_bytes);
    at->wide = qzo_arena_reserve(arena, rows * wide_width(arch, shape), act_bytes);
    at->widened = qzo_arena_reserve(arena, rows * widened_width(arch, shape), sizeof(float));
    at->logits =
        qzo_arena_reserve(arena, qzo_forward_chunk_rows(limits) * shape->vocab, sizeof(float));
    at->rope_table = qzo_arena_reserve(arena, angles, sizeof(float));
    for (int i = 0; i < 2; i++)
        at->vectors[i] = qzo_arena_reserve(arena, vector_width(shape), sizeof(float));
    int32_t **const row_arrays[] = {&at->ids, &at->positions};
    int32_t **const attended[] = {&at->prefix_begin, &at->prefix_end, &at->own_begin};
    for (size_t i = 0; i < sizeof row_arrays / sizeof *row_arrays; i++)
        *row_arrays[i] = qzo_arena_reserve(arena, rows, sizeof(int32_t));
    for (size_t i = 0; i < sizeof attended / sizeof *attended; i++)
        *attended[i] = qzo_arena_reserve(arena, attended_of_sides(limits), sizeof(int32_t));
    at->gather_rows = qzo_arena_reserve(arena, gathers, sizeof(int32_t));
    at->gather_positions = qzo_arena_reserve(arena, gathers, sizeof(int32_t));
    at->place_rows = qzo_arena_reserve(arena, places, sizeof(int32_t));
    at->row_places = qzo_arena_reserve(arena, places > 0 ? rows : 0, sizeof(int32_t));
    at->gather_places = qzo_arena_reserve(arena, places > 0 ? gathers : 0, sizeof(int32_t));
    at->target_row = qzo_arena_reserve(arena, limits->targets, sizeof(int32_t));
    at->target_id = qzo_arena_reserve(arena, limits->targets, sizeof(int32_t));
}

int64_t qzo_forward_bytes(const qzo_arch *arch, const qzo_shape *shape, size_t activation_bytes,
                          const qzo_pack_limits *limits) {
    qzo_arena arena = {0};
    qzo_forward_buffers at;
    slice(&at, &arena, arch, shape, activation_bytes, limits);
    return (int64_t)arena.planned_bytes;
}

static qzo_status load_rope_table(qzo_forward *forward) {
    qzo_status status = QZO_OK;
    const qzo_shape *shape = &forward->model->shape;
    qzo_backend *backend = forward->model->backend;
    int64_t positions = forward->limits.context;
    size_t size_bytes = (size_t)(positions * shape->head_dim) * sizeof(float);
    if (size_bytes == 0 || forward->model->arch->positions != NULL) return QZO_OK;
    float *host = malloc(size_bytes);
    if (host == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for the rotary table of %lld positions",
                        (long long)positions);
    qzo_rope_table_fill(host, shape, positions);
    QZO_TRY(backend->ops->upload(backend, forward->at.rope_table, host, size_bytes));
cleanup:
    free(host);
    return status;
}

qzo_status qzo_forward_open(qzo_forward **out, const qzo_model *model,
                            const qzo_pack_limits *limits) {
    return qzo_forward_open_adapted(out, model, NULL, limits);
}

qzo_status qzo_forward_open_adapted(qzo_forward **out, const qzo_model *model,
                                    qzo_adapters *adapters, const qzo_pack_limits *limits) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = model->backend;
    qzo_arena arena = {0};
    size_t targets = (size_t)limits->targets;
    qzo_forward *forward = NULL;
    QZO_TRY(qzo_model_require_decoder(model));
    if (limits->context > model->shape.positions_max)
        return qzo_fail(QZO_ERR_LIMIT, "a sequence of %lld tokens, the model has %lld positions",
                        (long long)limits->context, (long long)model->shape.positions_max);
    forward = calloc(1, sizeof *forward);
    if (forward == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for a forward pass");
    forward->model = model;
    forward->adapters = adapters;
    forward->limits = *limits;
    forward->row_numbers = calloc((size_t)attended_of_sides(limits) + 1, sizeof(int32_t));
    forward->ordered_row = calloc(targets, sizeof(int32_t));
    forward->ordered_id = calloc(targets, sizeof(int32_t));
    forward->ordered_log_probs = calloc(targets, sizeof(double));
    if (forward->row_numbers == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld rows", (long long)limits->rows);
        goto cleanup;
    }
    if (targets > 0 && (forward->ordered_row == NULL || forward->ordered_id == NULL ||
                        forward->ordered_log_probs == NULL)) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu targets", targets);
        goto cleanup;
    }
    slice(&forward->at, &arena, model->arch, &model->shape, backend->ops->activation_bytes, limits);
    QZO_TRY(backend->ops->allocate(backend, &forward->memory, arena.planned_bytes));
    arena.base = forward->memory;
    slice(&forward->at, &arena, model->arch, &model->shape, backend->ops->activation_bytes, limits);
    QZO_TRY(qzo_arena_finish(&arena));
    QZO_TRY(load_rope_table(forward));
    if (adapters != NULL) QZO_TRY(qzo_adapters_reserve(adapters, limits->rows));
    QZO_TRY(backend->ops->reserve(backend, limits->context, limits->pair_rows > 0));
    *out = forward;
    forward = NULL;
cleanup:
    qzo_forward_close(forward);
    return status;
}

void qzo_forward_close(qzo_forward *forward) {
    if (forward == NULL) return;
    forward->model->backend->ops->release(forward->model->backend, forward->memory);
    free(forward->row_numbers);
    free(forward->ordered_row);
    free(forward->ordered_id);
    free(forward->ordered_log_probs);
    free(forward);
}

const qzo_pack_limits *qzo_forward_limits(const qzo_forward *forward) { return &forward->limits; }
