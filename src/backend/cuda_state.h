/* What the files of the CUDA backend share; private to them. */
#ifndef QZO_BACKEND_CUDA_STATE_H
#define QZO_BACKEND_CUDA_STATE_H

#include "backend/backend.h"
#include "backend/cuda_plan.h"
#include "kernels/kernels.h"

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <stdbool.h>

enum { QZO_CUDA_WORKSPACE_BYTES = 32 << 20 }; /* of cuBLAS */

typedef struct cuda_state {
    cudaStream_t stream;
    cublasHandle_t cublas;
    const cuda_plan *plan;
    void *workspace; /* of cuBLAS */
    uint16_t *tile;  /* decoded weights */
    size_t tile_bytes;
    float *values; /* perturbed trainable values of one weight */
    size_t values_bytes;
    double *results;      /* (TARGETS_PER_LAUNCH) */
    qzo_cuda_gain *gains; /* (GAINS_MAX) */
    uint64_t *digest;
    char arithmetic[512];
    char device[QZO_DEVICE_ID_BYTES];
} cuda_state;

struct qzo_weight {
    const qzo_qtensor *tensor;
    void *memory; /* one allocation for all parts */
    bool is_gptq;
    qzo_cuda_gptq gptq;
    qzo_cuda_dtype dtype; /* of a dense weight, whose data is `memory` */
};

/* Foreign codes to ours, with the call in the message. */
qzo_status qzo_status_from_cuda(cudaError_t code, const char *call);
qzo_status qzo_status_from_cublas(cublasStatus_t code, const char *call);

#define TRY_CUDA(call)   QZO_TRY(qzo_status_from_cuda((call), #call))
#define TRY_CUBLAS(call) QZO_TRY(qzo_status_from_cublas((call), #call))

static inline cuda_state *state_of(const qzo_backend *backend) { return backend->state; }

/* src/backend/cuda_linear.c */
qzo_status qzo_cuda_linear(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                           const qzo_weight *weight, const float *masters,
                           const qzo_perturbation *perturbation, int64_t rows);
qzo_status qzo_cuda_logits(qzo_backend *backend, float *out, const qzo_act *x,
                           const qzo_weight *head, const float *masters,
                           const qzo_perturbation *perturbation, int64_t rows);
qzo_status qzo_cuda_decode(qzo_backend *backend, const qzo_weight *weight, const float *masters,
                           const qzo_perturbation *perturbation, int64_t rows);

/* src/backend/cuda_peaks.c */
qzo_status qzo_cuda_measure_peaks(qzo_backend *backend, qzo_peaks *out_host);

/* src/backend/cuda_check.c */
qzo_status qzo_cuda_check_bits(qzo_backend *backend);

#endif
