#include "base/cpu.h"

#include <stdatomic.h>
#include <stdbool.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    CPUID_FEATURES = 7,
    EDX_AMX_BF16 = 1 << 22,
    EDX_AMX_TILE = 1 << 24,
    REQUEST_STATE_PERMISSION = 0x1023, /* ARCH_REQ_XCOMP_PERM of asm/prctl.h, Linux 5.16 */
    TILE_DATA = 18                     /* the state component */
};

/* Tiles are 8 KB more to save at a switch of threads; the system grants them to a process that
 * asks, all its threads included. */
static bool has_amx(void) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    const unsigned needed = EDX_AMX_BF16 | EDX_AMX_TILE;
    if (!__get_cpuid_count(CPUID_FEATURES, 0, &a, &b, &c, &d) || (d & needed) != needed)
        return false;
    return syscall(SYS_arch_prctl, REQUEST_STATE_PERMISSION, TILE_DATA) == 0;
}
#endif

static qzo_cpu_level limit = QZO_CPU_WIDEST;

static qzo_cpu_level detect(void) {
#if defined(__x86_64__)
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (avx512) return has_amx() ? QZO_CPU_AMX : QZO_CPU_AVX512;
    return avx2 ? QZO_CPU_AVX2 : QZO_CPU_BASELINE;
#else
    return QZO_CPU_BASELINE;
#endif
}

qzo_cpu_level qzo_cpu(void) {
    static atomic_int detected = -1; /* two threads that are first find the same */
    int level = atomic_load_explicit(&detected, memory_order_relaxed);
    if (level < 0) {
        level = (int)detect();
        atomic_store_explicit(&detected, level, memory_order_relaxed);
    }
    return level < (int)limit ? (qzo_cpu_level)level : limit;
}

void qzo_cpu_limit(qzo_cpu_level level) { limit = level; }

const char *qzo_cpu_name(qzo_cpu_level level) {
    static const char *const names[] = {"baseline", "avx2", "avx512", "amx"};
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
