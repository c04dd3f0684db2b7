/* The promise that a journal replays anywhere, checked before anything is computed: noise and
 * update give the host's bits, subnormals included. Also the first kernels to run: a device that
 * the module was not compiled for is found here. Part of the CUDA module. */
#include "backend/cuda_state.h"
#include "base/noise.h"
#include "base/update.h"

#include <string.h>

qzo_status qzo_cuda_check_bits(qzo_backend *backend) {
    enum { COUNT = 501, SPANS = 2, PASSES = 5 };
    static const qzo_span spans[SPANS] = {
        {.tensor_id = 0x9e3779b9u, .offset = 0, .count = COUNT},
        {.tensor_id = 0x7f4a7c15u, .offset = COUNT, .count = COUNT},
    };
    static const struct {
        int span;
        bool is_relative;
        qzo_gain gain;
        qzo_directions directions;
    } passes[PASSES] = {
        {0, false, {0x0123456789abcdefu, 1e-3f}, QZO_DIRECTIONS_GAUSSIAN},
        {0, false, {2, -0.5f}, QZO_DIRECTIONS_RADEMACHER},
        {1, false, {3, 1e-42f}, QZO_DIRECTIONS_GAUSSIAN},
        {0, true, {4, 0.1f}, QZO_DIRECTIONS_GAUSSIAN},
        {1, true, {5, 0.1f}, QZO_DIRECTIONS_GAUSSIAN},
    };
    qzo_status status = QZO_OK;
    const qzo_backend_ops *ops = backend->ops;
    float initial[SPANS * COUNT], expected[SPANS * COUNT], found[SPANS * COUNT], z[COUNT];
    void *memory = NULL, *unit = NULL;
    for (int i = 0; i < SPANS * COUNT; i++) initial[i] = expected[i] = i < COUNT ? 0.01f : 1e-42f;
    QZO_TRY(ops->allocate(backend, &memory, sizeof expected));
    QZO_TRY(ops->allocate(backend, &unit, sizeof initial));
    QZO_TRY(ops->upload(backend, memory, initial, sizeof initial));
    QZO_TRY(ops->upload(backend, unit, initial, sizeof initial));
    for (int p = 0; p < PASSES; p++) {
        const qzo_span *span = &spans[passes[p].span];
        qzo_noise_fill(z, passes[p].gain.seed, span->tensor_id, 0, COUNT, passes[p].directions);
        for (int i = 0; i < COUNT; i++) {
            float *value = &expected[span->offset + i];
            if (passes[p].is_relative) z[i] = qzo_scaled_direction(initial[span->offset + i], z[i]);
            *value = qzo_updated(*value, passes[p].gain.k, z[i]);
        }
        QZO_TRY(ops->update(backend, memory, passes[p].is_relative ? unit : NULL, span, 1,
                            &passes[p].gain, 1, passes[p].directions, NULL));
    }
    QZO_TRY(ops->download(backend, found, memory, sizeof found));
    if (memcmp(found, expected, sizeof found) != 0)
        status = qzo_fail(QZO_ERR_ENVIRONMENT,
                          "the device computes other noise or updates than the host");
cleanup:
    ops->release(backend, memory);
    ops->release(backend, unit);
    if (status != QZO_OK) qzo_fail_context(status, "%s", state_of(backend)->arithmetic);
    return status;
}
