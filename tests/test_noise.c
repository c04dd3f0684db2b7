/* The noise: moments, distribution and correlations of 10^6 draws under fixed seeds, the same bits
 * from every instruction set and for every split of a range. */
#include "test_support.h"

#include "base/cpu.h"
#include "base/noise.h"
#include "base/philox.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DRAWS = 1000000 };

/* A statistic that is N(0, 1) for true normals exceeds this with probability 1e-5, two-sided. The
 * seeds are fixed: the tests either always pass or the noise is wrong. */
static const double NORMAL_CRITICAL_1E5 = 4.417;
/* Kolmogorov: P(sqrt(n) D > x) = 2 exp(-2 x^2) = 1e-5. */
static const double KOLMOGOROV_CRITICAL_1E5 = 2.471;
/* z against Box-Muller in double from the same u and angle; docs/error-analysis.md, "Normals". */
static const double NORMAL_ERROR = 4.5 * 0x1p-24 * 6.77;

static float *first, *second;

static int setup(void **state) {
    (void)state;
    first = malloc(DRAWS * sizeof *first);
    second = malloc(DRAWS * sizeof *second);
    return first == NULL || second == NULL;
}

static int teardown(void **state) {
    (void)state;
    free(first);
    free(second);
    return 0;
}

static void draw(float *out, uint64_t seed, uint32_t tensor_id, qzo_directions directions) {
    qzo_noise_fill(out, seed, tensor_id, 0, DRAWS, directions);
}

static void assert_standard(double statistic, const char *name) {
    qzo_test_assert_close(statistic, 0.0, NORMAL_CRITICAL_1E5, name);
}

/* Mean, variance, skewness and kurtosis, each divided by its standard error. */
static void four_moments_are_those_of_a_normal(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        draw(first, seed * 0x100000001u, (uint32_t)seed * 7919u, QZO_DIRECTIONS_GAUSSIAN);
        double sum[5] = {0}, n = DRAWS;
        for (int i = 0; i < DRAWS; i++) {
            double z = (double)first[i], power = 1.0;
            for (int order = 1; order <= 4; order++) sum[order] += power *= z;
        }
        assert_standard(sum[1] / sqrt(n), "mean");
        assert_standard((sum[2] / n - 1.0) / sqrt(2.0 / n), "variance");
        assert_standard(sum[3] / n / sqrt(15.0 / n), "third moment");
        assert_standard((sum[4] / n - 3.0) / sqrt(96.0 / n), "fourth moment");
    }
}

static int compare_floats(const void *a, const void *b) {
    float x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static void distribution_passes_kolmogorov_smirnov(void **state) {
    (void)state;
    draw(first, 20250513, 430, QZO_DIRECTIONS_GAUSSIAN);
    qsort(first, DRAWS, sizeof *first, compare_floats);
    double largest = 0.0;
    for (int i = 0; i < DRAWS; i++) {
        double expected = 0.5 * erfc(-(double)first[i] / sqrt(2.0));
        largest = fmax(largest, fabs(expected - (double)i / DRAWS));
        largest = fmax(largest, fabs(expected - (double)(i + 1) / DRAWS));
    }
    qzo_test_assert_close(sqrt((double)DRAWS) * largest, 0.0, KOLMOGOROV_CRITICAL_1E5,
                          "KOLMOGOROV_CRITICAL_1E5");
}

/* P(|z| > 4) = 6.334e-5: moments hardly see the tails, training does. */
static void tails_have_their_share(void **state) {
    (void)state;
    draw(first, 77, 1, QZO_DIRECTIONS_GAUSSIAN);
    double expected = DRAWS * erfc(4.0 / sqrt(2.0)), found = 0.0;
    for (int i = 0; i < DRAWS; i++) found += fabs((double)first[i]) > 4.0;
    assert_standard((found - expected) / sqrt(expected), "draws beyond 4");
}

/* Correlation of values, and of squares: a shared radius would show only there. */
static void assert_uncorrelated(const float *a, const float *b, int count, const char *name) {
    double product = 0.0, squares = 0.0;
    for (int i = 0; i < count; i++) {
        double x = (double)a[i], y = (double)b[i];
        product += x * y;
        squares += (x * x - 1.0) * (y * y - 1.0);
    }
    assert_standard(product / sqrt((double)count), name);
    assert_standard(squares / (2.0 * sqrt((double)count)), name);
}

static void neighbours_are_uncorrelated(void **state) {
    (void)state;
    draw(first, 5, 6, QZO_DIRECTIONS_GAUSSIAN);
    for (int lag = 1; lag <= 16; lag++)
        assert_uncorrelated(first, first + lag, DRAWS - lag, "serial correlation");
}

static void tensors_steps_samples_and_trials_are_uncorrelated(void **state) {
    (void)state;
    uint64_t base = qzo_noise_seed(0, 1, 0);
    draw(first, base, 100, QZO_DIRECTIONS_GAUSSIAN);
    const struct {
        const char *name;
        uint64_t seed;
        uint32_t tensor_id;
    } streams[] = {
        {"next tensor", base, 101},
        {"tensor with the top bit flipped", base, 100 ^ 0x80000000u},
        {"next step", qzo_noise_seed(0, 2, 0), 100},
        {"next sample", qzo_noise_seed(0, 1, 1), 100},
        {"next trial", qzo_noise_seed(1, 1, 0), 100},
        {"step and sample exchanged", qzo_noise_seed(0, 0, 1), 100},
        {"seed plus one", base + 1, 100},
        {"seed with halves exchanged", base << 32 | base >> 32, 100},
    };
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
        draw(second, streams[i].seed, streams[i].tensor_id, QZO_DIRECTIONS_GAUSSIAN);
        assert_uncorrelated(first, second, DRAWS, streams[i].name);
    }
}

static void rademacher_is_fair_and_uncorrelated(void **state) {
    (void)state;
    draw(first, 9, 2, QZO_DIRECTIONS_RADEMACHER);
    draw(second, 9, 3, QZO_DIRECTIONS_RADEMACHER);
    double sum = 0.0, cross = 0.0;
    for (int i = 0; i < DRAWS; i++) {
        if (first[i] != 1.0f && first[i] != -1.0f) fail_msg("element %d is %g", i, first[i]);
        sum += (double)first[i];
        cross += (double)(first[i] * second[i]);
    }
    assert_standard(sum / sqrt((double)DRAWS), "mean");
    assert_standard(cross / sqrt((double)DRAWS), "correlation between tensors");
    for (int lag = 1; lag <= 8; lag++) {
        double serial = 0.0;
        for (int i = lag; i < DRAWS; i++) serial += (double)(first[i] * first[i - lag]);
        assert_standard(serial / sqrt((double)(DRAWS - lag)), "serial correlation");
    }
}

/* All levels that the processor has, the widest first; the rest is named in the output. */
static int usable_levels(qzo_cpu_level *out) {
    int count = 0;
    for (int level = QZO_CPU_BASELINE; level <= QZO_CPU_AVX512; level++) {
        qzo_cpu_limit((qzo_cpu_level)level);
        if (qzo_cpu() == (qzo_cpu_level)level)
            out[count++] = (qzo_cpu_level)level;
        else
            print_message("not run: %s, this processor lacks it\n",
                          qzo_cpu_name((qzo_cpu_level)level));
    }
    qzo_cpu_limit(QZO_CPU_WIDEST);
    return count;
}

static void every_instruction_set_gives_the_same_bits(void **state) {
    (void)state;
    qzo_cpu_level levels[3];
    int count = usable_levels(levels);
    for (int directions = 0; directions < QZO_DIRECTIONS_COUNT; directions++) {
        qzo_cpu_limit(levels[0]);
        draw(first, 0xfeedfacecafebeefu, 12345, (qzo_directions)directions);
        for (int i = 1; i < count; i++) {
            qzo_cpu_limit(levels[i]);
            draw(second, 0xfeedfacecafebeefu, 12345, (qzo_directions)directions);
            qzo_cpu_limit(QZO_CPU_WIDEST);
            for (int j = 0; j < DRAWS; j++)
                if (memcmp(&first[j], &second[j], sizeof *first) != 0)
                    fail_msg("%s: %s gives %a for element %d, %s gives %a",
                             qzo_directions_name(directions), qzo_cpu_name(levels[0]), first[j], j,
                             qzo_cpu_name(levels[i]), second[j]);
        }
        qzo_cpu_limit(QZO_CPU_WIDEST);
    }
}

static void any_range_gives_the_same_bits(void **state) {
    (void)state;
    enum { ELEMENTS = 75, GUARD = 1 };
    const uint64_t origin = ((uint64_t)1 << 34) - 38; /* the counter's low word runs over */
    float all[ELEMENTS], part[ELEMENTS + GUARD];
    qzo_noise_fill(all, 3, 4, origin, ELEMENTS, QZO_DIRECTIONS_GAUSSIAN);
    for (int begin = 0; begin < ELEMENTS; begin++)
        for (int count = 0; count <= ELEMENTS - begin; count++) {
            for (int i = 0; i < ELEMENTS + GUARD; i++) part[i] = 99.0f;
            qzo_noise_fill(part, 3, 4, origin + (uint64_t)begin, count, QZO_DIRECTIONS_GAUSSIAN);
            if (memcmp(part, all + begin, (size_t)count * sizeof *part) != 0)
                fail_msg("%d elements from %d differ from those of the whole", count, begin);
            if (part[count] != 99.0f) fail_msg("%d elements from %d wrote one more", count, begin);
        }
}

/* u as the code rounds it: (word + 1/2) / 2^32 to within 1.5 units of 2^-25. */
static double uniform_of(uint32_t word) {
    float u = fmaf((float)word, 0x1p-32f, 0x1p-33f);
    qzo_test_assert_close((double)u, ((double)word + 0.5) * 0x1p-32, 1.5 * 0x1p-25,
                          "rounding of u");
    return (double)u;
}

/* The words through libm in double; first words from the whole range and both of its ends. */
static void normals_are_close_to_box_muller_in_double(void **state) {
    (void)state;
    const double quarter = 0.5 * 3.14159265358979323846;
    double worst = 0.0;
    for (uint32_t i = 0; i < DRAWS; i++) {
        uint32_t word0 = i % 4 == 0 ? i / 4 : i % 4 == 1 ? 0u - 1u - i / 4 : i * 2891336453u;
        uint32_t word1 = i * 2654435761u;
        float z0, z1;
        qzo_normal_pair(&z0, &z1, word0, word1);
        double radius = sqrt(-2.0 * log(uniform_of(word0)));
        /* The thirty bits below the quadrant are a signed place around the quadrant's axis. */
        double angle = quarter * ((double)(word1 >> 30) + (double)(int32_t)(word1 << 2) * 0x1p-32);
        worst = fmax(worst, fabs((double)z0 - radius * cos(angle)));
        worst = fmax(worst, fabs((double)z1 - radius * sin(angle)));
    }
    print_message("largest error %.3g\n", worst);
    qzo_test_assert_close(worst, 0.0, NORMAL_ERROR, "NORMAL_ERROR");
}

static void directions_have_names(void **state) {
    (void)state;
    assert_string_equal(qzo_directions_name(QZO_DIRECTIONS_GAUSSIAN), "gaussian");
    assert_string_equal(qzo_directions_name(QZO_DIRECTIONS_RADEMACHER), "rademacher");
    assert_null(qzo_directions_name(QZO_DIRECTIONS_COUNT));
    assert_null(qzo_directions_name(-1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_moments_are_those_of_a_normal),
        cmocka_unit_test(distribution_passes_kolmogorov_smirnov),
        cmocka_unit_test(tails_have_their_share),
        cmocka_unit_test(neighbours_are_uncorrelated),
        cmocka_unit_test(tensors_steps_samples_and_trials_are_uncorrelated),
        cmocka_unit_test(rademacher_is_fair_and_uncorrelated),
        cmocka_unit_test(every_instruction_set_gives_the_same_bits),
        cmocka_unit_test(any_range_gives_the_same_bits),
        cmocka_unit_test(normals_are_close_to_box_muller_in_double),
        cmocka_unit_test(directions_have_names),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
