/* AVX2 with FMA: the loops of cpu_ops_lanes.h in 256-bit vectors and a micro-kernel of 6 tokens by
 * 16 outputs, 12 running sums in registers. */
#include "backend/cpu_ops.h"

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { TILE = 16, MICRO_TOKENS = 6, VECTORS = TILE / 8 };

static inline __attribute__((always_inline)) void micro_of(
    float *restrict out, int64_t out_stride, const float *restrict x, int64_t x_stride,
    const float *restrict panel, int64_t k_count, const int m, bool add_to_out) {
    __m256 sum[MICRO_TOKENS][VECTORS];
    for (int t = 0; t < m; t++)
        for (int j = 0; j < VECTORS; j++)
            sum[t][j] =
                add_to_out ? _mm256_loadu_ps(out + t * out_stride + 8 * j) : _mm256_setzero_ps();
    for (int64_t k = 0; k < k_count; k++) {
        __m256 w[VECTORS];
        for (int j = 0; j < VECTORS; j++) w[j] = _mm256_loadu_ps(panel + k * TILE + 8 * j);
        for (int t = 0; t < m; t++) {
            __m256 value = _mm256_set1_ps(x[t * x_stride + k]);
            for (int j = 0; j < VECTORS; j++) sum[t][j] = _mm256_fmadd_ps(value, w[j], sum[t][j]);
        }
    }
    for (int t = 0; t < m; t++)
        for (int j = 0; j < VECTORS; j++) _mm256_storeu_ps(out + t * out_stride + 8 * j, sum[t][j]);
}

#include "backend/cpu_attention.h"
#include "backend/cpu_linear_product.h"

const cpu_ops qzo_cpu_ops_avx2 = {
    .name = "avx2",
    .linear_tile_rows = TILE,
    .linear_tile = linear_tile,
    CPU_OPS_OF_LANES,
};
