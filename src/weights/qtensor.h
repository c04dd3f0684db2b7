/* The one description of a weight matrix that every backend reads, quantized or not, and of the
 * trainable values (scales) that some formats have.
 *
 * A weight is W (out_features, in_features); a linear layer computes y = x W^T. Trainable values of
 * one weight form a span; element = output row * group_count + group, the logical index, whatever
 * the storage order of the file. All spans of a model lie one after the other in one fp32 array,
 * the masters; span.offset is the place of element 0 there. */
#ifndef QZO_WEIGHTS_QTENSOR_H
#define QZO_WEIGHTS_QTENSOR_H

#include "weights/safetensors.h"

#include <stddef.h>
#include <stdint.h>

typedef struct qzo_quant_format qzo_quant_format;

/* What is true of a trainable value after every update; applied once per step. */
typedef enum {
    QZO_CONSTRAINT_FREE,
    QZO_CONSTRAINT_POSITIVE, /* value = max(value, floor) */
    QZO_CONSTRAINT_KEEP_SIGN /* |value| >= floor, with the sign of the initial value */
} qzo_constraint;

typedef struct qzo_span {
    const char *name;   /* canonical: "model.layers.0.mlp.up_proj.scales" */
    uint32_t tensor_id; /* qzo_tensor_id(name) */
    qzo_constraint constraint;
    float floor;
    int64_t offset; /* of element 0 in the masters */
    int64_t count;
} qzo_span;

enum { QZO_SPAN_NONE = -1 };

/* GPTQ int4 as the file has it. Pointers are aligned; borrowed from the mapping or from `owned`. */
typedef struct qzo_gptq_tensor {
    const uint32_t *codes;         /* (in_features / 8, out_features): 8 nibbles along in */
    const uint32_t *zeros;         /* (group_count, out_features / 8): 8 nibbles along out */
    uint32_t zero_correction;      /* added to a whole word of zeros: 0x11111111 for v1, 0 for v2 */
    const int32_t *group_of_input; /* (in_features): group of each input */
    qzo_tensor_view scales;        /* (group_count, out_features), the initial values */
} qzo_gptq_tensor;

typedef struct qzo_qtensor {
    const qzo_quant_format *format;
    const char *name; /* module: "model.layers.0.mlp.up_proj"; borrowed */
    int64_t out_features;
    int64_t in_features;
    int64_t group_count; /* trainable values per output row; 0 where there are none */
    int span;            /* index among the model's spans, or QZO_SPAN_NONE */
    int64_t span_offset; /* copied from the span, for backends */
    uint32_t tensor_id;
    union {
        qzo_tensor_view dense;
        qzo_gptq_tensor gptq;
    } as;
    void *owned; /* what the format had to copy (unaligned data, derived indices); freed with it */
} qzo_qtensor;

#endif
