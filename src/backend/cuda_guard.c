/* Guards around device memory in builds with QZO_CUDA_CHECKS: what a kernel writes outside its
 * buffers is found at the next download or release. Part of the CUDA module. */
#include "backend/cuda_state.h"
#include "base/log.h"

#include <inttypes.h>

enum { GUARD_BYTE = 0xa5 };

static qzo_status check_side(const uint8_t *guard, const qzo_ledger_entry *entry, const char *side,
                             cudaStream_t stream) {
    qzo_status status = QZO_OK;
    uint8_t found[CUDA_GUARD_BYTES + 1]; /* never empty, also without guards */
    TRY_CUDA(cudaMemcpyAsync(found, guard, CUDA_GUARD_BYTES, cudaMemcpyDeviceToHost, stream));
    TRY_CUDA(cudaStreamSynchronize(stream));
    for (int i = 0; i < CUDA_GUARD_BYTES; i++)
        if (found[i] != GUARD_BYTE)
            return qzo_fail(QZO_ERR_ENVIRONMENT,
                            "something wrote %s a buffer of %" PRId64
                            " bytes of device memory, at byte %d of its guard",
                            side, entry->size_bytes, i);
cleanup:
    return status;
}

static qzo_status check_entry(const cuda_state *state, const qzo_ledger_entry *entry) {
    const uint8_t *memory = entry->memory;
    qzo_status status = check_side(memory - CUDA_GUARD_BYTES, entry, "before", state->stream);
    if (status != QZO_OK) return status;
    return check_side(memory + entry->size_bytes, entry, "behind", state->stream);
}

qzo_status qzo_cuda_guard_place(const cuda_state *state, uint8_t *memory, size_t size_bytes) {
    qzo_status status = QZO_OK;
    if (CUDA_GUARD_BYTES == 0) return QZO_OK;
    TRY_CUDA(
        cudaMemsetAsync(memory - CUDA_GUARD_BYTES, GUARD_BYTE, CUDA_GUARD_BYTES, state->stream));
    TRY_CUDA(cudaMemsetAsync(memory + size_bytes, GUARD_BYTE, CUDA_GUARD_BYTES, state->stream));
cleanup:
    return status;
}

qzo_status qzo_cuda_guard_check(const cuda_state *state) {
    if (CUDA_GUARD_BYTES == 0) return QZO_OK;
    for (int64_t i = 0; i < state->ledger.count; i++) {
        qzo_status status = check_entry(state, &state->ledger.entries[i]);
        if (status != QZO_OK) return status;
    }
    return QZO_OK;
}

/* A release has nobody to tell: it logs. */
void qzo_cuda_guard_release(const cuda_state *state, const void *memory) {
    if (CUDA_GUARD_BYTES == 0 || memory == NULL) return;
    for (int64_t i = 0; i < state->ledger.count; i++)
        if (state->ledger.entries[i].memory == memory &&
            check_entry(state, &state->ledger.entries[i]) != QZO_OK)
            qzo_log_error("%s", qzo_error_message());
}
