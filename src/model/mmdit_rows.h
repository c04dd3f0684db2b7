/* Latents as rows of patches and back, and timesteps as rows of sinusoids; on the host. */
#ifndef QZO_MODEL_MMDIT_ROWS_H
#define QZO_MODEL_MMDIT_ROWS_H

#include "model/mmdit_forward.h"

/* Of one example. */
static inline int64_t qzo_mmdit_patches_of(const qzo_mmdit_shape *shape,
                                           const qzo_mmdit_limits *limits) {
    return limits->height / shape->patch * (limits->width / shape->patch);
}

/* host (patches of all examples, channels, patch, patch): in the order of a convolution's kernel */
void qzo_mmdit_cut_patches(float *host, const qzo_mmdit_shape *shape,
                           const qzo_mmdit_limits *limits, const float *latents, int64_t examples);

/* out_host (examples, out_channels, height, width) of rows (patch, patch, out_channels) */
void qzo_mmdit_join_patches(float *out_host, const qzo_mmdit_shape *shape,
                            const qzo_mmdit_limits *limits, const float *host, int64_t examples);

/* host (examples, QZO_MMDIT_TIME_WIDTH): cosines, then sines of t f_i, f_i = 10000^(-i / half). In
 * fp32 up to the angle, as diffusers has them. */
void qzo_mmdit_fill_sinusoids(float *host, const float *timesteps, int64_t examples);

#endif
