/* cuBLASLt on the host: see cublasLt.h. */
#include "cublasLt.h"

#include "base/half.h"
#include "kernel_emulator.h"

#include <cstdlib>
#include <cstring>
#include <vector>

const char *cublasLtGetStatusString(cublasStatus_t code) {
    return code == CUBLAS_STATUS_INVALID_VALUE ? "an argument is wrong" : "another status";
}

size_t cublasLtGetVersion(void) { return 0; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out) {
    *out = static_cast<cublasLtHandle_t>(std::malloc(1));
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    std::free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t layout, cudaDataType_t type,
                                        uint64_t rows, uint64_t columns, int64_t pitch) {
    *layout = {type, rows, columns, pitch};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t operation, cublasComputeType_t,
                                      cudaDataType_t scale) {
    *operation = {CUBLAS_OP_N};
    return scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t, const void *value,
                                              size_t size_bytes) {
    if (size_bytes != sizeof operation->a_operation) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&operation->a_operation, value, size_bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t preference) {
    *preference = {};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t size_bytes) {
    bool is_long = attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
    if (size_bytes != (is_long ? sizeof(uint64_t) : sizeof(uint32_t)))
        return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&preference->values[attribute], value, size_bytes);
    return CUBLAS_STATUS_SUCCESS;
}

static size_t item_bytes(const cublasLtMatrixLayout_t layout) {
    return layout->type == CUDA_R_32F ? sizeof(float) : sizeof(uint16_t);
}

/* d (m, n) = a (k, m) transposed times b (k, n), columns first. */
static bool fit_together(const cublasLtMatrixLayout_t a, const cublasLtMatrixLayout_t b,
                         const cublasLtMatrixLayout_t d) {
    return a->type == b->type && a->type != CUDA_R_32F &&
           (d->type == CUDA_R_32F || d->type == a->type) && a->rows == b->rows &&
           a->columns == d->rows && b->columns == d->columns && a->pitch >= (int64_t)a->rows &&
           b->pitch >= (int64_t)b->rows && d->pitch >= (int64_t)d->rows && a->rows > 0 &&
           a->columns > 0 && b->columns > 0;
}

static bool rows_keep(const cublasLtMatrixLayout_t layout, uint64_t alignment) {
    return alignment > 0 && (size_t)layout->pitch * item_bytes(layout) % alignment == 0;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t *out,
                                              int *out_count) {
    const uint64_t *values = preference->values;
    *out = {};
    out->algo.workspace_bytes = values[CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES];
    out->algo.a_alignment = values[CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES];
    out->algo.b_alignment = values[CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES];
    out->algo.c_alignment = values[CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES];
    out->algo.d_alignment = values[CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES];
    out->algo.outputs = d->rows, out->algo.rows = d->columns, out->algo.inputs = a->rows;
    if (wanted < 1 || c != d || operation->a_operation != CUBLAS_OP_T || !fit_together(a, b, d) ||
        values[CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK] !=
            CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE ||
        !rows_keep(a, out->algo.a_alignment) || !rows_keep(b, out->algo.b_alignment) ||
        !rows_keep(d, out->algo.d_alignment) || out->algo.c_alignment != out->algo.d_alignment)
        return CUBLAS_STATUS_INVALID_VALUE;
    *out_count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* Inside the device's memory, at an address that keeps the promise. */
static bool is_operand(const void *memory, const cublasLtMatrixLayout_t layout,
                       uint64_t alignment) {
    size_t count = (size_t)(layout->columns - 1) * (size_t)layout->pitch + (size_t)layout->rows;
    return reinterpret_cast<uintptr_t>(memory) % alignment == 0 &&
           emulator_is_device_memory(memory, count * item_bytes(layout));
}

/* Eight sums side by side: an order of its own, as a device has one. */
static float dot(const float *a, const float *b, int64_t count) {
    constexpr int LANES = 8;
    float sums[LANES] = {}, total = 0.0f;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; lane++) sums[lane] += a[i + lane] * b[i + lane];
    for (; i < count; i++) total += a[i] * b[i];
    for (int lane = 0; lane < LANES; lane++) total += sums[lane];
    return total;
}

static void widen_column(float *out, const void *memory, const cublasLtMatrixLayout_t layout,
                         int64_t column) {
    const uint16_t *bits = static_cast<const uint16_t *>(memory) + column * layout->pitch;
    for (uint64_t i = 0; i < layout->rows; i++)
        out[i] =
            layout->type == CUDA_R_16F ? qzo_fp16_to_float(bits[i]) : qzo_bf16_to_float(bits[i]);
}

static void store(void *memory, const cublasLtMatrixLayout_t layout, int64_t at, float value) {
    if (layout->type == CUDA_R_32F)
        static_cast<float *>(memory)[at] = value;
    else
        static_cast<uint16_t *>(memory)[at] =
            layout->type == CUDA_R_16F ? qzo_float_to_fp16(value) : qzo_float_to_bf16(value);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                              size_t workspace_bytes, cudaStream_t) {
    int64_t outputs = (int64_t)d_layout->rows, rows = (int64_t)d_layout->columns;
    int64_t inputs = (int64_t)a_layout->rows;
    if (operation->a_operation != CUBLAS_OP_T || !fit_together(a_layout, b_layout, d_layout) ||
        c != d || c_layout != d_layout || *static_cast<const float *>(alpha) != 1.0f ||
        *static_cast<const float *>(beta) != 0.0f || algorithm->outputs != (uint64_t)outputs ||
        algorithm->rows != (uint64_t)rows || algorithm->inputs != (uint64_t)inputs ||
        workspace_bytes < algorithm->workspace_bytes ||
        !emulator_is_device_memory(workspace, workspace_bytes) ||
        !is_operand(a, a_layout, algorithm->a_alignment) ||
        !is_operand(b, b_layout, algorithm->b_alignment) ||
        !is_operand(d, d_layout, algorithm->d_alignment))
        return CUBLAS_STATUS_INVALID_VALUE;
    std::vector<float> x((size_t)(rows * inputs)), weights((size_t)inputs);
    for (int64_t j = 0; j < rows; j++) widen_column(&x[(size_t)(j * inputs)], b, b_layout, j);
    for (int64_t i = 0; i < outputs; i++) {
        widen_column(weights.data(), a, a_layout, i);
        for (int64_t j = 0; j < rows; j++)
            store(d, d_layout, j * d_layout->pitch + i,
                  dot(weights.data(), &x[(size_t)(j * inputs)], inputs));
    }
    return CUBLAS_STATUS_SUCCESS;
}
