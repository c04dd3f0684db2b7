/* A model folder and a backend to a loaded model: weights bound in their formats, norms in the
 * backend's memory. Loaded once per rank and shared by all its trials: nothing in it
 * changes after loading. A trial's own state is one array of masters. */
#ifndef QZO_MODEL_MODEL_H
#define QZO_MODEL_MODEL_H

#include "model/arch.h"
#include "model/groups.h"
#include "weights/model_dir.h"
#include "weights/tensor_changes.h"

#include <stdint.h>

/* A norm's gain or bias, a linear layer's bias. */
typedef struct qzo_vector {
    float *values;      /* in fp32, in the backend's memory; NULL: there is none */
    qzo_qtensor tensor; /* one row; group_count > 0 where it trains and lies in the masters */
    char *name;         /* module; the tensor borrows it */
    float base;         /* added to what the file has */
} qzo_vector;

typedef struct qzo_norm {
    qzo_vector gain; /* without values: there is no norm */
    qzo_vector bias; /* the same where the architecture's norm has none */
} qzo_norm;

/* A tensor with values in the masters. */
typedef struct qzo_part {
    const qzo_qtensor *tensor;
    float base; /* of a vector */
    qzo_group_kind kind;
} qzo_part;

/* What the architecture lacks is NULL and zero. */
typedef struct qzo_layer {
    qzo_norm norms[QZO_PLACE_COUNT];     /* (width), of q and k (head_dim) */
    qzo_vector biases[QZO_LINEAR_COUNT]; /* (out_features) */
    int64_t window;                      /* 0: none */
    char *names[QZO_LINEAR_COUNT];       /* modules; the tensors borrow them */
    qzo_qtensor tensors[QZO_LINEAR_COUNT];
    qzo_weight *weights[QZO_LINEAR_COUNT];
} qzo_layer;

/* A decoder transformer, or where mmdit is there a diffusion transformer: then what is of a decoder
 * alone is NULL and zero. */
typedef struct qzo_model {
    const qzo_arch *arch;
    qzo_shape shape;
    struct qzo_mmdit *mmdit; /* model/mmdit.h */
    qzo_backend *backend;    /* borrowed */
    qzo_model_dir *dir;      /* owned: the codes stay in its mapping */
    qzo_layer *layers;       /* (layer_count) */
    qzo_qtensor embedding_tensor, head_tensor;
    qzo_weight *embedding; /* (vocab, embed_width) */
    qzo_weight *head;      /* the embedding itself where they are tied */
    /* NULL where the architecture has none. */
    qzo_qtensor positions_tensor, project_in_tensor, project_out_tensor;
    qzo_weight *positions; /* (positions_max + position_offset, width) */
    qzo_weight *project_in, *project_out;
    qzo_norm final_norm; /* (width) */
    qzo_span *spans;     /* trainable values, in the order in which the model is loaded */
    char **span_names;
    qzo_part *parts; /* those of the spans, in their order, then scales that do not train */
    qzo_value_group groups[QZO_GROUP_COUNT]; /* factors of 1, active, until somebody sets them */
    int64_t span_count, part_count;
    int64_t value_count;          /* of the spans */
    int64_t master_count;         /* value_count and the scales that do not train */
    const qzo_training *training; /* while it is loaded */
    int64_t loaded_bytes; /* own: norms, biases, weights that were turned or quantized at load */
    int64_t ends_bytes;   /* of embedding and head, where the backend copies weights */
} qzo_model;

/* Takes ownership of dir, also on failure. qzo_model_load is for a training of the scales alone. */
qzo_status qzo_model_load_for(qzo_model **out, qzo_model_dir *dir, qzo_backend *backend,
                              const qzo_training *training);
qzo_status qzo_model_load(qzo_model **out, qzo_model_dir *dir, qzo_backend *backend);
void qzo_model_free(qzo_model *model); /* NULL is fine */

/* QZO_ERR_UNSUPPORTED where the model is not one of texts. */
qzo_status qzo_model_require_decoder(const qzo_model *model);

/* The initial masters (master_count), in host memory. */
qzo_status qzo_model_initial_values(const qzo_model *model, float *masters_host);

/* Adds the tensors of the folder that hold the trainable values, with those of masters_host
 * (value_count) in the formats' own types. The caller releases out. */
qzo_status qzo_model_changes(qzo_tensor_changes *out, const qzo_model *model,
                             const float *masters_host);

/* The rotary table of positions 0 .. positions - 1: host (positions, head_dim / 2, {cos, sin}).
 * Whoever needs one asks for the positions that it uses: a configuration may promise millions.
 *
 * transformers' angles: inverse frequency (scaled as the model asks) and angle rounded to fp32,
 * then cos and sin. Not those of the C library: its last bit may change with its version, and with
 * it every loss. */
void qzo_rope_table_fill(float *host, const qzo_shape *shape, int64_t positions);

/* Bytes that a model of this folder takes, before it is loaded. */
typedef struct qzo_model_sizes {
    int64_t mapped_bytes; /* codes, zeros, embeddings: in the page cache, shared by the node */
    int64_t loaded_bytes; /* own copies: norms, biases, transposed weights */
    int64_t value_count;  /* trainable values */
    const qzo_arch *arch;
    qzo_shape shape;
} qzo_model_sizes;

qzo_status qzo_model_measure(qzo_model_sizes *out, const qzo_model_dir *dir);

enum { QZO_MODULE_NAME_BYTES = 512 };

/* Binds one linear layer of a folder, of a kind that the architecture has, without loading it.
 * out->name is `module`, filled here. The caller releases the tensor. quantize_threads: for a layer
 * that is quantized at load; 0: its sizes alone. */
qzo_status qzo_model_bind_linear(qzo_qtensor *out, char module[QZO_MODULE_NAME_BYTES],
                                 const qzo_model_dir *dir, const qzo_arch *arch,
                                 const qzo_shape *shape, int64_t layer, qzo_linear_kind kind,
                                 int quantize_threads);

#endif
