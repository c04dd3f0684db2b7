/* AVX-512: the loops of cpu_ops_lanes.h in 512-bit vectors and a micro-kernel of 6 tokens by 64
 * outputs, 24 running sums in registers. */
#include "backend/cpu_ops.h"

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { TILE = 64, MICRO_TOKENS = 6, VECTORS = TILE / 16 };

static inline __attribute__((always_inline)) void micro_of(
    float *restrict out, int64_t out_stride, const float *restrict x, int64_t x_stride,
    const float *restrict panel, int64_t k_count, const int m, bool add_to_out) {
    __m512 sum[MICRO_TOKENS][VECTORS];
    for (int t = 0; t < m; t++)
        for (int j = 0; j < VECTORS; j++)
            sum[t][j] =
                add_to_out ? _mm512_loadu_ps(out + t * out_stride + 16 * j) : _mm512_setzero_ps();
    for (int64_t k = 0; k < k_count; k++) {
        __m512 w[VECTORS];
        for (int j = 0; j < VECTORS; j++) w[j] = _mm512_loadu_ps(panel + k * TILE + 16 * j);
        for (int t = 0; t < m; t++) {
            __m512 value = _mm512_set1_ps(x[t * x_stride + k]);
            for (int j = 0; j < VECTORS; j++) sum[t][j] = _mm512_fmadd_ps(value, w[j], sum[t][j]);
        }
    }
    for (int t = 0; t < m; t++)
        for (int j = 0; j < VECTORS; j++)
            _mm512_storeu_ps(out + t * out_stride + 16 * j, sum[t][j]);
}

#include "backend/cpu_attention.h"
#include "backend/cpu_linear_product.h"

const cpu_ops qzo_cpu_ops_avx512 = {
    .name = "avx512",
    .linear_tile_rows = TILE,
    .linear_tile = linear_tile,
    CPU_OPS_OF_LANES,
};
