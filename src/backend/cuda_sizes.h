/* What the CUDA backend allocates, as functions of shapes alone: the backend takes these sizes, and
 * a plan adds them up on a machine without a device. Plain C of the program itself; the module
 * calls it there. Private to the CUDA backend. */
#ifndef QZO_BACKEND_CUDA_SIZES_H
#define QZO_BACKEND_CUDA_SIZES_H

#include "backend/backend.h"
#include "backend/cuda_plan.h"

#include <stdbool.h>

enum {
    CUDA_WORKSPACE_BYTES = 32 << 20,   /* of cuBLAS */
    CUDA_TARGETS_PER_LAUNCH = 1 << 16, /* log-probabilities that the results hold at a time */
    CUDA_GAINS_MAX = 1 << 16,          /* records of a step */
    CUDA_GAIN_BYTES = 16,
    CUDA_SPANS_MAX = 4096, /* of one launch; more take several */
    CUDA_SPAN_BYTES = 40,
    CUDA_HEAD_DIM_MAX = 256
};

/* Allocated when the backend opens. */
enum {
    CUDA_FIXED_WORKSPACE, /* of cuBLAS */
    CUDA_FIXED_RESULTS,   /* of log_probs */
    CUDA_FIXED_GAINS,
    CUDA_FIXED_SPANS,
    CUDA_FIXED_DIGEST,
    CUDA_FIXED_COUNT
};
extern const size_t qzo_cuda_fixed_bytes[CUDA_FIXED_COUNT];

/* A weight's one allocation and the scratch that its product needs. */
typedef struct qzo_cuda_layout {
    size_t codes_bytes, zeros_bytes, groups_bytes; /* the parts of GPTQ; AQLM: codes alone */
    size_t zeros_at, groups_at;
    size_t codebooks_bytes, codebooks_at; /* of AQLM */
    size_t total_bytes;
    size_t values_bytes;    /* scratch: its perturbed trainable values */
    bool is_decoded;        /* scratch: a tile of decoded weights */
    int64_t tile_width;     /* inputs */
    int64_t tile_rows_most; /* outputs */
} qzo_cuda_layout;

/* act: of activations and decoded weights. QZO_ERR_UNSUPPORTED and QZO_ERR_LIMIT say what the
 * backend cannot hold. */
qzo_status qzo_cuda_layout_of(qzo_cuda_layout *out, const qzo_qtensor *tensor, qzo_dtype act);

/* qzo_backend_ops.check_heads */
qzo_status qzo_cuda_check_heads(const qzo_backend *backend, int64_t head_dim);

size_t qzo_cuda_tile_bytes(const qzo_cuda_layout *layout, const cuda_plan *plan);

/* Scratch of one sign of a perturbation: what is largest of all weights, padded so that a second
 * one behind it is as aligned. */
void qzo_cuda_scratch_raise(size_t *scratch_bytes, size_t wanted_bytes);

/* qzo_backend_ops.library_memory */
extern const qzo_memory_item qzo_cuda_library_memory[];

#endif
