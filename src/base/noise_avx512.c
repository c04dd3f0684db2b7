/* noise_lanes.h for AVX-512; called only where the processor has it. */
#include "base/noise_lanes.h"

void qzo_noise_blocks_avx512(float *out, uint64_t seed, uint32_t tensor_id, uint64_t first_block,
                             int64_t block_count, qzo_directions directions) {
    noise_blocks(out, seed, tensor_id, first_block, block_count, directions);
}
