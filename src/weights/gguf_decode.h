/* Blocks of llama.cpp's GGUF files: decoding of eight values, host and device (layouts and order of
 * operations as in ggml's reference code, dequantize_row_*, and in its gguf package for Python).
 *
 *   Q4_0  32 inputs, 18 bytes: fp16 d; 16 bytes, inputs 0 .. 15 in the low nibbles, 16 .. 31 in the
 *         high ones                                              w = d (q - 8)
 *   Q8_0  32 inputs, 34 bytes: fp16 d; 32 signed bytes           w = d q
 *   Q4_K  256 inputs, 144 bytes: fp16 d, fp16 dmin; 12 bytes with a scale s and a minimum m of 6
 *         bits for each 32 inputs; 128 bytes, of which 32 hold inputs 64 j .. 64 j + 31 in the low
 *         nibbles and the 32 that follow in the high ones        w = (d s) q - dmin m
 *   Q6_K  256 inputs, 210 bytes: 128 bytes of low nibbles and 64 of high pairs, in two halves of
 *         128 inputs; a signed byte s for each 16 inputs; fp16 d  w = (d s) (q - 32)
 *
 * d is what trains: a block has one, and it may be negative. Everything else stays as it is. */
#ifndef QZO_WEIGHTS_GGUF_DECODE_H
#define QZO_WEIGHTS_GGUF_DECODE_H

#include "base/half.h"
#include "base/host_device.h"

typedef enum {
    QZO_GGUF_BLOCK_Q4_0,
    QZO_GGUF_BLOCK_Q8_0,
    QZO_GGUF_BLOCK_Q4_K,
    QZO_GGUF_BLOCK_Q6_K
} qzo_gguf_block;

enum { QZO_GGUF_OCTET = 8, QZO_GGUF_SMALL = 32, QZO_GGUF_SUPER = 256 };

/* A matrix of blocks; `blocks` is a host or a device pointer. */
typedef struct qzo_gguf_blocks {
    const uint8_t *blocks; /* (out_features, in_features / block_inputs), as the file has them */
    int64_t in_features;
    int64_t head_rows; /* of q and k of Llama: rows of a head; 0: the rows stand in their order */
    int block_inputs;
    int block_bytes;
    int d_at; /* place of d in a block */
    qzo_gguf_block kind;
} qzo_gguf_blocks;

QZO_HOST_DEVICE static inline qzo_gguf_blocks qzo_gguf_blocks_of(qzo_gguf_block kind) {
    qzo_gguf_blocks out;
    memset(&out, 0, sizeof out);
    out.kind = kind;
    out.block_inputs = kind == QZO_GGUF_BLOCK_Q4_0 || kind == QZO_GGUF_BLOCK_Q8_0 ? QZO_GGUF_SMALL
                                                                                  : QZO_GGUF_SUPER;
    out.block_bytes = kind == QZO_GGUF_BLOCK_Q4_0   ? 18
                      : kind == QZO_GGUF_BLOCK_Q8_0 ? 34
                      : kind == QZO_GGUF_BLOCK_Q4_K ? 144
                                                    : 210;
    out.d_at = kind == QZO_GGUF_BLOCK_Q6_K ? 208 : 0;
    return out;
}

/* llama.cpp turns neighbouring pairs of a head where transformers turns its halves: the converter
 * stores row p * rows / 2 + i of a head as row 2 i + p. Where a row of ours lies in the file. */
QZO_HOST_DEVICE static inline int64_t qzo_gguf_stored_row(int64_t row, int64_t head_rows) {
    if (head_rows == 0) return row;
    int64_t in_head = row % head_rows, half = head_rows / 2;
    return row - in_head + 2 * (in_head % half) + in_head / half;
}

/* The block that holds an input of a row. */
QZO_HOST_DEVICE static inline const uint8_t *qzo_gguf_block_at(const qzo_gguf_blocks *weight,
                                                               int64_t row, int64_t input) {
    int64_t per_row = weight->in_features / weight->block_inputs;
    int64_t stored = qzo_gguf_stored_row(row, weight->head_rows);
    return weight->blocks + (stored * per_row + input / weight->block_inputs) * weight->block_bytes;
}

QZO_HOST_DEVICE static inline float qzo_gguf_half(const uint8_t *at) {
    return qzo_fp16_to_float((uint16_t)(at[0] | at[1] << 8));
}

/* --- eight inputs, `first` (a multiple of eight) and on, of one block --- */

QZO_HOST_DEVICE static inline void qzo_gguf_octet_q4_0(float out[QZO_GGUF_OCTET],
                                                       const uint8_t *block, int first, float d) {
    const uint8_t *codes = block + 2 + first % 16;
    int shift = first < 16 ? 0 : 4;
    for (int i = 0; i < QZO_GGUF_OCTET; i++)
        out[i] = QZO_FMUL(d, (float)((codes[i] >> shift & 15) - 8));
}

QZO_HOST_DEVICE static inline void qzo_gguf_octet_q8_0(float out[QZO_GGUF_OCTET],
                                                       const uint8_t *block, int first, float d) {
    for (int i = 0; i < QZO_GGUF_OCTET; i++)
        out[i] = QZO_FMUL(d, (float)(int8_t)block[2 + first + i]);
}

/* Scales and minima 0 .. 3 lie in the low six bits of bytes 0 .. 3 and 4 .. 7, those of 4 .. 7 in
 * the nibbles of bytes 8 .. 11, with two high bits above the former. */
QZO_HOST_DEVICE static inline void qzo_gguf_octet_q4_k(float out[QZO_GGUF_OCTET],
                                                       const uint8_t *block, int first, float d) {
    const uint8_t *packed = block + 4, *codes = block + 16 + first / 64 * 32 + first % 32;
    int part = first / 32, shift = part % 2 * 4, low = part & 3;
    int scale = packed[low] & 63, minimum = packed[4 + low] & 63;
    if (part >= 4) {
        scale = (packed[8 + low] & 15) | packed[low] >> 6 << 4;
        minimum = packed[8 + low] >> 4 | packed[4 + low] >> 6 << 4;
    }
    float step = QZO_FMUL(d, (float)scale);
    float below = QZO_FMUL(qzo_gguf_half(block + 2), (float)minimum);
    for (int i = 0; i < QZO_GGUF_OCTET; i++)
        out[i] = QZO_FADD(QZO_FMUL(step, (float)(codes[i] >> shift & 15)), -below);
}

/* A half of 128 inputs is four parts of 32: bytes 0 .. 31 hold parts 0 and 2, 32 .. 63 1 and 3. */
QZO_HOST_DEVICE static inline void qzo_gguf_octet_q6_k(float out[QZO_GGUF_OCTET],
                                                       const uint8_t *block, int first, float d) {
    int half = first / 128, part = first % 128 / 32, at = first % 32;
    const uint8_t *low = block + 64 * half + part % 2 * 32 + at;
    const uint8_t *high = block + 128 + 32 * half + at;
    int low_shift = part / 2 * 4, high_shift = 2 * part;
    float step = QZO_FMUL(d, (float)(int8_t)block[192 + first / 16]);
    int codes[QZO_GGUF_OCTET]; /* all before the first is stored, which might be where they lie */
    for (int i = 0; i < QZO_GGUF_OCTET; i++)
        codes[i] = (low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4;
    for (int i = 0; i < QZO_GGUF_OCTET; i++) out[i] = QZO_FMUL(step, (float)(codes[i] - 32));
}

QZO_HOST_DEVICE static inline void qzo_gguf_octet_of(float out[QZO_GGUF_OCTET],
                                                     const uint8_t *block, int first, float d,
                                                     qzo_gguf_block kind) {
    switch (kind) {
    case QZO_GGUF_BLOCK_Q4_0: qzo_gguf_octet_q4_0(out, block, first, d); break;
    case QZO_GGUF_BLOCK_Q8_0: qzo_gguf_octet_q8_0(out, block, first, d); break;
    case QZO_GGUF_BLOCK_Q4_K: qzo_gguf_octet_q4_k(out, block, first, d); break;
    default: qzo_gguf_octet_q6_k(out, block, first, d); break;
    }
}

/* Inputs first .. first + 7 of a row, with the d of their block. */
QZO_HOST_DEVICE static inline void qzo_gguf_octet(float out[QZO_GGUF_OCTET],
                                                  const qzo_gguf_blocks *weight, int64_t row,
                                                  int64_t first, float d) {
    const uint8_t *block = qzo_gguf_block_at(weight, row, first);
    qzo_gguf_octet_of(out, block, (int)(first % weight->block_inputs), d, weight->kind);
}

#endif
