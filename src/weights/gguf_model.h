/* A GGUF file as what a model folder is: the keys of config.json, and tensors with transformers'
 * names, rows in transformers' order.
 *
 *   blk.0.ffn_up.weight of type Q4_0    model.layers.0.mlp.up_proj.q4_0, U8 (out, bytes of a row)
 *   the same of type F16                model.layers.0.mlp.up_proj.weight, F16 (out, in)
 *
 * Rows of Llama's q and k, which llama.cpp turns in another order, are copied where they are
 * floats; blocks stay where they are, and gguf_decode.h finds them. An architecture, a key or a
 * tensor that is not known is refused by its name: what it asks for would be left out. */
#ifndef QZO_WEIGHTS_GGUF_MODEL_H
#define QZO_WEIGHTS_GGUF_MODEL_H

#include "weights/gguf.h"
#include "weights/gguf_decode.h"
#include "weights/tensor_changes.h"

#include <jansson.h>

typedef struct qzo_gguf_model qzo_gguf_model;

/* The caller closes it; JSON, views and strings are borrowed from it. */
qzo_status qzo_gguf_model_open(qzo_gguf_model **out, const char *path);

/* The same over bytes that the caller keeps alive; name stands in messages. */
qzo_status qzo_gguf_model_parse(qzo_gguf_model **out, const uint8_t *bytes, size_t size_bytes,
                                const char *name);
void qzo_gguf_model_close(qzo_gguf_model *model); /* NULL is fine */

const qzo_gguf *qzo_gguf_model_file(const qzo_gguf_model *model);
json_t *qzo_gguf_model_config(const qzo_gguf_model *model);

/* In the order in which they lie in the file. */
int64_t qzo_gguf_model_count(const qzo_gguf_model *model);
const qzo_tensor_view *qzo_gguf_model_at(const qzo_gguf_model *model, int64_t index);

/* Bytes of the rows that were copied. */
int64_t qzo_gguf_model_owned_bytes(const qzo_gguf_model *model);

/* A tensor's name after its module: "q4_0". */
const char *qzo_gguf_block_suffix(qzo_gguf_block kind);

/* The blocks of a view of this model, which may have other data (a delta's). False: floats. */
bool qzo_gguf_model_blocks(qzo_gguf_blocks *out, const qzo_gguf_model *model,
                           const qzo_tensor_view *view);

/* The file with changed tensors in their places and every other byte as it was. The path appears
 * whole or not at all. QZO_ERR_UNSUPPORTED names a change that the file has no place for. */
qzo_status qzo_gguf_model_write(const qzo_gguf_model *model, const qzo_tensor_changes *changes,
                                const char *path);

#endif
