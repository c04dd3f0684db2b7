/* bf16 products in AMX tiles. Called only where the processor has them and the system grants them
 * (base/cpu.h). */
#include "backend/cpu_bf16.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { TILE = 64 };

#include "backend/cpu_linear_bf16.h"

/* What LDTILECFG reads: tiles 0 to 3 are sums, 4 and 5 weights, 6 and 7 rows, all of 16 rows of 64
 * bytes. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

static void configure_tiles(void) {
    static const tile_config config = {.palette = 1,
                                       .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                                       .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&config);
}

/* 32 outputs by 32 rows, or half of either; the instructions want constant tile numbers. The
 * weights, 32 KB, are read again for the next rows and should stay in L1: rows and sums stream. */
static inline __attribute__((always_inline)) void multiply_step(const bf16_block *block,
                                                                float *sums, const uint16_t *rows,
                                                                const bool two_outputs,
                                                                const bool two_rows) {
    enum { LINE_BYTES = 64, WEIGHTS_STRIDE = 2 * TILE_HALVES };
    const uint16_t *weights = block->weights;
    int64_t rows_stride = two_rows ? 2 * TILE_HALVES : TILE_HALVES;
    if (block->first) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_stream_loadd(0, sums, LINE_BYTES);
        if (two_rows) _tile_stream_loadd(1, sums + TILE_SUMS, LINE_BYTES);
        if (two_outputs) _tile_stream_loadd(2, sums + 2 * TILE_SUMS, LINE_BYTES);
        if (two_outputs && two_rows) _tile_stream_loadd(3, sums + 3 * TILE_SUMS, LINE_BYTES);
    }
    for (int64_t i = 0; i < block->input_tiles; i++) {
        _tile_loadd(4, weights, LINE_BYTES);
        if (two_outputs) _tile_loadd(5, weights + TILE_HALVES, LINE_BYTES);
        _tile_stream_loadd(6, rows, LINE_BYTES);
        if (two_rows) _tile_stream_loadd(7, rows + TILE_HALVES, LINE_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        if (two_rows) _tile_dpbf16ps(1, 4, 7);
        if (two_outputs) _tile_dpbf16ps(2, 5, 6);
        if (two_outputs && two_rows) _tile_dpbf16ps(3, 5, 7);
        weights += WEIGHTS_STRIDE;
        rows += rows_stride;
    }
    _tile_stored(0, sums, LINE_BYTES);
    if (two_rows) _tile_stored(1, sums + TILE_SUMS, LINE_BYTES);
    if (two_outputs) _tile_stored(2, sums + 2 * TILE_SUMS, LINE_BYTES);
    if (two_outputs && two_rows) _tile_stored(3, sums + 3 * TILE_SUMS, LINE_BYTES);
}

static void multiply_block(const bf16_block *block) {
    const uint16_t *rows = block->rows;
    float *sums = block->sums;
    bool two_outputs = block->output_tiles == 2;
    for (int64_t tile = 0; tile < block->row_tiles; tile += 2) {
        bool two_rows = tile + 1 < block->row_tiles;
        if (two_outputs && two_rows)
            multiply_step(block, sums, rows, true, true);
        else if (two_outputs)
            multiply_step(block, sums, rows, true, false);
        else if (two_rows)
            multiply_step(block, sums, rows, false, true);
        else
            multiply_step(block, sums, rows, false, false);
        sums += block->sums_stride;
        rows += 2 * block->input_tiles * TILE_HALVES;
    }
}

static void linear_piece(const cpu_linear *job, int64_t first_output, float *scratch) {
    configure_tiles();
    piece_run(job, first_output, scratch);
    _tile_release(); /* the system saves what is in use at every switch of threads */
}

/* Four independent sums hide the latency, as in multiply_step. */
static double burst(int64_t rounds, float *sink) {
    const uint16_t zeros[TILE_HALVES] = {0};
    float sums[TILE_SUMS];
    configure_tiles();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, zeros, 64);
    _tile_loadd(5, zeros, 64);
    _tile_loadd(6, zeros, 64);
    _tile_loadd(7, zeros, 64);
    for (int64_t i = 0; i < rounds; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, 64);
    _tile_release();
    *sink += sums[0];
    return 2.0 * 4.0 * TILE_SUMS * TILE_INPUTS * (double)rounds;
}

const cpu_bf16_ops qzo_cpu_bf16_amx = {
    .name = "amx",
    .piece_outputs = PIECE_OUTPUTS,
    .scratch_floats = scratch_floats,
    .packed_bytes = packed_bytes,
    .pack_rows = pack_rows,
    .linear_piece = linear_piece,
    .burst = burst,
};
