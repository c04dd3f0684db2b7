/* What the device does at most, measured now: products through cuBLASLt on random data, since zeros
 * are multiplied faster, and a copy larger than any cache. Part of the CUDA module. */
#include "backend/cuda_state.h"
#include "base/half.h"
#include "base/noise.h"

#include <stdlib.h>

enum {
    SIDE = 8192,            /* of the square matrices */
    BLOCK_VALUES = 1 << 20, /* drawn on the host, then repeated on the device */
    WARM_UPS = 3,
    RUNS = 10,
    PEAK_SEED = 11
};

static const size_t MATRIX_BYTES = (size_t)SIDE * SIDE * sizeof(uint16_t);
static const size_t COPY_BYTES_MAX = (size_t)2 << 30;

typedef struct peak_run {
    const cuda_state *state;
    cuda_gemm_shape square;
    void *a, *b, *out;
    size_t copy_bytes;
} peak_run;

static qzo_status run_product(const peak_run *run) {
    return qzo_cuda_gemm(run->state, run->out, run->a, run->b, &run->square);
}

static qzo_status run_copy(const peak_run *run) {
    return qzo_status_from_cuda(cudaMemcpyAsync(run->out, run->a, run->copy_bytes,
                                                cudaMemcpyDeviceToDevice, run->state->stream),
                                "copy");
}

/* Best of RUNS: whatever else the device does can only add. */
static qzo_status best_seconds(double *out, const peak_run *run,
                               qzo_status (*work)(const peak_run *run)) {
    qzo_status status = QZO_OK;
    cudaEvent_t begin = NULL, end = NULL;
    float best_ms = 1e30f, ms = 0.0f;
    TRY_CUDA(cudaEventCreate(&begin));
    TRY_CUDA(cudaEventCreate(&end));
    for (int i = 0; i < WARM_UPS + RUNS; i++) {
        TRY_CUDA(cudaEventRecord(begin, run->state->stream));
        QZO_TRY(work(run));
        TRY_CUDA(cudaEventRecord(end, run->state->stream));
        TRY_CUDA(cudaEventSynchronize(end));
        TRY_CUDA(cudaEventElapsedTime(&ms, begin, end));
        if (i >= WARM_UPS && ms < best_ms) best_ms = ms;
    }
    *out = 1e-3 * (double)best_ms;
cleanup:
    if (begin != NULL) cudaEventDestroy(begin);
    if (end != NULL) cudaEventDestroy(end);
    return status;
}

/* Both factors become normals of the type. */
static qzo_status fill(qzo_backend *backend, const peak_run *run, cudaDataType_t type) {
    qzo_status status = QZO_OK;
    const size_t block_bytes = BLOCK_VALUES * sizeof(uint16_t);
    float *normals = malloc(BLOCK_VALUES * sizeof *normals);
    uint16_t *bits = malloc(block_bytes);
    void *const factors[] = {run->a, run->b};
    if (normals == NULL || bits == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for random data");
        goto cleanup;
    }
    for (uint32_t f = 0; f < 2; f++) {
        qzo_noise_fill(normals, PEAK_SEED, f, 0, BLOCK_VALUES, QZO_DIRECTIONS_GAUSSIAN);
        for (int64_t i = 0; i < BLOCK_VALUES; i++)
            bits[i] =
                type == CUDA_R_16F ? qzo_float_to_fp16(normals[i]) : qzo_float_to_bf16(normals[i]);
        QZO_TRY(backend->ops->upload(backend, factors[f], bits, block_bytes));
        for (size_t at = block_bytes; at < MATRIX_BYTES; at += block_bytes)
            QZO_TRY(
                backend->ops->copy(backend, (uint8_t *)factors[f] + at, factors[f], block_bytes));
    }
cleanup:
    free(normals);
    free(bits);
    return status;
}

static qzo_status measure_product(qzo_backend *backend, double *flops_per_second, peak_run *run,
                                  cudaDataType_t type) {
    qzo_status status = QZO_OK;
    double seconds = 0.0;
    run->square = (cuda_gemm_shape){.outputs = SIDE,
                                    .rows = SIDE,
                                    .inputs = SIDE,
                                    .out_pitch = SIDE,
                                    .in_type = type,
                                    .out_type = type};
    QZO_TRY(fill(backend, run, type));
    QZO_TRY(best_seconds(&seconds, run, run_product));
    *flops_per_second = 2.0 * SIDE * SIDE * (double)SIDE / seconds;
cleanup:
    return status;
}

qzo_status qzo_cuda_measure_peaks(qzo_backend *backend, qzo_peaks *out_host) {
    qzo_status status = QZO_OK;
    peak_run run = {.state = state_of(backend)};
    size_t free_bytes = 0, total_bytes = 0;
    double seconds = 0.0;
    TRY_CUDA(cudaMemGetInfo(&free_bytes, &total_bytes));
    run.copy_bytes = free_bytes / 4 < COPY_BYTES_MAX ? free_bytes / 4 : COPY_BYTES_MAX;
    if (run.copy_bytes < MATRIX_BYTES) {
        status = qzo_fail(QZO_ERR_MEMORY, "measuring peaks takes %zu bytes, %zu are free",
                          4 * MATRIX_BYTES, free_bytes);
        goto cleanup;
    }
    QZO_TRY(backend->ops->allocate(backend, &run.a, run.copy_bytes));
    QZO_TRY(backend->ops->allocate(backend, &run.b, MATRIX_BYTES));
    QZO_TRY(backend->ops->allocate(backend, &run.out, run.copy_bytes));
    QZO_TRY(best_seconds(&seconds, &run, run_copy));
    out_host->copy_bytes_per_second = 2.0 * (double)run.copy_bytes / seconds;
    QZO_TRY(measure_product(backend, &out_host->flops_per_second, &run, act_type(run.state)));
    QZO_TRY(measure_product(backend, &out_host->bf16_flops_per_second, &run, CUDA_R_16BF));
cleanup:
    backend->ops->release(backend, run.a);
    backend->ops->release(backend, run.b);
    backend->ops->release(backend, run.out);
    return status;
}
