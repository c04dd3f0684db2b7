/* bitsandbytes 4-bit weights made while a model is loaded, from ones that are not quantized: what
 * transformers makes of a folder with BitsAndBytesConfig(load_in_4bit=True,
 * bnb_4bit_quant_type=...), bit for bit the codes and absmax of the library's CPU kernel. */
#ifndef QZO_WEIGHTS_BNB_QUANTIZE_H
#define QZO_WEIGHTS_BNB_QUANTIZE_H

#include "weights/quant.h"

struct qzo_bnb_kind {
    const char *name;    /* "nf4", "fp4", as the library spells them */
    float levels[16];    /* what a code stands for */
    float bounds[15];    /* ascending: halfway between two levels */
    uint8_t code_of[16]; /* of a value above so many bounds */
};

/* NULL-terminated. */
extern const qzo_bnb_kind *const qzo_bnb_kinds[];
const qzo_bnb_kind *qzo_bnb_kind_find(const char *name); /* NULL where there is none */

/* dense, which is bound and not quantized, becomes a tensor of qzo_quant_bnb that owns its codes
 * and absmax; what it was is released. thread_count 0: its sizes alone, nothing can be read from
 * it. QZO_ERR_UNSUPPORTED where blocks would cross rows, QZO_ERR_FORMAT where a value is not
 * finite; dense is released then too. */
qzo_status qzo_bnb_quantize(qzo_qtensor *dense, const qzo_bnb_kind *kind, int thread_count);

/* The quantization_config that transformers writes for a model of that kind (fresh, for
 * json_decref; NULL when out of memory). */
json_t *qzo_bnb_config(const qzo_bnb_kind *kind);

/* Bytes that such a tensor owns; 0 where its codes lie in a file. */
int64_t qzo_bnb_made_bytes(const qzo_qtensor *tensor);

#endif
