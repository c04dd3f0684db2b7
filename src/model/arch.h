/* What may differ between decoder transformers: a filled table per architecture. The forward pass
 * is written once over it. To add one: arch_<name>.c and one line in arch_registry.c. */
#ifndef QZO_MODEL_ARCH_H
#define QZO_MODEL_ARCH_H

#include "backend/backend.h"
#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { QZO_LAYERS_MAX = 1 << 12 };

/* Linear layers of one decoder layer, in the order of the forward pass and of the spans. No
 * architecture has all of them. */
typedef enum {
    QZO_LINEAR_Q,
    QZO_LINEAR_K,
    QZO_LINEAR_V,
    QZO_LINEAR_QKV, /* fused: the three of them, one after the other */
    QZO_LINEAR_O,
    QZO_LINEAR_GATE,
    QZO_LINEAR_UP,
    QZO_LINEAR_GATE_UP, /* fused */
    QZO_LINEAR_DOWN,
    QZO_LINEAR_COUNT
} qzo_linear_kind;

/* Norms of one decoder layer. */
typedef enum {
    QZO_PLACE_ATTENTION, /* of what attention reads; of the sum after it where shape.post_norm */
    QZO_PLACE_FFN,
    QZO_PLACE_ATTENTION_OUT, /* of what attention adds to the residual stream */
    QZO_PLACE_FFN_OUT,
    QZO_PLACE_Q, /* of each head of q and k, before they are rotated */
    QZO_PLACE_K,
    QZO_PLACE_COUNT
} qzo_norm_place;

typedef enum {
    QZO_ROPE_DEFAULT,
    QZO_ROPE_LINEAR,
    QZO_ROPE_LLAMA3,
    QZO_ROPE_FACTORS /* of a GGUF file */
} qzo_rope_kind;

enum { QZO_ROPE_FACTORS_MAX = 256 };

typedef struct qzo_rope {
    qzo_rope_kind kind;
    float theta;
    float factor;                  /* divides frequencies: LINEAR all, LLAMA3 the low ones */
    float low_factor, high_factor; /* LLAMA3: wave lengths above original_positions / low_factor */
    float original_positions;      /* are long, those below ... / high_factor stay */
    int64_t factor_count;          /* FACTORS: head_dim / 2, each divides its frequency */
    float factors[QZO_ROPE_FACTORS_MAX];
} qzo_rope;

/* Sizes and constants of one model, read from config.json. */
typedef struct qzo_shape {
    int64_t width;       /* hidden size */
    int64_t embed_width; /* of the embedding table and the head: width in most models */
    int64_t layer_count;
    int64_t head_count;
    int64_t kv_head_count;
    int64_t head_dim;
    int64_t ffn_width;
    int64_t vocab;
    int64_t positions_max;
    int64_t window; /* rows that a windowed layer attends to */
    uint64_t windowed[QZO_LAYERS_MAX / 64];
    qzo_activation activation;
    qzo_rope rope;
    float norm_epsilon;
    float attention_scale; /* 1 / sqrt(head_dim) in most models */
    float embed_scale;     /* 1 in most models */
    float score_cap;       /* 0: none */
    float logit_cap;       /* 0: none */
    bool tied_head;        /* the head is the embedding table */
    bool post_norm;        /* norms follow attention and feed-forward; none at the end */
    bool has_bias[QZO_LINEAR_COUNT];
} qzo_shape;

typedef struct qzo_arch {
    const char *name;
    const char *model_type; /* config.json's */
    qzo_status (*read_shape)(qzo_shape *out, const json_t *config, const char *name);
    qzo_norm_kind norm;
    float norm_gain_base;    /* added to every stored gain; Gemma stores what 1 lacks */
    bool transposed_linears; /* unquantized ones are stored (in, out), as GPT-2's Conv1D are */
    int64_t position_offset; /* row of position 0 in the table of learned positions */
    /* Module names; %lld is the layer. NULL: the architecture has none. */
    const char *base; /* of all but the head; checkpoints of the model without its head omit it */
    const char *embedding;
    const char *positions;                /* learned ones, added to the embedding; NULL: rotary */
    const char *project_in, *project_out; /* where embed_width is not width */
    const char *final_norm;
    const char *head;
    const char *layer_prefix;
    const char *norms[QZO_PLACE_COUNT]; /* after the prefix, as the linears */
    const char *linears[QZO_LINEAR_COUNT];
} qzo_arch;

/* NULL-terminated. */
extern const qzo_arch *const qzo_archs[];
extern const qzo_arch qzo_arch_llama, qzo_arch_mistral, qzo_arch_qwen2, qzo_arch_qwen3;
extern const qzo_arch qzo_arch_phi3, qzo_arch_gemma2, qzo_arch_opt, qzo_arch_gpt2;

/* By config.json's model_type; QZO_ERR_UNSUPPORTED names those that are known. */
qzo_status qzo_arch_find(const qzo_arch **out, const json_t *config, const char *name);

static inline bool qzo_shape_is_windowed(const qzo_shape *shape, int64_t layer) {
    return (shape->windowed[layer / 64] >> (layer % 64) & 1) != 0;
}

#endif
