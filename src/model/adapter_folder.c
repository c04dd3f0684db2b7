#include "model/adapter_folder.h"

#include "base/file_io.h"
#include "model/model_parts.h"
#include "weights/safetensors_write.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const float *values_of(const qzo_adapters *adapters, const qzo_qtensor *matrix,
                              const float *values) {
    return values + (matrix->span_offset - adapters->model->master_count);
}

/* --- the folder --- */

static json_t *targets_to_json(const qzo_adapters *adapters) {
    json_t *list = json_array();
    char *targets = qzo_adapters_targets(adapters);
    for (const char *at = targets; at != NULL && *at != '\0'; at += *at == '+') {
        size_t length = strcspn(at, "+");
        json_array_append_new(list, json_stringn(at, length));
        at += length;
    }
    free(targets);
    return list;
}

/* What PEFT, vLLM and others read; the rest of LoraConfig has defaults. */
static json_t *config_to_json(const qzo_adapters *adapters, const char *base) {
    double alpha = adapters->settings.alpha;
    bool is_whole = alpha == (double)(json_int_t)alpha; /* LoraConfig says int */
    return json_pack("{s:s, s:s, s:s, s:I, s:o, s:o, s:f, s:s, s:b, s:b, s:b, s:b, s:n}",
                     "peft_type", "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path", base,
                     "r", (json_int_t)adapters->settings.rank, "lora_alpha",
                     is_whole ? json_integer((json_int_t)alpha) : json_real(alpha),
                     "target_modules", targets_to_json(adapters), "lora_dropout", 0.0, "bias",
                     "none", "fan_in_fan_out", adapters->model->arch->transposed_linears,
                     "inference_mode", true, "use_rslora", false, "use_dora", false,
                     "modules_to_save");
}

static qzo_status write_config(const qzo_adapters *adapters, const char *base, const char *folder) {
    char *path = qzo_path_join(folder, "adapter_config.json"), *text = NULL;
    json_t *config = config_to_json(adapters, base);
    if (config != NULL) text = json_dumps(config, JSON_INDENT(2));
    qzo_status status = path != NULL && text != NULL
                            ? qzo_file_replace(path, text, strlen(text))
                            : qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", folder);
    json_decref(config);
    free(path);
    free(text);
    return status;
}

static const qzo_qtensor *matrix_at(const qzo_adapter *adapter, int part) {
    return part == 0 ? &adapter->down : &adapter->up;
}

qzo_status qzo_adapter_folder_write(const qzo_adapters *adapters, const float *values,
                                    const char *base, const char *path) {
    qzo_status status = QZO_OK;
    int64_t count = 0, places = adapters->model->shape.layer_count * QZO_LINEAR_COUNT;
    char *file = qzo_path_join(path, "adapter_model.safetensors");
    size_t room = (size_t)adapters->span_count + 1;
    qzo_tensor_view *views = calloc(room, sizeof *views);
    const qzo_tensor_view **order = calloc(room, sizeof(const qzo_tensor_view *));
    if (file == NULL || views == NULL || order == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
        goto cleanup;
    }
    for (int64_t i = 0; i < places; i++)
        for (int part = 0; part < 2 && adapters->all[i].base != NULL; part++) {
            const qzo_qtensor *matrix = matrix_at(&adapters->all[i], part);
            views[count] = matrix->as.dense;
            views[count].data = (const uint8_t *)values_of(adapters, matrix, values);
            order[count] = &views[count];
            count++;
        }
    QZO_TRY(qzo_folder_create(path));
    QZO_TRY(write_config(adapters, base, path));
    /* The base's metadata: loaders look there for the framework, "pt". */
    QZO_TRY(
        qzo_safetensors_write(file, order, count, qzo_model_dir_metadata(adapters->model->dir)));
cleanup:
    free(file);
    free(views);
    free(order);
    return status;
}

qzo_status qzo_adapter_folder_read(float *values, const qzo_adapters *adapters, const char *path) {
    qzo_status status = QZO_OK;
    qzo_safetensors *file = NULL;
    char *name = qzo_path_join(path, "adapter_model.safetensors");
    if (name == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    QZO_TRY(qzo_safetensors_open(&file, name));
    for (int64_t s = 0; s < adapters->span_count; s++) {
        const qzo_span *span = &adapters->spans[s];
        const qzo_tensor_view *view = qzo_safetensors_find(file, span->name);
        if (view == NULL || view->dtype != QZO_DTYPE_F32 || view->count != span->count) {
            status = qzo_fail(QZO_ERR_FORMAT, "%s: expected a tensor %s of %" PRId64 " F32", name,
                              span->name, span->count);
            goto cleanup;
        }
        memcpy(values + (span->offset - adapters->model->master_count), view->data,
               view->size_bytes);
    }
cleanup:
    qzo_safetensors_close(file);
    free(name);
    return status;
}

/* --- merging --- */

qzo_status qzo_adapters_check_merge(const qzo_adapters *adapters) {
    for (int64_t i = 0; i < adapters->model->shape.layer_count * QZO_LINEAR_COUNT; i++) {
        const qzo_qtensor *base = adapters->all[i].base;
        if (base != NULL && base->format != &qzo_quant_dense)
            return qzo_fail(QZO_ERR_USAGE,
                            "--merge: %s is quantized (%s): expected unquantized weights below the "
                            "adapters; without --merge they are written for PEFT",
                            base->name, base->format->name);
    }
    return QZO_OK;
}

/* row (in_features) += scale * b (rank) A; sum: scratch (in_features) */
static void merge_row(float *row, double *sum, const qzo_adapters *adapters, const float *a,
                      const float *b, int64_t in_features) {
    memset(sum, 0, (size_t)in_features * sizeof *sum);
    for (int64_t k = 0; k < adapters->settings.rank; k++)
        for (int64_t i = 0; i < in_features; i++)
            sum[i] += (double)b[k] * (double)a[k * in_features + i];
    for (int64_t i = 0; i < in_features; i++)
        row[i] = (float)((double)row[i] + (double)adapters->scale * sum[i]);
}

static qzo_status put_merged(qzo_tensor_changes *out, qzo_merge_counts *counts,
                             const qzo_adapters *adapters, const qzo_qtensor *base,
                             const float *merged) {
    const qzo_model *model = adapters->model;
    const char *name = base->as.dense.name;
    qzo_status status = qzo_model_is_transposed(model->arch, base)
                            ? qzo_dense_write_transposed(out, base, merged)
                            : base->format->write_values(out, base, merged);
    if (status != QZO_OK) return status;
    const qzo_tensor_view *before = qzo_model_dir_find(model->dir, name);
    const qzo_tensor_view *after = qzo_tensor_changes_find(out, name);
    counts->count += after->count;
    for (int64_t i = 0; i < after->count; i++)
        counts->surviving += qzo_tensor_float_at(after, i) != qzo_tensor_float_at(before, i);
    return QZO_OK;
}

static qzo_status merge_one(qzo_tensor_changes *out, qzo_merge_counts *counts, float *model_values,
                            const qzo_adapters *adapters, const qzo_adapter *adapter,
                            const float *values) {
    const qzo_qtensor *base = adapter->base;
    int64_t in_features = base->in_features;
    bool is_span = base->span != QZO_SPAN_NONE;
    const float *a = values_of(adapters, &adapter->down, values);
    const float *b = values_of(adapters, &adapter->up, values);
    double *sum = malloc((size_t)in_features * sizeof *sum);
    float *own = is_span ? NULL : malloc((size_t)(base->out_features * in_features) * sizeof *own);
    qzo_status status = QZO_OK;
    if (sum == NULL || (!is_span && own == NULL)) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", base->name);
        goto cleanup;
    }
    float *weight = is_span ? model_values + base->span_offset : own;
    for (int64_t row = 0; row < base->out_features; row++) {
        float *to = weight + row * in_features;
        if (!is_span) base->format->decode_row(to, base, row, NULL);
        merge_row(to, sum, adapters, a, b + row * adapters->settings.rank, in_features);
        for (int64_t i = 0; !is_span && i < in_features; i++)
            counts->changed += to[i] != qzo_tensor_float_at(&base->as.dense, row * in_features + i);
    }
    if (!is_span) status = put_merged(out, counts, adapters, base, own);
cleanup:
    free(sum);
    free(own);
    return status;
}

qzo_status qzo_adapters_merge(qzo_tensor_changes *out, qzo_merge_counts *counts,
                              float *model_values, const qzo_adapters *adapters,
                              const float *values) {
    qzo_status status = qzo_adapters_check_merge(adapters);
    for (int64_t i = 0; i < adapters->model->shape.layer_count * QZO_LINEAR_COUNT; i++) {
        if (status != QZO_OK) break;
        if (adapters->all[i].base != NULL)
            status = merge_one(out, counts, model_values, adapters, &adapters->all[i], values);
    }
    return status;
}
