/* Layers run over all packed rows; the last one only over the rows whose logits are asked for (its
 * keys and values still over all), since nothing reads the others. A row's result does not depend
 * on its neighbours, so this changes no bit. Where questions of a pack share rows (model/pack.h),
 * what is copied for each of them is keys and values alone. */
#include "model/forward_workspace.h"

#include "base/check.h"

/* What one pass works on. */
typedef struct pass {
    qzo_forward *forward;
    const qzo_pack *pack;
    qzo_sides values;
    int64_t rows, gathers;     /* of all sides */
    int64_t place_count;       /* the same; 0: keys and values stay where they are computed */
    const qzo_kv_cache *cache; /* NULL: rows attend to those of the pack */
    const qzo_kv_places *places;
} pass;

/* Rows of a pack to the backend: + offset, and where there are two sides once more, + step. */
static qzo_status upload_rows(const pass *p, int32_t *to, const int32_t *from, int64_t count,
                              int64_t offset, int64_t step) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = p->forward->model->backend;
    int32_t *host = p->forward->row_numbers;
    for (int side = 0; side < p->values.count; side++)
        for (int64_t i = 0; i < count; i++)
            host[side * count + i] = from[i] + (int32_t)(offset + side * step);
    QZO_TRY(
        backend->ops->upload(backend, to, host, (size_t)(p->values.count * count) * sizeof *host));
cleanup:
    return status;
}

static qzo_status upload_pack(const pass *p) {
    qzo_status status = QZO_OK;
    const qzo_pack *pack = p->pack;
    const qzo_forward_buffers *at = &p->forward->at;
    int64_t rows = pack->row_count, gathers = pack->gather_count, places = pack->place_count;
    int64_t position_offset = p->forward->model->arch->position_offset;
    QZO_TRY(upload_rows(p, at->ids, pack->ids, rows, 0, 0));
    QZO_TRY(upload_rows(p, at->positions, pack->positions, rows, position_offset, 0));
    QZO_TRY(upload_rows(p, at->gather_rows, pack->gather_rows, gathers, 0, rows));
    QZO_TRY(upload_rows(p, at->gather_positions, pack->gather_positions, gathers, 0, 0));
    if (p->cache != NULL) {
        QZO_TRY(upload_rows(p, p->cache->places, p->places->of_rows, rows, 0, 0));
        QZO_TRY(upload_rows(p, p->cache->gather_places, p->places->of_gathers, gathers, 0, 0));
        goto cleanup;
    }
    QZO_TRY(upload_rows(p, at->prefix_begin, pack->prefix_begin, places, 0, places));
    QZO_TRY(upload_rows(p, at->prefix_end, pack->prefix_end, places, 0, places));
    QZO_TRY(upload_rows(p, at->own_begin, pack->own_begin, places, 0, places));
    if (p->place_count == 0) goto cleanup;
    QZO_TRY(upload_rows(p, at->place_rows, pack->place_row, places, 0, rows));
    QZO_TRY(upload_rows(p, at->row_places, pack->row_place, rows, 0, places));
    QZO_TRY(upload_rows(p, at->gather_places, pack->gather_places, gathers, 0, places));
cleanup:
    return status;
}

/* out (rows, out_features) += what an adapter adds */
static qzo_status adapt(const pass *p, const qzo_adapter *adapter, qzo_act *out, const qzo_act *x,
                        int64_t rows) {
    qzo_status status = QZO_OK;
    const qzo_sides *values = &p->values;
    int64_t each = rows / values->count;
    for (int side = 0; status == QZO_OK && side < values->count; side++)
        status = qzo_adapter_add(
            p->forward->adapters, adapter,
            qzo_act_at(values->backend, out, side * each * adapter->base->out_features),
            qzo_act_from(values->backend, x, side * each * adapter->base->in_features),
            values->masters, &values->of[side], each);
    return status;
}

/* out (rows, out_features) = x W^T + bias, and what an adapter adds */
static qzo_status linear(const pass *p, const qzo_layer *layer, qzo_linear_kind kind, qzo_act *out,
                         const qzo_act *x, int64_t rows) {
    qzo_status status = QZO_OK;
    const qzo_adapter *adapter = qzo_adapters_find(p->forward->adapters, layer, kind);
    QZO_TRY(qzo_sides_linear(&p->values, out, x, layer->weights[kind], rows));
    QZO_TRY(qzo_sides_add_bias(&p->values, out, &layer->biases[kind], p->forward->at.vectors[0],
                               rows, layer->tensors[kind].out_features));
    if (adapter != NULL) QZO_TRY(adapt(p, adapter, out, x, rows));
cleanup:
    return status;
}

static qzo_status norm(const pass *p, qzo_act *out, const float *in, const qzo_norm *with,
                       int64_t rows, int64_t width) {
    const qzo_model *model = p->forward->model;
    return qzo_sides_norm(&p->values, out, in, with, p->forward->at.vectors, rows, width,
                          model->arch->norm, model->shape.norm_epsilon);
}

/* x (rows, width) = what a block reads of the residual stream */
static qzo_status enter(const pass *p, const float *residual, const qzo_norm *before,
                        int64_t rows) {
    const qzo_model *model = p->forward->model;
    int64_t width = model->shape.width;
    if (!model->shape.post_norm) return norm(p, p->forward->at.x, residual, before, rows, width);
    return model->backend->ops->narrow(model->backend, p->forward->at.x, residual, rows * width);
}

/* Norms activations in place: rows of `width`. */
static qzo_status norm_in_place(const pass *p, qzo_act *x, const qzo_norm *with, int64_t rows,
                                int64_t width) {
    qzo_backend *backend = p->forward->model->backend;
    float *widened = p->forward->at.widened;
    if (with->gain.values == NULL) return QZO_OK;
    qzo_status status = backend->ops->widen(backend, widened, x, rows * width);
    return status == QZO_OK ? norm(p, x, widened, with, rows, width) : status;
}

/* residual += x, what a block computed, with the norms that come after it. */
static qzo_status leave(const pass *p, float *residual, const qzo_norm *of_block,
                        const qzo_norm *of_sum, int64_t rows) {
    qzo_status status = QZO_OK;
    const qzo_model *model = p->forward->model;
    qzo_backend *backend = model->backend;
    int64_t width = model->shape.width;
    qzo_act *x = p->forward->at.x;
    QZO_TRY(norm_in_place(p, x, of_block, rows, width));
    QZO_TRY(backend->ops->add(backend, residual, x, rows * width));
    if (model->shape.post_norm) {
        QZO_TRY(norm(p, x, residual, of_sum, rows, width));
        QZO_TRY(backend->ops->widen(backend, residual, x, rows * width));
    }
cleanup:
    return status;
}

/* What q and k go through before they meet: a norm of each head, rotation. */
static qzo_status place_heads(const pass *p, qzo_act *x, const qzo_norm *with,
                              const int32_t *positions, int64_t rows, int64_t head_count) {
    const qzo_model *model = p->forward->model;
    int64_t head_dim = model->shape.head_dim;
    qzo_status status = norm_in_place(p, x, with, rows * head_count, head_dim);
    if (status != QZO_OK || model->arch->positions != NULL) return status;
    return model->backend->ops->rope(model->backend, x, positions, p->forward->at.rope_table, rows,
                                     head_count, head_dim);
}

/* Brings the keys and values of all rows to where queries look for them. */
static qzo_status place_keys_and_values(const pass *p, const qzo_layer *layer) {
    qzo_status status = QZO_OK;
    const qzo_model *model = p->forward->model;
    const qzo_forward_buffers *at = &p->forward->at;
    qzo_backend *backend = model->backend;
    int64_t rows = p->rows, kv = qzo_kv_width(&model->shape);
    if (p->place_count > 0) {
        QZO_TRY(backend->ops->select(backend, at->placed_k, at->k, at->place_rows, p->place_count,
                                     kv, 0, kv));
        QZO_TRY(backend->ops->select(backend, at->placed_v, at->v, at->place_rows, p->place_count,
                                     kv, 0, kv));
    }
    if (p->cache == NULL) goto cleanup;
    qzo_kv_layer kept = qzo_kv_cache_layer(p->cache, layer - model->layers);
    QZO_TRY(backend->ops->scatter(backend, kept.keys, at->k, p->cache->places, rows, kv));
    QZO_TRY(backend->ops->scatter(backend, kept.values, at->v, p->cache->places, rows, kv));
cleanup:
    return status;
}

/* Keys and values of all rows; leaves what the block reads in x, or fused q, k and v in `wide`. */
static qzo_status keys_and_values(const pass *p, const qzo_layer *layer) {
    qzo_status status = QZO_OK;
    const qzo_model *model = p->forward->model;
    const qzo_shape *shape = &model->shape;
    const qzo_forward_buffers *at = &p->forward->at;
    qzo_backend *backend = model->backend;
    int64_t rows = p->rows, q = qzo_q_width(shape), kv = qzo_kv_width(shape);
    QZO_TRY(enter(p, at->residual, &layer->norms[QZO_PLACE_ATTENTION], rows));
    if (layer->weights[QZO_LINEAR_QKV] != NULL) {
        QZO_TRY(linear(p, layer, QZO_LINEAR_QKV, at->wide, at->x, rows));
        QZO_TRY(backend->ops->select(backend, at->k, at->wide, NULL, rows, q + 2 * kv, q, kv));
        QZO_TRY(backend->ops->select(backend, at->v, at->wide, NULL, rows, q + 2 * kv, q + kv, kv));
    } else {
        QZO_TRY(linear(p, layer, QZO_LINEAR_K, at->k, at->x, rows));
        QZO_TRY(linear(p, layer, QZO_LINEAR_V, at->v, at->x, rows));
    }
    QZO_TRY(place_heads(p, at->k, &layer->norms[QZO_PLACE_K], at->positions, rows,
                        shape->kv_head_count));
    QZO_TRY(place_keys_and_values(p, layer));
cleanup:
    return status;
}

/* q (queries, q_width) of the rows in x, or of the fused ones that query_rows names. */
static qzo_status queries_of(const pass *p, const qzo_layer *layer, const int32_t *query_rows,
                             const int32_t *positions, int64_t queries) {
    const qzo_shape *shape = &p->forward->model->shape;
    qzo_backend *backend = p->forward->model->backend;
    const qzo_forward_buffers *at = &p->forward->at;
    qzo_status status = layer->weights[QZO_LINEAR_QKV] != NULL
                            ? backend->ops->select(backend, at->q, at->wide, query_rows, queries,
                                                   qzo_qkv_width(shape), 0, qzo_q_width(shape))
                            : linear(p, layer, QZO_LINEAR_Q, at->q, at->x, queries);
    if (status != QZO_OK) return status;
    return place_heads(p, at->q, &layer->norms[QZO_PLACE_Q], positions, queries, shape->head_count);
}

/* residual (queries, width) += attention of the queries, whose rows are in x; query_rows NULL: all
 * rows. */
static qzo_status attend(const pass *p, const qzo_layer *layer, float *residual,
                         const int32_t *query_rows, const int32_t *positions, int64_t queries) {
    qzo_status status = QZO_OK;
    const qzo_shape *shape = &p->forward->model->shape;
    qzo_backend *backend = p->forward->model->backend;
    const qzo_forward_buffers *at = &p->forward->at;
    qzo_attention attention = {.query_rows = query_rows,
                               .prefix_begin = at->prefix_begin,
                               .prefix_end = at->prefix_end,
                               .own_begin = at->own_begin,
                               .context_max = p->forward->limits.context,
                               .head_count = shape->head_count,
                               .kv_head_count = shape->kv_head_count,
                               .head_dim = shape->head_dim,
                               .scale = shape->attention_scale,
                               .score_cap = shape->score_cap,
                               .window = layer->window};
    qzo_kv_layer seen = {at->k, at->v};
    if (p->place_count > 0) {
        seen = (qzo_kv_layer){at->placed_k, at->placed_v};
        attention.query_rows = query_rows == NULL ? at->row_places : at->gather_places;
    }
    if (p->cache != NULL) {
        seen = qzo_kv_cache_layer(p->cache, layer - p->forward->model->layers);
        attention.query_rows = query_rows == NULL ? p->cache->places : p->cache->gather_places;
        attention.prefix_begin = attention.prefix_end = p->cache->no_prefix;
        attention.own_begin = p->cache->own_begin;
    }
    QZO_TRY(queries_of(p, layer, query_rows, positions, queries));
    QZO_TRY(backend->ops->attention(backend, at->mixed, at->q, seen.keys, seen.values, &attention,
                                    queries));
    QZO_TRY(linear(p, layer, QZO_LINEAR_O, at->x, at->mixed, queries));
    QZO_TRY(leave(p, residual, &layer->norms[QZO_PLACE_ATTENTION_OUT],
                  &layer->norms[QZO_PLACE_ATTENTION], queries));
cleanup:
    return status;
}

static qzo_status feed_forward(const pass *p, const qzo_layer *layer, float *residual,
                               int64_t rows) {
    qzo_status status = QZO_OK;
    const qzo_model *model = p->forward->model;
    const qzo_forward_buffers *at = &p->forward->at;
    qzo_backend *backend = model->backend;
    int64_t ffn = model->shape.ffn_width;
    bool gated = true;
    QZO_TRY(enter(p, residual, &layer->norms[QZO_PLACE_FFN], rows));
    if (layer->weights[QZO_LINEAR_GATE_UP] != NULL) {
        QZO_TRY(linear(p, layer, QZO_LINEAR_GATE_UP, at->wide, at->x, rows));
        QZO_TRY(backend->ops->select(backend, at->gate, at->wide, NULL, rows, 2 * ffn, 0, ffn));
        QZO_TRY(backend->ops->select(backend, at->up, at->wide, NULL, rows, 2 * ffn, ffn, ffn));
    } else if (layer->weights[QZO_LINEAR_GATE] != NULL) {
        QZO_TRY(linear(p, layer, QZO_LINEAR_GATE, at->gate, at->x, rows));
        QZO_TRY(linear(p, layer, QZO_LINEAR_UP, at->up, at->x, rows));
    } else {
        QZO_TRY(linear(p, layer, QZO_LINEAR_UP, at->gate, at->x, rows));
        gated = false;
    }
    QZO_TRY(backend->ops->activate(backend, at->gate, gated ? at->up : NULL, rows * ffn,
                                   model->shape.activation));
    QZO_TRY(linear(p, layer, QZO_LINEAR_DOWN, at->x, at->gate, rows));
    QZO_TRY(
        leave(p, residual, &layer->norms[QZO_PLACE_FFN_OUT], &layer->norms[QZO_PLACE_FFN], rows));
cleanup:
    return status;
}

/* residual (rows, width) = the embeddings of all rows, and their positions where those are learned
 */
static qzo_status embed(const pass *p) {
    qzo_status status = QZO_OK;
    const qzo_model *model = p->forward->model;
    const qzo_shape *shape = &model->shape;
    qzo_backend *backend = model->backend;
    const qzo_forward_buffers *at = &p->forward->at;
    int64_t rows = p->rows;
    float *embedded = model->project_in != NULL ? at->widened : at->residual;
    QZO_TRY(qzo_sides_embed(&p->values, embedded, model->embedding, at->ids, rows,
                            shape->embed_scale, false));
    if (model->project_in != NULL) {
        QZO_TRY(backend->ops->narrow(backend, at->wide, embedded, rows * shape->embed_width));
        QZO_TRY(qzo_sides_linear(&p->values, at->x, at->wide, model->project_in, rows));
        QZO_TRY(backend->ops->widen(backend, at->residual, at->x, rows * shape->width));
    }
    if (model->positions != NULL)
        QZO_TRY(qzo_sides_embed(&p->values, at->residual, model->positions, at->positions, rows,
                                1.0f, true));
cleanup:
    return status;
}

/* last_residual (gathers, width): the rows that are asked for, after the last layer. */
static qzo_status run_layers(const pass *p) {
    qzo_status status = QZO_OK;
    const qzo_model *model = p->forward->model;
    qzo_backend *backend = model->backend;
    const qzo_forward_buffers *at = &p->forward->at;
    int64_t rows = p->rows, gathers = p->gathers;
    const qzo_layer *last = &model->layers[model->shape.layer_count - 1];
    QZO_TRY(upload_pack(p));
    QZO_TRY(embed(p));
    for (const qzo_layer *layer = model->layers; layer < last; layer++) {
        QZO_TRY(keys_and_values(p, layer));
        QZO_TRY(attend(p, layer, at->residual, NULL, at->positions, rows));
        QZO_TRY(feed_forward(p, layer, at->residual, rows));
    }
    QZO_TRY(keys_and_values(p, last));
    QZO_TRY(backend->ops->gather(backend, at->last_residual, at->residual, at->gather_rows, gathers,
                                 model->shape.width));
    if (last->weights[QZO_LINEAR_QKV] == NULL)
        QZO_TRY(enter(p, at->last_residual, &last->norms[QZO_PLACE_ATTENTION], gathers));
    QZO_TRY(attend(p, last, at->last_residual, at->gather_rows, at->gather_positions, gathers));
    QZO_TRY(feed_forward(p, last, at->last_residual, gathers));
cleanup:
    return status;
}

/* The pass over logits, which are those of one side at a time: they fill no more memory so. */
static pass side_of(const pass *p, int side) {
    pass out = *p;
    out.values = qzo_sides_one(p->values.backend, p->values.masters, &p->values.of[side]);
    return out;
}

/* logits (count, vocab) of gathered rows first .. first + count - 1, which are of the pass's side
 */
static qzo_status chunk_logits(const pass *p, int64_t first, int64_t count) {
    qzo_status status = QZO_OK;
    const qzo_model *model = p->forward->model;
    const qzo_shape *shape = &model->shape;
    qzo_backend *backend = model->backend;
    const qzo_forward_buffers *at = &p->forward->at;
    const qzo_act *x = at->x;
    QZO_TRY(enter(p, at->last_residual + first * shape->width, &model->final_norm, count));
    if (model->project_out != NULL) {
        QZO_TRY(qzo_sides_linear(&p->values, at->wide, at->x, model->project_out, count));
        x = at->wide;
    }
    QZO_TRY(backend->ops->logits(backend, at->logits, x, model->head, p->values.masters,
                                 &p->values.of[0], count));
    if (shape->logit_cap > 0.0f)
        QZO_TRY(
            backend->ops->soft_cap(backend, at->logits, count * shape->vocab, shape->logit_cap));
cleanup:
    return status;
}

/* Log-probabilities of the ordered targets [begin, end), whose rows lie in this chunk. */
static qzo_status chunk_log_probs(const pass *p, int64_t first_row, int64_t begin, int64_t end) {
    qzo_status status = QZO_OK;
    qzo_forward *forward = p->forward;
    const qzo_model *model = forward->model;
    const qzo_forward_buffers *at = &forward->at;
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

/* Of one side, after the layers. */
static qzo_status side_log_probs(const pass *p, int side, double *log_probs_host) {
    qzo_status status = QZO_OK;
    qzo_forward *forward = p->forward;
    const qzo_pack *pack = p->pack;
    const pass of_side = side_of(p, side);
    int64_t chunk = qzo_forward_chunk_rows(&forward->limits), begin = 0;
    for (int64_t i = 0; i < pack->target_count; i++) {
        forward->ordered_row[i] = pack->target_row[pack->target_order[i]];
        forward->ordered_id[i] = pack->target_id[pack->target_order[i]];
    }
    for (int64_t first = 0; first < pack->gather_count; first += chunk) {
        int64_t left = pack->gather_count - first, count = left < chunk ? left : chunk;
        int64_t end = begin;
        while (end < pack->target_count && forward->ordered_row[end] < first + count) end++;
        QZO_TRY(chunk_logits(&of_side, side * pack->gather_count + first, count));
        QZO_TRY(chunk_log_probs(&of_side, first, begin, end));
        begin = end;
    }
    for (int64_t i = 0; i < pack->target_count; i++)
        log_probs_host[pack->target_order[i]] = forward->ordered_log_probs[i];
cleanup:
    return status;
}

static pass pass_of(qzo_forward *forward, const qzo_pack *pack, const qzo_sides *values) {
    return (pass){.forward = forward,
                  .pack = pack,
                  .values = *values,
                  .rows = values->count * pack->row_count,
                  .gathers = values->count * pack->gather_count,
                  .place_count = qzo_pack_is_shared(pack) ? values->count * pack->place_count : 0};
}

static qzo_status log_probs_of(qzo_forward *forward, const qzo_pack *pack, const qzo_sides *values,
                               double *log_probs_host) {
    qzo_status status = QZO_OK;
    const pass p = pass_of(forward, pack, values);
    QZO_TRY(run_layers(&p));
    for (int side = 0; side < values->count; side++)
        QZO_TRY(side_log_probs(&p, side, log_probs_host + side * pack->target_count));
cleanup:
    return status;
}

qzo_status qzo_forward_log_probs(qzo_forward *forward, const qzo_pack *pack, const float *masters,
                                 const qzo_perturbation *perturbation, double *log_probs_host) {
    const qzo_sides values = qzo_sides_one(forward->model->backend, masters, perturbation);
    return log_probs_of(forward, pack, &values, log_probs_host);
}

bool qzo_forward_has_pair(const qzo_forward *forward, const qzo_pack *pack) {
    const qzo_pack_limits *limits = &forward->limits;
    return pack->row_count <= limits->pair_rows && pack->gather_count <= limits->pair_gathers &&
           (!qzo_pack_is_shared(pack) || pack->place_count <= limits->pair_places);
}

qzo_status qzo_forward_log_probs_pair(qzo_forward *forward, const qzo_pack *pack,
                                      const float *masters, const qzo_perturbation *perturbation,
                                      double *log_probs_host) {
    const qzo_sides values = qzo_sides_both(forward->model->backend, masters, perturbation);
    QZO_ASSERT(qzo_forward_has_pair(forward, pack));
    return log_probs_of(forward, pack, &values, log_probs_host);
}

static qzo_status logits_of(const pass *p, float *logits_host) {
    qzo_status status = QZO_OK;
    const qzo_forward *forward = p->forward;
    const qzo_pack *pack = p->pack;
    qzo_backend *backend = forward->model->backend;
    int64_t chunk = qzo_forward_chunk_rows(&forward->limits), vocab = forward->model->shape.vocab;
    QZO_TRY(run_layers(p));
    for (int64_t first = 0; first < pack->gather_count; first += chunk) {
        int64_t left = pack->gather_count - first, count = left < chunk ? left : chunk;
        QZO_TRY(chunk_logits(p, first, count));
        QZO_TRY(backend->ops->download(backend, logits_host + first * vocab, forward->at.logits,
                                       (size_t)(count * vocab) * sizeof(float)));
    }
cleanup:
    return status;
}

qzo_status qzo_forward_logits(qzo_forward *forward, const qzo_pack *pack, const float *masters,
                              const qzo_perturbation *perturbation, float *logits_host) {
    const qzo_sides values = qzo_sides_one(forward->model->backend, masters, perturbation);
    const pass p = pass_of(forward, pack, &values);
    return logits_of(&p, logits_host);
}

qzo_status qzo_forward_continue(qzo_forward *forward, const qzo_pack *pack,
                                const qzo_kv_cache *cache, const qzo_kv_places *places_host,
                                const float *masters, const qzo_perturbation *perturbation,
                                float *logits_host) {
    const qzo_sides values = qzo_sides_one(forward->model->backend, masters, perturbation);
    pass p = pass_of(forward, pack, &values);
    p.cache = cache;
    p.places = places_host;
    return logits_of(&p, logits_host);
}
