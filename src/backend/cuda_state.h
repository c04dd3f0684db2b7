/* What the files of the CUDA backend share; private to them. */
#ifndef QZO_BACKEND_CUDA_STATE_H
#define QZO_BACKEND_CUDA_STATE_H

#include "backend/backend.h"
#include "backend/cuda_sizes.h"
#include "kernels/kernels.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <stdbool.h>

enum { CUDA_STAGE_COUNT = 2 };

/* On both sides of every allocation, where the build has them; a multiple of cudaMalloc's
 * alignment. */
#if defined(QZO_CUDA_CHECKS)
enum { CUDA_GUARD_BYTES = 256 };
#else
enum { CUDA_GUARD_BYTES = 0 };
#endif

typedef struct cuda_gemm cuda_gemm; /* cuda_gemm.c */

typedef struct cuda_state {
    qzo_backend_ops ops; /* the table, with the backend's name */
    qzo_cuda_dtype act;  /* of activations and decoded weights: fp16 or bf16 */
    cudaStream_t stream;
    cuda_gemm *gemm;
    qzo_ledger ledger;
    const cuda_plan *plan;
    void *workspace; /* of cuBLASLt */
    uint16_t *tile;  /* (signs, tile_bytes): decoded weights */
    float *values;   /* (signs, values_bytes): perturbed trainable values of one weight */
    size_t tile_bytes, values_bytes, tile_held_bytes, values_held_bytes;
    int signs;                         /* 2: with room for both of a perturbation */
    double *results;                   /* (TARGETS_PER_LAUNCH) */
    qzo_cuda_gain *gains;              /* (GAINS_MAX) */
    qzo_cuda_span *spans, *spans_host; /* (CUDA_SPANS_MAX) */
    uint64_t *digest;
    /* Pinned memory between files and the device, filled while the other half travels. */
    void *stage[CUDA_STAGE_COUNT];
    cudaEvent_t stage_free[CUDA_STAGE_COUNT];
    int stage_next;
    char arithmetic[512];
    char device[QZO_DEVICE_ID_BYTES];
} cuda_state;

struct qzo_weight {
    const qzo_qtensor *tensor;
    void *memory; /* one allocation for all parts */
    union {       /* by tensor->format->layout */
        qzo_cuda_gptq gptq;
        qzo_cuda_bnb bnb;
        qzo_cuda_aqlm aqlm;
        qzo_gguf_blocks gguf;
        qzo_cuda_dtype dtype; /* of a dense weight, whose data is `memory` */
    } as;
};

/* Foreign codes to ours, with the call in the message. */
qzo_status qzo_status_from_cuda(cudaError_t code, const char *call);
qzo_status qzo_status_from_cublas(cublasStatus_t code, const char *call);

#define TRY_CUDA(call)   QZO_TRY(qzo_status_from_cuda((call), #call))
#define TRY_CUBLAS(call) QZO_TRY(qzo_status_from_cublas((call), #call))

static inline cuda_state *state_of(const qzo_backend *backend) { return backend->state; }

/* Of activations and decoded weights, as cuBLASLt calls it. */
static inline cudaDataType_t act_type(const cuda_state *state) {
    return state->act == QZO_CUDA_BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

/* The noise of a tensor's values: c times the factor of their group. */
static inline qzo_cuda_noise noise_of(const qzo_qtensor *tensor,
                                      const qzo_perturbation *perturbation) {
    return (qzo_cuda_noise){.seed = perturbation->seed,
                            .tensor_id = tensor->tensor_id,
                            .rademacher = perturbation->directions == QZO_DIRECTIONS_RADEMACHER,
                            .c = qzo_value_group_c(tensor->group, perturbation->c)};
}

/* What the tensor's directions are multiplied with; NULL: 1. */
static inline const float *unit_of(const qzo_qtensor *tensor,
                                   const qzo_perturbation *perturbation) {
    return perturbation->unit == NULL ? NULL : perturbation->unit + tensor->span_offset;
}

/* src/backend/cuda_memory.c */
qzo_status qzo_cuda_take(qzo_backend *backend, void **out, size_t size_bytes, qzo_memory_kind kind);
qzo_status qzo_cuda_allocate(qzo_backend *backend, void **out, size_t size_bytes);
void qzo_cuda_release(qzo_backend *backend, void *memory);
qzo_status qzo_cuda_memory_use(const qzo_backend *backend, qzo_memory_use *out_host);
qzo_status qzo_cuda_upload(qzo_backend *backend, void *out, const void *in_host, size_t size_bytes);
qzo_status qzo_cuda_download(qzo_backend *backend, void *out_host, const void *in,
                             size_t size_bytes);
qzo_status qzo_cuda_copy(qzo_backend *backend, void *out, const void *in, size_t size_bytes);
qzo_status qzo_cuda_reserve(qzo_backend *backend, int64_t context_max, bool pair);
qzo_status qzo_cuda_weight_load(qzo_backend *backend, qzo_weight **out, const qzo_qtensor *tensor);
void qzo_cuda_weight_free(qzo_backend *backend, qzo_weight *weight);
const qzo_qtensor *qzo_cuda_weight_tensor(const qzo_weight *weight);
void qzo_cuda_stage_close(cuda_state *state);

/* src/backend/cuda_guard.c; without guards they do nothing */
qzo_status qzo_cuda_guard_place(const cuda_state *state, uint8_t *memory, size_t size_bytes);
qzo_status qzo_cuda_guard_check(const cuda_state *state); /* of all that is allocated */
void qzo_cuda_guard_release(const cuda_state *state, const void *memory);

/* src/backend/cuda_gemm.c */

/* out (rows, outputs), with so many elements from row to row, = x (rows, inputs) weights^T, weights
 * (outputs, inputs), sums in fp32. All begin at multiples of 16 bytes, or rows of such a matrix. */
typedef struct cuda_gemm_shape {
    int64_t outputs, rows, inputs, out_pitch;
    cudaDataType_t in_type, out_type; /* 16-bit, or fp32 for out */
} cuda_gemm_shape;

qzo_status qzo_cuda_gemm_open(cuda_gemm **out);
void qzo_cuda_gemm_close(cuda_gemm *gemm); /* NULL is fine */
qzo_status qzo_cuda_gemm(const cuda_state *state, void *out, const void *x, const void *weights,
                         const cuda_gemm_shape *shape);

/* src/backend/cuda_linear.c */
qzo_status qzo_cuda_linear(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                           const qzo_weight *weight, const float *masters,
                           const qzo_perturbation *perturbation, int64_t rows);
qzo_status qzo_cuda_linear_pair(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                                const qzo_weight *weight, const float *masters,
                                const qzo_perturbation *perturbation, int64_t rows);
qzo_status qzo_cuda_logits(qzo_backend *backend, float *out, const qzo_act *x,
                           const qzo_weight *head, const float *masters,
                           const qzo_perturbation *perturbation, int64_t rows);
qzo_status qzo_cuda_decode(qzo_backend *backend, const qzo_weight *weight, const float *masters,
                           const qzo_perturbation *perturbation, int64_t rows, bool pair);

/* src/backend/cuda_update.c */
qzo_status qzo_cuda_update_op(qzo_backend *backend, const qzo_update_values *values,
                              const qzo_span *spans, int64_t span_count, const qzo_gain *gains,
                              int64_t gain_count, qzo_directions directions, uint64_t *digest_host);
qzo_status qzo_cuda_digest_op(qzo_backend *backend, uint64_t *out_host, const float *masters,
                              const qzo_span *spans, int64_t span_count);

/* src/backend/cuda_peaks.c */
qzo_status qzo_cuda_measure_peaks(qzo_backend *backend, qzo_peaks *out_host);

/* src/backend/cuda_check.c */
qzo_status qzo_cuda_check_bits(qzo_backend *backend);

#endif
