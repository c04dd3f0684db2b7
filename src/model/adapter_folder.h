/* Adapters as files that Hugging Face PEFT reads, and merged into the weights beside them. */
#ifndef QZO_MODEL_ADAPTER_FOLDER_H
#define QZO_MODEL_ADAPTER_FOLDER_H

#include "model/adapters.h"

/* Writes adapter_config.json and adapter_model.safetensors (fp32) into the folder `path`; values
 * (value_count). base: where the model is that they belong to, for the config. */
qzo_status qzo_adapter_folder_write(const qzo_adapters *adapters, const float *values,
                                    const char *base, const char *path);

/* The inverse for the tensors, which must be those of the adapters. */
qzo_status qzo_adapter_folder_read(float *values, const qzo_adapters *adapters, const char *path);

/* QZO_ERR_USAGE names a layer whose weight is quantized: W + scale B A is no weight of its format.
 */
qzo_status qzo_adapters_check_merge(const qzo_adapters *adapters);

/* Elements of merged weights. */
typedef struct qzo_merge_counts {
    int64_t count, changed; /* changed: before the rounding to the file's type */
    int64_t surviving;      /* of those: that differ in the file, too */
} qzo_merge_counts;

/* W + scale B A, in double, rounded once to fp32, takes the place of every W that has an adapter:
 * in model_values (the model's value_count) where W trains itself, else in `out` in the file's
 * type, which *counts are about. */
qzo_status qzo_adapters_merge(qzo_tensor_changes *out, qzo_merge_counts *counts,
                              float *model_values, const qzo_adapters *adapters,
                              const float *values);

#endif
