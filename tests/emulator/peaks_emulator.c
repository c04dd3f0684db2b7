/* An emulated device has no speed to measure. */
#include "backend/cuda_state.h"

qzo_status qzo_cuda_measure_peaks(qzo_backend *backend, qzo_peaks *out_host) {
    (void)backend, (void)out_host;
    return qzo_fail(QZO_ERR_UNSUPPORTED, "an emulated device is not measured");
}
