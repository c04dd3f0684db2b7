/* A Hugging Face model folder: config.json, the quantization's settings, and the tensors of
 * model.safetensors or of all shards that model.safetensors.index.json names. Nothing is copied.
 * Or a GGUF file, by its own path or as the only one of a folder without those: gguf_model.h. */
#ifndef QZO_WEIGHTS_MODEL_DIR_H
#define QZO_WEIGHTS_MODEL_DIR_H

#include "base/digest.h"
#include "base/status.h"
#include "weights/safetensors.h"

#include <jansson.h>

typedef struct qzo_model_dir qzo_model_dir;
typedef struct qzo_gguf_model qzo_gguf_model; /* gguf_model.h */
typedef struct qzo_bnb_kind qzo_bnb_kind;     /* bnb_quantize.h */

/* Opens and checks; a tensor that stands in two shards, or that the index names and no shard holds,
 * is refused. The caller closes it; views, JSON and strings are borrowed from it. */
qzo_status qzo_model_dir_open(qzo_model_dir **out, const char *path);
void qzo_model_dir_close(qzo_model_dir *dir); /* NULL is fine */

/* Puts the tensors of a file, which must outlive dir, in the place of those of the same names: the
 * base model and a delta of it (`qzo export --delta`). QZO_ERR_FORMAT names a tensor that dir does
 * not have, or has in another type or shape. The shards stay as they are. */
qzo_status qzo_model_dir_overlay(qzo_model_dir *dir, const qzo_safetensors *delta);

/* What whoever loads the folder makes of its linear layers; NULL: they stay as they are. */
void qzo_model_dir_quantize(qzo_model_dir *dir, const qzo_bnb_kind *kind);
const qzo_bnb_kind *qzo_model_dir_quantize_kind(const qzo_model_dir *dir);

const char *qzo_model_dir_path(const qzo_model_dir *dir);
const json_t *qzo_model_dir_config(const qzo_model_dir *dir);

/* config.json's quantization_config, else quantize_config.json, else NULL. */
const json_t *qzo_model_dir_quantization(const qzo_model_dir *dir);

/* Tensors of all shards in ascending order of their names. */
int64_t qzo_model_dir_data_bytes(const qzo_model_dir *dir);  /* of all tensors */
int64_t qzo_model_dir_owned_bytes(const qzo_model_dir *dir); /* of those that had to be copied */
int64_t qzo_model_dir_count(const qzo_model_dir *dir);
const qzo_tensor_view *qzo_model_dir_at(const qzo_model_dir *dir, int64_t index);
const qzo_tensor_view *qzo_model_dir_find(const qzo_model_dir *dir, const char *name);

/* As find, but QZO_ERR_FORMAT with the folder and the name where it is missing, and where the type
 * is none of F32, F16, BF16 or the shape differs. rank 1: shape {rows}; rank 2: {rows, columns}. */
qzo_status qzo_model_dir_require_float(const qzo_tensor_view **out, const qzo_model_dir *dir,
                                       const char *name, int rank, int64_t rows, int64_t columns);

/* The GGUF file, and the name of a copy in a folder, where it is found by its ending: its own, or
 * model.gguf where that has another ending. NULL where the tensors lie in other files. */
const qzo_gguf_model *qzo_model_dir_gguf(const qzo_model_dir *dir, const char **name);

/* The file whose __metadata__ others that belong to the model take over; NULL where none has. */
const qzo_safetensors *qzo_model_dir_metadata(const qzo_model_dir *dir);

/* The files that hold the tensors, in ascending order of their names, and their names; none of a
 * GGUF file. */
int64_t qzo_model_dir_shard_count(const qzo_model_dir *dir);
const qzo_safetensors *qzo_model_dir_shard(const qzo_model_dir *dir, int64_t index,
                                           const char **name);

/* model.safetensors.index.json; NULL where there is one file. */
const json_t *qzo_model_dir_index(const qzo_model_dir *dir);

/* Digest of the contents: config.json, the quantization settings, and every tensor's name, type,
 * shape and bytes in order of names. How the tensors are sharded does not change it. Reads every
 * byte of the model. */
qzo_status qzo_model_dir_digest(qzo_digest *out, const qzo_model_dir *dir);

#endif
