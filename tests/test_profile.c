/* The profiled backend: the same bits as without it, and what it counts against what the pack and
 * the model's shape say by hand. */
#include "backend_support.h"
#include "model_support.h"

#include "backend/backend_profile.h"

static const int32_t TOKENS[] = {1, 5, 9, 7, 3, 2, 4, 6, 8, 10, 12, 11, 13, 15, 14, 17, 16, 18, 19};
enum { LONG_ROW = 19, SHORT_ROW = 3, ALIKE_ROW = 18 };

/* Questions of one option: the last token of each is the answer and is never fed. Where they share
 * rows the third one has none of its own. */
static void fill_pack(qzo_pack *pack, bool shares) {
    const qzo_pack_limits limits = {.rows = 40,
                                    .gathers = 4,
                                    .targets = 4,
                                    .options = 3,
                                    .context = 20,
                                    .places = shares ? 40 : 0};
    const test_row rows[] = {
        {TOKENS, LONG_ROW, 1}, {TOKENS + 1, SHORT_ROW, 1}, {TOKENS, ALIKE_ROW, 1}};
    assert_ok(qzo_pack_create(pack, &limits));
    for (int i = 0; i < 3; i++) test_pack_add(pack, &rows[i], 1);
    qzo_pack_finish(pack);
    int64_t alone = LONG_ROW - 1 + SHORT_ROW - 1;
    assert_int_equal(pack->row_count, shares ? alone : alone + ALIKE_ROW - 1);
    assert_int_equal(pack->gather_count, 3);
}

/* Products of all layers; the last one computes queries and all that follows for the gathered rows
 * alone. */
static double matmul_flops(const qzo_model *model, const qzo_pack *pack) {
    double sum = 0.0;
    for (int64_t l = 0; l < model->shape.layer_count; l++)
        for (int kind = 0; kind < QZO_LINEAR_COUNT; kind++) {
            const qzo_qtensor *t = &model->layers[l].tensors[kind];
            bool all_rows =
                l + 1 < model->shape.layer_count || kind == QZO_LINEAR_K || kind == QZO_LINEAR_V;
            double rows = (double)(all_rows ? pack->row_count : pack->gather_count);
            sum += 2.0 * rows * (double)t->out_features * (double)t->in_features;
        }
    return sum + 2.0 * (double)pack->gather_count * (double)model->shape.vocab *
                     (double)model->shape.width;
}

/* A score and a weighted value are a product and a sum each, per dimension of the heads. A row sees
 * as many as its position says. */
static double attention_flops(const qzo_model *model, const qzo_pack *pack) {
    double pairs = 0.0, width = (double)(model->shape.head_count * model->shape.head_dim);
    const double last_pairs = LONG_ROW - 1 + SHORT_ROW - 1 + ALIKE_ROW - 1;
    for (int64_t row = 0; row < pack->row_count; row++) pairs += pack->positions[row] + 1;
    return 4.0 * width * ((double)(model->shape.layer_count - 1) * pairs + last_pairs);
}

static void check_counts(bool shares) {
    const qzo_perturbation perturbation = {.seed = 3, .c = 1e-2f};
    test_model plain, watched;
    qzo_pack pack;
    qzo_backend *profile = NULL;
    qzo_model_dir *dir = NULL;
    const char *path = qzo_test_fixture("tiny-llama");
    fill_pack(&pack, shares);
    test_model_open(&plain, path, 2);
    double *expected = test_log_probs(&plain, &pack, &perturbation);

    test_model_open(&watched, path, 2);
    qzo_model_free(watched.model);
    assert_ok(qzo_profile_open(&profile, watched.backend));
    watched.backend = profile;
    assert_ok(qzo_model_dir_open(&dir, path));
    assert_ok(qzo_model_load(&watched.model, dir, profile));
    for (int pass = 0; pass < 2; pass++) {
        bool on = pass == 1;
        if (on) qzo_profile_switch(profile, true);
        double *actual = test_log_probs(&watched, &pack, &perturbation);
        assert_memory_equal(actual, expected, (size_t)pack.target_count * sizeof *actual);
        free(actual);
        const qzo_phase_total *totals = qzo_profile_totals(profile);
        double factor = on ? 1.0 : 0.0;
        assert_true(totals[QZO_PHASE_MATMUL].flops == factor * matmul_flops(watched.model, &pack));
        assert_true(totals[QZO_PHASE_ATTENTION].flops ==
                    factor * attention_flops(watched.model, &pack));
        int64_t layers = watched.model->shape.layer_count, linears = 0;
        for (int kind = 0; kind < QZO_LINEAR_COUNT; kind++)
            linears += watched.model->layers[0].weights[kind] != NULL;
        assert_int_equal(totals[QZO_PHASE_ATTENTION].calls, on ? layers : 0);
        assert_int_equal(totals[QZO_PHASE_DECODE].calls, on ? layers * linears + 1 : 0);
        assert_int_equal(totals[QZO_PHASE_LOSS].calls, on ? 1 : 0);
    }
    free(expected);
    qzo_pack_release(&pack);
    test_model_close(&plain);
    test_model_close(&watched);
}

static void counts_are_those_of_the_pass(void **state) {
    (void)state;
    check_counts(false);
    check_counts(true);
}

static qzo_backend *loader;

/* What a device's backend allocates, but for the gaps that align the parts. */
static void check_loaded_bytes(const test_weight *weight, const char *name) {
    const qzo_qtensor *tensor = &weight->tensor;
    const double gaps_bytes = 3 * 256;
    qzo_weight *loaded = NULL;
    qzo_memory_use use;
    assert_ok(loader->ops->weight_load(loader, &loaded, tensor));
    assert_ok(loader->ops->memory_use(loader, &use));
    double values_bytes = 4.0 * (double)(tensor->group_count * tensor->out_features);
    double wanted = (double)use.held_bytes[QZO_MEMORY_WEIGHTS] + values_bytes;
    double counted = qzo_profile_weight_bytes(tensor);
    if (counted > wanted || counted < wanted - gaps_bytes)
        fail_msg("%s: %.0f bytes counted, %.0f allocated and trained", name, counted, wanted);
    loader->ops->weight_free(loader, loaded);
}

static void weights_have_the_bytes_that_are_loaded(void **state) {
    (void)state;
    const qzo_backend_options options = {.dry = true};
    assert_ok(qzo_backend_open(&loader, "cuda", &options));
    test_weights_visit(check_loaded_bytes);
    qzo_backend_close(loader);
}

/* Codes of 3 bits, zero points and fp32 masters of 4 groups, the group of each input; two codebooks
 * of 256 groups of 8 fp16 values beside a byte per group and codebook. */
static void weights_have_the_bytes_of_their_format(void **state) {
    (void)state;
    test_weight gptq = test_weight_gptq_bits(3, 64, 128, 32, false, true);
    test_weight dense = test_weight_dense(64, 128, QZO_DTYPE_F16);
    test_weight aqlm = test_weight_aqlm(8, 2, false, 64, 128);
    assert_true(qzo_profile_weight_bytes(&gptq.tensor) ==
                64 * 128 * 3 / 8 + 64 * 4 * 3 / 8 + 64 * 4 * 4 + 128 * 4);
    assert_true(qzo_profile_weight_bytes(&dense.tensor) == 64 * 128 * 2);
    assert_true(qzo_profile_weight_bytes(&aqlm.tensor) ==
                64 * 128 / 8 * 2 + 2 * 256 * 8 * 2 + 64 * 4);
    test_weight_release(&gptq), test_weight_release(&dense), test_weight_release(&aqlm);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_those_of_the_pass),
        cmocka_unit_test(weights_have_the_bytes_of_their_format),
        cmocka_unit_test(weights_have_the_bytes_that_are_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
