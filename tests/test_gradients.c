/* ctest: timeout=300
 * The estimator against autograd: (L+ - L-) / (2 eps) of the optimizer over the tiny model equals
 * z . gradient for 1000 seeds, with gradient, losses and scores recorded in float64 by
 * tools/record_gradients.py. The estimator's own error falls with eps^2; extrapolation from two eps
 * takes it away, and what is left is bounded in docs/error-analysis.md, "Projected gradients". */
#include "model_support.h"

#include "optim/qspsa.h"
#include "task/score.h"
#include "task/task_file.h"

#include <math.h>

enum { BATCH = 16, BATCHES = 2, SEEDS = 1000, VALUES = 2560, EXPLICIT = 8, SPANS = 14 };

/* A mean loss of 16 examples, fp32 forward against float64. */
static const double LOSS_ERROR = 4e-7;
/* The mean log-probability of one option; the same. */
static const double SCORE_ERROR = 4e-6;
static const double EPS = 1e-3;
/* Largest of 1000 draws of the term of fifth order, in units of its root mean square: a polynomial
 * of degree 5 in normals. */
static const double FIFTH_ORDER_SPREAD = 10.0;
/* Root mean squares over two sets of 1000 such draws. */
static const double RMS_SPREAD = 0.15;

typedef struct fixture {
    test_model model;
    qzo_task *task;
    qzo_safetensors *file;
    qzo_forward *forward;
    qzo_pack pack;
    const int64_t *examples; /* (BATCH) of the pack */
    int64_t example_ids[BATCHES][BATCH];
    double gradient[BATCHES][VALUES];
} fixture;

static fixture f;

static void read_tensor(void *out, const char *name, qzo_dtype dtype, int64_t count) {
    const qzo_tensor_view *view = qzo_safetensors_find(f.file, name);
    if (view == NULL || view->dtype != dtype || view->count != count)
        fail_msg("no %s of %lld %s", name, (long long)count, qzo_dtype_name(dtype));
    memcpy(out, view->data, view->size_bytes);
}

static void open_fixture(void) {
    const qzo_pack_limits limits = {
        .rows = 2000, .gathers = 200, .targets = 200, .options = 2 * BATCH, .context = 60};
    int32_t examples[BATCHES][BATCH];
    float masters[VALUES];
    test_model_open(&f.model, qzo_test_fixture("tiny-llama"), 1);
    assert_ok(qzo_task_open(&f.task, qzo_test_fixture("tiny-task.qzt")));
    assert_ok(qzo_safetensors_open(&f.file, qzo_test_fixture("gradients.safetensors")));
    assert_ok(qzo_pack_create(&f.pack, &limits));
    assert_ok(qzo_forward_open(&f.forward, f.model.model, &limits));
    read_tensor(examples, "examples", QZO_DTYPE_I32, BATCHES * BATCH);
    read_tensor(f.gradient, "gradient", QZO_DTYPE_F64, BATCHES * VALUES);
    for (int i = 0; i < BATCHES * BATCH; i++)
        f.example_ids[i / BATCH][i % BATCH] = examples[i / BATCH][i % BATCH];
    assert_int_equal(f.model.model->value_count, VALUES);
    assert_int_equal(f.model.model->span_count, SPANS);
    read_tensor(masters, "masters", QZO_DTYPE_F32, VALUES);
    assert_memory_equal(masters, f.model.masters, sizeof masters);
}

static int setup(void **state) {
    (void)state;
    open_fixture();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    qzo_forward_close(f.forward);
    qzo_pack_release(&f.pack);
    qzo_safetensors_close(f.file);
    qzo_task_close(f.task);
    test_model_close(&f.model);
    return 0;
}

static void pack_batch(int batch) {
    const qzo_split *split = &f.task->splits[QZO_SPLIT_TRAIN];
    f.examples = f.example_ids[batch];
    qzo_pack_clear(&f.pack);
    for (int i = 0; i < BATCH; i++) {
        int64_t first = split->option_begin[f.examples[i]];
        int64_t count = split->option_begin[f.examples[i] + 1] - first;
        test_row rows[2];
        assert_int_equal(count, 2);
        for (int64_t j = 0; j < count; j++)
            rows[j] = (test_row){split->tokens + split->token_begin[first + j],
                                 split->token_begin[first + j + 1] - split->token_begin[first + j],
                                 split->answer_tokens[first + j]};
        test_pack_add(&f.pack, rows, count);
    }
    qzo_pack_finish(&f.pack);
}

/* Sum of the examples' losses; scores (BATCH, 2), NULL: not wanted. */
static double loss_sum_of_pack(const qzo_perturbation *perturbation, double *scores) {
    const qzo_split *split = &f.task->splits[QZO_SPLIT_TRAIN];
    const qzo_loss *loss = qzo_loss_find("classification");
    double log_probs[200], sum = 0.0;
    assert_ok(qzo_forward_log_probs(f.forward, &f.pack, f.model.masters, perturbation, log_probs));
    for (int i = 0; i < BATCH; i++) {
        double sums[2] = {0.0, 0.0};
        int64_t first = split->option_begin[f.examples[i]];
        for (int j = 0; j < 2; j++) {
            int64_t option = 2 * i + j;
            for (int64_t t = f.pack.option_target_begin[option];
                 t < f.pack.option_target_begin[option + 1]; t++)
                sums[j] += log_probs[t];
            if (scores != NULL) scores[option] = sums[j] / (double)split->answer_tokens[first + j];
        }
        const qzo_scored_example example = {.option_count = 2,
                                            .log_prob_sum = sums,
                                            .answer_tokens = split->answer_tokens + first,
                                            .gold = split->gold[f.examples[i]]};
        sum += loss->sum(&example);
    }
    return sum;
}

static qzo_status objective_loss_sum(void *context, double *sum, const qzo_probe *probe) {
    (void)context;
    *sum = loss_sum_of_pack(&probe->perturbation, NULL);
    return QZO_OK;
}

static double objective_weight(void *context, int64_t batch) {
    (void)context, (void)batch;
    return BATCH;
}

/* The optimizer's own records and factors of one step with 1000 samples. */
static void step_once(qzo_record out[SEEDS], float k[SEEDS], double eps, double clip,
                      double learning_rate) {
    qzo_comm *comm = NULL;
    qzo_qspsa *optimizer = NULL;
    const qzo_qspsa_settings settings = {.steps = 1,
                                         .samples_per_step = SEEDS,
                                         .learning_rate = learning_rate,
                                         .eps = eps,
                                         .noise_seed = 430,
                                         .rule = qzo_update_rule_find("plain"),
                                         .rule_settings = {.clip = clip},
                                         .schedule = qzo_lr_schedule_find("constant")};
    const qzo_trainable trainable = {.backend = f.model.backend,
                                     .masters = f.model.masters,
                                     .spans = f.model.model->spans,
                                     .span_count = f.model.model->span_count};
    const qzo_objective objective = {
        .unit_count = 1, .loss_sum = objective_loss_sum, .loss_weight = objective_weight};
    qzo_step done = {0};
    uint32_t flags = 0;
    assert_ok(qzo_comm_local_open(&comm));
    assert_ok(qzo_qspsa_open(&optimizer, &settings, &trainable, &objective, comm));
    assert_ok(qzo_qspsa_sync(optimizer));
    assert_ok(qzo_qspsa_step(optimizer, 1, 0, &done, &flags));
    memcpy(out, done.records, SEEDS * sizeof *out);
    memcpy(k, done.k, SEEDS * sizeof *k);
    qzo_qspsa_close(optimizer);
    qzo_comm_close(comm);
}

/* Records alone: the learning rate is 0 and the masters stay. */
static void estimate(qzo_record out[SEEDS], double eps) {
    float k[SEEDS];
    step_once(out, k, eps, 1e30, 0.0);
}

/* z . gradient; the z of span `shifted` comes one element late. */
static double projected(const double *gradient, uint64_t seed, int64_t shifted) {
    double sum = 0.0;
    for (int64_t s = 0; s < f.model.model->span_count; s++) {
        const qzo_span *span = &f.model.model->spans[s];
        float z[VALUES];
        qzo_noise_fill(z, seed, span->tensor_id, s == shifted ? 1 : 0, span->count,
                       QZO_DIRECTIONS_GAUSSIAN);
        for (int64_t i = 0; i < span->count; i++) sum += (double)z[i] * gradient[span->offset + i];
    }
    return sum;
}

static void losses_and_scores_are_those_recorded(void **state) {
    (void)state;
    double losses[BATCHES], scores[BATCHES][2 * BATCH], worst_loss = 0.0, worst_score = 0.0;
    read_tensor(losses, "loss", QZO_DTYPE_F64, BATCHES);
    read_tensor(scores, "scores", QZO_DTYPE_F64, BATCHES * 2 * BATCH);
    for (int batch = 0; batch < BATCHES; batch++) {
        double actual[2 * BATCH];
        pack_batch(batch);
        double loss = loss_sum_of_pack(&test_no_perturbation, actual) / BATCH;
        worst_loss = fmax(worst_loss, fabs(loss - losses[batch]));
        for (int i = 0; i < 2 * BATCH; i++)
            worst_score = fmax(worst_score, fabs(actual[i] - scores[batch][i]));
    }
    print_message("largest error: loss %.3g, score %.3g\n", worst_loss, worst_score);
    qzo_test_assert_close(worst_loss, 0.0, LOSS_ERROR, "LOSS_ERROR");
    qzo_test_assert_close(worst_score, 0.0, SCORE_ERROR, "SCORE_ERROR");
}

/* eps 0.05 is above every scale: almost half of the perturbed ones are negative. */
static void losses_at_explicit_perturbations_are_those_recorded(void **state) {
    (void)state;
    static float z[EXPLICIT][VALUES], masters[VALUES];
    float eps[2];
    double expected[2][2][EXPLICIT], worst[2] = {0.0, 0.0};
    int64_t negative = 0;
    read_tensor(z, "z", QZO_DTYPE_F32, EXPLICIT * VALUES);
    read_tensor(eps, "eps", QZO_DTYPE_F32, 2);
    read_tensor(expected[0], "loss_plus", QZO_DTYPE_F64, 2 * EXPLICIT);
    read_tensor(expected[1], "loss_minus", QZO_DTYPE_F64, 2 * EXPLICIT);
    memcpy(masters, f.model.masters, sizeof masters);
    pack_batch(0);
    for (int e = 0; e < 2; e++)
        for (int sign = 0; sign < 2; sign++)
            for (int j = 0; j < EXPLICIT; j++) {
                for (int64_t i = 0; i < VALUES; i++) {
                    f.model.masters[i] = fmaf(sign != 0 ? -eps[e] : eps[e], z[j][i], masters[i]);
                    negative += f.model.masters[i] < 0.0f;
                }
                double loss = loss_sum_of_pack(&test_no_perturbation, NULL) / BATCH;
                worst[e] = fmax(worst[e], fabs(loss - expected[sign][e][j]));
            }
    memcpy(f.model.masters, masters, sizeof masters);
    print_message("largest error: eps %g %.3g, eps %g %.3g; %d negative\n", (double)eps[0],
                  worst[0], (double)eps[1], worst[1], (int)negative);
    assert_true(negative > EXPLICIT * VALUES / 2);
    qzo_test_assert_close(worst[0], 0.0, LOSS_ERROR, "LOSS_ERROR");
    qzo_test_assert_close(worst[1], 0.0, LOSS_ERROR, "LOSS_ERROR");
}

/* d(eps) = z . g + c3 eps^2 + c5 eps^4: two eps, twice as large the second, take away c3. */
static double extrapolated(double at_eps, double at_twice_eps) {
    return (4.0 * at_eps - at_twice_eps) / 3.0;
}

/* What two fp32 losses of LOSS_ERROR each do to a difference quotient, and to its extrapolation. */
static double rounding_of(double eps) { return LOSS_ERROR / eps; }

static double rounding_of_extrapolated(double eps) {
    return (4.0 * rounding_of(eps) + rounding_of(2.0 * eps)) / 3.0;
}

static double root_mean_square(const double values[SEEDS]) {
    double sum = 0.0;
    for (int i = 0; i < SEEDS; i++) sum += values[i] * values[i];
    return sqrt(sum / SEEDS);
}

/* Estimates at EPS / 4, EPS / 2 and EPS, shared by the tests of a batch. */
static qzo_record records[3][SEEDS];
static double slopes[SEEDS], slope_limit;

static void prepare_batch(int batch) {
    double fifth_order[SEEDS];
    pack_batch(batch);
    for (int i = 0; i < 3; i++) estimate(records[i], EPS * (1 << i) / 4.0);
    for (int i = 0; i < SEEDS; i++) {
        double fine = extrapolated((double)records[0][i].gradient, (double)records[1][i].gradient);
        double coarse =
            extrapolated((double)records[1][i].gradient, (double)records[2][i].gradient);
        slopes[i] = fine;
        fifth_order[i] = (coarse - fine) / 15.0;
    }
    slope_limit =
        rounding_of_extrapolated(EPS / 4.0) + FIFTH_ORDER_SPREAD * root_mean_square(fifth_order);
    print_message("batch %d: limit %.3g\n", batch, slope_limit);
}

static void check_slopes(int batch) {
    double worst = 0.0;
    for (int i = 0; i < SEEDS; i++) {
        double expected = projected(f.gradient[batch], records[0][i].seed, -1);
        worst = fmax(worst, fabs(slopes[i] - expected));
        qzo_test_assert_close(slopes[i], expected, slope_limit, "rounding and fifth order");
    }
    print_message("batch %d: largest error %.3g\n", batch, worst);
}

/* The estimator's own error at the paper's eps: as large as the recorded one in float64, to what
 * 1000 other draws of it may differ. */
static void check_third_order(int batch) {
    double recorded[BATCHES][2], errors[SEEDS];
    read_tensor(recorded, "residual_rms", QZO_DTYPE_F64, BATCHES * 2);
    for (int i = 0; i < SEEDS; i++)
        errors[i] =
            (double)records[2][i].gradient - projected(f.gradient[batch], records[2][i].seed, -1);
    double expected = recorded[batch][0];
    qzo_test_assert_close(root_mean_square(errors), expected, RMS_SPREAD * expected, "RMS_SPREAD");
}

/* Noise of any one tensor one element late must be noticed, for most seeds. */
static void check_shifted(int batch) {
    for (int64_t span = 0; span < SPANS; span++) {
        int noticed = 0;
        for (int i = 0; i < SEEDS; i++)
            noticed += fabs(slopes[i] - projected(f.gradient[batch], records[0][i].seed, span)) >
                       slope_limit;
        if (noticed < SEEDS * 9 / 10)
            fail_msg("%s: its z shifted by one element was noticed for %d of %d seeds",
                     f.model.model->spans[span].name, noticed, SEEDS);
    }
}

static void estimates_are_z_times_the_gradient(void **state) {
    (void)state;
    for (int batch = 0; batch < BATCHES; batch++) {
        prepare_batch(batch);
        check_slopes(batch);
        check_third_order(batch);
        check_shifted(batch);
    }
}

/* A C below most slopes of the first batch (the gradient's norm is 11): the record keeps the slope,
 * what is applied is bounded by C and points the way of z . gradient. */
static void clip_bounds_what_is_applied(void **state) {
    (void)state;
    static const double CLIP = 5.0, RATE = 1e-6;
    static const double ESTIMATOR_ERROR = 2.0; /* above the largest third-order term, 1.33 */
    qzo_record steps[SEEDS];
    float k[SEEDS], masters[VALUES];
    int clipped = 0;
    memcpy(masters, f.model.masters, sizeof masters);
    prepare_batch(0);
    step_once(steps, k, EPS, CLIP, RATE);
    memcpy(f.model.masters, masters, sizeof masters);
    for (int i = 0; i < SEEDS; i++) {
        double slope = (double)steps[i].gradient, bounded = fmax(-CLIP, fmin(CLIP, slope));
        double exact = projected(f.gradient[0], steps[i].seed, -1);
        assert_true(k[i] == (float)(RATE / SEEDS * bounded));
        assert_int_equal((steps[i].flags & QZO_FLAG_CLIPPED) != 0, fabs(slope) > CLIP);
        clipped += fabs(slope) > CLIP;
        if (fabs(exact) > CLIP + ESTIMATOR_ERROR)
            assert_true((double)k[i] == (double)(float)(RATE / SEEDS * copysign(CLIP, exact)));
    }
    /* P(|N(0, 11.06)| > 5) = 0.65; five standard errors of 1000 draws are 0.075. */
    assert_in_range(clipped, 575, 725);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_and_scores_are_those_recorded),
        cmocka_unit_test(losses_at_explicit_perturbations_are_those_recorded),
        cmocka_unit_test(estimates_are_z_times_the_gradient),
        cmocka_unit_test(clip_bounds_what_is_applied),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
