/* Student's t distribution, for intervals around means of a few runs. */
#ifndef QZO_BASE_STUDENT_H
#define QZO_BASE_STUDENT_H

#include <stdint.h>

/* t such that a variable with `freedom` >= 1 degrees of freedom lies in [-t, t] with probability
 * p in (0, 1). */
double qzo_student_quantile(double p, int64_t freedom);

/* Mean of the values that are no NaN, how many these are, and the half width of the interval that
 * holds the true mean with probability 0.95 if they are normal: t(0.95, n - 1) s / sqrt(n), with
 * s^2 = sum (x - mean)^2 / (n - 1). NaN where there are too few (1 and 2). */
typedef struct qzo_mean {
    int64_t count;
    double mean, half_width;
} qzo_mean;

qzo_mean qzo_mean_of(const double *values, int64_t count);

#endif
