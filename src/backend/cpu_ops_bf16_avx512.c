/* bf16 products where AMX is missing, in fp32 vectors: the same sums by the same operations.
 *
 * VDPBF16PS would give other bits, since its even and odd inputs share one chain, and is slower:
 * the Intel core that was measured starts one in two cycles, half the operations of its fp32 fma
 * (docs/measurements.md). */
#include "backend/cpu_bf16.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { TILE = 64 };

#include "backend/cpu_linear_bf16.h"

enum { CHAINS = 8, FLUSH_SUBNORMALS = 0x8040 /* FTZ and DAZ of MXCSR */ };

/* bf16 pairs as fp32 numbers. */
static inline __m512 even_of(__m512i pairs) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}

static inline __m512 odd_of(__m512i pairs) {
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000u)));
}

/* A tile of weights as fp32 numbers, even inputs apart from odd ones. */
typedef struct wide_tile {
    float even[SIDE][SIDE], odd[SIDE][SIDE]; /* (output, pair) */
} wide_tile;

static void widen(wide_tile *out, const uint16_t *tile) {
    for (int o = 0; o < SIDE; o++) {
        __m512i pairs = _mm512_loadu_si512(tile + o * TILE_INPUTS);
        _mm512_storeu_ps(out->even[o], even_of(pairs));
        _mm512_storeu_ps(out->odd[o], odd_of(pairs));
    }
}

/* CHAINS outputs by 16 rows by 32 inputs. */
static inline __attribute__((always_inline)) void multiply_chains(float *sums,
                                                                  const wide_tile *weights,
                                                                  int first, const uint16_t *rows,
                                                                  bool from_zero) {
    __m512 even[CHAINS], odd[CHAINS];
    for (int o = 0; o < CHAINS; o++) even[o] = odd[o] = _mm512_setzero_ps();
    for (int p = 0; p < SIDE; p++) {
        __m512i pairs = _mm512_loadu_si512(rows + p * TILE_INPUTS);
        __m512 x_even = even_of(pairs), x_odd = odd_of(pairs);
        for (int o = 0; o < CHAINS; o++) {
            even[o] = _mm512_fmadd_ps(x_even, _mm512_set1_ps(weights->even[first + o][p]), even[o]);
            odd[o] = _mm512_fmadd_ps(x_odd, _mm512_set1_ps(weights->odd[first + o][p]), odd[o]);
        }
    }
    for (int o = 0; o < CHAINS; o++) {
        float *at = sums + (first + o) * SIDE;
        __m512 before = from_zero ? _mm512_setzero_ps() : _mm512_loadu_ps(at);
        _mm512_storeu_ps(at, _mm512_add_ps(before, _mm512_add_ps(even[o], odd[o])));
    }
}

/* Not inlined: no operation may move out of the part that flushes. */
static __attribute__((noinline)) void multiply_flushing(const bf16_block *block) {
    for (int64_t i = 0; i < block->input_tiles; i++)
        for (int64_t o = 0; o < block->output_tiles; o++) {
            wide_tile weights;
            widen(&weights, block->weights + (2 * i + o) * TILE_HALVES);
            for (int64_t r = 0; r < block->row_tiles; r++) {
                int64_t pair = r / 2 * 2, pair_tiles = block->row_tiles - pair < 2 ? 1 : 2;
                const uint16_t *rows =
                    block->rows +
                    (pair * block->input_tiles + i * pair_tiles + r % 2) * TILE_HALVES;
                float *sums =
                    block->sums + r / 2 * block->sums_stride + (2 * o + r % 2) * TILE_SUMS;
                for (int first = 0; first < SIDE; first += CHAINS)
                    multiply_chains(sums, &weights, first, rows, block->first && i == 0);
            }
        }
}

static void multiply_block(const bf16_block *block) {
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | FLUSH_SUBNORMALS);
    multiply_flushing(block);
    _mm_setcsr(before);
}

const cpu_bf16_ops qzo_cpu_bf16_avx512 = {
    .name = "avx512",
    .piece_outputs = PIECE_OUTPUTS,
    .scratch_floats = scratch_floats,
    .packed_bytes = packed_bytes,
    .pack_rows = pack_rows,
    .linear_piece = piece_run,
    .burst = fma_burst,
};
