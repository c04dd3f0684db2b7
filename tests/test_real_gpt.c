/* ctest: labels=real timeout=120
 * A trained GPT-2 with its recorded intermediate values (llm-viz's gpt-nano-sort): cut after one,
 * two and three blocks, the model gives the head's product of the recorded block. Skipped where
 * QZO_TEST_DATA lacks it. */
#include "model_support.h"
#include "tensor_writer.h"

#include "base/json.h"

#include <math.h>

/* fp32 against fp32 of PyTorch; docs/error-analysis.md, "Logits". */
static const double LOGIT_ERROR = 1e-4;
enum { ROWS = 3, LENGTH = 11, WIDTH = 48, BLOCKS = 3, TOKENS = 3, FILE_BYTES_MAX = 1 << 20 };

/* --- arrays of the JSON files: {"shape": [...], "data": base64 of fp32} --- */

static int base64_value(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = strchr(digits, c);
    assert_true(at != NULL && c != '\0');
    return (int)(at - digits);
}

/* The caller frees. */
static float *array_of(const json_t *root, const char *name, int64_t count) {
    const char *text = json_string_value(json_object_get(json_object_get(root, name), "data"));
    if (text == NULL) fail_msg("no array %s", name);
    size_t size_bytes = (size_t)count * sizeof(float), done = 0;
    uint8_t *bytes = malloc(size_bytes + 3);
    for (; *text != '\0' && *text != '=' && done < size_bytes; text += 4) {
        uint32_t bits = 0;
        for (int i = 0; i < 4; i++)
            bits = bits << 6 | (uint32_t)(text[i] == '=' ? 0 : base64_value(text[i]));
        for (int i = 0; i < 3; i++) bytes[done + (size_t)i] = (uint8_t)(bits >> (16 - 8 * i));
        done += 3;
    }
    assert_true(done >= size_bytes && done < size_bytes + 3);
    return (float *)(void *)bytes;
}

/* --- the folder --- */

static void add(tensor_writer *writer, const json_t *root, const char *name, int64_t rows,
                int64_t columns, bool transpose) {
    int64_t count = rows * (columns > 0 ? columns : 1);
    float *values = array_of(root, name, count), *stored = malloc((size_t)count * sizeof *stored);
    char shape[64];
    for (int64_t i = 0; i < count; i++)
        stored[transpose ? i % columns * rows + i / columns : i] = values[i];
    if (columns == 0)
        snprintf(shape, sizeof shape, "%lld", (long long)rows);
    else
        snprintf(shape, sizeof shape, "%lld,%lld", (long long)(transpose ? columns : rows),
                 (long long)(transpose ? rows : columns));
    tensor_writer_add(writer, name, "F32", shape, stored, (size_t)count * sizeof *stored);
    free(values);
    free(stored);
}

/* minGPT's linears are (out, in), GPT-2's files (in, out). */
static void add_block(tensor_writer *writer, const json_t *root, int block) {
    static const struct {
        const char *module;
        int64_t outputs, inputs; /* inputs 0: a norm */
    } modules[] = {
        {"ln_1", WIDTH, 0}, {"attn.c_attn", 3 * WIDTH, WIDTH}, {"attn.c_proj", WIDTH, WIDTH},
        {"ln_2", WIDTH, 0}, {"mlp.c_fc", 4 * WIDTH, WIDTH},    {"mlp.c_proj", WIDTH, 4 * WIDTH}};
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
        char name[128];
        snprintf(name, sizeof name, "transformer.h.%d.%s.weight", block, modules[i].module);
        add(writer, root, name, modules[i].outputs, modules[i].inputs, modules[i].inputs > 0);
        snprintf(name, sizeof name, "transformer.h.%d.%s.bias", block, modules[i].module);
        add(writer, root, name, modules[i].outputs, 0, false);
    }
}

static char *folder_of(const json_t *root, int blocks) {
    char *folder = qzo_test_folder_create(), config[512];
    tensor_writer *writer = tensor_writer_create();
    add(writer, root, "transformer.wte.weight", TOKENS, WIDTH, false);
    add(writer, root, "transformer.wpe.weight", LENGTH, WIDTH, false);
    for (int block = 0; block < blocks; block++) add_block(writer, root, block);
    add(writer, root, "transformer.ln_f.weight", WIDTH, 0, false);
    add(writer, root, "transformer.ln_f.bias", WIDTH, 0, false);
    add(writer, root, "lm_head.weight", TOKENS, WIDTH, false);
    char *path = qzo_path_join(folder, "model.safetensors");
    tensor_writer_save(writer, path, 0);
    free(path);
    free(writer);
    snprintf(config, sizeof config,
             "{\"model_type\":\"gpt2\",\"n_embd\":%d,\"n_layer\":%d,\"n_head\":3,\"vocab_size\":%d,"
             "\"n_positions\":%d,\"tie_word_embeddings\":false}",
             WIDTH, blocks, TOKENS, LENGTH);
    tensor_folder_write(folder, "config.json", config);
    return folder;
}

/* --- what is expected after a block --- */

/* out (rows, TOKENS) = head of the last norm of the recorded block (rows, WIDTH), in double */
static void head_in_double(double *out, const float *block, const json_t *root) {
    float *gain = array_of(root, "transformer.ln_f.weight", WIDTH);
    float *bias = array_of(root, "transformer.ln_f.bias", WIDTH);
    float *head = array_of(root, "lm_head.weight", TOKENS * WIDTH);
    for (int row = 0; row < ROWS * LENGTH; row++) {
        const float *x = block + row * WIDTH;
        double mean = 0.0, square = 0.0;
        for (int i = 0; i < WIDTH; i++) mean += (double)x[i] / WIDTH;
        for (int i = 0; i < WIDTH; i++) square += ((double)x[i] - mean) * ((double)x[i] - mean);
        double inverse = 1.0 / sqrt(square / WIDTH + 1e-5);
        for (int t = 0; t < TOKENS; t++) {
            double sum = 0.0;
            for (int i = 0; i < WIDTH; i++)
                sum += (((double)x[i] - mean) * inverse * (double)gain[i] + (double)bias[i]) *
                       (double)head[t * WIDTH + i];
            out[row * TOKENS + t] = sum;
        }
    }
    free(gain);
    free(bias);
    free(head);
}

static void check_blocks(const json_t *root, const json_t *partials, int blocks) {
    static double expected[ROWS * LENGTH * TOKENS];
    char name[32];
    double worst = 0.0;
    test_model model = {0};
    char *folder = folder_of(root, blocks);
    snprintf(name, sizeof name, "block%d", blocks - 1);
    float *block = array_of(partials, name, (int64_t)ROWS * LENGTH * WIDTH);
    float *ids = array_of(partials, "idx", (int64_t)ROWS * LENGTH);
    head_in_double(expected, block, root);
    test_model_open(&model, folder, 1);
    for (int row = 0; row < ROWS; row++) {
        int32_t tokens[LENGTH];
        for (int i = 0; i < LENGTH; i++) tokens[i] = (int32_t)ids[row * LENGTH + i];
        float *actual = test_logits(&model, tokens, LENGTH, &test_no_perturbation);
        for (int i = 0; i < LENGTH * TOKENS; i++)
            worst = fmax(worst, fabs((double)actual[i] - expected[row * LENGTH * TOKENS + i]));
        free(actual);
    }
    print_message("%s: largest error %.3g\n", name, worst);
    qzo_test_assert_close(worst, 0.0, LOGIT_ERROR, "LOGIT_ERROR");
    test_model_close(&model);
    qzo_test_folder_remove(folder);
    free(block);
    free(ids);
}

static json_t *read_json(const char *name) {
    json_t *root = NULL;
    assert_ok(qzo_json_read(&root, qzo_test_data(name), FILE_BYTES_MAX));
    return root;
}

static void every_block_gives_the_recorded_values(void **state) {
    (void)state;
    json_t *root = read_json("models/gpt-nano-sort/gpt-nano-sort-model.json");
    json_t *partials = read_json("models/gpt-nano-sort/gpt-nano-sort-t0-partials.json");
    for (int blocks = 1; blocks <= BLOCKS; blocks++) check_blocks(root, partials, blocks);
    json_decref(partials);
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_block_gives_the_recorded_values)};
    if (qzo_test_data("models/gpt-nano-sort/gpt-nano-sort-model.json") == NULL) {
        print_message("skipped: no models/gpt-nano-sort in QZO_TEST_DATA\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
