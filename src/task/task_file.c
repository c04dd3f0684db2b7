#include "task/task_file.h"

#include "base/arena.h"
#include "base/file_map.h"
#include "task/image_file.h"
#include "task/score.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TENSOR_NAME_BYTES = 64,
    CHECKSUM_DIGITS = 16,
    ANSWER_TOKENS = 50, /* MeZO's: new tokens of a generated answer, which ends with its line */
};

/* Everything that a task owns; the arrays point into the mapping or, where the file's data is not
 * aligned, into the arena. */
typedef struct storage {
    qzo_task task;
    qzo_file_map map;
    qzo_safetensors *file;
    qzo_arena copies;
    qzo_images images;
} storage;

typedef struct reader {
    storage *owner;
    const char *path;
} reader;

const char *qzo_split_name(qzo_split_kind split) {
    static const char *const names[QZO_SPLIT_COUNT] = {"train", "dev", "test"};
    return names[split];
}

qzo_status qzo_task_checksum(uint64_t *out, const qzo_safetensors *file) {
    char *text = NULL;
    size_t text_bytes = 0;
    FILE *stream = open_memstream(&text, &text_bytes);
    if (stream == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for a task's metadata");
    const char *key = NULL;
    for (int64_t i = 0; (key = qzo_safetensors_metadata_key(file, i)) != NULL; i++)
        if (strcmp(key, "checksum") != 0)
            fprintf(stream, "%s=%s\n", key, qzo_safetensors_metadata(file, key));
    if (fclose(stream) != 0) {
        free(text);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for a task's metadata");
    }
    size_t payload_bytes = 0;
    const uint8_t *payload = qzo_safetensors_payload(file, &payload_bytes);
    *out = qzo_checksum_pair(payload, payload_bytes, text, text_bytes);
    free(text);
    return QZO_OK;
}

static qzo_status check_checksum(const reader *in, const char *expected) {
    qzo_status status = QZO_OK;
    uint64_t actual = 0;
    char text[CHECKSUM_DIGITS + 1];
    QZO_TRY(qzo_task_checksum(&actual, in->owner->file));
    snprintf(text, sizeof text, "%016llx", (unsigned long long)actual);
    if (strcmp(text, expected) != 0)
        status = qzo_fail(QZO_ERR_FORMAT, "%s: damaged: its checksum says %s, its contents give %s",
                          in->path, expected, text);
cleanup:
    return status;
}

static qzo_status metadata_text(const char **out, const reader *in, const char *key) {
    *out = qzo_safetensors_metadata(in->owner->file, key);
    if (*out == NULL || (*out)[0] == '\0')
        return qzo_fail(QZO_ERR_FORMAT, "%s: metadata \"%s\" is missing: not a task file?",
                        in->path, key);
    return QZO_OK;
}

static qzo_status metadata_int(int64_t *out, const reader *in, const char *key, int64_t min,
                               int64_t max) {
    qzo_status status = QZO_OK;
    const char *text = NULL;
    char *end = NULL;
    QZO_TRY(metadata_text(&text, in, key));
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < min || value > max)
        status = qzo_fail(QZO_ERR_FORMAT,
                          "%s: metadata \"%s\": expected an integer in %lld .. %lld, found \"%s\"",
                          in->path, key, (long long)min, (long long)max, text);
    *out = value;
cleanup:
    return status;
}

/* How answers are generated, where the file says it. */
static qzo_status read_generation(reader *in) {
    qzo_task *task = &in->owner->task;
    const char *stop = qzo_safetensors_metadata(in->owner->file, "stop");
    const char *bos = qzo_safetensors_metadata(in->owner->file, "bos");
    task->answer_max = ANSWER_TOKENS;
    task->bos = bos != NULL && bos[0] >= '0' && bos[0] <= '9' ? strtoll(bos, NULL, 10) : -1;
    if (stop == NULL) stop = "\n";
    task->stop = stop[0] != '\0' ? strdup(stop) : NULL;
    if (stop[0] != '\0' && task->stop == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", in->path);
    if (qzo_safetensors_metadata(in->owner->file, "max_new_tokens") == NULL) return QZO_OK;
    return metadata_int(&task->answer_max, in, "max_new_tokens", 1, INT32_MAX);
}

static qzo_status read_metadata(reader *in) {
    qzo_status status = QZO_OK;
    const char *version = NULL, *checksum = NULL, *name = NULL, *loss = NULL, *metric = NULL;
    qzo_task *task = &in->owner->task;
    QZO_TRY(metadata_text(&version, in, "qzo_task_version"));
    if (strcmp(version, "1") != 0 && strcmp(version, "2") != 0) {
        status = qzo_fail(QZO_ERR_UNSUPPORTED, "%s: task file of version %s, only 1 and 2 are read",
                          in->path, version);
        goto cleanup;
    }
    QZO_TRY(metadata_text(&checksum, in, "checksum"));
    QZO_TRY(check_checksum(in, checksum));
    QZO_TRY(metadata_text(&name, in, "name"));
    QZO_TRY(metadata_text(&loss, in, "loss"));
    QZO_TRY(metadata_text(&metric, in, "metric"));
    QZO_TRY(metadata_int(&task->vocab_size, in, "vocab_size", 1, INT32_MAX));
    QZO_TRY(metadata_int(&task->max_length, in, "max_length", 2, INT32_MAX));
    task->name = strdup(name);
    task->loss = strdup(loss);
    task->metric = strdup(metric);
    if (task->name == NULL || task->loss == NULL || task->metric == NULL)
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", in->path);
    if (status == QZO_OK) status = read_generation(in);
cleanup:
    return status;
}

/* The list PREFIX.NAME of one type; its data aligned once the arena has its block. */
static qzo_status list_of(const void **out, int64_t *count, reader *in, const char *prefix,
                          const char *name, qzo_dtype dtype) {
    char full[TENSOR_NAME_BYTES];
    snprintf(full, sizeof full, "%s.%s", prefix, name);
    const qzo_tensor_view *view = qzo_safetensors_find(in->owner->file, full);
    if (view == NULL) return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s is missing", in->path, full);
    if (view->dtype != dtype || view->rank != 1)
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: expected a list of %s, found rank %d of %s",
                        in->path, full, qzo_dtype_name(dtype), view->rank,
                        qzo_dtype_name(view->dtype));
    *out = view->data;
    *count = view->count;
    if (!qzo_tensor_aligned(view)) {
        void *copy = qzo_arena_reserve(&in->owner->copies, view->count, qzo_dtype_bytes(dtype));
        if (copy != NULL) memcpy(copy, view->data, view->size_bytes);
        *out = copy;
    }
    return QZO_OK;
}

typedef struct lengths {
    int64_t option_begin, token_begin, answer_tokens, gold, tokens;
    int64_t right, reference_begin, reference_text_begin, reference_bytes; /* of version 2 */
} lengths;

static bool has_list(const reader *in, const char *prefix, const char *name) {
    char full[TENSOR_NAME_BYTES];
    snprintf(full, sizeof full, "%s.%s", prefix, name);
    return qzo_safetensors_find(in->owner->file, full) != NULL;
}

/* What version 2 adds, where it is there. */
static qzo_status place_later(qzo_split *split, lengths *found, reader *in, const char *prefix) {
    qzo_status status = QZO_OK;
    const void *data = NULL;
    if (has_list(in, prefix, "right")) {
        QZO_TRY(list_of(&data, &found->right, in, prefix, "right", QZO_DTYPE_U8));
        split->right = data;
    }
    if (!has_list(in, prefix, "reference_begin")) return QZO_OK;
    QZO_TRY(list_of(&data, &found->reference_begin, in, prefix, "reference_begin", QZO_DTYPE_I64));
    split->reference_begin = data;
    QZO_TRY(list_of(&data, &found->reference_text_begin, in, prefix, "reference_text_begin",
                    QZO_DTYPE_I64));
    split->reference_text_begin = data;
    QZO_TRY(list_of(&data, &found->reference_bytes, in, prefix, "reference_bytes", QZO_DTYPE_U8));
    split->reference_bytes = data;
cleanup:
    return status;
}

static qzo_status place_split(qzo_split *split, lengths *found, reader *in, qzo_split_kind kind) {
    qzo_status status = QZO_OK;
    const char *prefix = qzo_split_name(kind);
    const void *data = NULL;
    split->kind = kind;
    QZO_TRY(list_of(&data, &found->option_begin, in, prefix, "option_begin", QZO_DTYPE_I64));
    split->option_begin = data;
    QZO_TRY(list_of(&data, &found->token_begin, in, prefix, "token_begin", QZO_DTYPE_I64));
    split->token_begin = data;
    QZO_TRY(list_of(&data, &found->answer_tokens, in, prefix, "answer_tokens", QZO_DTYPE_I32));
    split->answer_tokens = data;
    QZO_TRY(list_of(&data, &found->gold, in, prefix, "gold", QZO_DTYPE_I32));
    split->gold = data;
    QZO_TRY(list_of(&data, &found->tokens, in, prefix, "tokens", QZO_DTYPE_I32));
    split->tokens = data;
    split->example_count = found->gold;
    QZO_TRY(place_later(split, found, in, prefix));
cleanup:
    return status;
}

/* Runs twice (see base/arena.h): to add up what must be copied, and to point at everything. */
static qzo_status place_all(lengths found[QZO_SPLIT_COUNT], int64_t *pieces, int64_t *piece_bytes,
                            reader *in) {
    qzo_status status = QZO_OK;
    qzo_task *task = &in->owner->task;
    const void *data = NULL;
    for (int i = 0; i < QZO_SPLIT_COUNT; i++)
        QZO_TRY(place_split(&task->splits[i], &found[i], in, (qzo_split_kind)i));
    QZO_TRY(list_of(&data, pieces, in, "pieces", "begin", QZO_DTYPE_I64));
    task->piece_begin = data;
    QZO_TRY(list_of(&data, piece_bytes, in, "pieces", "bytes", QZO_DTYPE_U8));
    task->piece_bytes = data;
cleanup:
    return status;
}

/* begin (count): starts at 0, never falls (rises, where empty is false), ends at the length of what
 * it cuts. */
static qzo_status check_offsets(const int64_t *begin, int64_t count, int64_t end, bool empty,
                                const char *prefix, const char *name, const char *path) {
    if (count < 1 || begin[0] != 0)
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s.%s must start with 0", path, prefix, name);
    for (int64_t i = 1; i < count; i++)
        if (begin[i] < begin[i - 1] || (!empty && begin[i] == begin[i - 1]))
            return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s.%s: entry %lld is %lld after %lld", path,
                            prefix, name, (long long)i, (long long)begin[i],
                            (long long)begin[i - 1]);
    if (begin[count - 1] != end)
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s.%s ends with %lld, expected %lld", path,
                        prefix, name, (long long)begin[count - 1], (long long)end);
    return QZO_OK;
}

static qzo_status check_length(const char *prefix, const char *name, int64_t found,
                               int64_t expected, const char *path) {
    if (found == expected) return QZO_OK;
    return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s.%s has %lld entries, expected %lld", path,
                    prefix, name, (long long)found, (long long)expected);
}

static qzo_status check_rows(const qzo_split *split, const lengths *found, const char *prefix,
                             const reader *in) {
    for (int64_t i = 0; i < found->answer_tokens; i++) {
        const int64_t length = split->token_begin[i + 1] - split->token_begin[i];
        const int64_t answer = split->answer_tokens[i];
        if (length > in->owner->task.max_length)
            return qzo_fail(QZO_ERR_FORMAT, "%s: %s: option %lld has %lld tokens, at most %lld",
                            in->path, prefix, (long long)i, (long long)length,
                            (long long)in->owner->task.max_length);
        if (answer < 1 || answer >= length)
            return qzo_fail(QZO_ERR_FORMAT,
                            "%s: %s: option %lld: an answer of %lld tokens in a row of %lld",
                            in->path, prefix, (long long)i, (long long)answer, (long long)length);
    }
    for (int64_t i = 0; i < found->gold; i++) {
        const int64_t options = split->option_begin[i + 1] - split->option_begin[i];
        if (split->gold[i] < 0 || split->gold[i] >= options)
            return qzo_fail(QZO_ERR_FORMAT,
                            "%s: %s: example %lld: gold option %d, expected 0 .. %lld", in->path,
                            prefix, (long long)i, split->gold[i], (long long)options - 1);
    }
    for (int64_t i = 0; i < found->tokens; i++)
        if (split->tokens[i] < 0 || split->tokens[i] >= in->owner->task.vocab_size)
            return qzo_fail(QZO_ERR_FORMAT, "%s: %s: token %lld is %d, expected 0 .. %lld",
                            in->path, prefix, (long long)i, split->tokens[i],
                            (long long)in->owner->task.vocab_size - 1);
    return QZO_OK;
}

static qzo_status check_later(const qzo_split *split, const lengths *found, const char *prefix,
                              const char *path) {
    qzo_status status = QZO_OK;
    if (split->right != NULL) {
        QZO_TRY(check_length(prefix, "right", found->right, found->answer_tokens, path));
        for (int64_t i = 0; i < split->example_count; i++)
            if (split->right[split->option_begin[i] + split->gold[i]] != 1)
                return qzo_fail(QZO_ERR_FORMAT,
                                "%s: %s: example %lld: its gold option is not among the right ones",
                                path, prefix, (long long)i);
    }
    if (split->reference_begin == NULL) return QZO_OK;
    QZO_TRY(check_length(prefix, "reference_begin", found->reference_begin, found->gold + 1, path));
    QZO_TRY(check_offsets(split->reference_begin, found->reference_begin,
                          found->reference_text_begin - 1, false, prefix, "reference_begin", path));
    QZO_TRY(check_offsets(split->reference_text_begin, found->reference_text_begin,
                          found->reference_bytes, true, prefix, "reference_text_begin", path));
cleanup:
    return status;
}

static qzo_status check_split(const qzo_split *split, const lengths *found, qzo_split_kind kind,
                              const reader *in) {
    qzo_status status = QZO_OK;
    const char *prefix = qzo_split_name(kind), *path = in->path;
    QZO_TRY(check_length(prefix, "option_begin", found->option_begin, found->gold + 1, path));
    QZO_TRY(
        check_length(prefix, "token_begin", found->token_begin, found->answer_tokens + 1, path));
    QZO_TRY(check_offsets(split->option_begin, found->option_begin, found->answer_tokens, false,
                          prefix, "option_begin", path));
    QZO_TRY(check_offsets(split->token_begin, found->token_begin, found->tokens, false, prefix,
                          "token_begin", path));
    QZO_TRY(check_rows(split, found, prefix, in));
    QZO_TRY(check_later(split, found, prefix, path));
    if (kind != QZO_SPLIT_TEST && split->example_count == 0)
        status = qzo_fail(QZO_ERR_FORMAT, "%s: no example in the split %s", path, prefix);
cleanup:
    return status;
}

static qzo_status read_tensors(reader *in) {
    qzo_status status = QZO_OK;
    qzo_task *task = &in->owner->task;
    lengths found[QZO_SPLIT_COUNT] = {0};
    int64_t pieces = 0, piece_bytes = 0;
    QZO_TRY(place_all(found, &pieces, &piece_bytes, in));
    QZO_TRY(qzo_arena_allocate(&in->owner->copies, SIZE_MAX, in->path));
    QZO_TRY(place_all(found, &pieces, &piece_bytes, in));
    QZO_TRY(qzo_arena_finish(&in->owner->copies));
    for (int i = 0; i < QZO_SPLIT_COUNT; i++)
        QZO_TRY(check_split(&task->splits[i], &found[i], (qzo_split_kind)i, in));
    QZO_TRY(check_length("pieces", "begin", pieces, task->vocab_size + 1, in->path));
    QZO_TRY(
        check_offsets(task->piece_begin, pieces, piece_bytes, true, "pieces", "begin", in->path));
cleanup:
    return status;
}

/* Of a file of images: what its metadata says of itself, and its tensors. */
static qzo_status read_images(reader *in) {
    qzo_status status = QZO_OK;
    const char *checksum = NULL, *name = NULL;
    qzo_task *task = &in->owner->task;
    QZO_TRY(metadata_text(&checksum, in, "checksum"));
    QZO_TRY(check_checksum(in, checksum));
    QZO_TRY(metadata_text(&name, in, "name"));
    QZO_TRY(qzo_images_read(&in->owner->images, in->owner->file, in->path));
    task->images = &in->owner->images;
    for (int i = 0; i < QZO_SPLIT_COUNT; i++)
        task->splits[i] = (qzo_split){.kind = (qzo_split_kind)i,
                                      .example_count = in->owner->images.image_count[i]};
    task->name = strdup(name);
    task->loss = strdup(qzo_flow_matching.name);
    task->metric = strdup(qzo_metric_none.name);
    if (task->name == NULL || task->loss == NULL || task->metric == NULL)
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", in->path);
cleanup:
    return status;
}

/* Of a file of texts. */
static qzo_status read_rows(reader *in) {
    qzo_status status = read_metadata(in);
    return status == QZO_OK ? read_tensors(in) : status;
}

qzo_status qzo_task_open(qzo_task **out, const char *path) {
    qzo_status status = QZO_OK;
    *out = NULL;
    storage *owner = calloc(1, sizeof *owner);
    if (owner == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    owner->task.storage = owner;
    reader in = {.owner = owner, .path = path};
    QZO_TRY(qzo_file_map_open(&owner->map, path));
    QZO_TRY(qzo_safetensors_parse(&owner->file, owner->map.bytes, owner->map.size_bytes, path));
    QZO_TRY(qzo_images_detect(owner->file) ? read_images(&in) : read_rows(&in));
    owner->task.digest = qzo_digest_of(owner->map.bytes, owner->map.size_bytes);
    *out = &owner->task;
    owner = NULL;
cleanup:
    if (owner != NULL) qzo_task_close(&owner->task);
    return status;
}

void qzo_task_close(qzo_task *task) {
    if (task == NULL) return;
    storage *owner = task->storage;
    free(task->name);
    free(task->loss);
    free(task->metric);
    free(task->stop);
    qzo_arena_release(&owner->copies);
    qzo_safetensors_close(owner->file);
    qzo_file_map_close(&owner->map);
    free(owner);
}
