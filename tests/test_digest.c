/* Digests and checksums against values of the reference implementation (Python's xxhash). */
#include "test_support.h"

#include "base/digest.h"

static uint8_t pattern[1024]; /* 0, 1 .. 255, four times */

static int fill_pattern(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = (uint8_t)i;
    return 0;
}

static void assert_digest_text(qzo_digest digest, const char *expected) {
    char text[QZO_DIGEST_TEXT_BYTES];
    qzo_digest_text(text, &digest);
    assert_string_equal(text, expected);
}

static void digests_match_the_reference(void **state) {
    (void)state;
    assert_digest_text(qzo_digest_of("", 0), "99aa06d3014798d86001c324468d497f");
    assert_digest_text(qzo_digest_of("abc", 3), "06b05ab6733a618578af5f94892f3950");
    assert_digest_text(qzo_digest_of(pattern, sizeof pattern), "83885e853bb6640ca870f92984398d22");
}

static void pieces_do_not_change_a_digest(void **state) {
    (void)state;
    const qzo_digest whole = qzo_digest_of(pattern, sizeof pattern);
    for (size_t piece = 1; piece <= sizeof pattern; piece += 37) {
        qzo_digest_stream *stream = qzo_digest_begin();
        assert_non_null(stream);
        for (size_t at = 0; at < sizeof pattern; at += piece) {
            const size_t left = sizeof pattern - at;
            qzo_digest_add(stream, pattern + at, piece < left ? piece : left);
            qzo_digest_add(stream, NULL, 0);
        }
        const qzo_digest digest = qzo_digest_end(stream);
        assert_true(qzo_digest_equal(&digest, &whole));
    }
}

static void different_digests_are_not_equal(void **state) {
    (void)state;
    qzo_digest a = qzo_digest_of("abc", 3), b = a;
    assert_true(qzo_digest_equal(&a, &b));
    b.bytes[15] ^= 1;
    assert_false(qzo_digest_equal(&a, &b));
}

static void checksums_match_the_reference(void **state) {
    (void)state;
    assert_true(qzo_checksum("", 0, 0) == 0x2d06800538d394c2u);
    assert_true(qzo_checksum("abc", 3, 7) == 0x48ff56f569e39912u);
    assert_true(qzo_checksum(pattern, sizeof pattern, 7) == 0xf196329c653020f8u);
}

static void checksum_of_a_pair_is_that_of_the_whole(void **state) {
    (void)state;
    for (size_t cut = 0; cut <= sizeof pattern; cut += 64)
        assert_true(qzo_checksum_pair(pattern, cut, pattern + cut, sizeof pattern - cut) ==
                    0xa870f92984398d22u);
    assert_true(qzo_checksum_pair(NULL, 0, NULL, 0) == 0x2d06800538d394c2u);
}

static void tensor_ids_match_the_reference(void **state) {
    (void)state;
    assert_true(qzo_tensor_id("") == 0x02cc5d05u);
    assert_true(qzo_tensor_id("model.layers.0.mlp.up_proj.scales") == 0x05b822b6u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_match_the_reference),
        cmocka_unit_test(pieces_do_not_change_a_digest),
        cmocka_unit_test(different_digests_are_not_equal),
        cmocka_unit_test(checksums_match_the_reference),
        cmocka_unit_test(checksum_of_a_pair_is_that_of_the_whole),
        cmocka_unit_test(tensor_ids_match_the_reference),
    };
    return cmocka_run_group_tests(tests, fill_pattern, NULL);
}
