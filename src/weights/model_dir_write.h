/* Writes a model folder anew with some tensors changed: what `qzo export` hands out. */
#ifndef QZO_WEIGHTS_MODEL_DIR_WRITE_H
#define QZO_WEIGHTS_MODEL_DIR_WRITE_H

#include "weights/model_dir.h"
#include "weights/tensor_changes.h"

/* Fills the empty folder `path`: the tensors of dir in files of the same names, with the changes,
 * and a copy of every other file that holds no weights (config, tokenizer, licence). Changed
 * tensors that dir does not have join its first file. */
qzo_status qzo_model_dir_write(const qzo_model_dir *dir, const qzo_tensor_changes *changes,
                               const char *path);

/* The changed tensors alone, as PATH/model.safetensors, without those that are equal to dir's;
 * *count tells how many there are. */
qzo_status qzo_model_dir_write_delta(int64_t *count, const qzo_model_dir *dir,
                                     const qzo_tensor_changes *changes, const char *path);

#endif
