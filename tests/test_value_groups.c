/* ctest: timeout=120
 * Groups of trainable values in the forward pass: what a pass reads under a perturbation is, bit
 * for bit, what it reads from masters that were perturbed before; and the loss changes along each
 * tensor as autograd says (tools/record_group_gradients.py). Limits: docs/error-analysis.md,
 * "Slopes of groups". */
#include "model_support.h"

#include "base/update.h"
#include "task/score.h"
#include "task/task_file.h"

#include <math.h>

enum { BATCH = 16, TARGETS_MAX = 200, SPANS_MAX = 40 };

/* A mean loss of 16 examples, fp32 forward against float64; see test_gradients.c. */
static const double LOSS_ERROR = 4e-7;
/* The step of a difference quotient: 1/50 of a norm's gain, a fifth of a linear layer's weights. */
static const double STEP = 0.02;

static const qzo_training quantized = {
    .groups = {{true, QZO_KEEP_AUTO, "", ""}, {true, QZO_KEEP_AUTO, "", ""}, {.include = ""}}};
static const qzo_training unquantized = {.groups = {{.include = "", .exclude = ""},
                                                    {true, QZO_KEEP_AUTO, "", ""},
                                                    {true, QZO_KEEP_AUTO, "", ""}}};
/* Scales of q and v alone train, the others lie behind. */
static const qzo_training masked = {.groups = {{true, QZO_KEEP_AUTO, "q_proj+*.v_proj.*", ""},
                                               {true, QZO_KEEP_FREE, "", "embed_tokens+lm_head"},
                                               {.include = ""}}};

/* Adapters of q and v; of all linear layers, with an odd rank and another factor. */
static const qzo_adapter_settings of_q_and_v = {.rank = 8, .alpha = 16.0, .targets = ""};
static const qzo_adapter_settings of_all = {.rank = 3, .alpha = 1.5, .targets = "all-linear"};

typedef struct fixture {
    test_model model;
    qzo_adapters *adapters;
    qzo_span spans[SPANS_MAX]; /* of the model and the adapters */
    int64_t span_count;
    qzo_task *task;
    qzo_forward *forward;
    qzo_pack pack;
} fixture;

static fixture f;

static double direction(int64_t i) {
    return (double)((uint64_t)i * 2654435761u & 0xffffffffu) / 0x1p31 - 1.0;
}

/* The values that record_group_gradients.py gives to A and B. */
static void fill_adapters(void) {
    for (int64_t s = 0; s < f.adapters->span_count; s++) {
        const qzo_span *span = &f.adapters->spans[s];
        double size = strstr(span->name, "lora_A") != NULL ? 0.5 : 0.2;
        for (int64_t i = 0; i < span->count; i++)
            f.model.masters[span->offset + i] = (float)(size * direction(7 * i + 3));
    }
}

static void set_initial_values(void) {
    assert_ok(qzo_model_initial_values(f.model.model, f.model.masters));
    if (f.adapters != NULL) fill_adapters();
}

static void open_values(const qzo_adapter_settings *adapters) {
    const qzo_model *model = f.model.model;
    void *memory = NULL;
    f.adapters = NULL;
    f.span_count = 0;
    if (adapters != NULL) assert_ok(qzo_adapters_open(&f.adapters, model, adapters));
    int64_t added = f.adapters != NULL ? f.adapters->span_count : 0;
    int64_t values = model->master_count + (f.adapters != NULL ? f.adapters->value_count : 0);
    assert_in_range(model->span_count + added, 0, SPANS_MAX);
    for (int64_t s = 0; s < model->span_count; s++) f.spans[f.span_count++] = model->spans[s];
    for (int64_t s = 0; s < added; s++) f.spans[f.span_count++] = f.adapters->spans[s];
    assert_ok(
        f.model.backend->ops->allocate(f.model.backend, &memory, (size_t)values * sizeof(float)));
    f.model.masters = memory;
    set_initial_values();
}

static void open_model(const char *name, const qzo_training *training,
                       const qzo_adapter_settings *adapters) {
    const qzo_backend_options options = {.thread_count = 2};
    const qzo_pack_limits limits = {
        .rows = 2000, .gathers = 200, .targets = TARGETS_MAX, .options = 2 * BATCH, .context = 60};
    qzo_model_dir *dir = NULL;
    assert_ok(qzo_backend_open(&f.model.backend, "cpu", &options));
    assert_ok(qzo_model_dir_open(&dir, qzo_test_fixture(name)));
    assert_ok(qzo_model_load_for(&f.model.model, dir, f.model.backend, training));
    open_values(adapters);
    assert_ok(qzo_task_open(&f.task, qzo_test_fixture("tiny-task.qzt")));
    assert_ok(qzo_pack_create(&f.pack, &limits));
    assert_ok(qzo_forward_open_adapted(&f.forward, f.model.model, f.adapters, &limits));
    const qzo_split *split = &f.task->splits[QZO_SPLIT_TRAIN];
    for (int i = 0; i < BATCH; i++) {
        test_row rows[2];
        for (int j = 0; j < 2; j++) {
            int64_t option = split->option_begin[i] + j;
            rows[j] = (test_row){split->tokens + split->token_begin[option],
                                 split->token_begin[option + 1] - split->token_begin[option],
                                 split->answer_tokens[option]};
        }
        test_pack_add(&f.pack, rows, 2);
    }
    qzo_pack_finish(&f.pack);
}

static void close_model(void) {
    qzo_forward_close(f.forward);
    qzo_pack_release(&f.pack);
    qzo_task_close(f.task);
    qzo_adapters_close(f.adapters);
    test_model_close(&f.model);
}

static double loss_of(const double *log_probs) {
    const qzo_split *split = &f.task->splits[QZO_SPLIT_TRAIN];
    double sum = 0.0;
    for (int i = 0; i < BATCH; i++) {
        double sums[2] = {0.0, 0.0};
        for (int j = 0; j < 2; j++)
            for (int64_t t = f.pack.option_target_begin[2 * i + j];
                 t < f.pack.option_target_begin[2 * i + j + 1]; t++)
                sums[j] += log_probs[t];
        const qzo_scored_example example = {.option_count = 2,
                                            .log_prob_sum = sums,
                                            .answer_tokens =
                                                split->answer_tokens + split->option_begin[i],
                                            .gold = split->gold[i]};
        sum += qzo_loss_find("classification")->sum(&example);
    }
    return sum / BATCH;
}

static double run(double log_probs[TARGETS_MAX], const qzo_perturbation *perturbation) {
    assert_ok(qzo_forward_log_probs(f.forward, &f.pack, f.model.masters, perturbation, log_probs));
    return loss_of(log_probs);
}

static void perturb_masters(const qzo_perturbation *perturbation) {
    for (int64_t s = 0; s < f.span_count; s++) {
        const qzo_span *span = &f.spans[s];
        float *values = f.model.masters + span->offset;
        float *z = malloc((size_t)span->count * sizeof *z);
        float c = span->group->is_active ? perturbation->c * span->group->eps_factor : 0.0f;
        qzo_noise_fill(z, perturbation->seed, span->tensor_id, 0, span->count,
                       perturbation->directions);
        for (int64_t i = 0; i < span->count; i++) values[i] = qzo_perturbed(values[i], c, z[i]);
        free(z);
    }
}

static void check_reading(const char *name, const qzo_training *training,
                          const qzo_adapter_settings *adapters) {
    double under[TARGETS_MAX], before[TARGETS_MAX];
    const qzo_perturbation noise = {.seed = 77, .c = 2e-3f};
    open_model(name, training, adapters);
    for (int at_rest = -1; at_rest < QZO_GROUP_COUNT; at_rest++) {
        qzo_value_group *groups = f.model.model->groups;
        for (int kind = 0; kind < QZO_GROUP_COUNT; kind++)
            groups[kind] = (qzo_value_group){(float)(1 << kind), 1.0f, kind != at_rest, 0, 0};
        double loss = run(under, &noise);
        perturb_masters(&noise);
        double expected = run(before, &test_no_perturbation);
        set_initial_values();
        assert_memory_equal(under, before, (size_t)f.pack.target_count * sizeof *under);
        assert_true(loss == expected);
    }
    close_model();
}

/* Positions, biases, layer norms, projections, gains that lack 1. */
static void check_logits(const char *name) {
    enum { TOKENS = 8 };
    static const int32_t tokens[TOKENS] = {1, 2, 3, 5, 8, 13, 4, 1};
    const qzo_perturbation noise = {.seed = 78, .c = 2e-3f};
    const qzo_backend_options options = {.thread_count = 1};
    qzo_model_dir *dir = NULL;
    assert_ok(qzo_backend_open(&f.model.backend, "cpu", &options));
    assert_ok(qzo_model_dir_open(&dir, qzo_test_fixture(name)));
    assert_ok(qzo_model_load_for(&f.model.model, dir, f.model.backend, &unquantized));
    int64_t vocab = f.model.model->shape.vocab;
    open_values(NULL);
    float *clean = test_logits(&f.model, tokens, TOKENS, &test_no_perturbation);
    float *under = test_logits(&f.model, tokens, TOKENS, &noise);
    perturb_masters(&noise);
    float *before = test_logits(&f.model, tokens, TOKENS, &test_no_perturbation);
    assert_memory_equal(under, before, (size_t)(TOKENS * vocab) * sizeof *under);
    assert_true(memcmp(under, clean, (size_t)(TOKENS * vocab) * sizeof *under) != 0);
    free(clean), free(under), free(before);
    test_model_close(&f.model);
}

static void a_perturbed_pass_reads_perturbed_masters(void **state) {
    (void)state;
    check_reading("tiny-llama", &quantized, NULL);
    check_reading("tiny-llama", &masked, NULL);
    check_reading("tiny-llama", &masked, &of_all);
    check_reading("tiny-llama-fp32", &unquantized, NULL);
    check_reading("tiny-llama-fp32", &unquantized, &of_q_and_v);
    check_logits("arch/opt");
    check_logits("arch/gpt2");
    check_logits("arch/gemma2");
    check_logits("arch/opt-projected-post-norm");
}

/* What does not train is not in a span, and what is masked reads what it always read. */
static void masks_choose_spans_by_name(void **state) {
    (void)state;
    double with[TARGETS_MAX], without[TARGETS_MAX];
    open_model("tiny-llama", &masked, NULL);
    run(with, &test_no_perturbation);
    const qzo_model *model = f.model.model;
    int scales = 0;
    for (int64_t s = 0; s < model->span_count; s++) {
        const char *name = model->spans[s].name;
        bool is_scales = strstr(name, ".scales") != NULL;
        scales += is_scales;
        assert_null(strstr(name, "embed_tokens"));
        assert_null(strstr(name, "lm_head"));
        if (is_scales)
            assert_true(strstr(name, "q_proj") != NULL || strstr(name, "v_proj") != NULL);
    }
    assert_int_equal(scales, 4);
    assert_int_equal(model->span_count, 4 + 5); /* and the norms */
    assert_true(model->master_count > model->value_count);
    close_model();
    open_model("tiny-llama", &qzo_training_default, NULL);
    run(without, &test_no_perturbation);
    assert_memory_equal(with, without, (size_t)f.pack.target_count * sizeof *with);
    close_model();
}

static void names_are_matched_by_parts_or_whole(void **state) {
    (void)state;
    static const struct {
        const char *pattern;
        bool matches;
    } cases[] = {
        {"q_proj", true},
        {"proj", false},
        {"q_proj.scales", true},
        {"model.layers.1", true},
        {"layers.1.self_attn", true},
        {"layers.11", false},
        {"ayers.1", false},
        {"model.layers.1.self_attn.q_proj.scales", true},
        {"model.layers.1.self_attn.q_proj.scales.more", false},
        {"model.layers.?.*", true},
        {"layers.?.*", false},
        {"nothing+scales", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qzo_training training = {.groups = {{true, QZO_KEEP_AUTO, cases[i].pattern, ""}}};
        bool found =
            qzo_training_has(&training, QZO_GROUP_SCALES, "model.layers.1.self_attn.q_proj.scales");
        if (found != cases[i].matches) fail_msg("\"%s\": found %d", cases[i].pattern, found);
    }
}

/* --- slopes --- */

/* (L(h) - L(-h)) / 2h along the direction of one span, which may come one element late. */
static double quotient(const qzo_span *span, double h, int64_t shift) {
    double losses[2], log_probs[TARGETS_MAX];
    float *values = f.model.masters + span->offset;
    float *saved = malloc((size_t)span->count * sizeof *saved);
    memcpy(saved, values, (size_t)span->count * sizeof *saved);
    for (int sign = 0; sign < 2; sign++) {
        for (int64_t i = 0; i < span->count; i++)
            values[i] = (float)((double)saved[i] +
                                (sign == 0 ? h : -h) * direction((i + shift) % span->count));
        losses[sign] = run(log_probs, &test_no_perturbation);
    }
    memcpy(values, saved, (size_t)span->count * sizeof *saved);
    free(saved);
    return (losses[0] - losses[1]) / (2.0 * h);
}

static void check_slopes(const char *name, const qzo_training *training,
                         const qzo_adapter_settings *adapters, const char *recorded,
                         int tensor_count) {
    qzo_safetensors *file = NULL;
    double log_probs[TARGETS_MAX], worst = 0.0;
    int found = 0, noticed = 0;
    open_model(name, training, adapters);
    assert_ok(qzo_safetensors_open(&file, qzo_test_fixture(recorded)));
    const qzo_tensor_view *loss = qzo_safetensors_find(file, "loss");
    double expected_loss;
    memcpy(&expected_loss, loss->data, sizeof expected_loss);
    qzo_test_assert_close(run(log_probs, &test_no_perturbation), expected_loss, LOSS_ERROR,
                          "LOSS_ERROR");
    for (int64_t s = 0; s < f.span_count; s++) {
        const qzo_span *span = &f.spans[s];
        char key[256];
        snprintf(key, sizeof key, "slope.%s", span->name);
        const qzo_tensor_view *view = qzo_safetensors_find(file, key);
        if (view == NULL) continue; /* scales: test_gradients.c */
        double expected, at[3], coarse, fine;
        memcpy(&expected, view->data, sizeof expected);
        for (int i = 0; i < 3; i++) at[i] = quotient(span, STEP * (1 << i) / 4.0, 0);
        fine = (4.0 * at[0] - at[1]) / 3.0;
        coarse = (4.0 * at[1] - at[2]) / 3.0;
        double limit = 1.5 * LOSS_ERROR / (STEP / 4.0) + fabs(coarse - fine);
        qzo_test_assert_close(fine, expected, limit, span->name);
        worst = fmax(worst, fabs(fine - expected) / limit);
        noticed += fabs(quotient(span, STEP / 4.0, 1) - expected) > limit;
        found++;
    }
    print_message("%s: %d tensors, at most %.2f of the limit; %d notice a shift\n", name, found,
                  worst, noticed);
    assert_int_equal(found, tensor_count);
    assert_true(noticed >= tensor_count * 3 / 4);
    qzo_safetensors_close(file);
    close_model();
}

static void slopes_are_those_of_autograd(void **state) {
    (void)state;
    check_slopes("tiny-llama", &quantized, NULL, "slopes-quantized.safetensors", 7);
    check_slopes("tiny-llama-fp32", &unquantized, NULL, "slopes-unquantized.safetensors", 21);
}

static void slopes_of_adapters_are_those_of_autograd(void **state) {
    (void)state;
    check_slopes("tiny-llama", &qzo_training_default, &of_q_and_v, "slopes-lora.safetensors", 8);
    check_slopes("tiny-llama-fp32", &qzo_training_default, &of_all, "slopes-lora-all.safetensors",
                 28);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_perturbed_pass_reads_perturbed_masters),
        cmocka_unit_test(masks_choose_spans_by_name),
        cmocka_unit_test(names_are_matched_by_parts_or_whole),
        cmocka_unit_test(slopes_are_those_of_autograd),
        cmocka_unit_test(slopes_of_adapters_are_those_of_autograd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
