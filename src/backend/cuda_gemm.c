/* Products through cuBLASLt, for decoded weights and for the ceilings of `qzo bench`. The algorithm
 * is what its heuristics name first for a shape, given that shape, the fixed workspace and the
 * alignment that follows from the shape: never an address and never a timing, so that ranks on
 * equal devices agree. It is asked once per shape and kept; two shapes that share a place ask again
 * and get the same. Sums that are taken apart stay fp32 until they are whole. Part of the CUDA
 * module. */
#include "backend/cuda_state.h"

#include <cublasLt.h>
#include <stdlib.h>

enum { PLACES = 1024, ALIGNMENT_BYTES_MAX = 16 };

typedef struct prepared {
    cuda_gemm_shape shape; /* no rows: nothing is here yet */
    cublasLtMatrixLayoutOpaque_t weights, x, out;
    cublasLtMatmulAlgo_t algorithm;
} prepared;

struct cuda_gemm {
    cublasLtHandle_t handle;
    cublasLtMatmulDescOpaque_t operation;
    prepared places[PLACES];
};

static prepared *place_of(cuda_gemm *gemm, const cuda_gemm_shape *shape) {
    const uint64_t spread = 0x9e3779b97f4a7c15u;
    uint64_t hash = (uint64_t)shape->outputs;
    hash = hash * spread + (uint64_t)shape->rows;
    hash = hash * spread + (uint64_t)shape->inputs;
    hash = hash * spread + (uint64_t)shape->out_pitch;
    hash = hash * spread + (uint64_t)shape->in_type * 64 + (uint64_t)shape->out_type;
    return &gemm->places[(hash * spread >> 32) % PLACES];
}

static bool is_same(const cuda_gemm_shape *a, const cuda_gemm_shape *b) {
    return a->outputs == b->outputs && a->rows == b->rows && a->inputs == b->inputs &&
           a->out_pitch == b->out_pitch && a->in_type == b->in_type && a->out_type == b->out_type;
}

/* Of any row of a matrix whose first row is aligned to ALIGNMENT_BYTES_MAX. */
static uint32_t row_alignment(int64_t pitch, cudaDataType_t type) {
    int64_t pitch_bytes = pitch * (type == CUDA_R_32F ? 4 : 2), alignment = ALIGNMENT_BYTES_MAX;
    while (pitch_bytes % alignment != 0) alignment /= 2;
    return (uint32_t)alignment;
}

static qzo_status set_preference(cublasLtMatmulPreferenceOpaque_t *out,
                                 const cuda_gemm_shape *shape) {
    qzo_status status = QZO_OK;
    const uint64_t workspace_bytes = CUDA_WORKSPACE_BYTES;
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t in_alignment = row_alignment(shape->inputs, shape->in_type);
    const uint32_t out_alignment = row_alignment(shape->out_pitch, shape->out_type);
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t size_bytes;
    } attributes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes, sizeof workspace_bytes},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &in_alignment, sizeof in_alignment},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &in_alignment, sizeof in_alignment},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &out_alignment, sizeof out_alignment},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &out_alignment, sizeof out_alignment},
    };
    TRY_CUBLAS(cublasLtMatmulPreferenceInit(out));
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
        TRY_CUBLAS(cublasLtMatmulPreferenceSetAttribute(
            out, attributes[i].name, attributes[i].value, attributes[i].size_bytes));
cleanup:
    return status;
}

/* cuBLASLt counts columns first: what it calls D (outputs, rows) is our out (rows, outputs), A is
 * the transposed weights, B is x. */
static qzo_status prepare(cuda_gemm *gemm, prepared *out, const cuda_gemm_shape *shape) {
    qzo_status status = QZO_OK;
    const uint64_t outputs = (uint64_t)shape->outputs, rows = (uint64_t)shape->rows;
    const uint64_t inputs = (uint64_t)shape->inputs;
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t found;
    int found_count = 0;
    out->shape.rows = 0;
    TRY_CUBLAS(
        cublasLtMatrixLayoutInit(&out->weights, shape->in_type, inputs, outputs, shape->inputs));
    TRY_CUBLAS(cublasLtMatrixLayoutInit(&out->x, shape->in_type, inputs, rows, shape->inputs));
    TRY_CUBLAS(
        cublasLtMatrixLayoutInit(&out->out, shape->out_type, outputs, rows, shape->out_pitch));
    QZO_TRY(set_preference(&preference, shape));
    TRY_CUBLAS(cublasLtMatmulAlgoGetHeuristic(gemm->handle, &gemm->operation, &out->weights,
                                              &out->x, &out->out, &out->out, &preference, 1, &found,
                                              &found_count));
    if (found_count == 0) {
        status = qzo_fail(QZO_ERR_ENVIRONMENT,
                          "cuBLASLt knows no product of (%lld, %lld) and (%lld, %lld)",
                          (long long)shape->rows, (long long)shape->inputs,
                          (long long)shape->inputs, (long long)shape->outputs);
        goto cleanup;
    }
    TRY_CUBLAS(found.state);
    out->algorithm = found.algo;
    out->shape = *shape;
cleanup:
    return status;
}

qzo_status qzo_cuda_gemm(const cuda_state *state, void *out, const void *x, const void *weights,
                         const cuda_gemm_shape *shape) {
    qzo_status status = QZO_OK;
    const float one = 1.0f, zero = 0.0f;
    cuda_gemm *gemm = state->gemm;
    prepared *place = place_of(gemm, shape);
    if (!is_same(&place->shape, shape)) QZO_TRY(prepare(gemm, place, shape));
    TRY_CUBLAS(cublasLtMatmul(gemm->handle, &gemm->operation, &one, weights, &place->weights, x,
                              &place->x, &zero, out, &place->out, out, &place->out,
                              &place->algorithm, state->workspace, CUDA_WORKSPACE_BYTES,
                              state->stream));
cleanup:
    return status;
}

qzo_status qzo_cuda_gemm_open(cuda_gemm **out) {
    qzo_status status = QZO_OK;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    cuda_gemm *gemm = calloc(1, sizeof *gemm);
    if (gemm == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for products");
    TRY_CUBLAS(cublasLtCreate(&gemm->handle));
    TRY_CUBLAS(cublasLtMatmulDescInit(&gemm->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    TRY_CUBLAS(cublasLtMatmulDescSetAttribute(&gemm->operation, CUBLASLT_MATMUL_DESC_TRANSA,
                                              &transposed, sizeof transposed));
    *out = gemm;
    gemm = NULL;
cleanup:
    qzo_cuda_gemm_close(gemm);
    return status;
}

void qzo_cuda_gemm_close(cuda_gemm *gemm) {
    if (gemm == NULL) return;
    if (gemm->handle != NULL) cublasLtDestroy(gemm->handle);
    free(gemm);
}

qzo_status qzo_status_from_cublas(cublasStatus_t code, const char *call) {
    if (code == CUBLAS_STATUS_SUCCESS) return QZO_OK;
    qzo_status status = code == CUBLAS_STATUS_ALLOC_FAILED ? QZO_ERR_MEMORY : QZO_ERR_ENVIRONMENT;
    return qzo_fail(status, "%s: %s", call, cublasLtGetStatusString(code));
}
