/* The metadata of a GGUF file as the keys of config.json that transformers has for the model. */
#ifndef QZO_WEIGHTS_GGUF_CONFIG_H
#define QZO_WEIGHTS_GGUF_CONFIG_H

#include "weights/gguf.h"

#include <jansson.h>

/* Factors that divide the frequencies of rotary positions, of files with Llama 3's scaling. */
#define QZO_GGUF_ROPE_FACTORS "rope_freqs.weight"

/* What the names and rows of tensors depend on. */
typedef struct qzo_gguf_heads {
    int64_t layer_count;
    int64_t count, kv_count;
    bool reordered; /* rows of q and k: gguf_decode.h */
    bool has_norms; /* of each head of q and k */
} qzo_gguf_heads;

/* The caller releases *config with json_decref. */
qzo_status qzo_gguf_config_read(json_t **config, qzo_gguf_heads *heads, const qzo_gguf *file);

#endif
