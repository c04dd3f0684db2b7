/* Assertions for programmer errors only. They stay alive in release builds; one condition each and
 * never a call with effects. */
#ifndef QZO_BASE_CHECK_H
#define QZO_BASE_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define QZO_ASSERT(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: assertion failed: %s\n", __FILE__, __LINE__, #condition);      \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
