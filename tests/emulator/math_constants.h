/* Stands in for CUDA's header of that name; see cuda_runtime_api.h beside it. */
#ifndef QZO_TESTS_EMULATOR_MATH_CONSTANTS_H
#define QZO_TESTS_EMULATOR_MATH_CONSTANTS_H

#include <cmath>

#define CUDART_INF_F INFINITY
#define CUDART_NAN   ((double)NAN)

#endif
