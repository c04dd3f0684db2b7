/* How a model's tensors get their place among the masters, whatever the architecture: for the code
 * that loads models. */
#ifndef QZO_MODEL_MODEL_PARTS_H
#define QZO_MODEL_MODEL_PARTS_H

#include "model/model.h"

/* A linear layer and its bias. */
typedef struct qzo_linear {
    qzo_qtensor tensor;
    qzo_weight *weight;
    qzo_vector bias; /* without values: there is none */
    char *name;      /* module; the tensor borrows it */
} qzo_linear;

/* QZO_ERR_UNSUPPORTED where the backend has no attention for heads of that size. */
qzo_status qzo_model_check_heads(const qzo_model *model, int64_t head_dim);

/* Room for that many tensors that may train. */
qzo_status qzo_model_reserve_parts(qzo_model *model, int64_t count);

/* Gives the tensor its span where its values train under model->training; its canonical name is
 * tensor->name "." suffix, and a collision of ids is refused. kind: of a tensor that is not
 * quantized; a quantized one's values are scales. base: as in qzo_part. model->spans,
 * span_names and parts must have room. */
qzo_status qzo_model_add_values(qzo_model *model, qzo_qtensor *tensor, qzo_group_kind kind,
                                const char *suffix, float base);

/* The place of scales that do not train: behind all spans, so after the last qzo_model_add_values.
 */
void qzo_model_place_at_rest(qzo_model *model, qzo_qtensor *tensor);

/* (count) values of MODULE.SUFFIX plus `base` in fp32, in the backend's memory; they may train. The
 * caller releases out. */
qzo_status qzo_model_load_vector(qzo_vector *out, qzo_model *model, const char *module,
                                 const char *suffix, int64_t count, float base);

/* A vector as a pass sees it: the model's own, or perturbed in scratch (its length) where it
 * trains. */
qzo_status qzo_vector_values(const float **out, qzo_backend *backend, const qzo_vector *vector,
                             float *scratch, const float *masters,
                             const qzo_perturbation *perturbation);
void qzo_vector_release(qzo_backend *backend, qzo_vector *vector); /* safe on a zeroed vector */

/* A linear layer that is bound becomes what the folder is to be quantized to, if anything. threads
 * 0: its sizes alone. QZO_ERR_CONFIG where it is quantized already; tensor is released then. */
qzo_status qzo_model_quantize(qzo_qtensor *tensor, const qzo_model_dir *dir, int threads);
int qzo_model_quantize_threads(const qzo_model *model);

/* The layer of a module, in the format that the file has it in, with its bias where the file has
 * one; both may train. The caller releases out, also on failure. */
qzo_status qzo_model_load_linear(qzo_linear *out, qzo_model *model, const char *module,
                                 int64_t out_features, int64_t in_features);

/* The same of a weight that is bound already, and moves to out; kind: where it is not quantized. */
qzo_status qzo_model_load_bound(qzo_linear *out, qzo_model *model, const qzo_qtensor *tensor,
                                qzo_group_kind kind);
void qzo_linear_release(qzo_backend *backend, qzo_linear *linear); /* safe on a zeroed one */

/* Whether the file has the weight as (in_features, out_features). arch NULL: no decoder. */
bool qzo_model_is_transposed(const qzo_arch *arch, const qzo_qtensor *tensor);

#endif
