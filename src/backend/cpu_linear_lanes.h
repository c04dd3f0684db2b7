/* One tile of a weight, decoded block by block with its perturbed values: TILE outputs, which the
 * including file defines, by CPU_LINEAR_K_BLOCK inputs. Compiled once per instruction set.
 *
 * The panel is laid out (input, output), so that a vector runs over outputs. */
#ifndef QZO_BACKEND_CPU_LINEAR_LANES_H
#define QZO_BACKEND_CPU_LINEAR_LANES_H

#include "backend/cpu_ops_lanes.h"
#include "base/half.h"

/* Where one tile's data lies in a thread's scratch. */
typedef struct linear_tile_data {
    float *panel;  /* (CPU_LINEAR_K_BLOCK, TILE) */
    float *values; /* (group_count, TILE): perturbed scales; or a row of elements */
    float *zeros;  /* (group_count, TILE) */
    int64_t first_output, output_count;
} linear_tile_data;

/* Masters and noise of a tile are contiguous, (output, group); the panel wants (group, output). */
static inline void tile_values(const cpu_linear *job, const linear_tile_data *tile, float *z) {
    int64_t groups = job->weight->group_count;
    perturbed_values(z, job, tile->first_output * groups, tile->output_count * groups);
    for (int64_t g = 0; g < groups; g++)
        for (int64_t j = 0; j < tile->output_count; j++)
            tile->values[g * TILE + j] = z[j * groups + g];
}

static inline void tile_gptq_zeros(const cpu_linear *job, const linear_tile_data *tile) {
    for (int64_t g = 0; g < job->weight->group_count; g++)
        for (int64_t j = 0; j < tile->output_count; j++)
            tile->zeros[g * TILE + j] = qzo_qtensor_zero(job->weight, g, tile->first_output + j);
}

/* count is TILE in whole tiles, so that the inner loops become straight vector code. */
static inline __attribute__((always_inline)) void gptq_panel(const cpu_linear *job,
                                                             const linear_tile_data *tile,
                                                             int64_t k0, int64_t k_count,
                                                             int64_t count) {
    const qzo_gptq_tensor *gptq = &job->weight->as.gptq;
    uint32_t mask = (1u << gptq->bits) - 1u;
    for (int64_t k = 0; k < k_count; k++) {
        int64_t bit = (k0 + k) * gptq->bits, group = gptq->group_of_input[k0 + k];
        const uint32_t *restrict words =
            gptq->codes + bit / 32 * job->weight->out_features + tile->first_output;
        const float *restrict values = tile->values + group * TILE;
        const float *restrict zeros = tile->zeros + group * TILE;
        float *restrict out = tile->panel + k * TILE;
        int shift = (int)(bit % 32);
        if (shift + gptq->bits <= 32) {
            for (int64_t j = 0; j < count; j++)
                out[j] = values[j] * ((float)(int32_t)((words[j] >> shift) & mask) - zeros[j]);
            continue;
        }
        const uint32_t *restrict next = words + job->weight->out_features;
        for (int64_t j = 0; j < count; j++) {
            uint32_t code = (words[j] >> shift | next[j] << (32 - shift)) & mask;
            out[j] = values[j] * ((float)(int32_t)code - zeros[j]);
        }
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

/* A weight whose elements train: all of them lie in the masters. tile->values: (k_count). */
static inline void masters_panel(const cpu_linear *job, const linear_tile_data *tile, int64_t k0,
                                 int64_t k_count) {
    for (int64_t j = 0; j < tile->output_count; j++) {
        int64_t first = (tile->first_output + j) * job->weight->in_features + k0;
        perturbed_values(tile->values, job, first, k_count);
        for (int64_t k = 0; k < k_count; k++) tile->panel[k * TILE + j] = tile->values[k];
    }
}

static inline void dense_panel(const cpu_linear *job, const linear_tile_data *tile, int64_t k0,
                               int64_t k_count) {
    if (job->weight->group_count > 0) {
        masters_panel(job, tile, k0, k_count);
        return;
    }
    switch (job->weight->as.dense.dtype) {
    case QZO_DTYPE_F32: dense_panel_of(job, tile, k0, k_count, QZO_DTYPE_F32); break;
    case QZO_DTYPE_F16: dense_panel_of(job, tile, k0, k_count, QZO_DTYPE_F16); break;
    default: dense_panel_of(job, tile, k0, k_count, QZO_DTYPE_BF16); break;
    }
}

/* A format that decodes runs of a row: values as they are, (output, group). */
static inline void parts_panel(const cpu_linear *job, const linear_tile_data *tile, int64_t k0,
                               int64_t k_count) {
    const qzo_qtensor *weight = job->weight;
    float part[CPU_LINEAR_K_BLOCK];
    for (int64_t j = 0; j < tile->output_count; j++) {
        weight->format->decode_part(part, weight, tile->first_output + j, k0, k_count,
                                    tile->values + j * weight->group_count);
        for (int64_t k = 0; k < k_count; k++) tile->panel[k * TILE + j] = part[k];
    }
}

/* Whether tile_decode knows the format. */
static inline bool tile_has_panel(const qzo_qtensor *weight) {
    return weight->format->layout == QZO_LAYOUT_GPTQ ||
           weight->format->layout == QZO_LAYOUT_DENSE || weight->format->decode_part != NULL;
}

/* Room for a tile's values. A weight that is not quantized may come to train after it was loaded.
 */
static inline int64_t tile_values_floats(const qzo_qtensor *weight) {
    return weight->format->layout == QZO_LAYOUT_DENSE ? CPU_LINEAR_K_BLOCK
                                                      : 3 * weight->group_count * TILE;
}

/* The tile of outputs first_output and on, with its perturbed values. panel: (CPU_LINEAR_K_BLOCK,
 * TILE); values: (tile_values_floats). */
static inline linear_tile_data tile_open(const cpu_linear *job, int64_t first_output, float *panel,
                                         float *values) {
    const qzo_qtensor *weight = job->weight;
    int64_t left = weight->out_features - first_output;
    linear_tile_data tile = {.panel = panel,
                             .values = values,
                             .first_output = first_output,
                             .output_count = left < TILE ? left : TILE};
    if (weight->format->layout == QZO_LAYOUT_GPTQ) {
        tile.zeros = tile.values + weight->group_count * TILE;
        tile_values(job, &tile, tile.zeros + weight->group_count * TILE);
        tile_gptq_zeros(job, &tile);
    } else if (weight->format->decode_part != NULL) {
        perturbed_values(tile.values, job, first_output * weight->group_count,
                         tile.output_count * weight->group_count);
    }
    /* Outputs past the last one: their products are computed and dropped, so they must be finite.
     */
    if (tile.output_count < TILE) memset(tile.panel, 0, CPU_LINEAR_K_BLOCK * TILE * sizeof(float));
    return tile;
}

/* Inputs k0 .. k0 + k_count - 1 of the tile into its panel; k_count <= CPU_LINEAR_K_BLOCK. */
static inline void tile_decode(const cpu_linear *job, const linear_tile_data *tile, int64_t k0,
                               int64_t k_count) {
    if (job->weight->format->layout == QZO_LAYOUT_DENSE)
        dense_panel(job, tile, k0, k_count);
    else if (job->weight->format->decode_part != NULL)
        parts_panel(job, tile, k0, k_count);
    else if (tile->output_count == TILE)
        gptq_panel(job, tile, k0, k_count, TILE);
    else
        gptq_panel(job, tile, k0, k_count, tile->output_count);
}

#endif
