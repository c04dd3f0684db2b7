/* ctest: labels=gpu timeout=300 emulated
 * Both signs of a perturbation in one forward pass give the bits of one pass after the other: of
 * every format and architecture, whatever trains, with and without adapters, of few rows and of
 * many. The CPU comes first, then CUDA where there is a device (else 77). */
#include "device_support.h"
#include "mmdit_support.h"

enum { ROWS_MAX = 240, TARGETS_MAX = 200, PLACES_MAX = 300 };

static const qzo_training everything = {
    .groups = {[QZO_GROUP_SCALES] = {true, QZO_KEEP_AUTO, "", ""},
               [QZO_GROUP_UNQUANTIZED] = {true, QZO_KEEP_AUTO, "", ""},
               [QZO_GROUP_WEIGHTS] = {true, QZO_KEEP_AUTO, "", ""},
               [QZO_GROUP_LORA] = {false, QZO_KEEP_AUTO, "", ""}}};

/* Fixtures, and the rank of adapters on all their linear layers; 0: none. */
static const struct {
    const char *path;
    const qzo_training *training;
    int64_t rank;
} models[] = {
    {"tiny-llama", &qzo_training_default, 0},
    {"tiny-llama", &everything, 3},
    {"gptq/v1-asym-2bit", &qzo_training_default, 0},
    {"gptq/v2-asym-3bit-desc-act", &qzo_training_default, 0},
    {"gptq/v1-asym-8bit-g16", &everything, 0},
    {"gptq/v1-asym-whole-row-tied", &qzo_training_default, 0},
    {"bnb/nf4-nested", &qzo_training_default, 0},
    {"bnb/fp4", &everything, 8},
    {"aqlm/2x8", &qzo_training_default, 0},
    {"awq/g32", &everything, 0},
    {"hqq/3bit-g16", &qzo_training_default, 0},
    {"compressed/int4-g16-asym", &everything, 5},
    {"gguf/llama-q4_k_m", &qzo_training_default, 0},
    {"gguf/qwen3-q4_0", &everything, 0},
    {"arch/llama-linear-rope", &everything, 0},
    {"arch/mistral", &everything, 0},
    {"arch/qwen2", &everything, 0},
    {"arch/qwen3-gptq", &everything, 0},
    {"arch/phi3-gptq", &everything, 4},
    {"arch/gemma2", &everything, 0},
    {"arch/opt-projected-post-norm", &everything, 0},
    {"arch/opt-gptq", &everything, 0},
    {"arch/gpt2-gptq", &everything, 2},
};
enum { MODEL_COUNT = sizeof models / sizeof *models };

/* How far scales move where they do not move in proportion. Those of K-quants are a hundred times
 * smaller than others' and meet sub-scales: further out their activations overflow in fp16. */
static float step_of(const char *path) { return strncmp(path, "gguf/", 5) == 0 ? 1e-4f : 1e-2f; }

static const int32_t yes[] = {1, 5, 9, 17, 3, 8, 21, 22}, no[] = {1, 5, 9, 17, 3, 8, 25, 26, 27};
static const int32_t text[] = {1, 30, 4, 2, 6, 11, 12, 13, 14, 15, 7, 19};

static const int32_t headed_yes[] = {4,  7,  11, 2, 30, 9, 8, 6,  19, 3,  3, 12,
                                     13, 14, 15, 5, 1,  9, 3, 17, 8,  21, 22};
static const int32_t headed_no[] = {4,  7,  11, 2,  30, 9, 8, 6, 19, 3,  3,
                                    12, 13, 14, 15, 5,  1, 9, 3, 25, 26, 27};
enum { ALIKE = -1 };

/* One text of `few` rows; or questions whose options share a prefix, and texts; or questions that
 * begin alike, so that keys and values have places of their own. */
static void make_pack(qzo_pack *out, int64_t few) {
    const qzo_pack_limits limits = {.rows = ROWS_MAX,
                                    .gathers = TARGETS_MAX,
                                    .targets = TARGETS_MAX,
                                    .options = 40,
                                    .context = 30,
                                    .pair_rows = ROWS_MAX,
                                    .pair_gathers = TARGETS_MAX,
                                    .places = few == ALIKE ? PLACES_MAX : 0,
                                    .pair_places = few == ALIKE ? PLACES_MAX : 0};
    const test_row question[] = {{yes, 8, 2}, {no, 9, 3}}, lone = {text, 12, 6};
    const test_row short_text = {text, few + 1, 1};
    assert_ok(qzo_pack_create(out, &limits));
    for (int i = 0; few == 0 && i < 7; i++) {
        test_pack_add(out, question, 2);
        test_pack_add(out, &lone, 1);
    }
    if (few > 0) test_pack_add(out, &short_text, 1);
    for (int i = 0; few == ALIKE && i < 6; i++) {
        const test_row headed[] = {{headed_yes, 23, 2}, {headed_no, 22, 3}};
        test_pack_add(out, &headed[i % 2], i % 3 == 0 && i % 2 == 0 ? 2 : 1);
        test_pack_add(out, question, 2);
    }
    qzo_pack_finish(out);
    assert_int_equal(qzo_pack_is_shared(out), few == ALIKE);
}

typedef struct fixture {
    qzo_model *model;
    qzo_adapters *adapters;
    qzo_forward *forward;
    float *masters, *unit;
} fixture;

static void open_fixture(fixture *out, int index, const qzo_pack_limits *limits) {
    const qzo_adapter_settings settings = {models[index].rank, 4.0, "all-linear"};
    qzo_model_dir *dir = NULL;
    *out = (fixture){0};
    assert_ok(qzo_model_dir_open(&dir, qzo_test_fixture(models[index].path)));
    assert_ok(qzo_model_load_for(&out->model, dir, backend, models[index].training));
    if (settings.rank > 0) assert_ok(qzo_adapters_open(&out->adapters, out->model, &settings));
    int64_t added = out->adapters != NULL ? out->adapters->value_count : 0;
    int64_t count = out->model->master_count + added;
    float *values = test_normals(61, count, 0.1f);
    assert_ok(qzo_model_initial_values(out->model, values));
    out->masters = device_floats(values, count);
    out->unit = device_floats(values, count);
    free(values);
    assert_ok(qzo_forward_open_adapted(&out->forward, out->model, out->adapters, limits));
}

static void close_fixture(fixture *f) {
    qzo_forward_close(f->forward);
    qzo_adapters_close(f->adapters);
    qzo_model_free(f->model);
    drop(f->masters), drop(f->unit);
}

static void compare_passes(const fixture *f, const qzo_pack *pack,
                           const qzo_perturbation *perturbation, const char *name) {
    double pair[2 * TARGETS_MAX], alone[2 * TARGETS_MAX];
    qzo_perturbation minus = *perturbation;
    int64_t targets = pack->target_count;
    minus.c = -perturbation->c;
    assert_true(qzo_forward_has_pair(f->forward, pack));
    assert_ok(qzo_forward_log_probs_pair(f->forward, pack, f->masters, perturbation, pair));
    assert_ok(qzo_forward_log_probs(f->forward, pack, f->masters, perturbation, alone));
    assert_ok(qzo_forward_log_probs(f->forward, pack, f->masters, &minus, alone + targets));
    for (int64_t i = 0; i < 2 * targets; i++)
        if (memcmp(&pair[i], &alone[i], sizeof *pair) != 0)
            fail_msg("%s %s, %lld rows: log-probability %lld of %lld is %.17g in a pair, %.17g "
                     "alone",
                     backend->ops->name, name, (long long)pack->row_count, (long long)i,
                     2 * (long long)targets, pair[i], alone[i]);
    if (memcmp(pair, pair + targets, (size_t)targets * sizeof *pair) == 0)
        fail_msg("%s %s: both signs give the same", backend->ops->name, name);
}

static void a_pair_gives_the_bits_of_two_passes(void **state) {
    (void)state;
    static const int64_t few[] = {ALIKE, 0, 1, 8, 9};
    for (int i = 0; i < MODEL_COUNT; i++)
        for (size_t rows = 0; rows < sizeof few / sizeof *few; rows++) {
            fixture f;
            qzo_pack pack;
            make_pack(&pack, few[rows]);
            open_fixture(&f, i, &pack.limits);
            const qzo_perturbation kinds[] = {
                {.seed = 5, .c = step_of(models[i].path)},
                {.seed = 6, .c = -5e-2f, .directions = QZO_DIRECTIONS_RADEMACHER, .unit = f.unit}};
            for (int k = 0; k < 2; k++) compare_passes(&f, &pack, &kinds[k], models[i].path);
            close_fixture(&f);
            qzo_pack_release(&pack);
        }
}

static void compare_images(qzo_mmdit_forward *forward, const float *masters,
                           const qzo_perturbation *perturbation, int count, const char *name) {
    float pair[2 * EXAMPLES * LATENT], alone[2 * EXAMPLES * LATENT];
    qzo_perturbation minus = *perturbation;
    minus.c = -perturbation->c;
    assert_true(qzo_mmdit_forward_has_pair(forward));
    assert_ok(qzo_mmdit_forward_run_pair(forward, masters, perturbation, pair));
    assert_ok(qzo_mmdit_forward_run(forward, masters, perturbation, alone));
    assert_ok(qzo_mmdit_forward_run(forward, masters, &minus, alone + count * LATENT));
    assert_same_floats(pair, alone, 2 * count * LATENT, name);
    assert_int_not_equal(memcmp(pair, pair + count * LATENT, (size_t)count * LATENT * 4), 0);
}

/* A workspace whose pairs need more room than its batches, and one of which a batch is too many. */
static void a_pair_of_images_gives_the_bits_of_two_passes(void **state) {
    (void)state;
    const qzo_perturbation perturbation = {.seed = 5, .c = 1e-2f};
    for (int i = 0; i < TEST_IMAGE_MODELS; i++) {
        qzo_model_dir *dir = NULL;
        qzo_model *model = NULL;
        qzo_mmdit_forward *forward = NULL;
        test_images data;
        qzo_mmdit_limits limits = {.examples = EXAMPLES,
                                   .height = 8,
                                   .width = 6,
                                   .text_rows = TEXT_ROWS,
                                   .pair_examples = EXAMPLES};
        test_images_load(&data, test_image_models[i]);
        assert_ok(qzo_model_dir_open(&dir, qzo_test_fixture(test_image_models[i])));
        assert_ok(qzo_model_load_for(&model, dir, backend, &everything));
        float *values = malloc((size_t)model->master_count * sizeof *values);
        assert_ok(qzo_model_initial_values(model, values));
        float *masters = device_floats(values, model->master_count);
        for (int count = EXAMPLES; count > 0; count--) {
            const qzo_mmdit_batch batch = {count, data.latents, data.timesteps, data.text,
                                           data.pooled};
            limits.pair_examples = count;
            assert_ok(qzo_mmdit_forward_open(&forward, model, &limits));
            assert_ok(qzo_mmdit_forward_set(forward, &batch));
            compare_images(forward, masters, &perturbation, count, test_image_models[i]);
            qzo_mmdit_forward_close(forward);
        }
        limits.pair_examples = 1;
        const qzo_mmdit_batch both = {EXAMPLES, data.latents, data.timesteps, data.text,
                                      data.pooled};
        assert_ok(qzo_mmdit_forward_open(&forward, model, &limits));
        assert_ok(qzo_mmdit_forward_set(forward, &both));
        assert_false(qzo_mmdit_forward_has_pair(forward));
        qzo_mmdit_forward_close(forward);
        drop(masters);
        free(values);
        qzo_model_free(model);
    }
}

static void packs_beyond_the_limits_are_no_pair(void **state) {
    (void)state;
    qzo_pack pack, small, alike;
    fixture f;
    make_pack(&pack, 0);
    make_pack(&small, 3);
    make_pack(&alike, ALIKE);
    for (int room = 0; room < 2; room++) {
        qzo_pack_limits of_alike = alike.limits;
        of_alike.pair_places = alike.place_count - 1 + room;
        open_fixture(&f, 0, &of_alike);
        assert_int_equal(qzo_forward_has_pair(f.forward, &alike), room);
        close_fixture(&f);
    }
    qzo_pack_release(&alike);
    qzo_pack_limits limits = pack.limits;
    limits.pair_rows = 3;
    limits.pair_gathers = 1;
    open_fixture(&f, 0, &limits);
    assert_true(qzo_forward_has_pair(f.forward, &small));
    assert_false(qzo_forward_has_pair(f.forward, &pack));
    close_fixture(&f);
    limits.pair_rows = limits.pair_gathers = 0;
    open_fixture(&f, 0, &limits);
    assert_false(qzo_forward_has_pair(f.forward, &small));
    close_fixture(&f);
    qzo_pack_release(&pack);
    qzo_pack_release(&small);
}

static int run(const char *name) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pair_gives_the_bits_of_two_passes),
        cmocka_unit_test(a_pair_of_images_gives_the_bits_of_two_passes),
        cmocka_unit_test(packs_beyond_the_limits_are_no_pair),
    };
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void) { return device_main(run); }
