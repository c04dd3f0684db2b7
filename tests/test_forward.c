/* ctest: timeout=300
 * The forward pass against recorded logits of every kind of GPTQ file and of every architecture
 * (tests/fixtures, written by transformers, quantized weights decoded by NumPy), and against
 * itself: how rows are packed, which rows the last layer computes, threads and instruction sets
 * must not change a bit. */
#include "model_support.h"

#include "base/digest.h"

#include <math.h>
#include <stdio.h>

/* fp32 against fp32 of another library; docs/error-analysis.md, "Logits". */
static const double LOGIT_ERROR = 1e-4;
/* The same log-probability from the same logits, both summed in double or in short fp32 blocks. */
static const double LOG_PROB_ERROR = 2e-6;

/* The checksum: of the perturbed logits, see bits_are_those_that_the_arithmetic_promises. */
static const struct {
    const char *folder;
    uint64_t checksum;
} recorded[] = {
    {"tiny-llama", 0xecf6cd3d697696bdu},
    {"gptq/v1-asym-g64-gqa", 0x18bf3c1c9c98c3c6u},
    {"gptq/v1-asym-g32-desc-act", 0x4f3ddf37b9a734c6u},
    {"gptq/v2-asym-g32-sharded", 0x62bf8de9a5f07dcfu},
    {"gptq/v2-sym-g32-desc-act", 0xaafa47bb15628ab7u},
    {"gptq/v1-sym-g128", 0xde676d19cca4c77cu},
    {"gptq/v1-asym-whole-row-tied", 0x8c45163499a95e51u},
    {"gptq/v1-asym-2bit", 0x146f4d99f2279573u},
    {"gptq/v1-asym-3bit", 0xf04da7b417fba179u},
    {"gptq/v2-asym-3bit-desc-act", 0xaade175abe7d8f9eu},
    {"gptq/v1-asym-8bit-g16", 0x6c9495d99a487644u},
    {"bnb/nf4", 0xb703ebb7b66be189u},
    {"bnb/nf4-nested", 0x161abe52726f96a6u},
    {"bnb/fp4", 0x9e837895a143c504u},
    {"bnb/fp4-nested", 0xbafc390c240d98b9u},
    {"aqlm/2x8", 0xc7edcaefc0c1de86u},
    {"gguf/tiny-llama-q4_0", 0x05653a345ee5648eu},
    {"gguf/llama-q4_k_m", 0x56c51148fca4ae70u},
    {"gguf/qwen2-q8_0", 0x36c2bd57d877b316u},
    {"gguf/qwen3-q4_0", 0x346ac7b5f76a8694u},
    {"gguf/llama-f16", 0x957239d166d30598u},
    {"awq/g32", 0x20c001d222b03bcdu},
    {"awq/whole-row", 0xf9b328a52cafed73u},
    {"compressed/int4-g32", 0x8dd874bceb9ad687u},
    {"compressed/int4-g16-asym", 0x20ea70b2570ad102u},
    {"compressed/int4-channel-asym", 0x2b98881ff771004au},
    {"compressed/int3-g32-asym", 0x09e57e72d1c7a691u},
    {"compressed/int8-channel", 0xac42bb12a30b2efeu},
    {"compressed/int8-bytes", 0xd27f40fd8ac636f1u},
    {"compressed/int8-bytes-asym", 0xc9ed0b9e6575660eu},
    {"hqq/4bit-g32", 0x7e8cce018cc5124bu},
    {"hqq/8bit-g16", 0x4c0402c2e32ef47eu},
    {"hqq/3bit-g16", 0x932224ffa1c12f08u},
    {"hqq/2bit-g16", 0xac868fdf615aee1cu},
    {"hqq/1bit-g8", 0xf1396126fd62774bu},
    {"arch/llama3-rope-tied-biases", 0x4ab9f106d0b19fa8u},
    {"arch/llama-linear-rope", 0xf0325c2d8c3a4743u},
    {"arch/mistral", 0x157364a866e32131u},
    {"arch/qwen2", 0x013e858cef852ad1u},
    {"arch/qwen3-gptq", 0xb67f8ec7e06706c1u},
    {"arch/phi3", 0x3b50dadf70604e8cu},
    {"arch/phi3-gptq", 0x23e60a1ac041eb9au},
    {"arch/gemma2", 0x56ae2ca413f4c408u},
    {"arch/opt", 0x7b7b7bb8b1606572u},
    {"arch/opt-projected-post-norm", 0xeec2c3e33bde4cb7u},
    {"arch/opt-gptq", 0x5ff0e9726b143b14u},
    {"arch/opt-gelu", 0xa86545eecdc4644cu},
    {"arch/gpt2", 0x8f21c2b7f7f705e2u},
    {"arch/gpt2-gptq", 0x8da7166e4714cfd2u},
};
enum { RECORDED_COUNT = sizeof recorded / sizeof *recorded };

static void open_expected(qzo_safetensors **out, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/expected.safetensors", name);
    assert_ok(qzo_safetensors_open(out, qzo_test_fixture(path)));
}

/* Copies, since a tensor of a file need not be aligned. */
static void *tensor_copy(const qzo_safetensors *file, const char *name, qzo_dtype dtype,
                         int64_t *count) {
    const qzo_tensor_view *view = qzo_safetensors_find(file, name);
    if (view == NULL || view->dtype != dtype) fail_msg("no %s of that type", name);
    void *out = malloc(view->size_bytes);
    memcpy(out, view->data, view->size_bytes);
    *count = view->count;
    return out;
}

static void logits_are_those_recorded(void **state) {
    (void)state;
    for (int i = 0; i < RECORDED_COUNT; i++) {
        test_model model = {0};
        qzo_safetensors *file = NULL;
        int64_t id_count = 0, logit_count = 0;
        test_model_open(&model, qzo_test_fixture(recorded[i].folder), 1);
        open_expected(&file, recorded[i].folder);
        int32_t *ids = tensor_copy(file, "ids", QZO_DTYPE_I32, &id_count);
        float *expected = tensor_copy(file, "logits", QZO_DTYPE_F32, &logit_count);
        float *actual = test_logits(&model, ids, id_count, &test_no_perturbation);
        assert_int_equal(logit_count, id_count * model.model->shape.vocab);
        double worst = 0.0, largest = 0.0;
        for (int64_t j = 0; j < logit_count; j++) {
            double error = fabs((double)actual[j] - (double)expected[j]);
            if (!(error <= worst)) worst = error;
            largest = fmax(largest, fabs((double)expected[j]));
        }
        print_message("%s: logits up to %.3g, largest error %.3g\n", recorded[i].folder, largest,
                      worst);
        assert_true(largest > 0.1);
        qzo_test_assert_close(worst, 0.0, LOGIT_ERROR, "LOGIT_ERROR");
        free(actual);
        free(expected);
        free(ids);
        qzo_safetensors_close(file);
        test_model_close(&model);
    }
}

/* Questions on a vocabulary of at least 32: nested options, one option, equal options, nothing in
 * common, answers that begin in the shared part. */
static const int32_t prompt_yes[] = {1, 5, 9, 17, 3, 8, 21, 22};
static const int32_t prompt_no[] = {1, 5, 9, 17, 3, 8, 25, 26, 27};
static const int32_t prompt_yes_more[] = {1, 5, 9, 17, 3, 8, 21, 22, 30, 31, 4};
static const int32_t other[] = {7, 7, 7, 2};
static const int32_t pair[] = {6, 11};
static const int32_t lone[] = {1, 12, 13, 14, 15, 16, 18, 19, 20, 23, 24, 28, 29, 2, 1, 0, 3, 5, 8};

typedef struct test_question {
    int64_t count;
    test_row rows[4];
} test_question;

static const test_question questions[] = {
    {2, {{prompt_yes, 8, 2}, {prompt_no, 9, 3}}},
    {3, {{prompt_yes, 8, 1}, {prompt_yes_more, 11, 7}, {prompt_no, 9, 8}}},
    {2, {{other, 4, 1}, {prompt_yes, 8, 3}}},
    {1, {{lone, 19, 6}}},
    {2, {{pair, 2, 1}, {pair, 2, 1}}},
    {4, {{prompt_no, 9, 1}, {prompt_no, 8, 1}, {pair, 2, 1}, {lone, 12, 11}}},
};
enum { QUESTION_COUNT = sizeof questions / sizeof *questions, REPEATS_MAX = 40 };

static void create_pack(qzo_pack *out) {
    const qzo_pack_limits limits = {
        .rows = 4000, .gathers = 3000, .targets = 3000, .options = 700, .context = 60};
    assert_ok(qzo_pack_create(out, &limits));
}

/* Each row as a question of its own: what sharing must not change. */
static double *separate_log_probs(const test_model *model, const test_question *question,
                                  const qzo_perturbation *perturbation, int64_t *count) {
    double *out = calloc(256, sizeof *out);
    *count = 0;
    for (int64_t i = 0; i < question->count; i++) {
        qzo_pack pack;
        create_pack(&pack);
        test_pack_add(&pack, &question->rows[i], 1);
        qzo_pack_finish(&pack);
        double *part = test_log_probs(model, &pack, perturbation);
        memcpy(out + *count, part, (size_t)pack.target_count * sizeof *out);
        *count += pack.target_count;
        free(part);
        qzo_pack_release(&pack);
    }
    return out;
}

static void assert_same_bits(const double *actual, const double *expected, int64_t count,
                             const char *what) {
    for (int64_t i = 0; i < count; i++)
        if (memcmp(&actual[i], &expected[i], sizeof *actual) != 0)
            fail_msg("%s: log-probability %lld is %.17g, expected %.17g", what, (long long)i,
                     actual[i], expected[i]);
}

/* In the order given, and in the reverse order, with repeats so that logits come in chunks. */
static void check_packing(const test_model *model, const qzo_perturbation *perturbation,
                          bool reversed, int repeats) {
    qzo_pack pack;
    create_pack(&pack);
    for (int i = 0; i < repeats * QUESTION_COUNT; i++) {
        int place = reversed ? repeats * QUESTION_COUNT - 1 - i : i;
        const test_question *question = &questions[place % QUESTION_COUNT];
        test_pack_add(&pack, question->rows, question->count);
    }
    qzo_pack_finish(&pack);
    double *together = test_log_probs(model, &pack, perturbation);
    int64_t done = 0;
    double *expected[QUESTION_COUNT];
    int64_t counts[QUESTION_COUNT];
    for (int i = 0; i < QUESTION_COUNT; i++)
        expected[i] = separate_log_probs(model, &questions[i], perturbation, &counts[i]);
    for (int i = 0; i < repeats * QUESTION_COUNT; i++) {
        int place = (reversed ? repeats * QUESTION_COUNT - 1 - i : i) % QUESTION_COUNT;
        assert_same_bits(together + done, expected[place], counts[place], "shared prefix");
        done += counts[place];
    }
    assert_int_equal(done, pack.target_count);
    for (int i = 0; i < QUESTION_COUNT; i++) free(expected[i]);
    free(together);
    qzo_pack_release(&pack);
}

static void shared_prefixes_equal_separate_rows_in_any_order(void **state) {
    (void)state;
    const qzo_perturbation plus = {.seed = 11, .c = 1e-3f};
    for (int i = 0; i < RECORDED_COUNT; i++) {
        test_model model = {0};
        test_model_open(&model, qzo_test_fixture(recorded[i].folder), 2);
        check_packing(&model, &test_no_perturbation, false, 1);
        check_packing(&model, &plus, true, 1);
        test_model_close(&model);
    }
}

/* The questions after one of two heads that part in the middle, all of them twice, and one without
 * a head between them; so most rows stand in several questions, some questions in full. */
static void add_headed_questions(qzo_pack *pack) {
    enum { HEAD = 26, PART = 19, LENGTH_MAX = HEAD + 19 };
    static int32_t storage[2 * QUESTION_COUNT][4][LENGTH_MAX];
    for (int i = 0; i < 2 * QUESTION_COUNT; i++) {
        const test_question *question = &questions[i % QUESTION_COUNT];
        test_row rows[4];
        for (int64_t j = 0; j < question->count; j++) {
            const test_row *row = &question->rows[j];
            for (int p = 0; p < HEAD; p++)
                storage[i][j][p] = p < PART ? (3 * p + 1) % 32 : (5 * p + i % 2) % 32;
            memcpy(storage[i][j] + HEAD, row->tokens, (size_t)row->length * sizeof *row->tokens);
            rows[j] = (test_row){storage[i][j], HEAD + row->length, row->answer_tokens};
        }
        test_pack_add(pack, rows, question->count);
        if (i == QUESTION_COUNT) test_pack_add(pack, questions[3].rows, 1);
    }
    qzo_pack_finish(pack);
}

/* Windows of the fixtures are shorter than the head, and positions are learned in some. */
static void questions_that_begin_alike_equal_separate_ones(void **state) {
    (void)state;
    const qzo_perturbation plus = {.seed = 11, .c = 1e-3f};
    for (int i = 0; i < RECORDED_COUNT; i++) {
        test_model model = {0};
        double *results[2];
        int64_t rows[2], targets = 0;
        test_model_open(&model, qzo_test_fixture(recorded[i].folder), 2);
        for (int shares = 0; shares < 2; shares++) {
            qzo_pack pack;
            qzo_pack_limits limits = {
                .rows = 800, .gathers = 300, .targets = 300, .options = 40, .context = 60};
            if (shares) limits.places = limits.rows;
            assert_ok(qzo_pack_create(&pack, &limits));
            add_headed_questions(&pack);
            assert_int_equal(qzo_pack_is_shared(&pack), shares);
            results[shares] = test_log_probs(&model, &pack, &plus);
            rows[shares] = pack.row_count;
            targets = pack.target_count;
            qzo_pack_release(&pack);
        }
        assert_true(rows[1] * 2 < rows[0]);
        assert_same_bits(results[1], results[0], targets, recorded[i].folder);
        free(results[0]);
        free(results[1]);
        test_model_close(&model);
    }
}

static void logits_in_chunks_equal_those_of_one(void **state) {
    (void)state;
    test_model model = {0};
    test_model_open(&model, qzo_test_fixture("gptq/v1-asym-g64-gqa"), 2);
    check_packing(&model, &test_no_perturbation, false, REPEATS_MAX / 4);
    test_model_close(&model);
}

/* One asked row and all asked rows: the last layer then runs over one row or over all. */
static void rows_of_the_last_layer_change_nothing(void **state) {
    (void)state;
    for (int i = 0; i < RECORDED_COUNT; i++) {
        test_model model = {0};
        test_model_open(&model, qzo_test_fixture(recorded[i].folder), 1);
        double *results[2];
        int32_t answers[2] = {1, 18};
        for (int j = 0; j < 2; j++) {
            qzo_pack pack;
            create_pack(&pack);
            test_pack_add(&pack, &(test_row){lone, 19, answers[j]}, 1);
            qzo_pack_finish(&pack);
            results[j] = test_log_probs(&model, &pack, &test_no_perturbation);
            qzo_pack_release(&pack);
        }
        assert_same_bits(results[0], results[1] + 17, 1, recorded[i].folder);
        free(results[0]);
        free(results[1]);
        test_model_close(&model);
    }
}

static void log_probs_are_those_of_the_logits(void **state) {
    (void)state;
    test_model model = {0};
    test_model_open(&model, qzo_test_fixture("tiny-llama"), 1);
    int64_t vocab = model.model->shape.vocab, count = 0;
    float *logits = test_logits(&model, lone, 18, &test_no_perturbation);
    const test_question question = {1, {{lone, 19, 18}}};
    double *actual = separate_log_probs(&model, &question, &test_no_perturbation, &count);
    assert_int_equal(count, 18);
    for (int64_t i = 0; i < count; i++) {
        double sum = 0.0;
        for (int64_t j = 0; j < vocab; j++) sum += exp((double)logits[i * vocab + j]);
        qzo_test_assert_close(actual[i], (double)logits[i * vocab + lone[i + 1]] - log(sum),
                              LOG_PROB_ERROR, "LOG_PROB_ERROR");
    }
    free(actual);
    free(logits);
    test_model_close(&model);
}

/* What the forward pass reads while it decodes is fma(c, z, master) of the span's element; relative
 * to units, fma(c, fp32(unit z), master). The units here are the initial values with other signs.
 */
static void perturbation_equals_perturbed_masters(void **state) {
    (void)state;
    for (int i = 0; i < RECORDED_COUNT; i++) {
        for (int kind = 0; kind < 2 * QZO_DIRECTIONS_COUNT; kind++) {
            test_model model = {0};
            test_model_open(&model, qzo_test_fixture(recorded[i].folder), 1);
            int64_t value_count = model.model->value_count;
            float *unit = malloc((size_t)value_count * sizeof *unit);
            for (int64_t j = 0; j < value_count; j++)
                unit[j] = j % 3 == 0 ? -model.masters[j] : model.masters[j];
            const qzo_perturbation perturbation = {.seed = 99,
                                                   .c = kind % 2 == 0 ? -2e-3f : -0.1f,
                                                   .directions = (qzo_directions)(kind / 2),
                                                   .unit = kind % 2 == 0 ? NULL : unit};
            size_t bytes = (size_t)(18 * model.model->shape.vocab) * sizeof(float);
            float *clean = test_logits(&model, lone, 18, &test_no_perturbation);
            float *actual = test_logits(&model, lone, 18, &perturbation);
            for (int64_t s = 0; s < model.model->span_count; s++) {
                const qzo_span *span = &model.model->spans[s];
                float *z = malloc((size_t)span->count * sizeof *z);
                qzo_noise_fill(z, 99, span->tensor_id, 0, span->count, perturbation.directions);
                for (int64_t j = 0; j < span->count; j++) {
                    float *master = &model.masters[span->offset + j];
                    if (perturbation.unit != NULL) z[j] *= unit[span->offset + j];
                    *master = fmaf(perturbation.c, z[j], *master);
                }
                free(z);
            }
            float *expected = test_logits(&model, lone, 18, &test_no_perturbation);
            assert_memory_equal(actual, expected, bytes);
            if (model.model->value_count > 0) assert_int_not_equal(memcmp(actual, clean, bytes), 0);
            free(clean);
            free(actual);
            free(expected);
            free(unit);
            test_model_close(&model);
        }
    }
}

static void threads_and_instruction_sets_change_nothing(void **state) {
    (void)state;
    const qzo_perturbation perturbations[] = {
        {.seed = 1},
        {.seed = 1, .c = 1e-3f},
        {.seed = 1, .c = -1e-3f},
        {.seed = 1, .c = 1e-3f, .directions = QZO_DIRECTIONS_RADEMACHER}};
    for (int i = 0; i < RECORDED_COUNT; i++)
        for (size_t p = 0; p < sizeof perturbations / sizeof *perturbations; p++) {
            float *expected = NULL;
            for (int level = QZO_CPU_BASELINE; level <= QZO_CPU_AVX512; level++)
                for (int threads = 1; threads <= 3; threads++) {
                    test_model model = {0};
                    qzo_cpu_limit((qzo_cpu_level)level);
                    test_model_open(&model, qzo_test_fixture(recorded[i].folder), threads);
                    size_t bytes = (size_t)(18 * model.model->shape.vocab) * sizeof(float);
                    float *actual = test_logits(&model, lone, 18, &perturbations[p]);
                    test_model_close(&model);
                    qzo_cpu_limit(QZO_CPU_WIDEST);
                    if (expected == NULL) {
                        expected = actual;
                        continue;
                    }
                    if (memcmp(actual, expected, bytes) != 0)
                        fail_msg("%s: %s with %d threads gives other logits", recorded[i].folder,
                                 qzo_cpu_name((qzo_cpu_level)level), threads);
                    free(actual);
                }
            free(expected);
        }
}

/* "cpu fp32 2" in a journal's header promises these bits from every compiler, C library and
 * processor. Where they change for a good reason, so must that text (backend_cpu.c). */
static void bits_are_those_that_the_arithmetic_promises(void **state) {
    (void)state;
    const qzo_perturbation perturbation = {.seed = 20250513, .c = 1e-3f};
    int differing = 0;
    for (int i = 0; i < RECORDED_COUNT; i++) {
        test_model model = {0};
        test_model_open(&model, qzo_test_fixture(recorded[i].folder), 1);
        assert_string_equal(model.backend->ops->arithmetic(model.backend), "cpu fp32 2");
        size_t bytes = (size_t)(18 * model.model->shape.vocab) * sizeof(float);
        float *logits = test_logits(&model, lone, 18, &perturbation);
        uint64_t checksum = qzo_checksum(logits, bytes, 0);
        if (checksum != recorded[i].checksum) {
            print_error("%s: the logits' checksum is 0x%016llxu, written down is 0x%016llxu\n",
                        recorded[i].folder, (unsigned long long)checksum,
                        (unsigned long long)recorded[i].checksum);
            differing++;
        }
        free(logits);
        test_model_close(&model);
    }
    assert_int_equal(differing, 0);
}

static void sequence_beyond_the_positions_is_refused(void **state) {
    (void)state;
    test_model model = {0};
    qzo_forward *forward = NULL;
    test_model_open(&model, qzo_test_fixture("tiny-llama"), 1);
    const qzo_pack_limits limits = {
        .rows = 65, .gathers = 1, .targets = 1, .options = 1, .context = 65};
    assert_fails(qzo_forward_open(&forward, model.model, &limits), QZO_ERR_LIMIT,
                 "a sequence of 65 tokens, the model has 64 positions");
    test_model_close(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_recorded),
        cmocka_unit_test(shared_prefixes_equal_separate_rows_in_any_order),
        cmocka_unit_test(questions_that_begin_alike_equal_separate_ones),
        cmocka_unit_test(logits_in_chunks_equal_those_of_one),
        cmocka_unit_test(rows_of_the_last_layer_change_nothing),
        cmocka_unit_test(log_probs_are_those_of_the_logits),
        cmocka_unit_test(perturbation_equals_perturbed_masters),
        cmocka_unit_test(threads_and_instruction_sets_change_nothing),
        cmocka_unit_test(bits_are_those_that_the_arithmetic_promises),
        cmocka_unit_test(sequence_beyond_the_positions_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
