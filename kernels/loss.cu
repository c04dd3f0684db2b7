/* Log-probabilities of target tokens: exponentials in fp32, their sum and logarithm in double. */
#include "kernels/device_common.cuh"

#include <math_constants.h>

/* --- device helpers --- */

constexpr int THREADS = 512;

/* ln sum exp of a row, on all threads; NaN where a logit is NaN or infinite upwards, which must not
 * look like a loss. */
static __device__ double log_sum_exp(const float *logits, int64_t vocab) {
    __shared__ float largest_parts[THREADS / WARP];
    __shared__ double sum_parts[THREADS / WARP];
    float largest = -CUDART_INF_F;
    for (int64_t i = threadIdx.x; i < vocab; i += THREADS) largest = fmaxf(largest, logits[i]);
    largest = block_max<THREADS>(largest, largest_parts);
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < vocab; i += THREADS) sum += (double)expf(logits[i] - largest);
    sum = block_sum<THREADS>(sum, sum_parts);
    /* The largest logit adds exactly 1. */
    return sum >= 1.0 && sum < 1e300 ? (double)largest + log(sum) : CUDART_NAN;
}

/* --- kernels --- */

/* One block per target; targets ascend by row, and the first one of a row serves all of that row.
 */
static __global__ void log_probs_kernel(double *out, const float *logits, const int32_t *target_row,
                                        const int32_t *target_id, int64_t target_count,
                                        int64_t vocab) {
    int64_t first = blockIdx.x;
    int32_t row = target_row[first];
    QZO_CUDA_CHECK(row >= 0 && (first == 0 || target_row[first - 1] <= row));
    if (first > 0 && target_row[first - 1] == row) return; /* the whole block leaves */
    const float *row_logits = logits + row * vocab;
    double log_sum = log_sum_exp(row_logits, vocab);
    for (int64_t i = first + threadIdx.x; i < target_count && target_row[i] == row; i += THREADS) {
        QZO_CUDA_CHECK(target_id[i] >= 0 && target_id[i] < vocab);
        out[i] = (double)row_logits[target_id[i]] - log_sum;
    }
}

/* --- launchers --- */

extern "C" cudaError_t qzo_cuda_log_probs(double *out, const float *logits,
                                          const int32_t *target_row, const int32_t *target_id,
                                          int64_t target_count, int64_t vocab,
                                          cudaStream_t stream) {
    if (target_count == 0) return cudaSuccess;
    log_probs_kernel<<<(unsigned)target_count, THREADS, 0, stream>>>(
        out, logits, target_row, target_id, target_count, vocab);
    return cudaGetLastError();
}
