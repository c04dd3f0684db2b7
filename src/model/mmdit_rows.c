#include "model/mmdit_rows.h"

#include "base/math64.h"

/* Of the first pixel of a row's patch in (examples, channels, height, width). */
static int64_t place_of(const qzo_mmdit_shape *shape, const qzo_mmdit_limits *limits, int64_t row,
                        int64_t channels) {
    int64_t patches = qzo_mmdit_patches_of(shape, limits), across = limits->width / shape->patch;
    int64_t example = row / patches, patch = row % patches;
    return example * channels * limits->height * limits->width +
           patch / across * shape->patch * limits->width + patch % across * shape->patch;
}

void qzo_mmdit_cut_patches(float *host, const qzo_mmdit_shape *shape,
                           const qzo_mmdit_limits *limits, const float *latents, int64_t examples) {
    int64_t patch = shape->patch, plane = limits->height * limits->width;
    int64_t rows = examples * qzo_mmdit_patches_of(shape, limits);
    for (int64_t row = 0; row < rows; row++) {
        const float *from = latents + place_of(shape, limits, row, shape->channels);
        for (int64_t channel = 0; channel < shape->channels; channel++)
            for (int64_t y = 0; y < patch; y++)
                for (int64_t x = 0; x < patch; x++)
                    *host++ = from[channel * plane + y * limits->width + x];
    }
}

void qzo_mmdit_join_patches(float *out_host, const qzo_mmdit_shape *shape,
                            const qzo_mmdit_limits *limits, const float *host, int64_t examples) {
    int64_t patch = shape->patch, plane = limits->height * limits->width;
    int64_t rows = examples * qzo_mmdit_patches_of(shape, limits);
    for (int64_t row = 0; row < rows; row++) {
        float *to = out_host + place_of(shape, limits, row, shape->out_channels);
        for (int64_t y = 0; y < patch; y++)
            for (int64_t x = 0; x < patch; x++)
                for (int64_t channel = 0; channel < shape->out_channels; channel++)
                    to[channel * plane + y * limits->width + x] = *host++;
    }
}

void qzo_mmdit_fill_sinusoids(float *host, const float *timesteps, int64_t examples) {
    enum { HALF = QZO_MMDIT_TIME_WIDTH / 2 };
    const float log_period = 9.210340371976184f; /* ln 10000 */
    for (int64_t e = 0; e < examples; e++, host += QZO_MMDIT_TIME_WIDTH)
        for (int i = 0; i < HALF; i++) {
            float exponent = -log_period * (float)i / (float)HALF;
            float angle = timesteps[e] * (float)qzo_exp((double)exponent);
            host[i] = (float)qzo_cos((double)angle);
            host[HALF + i] = (float)qzo_sin((double)angle);
        }
}
