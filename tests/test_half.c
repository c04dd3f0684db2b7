/* fp16 and bf16: all 65,536 values, and rounding at, just below and just above every midpoint. */
#include "test_support.h"

#include "base/half.h"

#include <math.h>

/* The value of fp16 bits by the definition of the format. */
static double fp16_value(uint16_t half) {
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    double sign = half >> 15 ? -1.0 : 1.0;
    if (exponent == 31) return mantissa != 0 ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0) return sign * ldexp(mantissa, -24);
    return sign * ldexp(1024 + mantissa, exponent - 25);
}

static void every_fp16_value_is_exact(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits <= 0xffff; bits++) {
        double expected = fp16_value((uint16_t)bits);
        float actual = qzo_fp16_to_float((uint16_t)bits);
        if (isnan(expected) ? !isnan(actual)
                            : (double)actual != expected || !signbit(actual) != !signbit(expected))
            fail_msg("fp16 %04x gives %a, expected %a", bits, (double)actual, expected);
    }
}

static void every_fp16_value_comes_back(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits <= 0xffff; bits++) {
        uint16_t back = qzo_float_to_fp16(qzo_fp16_to_float((uint16_t)bits));
        bool is_nan = isnan(fp16_value((uint16_t)bits));
        if (is_nan ? !isnan(fp16_value(back)) : back != bits)
            fail_msg("fp16 %04x comes back as %04x", bits, back);
    }
}

/* Between every two neighbours: the midpoint goes to the even one, its fp32 neighbours do not. The
 * last midpoint, 65520, and all above it overflow to infinity, which is even. */
static void fp16_rounds_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t low = 0; low < 0x7c00; low++) {
        uint16_t high = (uint16_t)(low + 1);
        double above = high == 0x7c00 ? 65536.0 : fp16_value(high);
        float middle = (float)((fp16_value((uint16_t)low) + above) / 2.0);
        uint16_t even = (uint16_t)(low % 2 == 0 ? low : high);
        for (uint32_t sign = 0; sign <= 0x8000; sign += 0x8000) {
            float direction = sign != 0 ? -1.0f : 1.0f;
            uint16_t at = qzo_float_to_fp16(direction * middle);
            uint16_t below = qzo_float_to_fp16(direction * nextafterf(middle, 0.0f));
            uint16_t beyond = qzo_float_to_fp16(direction * nextafterf(middle, INFINITY));
            if (at != (even | sign) || below != (low | sign) || beyond != (high | sign))
                fail_msg("around %a: %04x, %04x, %04x, expected %04x, %04x, %04x",
                         (double)(direction * middle), below, at, beyond, low | sign, even | sign,
                         high | sign);
        }
    }
}

static void fp16_extremes(void **state) {
    (void)state;
    assert_int_equal(qzo_float_to_fp16(3.4e38f), 0x7c00);
    assert_int_equal(qzo_float_to_fp16(-INFINITY), 0xfc00);
    assert_int_equal(qzo_float_to_fp16(0x1p-149f), 0);
    assert_int_equal(qzo_float_to_fp16(-0x1p-149f), 0x8000);
    assert_true(isnan(qzo_fp16_to_float(qzo_float_to_fp16(qzo_float_from_bits(0x7f800001u)))));
}

static void every_bf16_value_is_the_top_of_a_float_and_comes_back(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits <= 0xffff; bits++) {
        float value = qzo_bf16_to_float((uint16_t)bits);
        assert_int_equal(qzo_float_bits(value), bits << 16);
        uint16_t back = qzo_float_to_bf16(value);
        if (isnan(value) ? !isnan(qzo_bf16_to_float(back)) : back != bits)
            fail_msg("bf16 %04x comes back as %04x", bits, back);
    }
}

static void bf16_rounds_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t low = 0; low < 0x7f80; low++) {
        uint32_t middle = low << 16 | 0x8000u, even = low % 2 == 0 ? low : low + 1;
        for (uint32_t sign = 0; sign <= 0x8000; sign += 0x8000) {
            uint32_t bits = middle | sign << 16;
            assert_int_equal(qzo_float_to_bf16(qzo_float_from_bits(bits)), even | sign);
            assert_int_equal(qzo_float_to_bf16(qzo_float_from_bits(bits - 1)), low | sign);
            assert_int_equal(qzo_float_to_bf16(qzo_float_from_bits(bits + 1)), (low + 1) | sign);
        }
    }
}

static void bf16_nan_stays_nan(void **state) {
    (void)state;
    const uint32_t payloads[] = {0x7f800001u, 0x7fffffffu, 0xff80ffffu, 0xffffffffu};
    for (int i = 0; i < 4; i++)
        assert_true(isnan(qzo_bf16_to_float(qzo_float_to_bf16(qzo_float_from_bits(payloads[i])))));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fp16_value_is_exact),
        cmocka_unit_test(every_fp16_value_comes_back),
        cmocka_unit_test(fp16_rounds_to_nearest_even),
        cmocka_unit_test(fp16_extremes),
        cmocka_unit_test(every_bf16_value_is_the_top_of_a_float_and_comes_back),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(bf16_nan_stays_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
