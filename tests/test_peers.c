/* What follows from where the ranks are: mixtures are refused, NCCL is chosen where it can be. */
#include "test_support.h"

#include "comm/peers.h"

#include <stdio.h>
#include <stdlib.h>

static qzo_peer peer(const char *host, const char *device) {
    qzo_peer out = {.version = "1.0", .arithmetic = "fp16", .libraries = "MPI 4"};
    snprintf(out.host, sizeof out.host, "%s", host);
    snprintf(out.device, sizeof out.device, "%s", device);
    return out;
}

static void equal_ranks_are_alike(void **state) {
    (void)state;
    const qzo_peer peers[] = {peer("n1", "GPU-a"), peer("n1", "GPU-b"), peer("n2", "")};
    assert_ok(qzo_peers_check_alike(peers, 3));
    assert_ok(qzo_peers_check_alike(peers, 1));
}

static void a_mixture_names_part_rank_and_host(void **state) {
    (void)state;
    qzo_peer peers[] = {peer("n1", ""), peer("n1", ""), peer("n2", "")};
    snprintf(peers[2].version, sizeof peers[2].version, "1.1");
    assert_fails(qzo_peers_check_alike(peers, 3), QZO_ERR_ENVIRONMENT,
                 "rank 0 on n1 is qzo \"1.0\", rank 2 on n2 is qzo \"1.1\"");
    assert_ok(qzo_peers_check_alike(peers, 2));
    peers[2] = peer("n2", "");
    snprintf(peers[1].arithmetic, sizeof peers[1].arithmetic, "fp32");
    assert_fails(qzo_peers_check_alike(peers, 3), QZO_ERR_ENVIRONMENT,
                 "rank 1 on n1 computes with \"fp32\"");
    peers[1] = peer("n1", "");
    snprintf(peers[2].libraries, sizeof peers[2].libraries, "MPI 5");
    assert_fails(qzo_peers_check_alike(peers, 3), QZO_ERR_ENVIRONMENT,
                 "rank 2 on n2 sends with \"MPI 5\"");
}

static void a_device_each_suits_nccl(void **state) {
    (void)state;
    const qzo_peer peers[] = {peer("n1", "GPU-a"), peer("n1", "GPU-b"), peer("n2", "GPU-c"),
                              peer("n2", "GPU-d")};
    assert_ok(qzo_peers_check_devices(peers, 0, 4));
    assert_ok(qzo_peers_check_devices(peers, 1, 1));
}

static void sharing_and_lacking_devices_are_named(void **state) {
    (void)state;
    const qzo_peer peers[] = {peer("n1", "GPU-a"), peer("n1", "GPU-b"), peer("n1", "GPU-b"),
                              peer("n1", "GPU-a"), peer("n1", "GPU-b"), peer("n2", "")};
    assert_fails(qzo_peers_check_devices(peers, 0, 5), QZO_ERR_ENVIRONMENT,
                 "ranks 0 and 3 share GPU-a of n1");
    assert_fails(qzo_peers_check_devices(peers, 1, 4), QZO_ERR_ENVIRONMENT,
                 "ranks 1, 2 and 4 share GPU-b of n1");
    assert_ok(qzo_peers_check_devices(peers, 2, 2)); /* the ranks around do not count */
    assert_fails(qzo_peers_check_devices(peers, 4, 2), QZO_ERR_ENVIRONMENT,
                 "rank 5 on n2 has none, it computes with \"fp16\"");
}

static void a_list_that_is_too_long_is_cut(void **state) {
    (void)state;
    enum { RANKS = 400 };
    static qzo_peer peers[RANKS];
    for (int i = 0; i < RANKS; i++) peers[i] = peer("n1", "GPU-a");
    assert_fails(qzo_peers_check_devices(peers, 0, RANKS), QZO_ERR_ENVIRONMENT, "0, 1, 2, 3");
}

typedef struct decision {
    qzo_transport_choice choice;
    int first, count;
    qzo_status status;
    bool nccl;
} decision;

static void choices_come_to_what_is_possible(void **state) {
    (void)state;
    const qzo_peer peers[] = {peer("n1", "GPU-a"), peer("n2", "GPU-b"), peer("n2", "GPU-b"),
                              peer("n3", ""), peer("n3", "")};
    const decision decisions[] = {
        {QZO_TRANSPORT_AUTO, 0, 2, QZO_OK, true},
        {QZO_TRANSPORT_AUTO, 1, 2, QZO_OK, false}, /* share */
        {QZO_TRANSPORT_AUTO, 3, 2, QZO_OK, false}, /* have none */
        {QZO_TRANSPORT_AUTO, 0, 1, QZO_OK, false}, /* nobody to tell */
        {QZO_TRANSPORT_NCCL, 0, 2, QZO_OK, true},
        {QZO_TRANSPORT_NCCL, 0, 1, QZO_OK, true},
        {QZO_TRANSPORT_NCCL, 1, 2, QZO_ERR_ENVIRONMENT, false},
        {QZO_TRANSPORT_NCCL, 3, 1, QZO_ERR_ENVIRONMENT, false},
        {QZO_TRANSPORT_MPI, 0, 2, QZO_OK, false},
    };
    for (size_t i = 0; i < sizeof decisions / sizeof *decisions; i++) {
        const decision *d = &decisions[i];
        bool nccl = !d->nccl;
        qzo_status status = qzo_transport_decide(&nccl, d->choice, peers, d->first, d->count, true);
        if (status != d->status || nccl != d->nccl)
            fail_msg("decision %zu: status %s, NCCL %d", i, qzo_status_text(status), nccl);
    }
}

static void groups_are_checked_one_by_one(void **state) {
    (void)state;
    const qzo_peer peers[] = {peer("n1", "GPU-a"), peer("n1", "GPU-b"), peer("n1", "GPU-a"),
                              peer("n1", "GPU-b"), peer("n1", "GPU-a")};
    assert_ok(qzo_transport_check(QZO_TRANSPORT_NCCL, peers, 5, 1));
    assert_ok(qzo_transport_check(QZO_TRANSPORT_NCCL, peers, 5, 2));
    assert_fails(qzo_transport_check(QZO_TRANSPORT_NCCL, peers, 5, 3), QZO_ERR_ENVIRONMENT,
                 "ranks 0 and 2 share GPU-a of n1");
    assert_ok(qzo_transport_check(QZO_TRANSPORT_AUTO, peers, 5, 5));
}

static void a_rank_describes_itself(void **state) {
    (void)state;
    const qzo_backend_options options = {.thread_count = 1};
    qzo_backend *backend = NULL;
    qzo_comm *world = NULL;
    qzo_peer *peers = NULL;
    assert_ok(qzo_backend_open(&backend, "cpu", &options));
    assert_ok(qzo_comm_local_open(&world));
    assert_ok(qzo_peers_gather(&peers, world, backend, "9.9"));
    assert_string_not_equal(peers[0].host, "");
    assert_string_equal(peers[0].device, "");
    assert_string_equal(peers[0].version, "9.9");
    assert_string_equal(peers[0].arithmetic, backend->ops->arithmetic(backend));
    free(peers);
    qzo_comm_close(world);
    qzo_backend_close(backend);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_ranks_are_alike),
        cmocka_unit_test(a_mixture_names_part_rank_and_host),
        cmocka_unit_test(a_device_each_suits_nccl),
        cmocka_unit_test(sharing_and_lacking_devices_are_named),
        cmocka_unit_test(a_list_that_is_too_long_is_cut),
        cmocka_unit_test(choices_come_to_what_is_possible),
        cmocka_unit_test(groups_are_checked_one_by_one),
        cmocka_unit_test(a_rank_describes_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
