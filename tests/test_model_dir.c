/* Model folders: one file or shards, the quantization's settings, and a digest that depends on the
 * contents alone. */
#include "tensor_writer.h"

#include "weights/model_dir.h"

static char *folder;
static const float values[4] = {1.0f, 2.0f, 3.0f, 4.0f};

static void write_tensors(const char *file, const char *first, const char *second) {
    char *path = qzo_path_join(folder, file);
    tensor_writer *writer = tensor_writer_create();
    if (first != NULL) tensor_writer_add(writer, first, "F32", "2,2", values, sizeof values);
    if (second != NULL) tensor_writer_add(writer, second, "F32", "4", values, sizeof values);
    tensor_writer_save(writer, path, 0);
    free(writer);
    free(path);
}

static void write_index(const char *text) {
    tensor_folder_write(folder, "model.safetensors.index.json", text);
}

static int setup(void **state) {
    (void)state;
    folder = qzo_test_folder_create();
    tensor_folder_write(folder, "config.json", "{\"hidden_size\": 4}");
    return 0;
}

static int teardown(void **state) {
    (void)state;
    qzo_test_folder_remove(folder);
    return 0;
}

static qzo_digest digest_now(void) {
    qzo_model_dir *dir = NULL;
    qzo_digest digest = {{0}};
    assert_ok(qzo_model_dir_open(&dir, folder));
    assert_ok(qzo_model_dir_digest(&digest, dir));
    qzo_model_dir_close(dir);
    return digest;
}

static void assert_open_fails(qzo_status expected, const char *message) {
    qzo_model_dir *dir = NULL;
    assert_fails(qzo_model_dir_open(&dir, folder), expected, message);
    assert_fails(expected, expected, folder); /* the message names the folder */
    assert_null(dir);
}

static void one_file_opens(void **state) {
    (void)state;
    qzo_model_dir *dir = NULL;
    write_tensors("model.safetensors", "b", "a");
    assert_ok(qzo_model_dir_open(&dir, folder));
    assert_string_equal(qzo_model_dir_path(dir), folder);
    assert_int_equal(qzo_model_dir_count(dir), 2);
    assert_string_equal(qzo_model_dir_at(dir, 0)->name, "a");
    assert_string_equal(qzo_model_dir_at(dir, 1)->name, "b");
    assert_ptr_equal(qzo_model_dir_find(dir, "b"), qzo_model_dir_at(dir, 1));
    assert_null(qzo_model_dir_find(dir, "c"));
    assert_non_null(json_object_get(qzo_model_dir_config(dir), "hidden_size"));
    assert_null(qzo_model_dir_quantization(dir));
    qzo_model_dir_close(dir);
    qzo_model_dir_close(NULL);
}

static void shards_open_as_one_model(void **state) {
    (void)state;
    qzo_model_dir *dir = NULL;
    write_tensors("model-2.safetensors", "a", NULL);
    write_tensors("model-1.safetensors", "b", "c");
    write_index("{\"metadata\": {}, \"weight_map\": {\"a\": \"model-2.safetensors\","
                " \"b\": \"model-1.safetensors\", \"c\": \"model-1.safetensors\"}}");
    assert_ok(qzo_model_dir_open(&dir, folder));
    assert_int_equal(qzo_model_dir_count(dir), 3);
    for (int i = 0; i < 3; i++) assert_int_equal(qzo_model_dir_at(dir, i)->name[0], 'a' + i);
    qzo_model_dir_close(dir);
}

static void sharding_does_not_change_the_digest(void **state) {
    (void)state;
    write_tensors("model.safetensors", "a", "b");
    const qzo_digest whole = digest_now();
    char *path = qzo_path_join(folder, "model.safetensors");
    remove(path);
    free(path);
    write_tensors("one", "a", NULL);
    write_tensors("two", NULL, "b");
    write_index("{\"weight_map\": {\"a\": \"one\", \"b\": \"two\"}}");
    const qzo_digest sharded = digest_now();
    assert_true(qzo_digest_equal(&whole, &sharded));
}

static void digest_ignores_spelling_of_the_config(void **state) {
    (void)state;
    write_tensors("model.safetensors", "a", "b");
    tensor_folder_write(folder, "config.json", "{\"x\": 1, \"y\": {\"b\": 2, \"a\": 1}}");
    const qzo_digest first = digest_now();
    tensor_folder_write(folder, "config.json", "{ \"y\":{\"a\":1,\"b\":2},\n\"x\":1 }");
    const qzo_digest second = digest_now();
    assert_true(qzo_digest_equal(&first, &second));
}

static void digest_depends_on_all_contents(void **state) {
    (void)state;
    enum { CASES = 6 };
    qzo_digest digests[CASES];
    write_tensors("model.safetensors", "a", "b");
    digests[0] = digest_now();
    tensor_folder_write(folder, "config.json", "{\"hidden_size\": 5}");
    digests[1] = digest_now();
    tensor_folder_write(folder, "quantize_config.json", "{\"bits\": 4}");
    digests[2] = digest_now();
    tensor_folder_write(folder, "quantize_config.json", "{\"bits\": 3}");
    digests[3] = digest_now();
    write_tensors("model.safetensors", "b", "a"); /* same bytes, other names */
    digests[4] = digest_now();
    write_tensors("model.safetensors", "b", NULL);
    digests[5] = digest_now();
    for (int i = 0; i < CASES; i++)
        for (int j = 0; j < i; j++) assert_false(qzo_digest_equal(&digests[i], &digests[j]));
}

static void digest_sees_every_bit_of_the_data(void **state) {
    (void)state;
    write_tensors("model.safetensors", "a", "b");
    const qzo_digest before = digest_now();
    char *path = qzo_path_join(folder, "model.safetensors");
    size_t size_bytes = 0;
    uint8_t *bytes = qzo_test_file_read(path, &size_bytes);
    bytes[size_bytes - 1] ^= 1;
    qzo_test_file_write(path, bytes, size_bytes);
    const qzo_digest after = digest_now();
    assert_false(qzo_digest_equal(&before, &after));
    free(bytes);
    free(path);
}

static void quantization_comes_from_config_first(void **state) {
    (void)state;
    qzo_model_dir *dir = NULL;
    write_tensors("model.safetensors", "a", NULL);
    tensor_folder_write(folder, "quantize_config.json", "{\"bits\": 3}");
    assert_ok(qzo_model_dir_open(&dir, folder));
    assert_int_equal(json_integer_value(json_object_get(qzo_model_dir_quantization(dir), "bits")),
                     3);
    qzo_model_dir_close(dir);
    tensor_folder_write(folder, "config.json", "{\"quantization_config\": {\"bits\": 4}}");
    assert_ok(qzo_model_dir_open(&dir, folder));
    assert_int_equal(json_integer_value(json_object_get(qzo_model_dir_quantization(dir), "bits")),
                     4);
    qzo_model_dir_close(dir);
    tensor_folder_write(folder, "config.json", "{\"quantization_config\": null}");
    assert_ok(qzo_model_dir_open(&dir, folder));
    assert_int_equal(json_integer_value(json_object_get(qzo_model_dir_quantization(dir), "bits")),
                     3);
    qzo_model_dir_close(dir);
}

static void missing_files_are_named(void **state) {
    (void)state;
    assert_open_fails(QZO_ERR_NOT_FOUND, "expected model.safetensors or model.safetensors.index");
    write_index("{\"weight_map\": {\"a\": \"one\"}}");
    assert_open_fails(QZO_ERR_NOT_FOUND, "/one: cannot open");
    char *path = qzo_path_join(folder, "config.json");
    remove(path);
    assert_open_fails(QZO_ERR_NOT_FOUND, "config.json");
    tensor_folder_write(folder, "model_index.json", "{\"_class_name\": \"SD3Pipeline\"}");
    assert_open_fails(QZO_ERR_CONFIG, "diffusers pipeline");
    assert_open_fails(QZO_ERR_CONFIG, "/transformer");
    free(path);
}

static void malformed_json_files_are_refused(void **state) {
    (void)state;
    write_tensors("one", "a", NULL);
    write_index("{}");
    assert_open_fails(QZO_ERR_FORMAT, "\"weight_map\" must be an object");
    write_index("{\"weight_map\": {}}");
    assert_open_fails(QZO_ERR_FORMAT, "at least one tensor");
    write_index("{\"weight_map\": {\"a\": 1}}");
    assert_open_fails(QZO_ERR_FORMAT, "the shard of a must be a file name");
    write_index("{\"weight_map\": {\"a\": \"../one\"}}");
    assert_open_fails(QZO_ERR_FORMAT, "the shard of a must be a file name");
    write_index("[]");
    assert_open_fails(QZO_ERR_FORMAT, "expected an object");
    tensor_folder_write(folder, "config.json", "{\"quantization_config\": 4}");
    assert_open_fails(QZO_ERR_FORMAT, "\"quantization_config\" must be an object");
    tensor_folder_write(folder, "config.json", "{");
    assert_open_fails(QZO_ERR_FORMAT, "config.json: malformed JSON at line 1");
}

static void index_and_shards_must_agree(void **state) {
    (void)state;
    write_tensors("one", "a", NULL);
    write_tensors("two", "b", NULL);
    write_index("{\"weight_map\": {\"a\": \"one\", \"b\": \"two\", \"c\": \"two\"}}");
    assert_open_fails(QZO_ERR_FORMAT, "names tensor c in two, which does not hold it");
    write_index("{\"weight_map\": {\"a\": \"two\", \"b\": \"one\"}}");
    assert_open_fails(QZO_ERR_FORMAT, "which does not hold it");
    write_tensors("two", "b", "a");
    write_index("{\"weight_map\": {\"a\": \"one\", \"b\": \"two\"}}");
    assert_open_fails(QZO_ERR_FORMAT, "tensor a stands in two shards");
}

static void required_tensors_are_checked(void **state) {
    (void)state;
    qzo_model_dir *dir = NULL;
    const qzo_tensor_view *view = NULL;
    char *path = qzo_path_join(folder, "model.safetensors");
    tensor_writer *writer = tensor_writer_create();
    tensor_writer_add(writer, "matrix", "F32", "2,2", values, sizeof values);
    tensor_writer_add(writer, "vector", "F16", "8", values, sizeof values);
    tensor_writer_add(writer, "words", "I32", "4", values, sizeof values);
    tensor_writer_save(writer, path, 0);
    assert_ok(qzo_model_dir_open(&dir, folder));
    assert_ok(qzo_model_dir_require_float(&view, dir, "matrix", 2, 2, 2));
    assert_string_equal(view->name, "matrix");
    assert_ok(qzo_model_dir_require_float(&view, dir, "vector", 1, 8, 0));
    assert_fails(qzo_model_dir_require_float(&view, dir, "none", 1, 8, 0), QZO_ERR_FORMAT,
                 "tensor none is missing");
    assert_fails(qzo_model_dir_require_float(&view, dir, "words", 1, 4, 0), QZO_ERR_FORMAT,
                 "tensor words: expected F32, F16 or BF16, found I32");
    assert_fails(qzo_model_dir_require_float(&view, dir, "matrix", 2, 4, 1), QZO_ERR_FORMAT,
                 "expected the shape (4, 1), found rank 2 and (2, 2)");
    assert_fails(qzo_model_dir_require_float(&view, dir, "matrix", 1, 4, 0), QZO_ERR_FORMAT,
                 "expected the shape (4), found rank 2");
    assert_fails(qzo_model_dir_require_float(&view, dir, "vector", 2, 8, 1), QZO_ERR_FORMAT,
                 "expected the shape (8, 1), found rank 1");
    qzo_model_dir_close(dir);
    free(writer);
    free(path);
}

#define folder_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        folder_test(one_file_opens),
        folder_test(shards_open_as_one_model),
        folder_test(sharding_does_not_change_the_digest),
        folder_test(digest_ignores_spelling_of_the_config),
        folder_test(digest_depends_on_all_contents),
        folder_test(digest_sees_every_bit_of_the_data),
        folder_test(quantization_comes_from_config_first),
        folder_test(missing_files_are_named),
        folder_test(malformed_json_files_are_refused),
        folder_test(index_and_shards_must_agree),
        folder_test(required_tensors_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
