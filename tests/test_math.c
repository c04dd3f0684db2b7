/* The project's own exp, ln and cos against the C library in wider arithmetic; updates and digests
 * of one value; the floating-point mode. Bounds: docs/error-analysis.md, "Elementary functions". */
#include "test_support.h"

#include "base/cpu.h"
#include "base/math32.h"
#include "base/math64.h"
#include "base/philox.h"
#include "base/update.h"

#include <math.h>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

static const double EXP32_RELATIVE = 1.6 * 0x1p-24;
static const double TANH32_RELATIVE = 4.6 * 0x1p-24;
static const double TAIL32_CONSTANT = 7.2; /* and half of the square, of 2^-24 */
static const double LOG32_RELATIVE = 0x1p-23, LOG32_ABSOLUTE = 0x1p-25;
static const double LOG64_RELATIVE = 1e-15, LOG64_ABSOLUTE = 1e-16;
static const double EXP64_RELATIVE = 1e-15, COSPI64_ABSOLUTE = 1e-15;
static const double TURN64_ABSOLUTE = 1e-15; /* times 1 + x */

/* A step through the bit patterns of floats: prime, so that no low bits are left out. */
enum { BITS_STRIDE = 4099 };

static void exp_is_within_its_bound(void **state) {
    (void)state;
    double worst = 0.0;
    for (uint32_t sign = 0; sign <= 1; sign++) {
        float end = sign != 0 ? -87.0f : 88.0f;
        for (uint32_t bits = 0; bits <= (qzo_float_bits(end) & 0x7fffffffu); bits += BITS_STRIDE) {
            float x = qzo_float_from_bits(bits | sign << 31);
            double expected = exp((double)x);
            worst = fmax(worst, fabs((double)qzo_expf(x) - expected) / expected);
        }
    }
    print_message("largest relative error %.3g\n", worst);
    qzo_test_assert_close(worst, 0.0, EXP32_RELATIVE, "EXP32_RELATIVE");
}

static void exp_beyond_its_range(void **state) {
    (void)state;
    assert_true(qzo_expf(0.0f) == 1.0f);
    assert_true(qzo_expf(-0.0f) == 1.0f);
    assert_true(qzo_expf(-INFINITY) == 0.0f);
    assert_true(qzo_expf(nextafterf(-87.0f, -INFINITY)) == 0.0f);
    assert_true(qzo_expf(-87.0f) >= 0x1p-126f);
    assert_true(qzo_expf(INFINITY) == qzo_expf(88.0f));
    assert_true(isfinite(qzo_expf(88.0f)));
    assert_true(isnan(qzo_expf(NAN)));
    assert_true(isnan(qzo_expf(-NAN)));
    assert_true(isnan(qzo_expf(qzo_float_from_bits(0x7fffffffu))));
}

static void tanh_is_within_its_bound(void **state) {
    (void)state;
    double worst = 0.0;
    for (uint32_t bits = 0x00800000u; bits < 0x7f800000u; bits += BITS_STRIDE) {
        float x = qzo_float_from_bits(bits);
        double expected = tanh((double)x);
        worst = fmax(worst, fabs((double)qzo_tanhf(x) - expected) / expected);
        assert_true(qzo_tanhf(-x) == -qzo_tanhf(x));
    }
    print_message("largest relative error %.3g\n", worst);
    qzo_test_assert_close(worst, 0.0, TANH32_RELATIVE, "TANH32_RELATIVE");
    assert_true(qzo_tanhf(0.0f) == 0.0f);
    assert_true(qzo_tanhf(INFINITY) == 1.0f);
    assert_true(qzo_tanhf(-INFINITY) == -1.0f);
    assert_true(isnan(qzo_tanhf(NAN)));
}

/* Half of the square is off by u of itself: that much of the exponential, beside a constant. */
static void normal_tail_is_within_its_bound(void **state) {
    (void)state;
    double worst = 0.0;
    for (uint32_t bits = 0; qzo_float_from_bits(bits) < 13.19f; bits += BITS_STRIDE) {
        float x = qzo_float_from_bits(bits);
        double expected = 0.5 * erfc((double)x / sqrt(2.0)), half = 0.5 * (double)x * (double)x;
        double limit = (TAIL32_CONSTANT + half) * 0x1p-24;
        double error = fabs((double)qzo_normal_tailf(x) - expected) / expected;
        worst = fmax(worst, error / limit);
    }
    print_message("largest error %.3g of the bound\n", worst);
    qzo_test_assert_close(worst, 0.0, 1.0, "TAIL32_CONSTANT");
    assert_true(qzo_normal_tailf(0.0f) == 0.5f);
    assert_true(qzo_normal_tailf(14.0f) == 0.0f);
    assert_true(qzo_normal_tailf(INFINITY) == 0.0f);
    assert_true(isnan(qzo_normal_tailf(NAN)));
}

/* All u that normals use, (0, 1], and beyond. */
static void log_is_within_its_bound(void **state) {
    (void)state;
    for (uint32_t bits = 0x00800000u; bits < 0x7f800000u; bits += BITS_STRIDE) {
        float x = qzo_float_from_bits(bits);
        double expected = log((double)x);
        double limit = fmax(LOG32_ABSOLUTE, LOG32_RELATIVE * fabs(expected));
        if (fabs((double)qzo_logf(x) - expected) > limit)
            fail_msg("ln %a is %a, expected %a", (double)x, (double)qzo_logf(x), expected);
    }
    assert_true(qzo_logf(1.0f) == 0.0f);
}

/* Next to 1 the result must keep its relative accuracy and its sign: sqrt(-2 ln u) follows. */
static void log_next_to_one_keeps_its_sign(void **state) {
    (void)state;
    for (uint32_t bits = qzo_float_bits(1.0f) - 100000; bits < qzo_float_bits(1.0f); bits++) {
        float x = qzo_float_from_bits(bits);
        double expected = log((double)x);
        qzo_test_assert_close((double)qzo_logf(x), expected, LOG32_RELATIVE * -expected,
                              "LOG32_RELATIVE");
    }
}

static void double_log_is_within_its_bound(void **state) {
    (void)state;
    for (int i = 0; i < 400000; i++) {
        double x = i % 2 == 0 ? ldexp(1.0 + i / 400000.0, i % 2000 - 1000) : 1.0 + (i - 2e5) * 1e-8;
        long double expected = logl((long double)x);
        double limit = fmax(LOG64_ABSOLUTE, LOG64_RELATIVE * fabs((double)expected));
        long double error = fabsl((long double)qzo_log(x) - expected);
        if ((double)error > limit)
            fail_msg("ln %.17g is off by %.3g, limit %.3g", x, (double)error, limit);
    }
    assert_true(qzo_log(1.0) == 0.0);
}

static void double_exp_is_within_its_bound(void **state) {
    (void)state;
    for (int i = 0; i <= 200000; i++) {
        double x = i % 2 == 0 ? (i - 100000) * 7e-3 : (i - 100000) * 1e-5;
        long double expected = expl((long double)x);
        double relative = (double)(fabsl((long double)qzo_exp(x) - expected) / expected);
        if (!(relative <= EXP64_RELATIVE))
            fail_msg("e^%.17g is off by %.3g of itself", x, relative);
    }
    assert_true(qzo_exp(0.0) == 1.0);
    assert_true(qzo_exp(-0.0) == 1.0);
    assert_true(isnan(qzo_exp((double)NAN)));
    assert_true(qzo_exp(-1e9) == qzo_exp(-700.0));
    assert_true(qzo_exp((double)INFINITY) == qzo_exp(700.0));
}

static void double_cosine_is_within_its_bound(void **state) {
    (void)state;
    const long double pi = 3.141592653589793238462643383279502884L;
    for (int i = 0; i <= 100000; i++) {
        double x = i / 100000.0;
        qzo_test_assert_close(qzo_cospi(x), (double)cosl(pi * (long double)x), COSPI64_ABSOLUTE,
                              "COSPI64_ABSOLUTE");
    }
    assert_true(qzo_cospi(0.0) == 1.0);
    assert_true(qzo_cospi(1.0) == -1.0);
}

/* Angles of rotary positions: up to the longest contexts, and the smallest frequencies. */
static void double_cos_and_sin_are_within_their_bound(void **state) {
    (void)state;
    double x = 0.0;
    for (int i = 0; i < 300000; i++) {
        double limit = TURN64_ABSOLUTE * (1.0 + x);
        qzo_test_assert_close(qzo_cos(x), (double)cosl((long double)x), limit, "TURN64_ABSOLUTE");
        qzo_test_assert_close(qzo_sin(x), (double)sinl((long double)x), limit, "TURN64_ABSOLUTE");
        x = i < 100000 ? i * 1e-4 : i < 200000 ? (double)((float)i * 0.731f) : i * 7.0;
    }
    assert_true(qzo_cos(0.0) == 1.0);
    qzo_test_assert_close(qzo_sin(0.0), 0.0, COSPI64_ABSOLUTE, "COSPI64_ABSOLUTE");
}

/* k z = 1 + 2^-11 + 2^-24: rounded before the sum, the last bit is lost. */
static void update_is_one_fused_operation(void **state) {
    (void)state;
    const float k = 1.0f + 0x1p-12f, z = 1.0f + 0x1p-12f;
    for (int i = 0; i < 1000; i++) {
        float value = 1.0f + (float)i * 0x1p-23f;
        assert_true(qzo_updated(value, k, z) == (float)((double)value - (double)k * (double)z));
        assert_true(qzo_perturbed(value, k, z) == (float)((double)value + (double)k * (double)z));
    }
    assert_true(qzo_updated(1.0f + 0x1p-11f, k, z) == -0x1p-24f);
}

static void constraints_hold_for_all_values(void **state) {
    (void)state;
    const float values[] = {-INFINITY, -1.0f, -1e-7f, -0.0f,    0.0f,
                            1e-8f,     1e-7f, 2.0f,   INFINITY, NAN};
    const float floor = 1e-7f;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        float positive = qzo_constrained_positive(values[i], floor);
        assert_true(positive >= floor);
        assert_true(!(values[i] > floor) || positive == values[i]);
        float kept_up = qzo_constrained_sign(values[i], 0.5f, floor);
        assert_true(kept_up >= floor);
        float kept_down = qzo_constrained_sign(values[i], -0.5f, floor);
        assert_true(kept_down <= -floor);
        assert_true(!(values[i] < -floor) || kept_down == values[i]);
        float zeros[] = {0.0f, -0.0f};
        for (int j = 0; j < 2; j++) {
            float kept = qzo_constrained_sign(values[i], zeros[j], floor);
            assert_memory_equal(&kept, &zeros[j], sizeof kept); /* its sign, too */
        }
    }
}

/* A digest that misses the place, the tensor or a bit would miss a desync. */
static void digest_depends_on_tensor_place_and_every_bit(void **state) {
    (void)state;
    uint64_t base = qzo_digest_mix(1, 2, 0.5f);
    assert_true(base != qzo_digest_mix(2, 2, 0.5f));
    assert_true(base != qzo_digest_mix(1, 3, 0.5f));
    assert_true(base != qzo_digest_mix(2, 1, 0.5f));
    for (int bit = 0; bit < 32; bit++) {
        uint64_t other =
            qzo_digest_mix(1, 2, qzo_float_from_bits(qzo_float_bits(0.5f) ^ 1u << bit));
        assert_true((uint32_t)base != (uint32_t)other);
    }
    /* Two values exchanged must not cancel in the sum. */
    assert_true(qzo_digest_mix(1, 0, 0.25f) + qzo_digest_mix(1, 1, 0.5f) !=
                qzo_digest_mix(1, 0, 0.5f) + qzo_digest_mix(1, 1, 0.25f));
}

static void float_mode_is_checked(void **state) {
    (void)state;
    assert_ok(qzo_cpu_check_float_mode());
#if defined(__SSE__)
    enum { FLUSH_TO_ZERO = 0x8000, DENORMALS_ARE_ZERO = 0x40, ROUND_DOWN = 0x2000 };
    const struct {
        unsigned int bits;
        const char *text;
    } modes[] = {{FLUSH_TO_ZERO, "flushes subnormal"},
                 {DENORMALS_ARE_ZERO, "flushes subnormal"},
                 {ROUND_DOWN, "does not round to nearest"}};
    unsigned int before = _mm_getcsr();
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        _mm_setcsr(before | modes[i].bits);
        qzo_status status = qzo_cpu_check_float_mode();
        _mm_setcsr(before);
        assert_fails(status, QZO_ERR_ENVIRONMENT, modes[i].text);
    }
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_its_bound),
        cmocka_unit_test(exp_beyond_its_range),
        cmocka_unit_test(tanh_is_within_its_bound),
        cmocka_unit_test(normal_tail_is_within_its_bound),
        cmocka_unit_test(log_is_within_its_bound),
        cmocka_unit_test(log_next_to_one_keeps_its_sign),
        cmocka_unit_test(double_log_is_within_its_bound),
        cmocka_unit_test(double_exp_is_within_its_bound),
        cmocka_unit_test(double_cosine_is_within_its_bound),
        cmocka_unit_test(double_cos_and_sin_are_within_their_bound),
        cmocka_unit_test(update_is_one_fused_operation),
        cmocka_unit_test(constraints_hold_for_all_values),
        cmocka_unit_test(digest_depends_on_tensor_place_and_every_bit),
        cmocka_unit_test(float_mode_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
