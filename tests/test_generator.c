/* Text over a cache of keys and values: the same tokens as recomputing the whole prefix for each,
 * whatever the wave, and where a text ends. Draws against the softmax of their logits. */
#include "model_support.h"

#include "base/math64.h"
#include "model/generate.h"

#include <math.h>

static const char *const folders[] = {"tiny-llama",          "tiny-llama-fp32",
                                      "arch/gemma2",         "arch/gpt2",
                                      "arch/gpt2-gptq",      "arch/llama-linear-rope",
                                      "arch/mistral",        "arch/opt",
                                      "arch/opt-gptq",       "arch/opt-projected-post-norm",
                                      "arch/phi3",           "arch/phi3-gptq",
                                      "arch/qwen2",          "arch/qwen3-gptq",
                                      "gptq/v1-asym-g64-gqa"};

enum { NEW_MAX = 12, PROMPTS = 5 };
static const int64_t prompt_lengths[PROMPTS] = {7, 1, 3, 12, 4};

static size_t letter_of(const void *context, const uint8_t **bytes, int32_t id) {
    (void)context;
    static const uint8_t letters[] = "abcdefghijklmnopqrstuvwxyz";
    *bytes = letters + id % 24;
    return (size_t)(id % 3); /* none, one or two */
}

/* --- without a cache --- */

/* The most likely tokens, each from a forward pass over all before it. */
static void continue_slowly(int32_t *out, const test_model *model, const int32_t *prompt,
                            int64_t length, const qzo_perturbation *perturbation) {
    int32_t tokens[64];
    int64_t vocab = model->model->shape.vocab;
    memcpy(tokens, prompt, (size_t)length * sizeof *tokens);
    for (int64_t n = 0; n < NEW_MAX; n++) {
        float *logits = test_logits(model, tokens, length + n, perturbation);
        const float *last = logits + (length + n - 1) * vocab;
        int32_t best = 0;
        for (int32_t i = 1; i < vocab; i++)
            if (last[i] > last[best]) best = i;
        out[n] = tokens[length + n] = best;
        free(logits);
    }
}

/* --- with one --- */

typedef struct fixture {
    test_model model;
    qzo_forward *forward;
    qzo_generator *generator;
    int32_t prompts[PROMPTS][16], ids[PROMPTS][NEW_MAX];
    qzo_sequence sequences[PROMPTS];
} fixture;

static void open_fixture(fixture *f, const char *folder, int64_t sequences, int64_t rows) {
    *f = (fixture){0};
    test_model_open(&f->model, qzo_test_fixture(folder), 2);
    const qzo_generator_limits limits = {sequences, rows, NEW_MAX};
    const qzo_pack_limits packed = {
        .rows = rows, .gathers = sequences, .context = 12 + NEW_MAX - 1};
    assert_ok(qzo_forward_open(&f->forward, f->model.model, &packed));
    assert_ok(qzo_generator_open(&f->generator, f->forward, f->model.model, &limits));
    for (int p = 0; p < PROMPTS; p++) {
        for (int i = 0; i < 16; i++)
            f->prompts[p][i] = (int32_t)((i * 17 + p * 29 + 3) % f->model.model->shape.vocab);
        f->sequences[p] = (qzo_sequence){.prompt = f->prompts[p],
                                         .prompt_count = prompt_lengths[p],
                                         .number = (uint64_t)p,
                                         .ids = f->ids[p]};
    }
}

static void close_fixture(fixture *f) {
    qzo_generator_close(f->generator);
    qzo_forward_close(f->forward);
    test_model_close(&f->model);
}

static void run(fixture *f, const qzo_generation *settings, const qzo_perturbation *perturbation) {
    assert_ok(qzo_generate(f->generator, f->sequences, PROMPTS, settings, f->model.masters,
                           perturbation));
}

/* Every architecture, sliding windows included: those of the fixtures are shorter than the texts.
 * Two waves, since 16 rows have room for four of the prompts at most. */
static void a_cache_changes_no_token(void **state) {
    (void)state;
    const qzo_generation settings = {.new_max = NEW_MAX, .sampling = {.top_p = 1.0}};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        fixture f;
        open_fixture(&f, folders[i], PROMPTS, 16);
        const qzo_perturbation moved = {.seed = 5, .c = 1e-3f};
        for (int perturbed = 0; perturbed < 2; perturbed++) {
            const qzo_perturbation *perturbation = perturbed ? &moved : &test_no_perturbation;
            run(&f, &settings, perturbation);
            for (int p = 0; p < PROMPTS; p++) {
                int32_t expected[NEW_MAX];
                continue_slowly(expected, &f.model, f.prompts[p], prompt_lengths[p], perturbation);
                assert_int_equal(f.sequences[p].count, NEW_MAX);
                for (int n = 0; n < NEW_MAX; n++)
                    if (f.ids[p][n] != expected[n])
                        fail_msg("%s: prompt %d: new token %d is %d, without a cache %d",
                                 folders[i], p, n, f.ids[p][n], expected[n]);
            }
        }
        close_fixture(&f);
    }
}

/* Not the tokens alone: the logits, bit by bit. */
static void a_cache_changes_no_bit(void **state) {
    (void)state;
    enum { LENGTH = 20 };
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        test_model model;
        test_model_open(&model, qzo_test_fixture(folders[i]), 1);
        int64_t vocab = model.model->shape.vocab;
        int32_t tokens[LENGTH];
        for (int t = 0; t < LENGTH; t++) tokens[t] = (int32_t)((t * 13 + 1) % vocab);
        float *expected = test_logits(&model, tokens, LENGTH, &test_no_perturbation);
        float *actual = test_logits_cached(&model, tokens, LENGTH, &test_no_perturbation);
        for (int t = 0; t < LENGTH; t++)
            if (memcmp(actual + t * vocab, expected + t * vocab, (size_t)vocab * sizeof *actual) !=
                0)
                fail_msg("%s: logits after token %d differ", folders[i], t);
        free(expected);
        free(actual);
        test_model_close(&model);
    }
}

static void a_wave_changes_no_draw(void **state) {
    (void)state;
    const qzo_generation settings = {
        .new_max = NEW_MAX, .sampling = {.temperature = 1.5, .top_k = 20, .top_p = 0.9, .seed = 4}};
    fixture together, alone;
    open_fixture(&together, "tiny-llama", PROMPTS, 40);
    open_fixture(&alone, "tiny-llama", 1, 12);
    run(&together, &settings, &test_no_perturbation);
    run(&alone, &settings, &test_no_perturbation);
    assert_memory_equal(together.ids, alone.ids, sizeof together.ids);
    /* The number of a sequence chooses its draws, not its place. */
    together.sequences[0].number = 99;
    run(&together, &settings, &test_no_perturbation);
    assert_memory_not_equal(together.ids[0], alone.ids[0], sizeof together.ids[0]);
    assert_memory_equal(together.ids[1], alone.ids[1], 4 * sizeof together.ids[0]);
    close_fixture(&together);
    close_fixture(&alone);
}

/* --- where texts end --- */

/* Position of the first of `texts` in the text of the ids, and after how many ids it is there. */
static void find_end(const qzo_sequence *whole, const char *stop, int64_t *count, int64_t *cut) {
    char text[2 * NEW_MAX + 1] = "";
    *count = NEW_MAX;
    *cut = 0;
    for (int64_t n = 0; n < NEW_MAX; n++) {
        const uint8_t *bytes = NULL;
        size_t size_bytes = letter_of(NULL, &bytes, whole->ids[n]);
        strncat(text, (const char *)bytes, size_bytes);
        const char *at = strstr(text, stop);
        if (at == NULL) continue;
        *count = n + 1;
        *cut = (int64_t)strlen(at);
        return;
    }
}

static void a_text_ends_before_its_stop(void **state) {
    (void)state;
    fixture f, whole;
    qzo_generation settings = {.new_max = NEW_MAX, .sampling = {.top_p = 1.0}};
    open_fixture(&f, "arch/opt", PROMPTS, 40);
    open_fixture(&whole, "arch/opt", PROMPTS, 40);
    run(&whole, &settings, &test_no_perturbation);
    /* Every piece of the texts of up to four letters, most of them over several tokens. */
    int64_t ended = 0;
    for (int p = 0; p < PROMPTS; p++) {
        char text[2 * NEW_MAX + 1] = "", stop[5];
        for (int n = 0; n < NEW_MAX; n++) {
            const uint8_t *bytes = NULL;
            size_t size_bytes = letter_of(NULL, &bytes, whole.ids[p][n]);
            strncat(text, (const char *)bytes, size_bytes);
        }
        for (size_t at = 0; at < strlen(text); at++)
            for (size_t length = 1; length <= 4; length++) {
                int64_t count, cut;
                snprintf(stop, sizeof stop, "%.*s", (int)length, text + at);
                const char *const texts[] = {"#", stop};
                settings.ends = (qzo_ends){.texts = texts, .text_count = 2, .piece = letter_of};
                run(&f, &settings, &test_no_perturbation);
                find_end(&whole.sequences[p], stop, &count, &cut);
                assert_int_equal(f.sequences[p].count, count);
                assert_int_equal(f.sequences[p].cut_bytes, cut);
                assert_true(f.sequences[p].ended);
                assert_memory_equal(f.ids[p], whole.ids[p], (size_t)count * sizeof(int32_t));
                ended += count < NEW_MAX;
            }
    }
    assert_true(ended > 20);
    close_fixture(&f);
    close_fixture(&whole);
}

static void a_text_ends_with_its_last_token(void **state) {
    (void)state;
    fixture f;
    qzo_generation settings = {.new_max = NEW_MAX, .sampling = {.top_p = 1.0}};
    open_fixture(&f, "tiny-llama", PROMPTS, 40);
    run(&f, &settings, &test_no_perturbation);
    const int32_t ends[] = {-5, f.ids[2][3]};
    settings.ends = (qzo_ends){.ids = ends, .id_count = 2};
    run(&f, &settings, &test_no_perturbation);
    assert_true(f.sequences[2].ended && f.sequences[2].count <= 4);
    assert_int_equal(f.ids[2][f.sequences[2].count - 1], ends[1]);
    assert_int_equal(f.sequences[2].cut_bytes, 0);
    close_fixture(&f);
}

static void what_has_no_room_is_refused(void **state) {
    (void)state;
    fixture f;
    const qzo_generation settings = {.new_max = NEW_MAX, .sampling = {.top_p = 1.0}};
    open_fixture(&f, "tiny-llama", 2, 10);
    assert_fails(qzo_generate(f.generator, f.sequences, PROMPTS, &settings, f.model.masters,
                              &test_no_perturbation),
                 QZO_ERR_LIMIT, "a prompt of 12 tokens, room for 10");
    close_fixture(&f);
    open_fixture(&f, "tiny-llama", 2, 16);
    f.sequences[1].prompt_count = 13;
    assert_fails(qzo_generate(f.generator, f.sequences, PROMPTS, &settings, f.model.masters,
                              &test_no_perturbation),
                 QZO_ERR_LIMIT, "13 ids and 12 new ones need 24 positions, there are 23");
    close_fixture(&f);
}

/* --- draws --- */

enum { VOCAB = 12, DRAWS = 20000 };

/* Probabilities as transformers' processors give them one after the other: temperature, top-k,
 * top-p; by the definition, without a heap. */
static void expected_probabilities(double out[VOCAB], const float *logits,
                                   const qzo_sampling *sampling) {
    int order[VOCAB];
    double sum = 0.0, before = 0.0;
    for (int i = 0; i < VOCAB; i++) order[i] = i;
    for (int i = 0; i < VOCAB; i++)
        for (int j = i + 1; j < VOCAB; j++)
            if (logits[order[j]] > logits[order[i]] ||
                (logits[order[j]] == logits[order[i]] && order[j] < order[i])) {
                int swapped = order[i];
                order[i] = order[j];
                order[j] = swapped;
            }
    for (int i = 0; i < VOCAB; i++) {
        out[order[i]] = exp((double)logits[order[i]] / sampling->temperature);
        if (sampling->top_k > 0 && i >= sampling->top_k) out[order[i]] = 0.0;
        sum += out[order[i]];
    }
    for (int i = 0; i < VOCAB; i++) {
        double own = out[order[i]] / sum;
        if (before >= sampling->top_p) out[order[i]] = 0.0;
        before += own;
    }
    sum = 0.0;
    for (int i = 0; i < VOCAB; i++) sum += out[i];
    for (int i = 0; i < VOCAB; i++) out[i] /= sum;
}

static void draws_have_the_probabilities_of_the_softmax(void **state) {
    (void)state;
    const float logits[VOCAB] = {0.3f, 2.0f,  -1.0f, 1.2f, 1.2f,  -40.0f,
                                 0.0f, -0.5f, 2.1f,  0.9f, -2.0f, 1.2f};
    const qzo_sampling cases[] = {{1.0, 0, 1.0, 1},  {0.5, 0, 1.0, 2},  {2.0, 4, 1.0, 3},
                                  {1.0, 0, 0.6, 4},  {1.3, 7, 0.8, 5},  {1.0, 1, 1.0, 6},
                                  {1.0, 0, 1e-9, 7}, {1.0, 99, 1.0, 8}, {0.01, 0, 1.0, 9}};
    qzo_candidate scratch[VOCAB];
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        double expected[VOCAB];
        int64_t found[VOCAB] = {0};
        expected_probabilities(expected, logits, &cases[c]);
        for (uint32_t n = 0; n < DRAWS; n++)
            found[qzo_sample(logits, VOCAB, &cases[c], n / 100, n % 100, scratch)]++;
        for (int i = 0; i < VOCAB; i++) {
            /* 6 standard deviations of a binomial; exactly nothing where nothing may come */
            double deviation = sqrt(DRAWS * expected[i] * (1.0 - expected[i]));
            qzo_test_assert_close((double)found[i], DRAWS * expected[i], 6.0 * deviation,
                                  "6 deviations of a binomial");
        }
    }
}

static void without_a_temperature_the_lowest_of_the_best_wins(void **state) {
    (void)state;
    const float logits[VOCAB] = {0.0f, 3.0f, 3.0f};
    const qzo_sampling greedy = {.temperature = 0.0, .top_k = 3, .top_p = 0.5};
    assert_int_equal(qzo_sample(logits, VOCAB, &greedy, 1, 1, NULL), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cache_changes_no_token),
        cmocka_unit_test(a_cache_changes_no_bit),
        cmocka_unit_test(a_wave_changes_no_draw),
        cmocka_unit_test(a_text_ends_before_its_stop),
        cmocka_unit_test(a_text_ends_with_its_last_token),
        cmocka_unit_test(what_has_no_room_is_refused),
        cmocka_unit_test(draws_have_the_probabilities_of_the_softmax),
        cmocka_unit_test(without_a_temperature_the_lowest_of_the_best_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
