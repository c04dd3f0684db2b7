/* Philox4x32-10 against published vectors (Random123's kat_vectors, the three of ten rounds; all
 * others that the machine has are read by test_real_numerics.c), and how its counter is used. */
#include "test_support.h"

#include "base/noise.h"
#include "base/philox.h"

#include <stdlib.h>
#include <string.h>

static void assert_words(qzo_philox_block block, const uint32_t expected[4]) {
    for (int i = 0; i < 4; i++) assert_int_equal(block.word[i], expected[i]);
}

static void zeros_give_the_published_words(void **state) {
    (void)state;
    const uint32_t expected[4] = {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u};
    assert_words(qzo_philox(0, 0, 0, 0), expected);
}

static void ones_give_the_published_words(void **state) {
    (void)state;
    const uint32_t expected[4] = {0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu};
    assert_words(qzo_philox(UINT64_MAX, UINT64_MAX, UINT32_MAX, UINT32_MAX), expected);
}

static void digits_of_pi_give_the_published_words(void **state) {
    (void)state;
    const uint32_t expected[4] = {0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u};
    assert_words(qzo_philox(0x299f31d0a4093822u, 0x85a308d3243f6a88u, 0x13198a2eu, 0x03707344u),
                 expected);
}

/* Element e is word e % 4 of the block with counter (e / 4, tensor, QZO_PURPOSE_NOISE). */
static void noise_is_the_block_of_its_element(void **state) {
    (void)state;
    const uint64_t seed = 0x0123456789abcdefu,
                   elements[] = {0, 7, 1 << 20, ((uint64_t)5 << 34) + 3};
    for (size_t i = 0; i < sizeof elements / sizeof *elements; i++) {
        uint64_t element = elements[i];
        qzo_philox_block block = qzo_philox(seed, element / 4, 0xdeadbeefu, QZO_PURPOSE_NOISE);
        float z[4], actual;
        qzo_normals(z, block);
        qzo_noise_fill(&actual, seed, 0xdeadbeefu, element, 1, QZO_DIRECTIONS_GAUSSIAN);
        assert_memory_equal(&actual, &z[element % 4], sizeof actual);
        qzo_noise_fill(&actual, seed, 0xdeadbeefu, element, 1, QZO_DIRECTIONS_RADEMACHER);
        assert_true(actual == (block.word[element % 4] >> 31 ? -1.0f : 1.0f));
    }
}

static void seed_of_a_sample_is_two_words_of_its_block(void **state) {
    (void)state;
    qzo_philox_block block = qzo_philox(42, ((uint64_t)3 << 32) + 9, 5, QZO_PURPOSE_SEED);
    assert_true(qzo_noise_seed(42, ((uint64_t)3 << 32) + 9, 5) ==
                ((uint64_t)block.word[1] << 32 | block.word[0]));
}

static int compare_seeds(const void *a, const void *b) {
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

/* Two of 64,000 random seeds are equal with probability 1e-10: equal ones mean a lost argument. */
static void seeds_of_steps_and_samples_differ(void **state) {
    (void)state;
    enum { TRIALS = 4, STEPS = 1000, SAMPLES = 16, COUNT = TRIALS * STEPS * SAMPLES };
    static uint64_t seeds[COUNT];
    for (int i = 0; i < COUNT; i++)
        seeds[i] = qzo_noise_seed((uint64_t)(i / (STEPS * SAMPLES)),
                                  (uint64_t)(i / SAMPLES % STEPS), (uint32_t)(i % SAMPLES));
    qsort(seeds, COUNT, sizeof *seeds, compare_seeds);
    for (int i = 1; i < COUNT; i++)
        if (seeds[i] == seeds[i - 1])
            fail_msg("two samples have the seed %llx", (unsigned long long)seeds[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeros_give_the_published_words),
        cmocka_unit_test(ones_give_the_published_words),
        cmocka_unit_test(digits_of_pi_give_the_published_words),
        cmocka_unit_test(noise_is_the_block_of_its_element),
        cmocka_unit_test(seed_of_a_sample_is_two_words_of_its_block),
        cmocka_unit_test(seeds_of_steps_and_samples_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
