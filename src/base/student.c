#include "base/student.h"

#include <math.h>

static const double CONFIDENCE = 0.95;

/* P(|T| < t): with theta = atan(t / sqrt(n)) a finite sum of powers of cos(theta) (Abramowitz and
 * Stegun 26.7.3 and 26.7.4). */
static double probability_within(double t, int64_t freedom) {
    const double pi = 3.14159265358979323846;
    double theta = atan(t / sqrt((double)freedom)), c = cos(theta), s = sin(theta);
    double term = freedom % 2 != 0 ? c : 1.0, sum = 0.0;
    for (int64_t k = freedom % 2 != 0 ? 1 : 0; k <= freedom - 2; k += 2) {
        sum += term;
        term *= c * c * (double)(k + 1) / (double)(k + 2);
    }
    return freedom % 2 != 0 ? 2.0 / pi * (theta + s * sum) : s * sum;
}

double qzo_student_quantile(double p, int64_t freedom) {
    double low = 0.0, high = 1.0;
    while (probability_within(high, freedom) < p && high < 1e300) high *= 2.0;
    for (int i = 0; i < 200 && low < high; i++) {
        double middle = low + (high - low) / 2.0;
        if (middle == low || middle == high) break;
        if (probability_within(middle, freedom) < p)
            low = middle;
        else
            high = middle;
    }
    return high;
}

qzo_mean qzo_mean_of(const double *values, int64_t count) {
    qzo_mean out = {.mean = (double)NAN, .half_width = (double)NAN};
    double sum = 0.0, squares = 0.0;
    for (int64_t i = 0; i < count; i++) {
        if (isnan(values[i])) continue;
        sum += values[i];
        out.count++;
    }
    if (out.count == 0) return out;
    double n = (double)out.count;
    out.mean = sum / n;
    if (out.count == 1) return out;
    for (int64_t i = 0; i < count; i++)
        if (!isnan(values[i])) squares += (values[i] - out.mean) * (values[i] - out.mean);
    out.half_width =
        qzo_student_quantile(CONFIDENCE, out.count - 1) * sqrt(squares / (n - 1.0)) / sqrt(n);
    return out;
}
