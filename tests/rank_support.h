/* The world of a test that ctest starts under mpirun; alone without it. */
#ifndef QZO_TESTS_RANK_SUPPORT_H
#define QZO_TESTS_RANK_SUPPORT_H

#include "test_support.h"

#include "comm/comm.h"

#include <stdlib.h>

static qzo_comm *world;

static inline int world_open(void **state) {
    (void)state;
    const qzo_launch launch = {.under_launcher = getenv("OMPI_COMM_WORLD_SIZE") != NULL};
    return qzo_comm_world_open(&world, &launch) != QZO_OK;
}

static inline int world_close(void **state) {
    (void)state;
    qzo_comm_close(world);
    return 0;
}

#endif
