/* What config.json may say of each architecture, and folders whose tensors do not agree with it.
 * Numbers are checked in test_forward, against recorded logits. */
#include "model_support.h"
#include "tensor_writer.h"

#include "base/json.h"

#include <math.h>

/* --- config.json --- */

static const char *const sizes_of_opt =
    "\"model_type\":\"opt\",\"hidden_size\":32,\"ffn_dim\":64,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":4,\"vocab_size\":32";
static const char *const sizes_of_gpt2 =
    "\"model_type\":\"gpt2\",\"n_embd\":24,\"n_layer\":2,\"n_head\":4,\"vocab_size\":32";

/* The keys that all of Llama's descendants share. */
#define SIZES_OF(type)                                                                             \
    "\"model_type\":\"" type "\",\"hidden_size\":32,\"intermediate_size\":48,"                     \
    "\"num_hidden_layers\":3,\"num_attention_heads\":4,\"vocab_size\":32"

static qzo_status read_shape(qzo_shape *out, const char *sizes, const char *more) {
    char text[2048];
    json_t *config = NULL;
    const qzo_arch *arch = NULL;
    snprintf(text, sizeof text, "{%s%s%s}", sizes, more[0] != '\0' ? "," : "", more);
    assert_ok(qzo_json_parse(&config, text, strlen(text), "config"));
    assert_ok(qzo_arch_find(&arch, config, "config"));
    qzo_status status = arch->read_shape(out, config, "config");
    json_decref(config);
    return status;
}

static void absent_keys_have_the_defaults_of_transformers(void **state) {
    (void)state;
    qzo_shape shape;
    assert_ok(read_shape(&shape, SIZES_OF("llama"), ""));
    assert_int_equal(shape.kv_head_count, 4);
    assert_int_equal(shape.head_dim, 8);
    assert_int_equal(shape.embed_width, 32);
    assert_true(shape.rope.kind == QZO_ROPE_DEFAULT && shape.rope.theta == 10000.0f);
    assert_true(shape.norm_epsilon == 1e-6f && shape.attention_scale == 1.0f / sqrtf(8.0f));
    assert_false(shape.tied_head || shape.has_bias[QZO_LINEAR_Q] || shape.has_bias[QZO_LINEAR_UP]);
    assert_ok(read_shape(&shape, sizes_of_opt, ""));
    assert_true(shape.tied_head && !shape.post_norm && shape.norm_epsilon == 1e-5f);
    assert_true(shape.has_bias[QZO_LINEAR_O] && shape.activation == QZO_ACTIVATION_RELU);
    assert_ok(read_shape(&shape, sizes_of_gpt2, "\"n_inner\":null"));
    assert_int_equal(shape.ffn_width, 96);
    assert_int_equal(shape.positions_max, 1024);
    assert_true(shape.tied_head && shape.activation == QZO_ACTIVATION_GELU_TANH);
}

static bool windows_are(const qzo_shape *shape, bool first, bool second, bool third) {
    return qzo_shape_is_windowed(shape, 0) == first && qzo_shape_is_windowed(shape, 1) == second &&
           qzo_shape_is_windowed(shape, 2) == third;
}

/* Of three layers: an absent sliding_window has a default in some, null is none in all. */
static void windows_are_where_the_architecture_has_them(void **state) {
    (void)state;
    const struct {
        const char *sizes, *more;
        int64_t window;
        bool first, second, third;
    } cases[] = {
        {SIZES_OF("mistral"), "", 4096, true, true, true},
        {SIZES_OF("mistral"), "\"sliding_window\":null", 0, false, false, false},
        {SIZES_OF("phi3"), "\"sliding_window\":2047", 2047, true, true, true},
        {SIZES_OF("phi3"), "", 0, false, false, false},
        {SIZES_OF("qwen2"), "\"sliding_window\":9,\"use_sliding_window\":false", 0, false, false,
         false},
        {SIZES_OF("qwen3"),
         "\"sliding_window\":9,\"use_sliding_window\":true,\"max_window_layers\":2", 9, false,
         false, true},
        {SIZES_OF("qwen2"),
         "\"sliding_window\":9,\"use_sliding_window\":true,\"max_window_layers\":0,\"layer_types\":"
         "["
         "\"full_attention\",\"sliding_attention\",\"full_attention\"]",
         9, false, true, false},
        {SIZES_OF("gemma2"), "", 4096, true, false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qzo_shape shape;
        assert_ok(read_shape(&shape, cases[i].sizes, cases[i].more));
        assert_int_equal(shape.window, cases[i].window);
        if (!windows_are(&shape, cases[i].first, cases[i].second, cases[i].third))
            fail_msg("case %d: other layers have windows", (int)i);
    }
}

static void gemma_has_caps_unless_they_are_null(void **state) {
    (void)state;
    qzo_shape shape;
    assert_ok(read_shape(&shape, SIZES_OF("gemma2"), ""));
    assert_true(shape.score_cap == 50.0f && shape.logit_cap == 30.0f && shape.tied_head);
    assert_true(shape.attention_scale == 1.0f / 16.0f && shape.embed_scale == sqrtf(32.0f));
    assert_int_equal(shape.head_dim, 256);
    assert_ok(read_shape(&shape, SIZES_OF("gemma2"),
                         "\"attn_logit_softcapping\":null,\"final_logit_softcapping\":null"));
    assert_true(shape.score_cap == 0.0f && shape.logit_cap == 0.0f);
}

static void both_spellings_of_rotary_settings_are_read(void **state) {
    (void)state;
    static const char *const spellings[] = {
        "\"rope_theta\":5e5,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
        "\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":8192}",
        "\"rope_parameters\":{\"rope_theta\":5e5,\"rope_type\":\"llama3\",\"factor\":8,"
        "\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":8192}"};
    for (int i = 0; i < 2; i++) {
        qzo_shape shape;
        assert_ok(read_shape(&shape, SIZES_OF("llama"), spellings[i]));
        assert_int_equal(shape.rope.kind, QZO_ROPE_LLAMA3);
        assert_true(shape.rope.theta == 5e5f && shape.rope.factor == 8.0f);
        assert_true(shape.rope.low_factor == 1.0f && shape.rope.high_factor == 4.0f);
        assert_true(shape.rope.original_positions == 8192.0f);
    }
}

static void what_the_forward_pass_does_not_do_is_refused(void **state) {
    (void)state;
    const struct {
        const char *sizes, *more;
        qzo_status status;
        const char *message;
    } cases[] = {
        {SIZES_OF("llama"), "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2}",
         QZO_ERR_UNSUPPORTED, "rope_scaling of type \"yarn\" is not supported"},
        {SIZES_OF("llama"), "\"rope_scaling\":{\"factor\":2}", QZO_ERR_UNSUPPORTED, "\"unnamed\""},
        {SIZES_OF("llama"), "\"rope_scaling\":{\"type\":\"linear\"}", QZO_ERR_FORMAT,
         "rope_scaling of type \"linear\" has no factor"},
        {SIZES_OF("llama"), "\"rope_scaling\":{\"type\":\"linear\",\"factor\":-1}", QZO_ERR_FORMAT,
         "factor is -1, expected a number above 0"},
        {SIZES_OF("llama"),
         "\"rope_parameters\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,"
         "\"high_freq_factor\":4,\"original_max_position_embeddings\":9}",
         QZO_ERR_FORMAT, "expected low_freq_factor below high_freq_factor"},
        {SIZES_OF("llama"), "\"partial_rotary_factor\":0.5", QZO_ERR_UNSUPPORTED,
         "partial_rotary_factor 0.5 is not supported"},
        {SIZES_OF("llama"), "\"hidden_act\":\"tanh\"", QZO_ERR_UNSUPPORTED,
         "hidden_act \"tanh\" is not supported"},
        {SIZES_OF("llama"), "\"head_dim\":7", QZO_ERR_FORMAT, "an even head size, found 7"},
        {SIZES_OF("llama"), "\"num_key_value_heads\":3", QZO_ERR_FORMAT,
         "4 attention heads cannot share 3 key-value heads"},
        {SIZES_OF("llama"), "\"rms_norm_eps\":0", QZO_ERR_FORMAT, "rms_norm_eps is 0"},
        {SIZES_OF("phi3"), "\"rope_scaling\":{\"type\":\"longrope\"}", QZO_ERR_UNSUPPORTED,
         "rope_scaling of type \"longrope\" is not supported"},
        {SIZES_OF("gemma2"), "\"layer_types\":[\"full_attention\"]", QZO_ERR_FORMAT,
         "layer_types has 1 entries, expected 3"},
        {SIZES_OF("gemma2"), "\"layer_types\":[\"full_attention\",\"chunked_attention\",7]",
         QZO_ERR_UNSUPPORTED, "layer 1 is neither full_attention nor sliding_attention"},
        {SIZES_OF("mistral"), "\"sliding_window\":0", QZO_ERR_FORMAT, "sliding_window"},
        {sizes_of_opt, "\"layer_norm_elementwise_affine\":false", QZO_ERR_UNSUPPORTED,
         "layer_norm_elementwise_affine false is not supported"},
        {sizes_of_opt, "\"_remove_final_layer_norm\":true", QZO_ERR_UNSUPPORTED,
         "_remove_final_layer_norm true is not supported"},
        {sizes_of_gpt2, "\"n_head\":5", QZO_ERR_FORMAT, "a width of 24 is not a multiple of 5"},
        {sizes_of_gpt2, "\"scale_attn_by_inverse_layer_idx\":true", QZO_ERR_UNSUPPORTED,
         "scale_attn_by_inverse_layer_idx true is not supported"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char sizes[1024], *doubled;
        qzo_shape shape;
        snprintf(sizes, sizeof sizes, "%s", cases[i].sizes);
        /* Duplicate keys are refused: a case that changes a size takes the original out. */
        if (strstr(cases[i].more, "n_head") != NULL && (doubled = strstr(sizes, "\"n_head\":4,")))
            memmove(doubled, doubled + 11, strlen(doubled + 11) + 1);
        assert_fails(read_shape(&shape, sizes, cases[i].more), cases[i].status, cases[i].message);
    }
}

/* --- tensors --- */

/* A fixture's folder again, with one tensor changed. */
typedef struct edit {
    const char *fixture;
    const char *left_out; /* NULL: none */
    const char *added;    /* a vector in fp32 of `count` times `value`; NULL: none */
    int64_t count;
    float value;
    const char *config_old, *config_new; /* text in config.json */
} edit;

static void copy_tensors(const edit *e, const char *folder) {
    char name[256];
    qzo_safetensors *file = NULL;
    tensor_writer *writer = tensor_writer_create();
    snprintf(name, sizeof name, "%s/model.safetensors", e->fixture);
    assert_ok(qzo_safetensors_open(&file, qzo_test_fixture(name)));
    for (int64_t i = 0; i < qzo_safetensors_count(file); i++) {
        const qzo_tensor_view *view = qzo_safetensors_at(file, i);
        char shape[64];
        if (e->left_out != NULL && strcmp(view->name, e->left_out) == 0) continue;
        snprintf(shape, sizeof shape, view->rank == 1 ? "%lld" : "%lld,%lld",
                 (long long)view->shape[0], (long long)view->shape[1]);
        tensor_writer_add(writer, view->name, qzo_dtype_name(view->dtype), shape, view->data,
                          view->size_bytes);
    }
    if (e->added != NULL) {
        float values[256];
        char shape[64];
        for (int64_t i = 0; i < e->count; i++) values[i] = e->value;
        snprintf(shape, sizeof shape, "%lld", (long long)e->count);
        tensor_writer_add(writer, e->added, "F32", shape, values, (size_t)e->count * sizeof(float));
    }
    char *path = qzo_path_join(folder, "model.safetensors");
    tensor_writer_save(writer, path, 0);
    free(path);
    free(writer);
    qzo_safetensors_close(file);
}

static void copy_config(const edit *e, const char *folder) {
    char name[256], changed[8192];
    size_t size_bytes = 0;
    snprintf(name, sizeof name, "%s/config.json", e->fixture);
    uint8_t *bytes = qzo_test_file_read(qzo_test_fixture(name), &size_bytes);
    assert_true(size_bytes < sizeof changed / 2);
    memcpy(changed, bytes, size_bytes);
    changed[size_bytes] = '\0';
    if (e->config_old != NULL) {
        char rest[8192], *at = strstr(changed, e->config_old);
        assert_non_null(at);
        snprintf(rest, sizeof rest, "%s%s", e->config_new, at + strlen(e->config_old));
        strcpy(at, rest);
    }
    tensor_folder_write(folder, "config.json", changed);
    free(bytes);
}

static char *edited_folder(const edit *e) {
    char *folder = qzo_test_folder_create();
    copy_tensors(e, folder);
    copy_config(e, folder);
    return folder;
}

static void tensors_that_do_not_agree_with_the_config_are_refused(void **state) {
    (void)state;
    const struct {
        edit change;
        const char *message;
    } cases[] = {
        {{.fixture = "arch/opt", .left_out = "model.decoder.layers.1.fc1.bias"},
         "tensor model.decoder.layers.1.fc1.bias is missing"},
        {{.fixture = "arch/opt", .left_out = "model.decoder.final_layer_norm.bias"},
         "tensor model.decoder.final_layer_norm.bias is missing"},
        {{.fixture = "arch/opt",
          .left_out = "model.decoder.layers.0.self_attn.q_proj.bias",
          .added = "model.decoder.layers.0.self_attn.q_proj.bias",
          .count = 31},
         "model.decoder.layers.0.self_attn.q_proj.bias: expected the shape"},
        {{.fixture = "arch/opt",
          .config_old = "\"max_position_embeddings\": 64",
          .config_new = "\"max_position_embeddings\": 65"},
         "model.decoder.embed_positions.weight: expected the shape"},
        {{.fixture = "arch/opt-projected-post-norm", .left_out = "model.decoder.project_in.weight"},
         "no weight of module model.decoder.project_in"},
        {{.fixture = "arch/qwen3-gptq", .left_out = "model.layers.1.self_attn.k_norm.weight"},
         "tensor model.layers.1.self_attn.k_norm.weight is missing"},
        {{.fixture = "arch/gemma2", .left_out = "model.layers.0.post_feedforward_layernorm.weight"},
         "tensor model.layers.0.post_feedforward_layernorm.weight is missing"},
        {{.fixture = "arch/phi3",
          .config_old = "\"intermediate_size\": 48",
          .config_new = "\"intermediate_size\": 47"},
         "mlp.gate_up_proj.weight: expected the shape"},
        {{.fixture = "arch/gpt2",
          .config_old = "\"n_inner\": null",
          .config_new = "\"n_inner\": 95"},
         "h.0.mlp.c_fc.weight: expected the shape"},
        {{.fixture = "arch/gpt2", .left_out = "h.1.attn.c_attn.weight"},
         "no weight of module h.1.attn.c_attn"},
        {{.fixture = "arch/llama3-rope-tied-biases",
          .config_old = "\"attention_bias\": true",
          .config_new = "\"attention_bias\": false"},
         "q_proj.bias: config.json says that there is no such bias"},
    };
    qzo_backend *backend = NULL;
    const qzo_backend_options options = {.thread_count = 1};
    assert_ok(qzo_backend_open(&backend, "cpu", &options));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qzo_model_dir *dir = NULL;
        qzo_model *model = NULL;
        char *folder = edited_folder(&cases[i].change);
        assert_ok(qzo_model_dir_open(&dir, folder));
        assert_fails(qzo_model_load(&model, dir, backend), QZO_ERR_FORMAT, cases[i].message);
        assert_fails(QZO_ERR_FORMAT, QZO_ERR_FORMAT, folder); /* the message names the folder */
        qzo_test_folder_remove(folder);
    }
    qzo_backend_close(backend);
}

/* Some quantizers write them for every linear layer. */
static void a_bias_of_zeros_that_is_not_asked_for_changes_nothing(void **state) {
    (void)state;
    static const int32_t ids[] = {1, 7, 30, 2};
    const edit change = {.fixture = "arch/llama-linear-rope",
                         .added = "model.layers.1.mlp.down_proj.bias",
                         .count = 32};
    char *folder = edited_folder(&change);
    const char *const folders[] = {qzo_test_fixture(change.fixture), folder};
    float *logits[2];
    for (int i = 0; i < 2; i++) {
        test_model model = {0};
        test_model_open(&model, folders[i], 1);
        logits[i] = test_logits(&model, ids, 4, &test_no_perturbation);
        test_model_close(&model);
    }
    assert_memory_equal(logits[0], logits[1], 4 * 32 * sizeof(float));
    free(logits[0]);
    free(logits[1]);
    qzo_test_folder_remove(folder);
}

/* What the plan says before loading is what loading takes. */
static void measured_sizes_are_those_loaded(void **state) {
    (void)state;
    static const char *const fixtures[] = {"tiny-llama",     "arch/llama3-rope-tied-biases",
                                           "arch/opt",       "arch/opt-projected-post-norm",
                                           "arch/gpt2",      "arch/gpt2-gptq",
                                           "arch/qwen2",     "arch/qwen3-gptq",
                                           "arch/phi3-gptq", "arch/gemma2"};
    for (size_t i = 0; i < sizeof fixtures / sizeof *fixtures; i++) {
        test_model model = {0};
        qzo_model_sizes sizes;
        qzo_model_dir *dir = NULL;
        test_model_open(&model, qzo_test_fixture(fixtures[i]), 1);
        assert_ok(qzo_model_dir_open(&dir, qzo_test_fixture(fixtures[i])));
        assert_ok(qzo_model_measure(&sizes, dir));
        assert_int_equal(sizes.loaded_bytes, model.model->loaded_bytes);
        assert_int_equal(sizes.value_count, model.model->value_count);
        qzo_model_dir_close(dir);
        test_model_close(&model);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_keys_have_the_defaults_of_transformers),
        cmocka_unit_test(windows_are_where_the_architecture_has_them),
        cmocka_unit_test(gemma_has_caps_unless_they_are_null),
        cmocka_unit_test(both_spellings_of_rotary_settings_are_read),
        cmocka_unit_test(what_the_forward_pass_does_not_do_is_refused),
        cmocka_unit_test(tensors_that_do_not_agree_with_the_config_are_refused),
        cmocka_unit_test(a_bias_of_zeros_that_is_not_asked_for_changes_nothing),
        cmocka_unit_test(measured_sizes_are_those_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
