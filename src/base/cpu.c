#include "base/cpu.h"

#include <stdbool.h>

static qzo_cpu_level limit = QZO_CPU_AVX512;

static qzo_cpu_level detect(void) {
#if defined(__x86_64__)
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return avx512 ? QZO_CPU_AVX512 : avx2 ? QZO_CPU_AVX2 : QZO_CPU_BASELINE;
#else
    return QZO_CPU_BASELINE;
#endif
}

qzo_cpu_level qzo_cpu(void) {
    qzo_cpu_level level = detect();
    return level < limit ? level : limit;
}

void qzo_cpu_limit(qzo_cpu_level level) { limit = level; }

const char *qzo_cpu_name(qzo_cpu_level level) {
    static const char *const names[] = {"baseline", "avx2", "avx512"};
    return names[level];
}

qzo_status qzo_cpu_check_float_mode(void) {
    /* volatile: the compiler would compute these with its own rules. */
    volatile float smallest_normal = 0x1p-126f, half = 0.5f, one = 1.0f, tiny = 0x1p-24f;
    volatile float subnormal = smallest_normal * half;
    if (subnormal == 0.0f || subnormal * 2.0f != smallest_normal)
        return qzo_fail(QZO_ERR_ENVIRONMENT, "this process flushes subnormal numbers to zero "
                                             "(a library set FTZ or DAZ): results would differ "
                                             "between machines");
    volatile float sum = one + tiny, difference = -one - tiny;
    if (sum != one || difference != -one)
        return qzo_fail(QZO_ERR_ENVIRONMENT, "this process does not round to nearest: results "
                                             "would differ between machines");
    return QZO_OK;
}
