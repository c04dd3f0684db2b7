/* Confidence intervals by the bootstrap (Efron 1979): examples are drawn again with replacement,
 * and the interval holds the middle 95 % of the means that come out, from percentile to percentile.
 * Draws are counter-based, so that the same values give the same interval everywhere: the word
 * i % 4 of Philox with counter i / 4, tensor id = number of the resample. */
#ifndef QZO_BASE_BOOTSTRAP_H
#define QZO_BASE_BOOTSTRAP_H

#include "base/status.h"

#include <stdint.h>

enum { QZO_BOOTSTRAP_RESAMPLES = 10000 };

typedef struct qzo_interval {
    double low, high;
} qzo_interval;

/* Of sum(values) / sum(weights) over resampled examples; weights (count) are positive, NULL: all 1.
 * QZO_ERR_MEMORY is the only failure. */
qzo_status qzo_bootstrap(qzo_interval *out, const double *values, const double *weights,
                         int64_t count, uint64_t seed);

#endif
