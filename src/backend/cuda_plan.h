/* Which kernel computes a linear layer, and which attention: a pure function of (device, rows,
 * shape), never of a timing made on the fly, so that ranks on equal devices agree. UNMEASURED:
 * these are first guesses; change CUDA_PLAN_VERSION with any change here or of a kernel's order of
 * summation, for it is part of the arithmetic that journals name. Private to the CUDA backend. */
#ifndef QZO_BACKEND_CUDA_PLAN_H
#define QZO_BACKEND_CUDA_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CUDA_PLAN_VERSION "5"

enum { CUDA_TILE_HEAD_DIM_MAX = 128 };

typedef enum {
    CUDA_LINEAR_TILES, /* decode to fp16 tiles, then cuBLASLt */
    CUDA_LINEAR_MMA,   /* fused on tensor cores, for few rows and groups of whole chunks */
    CUDA_LINEAR_FEW    /* fused, for a handful of rows and any groups */
} cuda_linear_path;

typedef struct cuda_plan {
    int compute_capability;   /* major * 10 + minor; the entry serves this one and those above */
    int64_t mma_rows_max;     /* of the fused kernel on tensor cores */
    int64_t few_rows_max;     /* of the other fused kernel */
    size_t tile_bytes;        /* of decoded weights: they fit into L2, and are outputs enough for a
                                 product that keeps all multiprocessors busy */
    int64_t pair_rows_max;    /* of each sign, where both read the codes together; changes no bit */
    int64_t tile_context_min; /* of attention on tensor cores: the longest context of the model's
                                 rows */
} cuda_plan;

/* Ascending by compute capability. */
static const cuda_plan cuda_plans[] = {
    {80, 32, 8, (size_t)16 << 20, 256, 128},
    {90, 32, 8, (size_t)32 << 20, 256, 128},
    {100, 32, 8, (size_t)32 << 20, 256, 128},
};

static inline const cuda_plan *cuda_plan_find(int compute_capability) {
    const cuda_plan *found = NULL;
    for (size_t i = 0; i < sizeof cuda_plans / sizeof *cuda_plans; i++)
        if (cuda_plans[i].compute_capability <= compute_capability) found = &cuda_plans[i];
    return found;
}

/* Of any device, for plans without one. */
static inline int64_t cuda_plan_pair_rows_max(void) {
    int64_t most = 0;
    for (size_t i = 0; i < sizeof cuda_plans / sizeof *cuda_plans; i++)
        if (cuda_plans[i].pair_rows_max > most) most = cuda_plans[i].pair_rows_max;
    return most;
}

/* Of a GPTQ weight; whole_chunks: its groups are runs of inputs that tensor cores take at a time.
 */
static inline cuda_linear_path cuda_plan_linear(const cuda_plan *plan, int64_t rows,
                                                bool whole_chunks) {
    if (whole_chunks) return rows <= plan->mma_rows_max ? CUDA_LINEAR_MMA : CUDA_LINEAR_TILES;
    return rows <= plan->few_rows_max ? CUDA_LINEAR_FEW : CUDA_LINEAR_TILES;
}

/* Never a function of the number of queries: a query's result must not depend on the others. */
static inline bool cuda_plan_attention_tiles(const cuda_plan *plan, int64_t context_max,
                                             int64_t head_dim) {
    return context_max >= plan->tile_context_min && head_dim % 8 == 0 &&
           head_dim <= CUDA_TILE_HEAD_DIM_MAX;
}

/* Outputs decoded at a time: whole blocks of the decoder, at least one. */
static inline int64_t cuda_plan_tile_outputs(const cuda_plan *plan, int64_t in_features) {
    enum { BLOCK = 32, HALF_BYTES = 2 };
    int64_t outputs = (int64_t)plan->tile_bytes / (in_features * HALF_BYTES) / BLOCK * BLOCK;
    return outputs > 0 ? outputs : BLOCK;
}

#endif
