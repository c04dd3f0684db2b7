#include "weights/model_dir_write.h"

#include "base/file_io.h"
#include "base/file_map.h"
#include "weights/bnb_quantize.h"
#include "weights/gguf_model.h"
#include "weights/safetensors_write.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static qzo_status fail_memory(const char *path) {
    return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
}

/* --- the files with tensors --- */

/* What the file of one shard will hold: its tensors, changed or not, and in the first one those
 * that are new. views has room for all. */
static int64_t collect(const qzo_tensor_view **views, const qzo_model_dir *dir,
                       const qzo_safetensors *shard, const qzo_tensor_changes *changes,
                       bool with_new) {
    int64_t count = 0;
    for (int64_t i = 0; i < qzo_safetensors_count(shard); i++) {
        const qzo_tensor_view *view = qzo_safetensors_at(shard, i);
        const qzo_tensor_view *changed = qzo_tensor_changes_find(changes, view->name);
        if (changed == NULL)
            views[count++] = view;
        else if (changed->data != NULL)
            views[count++] = changed;
    }
    for (int64_t i = 0; with_new && i < changes->count; i++)
        if (changes->views[i].data != NULL &&
            qzo_model_dir_find(dir, changes->views[i].name) == NULL)
            views[count++] = &changes->views[i];
    return count;
}

/* The index of the files: which tensor lies where. weight_map is filled by write_shards. */
static json_t *new_index(const qzo_model_dir *dir, json_t *weight_map, int64_t total_bytes) {
    json_t *index = json_deep_copy(qzo_model_dir_index(dir));
    json_t *metadata = json_object_get(index, "metadata");
    if (json_is_object(metadata))
        json_object_set_new(metadata, "total_size", json_integer(total_bytes));
    json_object_set(index, "weight_map", weight_map);
    return index;
}

static qzo_status write_json(const char *folder, const char *name, const json_t *json) {
    char *path = qzo_path_join(folder, name);
    char *text = json_dumps(json, JSON_INDENT(2));
    qzo_status status = path != NULL && text != NULL ? qzo_file_replace(path, text, strlen(text))
                                                     : fail_memory(folder);
    free(path);
    free(text);
    return status;
}

static qzo_status write_shards(const qzo_model_dir *dir, const qzo_tensor_changes *changes,
                               const char *folder) {
    qzo_status status = QZO_OK;
    int64_t total_bytes = 0;
    char *path = NULL;
    json_t *weight_map = json_object(), *index = NULL;
    size_t room = (size_t)(qzo_model_dir_count(dir) + changes->count) + 1;
    const qzo_tensor_view **views = calloc(room, sizeof(const qzo_tensor_view *));
    if (views == NULL || weight_map == NULL) {
        status = fail_memory(folder);
        goto cleanup;
    }
    for (int64_t s = 0; s < qzo_model_dir_shard_count(dir); s++) {
        const char *name = NULL;
        const qzo_safetensors *shard = qzo_model_dir_shard(dir, s, &name);
        int64_t count = collect(views, dir, shard, changes, s == 0);
        free(path);
        path = qzo_path_join(folder, name);
        if (path == NULL) {
            status = fail_memory(folder);
            goto cleanup;
        }
        QZO_TRY(qzo_safetensors_write(path, views, count, shard));
        for (int64_t i = 0; i < count; i++) {
            json_object_set_new(weight_map, views[i]->name, json_string(name));
            total_bytes += (int64_t)views[i]->size_bytes;
        }
    }
    if (qzo_model_dir_index(dir) != NULL) {
        index = new_index(dir, weight_map, total_bytes);
        QZO_TRY(write_json(folder, "model.safetensors.index.json", index));
    }
cleanup:
    free(path);
    free(views);
    json_decref(weight_map);
    json_decref(index);
    return status;
}

/* --- the other files --- */

/* Weights in any of the forms in which the hub keeps copies of a model: they would be the untuned
 * ones. */
static bool holds_weights(const char *name) {
    static const char *const endings[] = {".safetensors", ".safetensors.index.json",
                                          ".bin",         ".bin.index.json",
                                          ".pt",          ".pth",
                                          ".h5",          ".msgpack",
                                          ".gguf",        ".onnx"};
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t tail = strlen(endings[i]);
        if (length >= tail && strcmp(name + length - tail, endings[i]) == 0) return true;
    }
    return false;
}

static qzo_status copy_file(const char *from_folder, const char *to_folder, const char *name) {
    qzo_status status = QZO_OK;
    qzo_file_map map = {0};
    struct stat found;
    char *from = qzo_path_join(from_folder, name), *to = qzo_path_join(to_folder, name);
    if (from == NULL || to == NULL) {
        status = fail_memory(to_folder);
        goto cleanup;
    }
    if (stat(from, &found) != 0 || !S_ISREG(found.st_mode)) goto cleanup; /* folders, dead links */
    QZO_TRY(qzo_file_map_open(&map, from));
    QZO_TRY(qzo_file_replace(to, map.bytes, map.size_bytes));
cleanup:
    qzo_file_map_close(&map);
    free(from);
    free(to);
    return status;
}

static qzo_status copy_others(const char *from_folder, const char *to_folder) {
    qzo_status status = QZO_OK;
    DIR *listing = opendir(from_folder);
    if (listing == NULL)
        return qzo_fail(QZO_ERR_IO, "%s: cannot list: %s", from_folder, strerror(errno));
    for (const struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing))
        if (entry->d_name[0] != '.' && !holds_weights(entry->d_name))
            QZO_TRY(copy_file(from_folder, to_folder, entry->d_name));
cleanup:
    closedir(listing);
    return status;
}

/* config.json of a model that was quantized at load says so. */
static qzo_status write_quantized_config(const qzo_model_dir *dir, const char *path) {
    json_t *config = json_deep_copy(qzo_model_dir_config(dir));
    json_t *settings = qzo_bnb_config(qzo_model_dir_quantize_kind(dir));
    bool is_set =
        config != NULL && json_object_set_new(config, "quantization_config", settings) == 0;
    qzo_status status = is_set ? write_json(path, "config.json", config) : fail_memory(path);
    json_decref(config);
    return status;
}

/* A GGUF file under a name that is found; of its folder's other files those named with it. */
static qzo_status write_gguf(const qzo_model_dir *dir, const qzo_tensor_changes *changes,
                             const char *path) {
    qzo_status status = QZO_OK;
    const char *name = NULL;
    const qzo_gguf_model *gguf = qzo_model_dir_gguf(dir, &name);
    struct stat found;
    char *file = qzo_path_join(path, name);
    if (file == NULL) return fail_memory(path);
    bool is_folder = stat(qzo_model_dir_path(dir), &found) == 0 && S_ISDIR(found.st_mode);
    if (is_folder) QZO_TRY(copy_others(qzo_model_dir_path(dir), path));
    QZO_TRY(qzo_gguf_model_write(gguf, changes, file));
cleanup:
    free(file);
    return status;
}

qzo_status qzo_model_dir_write(const qzo_model_dir *dir, const qzo_tensor_changes *changes,
                               const char *path) {
    qzo_status status = QZO_OK;
    if (qzo_model_dir_gguf(dir, NULL) != NULL) return write_gguf(dir, changes, path);
    QZO_TRY(copy_others(qzo_model_dir_path(dir), path));
    QZO_TRY(write_shards(dir, changes, path));
    if (qzo_model_dir_quantize_kind(dir) != NULL) QZO_TRY(write_quantized_config(dir, path));
cleanup:
    return status;
}

/* --- the changes alone --- */

static bool is_equal(const qzo_tensor_view *a, const qzo_tensor_view *b) {
    return b != NULL && a->dtype == b->dtype && a->size_bytes == b->size_bytes &&
           memcmp(a->data, b->data, a->size_bytes) == 0;
}

qzo_status qzo_model_dir_write_delta(int64_t *count, const qzo_model_dir *dir,
                                     const qzo_tensor_changes *changes, const char *path) {
    qzo_status status = QZO_OK;
    char *file = qzo_path_join(path, "model.safetensors");
    const qzo_tensor_view **views =
        calloc((size_t)changes->count + 1, sizeof(const qzo_tensor_view *));
    *count = 0;
    if (file == NULL || views == NULL) {
        status = fail_memory(path);
        goto cleanup;
    }
    for (int64_t i = 0; i < changes->count; i++) {
        const qzo_tensor_view *view = &changes->views[i];
        if (view->data != NULL && !is_equal(view, qzo_model_dir_find(dir, view->name)))
            views[(*count)++] = view;
    }
    QZO_TRY(qzo_safetensors_write(file, views, *count, qzo_model_dir_metadata(dir)));
cleanup:
    free(file);
    free(views);
    return status;
}
