/* ctest: labels=mpi ranks=1,2,3,4 timeout=120
 * The trajectory does not depend on the ranks: each rank compares the group's path with the one
 * that it computes alone, byte for byte. And ranks end together: a failure or a desync of one is
 * the status of all. */
#include "bowl.h"
#include "rank_support.h"

#include <stdio.h>

static bowl_path together, alone;

static void check_same_path(const char *rule) {
    static const int64_t samples[] = {1, 2, 5, 8}, units[] = {1, 3};
    enum { STEPS = 12 };
    qzo_comm *local = NULL;
    assert_ok(qzo_comm_local_open(&local));
    for (int s = 0; s < 4; s++)
        for (int u = 0; u < 2; u++) {
            bowl b;
            qzo_qspsa_settings settings = bowl_settings(samples[s]);
            settings.batch_per_sample = u != 0;
            settings.rule = qzo_update_rule_find(rule);
            settings.rule_settings.eps = settings.eps;
            settings.rule_settings.guide_share = 0.5;
            bowl_open(&b, units[u]);
            b.is_together = true; /* both signs of what a rank has of its own */
            qzo_status status = bowl_run(&together, &b, &settings, world, STEPS);
            int64_t calls = b.calls;
            bowl_close(&b);
            bowl_open(&b, units[u]);
            assert_ok(bowl_run(&alone, &b, &settings, local, STEPS));
            bowl_close(&b);
            assert_ok(status);
            /* The pair along a guide is dealt by itself. */
            int64_t pair = settings.rule->share != NULL ? 2 * units[u] : 0, ranks = world->size;
            int64_t work = qzo_update_rule_evaluations(settings.rule, samples[s]) * units[u] - pair;
            int64_t share_max = (work + ranks - 1) / ranks + (pair + ranks - 1) / ranks;
            assert_in_range(calls, (work / ranks + pair / ranks) * STEPS, share_max * STEPS);
            assert_int_equal(together.steps, STEPS);
            if (memcmp(&together, &alone, sizeof alone) != 0)
                fail_msg("rank %d of %d: another path with %s, %d samples, %d micro-batches",
                         world->rank, world->size, rule, (int)samples[s], (int)units[u]);
        }
    qzo_comm_close(local);
}

static void same_path_as_alone(void **state) {
    (void)state;
    check_same_path("plain");
}

static void same_path_with_a_clean_loss(void **state) {
    (void)state;
    check_same_path("fzoo");
    check_same_path("spsa_1_5");
}

static void same_path_along_a_guide(void **state) {
    (void)state;
    check_same_path("mezo_gv");
}

/* Losses that are not finite and zero losses too are part of the path. */
static void same_path_with_bad_losses(void **state) {
    (void)state;
    static const double bad_losses[] = {0.0, (double)NAN, (double)INFINITY};
    qzo_comm *local = NULL;
    assert_ok(qzo_comm_local_open(&local));
    for (int i = 0; i < 3; i++)
        for (uint32_t sample = 0; sample < 3; sample++) {
            bowl b;
            qzo_qspsa_settings settings = bowl_settings(3);
            qzo_status statuses[2];
            for (int run = 0; run < 2; run++) {
                bowl_open(&b, 2);
                b.bad_seed = qzo_noise_seed(settings.noise_seed, 2, sample);
                b.bad_loss = bad_losses[i];
                statuses[run] = bowl_run(run == 0 ? &together : &alone, &b, &settings,
                                         run == 0 ? world : local, 4);
                bowl_close(&b);
            }
            assert_ok(statuses[0]);
            assert_ok(statuses[1]);
            assert_memory_equal(&together, &alone, sizeof alone);
        }
    qzo_comm_close(local);
}

/* Each rank in turn fails in step 2 of a step in which all have work. */
static void failure_of_one_rank_is_the_status_of_all(void **state) {
    (void)state;
    static const int64_t samples[] = {4, 5, 6, 8};
    for (int s = 0; s < 4; s++)
        for (int failing = 0; failing < world->size; failing++) {
            bowl b;
            qzo_qspsa_settings settings = bowl_settings(samples[s]);
            bowl_open(&b, 3);
            b.failing_step = world->rank == failing ? 2 : 0;
            b.failure = QZO_ERR_IO;
            qzo_status status = bowl_run(&together, &b, &settings, world, 5);
            bowl_close(&b);
            assert_fails(status, QZO_ERR_IO, "the disk of this test is gone");
            assert_int_equal(together.steps, 1); /* nothing of step 2 was applied */
        }
}

static void worst_of_several_failures_wins(void **state) {
    (void)state;
    bowl b;
    qzo_qspsa_settings settings = bowl_settings(8);
    bowl_open(&b, 1);
    b.failing_step = 1;
    b.failure = world->rank == world->size - 1 ? QZO_ERR_MEMORY : QZO_ERR_FORMAT;
    qzo_status status = bowl_run(&together, &b, &settings, world, 2);
    bowl_close(&b);
    assert_int_equal(status, QZO_ERR_MEMORY);
}

/* One bit of one master of the last rank, between two steps. With `accepted` that rank takes the
 * value for good (sync): then only the comparison of ranks can find it. */
static void check_desync(bool accepted, int64_t samples) {
    bowl b;
    qzo_qspsa *optimizer = NULL;
    qzo_qspsa_settings settings = bowl_settings(samples);
    qzo_step done;
    uint32_t any_flags = 0;
    uint64_t before = 0, after = 0;
    qzo_status statuses[3] = {QZO_OK, QZO_OK, QZO_OK};
    bool last = world->rank == world->size - 1;
    bowl_open(&b, 1);
    bowl_optimizer(&optimizer, &b, &settings, world);
    statuses[0] = qzo_qspsa_step(optimizer, 1, 0, &done, &any_flags);
    if (last) {
        uint32_t bits = qzo_float_bits(b.masters[BOWL_VALUES - 1]);
        b.masters[BOWL_VALUES - 1] = qzo_float_from_bits(bits ^ 1u);
    }
    if (accepted) statuses[1] = qzo_qspsa_sync(optimizer);
    b.backend->ops->digest(b.backend, &before, b.masters, b.spans, 2);
    statuses[2] = qzo_qspsa_step(optimizer, 2, 0, &done, &any_flags);
    b.backend->ops->digest(b.backend, &after, b.masters, b.spans, 2);
    qzo_qspsa_close(optimizer);
    bowl_close(&b);
    assert_ok(statuses[0]);
    assert_ok(statuses[1]);
    if (accepted && world->size == 1) {
        assert_ok(statuses[2]);
        return;
    }
    char expected[64];
    snprintf(expected, sizeof expected, "the scales of rank %d", world->size - 1);
    assert_fails(statuses[2], QZO_ERR_DESYNC, expected);
    assert_true(before == after); /* nothing of the step was applied */
}

static void desync_is_the_status_of_all(void **state) {
    (void)state;
    for (int64_t samples = 1; samples <= 5; samples++) {
        check_desync(true, samples);
        check_desync(false, samples);
    }
}

/* The wish of one rank to stop reaches all and leaves no trace in the records. */
static void flags_of_the_run_reach_all_and_stay_out_of_the_records(void **state) {
    (void)state;
    for (int asking = 0; asking < world->size; asking++) {
        bowl b;
        qzo_qspsa *optimizer = NULL;
        qzo_qspsa_settings settings = bowl_settings(2);
        qzo_step done = {0};
        uint32_t flags[2] = {0, 0};
        qzo_status statuses[2];
        bowl_open(&b, 1);
        bowl_optimizer(&optimizer, &b, &settings, world);
        for (int step = 1; step <= 2; step++) {
            uint32_t mine = step == 2 && world->rank == asking ? QZO_FLAG_PARK : 0;
            statuses[step - 1] = qzo_qspsa_step(optimizer, step, mine, &done, &flags[step - 1]);
        }
        for (int i = 0; i < 2; i++) assert_ok(statuses[i]);
        assert_int_equal(flags[0], 0);
        assert_int_equal(flags[1], QZO_FLAG_PARK);
        for (int i = 0; i < 2; i++) assert_int_equal(done.records[i].flags, 0);
        qzo_qspsa_close(optimizer);
        bowl_close(&b);
    }
}

/* A step sends one record per slot; unit sums only where the samples do not divide evenly. */
static void only_scalars_travel(void **state) {
    (void)state;
    static const int64_t samples[] = {1, 4, 5};
    for (int i = 0; i < 3; i++) {
        bowl b;
        qzo_qspsa_settings settings = bowl_settings(samples[i]);
        int64_t size = world->size, units = 2 * samples[i] * 3;
        int64_t bytes = (samples[i] + size - 1) / size * 32;
        if (samples[i] % size != 0) bytes += (units + size - 1) / size * 8;
        bowl_open(&b, 3);
        uint64_t before = world->bytes_sent;
        qzo_status status = bowl_run(&together, &b, &settings, world, 7);
        bowl_close(&b);
        assert_ok(status);
        assert_int_equal(world->bytes_sent - before, size == 1 ? 0 : 7 * bytes);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_path_as_alone),
        cmocka_unit_test(same_path_with_a_clean_loss),
        cmocka_unit_test(same_path_along_a_guide),
        cmocka_unit_test(same_path_with_bad_losses),
        cmocka_unit_test(failure_of_one_rank_is_the_status_of_all),
        cmocka_unit_test(worst_of_several_failures_wins),
        cmocka_unit_test(desync_is_the_status_of_all),
        cmocka_unit_test(flags_of_the_run_reach_all_and_stay_out_of_the_records),
        cmocka_unit_test(only_scalars_travel),
    };
    return cmocka_run_group_tests(tests, world_open, world_close);
}
