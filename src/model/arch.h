/* What may differ between decoder transformers: a filled table per architecture. The forward pass
 * is written once over it. To add one: arch_<name>.c and one line in arch_registry.c. */
#ifndef QZO_MODEL_ARCH_H
#define QZO_MODEL_ARCH_H

#include "backend/backend.h"
#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Sizes of one model, read from config.json. */
typedef struct qzo_shape {
    int64_t width; /* hidden size */
    int64_t layer_count;
    int64_t head_count;
    int64_t kv_head_count;
    int64_t head_dim;
    int64_t ffn_width;
    int64_t vocab;
    int64_t positions_max;
    float norm_epsilon;
    float rope_theta;
    bool tied_head; /* the head is the embedding table */
} qzo_shape;

/* Linear layers of one decoder layer, in the order of the forward pass and of the spans. */
typedef enum {
    QZO_LINEAR_Q,
    QZO_LINEAR_K,
    QZO_LINEAR_V,
    QZO_LINEAR_O,
    QZO_LINEAR_GATE,
    QZO_LINEAR_UP,
    QZO_LINEAR_DOWN,
    QZO_LINEAR_COUNT
} qzo_linear_kind;

typedef struct qzo_arch {
    const char *name;
    const char *model_type; /* config.json's */
    qzo_status (*read_shape)(qzo_shape *out, const json_t *config, const char *name);
    qzo_norm_kind norm;
    qzo_activation activation;
    /* Module names; %lld is the layer. */
    const char *embedding;
    const char *final_norm;
    const char *head;
    const char *layer_prefix;
    const char *attention_norm; /* after the prefix, like all below */
    const char *ffn_norm;
    const char *linears[QZO_LINEAR_COUNT];
} qzo_arch;

/* NULL-terminated. */
extern const qzo_arch *const qzo_archs[];
extern const qzo_arch qzo_arch_llama;

/* By config.json's model_type; QZO_ERR_UNSUPPORTED names those that are known. */
qzo_status qzo_arch_find(const qzo_arch **out, const json_t *config, const char *name);

#endif
