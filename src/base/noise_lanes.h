/* The loop over blocks that noise.c, noise_avx2.c and noise_avx512.c compile for their instruction
 * sets. Only rounded IEEE operations happen in it, so the width cannot change a bit. Private to
 * them. */
#ifndef QZO_BASE_NOISE_LANES_H
#define QZO_BASE_NOISE_LANES_H

#include "base/noise.h"
#include "base/philox.h"

/* out (4 * block_count) = z of elements 4 * first_block and on. */
typedef void noise_blocks_function(float *out, uint64_t seed, uint32_t tensor_id,
                                   uint64_t first_block, int64_t block_count,
                                   qzo_directions directions);

noise_blocks_function qzo_noise_blocks_avx2;
noise_blocks_function qzo_noise_blocks_avx512;

static inline void noise_blocks(float *restrict out, uint64_t seed, uint32_t tensor_id,
                                uint64_t first_block, int64_t block_count,
                                qzo_directions directions) {
    if (directions == QZO_DIRECTIONS_RADEMACHER) {
        for (int64_t i = 0; i < block_count; i++) {
            qzo_philox_block block =
                qzo_philox(seed, first_block + (uint64_t)i, tensor_id, QZO_PURPOSE_NOISE);
            for (int j = 0; j < 4; j++) out[4 * i + j] = qzo_rademacher(block.word[j]);
        }
        return;
    }
    for (int64_t i = 0; i < block_count; i++) {
        qzo_philox_block block =
            qzo_philox(seed, first_block + (uint64_t)i, tensor_id, QZO_PURPOSE_NOISE);
        qzo_normals(&out[4 * i], block);
    }
}

#endif
