/* Directions of perturbation: z as a pure function of (seed, tensor id, element). philox.h has the
 * arithmetic, shared with CUDA; here are the kinds and a fast fill for the host. */
#ifndef QZO_BASE_NOISE_H
#define QZO_BASE_NOISE_H

#include <stdint.h>

typedef enum {
    QZO_DIRECTIONS_GAUSSIAN,   /* N(0, 1) by Box-Muller */
    QZO_DIRECTIONS_RADEMACHER, /* -1 or +1 */
    QZO_DIRECTIONS_COUNT
} qzo_directions;

/* "gaussian", "rademacher"; NULL past the last. */
const char *qzo_directions_name(int directions);

/* The kind of that name, which must be one of them. */
qzo_directions qzo_directions_find(const char *name);

/* out (count) = z of elements first .. first + count - 1. Uses the widest vectors that the
 * processor has; every width gives the same bits. */
void qzo_noise_fill(float *out, uint64_t seed, uint32_t tensor_id, uint64_t first, int64_t count,
                    qzo_directions directions);

/* The seed of one perturbation: words 0 and 1 of Philox with key trial_seed, counter
 * (step low, step high, sample, QZO_PURPOSE_SEED). */
uint64_t qzo_noise_seed(uint64_t trial_seed, uint64_t step, uint32_t sample);

#endif
