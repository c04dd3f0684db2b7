/* Prepared images and the flow-matching loss: what diffusers' functions give for the same images,
 * timesteps and noise (tests/fixtures/mmdit), and files that must be refused. */
#include "model_support.h"
#include "tensor_writer.h"

#include "model/mmdit.h"
#include "trial/image_bench.h"

#include <math.h>
#include <stdio.h>

/* A loss is a mean over 192 squares of outputs that are right to 1e-4 beside targets of order 1,
 * times a weight of 16 at most here: 2e-4 of it, and as much from noise in fp32 beside double. */
static const double RELATIVE_LOSS_ERROR = 4e-4;

static const struct {
    const char *name;
    qzo_flow_settings settings;
} objectives[] = {
    {"default", {QZO_DENSITY_LOGIT_NORMAL, QZO_WEIGHTING_NONE, 0.0, 1.0, 1.29, 3.0}},
    {"cosmap", {QZO_DENSITY_MODE, QZO_WEIGHTING_COSMAP, 0.0, 1.0, 1.29, 1.0}},
    {"sigma_sqrt", {QZO_DENSITY_UNIFORM, QZO_WEIGHTING_SIGMA_SQRT, 0.0, 1.0, 1.29, 2.0}},
};
enum { OBJECTIVES = sizeof objectives / sizeof *objectives, DEV = 6 };

typedef struct fixture {
    test_model model;
    qzo_task *task;
    qzo_image_bench *bench;
} fixture;

static void open_fixture(fixture *out, int64_t room) {
    *out = (fixture){0};
    test_model_open(&out->model, qzo_test_fixture("mmdit/sd35-medium"), 1);
    assert_ok(qzo_task_open(&out->task, qzo_test_fixture("mmdit/toy.qzt")));
    assert_ok(qzo_image_bench_open(&out->bench, out->model.model, out->task, room, room));
}

static void close_fixture(fixture *f) {
    qzo_image_bench_close(f->bench);
    qzo_task_close(f->task);
    test_model_close(&f->model);
}

static double loss_of(fixture *f, const qzo_flow_settings *settings, const qzo_batch *batch) {
    double losses[8], sum = 0.0;
    assert_in_range(batch->count, 1, 8);
    assert_ok(qzo_image_bench_evaluate(f->bench, losses, settings, batch, f->model.masters,
                                       &test_no_perturbation));
    for (int64_t i = 0; i < batch->count; i++) sum += losses[i];
    return sum;
}

static void losses_are_those_recorded(void **state) {
    (void)state;
    fixture f;
    qzo_safetensors *file = NULL;
    open_fixture(&f, 1);
    assert_ok(qzo_safetensors_open(&file, qzo_test_fixture("mmdit/toy-losses.safetensors")));
    for (int o = 0; o < OBJECTIVES; o++) {
        const qzo_tensor_view *view = qzo_safetensors_find(file, objectives[o].name);
        assert_true(view != NULL && view->dtype == QZO_DTYPE_F64 && view->count == DEV);
        for (int64_t e = 0; e < DEV; e++) {
            double expected;
            memcpy(&expected, view->data + (size_t)e * sizeof expected, sizeof expected);
            const qzo_batch one = {.split = &f.task->splits[QZO_SPLIT_DEV],
                                   .examples = &e,
                                   .count = 1,
                                   .round = QZO_FLOW_EVALUATION};
            double actual = loss_of(&f, &objectives[o].settings, &one);
            if (!(fabs(actual - expected) <= RELATIVE_LOSS_ERROR * expected))
                fail_msg("%s: image %lld has loss %.9g, expected %.9g", objectives[o].name,
                         (long long)e, actual, expected);
        }
    }
    qzo_safetensors_close(file);
    close_fixture(&f);
}

/* Micro-batches cut a batch anywhere, and an evaluation a split. */
static void how_examples_are_cut_changes_no_bit(void **state) {
    (void)state;
    static const int64_t examples[] = {3, 0, 5, 3};
    fixture f;
    open_fixture(&f, 4);
    for (int o = 0; o < OBJECTIVES; o++)
        for (int training = 0; training < 2; training++) {
            qzo_batch batch = {.split = &f.task->splits[QZO_SPLIT_DEV],
                               .examples = examples,
                               .count = 4,
                               .seed = 7,
                               .round = training ? 40 : QZO_FLOW_EVALUATION};
            double whole = loss_of(&f, &objectives[o].settings, &batch), sum = 0.0;
            batch.count = 1;
            for (; batch.first < 4; batch.first++, batch.examples++)
                sum += loss_of(&f, &objectives[o].settings, &batch);
            assert_true(sum == whole);
        }
    close_fixture(&f);
}

/* Other rounds, places and seeds are other timesteps and other noise; an evaluation's are its own
 * images'. */
static void every_example_of_training_meets_its_own(void **state) {
    (void)state;
    const qzo_flow_settings *settings = &objectives[0].settings;
    qzo_flow_draw first = qzo_flow_draw_of(settings, 1, 5, 0);
    const qzo_flow_draw others[] = {qzo_flow_draw_of(settings, 2, 5, 0),
                                    qzo_flow_draw_of(settings, 1, 6, 0),
                                    qzo_flow_draw_of(settings, 1, 5, 1)};
    for (int i = 0; i < 3; i++)
        assert_true(others[i].noise_seed != first.noise_seed && others[i].sigma != first.sigma);
    /* ln(s / (1 - s)) of the place s before the shift is -z: mean 0, variance 1. Places are cut to
     * 1 / 1000, which is 0.004 at the middle and moves neither by more. */
    enum { DRAWS = 20000 };
    double sum = 0.0, squares = 0.0;
    for (uint32_t i = 0; i < DRAWS; i++) {
        double sigma = (double)qzo_flow_draw_of(settings, 3, i, i % 16).sigma;
        double s = sigma / (3.0 - 2.0 * sigma) - 0.0005, z = log(s / (1.0 - s));
        sum += z;
        squares += z * z;
    }
    assert_true(fabs(sum / DRAWS) < 4.0 / sqrt((double)DRAWS));
    assert_true(fabs(squares / DRAWS - 1.0) < 4.0 * sqrt(2.0 / DRAWS));
}

/* --- files --- */

static void models_and_images_must_fit(void **state) {
    (void)state;
    test_model model = {0};
    qzo_task *task = NULL;
    qzo_image_bench *bench = NULL;
    test_model_open(&model, qzo_test_fixture("mmdit/sd3"), 1);
    assert_ok(qzo_task_open(&task, qzo_test_fixture("mmdit/toy.qzt")));
    model.model->mmdit->shape.text_width = 32;
    assert_int_equal(qzo_image_bench_open(&bench, model.model, task, 1, 0), QZO_ERR_CONFIG);
    assert_non_null(strstr(qzo_error_message(), "text embeddings of width 24"));
    qzo_task_close(task);
    test_model_close(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_are_those_recorded),
        cmocka_unit_test(how_examples_are_cut_changes_no_bit),
        cmocka_unit_test(every_example_of_training_meets_its_own),
        cmocka_unit_test(models_and_images_must_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
