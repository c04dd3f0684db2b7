/* What this processor can do, and whether its floating-point mode is the one that the same-bits
 * promises need. */
#ifndef QZO_BASE_CPU_H
#define QZO_BASE_CPU_H

#include "base/status.h"

typedef enum {
    QZO_CPU_BASELINE, /* any x86-64, and every other architecture */
    QZO_CPU_AVX2,     /* AVX2 and FMA */
    QZO_CPU_AVX512,   /* AVX-512 F, BW, DQ, VL */
    QZO_CPU_AMX,      /* that, and AMX tiles of bf16 that the system grants */
    QZO_CPU_WIDEST = QZO_CPU_AMX
} qzo_cpu_level;

/* The widest level that the processor has and the limit allows. The first call asks the system for
 * AMX tiles, for the whole process. */
qzo_cpu_level qzo_cpu(void);

/* Lowers what qzo_cpu reports: tests and benchmarks compare levels. Not thread-safe. */
void qzo_cpu_limit(qzo_cpu_level level);

/* "baseline", "avx2", "avx512", "amx". */
const char *qzo_cpu_name(qzo_cpu_level level);

/* QZO_ERR_ENVIRONMENT where subnormals are flushed to zero or rounding is not to nearest. */
qzo_status qzo_cpu_check_float_mode(void);

#endif
