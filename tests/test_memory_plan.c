/* ctest: emulated
 * What is planned is what is taken: a trial prepared on a backend allocates the planned bytes,
 * neither more nor less, and never more on the way. On a device too, where there is one. */
#include "test_support.h"

#include "backend/cuda_module.h"
#include "trial/batches.h"
#include "trial/memory_plan.h"
#include "trial/task_sizes.h"

#include <string.h>

enum { THREADS = 3 };

static void make_spec_of(qzo_trial_spec *out, const char *rule, const char *task) {
    qzo_trial_spec_defaults(out);
    out->model_path = strdup(qzo_test_fixture("tiny-llama"));
    out->task_path = strdup(qzo_test_fixture(task));
    out->micro_batch = 4;
    out->eval_batch = 7;
    out->update_rule = rule;
    out->samples_per_step = 2; /* which every rule takes */
    assert_ok(qzo_trial_spec_complete(out));
}

static void make_spec(qzo_trial_spec *out, const char *rule) {
    make_spec_of(out, rule, "tiny-task.qzt");
}

/* arrays: of all values, that the rule needs. */
static void check_rule(const char *backend_name, const char *rule, int arrays, const char *task) {
    qzo_trial_spec spec = {0};
    make_spec_of(&spec, rule, task);
    const qzo_backend_options options = {.thread_count = THREADS};
    qzo_memory_plan plan;
    qzo_memory_use use;
    qzo_backend *backend = NULL;
    qzo_workbench bench;
    assert_ok(qzo_memory_plan_measure(&plan, &spec, backend_name, THREADS, QZO_PAIRS_AUTO));
    assert_string_equal(plan.backend_name, backend_name);
    assert_ok(qzo_backend_open(&backend, backend_name, &options));
    qzo_workbench_init(&bench, backend);
    assert_ok(qzo_workbench_prepare(&bench, &spec));
    /* Demonstrations are shared, and nothing is taken for that where there are none. */
    qzo_pack_limits limits;
    assert_ok(
        qzo_task_limits(&limits, bench.task, bench.loss, &spec, backend->pair_rows_max, false));
    assert_int_equal(limits.places > 0, strstr(task, "shots") != NULL);
    assert_ok(backend->ops->memory_use(backend, &use));
    if (use.own_bytes != plan.own_bytes || use.peak_bytes != plan.own_bytes)
        fail_msg("%s: %lld bytes planned, %lld held, at most %lld", backend_name,
                 (long long)plan.own_bytes, (long long)use.own_bytes, (long long)use.peak_bytes);
    assert_int_equal(plan.own_bytes, plan.weight_bytes + plan.ends_bytes + plan.loaded_bytes +
                                         plan.masters_bytes + plan.activation_bytes +
                                         plan.scratch_bytes);
    assert_int_equal(plan.masters_bytes, arrays * 4 * plan.value_count);
    qzo_workbench_release(&bench);
    assert_ok(backend->ops->memory_use(backend, &use));
    assert_int_equal(use.own_bytes, use.held_bytes[QZO_MEMORY_SCRATCH]);
    qzo_backend_close(backend);
    qzo_trial_spec_release(&spec);
}

static void check_taken(const char *backend_name) {
    check_rule(backend_name, "plain", 2, "tiny-task.qzt");
    check_rule(backend_name, "plain", 2, "tiny-task-shots.qzt");
    check_rule(backend_name, "momentum", 3, "tiny-task.qzt");
    check_rule(backend_name, "mezo_gv", 3, "tiny-task.qzt");
}

/* The next trial's plan has no velocity. */
static void a_velocity_goes_with_its_trial(void **state) {
    (void)state;
    const qzo_backend_options options = {.thread_count = THREADS};
    static const char *const rules[] = {"momentum", "plain", "momentum"};
    qzo_backend *backend = NULL;
    qzo_workbench bench;
    assert_ok(qzo_backend_open(&backend, "cpu", &options));
    qzo_workbench_init(&bench, backend);
    for (int i = 0; i < 3; i++) {
        qzo_trial_spec spec = {0};
        qzo_memory_plan plan;
        qzo_memory_use use;
        make_spec(&spec, rules[i]);
        assert_ok(qzo_memory_plan_measure(&plan, &spec, "cpu", THREADS, QZO_PAIRS_AUTO));
        assert_ok(qzo_workbench_prepare(&bench, &spec));
        assert_ok(backend->ops->memory_use(backend, &use));
        assert_int_equal(use.own_bytes, plan.own_bytes);
        qzo_trial_spec_release(&spec);
    }
    qzo_workbench_release(&bench);
    qzo_backend_close(backend);
}

/* On its way to the next trial, with a smaller workspace and a velocity, a rank has no more than
 * either takes. */
static void no_velocity_stands_beside_another_workspace(void **state) {
    (void)state;
    const qzo_backend_options options = {.thread_count = THREADS};
    int64_t planned_bytes = 0;
    qzo_memory_use use;
    qzo_backend *backend = NULL;
    qzo_workbench bench;
    assert_ok(qzo_backend_open(&backend, "cpu", &options));
    qzo_workbench_init(&bench, backend);
    for (int i = 0; i < 2; i++) {
        qzo_trial_spec spec = {0};
        qzo_memory_plan plan;
        make_spec(&spec, i == 0 ? "plain" : "momentum");
        spec.micro_batch = spec.eval_batch = i == 0 ? 16 : 1;
        assert_ok(qzo_memory_plan_measure(&plan, &spec, "cpu", THREADS, QZO_PAIRS_AUTO));
        if (plan.own_bytes > planned_bytes) planned_bytes = plan.own_bytes;
        assert_ok(qzo_workbench_prepare(&bench, &spec));
        qzo_trial_spec_release(&spec);
    }
    assert_ok(backend->ops->memory_use(backend, &use));
    if (use.peak_bytes > planned_bytes)
        fail_msg("%lld bytes held, at most %lld planned", (long long)use.peak_bytes,
                 (long long)planned_bytes);
    qzo_workbench_release(&bench);
    qzo_backend_close(backend);
}

static void prepare_images(qzo_workbench *bench) {
    qzo_trial_spec spec = {0};
    qzo_trial_spec_defaults(&spec);
    spec.model_path = strdup(qzo_test_fixture("mmdit/sd35-medium"));
    spec.task_path = strdup(qzo_test_fixture("mmdit/toy.qzt"));
    assert_ok(qzo_trial_spec_complete(&spec));
    assert_ok(qzo_workbench_prepare(bench, &spec));
    assert_true(bench->workspace->pair_rows > 0);
    qzo_trial_spec_release(&spec);
}

/* A trial that minimizes a metric has none, nor room for them. */
static void pairs_of_images_go_with_their_trial(void **state) {
    (void)state;
    const qzo_backend_options options = {.pairs = QZO_PAIRS_ALWAYS, .thread_count = THREADS};
    const qzo_probe probe = {.step = 1, .batch = 1, .perturbation = {.seed = 7, .c = 1e-3f}};
    qzo_backend *backend = NULL;
    qzo_workbench bench;
    qzo_batches batches;
    qzo_trial_spec spec = {0};
    double both[2] = {0.0, 0.0}, alone = 0.0;
    assert_ok(qzo_backend_open(&backend, "cpu", &options));
    qzo_workbench_init(&bench, backend);
    prepare_images(&bench);
    make_spec(&spec, "plain");
    spec.objective = "metric";
    spec.batch = spec.micro_batch = 16;
    assert_ok(qzo_workbench_prepare(&bench, &spec));
    assert_ok(qzo_workbench_reset(&bench, &spec));
    assert_ok(qzo_batches_open(&batches, &bench, &spec));
    assert_ok(qzo_batches_loss_sum(&batches, &alone, &probe));
    assert_true(alone < 0.0); /* some answers are right */
    assert_ok(qzo_batches_loss_sums(&batches, both, &probe));
    if (both[0] != alone) fail_msg("a score of %g alone, %g of a pair", alone, both[0]);
    qzo_batches_close(&batches);
    qzo_workbench_release(&bench);
    qzo_backend_close(backend);
    qzo_trial_spec_release(&spec);
}

static void a_cpu_takes_what_was_planned(void **state) {
    (void)state;
    const qzo_backend_options options = {.thread_count = 1};
    qzo_backend *backend = NULL;
    check_taken("cpu");
    if (qzo_backend_open(&backend, "cpu-bf16", &options) == QZO_OK) check_taken("cpu-bf16");
    qzo_backend_close(backend);
}

static void a_device_takes_what_was_planned(void **state) {
    (void)state;
    if (qzo_cuda_available() != QZO_OK) skip();
    check_taken("cuda");
    check_taken("cuda-bf16");
}

/* A tied head is the embedding: one table of vocab * width values, not two. */
static void a_tied_embedding_is_copied_once(void **state) {
    (void)state;
    static const int tables[] = {2, 1};
    for (int tied = 0; tied < 2; tied++) {
        const char *name = tied ? "gptq/v1-asym-whole-row-tied" : "gptq/v1-sym-g128";
        const qzo_backend_options options = {.thread_count = 1, .dry = true};
        qzo_backend *backend = NULL;
        qzo_model_dir *dir = NULL;
        qzo_model *model = NULL;
        assert_ok(qzo_backend_open(&backend, "cuda", &options));
        assert_ok(qzo_model_dir_open(&dir, qzo_test_fixture(name)));
        assert_ok(qzo_model_load(&model, dir, backend));
        assert_int_equal(model->shape.tied_head, tied);
        assert_int_equal(model->ends_bytes,
                         tables[tied] * (int64_t)model->embedding_tensor.as.dense.size_bytes);
        qzo_model_free(model);
        qzo_backend_close(backend);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cpu_takes_what_was_planned),
        cmocka_unit_test(a_velocity_goes_with_its_trial),
        cmocka_unit_test(no_velocity_stands_beside_another_workspace),
        cmocka_unit_test(pairs_of_images_go_with_their_trial),
        cmocka_unit_test(a_device_takes_what_was_planned),
        cmocka_unit_test(a_tied_embedding_is_copied_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
