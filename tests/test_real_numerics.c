/* ctest: labels=real timeout=120
 * All published vectors of Philox4x32-10, and a published model: its logits and its greedy text.
 * Skipped where QZO_TEST_DATA lacks them. */
#include "model_support.h"

#include "base/philox.h"

#include <math.h>
#include <stdio.h>

/* Logits in fp32 against a float64 forward; docs/error-analysis.md, "Logits". */
static const double LOGIT_ERROR = 1e-4;
enum { POSITIONS = 200, VOCAB = 512 };

static int skipped, ran;

/* A copy of the path of real data, or the end of this test. */
static char *data_or_skip(const char *name) {
    const char *path = qzo_test_data(name);
    if (path == NULL) {
        skipped++;
        skip();
    }
    ran++;
    return strdup(path);
}

static int check_vectors(const char *name) {
    char *path = data_or_skip(name), line[512];
    FILE *file = fopen(path, "r");
    int checked = 0, rounds = 0;
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        uint32_t w[10];
        int found = sscanf(line, "philox4x32 %d %x %x %x %x %x %x %x %x %x %x", &rounds, &w[0],
                           &w[1], &w[2], &w[3], &w[4], &w[5], &w[6], &w[7], &w[8], &w[9]);
        if (found != 11 || rounds != 10) continue;
        qzo_philox_block block =
            qzo_philox((uint64_t)w[5] << 32 | w[4], (uint64_t)w[1] << 32 | w[0], w[2], w[3]);
        if (memcmp(block.word, w + 6, sizeof block.word) != 0) fail_msg("other words for %s", line);
        checked++;
    }
    fclose(file);
    free(path);
    return checked;
}

static void published_vectors_match(void **state) {
    (void)state;
    assert_int_equal(check_vectors("oracles/random123/kat_vectors"), 3);
}

static void older_vectors_match(void **state) {
    (void)state;
    assert_int_equal(check_vectors("oracles/random123/old_kat_vectors"), 52);
}

static void check_model(const char *name) {
    char *folder = data_or_skip(name);
    char *ids_path = data_or_skip("oracles/stories260K/greedy.ids201.i32");
    char *logits_path = data_or_skip("oracles/stories260K/greedy.logits200x512.f32");
    size_t ids_bytes = 0, logits_bytes = 0;
    uint8_t *ids_raw = qzo_test_file_read(ids_path, &ids_bytes);
    uint8_t *logits_raw = qzo_test_file_read(logits_path, &logits_bytes);
    int32_t ids[POSITIONS + 1];
    float *expected = malloc(logits_bytes);
    assert_int_equal(ids_bytes, sizeof ids);
    assert_int_equal(logits_bytes, POSITIONS * VOCAB * sizeof(float));
    memcpy(ids, ids_raw, ids_bytes);
    memcpy(expected, logits_raw, logits_bytes);

    test_model model = {0};
    test_model_open(&model, folder, 1);
    float *actual = test_logits(&model, ids, POSITIONS, &test_no_perturbation);
    double worst = 0.0;
    for (int t = 0; t < POSITIONS; t++) {
        const float *row = actual + t * VOCAB;
        int best = 0;
        for (int i = 0; i < VOCAB; i++) {
            double error = fabs((double)row[i] - (double)expected[t * VOCAB + i]);
            if (!(error <= worst)) worst = error;
            if (row[i] > row[best]) best = i;
        }
        if (best != ids[t + 1])
            fail_msg("after %d tokens the best is %d, published is %d", t + 1, best, ids[t + 1]);
    }
    print_message("%s: largest error %.3g\n", name, worst);
    qzo_test_assert_close(worst, 0.0, LOGIT_ERROR, "LOGIT_ERROR");
    test_model_close(&model);
    free(actual);
    free(expected);
    free(logits_raw);
    free(ids_raw);
    free(logits_path);
    free(ids_path);
    free(folder);
}

static void stories_logits_and_greedy_text(void **state) {
    (void)state;
    check_model("models/stories260K");
}

static void padded_stories_logits_and_greedy_text(void **state) {
    (void)state;
    check_model("models/stories260K-pad192");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vectors_match),
        cmocka_unit_test(older_vectors_match),
        cmocka_unit_test(stories_logits_and_greedy_text),
        cmocka_unit_test(padded_stories_logits_and_greedy_text),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed == 0 && ran == 0 && skipped > 0 ? 77 : failed;
}
