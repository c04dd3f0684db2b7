/* The matrix product around a vector micro-kernel: decode a panel of weights, multiply all tokens
 * with it. Included by cpu_ops_avx2.c and cpu_ops_avx512.c, which define before:
 *   TILE, MICRO_TOKENS  outputs per tile; tokens per micro-kernel, 6
 *   micro_of()          out (m, TILE) (+)= x (m, k) panel (k, TILE) for a constant m, each
 *                       output's sum over k in ascending order
 *
 * The panel is laid out (input, output): the vector runs over outputs, so that no sum is split and
 * the bits are those of the reference. Blocks of inputs continue the running sums from `out`. */
#ifndef QZO_BACKEND_CPU_LINEAR_LANES_H
#define QZO_BACKEND_CPU_LINEAR_LANES_H

#include "backend/cpu_ops_lanes.h"
#include "base/half.h"
#include "weights/gptq_decode.h"

/* Where one tile's data lies in a thread's scratch. */
typedef struct linear_tile_data {
    float *panel;  /* (CPU_LINEAR_K_BLOCK, TILE) */
    float *values; /* (group_count, TILE): perturbed scales */
    float *zeros;  /* (group_count, TILE) */
    int64_t first_output, output_count;
} linear_tile_data;

/* Masters and noise of a tile are contiguous, (output, group); the panel wants (group, output). */
static inline void tile_values(const cpu_linear *job, const linear_tile_data *tile, float *z) {
    int64_t groups = job->weight->group_count;
    int64_t first = tile->first_output * groups, count = tile->output_count * groups;
    const float *masters = job->masters + job->weight->span_offset + first;
    float c = job->perturbation.c;
    if (c != 0.0f) {
        qzo_noise_fill(z, job->perturbation.seed, job->weight->tensor_id, (uint64_t)first, count,
                       job->perturbation.directions);
        for (int64_t i = 0; i < count; i++) z[i] = qzo_perturbed(masters[i], c, z[i]);
    } else {
        for (int64_t i = 0; i < count; i++) z[i] = masters[i];
    }
    for (int64_t g = 0; g < groups; g++)
        for (int64_t j = 0; j < tile->output_count; j++)
            tile->values[g * TILE + j] = z[j * groups + g];
}

static inline void tile_gptq_zeros(const cpu_linear *job, const linear_tile_data *tile) {
    const qzo_gptq_tensor *gptq = &job->weight->as.gptq;
    int64_t words = job->weight->out_features / 8;
    for (int64_t g = 0; g < job->weight->group_count; g++)
        for (int64_t j = 0; j < tile->output_count; j++)
            tile->zeros[g * TILE + j] = (float)qzo_gptq_zero(
                gptq->zeros + g * words, tile->first_output + j, gptq->zero_correction);
}

/* count is TILE in whole tiles, so that the inner loop becomes straight vector code. */
static inline __attribute__((always_inline)) void gptq_panel(const cpu_linear *job,
                                                             const linear_tile_data *tile,
                                                             int64_t k0, int64_t k_count,
                                                             int64_t count) {
    const qzo_gptq_tensor *gptq = &job->weight->as.gptq;
    for (int64_t k = 0; k < k_count; k++) {
        int64_t input = k0 + k, group = gptq->group_of_input[input];
        const uint32_t *restrict words =
            gptq->codes + input / 8 * job->weight->out_features + tile->first_output;
        const float *restrict values = tile->values + group * TILE;
        const float *restrict zeros = tile->zeros + group * TILE;
        float *restrict out = tile->panel + k * TILE;
        int shift = (int)(input % 8) * 4;
        for (int64_t j = 0; j < count; j++)
            out[j] = values[j] * ((float)(int32_t)((words[j] >> shift) & 15u) - zeros[j]);
    }
}

static inline float dense_value(const uint8_t *data, qzo_dtype dtype, int64_t index) {
    if (dtype == QZO_DTYPE_F32) {
        float value;
        memcpy(&value, data + 4 * index, sizeof value);
        return value;
    }
    uint16_t half;
    memcpy(&half, data + 2 * index, sizeof half);
    return dtype == QZO_DTYPE_F16 ? qzo_fp16_to_float(half) : qzo_bf16_to_float(half);
}

static inline __attribute__((always_inline)) void dense_panel_of(const cpu_linear *job,
                                                                 const linear_tile_data *tile,
                                                                 int64_t k0, int64_t k_count,
                                                                 qzo_dtype dtype) {
    const uint8_t *data = job->weight->as.dense.data;
    for (int64_t j = 0; j < tile->output_count; j++) {
        int64_t begin = (tile->first_output + j) * job->weight->in_features + k0;
        for (int64_t k = 0; k < k_count; k++)
            tile->panel[k * TILE + j] = dense_value(data, dtype, begin + k);
    }
}

static inline void dense_panel(const cpu_linear *job, const linear_tile_data *tile, int64_t k0,
                               int64_t k_count) {
    switch (job->weight->as.dense.dtype) {
    case QZO_DTYPE_F32: dense_panel_of(job, tile, k0, k_count, QZO_DTYPE_F32); break;
    case QZO_DTYPE_F16: dense_panel_of(job, tile, k0, k_count, QZO_DTYPE_F16); break;
    default: dense_panel_of(job, tile, k0, k_count, QZO_DTYPE_BF16); break;
    }
}

/* A constant m keeps the sums in registers. */
static void micro(float *out, int64_t out_stride, const float *x, int64_t x_stride,
                  const float *panel, int64_t k_count, int64_t m, bool add_to_out) {
    switch (m) {
    case 1: micro_of(out, out_stride, x, x_stride, panel, k_count, 1, add_to_out); break;
    case 2: micro_of(out, out_stride, x, x_stride, panel, k_count, 2, add_to_out); break;
    case 3: micro_of(out, out_stride, x, x_stride, panel, k_count, 3, add_to_out); break;
    case 4: micro_of(out, out_stride, x, x_stride, panel, k_count, 4, add_to_out); break;
    case 5: micro_of(out, out_stride, x, x_stride, panel, k_count, 5, add_to_out); break;
    default: micro_of(out, out_stride, x, x_stride, panel, k_count, 6, add_to_out); break;
    }
}

/* All tokens against one panel. A narrow tile (the last of a weight) goes through a full one. */
static inline void multiply_panel(const cpu_linear *job, const linear_tile_data *tile, int64_t k0,
                                  int64_t k_count) {
    int64_t in_features = job->weight->in_features, out_features = job->weight->out_features;
    for (int64_t t = 0; t < job->rows; t += MICRO_TOKENS) {
        int64_t m = job->rows - t < MICRO_TOKENS ? job->rows - t : MICRO_TOKENS;
        const float *x = job->x + t * in_features + k0;
        float *out = job->out + t * out_features + tile->first_output;
        if (tile->output_count == TILE) {
            micro(out, out_features, x, in_features, tile->panel, k_count, m, k0 > 0);
            continue;
        }
        float narrow[MICRO_TOKENS * TILE] = {0};
        if (k0 > 0)
            for (int64_t i = 0; i < m; i++)
                memcpy(narrow + i * TILE, out + i * out_features,
                       (size_t)tile->output_count * sizeof(float));
        micro(narrow, TILE, x, in_features, tile->panel, k_count, m, true);
        for (int64_t i = 0; i < m; i++)
            memcpy(out + i * out_features, narrow + i * TILE,
                   (size_t)tile->output_count * sizeof(float));
    }
}

static void linear_tile(const cpu_linear *job, int64_t first_output, float *scratch) {
    const qzo_qtensor *weight = job->weight;
    bool is_gptq = weight->format == &qzo_quant_gptq;
    if (!is_gptq && weight->format != &qzo_quant_dense) { /* a format without a panel yet */
        for (int64_t i = 0; i < TILE && first_output + i < weight->out_features; i++)
            qzo_cpu_ops_reference.linear_tile(job, first_output + i, scratch);
        return;
    }
    int64_t left = weight->out_features - first_output;
    linear_tile_data tile = {.panel = scratch,
                             .values = scratch + CPU_LINEAR_K_BLOCK * TILE,
                             .first_output = first_output,
                             .output_count = left < TILE ? left : TILE};
    tile.zeros = tile.values + weight->group_count * TILE;
    if (is_gptq) {
        tile_values(job, &tile, tile.zeros + weight->group_count * TILE);
        tile_gptq_zeros(job, &tile);
    }
    /* Outputs past the last one: their products are computed and dropped, so they must be finite.
     */
    if (tile.output_count < TILE) memset(tile.panel, 0, CPU_LINEAR_K_BLOCK * TILE * sizeof(float));
    for (int64_t k0 = 0; k0 < weight->in_features; k0 += CPU_LINEAR_K_BLOCK) {
        int64_t k_left = weight->in_features - k0;
        int64_t k_count = k_left < CPU_LINEAR_K_BLOCK ? k_left : CPU_LINEAR_K_BLOCK;
        if (!is_gptq)
            dense_panel(job, &tile, k0, k_count);
        else if (tile.output_count == TILE)
            gptq_panel(job, &tile, k0, k_count, TILE);
        else
            gptq_panel(job, &tile, k0, k_count, tile.output_count);
        multiply_panel(job, &tile, k0, k_count);
    }
}

#endif
