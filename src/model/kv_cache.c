#include "model/kv_cache.h"

#include "base/arena.h"
#include "base/check.h"

static int64_t kv_width(const qzo_shape *shape) { return shape->kv_head_count * shape->head_dim; }

static void slice(qzo_kv_cache *cache, qzo_arena *arena) {
    const qzo_shape *shape = &cache->model->shape;
    int64_t places = cache->limits.places;
    int64_t count = shape->layer_count * places * kv_width(shape);
    size_t act_bytes = cache->model->backend->ops->activation_bytes;
    cache->keys = qzo_arena_reserve(arena, count, act_bytes);
    cache->values = qzo_arena_reserve(arena, count, act_bytes);
    cache->own_begin = qzo_arena_reserve(arena, places, sizeof(int32_t));
    cache->no_prefix = qzo_arena_reserve(arena, places, sizeof(int32_t));
    cache->places = qzo_arena_reserve(arena, cache->limits.rows, sizeof(int32_t));
    cache->gather_places = qzo_arena_reserve(arena, cache->limits.rows, sizeof(int32_t));
}

qzo_status qzo_kv_cache_open(qzo_kv_cache *out, const qzo_model *model,
                             const qzo_kv_limits *limits) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = model->backend;
    qzo_arena arena = {0};
    *out = (qzo_kv_cache){.model = model, .limits = *limits};
    if (limits->places > INT32_MAX)
        return qzo_fail(QZO_ERR_LIMIT, "a cache of %lld tokens, at most %d",
                        (long long)limits->places, INT32_MAX);
    slice(out, &arena);
    QZO_TRY(backend->ops->allocate(backend, &out->memory, arena.planned_bytes));
    arena.base = out->memory;
    slice(out, &arena);
    QZO_TRY(qzo_arena_finish(&arena));
cleanup:
    if (status != QZO_OK) qzo_kv_cache_close(out);
    return status;
}

void qzo_kv_cache_close(qzo_kv_cache *cache) {
    if (cache->model != NULL)
        cache->model->backend->ops->release(cache->model->backend, cache->memory);
    *cache = (qzo_kv_cache){0};
}

qzo_status qzo_kv_cache_begin(qzo_kv_cache *cache, const int32_t *own_begin_host, int64_t count) {
    qzo_backend *backend = cache->model->backend;
    QZO_ASSERT(count <= cache->limits.places);
    return backend->ops->upload(backend, cache->own_begin, own_begin_host,
                                (size_t)count * sizeof *own_begin_host);
}

/* Activations are opaque here: a layer's part begins so many bytes behind the first. */
static qzo_act *behind(qzo_act *from, size_t size_bytes) {
    return (qzo_act *)(void *)((char *)from + size_bytes);
}

qzo_kv_layer qzo_kv_cache_layer(const qzo_kv_cache *cache, int64_t layer) {
    int64_t count = layer * cache->limits.places * kv_width(&cache->model->shape);
    size_t offset_bytes = (size_t)count * cache->model->backend->ops->activation_bytes;
    return (qzo_kv_layer){behind(cache->keys, offset_bytes), behind(cache->values, offset_bytes)};
}
