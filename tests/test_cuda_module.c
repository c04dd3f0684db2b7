/* The CUDA module loads into a program that has no driver: every symbol that it needs is found in
 * the program or in the libraries that it names. Skipped in a build without CUDA. */
#include "test_support.h"

#include "backend/cuda_module.h"
#include "comm/comm_nccl.h"

#if defined(QZO_HAVE_CUDA)

static void the_module_loads_with_all_its_symbols(void **state) {
    (void)state;
    const qzo_cuda_module *module = NULL, *again = NULL;
    assert_ok(qzo_cuda_module_open(&module));
    assert_ok(qzo_cuda_module_open(&again));
    assert_ptr_equal(module, again);
}

/* The message must arrive in the program's own buffer, not in a copy that the module has. */
static void its_messages_arrive_here(void **state) {
    (void)state;
    const qzo_cuda_module *module = NULL;
    const qzo_backend_options options = {.thread_count = 1};
    qzo_backend *backend = NULL;
    int count = -1;
    if (qzo_cuda_available() == QZO_OK) skip(); /* nothing fails here */
    assert_ok(qzo_cuda_module_open(&module));
    assert_fails(module->device_count(&count), QZO_ERR_ENVIRONMENT, "driver");
    assert_int_equal(count, 0);
    assert_fails(module->backend_open(&backend, &options, false), QZO_ERR_ENVIRONMENT, "driver");
    assert_null(backend);
}

static void auto_falls_back_and_cuda_does_not(void **state) {
    (void)state;
    const qzo_backend_options options = {.thread_count = 1};
    qzo_backend *backend = NULL;
    if (qzo_cuda_available() == QZO_OK) skip();
    assert_fails(qzo_backend_open(&backend, "cuda", &options), QZO_ERR_ENVIRONMENT, "NVIDIA");
    assert_ok(qzo_backend_open(&backend, "auto", &options));
    assert_string_equal(backend->ops->name, "cpu");
    qzo_backend_close(backend);
}

/* A group that cannot open NCCL stays as it was: whoever asked goes on with MPI. */
static void a_group_survives_the_lack_of_nccl(void **state) {
    (void)state;
    const qzo_cuda_module *module = NULL;
    qzo_comm *base = NULL, *comm = NULL;
    int32_t mine = 7, all = 0;
    if (qzo_cuda_available() == QZO_OK) skip();
    assert_ok(qzo_cuda_module_open(&module));
    assert_ok(qzo_comm_local_open(&base));
    assert_fails(qzo_comm_nccl_open(&comm, base), QZO_ERR_ENVIRONMENT, "NVIDIA");
    if (module->comm_open != NULL)
        assert_fails(module->comm_open(&comm, base), QZO_ERR_ENVIRONMENT, "cudaStreamCreate");
    assert_null(comm);
    assert_ok(qzo_comm_gather(base, &all, &mine, sizeof mine));
    assert_int_equal(all, mine);
    qzo_comm_close(base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_survives_the_lack_of_nccl),
        cmocka_unit_test(the_module_loads_with_all_its_symbols),
        cmocka_unit_test(its_messages_arrive_here),
        cmocka_unit_test(auto_falls_back_and_cuda_does_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void) {
    print_message("skipped: built without CUDA\n");
    return 77;
}

#endif
