/* ln, exp, cos and sin in double from IEEE operations alone, for losses, schedules and rotary
 * angles: results do not depend on the C library. Series, not tuned: they run once per token or
 * step. */
#ifndef QZO_BASE_MATH64_H
#define QZO_BASE_MATH64_H

#include <stdint.h>
#include <string.h>

/* ln(x) of a positive, finite, normal x; relative error below 1e-15, absolute below 1e-16 near 1.
 * ln m = 2 artanh((m - 1) / (m + 1)) for m in [sqrt(1/2), sqrt(2)). */
static inline double qzo_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int64_t exponent = (int64_t)(bits - 0x3fe6a09e667f3bcdu) >> 52;
    bits -= (uint64_t)exponent << 52;
    double m;
    memcpy(&m, &bits, sizeof m);
    double s = (m - 1.0) / (m + 1.0), square = s * s, sum = 0.0;
    for (int k = 21; k >= 1; k -= 2) sum = sum * square + 1.0 / k; /* s < 0.172: s^23 < 2^-58 */
    return (double)exponent * 0x1.62e42fefa39efp-1 + 2.0 * s * sum;
}

/* e^x for x in [-700, 700], clamped there; relative error below 1e-15. e^x = 2^n e^r, |r| <= ln 2 /
 * 2, by the Taylor series of e^r. NaN gives NaN. */
static inline double qzo_exp(double x) {
    if (x != x) return x;
    double clamped = x < -700.0 ? -700.0 : x > 700.0 ? 700.0 : x;
    double scaled = clamped * 0x1.71547652b82fep+0;
    int64_t n = (int64_t)(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    double r = clamped - (double)n * 0x1.62e42fefa3800p-1 - (double)n * 0x1.ef35793c76730p-45;
    double sum = 1.0;
    for (int k = 14; k >= 1; k--) sum = 1.0 + sum * r / k;
    uint64_t bits = (uint64_t)(n + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

/* cos(pi x) for x in [0, 1]; absolute error below 1e-15. */
static inline double qzo_cospi(double x) {
    double reflected = x > 0.5 ? 1.0 - x : x;
    double angle = reflected * 0x1.921fb54442d18p+1, square = angle * angle, sum = 1.0;
    /* 1 - a^2/2 (1 - a^2/(3 4) (1 - a^2/(5 6) (...))) */
    for (int k = 23; k >= 3; k -= 2) sum = 1.0 - sum * square / (k * (k + 1.0));
    double cosine = 1.0 - sum * square / 2.0;
    return x > 0.5 ? -cosine : cosine;
}

/* cos(pi x) for x in [0, 2^52). */
static inline double qzo_cos_half_turns(double x) {
    int64_t whole = (int64_t)x;
    double cosine = qzo_cospi(x - (double)whole);
    return whole % 2 != 0 ? -cosine : cosine;
}

/* cos x and sin x for x in [0, 2^31); absolute error below 1e-15 (1 + x). */
static inline double qzo_cos(double x) { return qzo_cos_half_turns(x * 0x1.45f306dc9c883p-2); }

static inline double qzo_sin(double x) {
    double half_turns = x * 0x1.45f306dc9c883p-2;
    return qzo_cos_half_turns(half_turns > 0.5 ? half_turns - 0.5 : 0.5 - half_turns);
}

#endif
