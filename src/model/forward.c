/* Layers run over all packed rows; the last one only over the rows whose logits are asked for (its
 * keys and values still over all), since nothing reads the others. A row's result does not depend
 * on its neighbours, so this changes no bit. */
#include "model/forward.h"

#include "base/arena.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows of logits at a time: 128 rows of a vocabulary of 128 thousand are 64 MB. */
enum { LOGITS_CHUNK_ROWS = 128 };

/* All in the backend's memory. */
typedef struct buffers {
    float *residual;      /* (rows, width) */
    float *last_residual; /* (gathers, width) */
    qzo_act *x;           /* (rows, width) */
    qzo_act *q, *mixed;   /* (rows, head_count * head_dim) */
    qzo_act *k, *v;       /* (rows, kv_head_count * head_dim) */
    qzo_act *gate, *up;   /* (rows, ffn_width) */
    float *logits;        /* (min(gathers, LOGITS_CHUNK_ROWS), vocab) */
    float *rope_table;    /* (context, head_dim / 2, {cos, sin}) */
    int32_t *ids, *positions, *prefix_begin, *prefix_end, *own_begin; /* (rows) */
    int32_t *gather_rows, *gather_positions;                          /* (gathers) */
    int32_t *target_row, *target_id;                                  /* (targets) */
} buffers;

struct qzo_forward {
    const qzo_model *model;
    qzo_pack_limits limits;
    void *memory;
    buffers at;
    /* Host side, (targets): ordered copies of a pack's targets and their results. */
    int32_t *ordered_row, *ordered_id;
    double *ordered_log_probs;
};

static int64_t chunk_rows(const qzo_pack_limits *limits) {
    return limits->gathers < LOGITS_CHUNK_ROWS ? limits->gathers : LOGITS_CHUNK_ROWS;
}

static void slice(buffers *at, qzo_arena *arena, const qzo_shape *shape, size_t act_bytes,
                  const qzo_pack_limits *limits) {
    int64_t rows = limits->rows, gathers = limits->gathers;
    int64_t q_width = shape->head_count * shape->head_dim;
    int64_t kv_width = shape->kv_head_count * shape->head_dim;
    at->residual = qzo_arena_reserve(arena, rows * shape->width, sizeof(float));
    at->last_residual = qzo_arena_reserve(arena, gathers * shape->width, sizeof(float));
    at->x = qzo_arena_reserve(arena, rows * shape->width, act_bytes);
    at->q = qzo_arena_reserve(arena, rows * q_width, act_bytes);
    at->mixed = qzo_arena_reserve(arena, rows * q_width, act_bytes);
    at->k = qzo_arena_reserve(arena, rows * kv_width, act_bytes);
    at->v = qzo_arena_reserve(arena, rows * kv_width, act_bytes);
    at->gate = qzo_arena_reserve(arena, rows * shape->ffn_width, act_bytes);
    at->up = qzo_arena_reserve(arena, rows * shape->ffn_width, act_bytes);
    at->logits = qzo_arena_reserve(arena, chunk_rows(limits) * shape->vocab, sizeof(float));
    at->rope_table = qzo_arena_reserve(arena, limits->context * shape->head_dim, sizeof(float));
    int32_t **const row_arrays[] = {&at->ids, &at->positions, &at->prefix_begin, &at->prefix_end,
                                    &at->own_begin};
    for (size_t i = 0; i < sizeof row_arrays / sizeof *row_arrays; i++)
        *row_arrays[i] = qzo_arena_reserve(arena, rows, sizeof(int32_t));
    at->gather_rows = qzo_arena_reserve(arena, gathers, sizeof(int32_t));
    at->gather_positions = qzo_arena_reserve(arena, gathers, sizeof(int32_t));
    at->target_row = qzo_arena_reserve(arena, limits->targets, sizeof(int32_t));
    at->target_id = qzo_arena_reserve(arena, limits->targets, sizeof(int32_t));
}

int64_t qzo_forward_bytes(const qzo_shape *shape, size_t activation_bytes,
                          const qzo_pack_limits *limits) {
    qzo_arena arena = {0};
    buffers at;
    slice(&at, &arena, shape, activation_bytes, limits);
    return (int64_t)arena.planned_bytes;
}

static qzo_status load_rope_table(qzo_forward *forward) {
    qzo_status status = QZO_OK;
    const qzo_shape *shape = &forward->model->shape;
    qzo_backend *backend = forward->model->backend;
    int64_t positions = forward->limits.context;
    size_t size_bytes = (size_t)(positions * shape->head_dim) * sizeof(float);
    if (size_bytes == 0) return QZO_OK;
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
    qzo_status status = QZO_OK;
    qzo_backend *backend = model->backend;
    qzo_arena arena = {0};
    size_t targets = (size_t)limits->targets;
    qzo_forward *forward = NULL;
    if (limits->context > model->shape.positions_max)
        return qzo_fail(QZO_ERR_LIMIT, "a sequence of %lld tokens, the model has %lld positions",
                        (long long)limits->context, (long long)model->shape.positions_max);
    forward = calloc(1, sizeof *forward);
    if (forward == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for a forward pass");
    forward->model = model;
    forward->limits = *limits;
    forward->ordered_row = calloc(targets, sizeof(int32_t));
    forward->ordered_id = calloc(targets, sizeof(int32_t));
    forward->ordered_log_probs = calloc(targets, sizeof(double));
    if (targets > 0 && (forward->ordered_row == NULL || forward->ordered_id == NULL ||
                        forward->ordered_log_probs == NULL)) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu targets", targets);
        goto cleanup;
    }
    slice(&forward->at, &arena, &model->shape, backend->ops->activation_bytes, limits);
    QZO_TRY(backend->ops->allocate(backend, &forward->memory, arena.planned_bytes));
    arena.base = forward->memory;
    slice(&forward->at, &arena, &model->shape, backend->ops->activation_bytes, limits);
    QZO_TRY(qzo_arena_finish(&arena));
    QZO_TRY(load_rope_table(forward));
    QZO_TRY(backend->ops->reserve(backend, limits->context));
    *out = forward;
    forward = NULL;
cleanup:
    qzo_forward_close(forward);
    return status;
}

void qzo_forward_close(qzo_forward *forward) {
    if (forward == NULL) return;
    forward->model->backend->ops->release(forward->model->backend, forward->memory);
    free(forward->ordered_row);
    free(forward->ordered_id);
    free(forward->ordered_log_probs);
    free(forward);
}

/* What one pass works on. */
typedef struct pass {
    qzo_forward *forward;
    const qzo_pack *pack;
    const float *masters;
    const qzo_perturbation *perturbation;
} pass;

static qzo_status upload_pack(const pass *p) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = p->forward->model->backend;
    const buffers *at = &p->forward->at;
    size_t rows = (size_t)p->pack->row_count * sizeof(int32_t);
    size_t gathers = (size_t)p->pack->gather_count * sizeof(int32_t);
    const struct {
        int32_t *to;
        const int32_t *from;
        size_t size_bytes;
    } copies[] = {
        {at->ids, p->pack->ids, rows},
        {at->positions, p->pack->positions, rows},
        {at->prefix_begin, p->pack->prefix_begin, rows},
        {at->prefix_end, p->pack->prefix_end, rows},
        {at->own_begin, p->pack->own_begin, rows},
        {at->gather_rows, p->pack->gather_rows, gathers},
        {at->gather_positions, p->pack->gather_positions, gathers},
    };
    for (size_t i = 0; i < sizeof copies / sizeof *copies; i++)
        QZO_TRY(backend->ops->upload(backend, copies[i].to, copies[i].from, copies[i].size_bytes));
cleanup:
    return status;
}

static qzo_status linear(const pass *p, const qzo_layer *layer, qzo_linear_kind kind, qzo_act *out,
                         const qzo_act *x, int64_t rows) {
    qzo_backend *backend = p->forward->model->backend;
    return backend->ops->linear(backend, out, x, layer->weights[kind], p->masters, p->perturbation,
                                rows);
}

static qzo_status norm(const pass *p, const float *residual, const float *gain, int64_t rows) {
    const qzo_model *model = p->forward->model;
    return model->backend->ops->norm(model->backend, p->forward->at.x, residual, gain, NULL, rows,
                                     model->shape.width, model->arch->norm,
                                     model->shape.norm_epsilon);
}

/* Keys and values of all rows; leaves the normed rows in x. */
static qzo_status keys_and_values(const pass *p, const qzo_layer *layer) {
    qzo_status status = QZO_OK;
    const qzo_model *model = p->forward->model;
    const buffers *at = &p->forward->at;
    int64_t rows = p->pack->row_count;
    QZO_TRY(norm(p, at->residual, layer->attention_norm, rows));
    QZO_TRY(linear(p, layer, QZO_LINEAR_K, at->k, at->x, rows));
    QZO_TRY(linear(p, layer, QZO_LINEAR_V, at->v, at->x, rows));
    QZO_TRY(model->backend->ops->rope(model->backend, at->k, at->positions, at->rope_table, rows,
                                      model->shape.kv_head_count, model->shape.head_dim));
cleanup:
    return status;
}

/* residual (queries, width) += attention of the normed queries in x; query_rows NULL: all rows. */
static qzo_status attend(const pass *p, const qzo_layer *layer, float *residual,
                         const int32_t *query_rows, const int32_t *positions, int64_t queries) {
    qzo_status status = QZO_OK;
    const qzo_shape *shape = &p->forward->model->shape;
    qzo_backend *backend = p->forward->model->backend;
    const buffers *at = &p->forward->at;
    qzo_attention attention = {.query_rows = query_rows,
                               .prefix_begin = at->prefix_begin,
                               .prefix_end = at->prefix_end,
                               .own_begin = at->own_begin,
                               .context_max = p->forward->limits.context,
                               .head_count = shape->head_count,
                               .kv_head_count = shape->kv_head_count,
                               .head_dim = shape->head_dim,
                               .scale = 1.0f / sqrtf((float)shape->head_dim)};
    QZO_TRY(linear(p, layer, QZO_LINEAR_Q, at->q, at->x, queries));
    QZO_TRY(backend->ops->rope(backend, at->q, positions, at->rope_table, queries,
                               shape->head_count, shape->head_dim));
    QZO_TRY(backend->ops->attention(backend, at->mixed, at->q, at->k, at->v, &attention, queries));
    QZO_TRY(linear(p, layer, QZO_LINEAR_O, at->x, at->mixed, queries));
    QZO_TRY(backend->ops->add(backend, residual, at->x, queries * shape->width));
cleanup:
    return status;
}

static qzo_status feed_forward(const pass *p, const qzo_layer *layer, float *residual,
                               int64_t rows) {
    qzo_status status = QZO_OK;
    const qzo_model *model = p->forward->model;
    const buffers *at = &p->forward->at;
    QZO_TRY(norm(p, residual, layer->ffn_norm, rows));
    QZO_TRY(linear(p, layer, QZO_LINEAR_GATE, at->gate, at->x, rows));
    QZO_TRY(linear(p, layer, QZO_LINEAR_UP, at->up, at->x, rows));
    QZO_TRY(model->backend->ops->activate(model->backend, at->gate, at->up,
                                          rows * model->shape.ffn_width, model->arch->activation));
    QZO_TRY(linear(p, layer, QZO_LINEAR_DOWN, at->x, at->gate, rows));
    QZO_TRY(model->backend->ops->add(model->backend, residual, at->x, rows * model->shape.width));
cleanup:
    return status;
}

/* last_residual (gathers, width): the rows that are asked for, after the last layer. */
static qzo_status run_layers(const pass *p) {
    qzo_status status = QZO_OK;
    const qzo_model *model = p->forward->model;
    qzo_backend *backend = model->backend;
    const buffers *at = &p->forward->at;
    int64_t rows = p->pack->row_count, gathers = p->pack->gather_count;
    const qzo_layer *last = &model->layers[model->shape.layer_count - 1];
    QZO_TRY(upload_pack(p));
    QZO_TRY(
        backend->ops->embed(backend, at->residual, model->embedding, at->ids, rows, 1.0f, false));
    for (const qzo_layer *layer = model->layers; layer < last; layer++) {
        QZO_TRY(keys_and_values(p, layer));
        QZO_TRY(attend(p, layer, at->residual, NULL, at->positions, rows));
        QZO_TRY(feed_forward(p, layer, at->residual, rows));
    }
    QZO_TRY(keys_and_values(p, last));
    QZO_TRY(backend->ops->gather(backend, at->last_residual, at->residual, at->gather_rows, gathers,
                                 model->shape.width));
    QZO_TRY(norm(p, at->last_residual, last->attention_norm, gathers));
    QZO_TRY(attend(p, last, at->last_residual, at->gather_rows, at->gather_positions, gathers));
    QZO_TRY(feed_forward(p, last, at->last_residual, gathers));
cleanup:
    return status;
}

/* logits (count, vocab) of gathered rows first .. first + count - 1 */
static qzo_status chunk_logits(const pass *p, int64_t first, int64_t count) {
    qzo_status status = QZO_OK;
    const qzo_model *model = p->forward->model;
    const buffers *at = &p->forward->at;
    QZO_TRY(norm(p, at->last_residual + first * model->shape.width, model->final_norm, count));
    QZO_TRY(model->backend->ops->logits(model->backend, at->logits, at->x, model->head, p->masters,
                                        p->perturbation, count));
cleanup:
    return status;
}

/* Log-probabilities of the ordered targets [begin, end), whose rows lie in this chunk. */
static qzo_status chunk_log_probs(const pass *p, int64_t first_row, int64_t begin, int64_t end) {
    qzo_status status = QZO_OK;
    qzo_forward *forward = p->forward;
    const qzo_model *model = forward->model;
    const buffers *at = &forward->at;
    size_t size_bytes = (size_t)(end - begin) * sizeof(int32_t);
    for (int64_t i = begin; i < end; i++) forward->ordered_row[i] -= (int32_t)first_row;
    QZO_TRY(model->backend->ops->upload(model->backend, at->target_row,
                                        forward->ordered_row + begin, size_bytes));
    QZO_TRY(model->backend->ops->upload(model->backend, at->target_id, forward->ordered_id + begin,
                                        size_bytes));
    QZO_TRY(model->backend->ops->log_probs(model->backend, forward->ordered_log_probs + begin,
                                           at->logits, at->target_row, at->target_id, end - begin,
                                           model->shape.vocab));
cleanup:
    return status;
}

qzo_status qzo_forward_log_probs(qzo_forward *forward, const qzo_pack *pack, const float *masters,
                                 const qzo_perturbation *perturbation, double *log_probs_host) {
    qzo_status status = QZO_OK;
    pass p = {forward, pack, masters, perturbation};
    for (int64_t i = 0; i < pack->target_count; i++) {
        forward->ordered_row[i] = pack->target_row[pack->target_order[i]];
        forward->ordered_id[i] = pack->target_id[pack->target_order[i]];
    }
    QZO_TRY(run_layers(&p));
    int64_t chunk = chunk_rows(&forward->limits), begin = 0;
    for (int64_t first = 0; first < pack->gather_count; first += chunk) {
        int64_t left = pack->gather_count - first, count = left < chunk ? left : chunk;
        int64_t end = begin;
        while (end < pack->target_count && forward->ordered_row[end] < first + count) end++;
        QZO_TRY(chunk_logits(&p, first, count));
        QZO_TRY(chunk_log_probs(&p, first, begin, end));
        begin = end;
    }
    for (int64_t i = 0; i < pack->target_count; i++)
        log_probs_host[pack->target_order[i]] = forward->ordered_log_probs[i];
cleanup:
    return status;
}

qzo_status qzo_forward_logits(qzo_forward *forward, const qzo_pack *pack, const float *masters,
                              const qzo_perturbation *perturbation, float *logits_host) {
    qzo_status status = QZO_OK;
    pass p = {forward, pack, masters, perturbation};
    qzo_backend *backend = forward->model->backend;
    int64_t chunk = chunk_rows(&forward->limits), vocab = forward->model->shape.vocab;
    QZO_TRY(run_layers(&p));
    for (int64_t first = 0; first < pack->gather_count; first += chunk) {
        int64_t left = pack->gather_count - first, count = left < chunk ? left : chunk;
        QZO_TRY(chunk_logits(&p, first, count));
        QZO_TRY(backend->ops->download(backend, logits_host + first * vocab, forward->at.logits,
                                       (size_t)(count * vocab) * sizeof(float)));
    }
cleanup:
    return status;
}
