#include "base/bootstrap.h"

#include "base/check.h"
#include "base/philox.h"

#include <stdlib.h>

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double resampled_mean(const double *values, const double *weights, int64_t count,
                             uint64_t seed, uint32_t resample) {
    double sum = 0.0, weight = 0.0;
    qzo_philox_block block = {{0}};
    for (int64_t i = 0; i < count; i++) {
        if (i % 4 == 0)
            block = qzo_philox(seed, (uint64_t)(i / 4), resample, QZO_PURPOSE_BOOTSTRAP);
        int64_t drawn = (int64_t)((block.word[i % 4] * (uint64_t)count) >> 32);
        sum += values[drawn];
        weight += weights != NULL ? weights[drawn] : 1.0;
    }
    return sum / weight;
}

qzo_status qzo_bootstrap(qzo_interval *out, const double *values, const double *weights,
                         int64_t count, uint64_t seed) {
    QZO_ASSERT(count > 0);
    QZO_ASSERT(count <= UINT32_MAX); /* a word chooses among them */
    double *means = calloc(QZO_BOOTSTRAP_RESAMPLES, sizeof *means);
    if (means == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for %d resamples", QZO_BOOTSTRAP_RESAMPLES);
    for (uint32_t r = 0; r < QZO_BOOTSTRAP_RESAMPLES; r++)
        means[r] = resampled_mean(values, weights, count, seed, r);
    qsort(means, QZO_BOOTSTRAP_RESAMPLES, sizeof *means, ascending);
    const int outside = QZO_BOOTSTRAP_RESAMPLES / 40; /* 2.5 % on each side */
    *out = (qzo_interval){means[outside], means[QZO_BOOTSTRAP_RESAMPLES - 1 - outside]};
    free(means);
    return QZO_OK;
}
