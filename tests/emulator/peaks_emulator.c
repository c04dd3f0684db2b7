/* An emulated device has no speed to measure: round numbers that say so stand in for its peaks, so
 * that whatever is computed from peaks can be tried without a device. */
#include "backend/cuda_state.h"

qzo_status qzo_cuda_measure_peaks(qzo_backend *backend, qzo_peaks *out_host) {
    (void)backend;
    *out_host = (qzo_peaks){.flops_per_second = 1e12,
                            .bf16_flops_per_second = 1e12,
                            .copy_bytes_per_second = 1e11,
                            .pretended = "pretended: the device is emulated, times are the host's"};
    return QZO_OK;
}
