#include "base/noise.h"

#include "base/check.h"
#include "base/cpu.h"
#include "base/noise_lanes.h"

#include <string.h>

static const char *const names[QZO_DIRECTIONS_COUNT] = {"gaussian", "rademacher"};

const char *qzo_directions_name(int directions) {
    return directions >= 0 && directions < QZO_DIRECTIONS_COUNT ? names[directions] : 0;
}

qzo_directions qzo_directions_find(const char *name) {
    int directions = 0;
    while (strcmp(names[directions], name) != 0) {
        directions++;
        QZO_ASSERT(directions < QZO_DIRECTIONS_COUNT);
    }
    return (qzo_directions)directions;
}

static void noise_blocks_baseline(float *out, uint64_t seed, uint32_t tensor_id,
                                  uint64_t first_block, int64_t block_count,
                                  qzo_directions directions) {
    noise_blocks(out, seed, tensor_id, first_block, block_count, directions);
}

static noise_blocks_function *best_blocks_function(void) {
#if defined(__x86_64__)
    if (qzo_cpu() >= QZO_CPU_AVX512) return qzo_noise_blocks_avx512;
    if (qzo_cpu() >= QZO_CPU_AVX2) return qzo_noise_blocks_avx2;
#endif
    return noise_blocks_baseline;
}

void qzo_noise_fill(float *out, uint64_t seed, uint32_t tensor_id, uint64_t first, int64_t count,
                    qzo_directions directions) {
    uint64_t end = first + (uint64_t)count;
    float block[4];
    while (first < end && ((first % 4 != 0) || (end - first < 4))) { /* a part of one block */
        noise_blocks(block, seed, tensor_id, first / 4, 1, directions);
        do {
            *out++ = block[first % 4];
            first++;
        } while (first < end && first % 4 != 0);
    }
    int64_t block_count = (int64_t)((end - first) / 4);
    if (block_count > 0)
        best_blocks_function()(out, seed, tensor_id, first / 4, block_count, directions);
    out += 4 * block_count;
    first += 4 * (uint64_t)block_count;
    if (first < end) { /* the rest of the last block */
        noise_blocks(block, seed, tensor_id, first / 4, 1, directions);
        for (int i = 0; first < end; i++, first++) *out++ = block[i];
    }
}

uint64_t qzo_noise_seed(uint64_t trial_seed, uint64_t step, uint32_t sample) {
    qzo_philox_block block = qzo_philox(trial_seed, step, sample, QZO_PURPOSE_SEED);
    return (uint64_t)block.word[1] << 32 | block.word[0];
}
