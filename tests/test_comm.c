/* ctest: labels=mpi ranks=1,2,4 timeout=60
 * Groups of ranks: what is gathered, broadcast, split and sent arrives, and a rank that fails is
 * known to all. Verdicts are taken after the exchanges, so that a failure does not become a wait.
 */
#include "rank_support.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

enum { BYTES_MAX = 100000, MESSAGES = 500 };

static uint8_t byte_of(int rank, size_t i) { return (uint8_t)((size_t)rank * 37 + i * 11 + 1); }

static void gather_is_in_order_of_ranks(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 3, 32, 4096, BYTES_MAX};
    for (int s = 0; s < 5; s++) {
        size_t bytes = sizes[s];
        uint8_t *mine = malloc(bytes), *all = malloc(bytes * (size_t)world->size);
        for (size_t i = 0; i < bytes; i++) mine[i] = byte_of(world->rank, i);
        qzo_status status = qzo_comm_gather(world, all, mine, bytes);
        assert_ok(status);
        for (int rank = 0; rank < world->size; rank++)
            for (size_t i = 0; i < bytes; i++)
                if (all[(size_t)rank * bytes + i] != byte_of(rank, i))
                    fail_msg("byte %zu of rank %d is another", i, rank);
        free(mine);
        free(all);
    }
}

static void broadcast_reaches_all_from_every_root(void **state) {
    (void)state;
    for (int root = 0; root < world->size; root++) {
        uint8_t data[1000];
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = world->rank == root ? byte_of(root, i) : 0;
        qzo_status status = qzo_comm_broadcast(world, data, sizeof data, root);
        assert_ok(status);
        for (size_t i = 0; i < sizeof data; i++) assert_int_equal(data[i], byte_of(root, i));
    }
}

/* Even and odd ranks, in reverse order; a group's collectives do not meet the world's. */
static void split_groups_by_color_in_order_of_key(void **state) {
    (void)state;
    qzo_comm *part = NULL;
    int32_t mine = world->rank, in_part[64] = {0}, in_world[64] = {0};
    qzo_status statuses[3];
    statuses[0] = qzo_comm_split(world, &part, world->rank % 2, -world->rank);
    statuses[1] = qzo_comm_gather(part, in_part, &mine, sizeof mine);
    statuses[2] = qzo_comm_gather(world, in_world, &mine, sizeof mine);
    int part_rank = part->rank, part_size = part->size;
    qzo_comm_close(part);
    for (int i = 0; i < 3; i++) assert_ok(statuses[i]);
    int expected_size = (world->size - world->rank % 2 + 1) / 2;
    assert_int_equal(part_size, expected_size);
    assert_int_equal(in_part[part_rank], world->rank);
    for (int i = 0; i < part_size; i++) {
        assert_int_equal(in_part[i] % 2, world->rank % 2);
        if (i > 0) assert_true(in_part[i] < in_part[i - 1]);
    }
    for (int i = 0; i < world->size; i++) assert_int_equal(in_world[i], i);
}

static void worst_status_is_known_to_all(void **state) {
    (void)state;
    assert_int_equal(qzo_comm_worst_status(world, QZO_OK), QZO_OK);
    for (int failing = 0; failing < world->size; failing++) {
        qzo_status mine = QZO_OK;
        if (world->rank == failing) mine = qzo_fail(QZO_ERR_IO, "no room on rank %d", failing);
        char expected[64];
        snprintf(expected, sizeof expected, "no room on rank %d", failing);
        assert_fails(qzo_comm_worst_status(world, mine), QZO_ERR_IO, expected);
    }
}

/* Every rank fails in its own way: the worst is the last rank's, a tie is the first rank's. */
static void worst_of_several_and_first_of_equals(void **state) {
    (void)state;
    bool last = world->rank == world->size - 1;
    qzo_status mine = qzo_fail(last ? QZO_ERR_BUSY : QZO_ERR_USAGE, "rank %d here", world->rank);
    char expected[64];
    snprintf(expected, sizeof expected, "rank %d here", world->size - 1);
    assert_fails(qzo_comm_worst_status(world, mine), QZO_ERR_BUSY, expected);
    mine = qzo_fail(QZO_ERR_LIMIT, "rank %d here", world->rank);
    assert_int_equal(qzo_comm_worst_status(world, mine), QZO_ERR_LIMIT);
    if (world->rank > 0) assert_non_null(strstr(qzo_error_message(), "rank 0: rank 0 here"));
}

/* Rank 0 collects MESSAGES of each other rank, sent before it looks for the first: sending never
 * waits. Those of one sender come in order. */
static void messages_wait_for_their_receiver(void **state) {
    (void)state;
    qzo_status sent = QZO_OK, polled = QZO_OK;
    int32_t next[64] = {0}, out_of_order = 0, foreign = 0;
    for (int32_t i = 0; world->rank > 0 && i < MESSAGES; i++) {
        qzo_message message = {{0}};
        const int32_t content[2] = {world->rank, i};
        memcpy(message.bytes, content, sizeof content);
        if (sent == QZO_OK) sent = qzo_comm_send(world, 0, &message);
    }
    qzo_status barrier = qzo_comm_barrier(world);
    int waiting = world->rank == 0 ? MESSAGES * (world->size - 1) : 0;
    while (waiting > 0 && polled == QZO_OK) {
        qzo_message message;
        bool received = false;
        int from = -1;
        int32_t content[2];
        polled = qzo_comm_poll(world, &received, &from, &message);
        if (!received) {
            sched_yield();
            continue;
        }
        memcpy(content, message.bytes, sizeof content);
        foreign += content[0] != from;
        out_of_order += content[1] != next[from]++;
        waiting--;
    }
    bool received = true;
    int from = -1;
    qzo_message message;
    qzo_status empty = qzo_comm_poll(world, &received, &from, &message);
    qzo_status after = qzo_comm_barrier(world);
    assert_ok(sent);
    assert_ok(polled);
    assert_ok(barrier);
    assert_ok(empty);
    assert_ok(after);
    assert_int_equal(foreign, 0);
    assert_int_equal(out_of_order, 0);
    assert_false(received);
}

/* A message of a part of the world does not come out of the world. */
static void messages_stay_in_their_group(void **state) {
    (void)state;
    qzo_comm *part = NULL;
    bool in_world = true, in_part = false;
    int from = -1;
    qzo_message message = {{42}};
    qzo_status split = qzo_comm_split(world, &part, 0, world->rank), sent = QZO_OK;
    if (world->rank == 1) sent = qzo_comm_send(part, 0, &message);
    qzo_status barrier = qzo_comm_barrier(world);
    qzo_status polled = qzo_comm_poll(world, &in_world, &from, &message);
    while (world->rank == 0 && world->size > 1 && !in_part && polled == QZO_OK)
        polled = qzo_comm_poll(part, &in_part, &from, &message);
    qzo_comm_close(part);
    assert_ok(split);
    assert_ok(sent);
    assert_ok(barrier);
    assert_ok(polled);
    assert_false(in_world);
    if (in_part) assert_int_equal(from, 1);
}

static void ranks_of_one_host_are_counted(void **state) {
    (void)state;
    int local_rank = -1, local_size = 0;
    qzo_status status = qzo_comm_local_rank(world, &local_rank, &local_size);
    assert_ok(status);
    assert_int_equal(local_rank, world->rank);
    assert_int_equal(local_size, world->size);
}

static void bytes_are_counted(void **state) {
    (void)state;
    uint8_t mine[32] = {0}, all[64 * 32];
    uint64_t before = world->bytes_sent;
    qzo_status gathered = qzo_comm_gather(world, all, mine, sizeof mine);
    uint64_t after = world->bytes_sent;
    assert_ok(gathered);
    assert_int_equal(after - before, world->size > 1 ? sizeof mine : 0);
    assert_true(world->wait_seconds >= 0.0);
}

static void too_large_a_message_is_refused(void **state) {
    (void)state;
    if (world->size == 1) return;
    uint8_t byte = 0;
    assert_fails(qzo_comm_gather(world, &byte, &byte, (size_t)1 << 31), QZO_ERR_LIMIT,
                 "2147483648 bytes, MPI takes at most 2147483647");
}

static void tasks_without_a_common_world_are_refused(void **state) {
    (void)state;
    qzo_comm *lone = NULL;
    const qzo_launch launch = {.expected_ranks = 4};
    assert_fails(qzo_comm_world_open(&lone, &launch), QZO_ERR_ENVIRONMENT,
                 "4 tasks were started, but each sees a world of 1 rank");
    assert_null(lone);
}

static void process_alone_needs_no_library(void **state) {
    (void)state;
    qzo_comm *local = NULL, *part = NULL;
    int32_t mine = 7, all = 0;
    bool received = true;
    int from = 0;
    qzo_message message;
    assert_ok(qzo_comm_local_open(&local));
    assert_ok(qzo_comm_gather(local, &all, &mine, sizeof mine));
    assert_int_equal(all, 7);
    assert_ok(qzo_comm_broadcast(local, &all, sizeof all, 0));
    assert_ok(qzo_comm_barrier(local));
    assert_ok(qzo_comm_poll(local, &received, &from, &message));
    assert_false(received);
    assert_int_equal(qzo_comm_worst_status(local, QZO_ERR_IO), QZO_ERR_IO);
    assert_ok(qzo_comm_split(local, &part, 3, 0));
    assert_int_equal(part->size, 1);
    assert_int_equal(local->bytes_sent, 0);
    qzo_comm_close(part);
    qzo_comm_close(local);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gather_is_in_order_of_ranks),
        cmocka_unit_test(broadcast_reaches_all_from_every_root),
        cmocka_unit_test(split_groups_by_color_in_order_of_key),
        cmocka_unit_test(worst_status_is_known_to_all),
        cmocka_unit_test(worst_of_several_and_first_of_equals),
        cmocka_unit_test(messages_wait_for_their_receiver),
        cmocka_unit_test(messages_stay_in_their_group),
        cmocka_unit_test(ranks_of_one_host_are_counted),
        cmocka_unit_test(bytes_are_counted),
        cmocka_unit_test(too_large_a_message_is_refused),
        cmocka_unit_test(tasks_without_a_common_world_are_refused),
        cmocka_unit_test(process_alone_needs_no_library),
    };
    return cmocka_run_group_tests(tests, world_open, world_close);
}
