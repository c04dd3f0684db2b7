/* Q-SPSA in one process on a quadratic bowl: records and k by their formulas, losses that are not
 * finite, replay. test_qspsa_ranks.c has the same path on any number of ranks. */
#include "bowl.h"

static qzo_comm *comm;
static bowl_path first, second;

static int setup(void **state) {
    (void)state;
    return qzo_comm_local_open(&comm) != QZO_OK;
}

static int teardown(void **state) {
    (void)state;
    qzo_comm_close(comm);
    return 0;
}

static double distance_to_target(const float *masters) {
    double sum = 0.0;
    for (int64_t i = 0; i < BOWL_VALUES; i++) {
        double distance = (double)masters[i] - (double)bowl_target(i + 1);
        sum += distance * distance;
    }
    return sum / BOWL_VALUES;
}

static void run(bowl_path *out, const qzo_qspsa_settings *settings, int64_t units, int64_t steps) {
    bowl b;
    bowl_open(&b, units);
    assert_ok(bowl_run(out, &b, settings, comm, steps));
    bowl_close(&b);
}

static void bowl_is_descended(void **state) {
    (void)state;
    qzo_qspsa_settings settings = bowl_settings(8);
    float start[BOWL_VALUES];
    for (int i = 0; i < BOWL_VALUES; i++) start[i] = 0.1f;
    run(&first, &settings, 1, 1);
    double before = distance_to_target(start), after_one = distance_to_target(first.masters);
    settings.learning_rate = 3.0;
    run(&first, &settings, 1, BOWL_STEPS_MAX);
    double after = distance_to_target(first.masters);
    print_message("mean square distance %.4f, after 1 step %.4f, after %d %.4f\n", before,
                  after_one, BOWL_STEPS_MAX, after);
    assert_true(after_one < before);
    assert_true(after < 0.5 * before);
}

static void same_seed_gives_the_same_path(void **state) {
    (void)state;
    qzo_qspsa_settings settings = bowl_settings(3);
    run(&first, &settings, 2, 20);
    run(&second, &settings, 2, 20);
    assert_memory_equal(&first, &second, sizeof first);
    settings.noise_seed++;
    run(&second, &settings, 2, 20);
    assert_int_not_equal(memcmp(first.masters, second.masters, sizeof first.masters), 0);
}

/* Whatever is asked for at once, the path is the same; all of a rule of pairs are, and none of the
 * losses without perturbation and of candidates. */
static void both_signs_at_once_give_the_same_path(void **state) {
    (void)state;
    static const struct {
        const char *rule;
        int64_t both; /* per sample and micro-batch */
    } cases[] = {{"plain", 1}, {"momentum", 1}, {"spsa_1_5", 1}, {"fzoo", 0}, {"mezo_gv", 0}};
    enum { SAMPLES = 4, UNITS = 3, STEPS = 5 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qzo_qspsa_settings settings = bowl_settings(SAMPLES);
        settings.rule = qzo_update_rule_find(cases[i].rule);
        settings.rule_settings.guide_share = 0.5;
        for (int together = 0; together < 2; together++) {
            bowl b;
            float velocity[BOWL_VALUES] = {0};
            bowl_open(&b, UNITS);
            if (settings.rule->has_velocity) b.velocity = velocity;
            b.is_together = together != 0;
            assert_ok(bowl_run(together ? &first : &second, &b, &settings, comm, STEPS));
            assert_int_equal(b.both, together * cases[i].both * SAMPLES * UNITS * STEPS);
            bowl_close(&b);
        }
        if (memcmp(&first, &second, sizeof first) != 0)
            fail_msg("%s: another path with both signs at once", cases[i].rule);
    }
}

/* Everything that a journal would hold, derived again from the losses. */
static void records_and_k_follow_their_formulas(void **state) {
    (void)state;
    qzo_qspsa_settings settings = bowl_settings(3);
    run(&first, &settings, 1, 10);
    for (int64_t step = 1; step <= 10; step++)
        for (uint32_t sample = 0; sample < 3; sample++) {
            const qzo_record *record = &first.records[step - 1][sample];
            double difference = (double)record->loss_plus - (double)record->loss_minus;
            assert_true(record->seed == qzo_noise_seed(2024, (uint64_t)step, sample));
            assert_int_equal(record->sample, sample);
            assert_true(record->gradient == (float)(difference / (2.0 * 1e-3)));
            assert_int_equal(record->flags, 0);
            assert_int_equal(record->digest, 0);
            double rate = 0.15 * (1.0 - (double)(step - 1) / BOWL_STEPS_MAX);
            assert_true(first.k[step - 1][sample] ==
                        (float)(rate / 3.0 * (double)record->gradient));
        }
}

/* The bowl's derivative along z, to a bound from its own arithmetic: the loss has no third
 * derivative, so only the rounding of two fp32 losses is left. */
static void gradient_is_the_directional_derivative(void **state) {
    (void)state;
    qzo_qspsa_settings settings = bowl_settings(8);
    run(&first, &settings, 1, 1);
    for (uint32_t sample = 0; sample < 8; sample++) {
        const qzo_record *record = &first.records[0][sample];
        float z[BOWL_VALUES];
        bowl_directions(z, record->seed, QZO_DIRECTIONS_GAUSSIAN);
        double expected = 0.0;
        for (int64_t i = 0; i < BOWL_VALUES; i++)
            expected += 2.0 * ((double)0.1f - (double)bowl_target(i + 1)) * (double)z[i];
        double loss = fabs((double)record->loss_plus);
        /* Each loss is rounded once to fp32; perturbed values by u |value|, of random sign. */
        double limit = 2.0 * loss * 0x1p-24 / (2.0 * 1e-3) + 1e-5;
        qzo_test_assert_close((double)record->gradient, expected / BOWL_VALUES, limit,
                              "two roundings of a loss over 2 eps");
    }
}

/* loss+ alone, against one loss without perturbation: N + 1 evaluations, and the slope over eps. */
static void one_sided_rules_take_one_clean_loss(void **state) {
    (void)state;
    enum { SAMPLES = 3, UNITS = 2 };
    bowl b;
    qzo_qspsa_settings settings = bowl_settings(SAMPLES);
    double clean = 0.0;
    settings.rule = qzo_update_rule_find("fzoo");
    settings.rule_settings.eps = settings.eps;
    bowl_open(&b, UNITS);
    for (int64_t i = 0; i < BOWL_VALUES; i++) {
        double distance = (double)0.1f - (double)bowl_target(i + 1);
        clean += distance * distance / BOWL_VALUES;
    }
    assert_ok(bowl_run(&first, &b, &settings, comm, 1));
    assert_int_equal(b.calls, (SAMPLES + 1) * UNITS);
    bowl_close(&b);
    for (uint32_t sample = 0; sample < SAMPLES; sample++) {
        const qzo_record *record = &first.records[0][sample];
        double difference = (double)record->loss_plus - (double)record->loss_minus;
        assert_int_equal(record->flags, QZO_FLAG_ONE_SIDED);
        assert_true(record->gradient == (float)(difference / settings.eps));
        /* A sum of terms in double, rounded once. */
        qzo_test_assert_close((double)record->loss_minus, clean, 2.0 * clean * 0x1p-24,
                              "one rounding of the clean loss");
        float z[BOWL_VALUES];
        double expected = 0.0;
        bowl_directions(z, record->seed, settings.directions);
        for (int64_t i = 0; i < BOWL_VALUES; i++) {
            double step = settings.eps * (double)z[i];
            double distance = (double)0.1f - (double)bowl_target(i + 1);
            expected += (2.0 * distance * step + step * step) / BOWL_VALUES / settings.eps;
        }
        double limit = 2.0 * clean * 0x1p-24 / settings.eps + 1e-5;
        qzo_test_assert_close((double)record->gradient, expected, limit,
                              "two roundings of a loss over eps");
    }
}

/* Each sample of a step is taken over a batch of its own, in the order of all samples; the first
 * step's masters are known, so the slope tells which batch it was. */
static void samples_may_have_a_batch_each(void **state) {
    (void)state;
    qzo_qspsa_settings settings = bowl_settings(3);
    for (int per_sample = 0; per_sample < 2; per_sample++) {
        settings.batch_per_sample = per_sample != 0;
        run(&first, &settings, 2, 1);
        for (uint32_t sample = 0; sample < 3; sample++) {
            const qzo_record *record = &first.records[0][sample];
            float z[BOWL_VALUES];
            double expected = 0.0;
            bowl_directions(z, record->seed, settings.directions);
            for (int64_t i = 0; i < BOWL_VALUES; i++) {
                int64_t batch = per_sample ? 1 + sample : 1;
                expected +=
                    2.0 * ((double)0.1f - (double)bowl_target(i + batch % 3)) * (double)z[i];
            }
            double limit = 2.0 * fabs((double)record->loss_plus) * 0x1p-24 / (2.0 * 1e-3) + 1e-5;
            qzo_test_assert_close((double)record->gradient, expected / BOWL_VALUES, limit,
                                  "two roundings of a loss over 2 eps");
        }
    }
}

/* A step in units of the initial values, of which some are negative and one is 0: the slope is that
 * along u z, the update goes along u z, nothing crosses zero, and a value without size stays. */
static void relative_steps_follow_the_initial_values(void **state) {
    (void)state;
    bowl b;
    qzo_qspsa_settings settings = bowl_settings(2);
    float unit[BOWL_VALUES], z[BOWL_VALUES];
    bowl_open(&b, 1);
    for (int i = 0; i < BOWL_VALUES; i++)
        unit[i] = b.masters[i] = i < BOWL_FIRST_COUNT ? (i % 2 ? -0.1f : 0.3f) : 0.0f;
    b.unit = unit;
    b.spans[0].constraint = QZO_CONSTRAINT_KEEP_SIGN;
    assert_ok(bowl_run(&first, &b, &settings, comm, 1));
    for (uint32_t sample = 0; sample < 2; sample++) {
        const qzo_record *record = &first.records[0][sample];
        double expected = 0.0;
        qzo_noise_fill(z, record->seed, 71, 0, BOWL_FIRST_COUNT, QZO_DIRECTIONS_GAUSSIAN);
        for (int64_t i = 0; i < BOWL_FIRST_COUNT; i++)
            expected += 2.0 * ((double)unit[i] - (double)bowl_target(i + 1)) * (double)unit[i] *
                        (double)z[i];
        double limit = 2.0 * fabs((double)record->loss_plus) * 0x1p-24 / (2.0 * 1e-3) + 1e-5;
        qzo_test_assert_close((double)record->gradient, expected / BOWL_VALUES, limit,
                              "two roundings of a loss over 2 eps");
    }
    settings.learning_rate = 3.0;
    for (int i = 0; i < BOWL_VALUES; i++) b.masters[i] = unit[i];
    assert_ok(bowl_run(&first, &b, &settings, comm, 100));
    for (int i = 0; i < BOWL_VALUES; i++) {
        if (i >= BOWL_FIRST_COUNT)
            assert_true(first.masters[i] == 0.0f);
        else
            assert_true(unit[i] > 0.0f ? first.masters[i] > 0.0f : first.masters[i] < 0.0f);
    }
    bowl_close(&b);
}

static void steep_bowl_is_clipped(void **state) {
    (void)state;
    bowl b;
    qzo_qspsa_settings settings = bowl_settings(4);
    settings.rule_settings.clip = 1e-4;
    bowl_open(&b, 1);
    assert_ok(bowl_run(&first, &b, &settings, comm, 1));
    bowl_close(&b);
    for (int sample = 0; sample < 4; sample++) {
        double gradient = (double)first.records[0][sample].gradient;
        assert_true(fabs(gradient) >
                    settings.rule_settings.clip); /* the record keeps what was measured */
        assert_int_equal(first.records[0][sample].flags, QZO_FLAG_CLIPPED);
        assert_true(first.k[0][sample] ==
                    (float)(0.15 / 4 * copysign(settings.rule_settings.clip, gradient)));
    }
}

/* Sample 1 of step 3 has a bad loss: it is flagged, its k is 0, the others are applied. */
static void check_bad_loss(double bad_loss, bool minus_only) {
    bowl b;
    qzo_qspsa_settings settings = bowl_settings(3);
    bowl_open(&b, 2);
    b.bad_seed = qzo_noise_seed(2024, 3, 1);
    b.bad_loss = bad_loss;
    b.bad_minus_only = minus_only;
    assert_ok(bowl_run(&first, &b, &settings, comm, 4));
    bowl_close(&b);
    for (int step = 0; step < 4; step++)
        for (int sample = 0; sample < 3; sample++) {
            bool bad = step == 2 && sample == 1;
            assert_int_equal(first.records[step][sample].flags, bad ? QZO_FLAG_NOT_FINITE : 0);
            assert_true((first.k[step][sample] == 0.0f) == bad);
        }
    for (int i = 0; i < BOWL_VALUES; i++) assert_true(isfinite(first.masters[i]));
}

static void loss_that_is_not_finite_is_flagged_and_not_applied(void **state) {
    (void)state;
    check_bad_loss((double)NAN, false);
    check_bad_loss((double)NAN, true);
    check_bad_loss((double)INFINITY, false);
    check_bad_loss(-(double)INFINITY, true);
    check_bad_loss(1e300, true); /* finite in double, not in the record */
}

/* A NaN's sign and payload differ between processors and compilers; a journal must not. */
static void nan_has_one_bit_pattern_in_a_record(void **state) {
    (void)state;
    static const uint64_t patterns[] = {0x7ff8000000000000u, 0xfff8000000000000u,
                                        0x7ff80000deadbeefu};
    for (int i = 0; i < 3; i++) {
        double bad_loss;
        memcpy(&bad_loss, &patterns[i], sizeof bad_loss);
        check_bad_loss(bad_loss, false);
        const qzo_record *record = &first.records[2][1];
        assert_int_equal(qzo_float_bits(record->loss_plus), 0x7fc00000);
        assert_int_equal(qzo_float_bits(record->loss_minus), 0x7fc00000);
        assert_int_equal(qzo_float_bits(record->gradient), 0x7fc00000);
    }
    check_bad_loss((double)INFINITY, false); /* infinity less infinity */
    assert_int_equal(qzo_float_bits(first.records[2][1].gradient), 0x7fc00000);
}

static void both_losses_zero_are_flagged(void **state) {
    (void)state;
    bowl b;
    qzo_qspsa_settings settings = bowl_settings(2);
    bowl_open(&b, 1);
    b.bad_seed = qzo_noise_seed(2024, 2, 0);
    b.bad_loss = 0.0;
    assert_ok(bowl_run(&first, &b, &settings, comm, 3));
    assert_int_equal(first.records[1][0].flags, QZO_FLAG_ZERO_LOSS);
    assert_int_equal(first.records[1][1].flags, 0);
    b.bad_minus_only = true; /* one loss alone may be 0 */
    assert_ok(bowl_run(&first, &b, &settings, comm, 3));
    assert_int_equal(first.records[1][0].flags & QZO_FLAG_ZERO_LOSS, 0);
    bowl_close(&b);
}

/* A metric may be 0 of a whole batch, also without perturbation: the model has not collapsed. */
static void zero_may_be_a_loss(void **state) {
    (void)state;
    enum { SAMPLES = 2 };
    qzo_qspsa_settings settings = bowl_settings(SAMPLES);
    settings.rule = qzo_update_rule_find("spsa_1_5");
    settings.rule_settings.eps = settings.eps;
    for (int may_be_zero = 0; may_be_zero < 2; may_be_zero++) {
        bowl b;
        bowl_open(&b, 1);
        b.slope = 0.0;
        b.may_be_zero = may_be_zero != 0;
        assert_ok(bowl_run(&first, &b, &settings, comm, 1));
        for (int i = 0; i < SAMPLES + 1; i++) {
            bool is_flagged = (first.records[0][i].flags & QZO_FLAG_ZERO_LOSS) != 0;
            assert_true(is_flagged != b.may_be_zero);
        }
        bowl_close(&b);
    }
}

/* k alone, with its records' seeds, leads from the initial masters to the same bits. */
static void replay_gives_the_same_masters(void **state) {
    (void)state;
    bowl b;
    qzo_qspsa_settings settings = bowl_settings(5);
    qzo_gain scratch[5];
    settings.learning_rate = 3.0; /* some values reach the floor */
    run(&first, &settings, 1, 50);
    bowl_open(&b, 1);
    qzo_trainable trainable = bowl_trainable(&b);
    for (int step = 0; step < 50; step++) {
        uint64_t digest = 0;
        const qzo_step recorded = {.step = step + 1,
                                   .records = first.records[step],
                                   .k = first.k[step],
                                   .record_count = 5};
        assert_ok(qzo_qspsa_apply(&trainable, scratch, &settings, &recorded, &digest));
        assert_true(digest == first.digests[step]);
    }
    assert_memory_equal(b.masters, first.masters, sizeof first.masters);
    bowl_close(&b);
}

/* The velocity is state: replaying moves it as the steps did. */
static void momentum_is_replayed(void **state) {
    (void)state;
    bowl b;
    qzo_qspsa_settings settings = bowl_settings(2);
    qzo_gain scratch[2];
    float velocity[BOWL_VALUES] = {0}, replayed[BOWL_VALUES] = {0};
    settings.learning_rate = 0.3;
    bowl_open(&b, 1);
    b.velocity = velocity;
    assert_ok(bowl_run(&first, &b, &settings, comm, 50));
    bowl_close(&b);
    bowl_open(&b, 1);
    b.velocity = replayed;
    qzo_trainable trainable = bowl_trainable(&b);
    for (int step = 0; step < 50; step++) {
        const qzo_step recorded = {.step = step + 1,
                                   .records = first.records[step],
                                   .k = first.k[step],
                                   .record_count = 2};
        assert_ok(qzo_qspsa_apply(&trainable, scratch, &settings, &recorded, NULL));
    }
    assert_memory_equal(b.masters, first.masters, sizeof first.masters);
    assert_memory_equal(velocity, replayed, sizeof velocity);
    bowl_close(&b);
    run(&second, &settings, 1, 50); /* the same without */
    assert_int_not_equal(memcmp(first.masters, second.masters, sizeof first.masters), 0);
}

/* Found before anything is computed from it, though the masters are as they were. */
static void a_velocity_that_changed_is_found(void **state) {
    (void)state;
    bowl b;
    qzo_qspsa *optimizer = NULL;
    qzo_qspsa_settings settings = bowl_settings(2);
    qzo_step done;
    uint32_t flags = 0;
    float velocity[BOWL_VALUES] = {0};
    bowl_open(&b, 1);
    b.velocity = velocity;
    bowl_optimizer(&optimizer, &b, &settings, comm);
    assert_ok(qzo_qspsa_step(optimizer, 1, 0, &done, &flags));
    velocity[BOWL_VALUES - 1] += 1e-3f;
    assert_fails(qzo_qspsa_step(optimizer, 2, 0, &done, &flags), QZO_ERR_DESYNC,
                 "the scales of rank 0 are not those that the last update left");
    qzo_qspsa_close(optimizer);
    bowl_close(&b);
}

/* One step by hand: the pair is that of the masters moved along the guide, by the eps of their
 * group and unconstrained; what remains is the update. */
static void a_pair_is_taken_along_the_guide(void **state) {
    (void)state;
    enum { SAMPLES = 4 };
    bowl b;
    qzo_qspsa_settings settings = bowl_settings(SAMPLES);
    qzo_gain scratch[SAMPLES];
    settings.rule = qzo_update_rule_find("mezo_gv");
    settings.rule_settings.guide_share = 0.25;
    settings.eps = 0.2; /* some values go below their floor */
    bowl_open(&b, 1);
    b.group_count = 1;
    b.groups[0] = (qzo_value_group){.eps_factor = 2.0f, .rate_factor = 0.125f};
    for (int i = 0; i < 2; i++) b.spans[i].group = &b.groups[0];
    float start[BOWL_VALUES], v[BOWL_VALUES] = {0}, z[BOWL_VALUES];
    memcpy(start, b.masters, sizeof start);
    assert_ok(bowl_run(&first, &b, &settings, comm, 1));
    const qzo_record *records = first.records[0], *pair = &records[SAMPLES];
    qzo_rule *rule = NULL;
    assert_ok(qzo_rule_open(&rule, settings.rule, &settings.rule_settings));
    for (int i = 0; i < SAMPLES; i++) {
        assert_int_equal(records[i].flags, QZO_FLAG_CANDIDATE);
        bowl_directions(z, records[i].seed, settings.directions);
        double share = qzo_rule_share(rule, records, SAMPLES, i);
        assert_true(first.k[0][i] == (float)(0.15 * fmax(-100.0, (double)pair->gradient) * share));
        for (int j = 0; j < BOWL_VALUES; j++) v[j] = fmaf((float)share, z[j], v[j]);
    }
    qzo_rule_close(rule);
    assert_int_equal(pair->flags, QZO_FLAG_GUIDED);
    assert_true(first.k[0][SAMPLES] == 0.0f);
    double difference = (double)pair->loss_plus - (double)pair->loss_minus;
    assert_true(pair->gradient == (float)(difference / (2.0 * 0.2)));
    for (int side = 0; side < 2; side++) {
        const qzo_probe probe = {.step = 1, .batch = 1};
        double sum = 0.0, found = (double)(side == 0 ? pair->loss_plus : pair->loss_minus);
        float c = side == 0 ? 0.4f : -0.4f;
        for (int j = 0; j < BOWL_VALUES; j++) b.masters[j] = fmaf(c, v[j], start[j]);
        assert_ok(bowl_loss_sum(&b, &sum, &probe));
        /* Four fmas in another order, and the loss rounded to fp32. */
        qzo_test_assert_close(found, sum / BOWL_VALUES, 1e-6 * found, "the loss along the guide");
    }
    memcpy(b.masters, start, sizeof start);
    qzo_trainable trainable = bowl_trainable(&b);
    const qzo_step recorded = {
        .step = 1, .records = records, .k = first.k[0], .record_count = SAMPLES + 1};
    assert_ok(qzo_qspsa_apply(&trainable, scratch, &settings, &recorded, NULL));
    assert_memory_equal(b.masters, first.masters, sizeof first.masters);
    bowl_close(&b);
}

/* Moved values are put back also where a loss along the guide cannot be computed. */
static void a_failure_along_the_guide_leaves_the_masters(void **state) {
    (void)state;
    bowl b;
    qzo_qspsa_settings settings = bowl_settings(2);
    settings.rule = qzo_update_rule_find("mezo_gv");
    settings.rule_settings.guide_share = 0.5;
    bowl_open(&b, 1);
    b.failing_call = 4; /* two candidates, then the pair */
    b.failure = QZO_ERR_IO;
    float start[BOWL_VALUES];
    memcpy(start, b.masters, sizeof start);
    assert_int_equal(bowl_run(&first, &b, &settings, comm, 1), QZO_ERR_IO);
    assert_memory_equal(b.masters, start, sizeof start);
    bowl_close(&b);
}

static void values_stay_above_their_floor(void **state) {
    (void)state;
    qzo_qspsa_settings settings = bowl_settings(2);
    settings.learning_rate = 50.0;
    int at_floor = 0, below_in_the_free_span = 0;
    run(&first, &settings, 1, 20);
    for (int i = 0; i < BOWL_VALUES; i++) {
        if (i < BOWL_FIRST_COUNT) assert_true(first.masters[i] >= 1e-7f);
        at_floor += i < BOWL_FIRST_COUNT && first.masters[i] == 1e-7f;
        below_in_the_free_span += first.masters[i] < 1e-7f;
    }
    assert_true(at_floor > 0 && below_in_the_free_span > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bowl_is_descended),
        cmocka_unit_test(same_seed_gives_the_same_path),
        cmocka_unit_test(both_signs_at_once_give_the_same_path),
        cmocka_unit_test(records_and_k_follow_their_formulas),
        cmocka_unit_test(gradient_is_the_directional_derivative),
        cmocka_unit_test(one_sided_rules_take_one_clean_loss),
        cmocka_unit_test(samples_may_have_a_batch_each),
        cmocka_unit_test(relative_steps_follow_the_initial_values),
        cmocka_unit_test(steep_bowl_is_clipped),
        cmocka_unit_test(loss_that_is_not_finite_is_flagged_and_not_applied),
        cmocka_unit_test(nan_has_one_bit_pattern_in_a_record),
        cmocka_unit_test(both_losses_zero_are_flagged),
        cmocka_unit_test(zero_may_be_a_loss),
        cmocka_unit_test(replay_gives_the_same_masters),
        cmocka_unit_test(momentum_is_replayed),
        cmocka_unit_test(a_pair_is_taken_along_the_guide),
        cmocka_unit_test(a_failure_along_the_guide_leaves_the_masters),
        cmocka_unit_test(a_velocity_that_changed_is_found),
        cmocka_unit_test(values_stay_above_their_floor),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
