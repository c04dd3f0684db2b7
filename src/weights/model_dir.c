#include "weights/model_dir.h"

#include "base/check.h"
#include "base/file_io.h"
#include "base/json.h"
#include "weights/gguf_model.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Far above any real file of its kind. */
enum {
    CONFIG_BYTES_MAX = 16 << 20,
    INDEX_BYTES_MAX = 256 << 20,
    SHARDS_MAX = 10000,
};

struct qzo_model_dir {
    char *path;
    json_t *config;
    json_t *quantize_config;    /* of quantize_config.json, NULL where there is none */
    const json_t *quantization; /* borrowed from one of the two */
    json_t *index;              /* NULL where there is one file */
    char **shard_names;         /* in order of names */
    qzo_safetensors **shards;   /* the same order */
    int64_t shard_count;
    const qzo_tensor_view **views; /* of all shards, in order of names */
    int64_t count;
    const qzo_bnb_kind *quantize;
    char *gguf_path; /* NULL: the tensors lie in shards */
    qzo_gguf_model *gguf;
};

static qzo_status fail_memory(const qzo_model_dir *dir) {
    return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", dir->path);
}

static qzo_status read_json_object(json_t **out, const qzo_model_dir *dir, const char *name,
                                   size_t size_bytes_max) {
    qzo_status status = QZO_OK;
    char *path = qzo_path_join(dir->path, name);
    if (path == NULL) return fail_memory(dir);
    QZO_TRY(qzo_json_read(out, path, size_bytes_max));
    if (!json_is_object(*out)) status = qzo_fail(QZO_ERR_FORMAT, "%s: expected an object", path);
cleanup:
    free(path);
    return status;
}

static bool has_file(const qzo_model_dir *dir, const char *name) {
    char *path = qzo_path_join(dir->path, name);
    const bool found = path != NULL && access(path, F_OK) == 0;
    free(path);
    return found;
}

static qzo_status read_quantization(qzo_model_dir *dir) {
    qzo_status status = QZO_OK;
    if (qzo_json_has(dir->config, "quantization_config")) {
        dir->quantization = json_object_get(dir->config, "quantization_config");
        if (!json_is_object(dir->quantization))
            return qzo_fail(QZO_ERR_FORMAT,
                            "%s/config.json: \"quantization_config\" must be an object", dir->path);
    } else if (has_file(dir, "quantize_config.json")) {
        QZO_TRY(
            read_json_object(&dir->quantize_config, dir, "quantize_config.json", CONFIG_BYTES_MAX));
        dir->quantization = dir->quantize_config;
    }
cleanup:
    return status;
}

static int compare_strings(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A shard's name must stay inside the folder. */
static qzo_status check_shard_name(const qzo_model_dir *dir, const char *index, const char *tensor,
                                   const json_t *shard) {
    const char *name = json_string_value(shard);
    if (name == NULL || name[0] == '\0' || strchr(name, '/') != NULL || strcmp(name, "..") == 0)
        return qzo_fail(QZO_ERR_FORMAT, "%s/%s: the shard of %s must be a file name", dir->path,
                        index, tensor);
    return QZO_OK;
}

/* Fills shard_names from the index, each name once. */
static qzo_status list_shards(qzo_model_dir *dir, const char *index) {
    qzo_status status = QZO_OK;
    const char **names = NULL;
    QZO_TRY(read_json_object(&dir->index, dir, index, INDEX_BYTES_MAX));
    json_t *map = json_object_get(dir->index, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0)
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s/%s: \"weight_map\" must be an object with at least one tensor",
                        dir->path, index);
    size_t count = 0, distinct = 0;
    names = calloc(json_object_size(map), sizeof *names);
    if (names == NULL) return fail_memory(dir);
    const char *tensor;
    json_t *shard;
    json_object_foreach(map, tensor, shard) {
        QZO_TRY(check_shard_name(dir, index, tensor, shard));
        names[count++] = json_string_value(shard);
    }
    qsort(names, count, sizeof *names, compare_strings);
    for (size_t i = 0; i < count; i++)
        if (distinct == 0 || strcmp(names[i], names[distinct - 1]) != 0)
            names[distinct++] = names[i];
    if (distinct > SHARDS_MAX) {
        status =
            qzo_fail(QZO_ERR_LIMIT, "%s: %zu shards, at most %d", dir->path, distinct, SHARDS_MAX);
        goto cleanup;
    }
    dir->shard_names = calloc(distinct, sizeof *dir->shard_names);
    for (size_t i = 0; dir->shard_names != NULL && i < distinct; i++) {
        dir->shard_names[i] = strdup(names[i]);
        if (dir->shard_names[i] == NULL) break;
        dir->shard_count++;
    }
    if (dir->shard_count != (int64_t)distinct) status = fail_memory(dir);
cleanup:
    free(names);
    return status;
}

static qzo_status open_shards(qzo_model_dir *dir) {
    qzo_status status = QZO_OK;
    char *path = NULL;
    dir->shards = calloc((size_t)dir->shard_count, sizeof(qzo_safetensors *));
    if (dir->shards == NULL) return fail_memory(dir);
    for (int64_t i = 0; i < dir->shard_count; i++) {
        path = qzo_path_join(dir->path, dir->shard_names[i]);
        if (path == NULL) return fail_memory(dir);
        QZO_TRY(qzo_safetensors_open(&dir->shards[i], path));
        dir->count += qzo_safetensors_count(dir->shards[i]);
        free(path);
        path = NULL;
    }
cleanup:
    free(path);
    return status;
}

static int compare_views(const void *a, const void *b) {
    return strcmp((*(const qzo_tensor_view *const *)a)->name,
                  (*(const qzo_tensor_view *const *)b)->name);
}

/* Fills views; names that stand twice are neighbours then. */
static qzo_status collect_views(qzo_model_dir *dir) {
    int64_t filled = 0;
    dir->views = calloc((size_t)dir->count + 1, sizeof(const qzo_tensor_view *));
    if (dir->views == NULL) return fail_memory(dir);
    for (int64_t i = 0; i < dir->shard_count; i++)
        for (int64_t j = 0; j < qzo_safetensors_count(dir->shards[i]); j++)
            dir->views[filled++] = qzo_safetensors_at(dir->shards[i], j);
    for (int64_t i = 0; dir->gguf != NULL && i < dir->count; i++)
        dir->views[filled++] = qzo_gguf_model_at(dir->gguf, i);
    qsort(dir->views, (size_t)dir->count, sizeof(const qzo_tensor_view *), compare_views);
    for (int64_t i = 1; i < dir->count; i++)
        if (strcmp(dir->views[i - 1]->name, dir->views[i]->name) == 0)
            return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s stands in two shards", dir->path,
                            dir->views[i]->name);
    return QZO_OK;
}

/* Every tensor of the index lies in the shard that the index names. */
static qzo_status check_index(const qzo_model_dir *dir) {
    const char *tensor;
    json_t *shard;
    json_object_foreach(json_object_get(dir->index, "weight_map"), tensor, shard) {
        const char *name = json_string_value(shard);
        char *const *found = bsearch(&name, dir->shard_names, (size_t)dir->shard_count,
                                     sizeof(char *), compare_strings);
        QZO_ASSERT(found != NULL);
        if (qzo_safetensors_find(dir->shards[found - dir->shard_names], tensor) == NULL)
            return qzo_fail(QZO_ERR_FORMAT,
                            "%s: the index names tensor %s in %s, which does not hold it",
                            dir->path, tensor, name);
    }
    return QZO_OK;
}

/* transformers' name of the one file, or of the index of all shards, and diffusers'. */
static const struct {
    const char *file, *index;
} tensor_files[] = {
    {"model.safetensors", "model.safetensors.index.json"},
    {"diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json"},
};

static qzo_status find_files(qzo_model_dir *dir) {
    for (size_t i = 0; i < sizeof tensor_files / sizeof *tensor_files; i++) {
        if (has_file(dir, tensor_files[i].file)) {
            dir->shard_names = calloc(1, sizeof *dir->shard_names);
            if (dir->shard_names == NULL) return fail_memory(dir);
            dir->shard_names[0] = strdup(tensor_files[i].file);
            if (dir->shard_names[0] == NULL) return fail_memory(dir);
            dir->shard_count = 1;
            return QZO_OK;
        }
        if (has_file(dir, tensor_files[i].index)) return list_shards(dir, tensor_files[i].index);
    }
    return qzo_fail(QZO_ERR_NOT_FOUND,
                    "%s: expected model.safetensors or model.safetensors.index.json (or "
                    "diffusion_pytorch_model's), found neither",
                    dir->path);
}

static qzo_status open_tensors(qzo_model_dir *dir) {
    qzo_status status = QZO_OK;
    QZO_TRY(find_files(dir));
    QZO_TRY(open_shards(dir));
    QZO_TRY(collect_views(dir));
    QZO_TRY(check_index(dir));
cleanup:
    return status;
}

/* --- a GGUF file --- */

static bool has_shards(const qzo_model_dir *dir) {
    for (size_t i = 0; i < sizeof tensor_files / sizeof *tensor_files; i++)
        if (has_file(dir, tensor_files[i].file) || has_file(dir, tensor_files[i].index))
            return true;
    return false;
}

static bool is_gguf_name(const char *name) {
    static const char ending[] = ".gguf";
    size_t length = strlen(name), tail = sizeof ending - 1;
    return length > tail && strcmp(name + length - tail, ending) == 0;
}

/* The only GGUF file of the folder; *name stays NULL where there is none. */
static qzo_status find_only_gguf(char **name, const qzo_model_dir *dir) {
    qzo_status status = QZO_OK;
    DIR *listing = opendir(dir->path);
    if (listing == NULL) return QZO_OK; /* whoever reads config.json says what is wrong */
    for (const struct dirent *file = readdir(listing); file != NULL && status == QZO_OK;
         file = readdir(listing)) {
        if (!is_gguf_name(file->d_name)) continue;
        if (*name != NULL)
            status = qzo_fail(QZO_ERR_CONFIG, "%s: several GGUF files (%s, %s): name one of them",
                              dir->path, *name, file->d_name);
        else if ((*name = strdup(file->d_name)) == NULL)
            status = fail_memory(dir);
    }
    closedir(listing);
    return status;
}

static qzo_status find_gguf(qzo_model_dir *dir) {
    struct stat found;
    char *name = NULL;
    bool is_file = stat(dir->path, &found) == 0 && S_ISREG(found.st_mode);
    qzo_status status = is_file || has_shards(dir) ? QZO_OK : find_only_gguf(&name, dir);
    if (status == QZO_OK && (is_file || name != NULL)) {
        dir->gguf_path = is_file ? strdup(dir->path) : qzo_path_join(dir->path, name);
        if (dir->gguf_path == NULL) status = fail_memory(dir);
    }
    free(name);
    return status;
}

static qzo_status open_gguf(qzo_model_dir *dir) {
    qzo_status status = QZO_OK;
    QZO_TRY(qzo_gguf_model_open(&dir->gguf, dir->gguf_path));
    dir->config = json_incref(qzo_gguf_model_config(dir->gguf));
    dir->count = qzo_gguf_model_count(dir->gguf);
    QZO_TRY(collect_views(dir));
cleanup:
    return status;
}

/* diffusers keeps the parts of a pipeline in folders of their own beneath that file. */
static qzo_status refuse_pipeline(const qzo_model_dir *dir) {
    if (!has_file(dir, "model_index.json") || has_file(dir, "config.json")) return QZO_OK;
    return qzo_fail(QZO_ERR_CONFIG,
                    "%s: expected a model's folder, found a diffusers pipeline "
                    "(model_index.json): its model is the folder %s/transformer",
                    dir->path, dir->path);
}

static qzo_status open_folder(qzo_model_dir *dir) {
    qzo_status status = QZO_OK;
    QZO_TRY(refuse_pipeline(dir));
    QZO_TRY(read_json_object(&dir->config, dir, "config.json", CONFIG_BYTES_MAX));
    QZO_TRY(read_quantization(dir));
    QZO_TRY(open_tensors(dir));
cleanup:
    return status;
}

qzo_status qzo_model_dir_open(qzo_model_dir **out, const char *path) {
    qzo_status status = QZO_OK;
    *out = NULL;
    qzo_model_dir *dir = calloc(1, sizeof *dir);
    if (dir == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    dir->path = strdup(path);
    if (dir->path == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
        goto cleanup;
    }
    QZO_TRY(find_gguf(dir));
    QZO_TRY(dir->gguf_path != NULL ? open_gguf(dir) : open_folder(dir));
    *out = dir;
    dir = NULL;
cleanup:
    qzo_model_dir_close(dir);
    return status;
}

void qzo_model_dir_close(qzo_model_dir *dir) {
    if (dir == NULL) return;
    for (int64_t i = 0; i < dir->shard_count; i++) {
        if (dir->shards != NULL) qzo_safetensors_close(dir->shards[i]);
        free(dir->shard_names[i]);
    }
    qzo_gguf_model_close(dir->gguf);
    free(dir->gguf_path);
    free(dir->shards);
    free(dir->shard_names);
    free(dir->views);
    json_decref(dir->index);
    json_decref(dir->quantize_config);
    json_decref(dir->config);
    free(dir->path);
    free(dir);
}

const char *qzo_model_dir_path(const qzo_model_dir *dir) { return dir->path; }

void qzo_model_dir_quantize(qzo_model_dir *dir, const qzo_bnb_kind *kind) { dir->quantize = kind; }

const qzo_bnb_kind *qzo_model_dir_quantize_kind(const qzo_model_dir *dir) { return dir->quantize; }

const json_t *qzo_model_dir_config(const qzo_model_dir *dir) { return dir->config; }

const json_t *qzo_model_dir_quantization(const qzo_model_dir *dir) { return dir->quantization; }

const qzo_gguf_model *qzo_model_dir_gguf(const qzo_model_dir *dir, const char **name) {
    if (dir->gguf == NULL) return NULL;
    const char *slash = strrchr(dir->gguf_path, '/');
    const char *last = slash != NULL ? slash + 1 : dir->gguf_path;
    if (name != NULL) *name = is_gguf_name(last) ? last : "model.gguf";
    return dir->gguf;
}

const qzo_safetensors *qzo_model_dir_metadata(const qzo_model_dir *dir) {
    return dir->shard_count > 0 ? dir->shards[0] : NULL;
}

int64_t qzo_model_dir_shard_count(const qzo_model_dir *dir) { return dir->shard_count; }

const qzo_safetensors *qzo_model_dir_shard(const qzo_model_dir *dir, int64_t index,
                                           const char **name) {
    QZO_ASSERT(index >= 0 && index < dir->shard_count);
    *name = dir->shard_names[index];
    return dir->shards[index];
}

const json_t *qzo_model_dir_index(const qzo_model_dir *dir) { return dir->index; }

int64_t qzo_model_dir_data_bytes(const qzo_model_dir *dir) {
    int64_t sum_bytes = 0;
    for (int64_t i = 0; i < dir->count; i++) sum_bytes += (int64_t)dir->views[i]->size_bytes;
    return sum_bytes;
}

int64_t qzo_model_dir_owned_bytes(const qzo_model_dir *dir) {
    return dir->gguf != NULL ? qzo_gguf_model_owned_bytes(dir->gguf) : 0;
}

int64_t qzo_model_dir_count(const qzo_model_dir *dir) { return dir->count; }

const qzo_tensor_view *qzo_model_dir_at(const qzo_model_dir *dir, int64_t index) {
    QZO_ASSERT(index >= 0 && index < dir->count);
    return dir->views[index];
}

static const qzo_tensor_view **place_of(const qzo_model_dir *dir, const char *name) {
    const qzo_tensor_view view = {.name = name};
    const qzo_tensor_view *key = &view;
    return bsearch(&key, dir->views, (size_t)dir->count, sizeof(const qzo_tensor_view *),
                   compare_views);
}

const qzo_tensor_view *qzo_model_dir_find(const qzo_model_dir *dir, const char *name) {
    const qzo_tensor_view **found = place_of(dir, name);
    return found != NULL ? *found : NULL;
}

/* What reads a tensor has its size from the model: of a GGUF file from the file itself. */
static qzo_status check_overlay(const qzo_model_dir *dir, const qzo_tensor_view *own,
                                const qzo_tensor_view *changed) {
    bool same = own->dtype == changed->dtype && own->rank == changed->rank;
    for (int i = 0; same && i < own->rank; i++) same = own->shape[i] == changed->shape[i];
    if (same) return QZO_OK;
    return qzo_fail(QZO_ERR_FORMAT,
                    "%s: tensor %s: expected %s of rank %d and %lld elements, in the model's "
                    "shape, found %s of rank %d and %lld elements in the delta",
                    dir->path, own->name, qzo_dtype_name(own->dtype), own->rank,
                    (long long)own->count, qzo_dtype_name(changed->dtype), changed->rank,
                    (long long)changed->count);
}

qzo_status qzo_model_dir_overlay(qzo_model_dir *dir, const qzo_safetensors *delta) {
    for (int64_t i = 0; i < qzo_safetensors_count(delta); i++) {
        const qzo_tensor_view *view = qzo_safetensors_at(delta, i);
        const qzo_tensor_view **found = place_of(dir, view->name);
        if (found == NULL)
            return qzo_fail(QZO_ERR_FORMAT, "%s: no tensor %s, which the delta changes", dir->path,
                            view->name);
        qzo_status status = check_overlay(dir, *found, view);
        if (status != QZO_OK) return status;
        *found = view;
    }
    return QZO_OK;
}

qzo_status qzo_model_dir_require_float(const qzo_tensor_view **out, const qzo_model_dir *dir,
                                       const char *name, int rank, int64_t rows, int64_t columns) {
    QZO_ASSERT(rank == 1 || rank == 2);
    const qzo_tensor_view *view = qzo_model_dir_find(dir, name);
    if (view == NULL) return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s is missing", dir->path, name);
    if (!qzo_dtype_is_float(view->dtype))
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: expected F32, F16 or BF16, found %s",
                        dir->path, name, qzo_dtype_name(view->dtype));
    if (rank == 1 && (view->rank != 1 || view->shape[0] != rows))
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: tensor %s: expected the shape (%lld), found rank %d and %lld elements",
                        dir->path, name, (long long)rows, view->rank, (long long)view->count);
    if (rank == 2 && (view->rank != 2 || view->shape[0] != rows || view->shape[1] != columns))
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: tensor %s: expected the shape (%lld, %lld), found rank %d and (%lld, "
                        "%lld)",
                        dir->path, name, (long long)rows, (long long)columns, view->rank,
                        (long long)view->shape[0], (long long)view->shape[1]);
    *out = view;
    return QZO_OK;
}

/* Canonical text: sorted keys, no spaces; each ends with its NUL, so that no two runs of texts can
 * be mistaken for one another. */
static qzo_status digest_json(qzo_digest_stream *stream, const json_t *value,
                              const qzo_model_dir *dir) {
    if (value == NULL) {
        qzo_digest_add(stream, "", 1);
        return QZO_OK;
    }
    char *text = json_dumps(value, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY);
    if (text == NULL) return fail_memory(dir);
    qzo_digest_add(stream, text, strlen(text) + 1);
    free(text);
    return QZO_OK;
}

static void digest_u64(qzo_digest_stream *stream, uint64_t value) {
    uint8_t bytes[8];
    qzo_put_u64(bytes, value);
    qzo_digest_add(stream, bytes, sizeof bytes);
}

static void digest_tensor(qzo_digest_stream *stream, const qzo_tensor_view *view) {
    const char *type = qzo_dtype_name(view->dtype);
    qzo_digest_add(stream, view->name, strlen(view->name) + 1);
    qzo_digest_add(stream, type, strlen(type) + 1);
    digest_u64(stream, (uint64_t)view->rank);
    for (int i = 0; i < view->rank; i++) digest_u64(stream, (uint64_t)view->shape[i]);
    qzo_digest_add(stream, view->data, view->size_bytes);
}

qzo_status qzo_model_dir_digest(qzo_digest *out, const qzo_model_dir *dir) {
    qzo_status status = QZO_OK;
    qzo_digest_stream *stream = qzo_digest_begin();
    if (stream == NULL) return fail_memory(dir);
    QZO_TRY(digest_json(stream, dir->config, dir));
    QZO_TRY(digest_json(stream, dir->quantization, dir));
    for (int64_t i = 0; i < dir->count; i++) digest_tensor(stream, dir->views[i]);
cleanup:;
    const qzo_digest digest = qzo_digest_end(stream); /* frees the stream on errors too */
    if (status == QZO_OK) *out = digest;
    return status;
}
