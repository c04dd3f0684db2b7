/* Task files: the fixture opens, each broken rule is refused, any damaged byte is noticed. */
#include "tensor_writer.h"

#include "task/task_file.h"

#include <inttypes.h>

enum { VOCAB = 4, TOKENS = 5 };

typedef struct small_split {
    int64_t option_begin[3];
    int64_t token_begin[3];
    int32_t answer_tokens[2];
    int32_t gold[1];
    int32_t tokens[TOKENS];
} small_split;

/* A task with one example of two options per split; tests change one thing. */
typedef struct small_task {
    small_split split; /* the same in all three */
    int64_t piece_begin[VOCAB + 1];
    const char *version, *loss, *vocab_size, *max_length, *name;
    const char *max_new_tokens, *stop, *bos; /* NULL: left out */
    bool is_later;                           /* with the tensors of version 2 */
    uint8_t right[2];
    int64_t reference_begin[2], reference_text_begin[3];
    const char *left_out;        /* a tensor, or NULL */
    const char *test_gold_shape; /* "1", or another number of entries for test.gold */
    const char *tokens_dtype;
    const char *checksum; /* NULL: the right one */
    size_t shift;
} small_task;

static char *folder;
static char *path;

static small_task small_task_default(void) {
    return (small_task){
        .split = {.option_begin = {0, 2},
                  .token_begin = {0, 2, 5},
                  .answer_tokens = {1, 2},
                  .gold = {1},
                  .tokens = {1, 0, 2, 3, 0}},
        .right = {1, 1},
        .reference_begin = {0, 2},
        .reference_text_begin = {0, 4, 7},
        .piece_begin = {0, 1, 1, 3, 6},
        .version = "1",
        .loss = "classification",
        .vocab_size = "4",
        .max_length = "3",
        .name = "small",
        .test_gold_shape = "1",
        .tokens_dtype = "I32",
    };
}

static void add(tensor_writer *writer, const small_task *task, const char *prefix, const char *name,
                const char *dtype, const char *shape, const void *data, size_t data_bytes) {
    char full[64];
    snprintf(full, sizeof full, "%s.%s", prefix, name);
    if (task->left_out != NULL && strcmp(task->left_out, full) == 0) return;
    tensor_writer_add(writer, full, dtype, shape, data, data_bytes);
}

static void add_metadata(tensor_writer *writer, const small_task *task) {
    tensor_writer_metadata(writer, "qzo_task_version", task->version);
    tensor_writer_metadata(writer, "name", task->name);
    tensor_writer_metadata(writer, "loss", task->loss);
    tensor_writer_metadata(writer, "metric", "accuracy");
    tensor_writer_metadata(writer, "vocab_size", task->vocab_size);
    tensor_writer_metadata(writer, "max_length", task->max_length);
    tensor_writer_metadata(writer, "template", "free text");
    if (task->max_new_tokens != NULL)
        tensor_writer_metadata(writer, "max_new_tokens", task->max_new_tokens);
    if (task->stop != NULL) tensor_writer_metadata(writer, "stop", task->stop);
    if (task->bos != NULL) tensor_writer_metadata(writer, "bos", task->bos);
}

/* The bytes with the right checksum in place of sixteen zeros. */
static void seal(uint8_t *bytes, size_t size_bytes) {
    static const char empty[] = "\"checksum\":\"0000000000000000\"";
    qzo_safetensors *file = NULL;
    uint64_t checksum = 0;
    char text[17];
    assert_ok(qzo_safetensors_parse(&file, bytes, size_bytes, "small"));
    assert_ok(qzo_task_checksum(&checksum, file));
    qzo_safetensors_close(file);
    snprintf(text, sizeof text, "%016" PRIx64, checksum);
    uint8_t *at = memmem(bytes, size_bytes, empty, sizeof empty - 1);
    assert_non_null(at);
    memcpy(at + 12, text, 16);
}

static uint8_t *small_task_bytes(size_t *size_bytes, const small_task *task) {
    tensor_writer *writer = tensor_writer_create();
    add_metadata(writer, task);
    tensor_writer_metadata(writer, "checksum",
                           task->checksum != NULL ? task->checksum : "0000000000000000");
    for (int i = 0; i < QZO_SPLIT_COUNT; i++) {
        const char *prefix = qzo_split_name((qzo_split_kind)i);
        const small_split *split = &task->split;
        add(writer, task, prefix, "option_begin", "I64", "2", split->option_begin, 16);
        add(writer, task, prefix, "token_begin", "I64", "3", split->token_begin, 24);
        add(writer, task, prefix, "answer_tokens", "I32", "2", split->answer_tokens, 8);
        const char *shape = i == QZO_SPLIT_TEST ? task->test_gold_shape : "1";
        add(writer, task, prefix, "gold", "I32", shape, split->gold, 4 * (size_t)atoi(shape));
        add(writer, task, prefix, "tokens", task->tokens_dtype, "5", split->tokens, 20);
        if (!task->is_later) continue;
        add(writer, task, prefix, "right", "U8", "2", task->right, 2);
        add(writer, task, prefix, "reference_begin", "I64", "2", task->reference_begin, 16);
        add(writer, task, prefix, "reference_text_begin", "I64", "3", task->reference_text_begin,
            24);
        add(writer, task, prefix, "reference_bytes", "U8", "7", "onetwo3", 7);
    }
    add(writer, task, "pieces", "begin", "I64", "5", task->piece_begin, 40);
    add(writer, task, "pieces", "bytes", "U8", "6", "abcdef", 6);
    uint8_t *bytes = tensor_writer_bytes(size_bytes, writer, task->shift);
    if (task->checksum == NULL) seal(bytes, *size_bytes);
    free(writer);
    return bytes;
}

static qzo_status open_bytes(qzo_task **out, const uint8_t *bytes, size_t size_bytes) {
    qzo_test_file_write(path, bytes, size_bytes);
    return qzo_task_open(out, path);
}

static void assert_refused(const small_task *task, qzo_status expected, const char *message) {
    size_t size_bytes = 0;
    qzo_task *opened = NULL;
    uint8_t *bytes = small_task_bytes(&size_bytes, task);
    assert_fails(open_bytes(&opened, bytes, size_bytes), expected, message);
    assert_fails(expected, expected, path); /* the message names the file */
    assert_null(opened);
    free(bytes);
}

static int setup(void **state) {
    (void)state;
    folder = qzo_test_folder_create();
    path = qzo_path_join(folder, "small.qzt");
    return 0;
}

static int teardown(void **state) {
    (void)state;
    free(path);
    qzo_test_folder_remove(folder);
    return 0;
}

static void small_task_opens_at_any_alignment(void **state) {
    (void)state;
    for (size_t shift = 0; shift < 8; shift++) {
        small_task task = small_task_default();
        task.shift = shift;
        size_t size_bytes = 0;
        qzo_task *opened = NULL;
        uint8_t *bytes = small_task_bytes(&size_bytes, &task);
        assert_ok(open_bytes(&opened, bytes, size_bytes));
        assert_string_equal(opened->name, "small");
        assert_string_equal(opened->loss, "classification");
        assert_string_equal(opened->metric, "accuracy");
        assert_int_equal(opened->vocab_size, VOCAB);
        for (int i = 0; i < QZO_SPLIT_COUNT; i++) {
            const qzo_split *split = &opened->splits[i];
            assert_int_equal(split->example_count, 1);
            assert_memory_equal(split->option_begin, task.split.option_begin, 16);
            assert_memory_equal(split->token_begin, task.split.token_begin, 24);
            assert_memory_equal(split->answer_tokens, task.split.answer_tokens, 8);
            assert_memory_equal(split->tokens, task.split.tokens, 20);
            assert_int_equal(split->gold[0], 1);
        }
        assert_memory_equal(opened->piece_begin, task.piece_begin, 40);
        assert_memory_equal(opened->piece_bytes, "abcdef", 6);
        const qzo_digest digest = qzo_digest_of(bytes, size_bytes);
        assert_true(qzo_digest_equal(&digest, &opened->digest));
        qzo_task_close(opened);
        free(bytes);
    }
    qzo_task_close(NULL);
}

static void fixture_opens(void **state) {
    (void)state;
    static const int64_t examples[QZO_SPLIT_COUNT] = {1000, 300, 1000};
    qzo_task *task = NULL;
    assert_ok(qzo_task_open(&task, qzo_test_fixture("tiny-task.qzt")));
    for (int i = 0; i < QZO_SPLIT_COUNT; i++)
        assert_int_equal(task->splits[i].example_count, examples[i]);
    assert_int_equal(task->vocab_size, 64);
    assert_string_equal(task->metric, "accuracy");
    qzo_task_close(task);
}

static void wrong_metadata_is_refused(void **state) {
    (void)state;
    small_task task = small_task_default();
    task.version = "3";
    assert_refused(&task, QZO_ERR_UNSUPPORTED, "task file of version 3, only 1 and 2 are read");
    task = small_task_default();
    task.version = "";
    assert_refused(&task, QZO_ERR_FORMAT, "\"qzo_task_version\" is missing: not a task file?");
    task = small_task_default();
    task.loss = "";
    assert_refused(&task, QZO_ERR_FORMAT, "metadata \"loss\" is missing");
    static const char *const numbers[] = {
        "0", "-4", "4x", " 4", "0x4", "99999999999999999999", "2147483648", "4.0", "+4"};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        task = small_task_default();
        task.vocab_size = numbers[i];
        assert_refused(&task, QZO_ERR_FORMAT,
                       "metadata \"vocab_size\": expected an integer in 1 .. 2147483647");
    }
}

static void wrong_checksum_is_refused(void **state) {
    (void)state;
    small_task task = small_task_default();
    task.checksum = "0123456789abcdef";
    assert_refused(&task, QZO_ERR_FORMAT, "damaged: its checksum says 0123456789abcdef");
    task.checksum = "";
    assert_refused(&task, QZO_ERR_FORMAT, "metadata \"checksum\" is missing");
}

static void wrong_tensors_are_refused(void **state) {
    (void)state;
    static const char *const names[] = {
        "train.option_begin", "dev.token_begin", "test.answer_tokens", "train.gold",
        "dev.tokens",         "pieces.begin",    "pieces.bytes"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char message[64];
        small_task task = small_task_default();
        task.left_out = names[i];
        snprintf(message, sizeof message, "tensor %s is missing", names[i]);
        assert_refused(&task, QZO_ERR_FORMAT, message);
    }
    small_task task = small_task_default();
    task.tokens_dtype = "U32";
    assert_refused(&task, QZO_ERR_FORMAT, "tensor train.tokens: expected a list of I32, found");
    task = small_task_default();
    task.test_gold_shape = "0";
    assert_refused(&task, QZO_ERR_FORMAT, "test.option_begin has 2 entries, expected 1");
}

static void wrong_offsets_are_refused(void **state) {
    (void)state;
    small_task task = small_task_default();
    task.split.option_begin[0] = 1;
    assert_refused(&task, QZO_ERR_FORMAT, "train.option_begin must start with 0");
    task = small_task_default();
    task.split.option_begin[1] = 0; /* an example without options */
    assert_refused(&task, QZO_ERR_FORMAT, "train.option_begin: entry 1 is 0 after 0");
    task = small_task_default();
    task.split.option_begin[1] = 3;
    assert_refused(&task, QZO_ERR_FORMAT, "train.option_begin ends with 3, expected 2");
    task = small_task_default();
    task.split.token_begin[1] = INT64_MIN;
    assert_refused(&task, QZO_ERR_FORMAT, "train.token_begin: entry 1 is -9223372036854775808");
    task = small_task_default();
    task.split.token_begin[1] = 6;
    assert_refused(&task, QZO_ERR_FORMAT, "train.token_begin: entry 2 is 5 after 6");
    task = small_task_default();
    task.split.token_begin[2] = INT64_MAX;
    assert_refused(&task, QZO_ERR_FORMAT, "train.token_begin ends with 9223372036854775807");
    task = small_task_default();
    task.piece_begin[2] = 0;
    assert_refused(&task, QZO_ERR_FORMAT, "pieces.begin: entry 2 is 0 after 1");
    task = small_task_default();
    task.piece_begin[4] = 7;
    assert_refused(&task, QZO_ERR_FORMAT, "pieces.begin ends with 7, expected 6");
}

static void wrong_rows_are_refused(void **state) {
    (void)state;
    static const int32_t wrong_tokens[] = {-1, VOCAB, INT32_MAX, INT32_MIN};
    static const int32_t wrong_gold[] = {-1, 2, INT32_MAX, INT32_MIN};
    static const int32_t wrong_answers[] = {0, 3, -1, INT32_MAX};
    small_task task;
    for (int i = 0; i < 4; i++) {
        task = small_task_default();
        task.split.tokens[4] = wrong_tokens[i];
        assert_refused(&task, QZO_ERR_FORMAT, "train: token 4 is");
        task = small_task_default();
        task.split.gold[0] = wrong_gold[i];
        assert_refused(&task, QZO_ERR_FORMAT, "train: example 0: gold option");
        task = small_task_default();
        task.split.answer_tokens[1] = wrong_answers[i];
        assert_refused(&task, QZO_ERR_FORMAT, "train: option 1: an answer of");
    }
    task = small_task_default();
    task.max_length = "2";
    assert_refused(&task, QZO_ERR_FORMAT, "train: option 1 has 3 tokens, at most 2");
}

static void assert_generates(const small_task *task, int64_t answer_max, const char *stop,
                             int64_t bos) {
    size_t size_bytes = 0;
    qzo_task *opened = NULL;
    uint8_t *bytes = small_task_bytes(&size_bytes, task);
    assert_ok(open_bytes(&opened, bytes, size_bytes));
    assert_int_equal(opened->answer_max, answer_max);
    assert_int_equal(opened->bos, bos);
    assert_true(stop == NULL ? opened->stop == NULL : strcmp(opened->stop, stop) == 0);
    qzo_task_close(opened);
    free(bytes);
}

static void generation_is_mezos_unless_the_file_says_otherwise(void **state) {
    (void)state;
    small_task task = small_task_default();
    assert_generates(&task, 50, "\n", -1);
    task.max_new_tokens = "7";
    task.stop = " .";
    task.bos = "2";
    assert_generates(&task, 7, " .", 2);
    task.stop = "";
    task.bos = "none";
    assert_generates(&task, 7, NULL, -1);
    task.max_new_tokens = "0";
    assert_refused(&task, QZO_ERR_FORMAT, "\"max_new_tokens\": expected an integer in 1");
}

static void truncation_at_every_byte_is_refused(void **state) {
    (void)state;
    const small_task task = small_task_default();
    size_t size_bytes = 0;
    qzo_task *opened = NULL;
    uint8_t *bytes = small_task_bytes(&size_bytes, &task);
    for (size_t size = 0; size < size_bytes; size++)
        assert_int_equal(open_bytes(&opened, bytes, size), QZO_ERR_FORMAT);
    free(bytes);
}

static void damage_of_every_byte_is_noticed(void **state) {
    (void)state;
    const small_task task = small_task_default();
    size_t size_bytes = 0;
    uint8_t *bytes = small_task_bytes(&size_bytes, &task);
    const uint64_t header_end = 8 + qzo_get_u64(bytes);
    for (size_t at = 0; at < size_bytes; at++) {
        qzo_task *opened = NULL;
        const uint8_t kept = bytes[at];
        bytes[at] ^= 0x01;
        qzo_status status = open_bytes(&opened, bytes, size_bytes);
        /* Only the header may change unnoticed, where the JSON still means the same. */
        if (status == QZO_OK && at >= header_end) fail_msg("byte %zu changed unnoticed", at);
        qzo_task_close(opened);
        bytes[at] = kept;
    }
    free(bytes);
}

#define folder_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

static small_task later_task(void) {
    small_task task = small_task_default();
    task.version = "2";
    task.is_later = true;
    return task;
}

static void second_version_has_right_options_and_references(void **state) {
    (void)state;
    for (size_t shift = 0; shift < 8; shift += 7) { /* 7: nothing is aligned */
        small_task task = later_task();
        size_t size_bytes = 0;
        qzo_task *opened = NULL;
        task.shift = shift;
        uint8_t *bytes = small_task_bytes(&size_bytes, &task);
        assert_ok(open_bytes(&opened, bytes, size_bytes));
        const qzo_split *split = &opened->splits[QZO_SPLIT_DEV];
        assert_int_equal(split->right[0], 1);
        assert_int_equal(split->reference_begin[1], 2);
        assert_int_equal(split->reference_text_begin[1], 4);
        assert_memory_equal(split->reference_bytes, "onetwo3", 7);
        qzo_task_close(opened);
        free(bytes);
    }
}

static void wrong_right_options_and_references_are_refused(void **state) {
    (void)state;
    small_task task = later_task();
    task.right[1] = 0;
    assert_refused(&task, QZO_ERR_FORMAT, "its gold option is not among the right ones");
    task = later_task();
    task.reference_begin[1] = 1;
    assert_refused(&task, QZO_ERR_FORMAT, "train.reference_begin ends with 1, expected 2");
    task = later_task();
    task.reference_text_begin[2] = 8;
    assert_refused(&task, QZO_ERR_FORMAT, "train.reference_text_begin ends with 8, expected 7");
    task = later_task();
    task.left_out = "dev.reference_bytes";
    assert_refused(&task, QZO_ERR_FORMAT, "tensor dev.reference_bytes is missing");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        folder_test(second_version_has_right_options_and_references),
        folder_test(wrong_right_options_and_references_are_refused),
        folder_test(small_task_opens_at_any_alignment),
        cmocka_unit_test(fixture_opens),
        folder_test(generation_is_mezos_unless_the_file_says_otherwise),
        folder_test(wrong_metadata_is_refused),
        folder_test(wrong_checksum_is_refused),
        folder_test(wrong_tensors_are_refused),
        folder_test(wrong_offsets_are_refused),
        folder_test(wrong_rows_are_refused),
        folder_test(truncation_at_every_byte_is_refused),
        folder_test(damage_of_every_byte_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
