/* Seconds of a clock that never goes back, for durations. */
#ifndef QZO_BASE_CLOCK_H
#define QZO_BASE_CLOCK_H

#include <time.h>

static inline double qzo_clock_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
