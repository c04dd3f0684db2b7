/* The matrix product around a vector micro-kernel: decode a panel of weights, multiply all tokens
 * with it. Included by cpu_ops_avx2.c and cpu_ops_avx512.c, which define before:
 *   TILE, MICRO_TOKENS  outputs per tile; tokens per micro-kernel, 6
 *   micro_of()          out (m, TILE) (+)= x (m, k) panel (k, TILE) for a constant m, each
 *                       output's sum over k in ascending order
 *
 * No sum is split, so the bits are those of the reference. Blocks of inputs continue the running
 * sums from `out`. */
#ifndef QZO_BACKEND_CPU_LINEAR_PRODUCT_H
#define QZO_BACKEND_CPU_LINEAR_PRODUCT_H

#include "backend/cpu_linear_lanes.h"

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
    if (!tile_has_panel(weight)) {
        for (int64_t i = 0; i < TILE && first_output + i < weight->out_features; i++)
            qzo_cpu_ops_reference.linear_tile(job, first_output + i, scratch);
        return;
    }
    linear_tile_data tile =
        tile_open(job, first_output, scratch, scratch + CPU_LINEAR_K_BLOCK * TILE);
    for (int64_t k0 = 0; k0 < weight->in_features; k0 += CPU_LINEAR_K_BLOCK) {
        int64_t k_left = weight->in_features - k0;
        int64_t k_count = k_left < CPU_LINEAR_K_BLOCK ? k_left : CPU_LINEAR_K_BLOCK;
        tile_decode(job, &tile, k0, k_count);
        multiply_panel(job, &tile, k0, k_count);
    }
}

#endif
