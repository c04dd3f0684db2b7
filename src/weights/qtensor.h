/* The one description of a weight matrix that every backend reads, quantized or not, and of its
 * trainable values: a quantized weight's scales, or every element of one that is not quantized.
 *
 * A weight is W (out_features, in_features); a linear layer computes y = x W^T. Trainable values of
 * one weight form a span; element = output row * group_count + group, the logical index, whatever
 * the storage order of the file. All spans of a model lie one after the other in one fp32 array,
 * the masters; span.offset is the place of element 0 there. Behind the spans lie the scales that do
 * not train: they are read in the same way, and nothing perturbs or updates them. */
#ifndef QZO_WEIGHTS_QTENSOR_H
#define QZO_WEIGHTS_QTENSOR_H

#include "base/update.h"
#include "weights/aqlm_decode.h"
#include "weights/gguf_decode.h"
#include "weights/gptq_decode.h"
#include "weights/safetensors.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct qzo_quant_format qzo_quant_format;

/* What is true of a trainable value after every update; applied once per step. */
typedef enum {
    QZO_CONSTRAINT_FREE,
    QZO_CONSTRAINT_POSITIVE, /* value = max(value, floor) */
    QZO_CONSTRAINT_KEEP_SIGN /* |value| >= floor, with the sign of the initial value; 0 stays 0 */
} qzo_constraint;

/* How a group of spans trains, relative to the trial. */
typedef struct qzo_value_group {
    float eps_factor;     /* its eps over the trial's */
    float rate_factor;    /* times k: its learning rate over the trial's, over eps_factor */
    bool is_active;       /* in this step; else neither perturbed nor updated */
    int64_t after, until; /* active in steps after + 1 .. until; until 0: to the last */
} qzo_value_group;

static inline void qzo_value_groups_enter(qzo_value_group *groups, int64_t count, int64_t step) {
    for (int64_t i = 0; i < count; i++)
        groups[i].is_active =
            step > groups[i].after && (groups[i].until == 0 || step <= groups[i].until);
}

/* c and k of a group's values; NULL is a group with factors of 1. */
static inline float qzo_value_group_c(const qzo_value_group *group, float c) {
    if (group == NULL) return c;
    return group->is_active ? qzo_scaled(c, group->eps_factor) : 0.0f;
}

static inline float qzo_value_group_rate(const qzo_value_group *group) {
    if (group == NULL) return 1.0f;
    return group->is_active ? group->rate_factor : 0.0f;
}

typedef struct qzo_span {
    const char *name;   /* canonical: "model.layers.0.mlp.up_proj.scales" */
    uint32_t tensor_id; /* qzo_tensor_id(name) */
    qzo_constraint constraint;
    float floor;
    int64_t offset; /* of element 0 in the masters */
    int64_t count;
    const qzo_value_group *group; /* NULL: trains as the trial says */
} qzo_span;

enum { QZO_SPAN_NONE = -1 };

/* Integer codes as GPTQ has them; gptq_decode.h has the layout. Pointers are aligned; borrowed from
 * the mapping or from `owned`, where formats that store another order have them once repacked. */
typedef struct qzo_gptq_tensor {
    int bits;                      /* of a code: 2, 3, 4 or 8 */
    bool has_float_zeros;          /* float_zeros stands in the place of zeros */
    const uint32_t *codes;         /* (in_features * bits / 32, out_features) */
    const uint32_t *zeros;         /* (group_count, out_features * bits / 32) */
    uint32_t zero_correction;      /* qzo_gptq_v1_correction for v1, 0 for v2 */
    const float *float_zeros;      /* (group_count, out_features) */
    const int32_t *group_of_input; /* (in_features): group of each input */
    qzo_tensor_view scales;        /* the initial values, in the format's own order */
    struct {                       /* what a format with `repack` makes the above of */
        qzo_tensor_view codes, zeros, groups;
        int bits; /* of codes, where they are others */
    } stored;
    int64_t group_size; /* of the same, where stored.groups is empty */
} qzo_gptq_tensor;

enum { QZO_BNB_MADE_COUNT = 3 };

/* bitsandbytes 4-bit; bnb_decode.h has the layout. */
typedef struct qzo_bnb_tensor {
    const uint8_t *codes; /* (out_features, in_features / 2) */
    float levels[16];     /* what a code stands for */
    int64_t block;        /* inputs that share an absmax; divides in_features */
    /* Initial absmax in logical order: F32; or U8 codes into nested_levels (256), with one
     * nested_absmax per nested_block of them and an offset. */
    qzo_tensor_view absmax, nested_absmax, nested_levels;
    int64_t nested_block; /* 0: absmax is not quantized */
    float nested_offset;
    const qzo_tensor_view *state; /* the settings beside the codes, as the file has them */
    const qzo_tensor_view *made;  /* codes, levels and state (QZO_BNB_MADE_COUNT) that were made at
                                     load and stand in no file; NULL: they were read */
} qzo_bnb_tensor;

typedef struct qzo_aqlm_tensor {
    qzo_aqlm_layout layout;
    qzo_tensor_view codes, codebooks, scales; /* scales (out_features): the initial values */
} qzo_aqlm_tensor;

typedef struct qzo_gguf_tensor {
    qzo_gguf_blocks layout;      /* with the blocks of the file, which hold the initial values */
    const qzo_tensor_view *view; /* of all blocks */
} qzo_gguf_tensor;

typedef struct qzo_qtensor {
    const qzo_quant_format *format;
    const char *name; /* module: "model.layers.0.mlp.up_proj"; borrowed */
    int64_t out_features;
    int64_t in_features;
    /* Values per output row in the masters, trainable or not: groups of a quantized weight;
     * in_features of another one that trains, 0 of one that does not. */
    int64_t group_count;
    int span;            /* index among the model's spans, or QZO_SPAN_NONE */
    int64_t span_offset; /* of the values in the masters, for backends; as tensor_id and group */
    uint32_t tensor_id;
    const qzo_value_group *group;
    union {
        qzo_tensor_view dense;
        qzo_gptq_tensor gptq;
        qzo_bnb_tensor bnb;
        qzo_aqlm_tensor aqlm;
        qzo_gguf_tensor gguf;
    } as;
    void *owned; /* what the format had to copy (unaligned data, derived indices); freed with it */
} qzo_qtensor;

/* The zero point of one output in one group of a weight with GPTQ's layout. */
static inline float qzo_qtensor_zero(const qzo_qtensor *tensor, int64_t group, int64_t output) {
    const qzo_gptq_tensor *gptq = &tensor->as.gptq;
    if (gptq->has_float_zeros) return gptq->float_zeros[group * tensor->out_features + output];
    return (float)qzo_gptq_zero(gptq->zeros + group * (tensor->out_features * gptq->bits / 32),
                                output, gptq->bits, gptq->zero_correction);
}

#endif
