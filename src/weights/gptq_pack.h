/* The layout of GPTQ for formats that store integer codes in another order: laid out anew while a
 * model is loaded, so that its loops and kernels serve them all. Private to quant_*.c, but for the
 * bytes. */
#ifndef QZO_WEIGHTS_GPTQ_PACK_H
#define QZO_WEIGHTS_GPTQ_PACK_H

#include "weights/quant.h"

/* Both sizes of a weight must be multiples of it: codes that fill whole words, and at least the
 * eight that decoders take at a time. 0: no such codes. */
int64_t qzo_gptq_packed_codes(int64_t bits);

/* As packed_codes, of a module: QZO_ERR_UNSUPPORTED where bits or sizes are others. label: the
 * format in the message. */
qzo_status qzo_gptq_check_sizes(const qzo_qtensor *tensor, const qzo_model_dir *dir,
                                const char *label, int64_t bits);

/* Where `repack` writes: as.gptq's codes, zeros and group_of_input in one block that tensor owns
 * from now on; zeros but for group_of_input, which is filled from stored.groups or group_size. */
typedef struct qzo_gptq_room {
    uint32_t *codes, *zeros;
    float *float_zeros; /* NULL where zeros are integers, as the other one where they are not */
} qzo_gptq_room;
qzo_status qzo_gptq_make_room(qzo_gptq_room *out, qzo_qtensor *tensor);

/* Sets field `index` of a run of words, which must be 0; word i of the run is words[i * stride]. */
void qzo_gptq_put(uint32_t *words, int64_t stride, int64_t index, int bits, uint32_t code);

/* out (columns, rows) = in (rows, columns) with some bits flipped; in needs no alignment. */
void qzo_gptq_transpose_words(uint32_t *out, const uint8_t *in, int64_t rows, int64_t columns,
                              uint32_t flipped);

/* decode_row of every format with this layout. */
void qzo_gptq_decode_row(float *out, const qzo_qtensor *weight, int64_t row, const float *values);

#endif
