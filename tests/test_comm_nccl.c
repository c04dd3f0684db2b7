/* ctest: labels=gpu timeout=120 emulated
 * The NCCL transport on one device (NCCL takes one rank per device): gathers give the bytes of the
 * group it stands on, below and above what it keeps buffers for, many times in a row. 77 (skipped)
 * where there is no device. */
#include "test_support.h"

#include "backend/cuda_module.h"
#include "comm/comm_nccl.h"

#include <stdlib.h>
#include <string.h>

static qzo_backend *backend; /* chooses the device */

static int open_device(void **state) {
    (void)state;
    const qzo_backend_options options = {.thread_count = 1};
    assert_ok(qzo_backend_open(&backend, "cuda", &options));
    return 0;
}

static int close_device(void **state) {
    (void)state;
    qzo_backend_close(backend);
    return 0;
}

static void gathers_give_the_same_bytes(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 4, 32, 4096, 65535, 65536, 65537, 1 << 20};
    qzo_comm *base = NULL, *comm = NULL;
    assert_ok(qzo_comm_local_open(&base));
    assert_ok(qzo_comm_nccl_open(&comm, base));
    assert_string_equal(comm->ops->name, "nccl");
    for (int round = 0; round < 20; round++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            uint8_t *mine = malloc(sizes[s]), *all = calloc(1, sizes[s]);
            for (size_t i = 0; i < sizes[s]; i++) mine[i] = (uint8_t)(i * 31 + (size_t)round);
            assert_ok(qzo_comm_gather(comm, all, mine, sizes[s]));
            assert_memory_equal(all, mine, sizes[s]);
            free(mine);
            free(all);
        }
    assert_ok(qzo_comm_barrier(comm));
    qzo_comm_close(comm); /* and the group below it */
}

static void groups_open_one_after_the_other(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        qzo_comm *base = NULL, *comm = NULL;
        assert_ok(qzo_comm_local_open(&base));
        assert_ok(qzo_comm_nccl_open(&comm, base));
        qzo_comm_close(comm);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gathers_give_the_same_bytes),
        cmocka_unit_test(groups_open_one_after_the_other),
    };
    if (qzo_cuda_available() != QZO_OK) {
        print_message("skipped: %s\n", qzo_error_message());
        return 77;
    }
    return cmocka_run_group_tests(tests, open_device, close_device);
}
