/* AQLM: decoding of one group, host and device (Egiazarian et al., arXiv 2401.06118; layout of the
 * aqlm package).
 *
 * codes (out, in / 8, codebooks): 8 or 16 bits each. Eight neighbouring inputs of an output are the
 * sum of one entry of each codebook (codebooks, entries, 8), times the output's scale. */
#ifndef QZO_WEIGHTS_AQLM_DECODE_H
#define QZO_WEIGHTS_AQLM_DECODE_H

#include "base/half.h"

enum { QZO_AQLM_GROUP = 8 };

typedef struct qzo_aqlm_layout {
    const void *codes;
    const uint16_t *codebooks; /* fp16, or bf16 where is_bf16 */
    int code_bits;             /* 8 or 16: a codebook has 2^code_bits entries */
    int codebook_count;
    int is_bf16;
} qzo_aqlm_layout;

QZO_HOST_DEVICE static inline int64_t qzo_aqlm_code(const qzo_aqlm_layout *layout, int64_t index) {
    if (layout->code_bits == 16) return ((const uint16_t *)layout->codes)[index];
    return ((const uint8_t *)layout->codes)[index];
}

/* The values that a group has in a codebook. */
QZO_HOST_DEVICE static inline const uint16_t *qzo_aqlm_entry(const qzo_aqlm_layout *layout,
                                                             int64_t group, int codebook) {
    int64_t code = qzo_aqlm_code(layout, group * layout->codebook_count + codebook);
    return layout->codebooks + (((int64_t)codebook << layout->code_bits) + code) * QZO_AQLM_GROUP;
}

/* sums (8) += an entry, or = the first one. */
QZO_HOST_DEVICE static inline void qzo_aqlm_add(float sums[QZO_AQLM_GROUP],
                                                const uint16_t entry[QZO_AQLM_GROUP], int is_bf16,
                                                int is_first) {
    for (int i = 0; i < QZO_AQLM_GROUP; i++) {
        float part = is_bf16 ? qzo_bf16_to_float(entry[i]) : qzo_fp16_to_float(entry[i]);
        sums[i] = is_first ? part : QZO_FADD(sums[i], part);
    }
}

/* out (8): group `group` of all groups in order (output, group), sums of codebooks in order. */
QZO_HOST_DEVICE static inline void qzo_aqlm_group(float out[QZO_AQLM_GROUP],
                                                  const qzo_aqlm_layout *layout, int64_t group,
                                                  float scale) {
    for (int c = 0; c < layout->codebook_count; c++)
        qzo_aqlm_add(out, qzo_aqlm_entry(layout, group, c), layout->is_bf16, c == 0);
    for (int i = 0; i < QZO_AQLM_GROUP; i++) out[i] = QZO_FMUL(scale, out[i]);
}

#endif
