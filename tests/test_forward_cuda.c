/* ctest: labels=gpu timeout=120 emulated
 * Whole tiny models of every kind of GPTQ file and architecture on a device, against the same
 * models on the CPU: logits of one sequence, at once and over a cache, log-probabilities of packed
 * options, clean and perturbed, with adapters too, outputs of diffusion transformers, and that
 * twice the same work gives the same bits. 77 (skipped) where there is no device. */
#include "backend_support.h"
#include "mmdit_support.h"

#include "backend/cuda_module.h"

#include <math.h>

/* 16-bit activations and weights against fp32; docs/error-analysis-cuda.md, "Whole models". bf16
 * has three bits less. */
static const double HALF_LOGIT_ERROR = 0.02;
static const double HALF_LOG_PROB_ERROR = 0.02;
static const struct {
    const char *name;
    double factor;
} devices[] = {{"cuda", 1.0}, {"cuda-bf16", 8.0}};
static int device; /* of these */

static const char *const models[] = {
    "tiny-llama",
    "tiny-llama-fp32",
    "gptq/v1-asym-g64-gqa",
    "gptq/v1-asym-g32-desc-act",
    "gptq/v2-asym-g32-sharded",
    "gptq/v2-sym-g32-desc-act",
    "gptq/v1-sym-g128",
    "gptq/v1-asym-whole-row-tied",
    "arch/llama3-rope-tied-biases",
    "arch/llama-linear-rope",
    "arch/mistral",
    "arch/qwen2",
    "arch/qwen3-gptq",
    "arch/phi3",
    "arch/phi3-gptq",
    "arch/gemma2",
    "arch/opt",
    "arch/opt-projected-post-norm",
    "arch/opt-gptq",
    "arch/opt-gelu",
    "arch/gpt2",
    "arch/gpt2-gptq",
    "gptq/v1-asym-2bit",
    "gptq/v1-asym-3bit",
    "gptq/v2-asym-3bit-desc-act",
    "gptq/v1-asym-8bit-g16",
    "gguf/tiny-llama-q4_0",
    "gguf/llama-q4_k_m",
    "gguf/qwen2-q8_0",
    "gguf/qwen3-q4_0",
    "gguf/llama-f16",
    "bnb/nf4",
    "bnb/nf4-nested",
    "bnb/fp4",
    "bnb/fp4-nested",
    "aqlm/2x8",
    "awq/g32",
    "awq/whole-row",
    "compressed/int4-g32",
    "compressed/int4-g16-asym",
    "compressed/int4-channel-asym",
    "compressed/int3-g32-asym",
    "compressed/int8-channel",
    "compressed/int8-bytes",
    "compressed/int8-bytes-asym",
    "hqq/4bit-g32",
    "hqq/8bit-g16",
    "hqq/3bit-g16",
    "hqq/2bit-g16",
    "hqq/1bit-g8",
};
enum { MODEL_COUNT = sizeof models / sizeof *models };

static const qzo_perturbation perturbations[] = {
    {.seed = 1, .c = 0.0f}, {.seed = 5, .c = 1e-3f}, {.seed = 5, .c = -1e-3f}};
enum { PERTURBATION_COUNT = 3 };

/* test_model_open with the masters in a device's memory. */
static void open_on_device(test_model *out, const char *path) {
    const qzo_backend_options options = {.thread_count = 1};
    qzo_model_dir *dir = NULL;
    void *memory = NULL;
    assert_ok(qzo_backend_open(&out->backend, devices[device].name, &options));
    assert_ok(qzo_model_dir_open(&dir, path));
    assert_ok(qzo_model_load(&out->model, dir, out->backend));
    size_t size_bytes = (size_t)out->model->master_count * sizeof(float);
    float *values = malloc(size_bytes + 1);
    assert_ok(qzo_model_initial_values(out->model, values));
    assert_ok(out->backend->ops->allocate(out->backend, &memory, size_bytes));
    assert_ok(out->backend->ops->upload(out->backend, memory, values, size_bytes));
    out->masters = memory;
    free(values);
}

static const int32_t tokens[] = {1, 5, 9, 17, 3, 8, 21, 22, 30, 31, 4, 2, 6, 11, 12, 13, 14, 15};
enum { TOKEN_COUNT = sizeof tokens / sizeof *tokens };

/* Two questions, one of them with a shared prefix, and one that begins as another does. */
static void make_pack(qzo_pack *out) {
    static const int32_t yes[] = {1, 5, 9, 17, 3, 8, 21, 22},
                         no[] = {1, 5, 9, 17, 3, 8, 25, 26, 27};
    const test_row question[] = {{yes, 8, 2}, {no, 9, 3}}, lone[] = {{tokens, TOKEN_COUNT, 6}};
    static int32_t longer[TOKEN_COUNT + 3];
    const test_row alike[] = {{longer, TOKEN_COUNT + 3, 2}};
    const qzo_pack_limits limits = {
        .rows = 200, .gathers = 100, .targets = 100, .options = 20, .context = 60, .places = 200};
    for (int i = 0; i < TOKEN_COUNT + 3; i++)
        longer[i] = i < TOKEN_COUNT ? tokens[i] : 5 + 4 * i % 9;
    assert_ok(qzo_pack_create(out, &limits));
    test_pack_add(out, question, 2);
    test_pack_add(out, lone, 1);
    test_pack_add(out, question, 1);
    test_pack_add(out, alike, 1);
    qzo_pack_finish(out);
    assert_true(qzo_pack_is_shared(out));
}

static double largest_difference(const double *a, const double *b, int64_t count) {
    double worst = 0.0;
    for (int64_t i = 0; i < count; i++)
        if (!(fabs(a[i] - b[i]) <= worst)) worst = fabs(a[i] - b[i]);
    return worst;
}

static double check_log_probs(const test_model *cpu, const test_model *cuda,
                              const qzo_perturbation *perturbation) {
    qzo_pack pack;
    make_pack(&pack);
    double *expected = test_log_probs(cpu, &pack, perturbation);
    double *actual = test_log_probs(cuda, &pack, perturbation);
    double *again = test_log_probs(cuda, &pack, perturbation);
    assert_memory_equal(actual, again, (size_t)pack.target_count * sizeof *actual);
    double worst = largest_difference(actual, expected, pack.target_count);
    qzo_test_assert_close(worst, 0.0, devices[device].factor * HALF_LOG_PROB_ERROR,
                          "HALF_LOG_PROB_ERROR");
    free(expected), free(actual), free(again);
    qzo_pack_release(&pack);
    return worst;
}

static double check_logits(const test_model *cpu, const test_model *cuda,
                           const qzo_perturbation *perturbation) {
    int64_t count = TOKEN_COUNT * cpu->model->shape.vocab;
    float *expected = test_logits(cpu, tokens, TOKEN_COUNT, perturbation);
    float *actual = test_logits(cuda, tokens, TOKEN_COUNT, perturbation);
    float *cached = test_logits_cached(cuda, tokens, TOKEN_COUNT, perturbation);
    double worst = 0.0;
    for (int64_t i = 0; i < count; i++) {
        double error = fmax(fabs((double)actual[i] - (double)expected[i]),
                            fabs((double)cached[i] - (double)expected[i]));
        if (!(error <= worst)) worst = error;
    }
    qzo_test_assert_close(worst, 0.0, devices[device].factor * HALF_LOGIT_ERROR,
                          "HALF_LOGIT_ERROR");
    free(expected), free(actual), free(cached);
    return worst;
}

static void models_agree_with_the_cpu(void **state) {
    (void)state;
    for (int i = 0; i < MODEL_COUNT; i++) {
        test_model cpu = {0}, cuda = {0};
        double logits = 0.0, log_probs = 0.0;
        test_model_open(&cpu, qzo_test_fixture(models[i]), 1);
        open_on_device(&cuda, qzo_test_fixture(models[i]));
        for (int p = 0; p < PERTURBATION_COUNT; p++) {
            qzo_perturbation moved = perturbations[p];
            /* Their scales are a hundred times smaller than others', and so are their steps. */
            if (strstr(models[i], "q4_k") != NULL) moved.c *= 0.01f;
            logits = fmax(logits, check_logits(&cpu, &cuda, &moved));
            log_probs = fmax(log_probs, check_log_probs(&cpu, &cuda, &moved));
        }
        print_message("%s: largest error of logits %.3g, of log-probabilities %.3g\n", models[i],
                      logits, log_probs);
        test_model_close(&cuda);
        test_model_close(&cpu);
    }
}

/* --- adapters --- */

enum { ADAPTED_TARGETS = 40 };

/* Log-probabilities under adapters whose values every backend gets alike; B times `up`. */
static int64_t adapted_log_probs(double out[ADAPTED_TARGETS], const char *backend_name,
                                 const char *path, const qzo_adapter_settings *settings, float up,
                                 const qzo_perturbation *perturbation) {
    const qzo_backend_options options = {.thread_count = 1};
    qzo_backend *backend = NULL;
    qzo_model_dir *dir = NULL;
    qzo_model *model = NULL;
    qzo_adapters *adapters = NULL;
    qzo_forward *forward = NULL;
    qzo_pack pack;
    void *masters = NULL;
    assert_ok(qzo_backend_open(&backend, backend_name, &options));
    assert_ok(qzo_model_dir_open(&dir, path));
    assert_ok(qzo_model_load(&model, dir, backend));
    assert_ok(qzo_adapters_open(&adapters, model, settings));
    int64_t count = model->master_count + adapters->value_count;
    float *values = test_normals(61, count, 1.0f);
    assert_ok(qzo_model_initial_values(model, values));
    for (int64_t s = 0; s < adapters->span_count; s++) {
        const qzo_span *span = &adapters->spans[s];
        float size = strstr(span->name, "lora_A") != NULL ? 0.1f : up;
        for (int64_t i = 0; i < span->count; i++) values[span->offset + i] *= size;
    }
    assert_ok(backend->ops->allocate(backend, &masters, (size_t)count * sizeof *values));
    assert_ok(backend->ops->upload(backend, masters, values, (size_t)count * sizeof *values));
    make_pack(&pack);
    assert_in_range(pack.target_count, 1, ADAPTED_TARGETS);
    assert_ok(qzo_forward_open_adapted(&forward, model, adapters, &pack.limits));
    assert_ok(qzo_forward_log_probs(forward, &pack, masters, perturbation, out));
    int64_t targets = pack.target_count;
    qzo_forward_close(forward);
    qzo_pack_release(&pack);
    backend->ops->release(backend, masters);
    free(values);
    qzo_adapters_close(adapters);
    qzo_model_free(model);
    qzo_backend_close(backend);
    return targets;
}

static void adapters_agree_with_the_cpu(void **state) {
    (void)state;
    static const struct {
        const char *model;
        qzo_adapter_settings settings;
    } cases[] = {{"tiny-llama", {8, 16.0, ""}},
                 {"arch/phi3", {3, 4.0, "all-linear"}},
                 {"arch/gpt2", {3, 4.0, "all-linear"}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double expected[ADAPTED_TARGETS], actual[ADAPTED_TARGETS], worst = 0.0;
        const qzo_adapter_settings *settings = &cases[i].settings;
        const char *path = qzo_test_fixture(cases[i].model);
        int64_t count = 0;
        for (int p = 0; p < 2; p++) {
            count = adapted_log_probs(expected, "cpu", path, settings, 0.1f, &perturbations[p]);
            adapted_log_probs(actual, devices[device].name, path, settings, 0.1f,
                              &perturbations[p]);
            worst = fmax(worst, largest_difference(actual, expected, count));
        }
        adapted_log_probs(actual, "cpu", path, settings, 0.0f, &perturbations[1]);
        double change = largest_difference(actual, expected, count);
        print_message("%s: largest error %.3g, adapters change %.3g\n", cases[i].model, worst,
                      change);
        qzo_test_assert_close(worst, 0.0, devices[device].factor * HALF_LOG_PROB_ERROR,
                              "HALF_LOG_PROB_ERROR");
        assert_true(change > 5.0 * HALF_LOG_PROB_ERROR);
    }
}

/* As logits: outputs of order 1 to 4, from fewer products. */
static void images_agree_with_the_cpu(void **state) {
    (void)state;
    for (int i = 0; i < TEST_IMAGE_MODELS; i++) {
        enum { COUNT = EXAMPLES * LATENT };
        float expected[COUNT], actual[COUNT], again[COUNT];
        test_model cpu = {0}, cuda = {0};
        test_images data;
        double worst = 0.0;
        test_images_load(&data, test_image_models[i]);
        test_model_open(&cpu, qzo_test_fixture(test_image_models[i]), 1);
        open_on_device(&cuda, qzo_test_fixture(test_image_models[i]));
        test_images_run(expected, &cpu, &data, 0, EXAMPLES, &test_no_perturbation);
        test_images_run(actual, &cuda, &data, 0, EXAMPLES, &test_no_perturbation);
        test_images_run(again, &cuda, &data, 0, EXAMPLES, &test_no_perturbation);
        assert_memory_equal(actual, again, sizeof actual);
        for (int j = 0; j < COUNT; j++) {
            double error = fabs((double)actual[j] - (double)expected[j]);
            if (!(error <= worst)) worst = error;
        }
        print_message("%s: largest error of outputs %.3g\n", test_image_models[i], worst);
        qzo_test_assert_close(worst, 0.0, devices[device].factor * HALF_LOGIT_ERROR,
                              "HALF_LOGIT_ERROR");
        test_model_close(&cuda);
        test_model_close(&cpu);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_agree_with_the_cpu),
        cmocka_unit_test(models_agree_with_the_cpu),
        cmocka_unit_test(adapters_agree_with_the_cpu),
    };
    if (qzo_cuda_available() != QZO_OK) {
        print_message("skipped: %s\n", qzo_error_message());
        return 77;
    }
    for (device = 0; device < 2; device++)
        if (cmocka_run_group_tests_name(devices[device].name, tests, NULL, NULL) != 0) return 1;
    return 0;
}
