/* The tensors of one module, for the formats that have several. Private to quant_*.c. */
#ifndef QZO_WEIGHTS_QUANT_PARTS_H
#define QZO_WEIGHTS_QUANT_PARTS_H

#include "base/status.h"
#include "weights/model_dir.h"
#include "weights/qtensor.h"
#include "weights/tensor_changes.h"

#include <stdint.h>

/* The tensor "MODULE.SUFFIX"; NULL where there is none. */
const qzo_tensor_view *qzo_quant_part_find(const qzo_model_dir *dir, const char *module,
                                           const char *suffix);

/* As find, but QZO_ERR_FORMAT with the tensor's name where it is missing, its type is another than
 * expected, or it does not have `count` elements. What the reader walks through is the order of the
 * elements alone, so (n) and (n, 1) are the same. */
qzo_status qzo_quant_part_require(const qzo_tensor_view **out, const qzo_model_dir *dir,
                                  const char *module, const char *suffix, qzo_dtype dtype,
                                  int64_t count);

/* As require, of type I32 and shape (rows, columns); columns -1: shape (rows). */
qzo_status qzo_quant_part_ints(const qzo_tensor_view **out, const qzo_model_dir *dir,
                               const char *module, const char *suffix, int64_t rows,
                               int64_t columns);

/* As require, of shape (rows, columns) in F32, F16 or BF16. */
qzo_status qzo_quant_part_floats(const qzo_tensor_view **out, const qzo_model_dir *dir,
                                 const char *module, const char *suffix, int64_t rows,
                                 int64_t columns);

/* The group of each input, I32 (inputs): QZO_ERR_FORMAT names the first that is none of the
 * groups. */
qzo_status qzo_quant_part_groups(const qzo_tensor_view **out, const qzo_model_dir *dir,
                                 const char *module, const char *suffix, int64_t inputs,
                                 int64_t groups);

/* MODULE.SUFFIX must be I64 (2): out_features, in_features. */
qzo_status qzo_quant_part_shape(const qzo_model_dir *dir, const char *module, const char *suffix,
                                int64_t out_features, int64_t in_features);

/* Element index of an I32 view; any alignment. */
int32_t qzo_quant_int_at(const qzo_tensor_view *view, int64_t index);

/* Copies of the views that are not aligned for their types, in one block that the caller frees;
 * the views then point there. *owned is NULL where all are aligned. */
qzo_status qzo_quant_parts_align(void **owned, qzo_tensor_view *const views[], int count);

/* Where the scale of (row, group) stands among the elements of its tensor. */
typedef struct qzo_scale_order {
    int64_t row_stride, group_stride;
} qzo_scale_order;

/* read_values of a format whose scales are one tensor of floats, (out_features * group_count). */
qzo_status qzo_quant_scales_read(float *out, const qzo_qtensor *weight,
                                 const qzo_tensor_view *scales, qzo_scale_order order);

/* write_values of the same, in the type that the file has: libraries turn wider ones back to 16
 * bits. */
qzo_status qzo_quant_scales_write(qzo_tensor_changes *changes, const qzo_qtensor *weight,
                                  const qzo_tensor_view *scales, qzo_scale_order order,
                                  const float *values);

/* read_values and write_values of formats with GPTQ's codes: scales of all outputs of a group
 * behind one another, or those of all groups of an output. */
qzo_status qzo_gptq_scales_read_by_group(float *out, const qzo_qtensor *weight);
qzo_status qzo_gptq_scales_write_by_group(qzo_tensor_changes *changes, const qzo_qtensor *weight,
                                          const float *values);
qzo_status qzo_gptq_scales_read_by_output(float *out, const qzo_qtensor *weight);
qzo_status qzo_gptq_scales_write_by_output(qzo_tensor_changes *changes, const qzo_qtensor *weight,
                                           const float *values);

/* The first element that is not finite: QZO_ERR_FORMAT names the tensor and the place. */
qzo_status qzo_quant_part_check_finite(const qzo_tensor_view *view);

#endif
