/* What a weight format must provide. To add one: <name>_decode.h with one value's decoding for host
 * and device, quant_<name>.c with this table filled, one line in quant_registry.c.
 *
 * A format's functions are pure: they read the file's bytes and never change them. */
#ifndef QZO_WEIGHTS_QUANT_H
#define QZO_WEIGHTS_QUANT_H

#include "base/status.h"
#include "weights/model_dir.h"
#include "weights/qtensor.h"
#include "weights/tensor_changes.h"

#include <stdbool.h>

/* Which member of qzo_qtensor.as a format fills: what backends have loops and kernels for. Formats
 * may share one. */
typedef enum {
    QZO_LAYOUT_OTHER, /* known to the format's own functions alone */
    QZO_LAYOUT_DENSE,
    QZO_LAYOUT_GPTQ,
    QZO_LAYOUT_BNB,
    QZO_LAYOUT_AQLM,
    QZO_LAYOUT_GGUF
} qzo_layout;

struct qzo_quant_format {
    const char *name; /* "gptq", "awq", "bnb", "aqlm", "gguf", "dense" */
    qzo_layout layout;

    /* Whether the module's weight is stored in this format (its tensors' names tell). */
    bool (*detect)(const qzo_model_dir *dir, const char *module);

    /* Fills out for W (out_features, in_features): checks types, shapes, settings and index ranges;
     * sets group_count, `as` and `owned`, never span. Messages name the tensor. */
    qzo_status (*bind)(qzo_qtensor *out, const qzo_model_dir *dir, const char *module,
                       int64_t out_features, int64_t in_features);

    /* Optional (NULL): makes what backends read of what `bind` found, in memory that the tensor
     * owns, of formats whose files have another layout. Nothing decodes before; sizes and values
     * are known. */
    qzo_status (*repack)(qzo_qtensor *tensor);

    /* out (in_features) = row `row` of W in fp32, given that row's values (group_count), perturbed
     * or not; NULL where group_count is 0. */
    void (*decode_row)(float *out, const qzo_qtensor *weight, int64_t row, const float *values);

    /* Optional (NULL): inputs first .. first + count - 1 of that row alone; first and count are
     * multiples of 8 but for the row's end. Backends then need no loops of their own. */
    void (*decode_part)(float *out, const qzo_qtensor *weight, int64_t row, int64_t first,
                        int64_t count, const float *values);

    /* The file's values in logical order: out (out_features * group_count), or every element of a
     * weight that is not quantized. QZO_ERR_FORMAT names the first that is not finite. */
    qzo_status (*read_values)(float *out, const qzo_qtensor *weight);

    /* The inverse of read_values: adds the tensors of the file that hold the values (as many, in
     * logical order, fp32), rounded to nearest even to the type that the library which owns the
     * format reads. QZO_ERR_LIMIT where a value does not fit that type. */
    qzo_status (*write_values)(qzo_tensor_changes *changes, const qzo_qtensor *weight,
                               const float *values);

    const char *value_suffix; /* "scales": the span's name is module + "." + suffix */
    qzo_constraint constraint;
    float floor; /* of the values; 0: QZO_SCALE_FLOOR */
};

/* The smallest value of a positive scale (the paper's code clamps there). */
#define QZO_SCALE_FLOOR 1e-7f

/* NULL-terminated; the first that detects a module wins. */
extern const qzo_quant_format *const qzo_quant_formats[];
extern const qzo_quant_format qzo_quant_awq;
extern const qzo_quant_format qzo_quant_gptq;
extern const qzo_quant_format qzo_quant_bnb;
extern const qzo_quant_format qzo_quant_aqlm;
extern const qzo_quant_format qzo_quant_gguf;
extern const qzo_quant_format qzo_quant_compressed;
extern const qzo_quant_format qzo_quant_hqq;
extern const qzo_quant_format qzo_quant_dense;

/* The format of a module; NULL where none detects it. */
const qzo_quant_format *qzo_quant_format_find(const qzo_model_dir *dir, const char *module);

/* Finds the format of a module and binds it. The caller calls qzo_qtensor_release. */
qzo_status qzo_qtensor_bind(qzo_qtensor *out, const qzo_model_dir *dir, const char *module,
                            int64_t out_features, int64_t in_features);

/* An unquantized matrix from a float tensor of any rank with out_features * in_features elements in
 * that order: a convolution's kernel, a table with a leading 1. name: of the tensor; out->name is
 * module. QZO_ERR_FORMAT where it is missing or has other elements. */
qzo_status qzo_dense_bind_flat(qzo_qtensor *out, const qzo_model_dir *dir, const char *module,
                               const char *name, int64_t out_features, int64_t in_features);

/* An unquantized weight that is stored as (in_features, out_features): `bind` into a copy the right
 * way round. */
qzo_status qzo_dense_bind_transposed(qzo_qtensor *out, const qzo_model_dir *dir, const char *module,
                                     int64_t out_features, int64_t in_features);

/* The inverse: what `write_values` does, of a weight that was bound so. */
qzo_status qzo_dense_write_transposed(qzo_tensor_changes *changes, const qzo_qtensor *weight,
                                      const float *values);

/* What the format's `repack` does, and the bytes that the tensor then owns; 0 without one. */
qzo_status qzo_qtensor_repack(qzo_qtensor *tensor);
int64_t qzo_qtensor_repacked_bytes(const qzo_qtensor *tensor);

void qzo_qtensor_release(qzo_qtensor *tensor); /* safe on a zeroed tensor */

#endif
