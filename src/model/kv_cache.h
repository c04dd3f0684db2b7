/* Keys and values of the tokens that a generation has behind it, of every layer: what the next
 * token attends to, in place of a forward pass over all of them.
 *
 * A place is room for one token; a sequence has consecutive places. */
#ifndef QZO_MODEL_KV_CACHE_H
#define QZO_MODEL_KV_CACHE_H

#include "model/model.h"

typedef struct qzo_kv_limits {
    int64_t places; /* of all sequences */
    int64_t rows;   /* tokens of one forward pass */
} qzo_kv_limits;

/* The arrays lie in the backend's memory. */
typedef struct qzo_kv_cache {
    const qzo_model *model; /* borrowed */
    qzo_kv_limits limits;
    void *memory;
    qzo_act *keys, *values; /* (layer_count, places, kv_head_count * head_dim) */
    int32_t *own_begin;     /* (places): the first place of the sequence */
    int32_t *no_prefix;     /* (places): zeros; sequences share nothing */
    int32_t *places;        /* (rows): of the rows of the pass that runs */
    int32_t *gather_places; /* (rows): of those whose logits are asked for */
} qzo_kv_cache;

qzo_status qzo_kv_cache_open(qzo_kv_cache *out, const qzo_model *model,
                             const qzo_kv_limits *limits);
void qzo_kv_cache_close(qzo_kv_cache *cache); /* safe on a zeroed one */

/* Forgets all sequences and says where the places of new ones begin: own_begin_host (count). */
qzo_status qzo_kv_cache_begin(qzo_kv_cache *cache, const int32_t *own_begin_host, int64_t count);

/* Where the rows of one pass lie; host memory. */
typedef struct qzo_kv_places {
    const int32_t *of_rows;    /* (rows) */
    const int32_t *of_gathers; /* (gathers) */
} qzo_kv_places;

/* The part of one layer. */
typedef struct qzo_kv_layer {
    qzo_act *keys, *values; /* (places, kv_head_count * head_dim) */
} qzo_kv_layer;

qzo_kv_layer qzo_kv_cache_layer(const qzo_kv_cache *cache, int64_t layer);

#endif
