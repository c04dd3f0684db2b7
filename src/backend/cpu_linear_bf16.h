/* The matrix product of bf16 operands with fp32 sums, around a kernel that multiplies tiles.
 * Included by cpu_ops_bf16_amx.c and cpu_ops_bf16_avx512.c, which define before:
 *   multiply_block()  sums of 32 outputs and all rows over one block of inputs
 *
 * Weights, decoded and perturbed in fp32, and activations are rounded to bf16, to nearest with ties
 * to even. The sum of one output is the one that AMX's TDPBF16PS defines, whatever computes it:
 * inputs by 32, filled up with zeros; of 32, the even ones are one chain of fma from zero, the odd
 * ones another; sum += even + odd. Each of these operations reads and gives zero for a subnormal
 * number.
 *
 * It is out^T = W x^T: with weights on the left, the 32 inputs of an output lie side by side, as
 * unpacking gives them, and only the sums have to be transposed. A thread works on PIECE outputs:
 * a block of inputs of 64 of them is decoded into 64 KB, then multiplied with all rows; the sums
 * (512 KB) and the block of the packed rows (512 KB) stay in L2. */
#ifndef QZO_BACKEND_CPU_LINEAR_BF16_H
#define QZO_BACKEND_CPU_LINEAR_BF16_H

#include "backend/cpu_bf16.h"
#include "backend/cpu_linear_lanes.h"

#include <immintrin.h>

/* Tiles of weights (16 outputs, 32 inputs), of packed rows (16 pairs of inputs, 16 rows, 2), both
 * bf16, and of sums (16 outputs, 16 rows) in fp32: 1 KB each. Two by two of them make a step. */
enum {
    SIDE = CPU_BF16_SIDE,
    TILE_INPUTS = 32,
    TILE_HALVES = SIDE * TILE_INPUTS, /* bf16 numbers of a tile */
    TILE_SUMS = SIDE * SIDE,
    STEP_SUMS = 4 * TILE_SUMS,
    BLOCK_INPUTS = 512,
    BLOCK_TILES = BLOCK_INPUTS / TILE_INPUTS,
    BLOCK_HALVES = TILE * BLOCK_INPUTS, /* bf16 numbers of a decoded block */
    PIECE_TILES = 4,                    /* of TILE outputs */
    PIECE_OUTPUTS = PIECE_TILES * TILE,
    PIECE_STEPS = PIECE_OUTPUTS / (2 * SIDE)
};

/* One call of the kernel. */
typedef struct bf16_block {
    float *sums;             /* of the first two tiles of rows; more every sums_stride floats */
    const uint16_t *weights; /* (input tiles, 2, tile) */
    const uint16_t *rows;    /* by two tiles of rows: (input tiles, 2, tile); the last may be one */
    int64_t sums_stride;
    int64_t input_tiles, row_tiles;
    int output_tiles; /* 1 or 2 */
    bool first;       /* sums start from zero */
} bf16_block;

static void multiply_block(const bf16_block *block);

static inline int64_t tiles_of(int64_t count, int64_t side) { return (count + side - 1) / side; }

/* --- layout and rounding --- */

/* Rows are packed by blocks of inputs, in them by pairs of row tiles, in them by input tiles: what
 * the kernel reads next lies next. */
static inline uint16_t *packed_tile(const cpu_linear *job, int64_t input_tile, int64_t row_tile) {
    int64_t row_tiles = tiles_of(job->rows, SIDE);
    int64_t input_tiles = tiles_of(job->weight->in_features, TILE_INPUTS);
    int64_t block = input_tile / BLOCK_TILES * BLOCK_TILES, pair = row_tile / 2 * 2;
    int64_t left = input_tiles - block, block_tiles = left < BLOCK_TILES ? left : BLOCK_TILES;
    int64_t pair_tiles = row_tiles - pair < 2 ? 1 : 2;
    int64_t index = block * row_tiles + pair * block_tiles + (input_tile - block) * pair_tiles +
                    (row_tile - pair);
    return job->packed + index * TILE_HALVES;
}

/* The bf16 numbers nearest to x, each in the upper half of its 32 bits; the lower half is zero. */
static inline __m512i round_to_bf16(__m512 x) {
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i sum =
        _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd); /* carries up */
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    sum = _mm512_mask_or_epi32(sum, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_and_si512(sum, _mm512_set1_epi32((int)0xffff0000u));
}

/* Pairs (low, high) of bf16 numbers. */
static inline __m512i round_pairs(__m512 low, __m512 high) {
    return _mm512_or_si512(_mm512_srli_epi32(round_to_bf16(low), 16), round_to_bf16(high));
}

/* v[i][j] to v[j][i], 16 by 16. */
static inline void transpose(__m512i v[SIDE]) {
    __m512i t[SIDE];
    for (int i = 0; i < SIDE; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    for (int i = 0; i < SIDE; i += 4) {
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        v[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        v[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

/* --- activations --- */

/* One tile of rows over all inputs, rounded; what lies past the last row or input is zero. */
static void pack_rows(const cpu_linear *job, int64_t row_tile) {
    int64_t in_features = job->weight->in_features, left = job->rows - row_tile * SIDE;
    const float *x = job->x + row_tile * SIDE * in_features;
    static const int32_t order[SIDE] = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
    __m512i even = _mm512_loadu_si512(order);
    __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (int64_t k = 0; k < in_features; k += TILE_INPUTS) {
        __m512i pairs[SIDE];
        int64_t count = in_features - k < TILE_INPUTS ? in_features - k : TILE_INPUTS;
        uint32_t mask = count < TILE_INPUTS ? (1u << count) - 1u : ~0u;
        for (int64_t r = 0; r < SIDE; r++) {
            const float *from = x + r * in_features + k;
            uint32_t taken = r < left ? mask : 0u;
            __m512 a = _mm512_maskz_loadu_ps((__mmask16)taken, from);
            __m512 b = _mm512_maskz_loadu_ps((__mmask16)(taken >> 16), from + SIDE);
            pairs[r] =
                round_pairs(_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b));
        }
        transpose(pairs);
        uint16_t *to = packed_tile(job, k / TILE_INPUTS, row_tile);
        for (int r = 0; r < SIDE; r++) _mm512_storeu_si512(to + r * TILE_INPUTS, pairs[r]);
    }
}

/* --- weights --- */

/* The place of tile (output tile of 4, input tile) in a decoded block. */
static inline uint16_t *decoded_tile(uint16_t *block, int64_t output_tile, int64_t input_tile) {
    return block + output_tile / 2 * (BLOCK_HALVES / 2) +
           (input_tile * 2 + output_tile % 2) * TILE_HALVES;
}

/* Inputs k0 + done and on, count of them, into the fp32 panel. A format without a panel yet decodes
 * whole rows again for each block. */
static inline void decode_panel(const cpu_linear *job, const linear_tile_data *tile, int64_t k0,
                                int64_t count) {
    if (tile_has_panel(job->weight)) {
        tile_decode(job, tile, k0, count);
        return;
    }
    float *row = tile->panel + CPU_LINEAR_K_BLOCK * TILE;
    for (int64_t j = 0; j < tile->output_count; j++) {
        qzo_cpu_decode_row(row, job, tile->first_output + j, row + job->weight->in_features);
        for (int64_t k = 0; k < count; k++) tile->panel[k * TILE + j] = row[k0 + k];
    }
}

/* Any format: the fp32 panel, transposed and rounded. */
static void decode_by_panel(const cpu_linear *job, const linear_tile_data *tile, int64_t k0,
                            int64_t k_count, uint16_t *block) {
    for (int64_t done = 0; done < k_count; done += CPU_LINEAR_K_BLOCK) {
        int64_t left = k_count - done;
        int64_t count = left < CPU_LINEAR_K_BLOCK ? left : CPU_LINEAR_K_BLOCK;
        int64_t input_tiles = tiles_of(count, TILE_INPUTS);
        decode_panel(job, tile, k0 + done, count);
        memset(tile->panel + count * TILE, 0,
               (size_t)(input_tiles * TILE_INPUTS - count) * TILE * sizeof(float));
        for (int64_t i = 0; i < input_tiles; i++)
            for (int64_t o = 0; o < TILE / SIDE; o++) {
                const float *from = tile->panel + i * TILE_INPUTS * TILE + o * SIDE;
                uint16_t *to = decoded_tile(block, o, done / TILE_INPUTS + i);
                __m512i pairs[SIDE];
                for (int p = 0; p < SIDE; p++)
                    pairs[p] = round_pairs(_mm512_loadu_ps(from + 2 * p * TILE),
                                           _mm512_loadu_ps(from + (2 * p + 1) * TILE));
                transpose(pairs);
                for (int r = 0; r < SIDE; r++) _mm512_storeu_si512(to + r * TILE_INPUTS, pairs[r]);
            }
    }
}

/* Sixteen numbers of a dense weight, first ones where the mask says so, as fp32. */
static inline __m512 dense_lanes(const void *data, qzo_dtype dtype, int64_t first, __mmask16 mask) {
    if (dtype == QZO_DTYPE_F32) return _mm512_maskz_loadu_ps(mask, (const float *)data + first);
    __m256i halves = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)data + first);
    if (dtype == QZO_DTYPE_F16) return _mm512_cvtph_ps(halves);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

/* Unquantized: the inputs of an output lie side by side already. */
static void decode_dense(const cpu_linear *job, const linear_tile_data *tile, int64_t k0,
                         int64_t k_count, uint16_t *block) {
    const qzo_tensor_view *dense = &job->weight->as.dense;
    for (int64_t j = 0; j < tile->output_count; j++) {
        int64_t first = (tile->first_output + j) * job->weight->in_features + k0;
        for (int64_t k = 0; k < k_count; k += TILE_INPUTS) {
            uint32_t mask = k_count - k < TILE_INPUTS ? (1u << (k_count - k)) - 1u : ~0u;
            __m512 low = dense_lanes(dense->data, dense->dtype, first + k, (__mmask16)mask);
            __m512 high =
                dense_lanes(dense->data, dense->dtype, first + k + SIDE, (__mmask16)(mask >> SIDE));
            uint16_t *to = decoded_tile(block, j / SIDE, k / TILE_INPUTS) + j % SIDE * TILE_INPUTS;
            __m512i low_bits = _mm512_srli_epi32(round_to_bf16(low), 16);
            __m512i high_bits = _mm512_srli_epi32(round_to_bf16(high), 16);
            _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtepi32_epi16(low_bits));
            _mm256_storeu_si256((__m256i *)(void *)(to + SIDE), _mm512_cvtepi32_epi16(high_bits));
        }
    }
}

/* 4-bit codes of 16 outputs and 32 inputs, to (16 outputs, 16 bytes) in the order of 4 by 4
 * transposes: output 4 l + i at place 4 i + l. */
static inline void gather_codes(uint8_t *to, const uint32_t *codes, int64_t stride) {
    __m512i w[4], t[4];
    for (int i = 0; i < 4; i++) w[i] = _mm512_loadu_si512(codes + i * stride);
    t[0] = _mm512_unpacklo_epi32(w[0], w[1]);
    t[1] = _mm512_unpackhi_epi32(w[0], w[1]);
    t[2] = _mm512_unpacklo_epi32(w[2], w[3]);
    t[3] = _mm512_unpackhi_epi32(w[2], w[3]);
    _mm512_storeu_si512(to, _mm512_unpacklo_epi64(t[0], t[2]));
    _mm512_storeu_si512(to + 64, _mm512_unpackhi_epi64(t[0], t[2]));
    _mm512_storeu_si512(to + 128, _mm512_unpacklo_epi64(t[1], t[3]));
    _mm512_storeu_si512(to + 192, _mm512_unpackhi_epi64(t[1], t[3]));
}

/* The 16 weights that a 4-bit code can stand for, twice, in bf16. */
static inline __m512i table_of(float value, float zero) {
    const __m512 codes = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512 weights =
        _mm512_mul_ps(_mm512_set1_ps(value), _mm512_sub_ps(codes, _mm512_set1_ps(zero)));
    __m256i halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32(round_to_bf16(weights), 16));
    return _mm512_broadcast_i64x4(halves);
}

/* Input tiles [begin, end) of the block, all in one group: 16 weights per output and group are
 * rounded, and codes look them up. */
static void decode_run(const cpu_linear *job, const linear_tile_data *tile, int64_t k0,
                       int64_t begin, int64_t end, uint16_t *block) {
    const qzo_gptq_tensor *gptq = &job->weight->as.gptq;
    int64_t stride = job->weight->out_features;
    const uint32_t *codes = gptq->codes + (k0 + begin * TILE_INPUTS) / 8 * stride;
    int64_t group = gptq->group_of_input[k0 + begin * TILE_INPUTS];
    uint8_t gathered[BLOCK_TILES][SIDE * SIDE] __attribute__((aligned(64)));
    for (int64_t o = 0; o < TILE / SIDE; o++) {
        int64_t first = o * SIDE;
        const float *values = tile->values + group * TILE + first;
        const float *zeros = tile->zeros + group * TILE + first;
        for (int64_t i = begin; i < end; i++)
            gather_codes(gathered[i], codes + (i - begin) * 4 * stride + tile->first_output + first,
                         stride);
        for (int64_t r = 0; r < SIDE; r++) {
            __m512i table = table_of(values[r], zeros[r]);
            const uint8_t *from = gathered[begin] + (r % 4 * 4 + r / 4) * SIDE;
            uint16_t *to = decoded_tile(block, o, begin) + r * TILE_INPUTS;
            for (int64_t i = begin; i < end; i++) {
                __m512i bytes = _mm512_cvtepu8_epi32(_mm_load_si128((const void *)from));
                /* Low half: nibble 0, with nibble 1 above it; high half: nibble 1. The table is
                 * there twice, so that a fifth bit does not matter. */
                __m512i index = _mm512_or_si512(bytes, _mm512_slli_epi32(bytes, 12));
                _mm512_storeu_si512(to, _mm512_permutexvar_epi16(index, table));
                from += sizeof *gathered;
                to += 2 * TILE_HALVES;
            }
        }
    }
}

/* The group of the 32 inputs from k on, -1 where they are of several or fewer than 32. */
static inline int64_t group_of_tile(const qzo_qtensor *weight, int64_t k) {
    const int32_t *groups = weight->as.gptq.group_of_input + k;
    if (k + TILE_INPUTS > weight->in_features) return -1;
    for (int i = 1; i < TILE_INPUTS; i++)
        if (groups[i] != groups[0]) return -1;
    return groups[0];
}

/* Inputs k0 .. k0 + k_count - 1 of TILE outputs. */
static void decode_block(const cpu_linear *job, const linear_tile_data *tile, int64_t k0,
                         int64_t k_count, uint16_t *block) {
    int64_t input_tiles = tiles_of(k_count, TILE_INPUTS), groups[BLOCK_TILES];
    if (job->weight->format->layout == QZO_LAYOUT_DENSE && job->weight->group_count == 0) {
        decode_dense(job, tile, k0, k_count, block);
        return;
    }
    bool by_table = job->weight->format->layout == QZO_LAYOUT_GPTQ &&
                    job->weight->as.gptq.bits == 4 && tile->output_count == TILE;
    for (int64_t i = 0; by_table && i < input_tiles; i++) {
        groups[i] = group_of_tile(job->weight, k0 + i * TILE_INPUTS);
        by_table = groups[i] >= 0;
    }
    if (!by_table) {
        decode_by_panel(job, tile, k0, k_count, block);
        return;
    }
    for (int64_t begin = 0, end; begin < input_tiles; begin = end) {
        for (end = begin + 1; end < input_tiles && groups[end] == groups[begin];) end++;
        decode_run(job, tile, k0, begin, end, block);
    }
}

/* --- products --- */

/* Where a piece's data lies in a thread's scratch. */
typedef struct piece_data {
    float *sums;     /* (pairs of row tiles, PIECE_STEPS, 2, 2, tile) */
    uint16_t *block; /* (2, BLOCK_TILES, 2, tile) */
    linear_tile_data tiles[PIECE_TILES];
    int64_t tile_count, first_output, output_count;
} piece_data;

/* Behind the panel: what the reference needs for a format without one. */
static inline int64_t row_floats(const qzo_qtensor *weight) {
    bool is_dense = weight->format->layout == QZO_LAYOUT_DENSE;
    return weight->in_features + (is_dense ? weight->in_features : weight->group_count);
}

static int64_t scratch_floats(const qzo_qtensor *weight) {
    return CPU_BF16_ROWS_MAX * PIECE_OUTPUTS + BLOCK_HALVES / 2 + CPU_LINEAR_K_BLOCK * TILE +
           row_floats(weight) + PIECE_TILES * tile_values_floats(weight);
}

static int64_t packed_bytes(const qzo_qtensor *weight) {
    return CPU_BF16_ROWS_MAX * tiles_of(weight->in_features, TILE_INPUTS) * TILE_INPUTS *
           (int64_t)sizeof(uint16_t);
}

static inline piece_data piece_open(const cpu_linear *job, int64_t first_output, float *scratch) {
    int64_t left = job->weight->out_features - first_output;
    int64_t values_floats = tile_values_floats(job->weight);
    piece_data piece = {.sums = scratch,
                        .block = (uint16_t *)(scratch + CPU_BF16_ROWS_MAX * PIECE_OUTPUTS),
                        .first_output = first_output,
                        .output_count = left < PIECE_OUTPUTS ? left : PIECE_OUTPUTS};
    float *panel = scratch + CPU_BF16_ROWS_MAX * PIECE_OUTPUTS + BLOCK_HALVES / 2;
    float *values = panel + CPU_LINEAR_K_BLOCK * TILE + row_floats(job->weight);
    piece.tile_count = tiles_of(piece.output_count, TILE);
    for (int64_t t = 0; t < piece.tile_count; t++)
        piece.tiles[t] = tile_open(job, first_output + t * TILE, panel, values + t * values_floats);
    return piece;
}

/* One block of inputs: decoded once, multiplied with all rows. */
static void add_block(const cpu_linear *job, const piece_data *piece, int64_t k0) {
    int64_t k_left = job->weight->in_features - k0;
    int64_t k_count = k_left < BLOCK_INPUTS ? k_left : BLOCK_INPUTS;
    bf16_block call = {.rows = packed_tile(job, k0 / TILE_INPUTS, 0),
                       .sums_stride = PIECE_STEPS * STEP_SUMS,
                       .input_tiles = tiles_of(k_count, TILE_INPUTS),
                       .row_tiles = tiles_of(job->rows, SIDE),
                       .first = k0 == 0};
    for (int64_t t = 0; t < piece->tile_count; t++) {
        int64_t output_tiles = tiles_of(piece->tiles[t].output_count, SIDE);
        decode_block(job, &piece->tiles[t], k0, k_count, piece->block);
        for (int64_t step = 0; 2 * step < output_tiles; step++) {
            call.sums = piece->sums + (t * TILE / (2 * SIDE) + step) * STEP_SUMS;
            call.weights = piece->block + step * (BLOCK_HALVES / 2);
            call.output_tiles = output_tiles - 2 * step < 2 ? 1 : 2;
            multiply_block(&call);
        }
    }
}

/* out = transposed sums. */
static void write_sums(const cpu_linear *job, const piece_data *piece) {
    for (int64_t row_tile = 0; row_tile * SIDE < job->rows; row_tile++)
        for (int64_t o = 0; o * SIDE < piece->output_count; o++) {
            const float *from = piece->sums + (row_tile / 2 * PIECE_STEPS + o / 2) * STEP_SUMS +
                                (o % 2 * 2 + row_tile % 2) * TILE_SUMS;
            int64_t outputs_left = piece->output_count - o * SIDE;
            int64_t rows_left = job->rows - row_tile * SIDE;
            __mmask16 mask = outputs_left < SIDE ? (__mmask16)((1u << outputs_left) - 1u) : 0xffff;
            float *out = job->out + row_tile * SIDE * job->weight->out_features +
                         piece->first_output + o * SIDE;
            __m512i sums[SIDE];
            for (int i = 0; i < SIDE; i++) sums[i] = _mm512_load_si512(from + i * SIDE);
            transpose(sums);
            for (int64_t r = 0; r < SIDE && r < rows_left; r++)
                _mm512_mask_storeu_epi32(out + r * job->weight->out_features, mask, sums[r]);
        }
}

static void piece_run(const cpu_linear *job, int64_t first_output, float *scratch) {
    piece_data piece = piece_open(job, first_output, scratch);
    for (int64_t k0 = 0; k0 < job->weight->in_features; k0 += BLOCK_INPUTS)
        add_block(job, &piece, k0);
    write_sums(job, &piece);
}

#endif
