/* ctest: labels=gpu timeout=200 emulated
 * Twenty steps of every weight format and every architecture on a device beside the CPU: losses,
 * projected gradients, and the values at the end. Steps are relative to the initial values, whose
 * sizes differ a hundredfold between the formats. 77 (skipped) where there is no device. */
#include "model_support.h"

#include "backend/cuda_module.h"

#include <math.h>

/* docs/error-analysis-cuda.md, "Whole models" and "Trajectories". */
static const double HALF_LOG_PROB_ERROR = 0.02;
static const double ROUNDING_SHARE = 0.1;
static const double CHANCE = 1.5;

enum { STEPS = 20 };
static const float EPS = 0.05f;
static const double RATE = 1e-4;

static const struct {
    const char *path;
    bool is_dense; /* all of its weights train */
} models[] = {
    {"tiny-llama", false},
    {"gptq/v1-asym-2bit", false},
    {"gptq/v1-asym-3bit", false},
    {"bnb/nf4-nested", false},
    {"gptq/v1-asym-8bit-g16", false},
    {"bnb/fp4", false},
    {"aqlm/2x8", false},
    {"awq/g32", false},
    {"compressed/int4-g16-asym", false},
    {"compressed/int8-bytes", false},
    {"hqq/3bit-g16", false},
    {"gguf/tiny-llama-q4_0", false},
    {"gguf/qwen2-q8_0", false},
    {"gguf/llama-q4_k_m", false},
    {"arch/mistral", true},
    {"arch/qwen2", true},
    {"arch/qwen3-gptq", false},
    {"arch/phi3-gptq", false},
    {"arch/gemma2", true},
    {"arch/opt-gptq", false},
    {"arch/opt", true},
    {"arch/gpt2-gptq", false},
    {"arch/llama-linear-rope", true},
};
enum { MODEL_COUNT = sizeof models / sizeof *models };

static const qzo_training everything = {
    .groups = {[QZO_GROUP_SCALES] = {true, QZO_KEEP_AUTO, "", ""},
               [QZO_GROUP_UNQUANTIZED] = {true, QZO_KEEP_AUTO, "", ""},
               [QZO_GROUP_WEIGHTS] = {true, QZO_KEEP_AUTO, "", ""},
               [QZO_GROUP_LORA] = {false, QZO_KEEP_AUTO, "", ""}}};

typedef struct steps {
    double losses[STEPS][2], gradients[STEPS];
    float *initial, *values; /* (count) */
    int64_t count;
} steps;

/* Two options with a shared prefix, and a text of its own. */
static void make_pack(qzo_pack *out) {
    static const int32_t yes[] = {1, 5, 9, 17, 3, 8, 21, 22},
                         no[] = {1, 5, 9, 17, 3, 8, 25, 26, 27};
    static const int32_t text[] = {1, 30, 4, 2, 6, 11, 12, 13, 14, 15, 7, 19};
    const test_row question[] = {{yes, 8, 2}, {no, 9, 3}}, lone[] = {{text, 12, 6}};
    const qzo_pack_limits limits = {
        .rows = 60, .gathers = 30, .targets = 30, .options = 5, .context = 30};
    assert_ok(qzo_pack_create(out, &limits));
    test_pack_add(out, question, 2);
    test_pack_add(out, lone, 1);
    qzo_pack_finish(out);
}

static void open_model(test_model *out, const char *backend_name, int index) {
    const qzo_backend_options options = {.thread_count = 1};
    qzo_model_dir *dir = NULL;
    void *memory = NULL;
    assert_ok(qzo_backend_open(&out->backend, backend_name, &options));
    assert_ok(qzo_model_dir_open(&dir, qzo_test_fixture(models[index].path)));
    assert_ok(qzo_model_load_for(&out->model, dir, out->backend,
                                 models[index].is_dense ? &everything : &qzo_training_default));
    assert_true(out->model->value_count > 0);
    assert_ok(out->backend->ops->allocate(out->backend, &memory,
                                          (size_t)out->model->master_count * sizeof(float)));
    out->masters = memory;
}

static double loss_of(const test_model *model, qzo_forward *forward, const qzo_pack *pack,
                      const float *unit, uint64_t seed, float c) {
    double log_probs[30], sum = 0.0;
    const qzo_perturbation perturbation = {.seed = seed, .c = c, .unit = unit};
    assert_ok(qzo_forward_log_probs(forward, pack, model->masters, &perturbation, log_probs));
    for (int64_t i = 0; i < pack->target_count; i++) sum -= log_probs[i];
    return sum / (double)pack->target_count;
}

/* The caller frees out->initial and out->values. */
static void run_steps(steps *out, const char *backend_name, int index) {
    test_model model;
    qzo_pack pack;
    qzo_forward *forward = NULL;
    make_pack(&pack);
    open_model(&model, backend_name, index);
    const qzo_backend_ops *ops = model.backend->ops;
    size_t size_bytes = (size_t)model.model->master_count * sizeof(float);
    void *unit = NULL;
    out->count = model.model->value_count;
    out->initial = malloc(size_bytes);
    out->values = malloc(size_bytes);
    assert_ok(qzo_model_initial_values(model.model, out->initial));
    assert_ok(ops->upload(model.backend, model.masters, out->initial, size_bytes));
    assert_ok(ops->allocate(model.backend, &unit, size_bytes));
    assert_ok(ops->upload(model.backend, unit, out->initial, size_bytes));
    assert_ok(qzo_forward_open(&forward, model.model, &pack.limits));
    for (int step = 0; step < STEPS; step++) {
        uint64_t seed = 100 + (uint64_t)step, digest = 0;
        double *losses = out->losses[step];
        for (int sign = 0; sign < 2; sign++)
            losses[sign] = loss_of(&model, forward, &pack, unit, seed, sign == 0 ? EPS : -EPS);
        out->gradients[step] = (losses[0] - losses[1]) / (2.0 * (double)EPS);
        const qzo_gain gain = {seed, (float)(RATE * out->gradients[step])};
        const qzo_update_values values = {.masters = model.masters, .unit = unit};
        assert_ok(ops->update(model.backend, &values, model.model->spans, model.model->span_count,
                              &gain, 1, QZO_DIRECTIONS_GAUSSIAN, &digest));
    }
    assert_ok(ops->download(model.backend, out->values, model.masters, size_bytes));
    ops->release(model.backend, unit);
    qzo_forward_close(forward);
    qzo_pack_release(&pack);
    test_model_close(&model);
}

static void compare(const steps *cpu, const steps *cuda, const char *name) {
    double loss = 0.0, errors = 0.0, gradients = 0.0, drift = 0.0, moved = 0.0;
    assert_true(cpu->count == cuda->count);
    assert_memory_equal(cpu->initial, cuda->initial, (size_t)cpu->count * sizeof(float));
    for (int i = 0; i < STEPS; i++) {
        for (int sign = 0; sign < 2; sign++)
            loss = fmax(loss, fabs(cuda->losses[i][sign] - cpu->losses[i][sign]));
        errors += pow(cuda->gradients[i] - cpu->gradients[i], 2.0);
        gradients += pow(cpu->gradients[i], 2.0);
    }
    for (int64_t i = 0; i < cpu->count; i++) {
        drift += pow((double)cuda->values[i] - (double)cpu->values[i], 2.0);
        moved += pow((double)cpu->values[i] - (double)cpu->initial[i], 2.0);
    }
    double share = sqrt(errors / gradients), apart = sqrt(drift / moved);
    print_message("%s: %lld values; largest error of a loss %.3g; gradients of %.3g rms err by "
                  "%.2f %%, the way of the values by %.2f %%\n",
                  name, (long long)cpu->count, loss, sqrt(gradients / STEPS), 100.0 * share,
                  100.0 * apart);
    qzo_test_assert_close(loss, 0.0, HALF_LOG_PROB_ERROR, "HALF_LOG_PROB_ERROR");
    qzo_test_assert_close(share, 0.0, ROUNDING_SHARE, "ROUNDING_SHARE");
    qzo_test_assert_close(apart, 0.0, CHANCE * ROUNDING_SHARE, "CHANCE * ROUNDING_SHARE");
}

static void every_format_and_architecture_stays_beside_the_cpu(void **state) {
    (void)state;
    for (int i = 0; i < MODEL_COUNT; i++) {
        steps cpu, cuda;
        run_steps(&cpu, "cpu", i);
        run_steps(&cuda, "cuda", i);
        compare(&cpu, &cuda, models[i].path);
        free(cpu.initial), free(cpu.values), free(cuda.initial), free(cuda.values);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_and_architecture_stays_beside_the_cpu)};
    if (qzo_cuda_available() != QZO_OK) {
        print_message("skipped: %s\n", qzo_error_message());
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
