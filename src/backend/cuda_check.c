/* The promise that a journal replays anywhere, checked before anything is computed: noise and
 * update give the host's bits, subnormals included. Also the first kernels to run: a device that
 * the module was not compiled for is found here. Part of the CUDA module. */
#include "backend/cuda_state.h"
#include "base/noise.h"
#include "base/update.h"

#include <string.h>

qzo_status qzo_cuda_check_bits(qzo_backend *backend) {
    enum { COUNT = 501, SPANS = 2, PASSES = 7 };
    static const qzo_span spans[SPANS] = {
        {.tensor_id = 0x9e3779b9u, .offset = 0, .count = COUNT},
        {.tensor_id = 0x7f4a7c15u, .offset = COUNT, .count = COUNT},
    };
    static const struct {
        int span;
        bool is_relative;
        float decay; /* 0: without a velocity */
        qzo_gain gain;
        qzo_directions directions;
    } passes[PASSES] = {
        {0, false, 0.0f, {0x0123456789abcdefu, 1e-3f}, QZO_DIRECTIONS_GAUSSIAN},
        {0, false, 0.0f, {2, -0.5f}, QZO_DIRECTIONS_RADEMACHER},
        {1, false, 0.0f, {3, 1e-42f}, QZO_DIRECTIONS_GAUSSIAN},
        {0, true, 0.0f, {4, 0.1f}, QZO_DIRECTIONS_GAUSSIAN},
        {1, true, 0.0f, {5, 0.1f}, QZO_DIRECTIONS_GAUSSIAN},
        {0, false, 0.9f, {6, 1e-3f}, QZO_DIRECTIONS_GAUSSIAN},
        {1, true, 0.5f, {7, 0.1f}, QZO_DIRECTIONS_GAUSSIAN},
    };
    qzo_status status = QZO_OK;
    const qzo_backend_ops *ops = backend->ops;
    float initial[SPANS * COUNT], expected[SPANS * COUNT], found[SPANS * COUNT], z[COUNT];
    float speed[SPANS * COUNT];
    void *memory = NULL, *unit = NULL, *velocity = NULL;
    for (int i = 0; i < SPANS * COUNT; i++)
        initial[i] = expected[i] = speed[i] = i < COUNT ? 0.01f : 1e-42f;
    QZO_TRY(ops->allocate(backend, &memory, sizeof expected));
    QZO_TRY(ops->allocate(backend, &unit, sizeof initial));
    QZO_TRY(ops->upload(backend, memory, initial, sizeof initial));
    QZO_TRY(ops->allocate(backend, &velocity, sizeof speed));
    QZO_TRY(ops->upload(backend, unit, initial, sizeof initial));
    QZO_TRY(ops->upload(backend, velocity, initial, sizeof initial));
    for (int p = 0; p < PASSES; p++) {
        const qzo_span *span = &spans[passes[p].span];
        qzo_noise_fill(z, passes[p].gain.seed, span->tensor_id, 0, COUNT, passes[p].directions);
        for (int i = 0; i < COUNT; i++) {
            float *value = &expected[span->offset + i];
            if (passes[p].is_relative) z[i] = qzo_scaled_direction(initial[span->offset + i], z[i]);
            float *gained = passes[p].decay > 0.0f ? &speed[span->offset + i] : value;
            if (gained != value) *gained = qzo_decayed(*gained, passes[p].decay);
            *gained = qzo_updated(*gained, passes[p].gain.k, z[i]);
            if (gained != value) *value = qzo_moved(*value, *gained);
        }
        const qzo_update_values values = {.masters = memory,
                                          .unit = passes[p].is_relative ? unit : NULL,
                                          .velocity = passes[p].decay > 0.0f ? velocity : NULL,
                                          .decay = passes[p].decay};
        QZO_TRY(
            ops->update(backend, &values, span, 1, &passes[p].gain, 1, passes[p].directions, NULL));
    }
    QZO_TRY(ops->download(backend, found, memory, sizeof found));
    if (memcmp(found, expected, sizeof found) != 0)
        status = qzo_fail(QZO_ERR_ENVIRONMENT,
                          "the device computes other noise or updates than the host");
cleanup:
    ops->release(backend, memory);
    ops->release(backend, unit);
    ops->release(backend, velocity);
    if (status != QZO_OK) qzo_fail_context(status, "%s", state_of(backend)->arithmetic);
    return status;
}
