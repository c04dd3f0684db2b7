#include "model/model_parts.h"

#include "base/digest.h"
#include "weights/bnb_quantize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = QZO_MODULE_NAME_BYTES };

static const qzo_value_group at_rest = {0};

qzo_status qzo_model_check_heads(const qzo_model *model, int64_t head_dim) {
    qzo_backend *backend = model->backend;
    if (backend->ops->check_heads == NULL) return QZO_OK;
    qzo_status status = backend->ops->check_heads(backend, head_dim);
    if (status != QZO_OK) qzo_fail_context(status, "%s", qzo_model_dir_path(model->dir));
    return status;
}

qzo_status qzo_model_reserve_parts(qzo_model *model, int64_t count) {
    size_t room = (size_t)count;
    model->spans = calloc(room, sizeof *model->spans);
    model->span_names = calloc(room, sizeof *model->span_names);
    model->parts = calloc(room, sizeof *model->parts);
    if (model->spans == NULL || model->span_names == NULL || model->parts == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for %zu tensors",
                        qzo_model_dir_path(model->dir), room);
    return QZO_OK;
}

qzo_status qzo_model_add_values(qzo_model *model, qzo_qtensor *tensor, qzo_group_kind kind,
                                const char *suffix, float base) {
    bool is_dense = tensor->group_count == 0;
    char name[NAME_BYTES + 32];
    tensor->span = QZO_SPAN_NONE;
    if (!is_dense) kind = QZO_GROUP_SCALES;
    snprintf(name, sizeof name, "%s.%s", tensor->name, suffix);
    if (!qzo_training_has(model->training, kind, name)) return QZO_OK;
    if (is_dense) tensor->group_count = tensor->in_features;
    int64_t index = model->span_count++;
    qzo_span *span = &model->spans[index];
    qzo_constraint own = is_dense ? QZO_CONSTRAINT_FREE : tensor->format->constraint;
    float floor = tensor->format->floor > 0.0f ? tensor->format->floor : QZO_SCALE_FLOOR;
    *span = (qzo_span){.tensor_id = qzo_tensor_id(name),
                       .constraint = qzo_training_constraint(model->training, kind, own),
                       .floor = floor,
                       .offset = model->value_count,
                       .count = tensor->out_features * tensor->group_count,
                       .group = &model->groups[kind]};
    model->span_names[index] = strdup(name);
    if (model->span_names[index] == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: no memory", name);
    span->name = model->span_names[index];
    tensor->span = (int)index;
    tensor->span_offset = span->offset;
    tensor->tensor_id = span->tensor_id;
    tensor->group = span->group;
    model->value_count += span->count;
    model->parts[model->part_count++] = (qzo_part){tensor, base, kind};
    for (int64_t i = 0; i < index; i++)
        if (model->spans[i].tensor_id == tensor->tensor_id)
            return qzo_fail(QZO_ERR_UNSUPPORTED,
                            "%s and %s have the same 32-bit id: their noise would be equal",
                            model->spans[i].name, name);
    return QZO_OK;
}

void qzo_model_place_at_rest(qzo_model *model, qzo_qtensor *tensor) {
    tensor->span_offset = model->master_count;
    tensor->group = &at_rest;
    model->master_count += tensor->out_features * tensor->group_count;
    model->parts[model->part_count++] = (qzo_part){.tensor = tensor};
}

qzo_status qzo_model_load_vector(qzo_vector *out, qzo_model *model, const char *module,
                                 const char *suffix, int64_t count, float base) {
    qzo_status status = QZO_OK;
    float *host = NULL;
    char name[NAME_BYTES];
    const qzo_tensor_view *view = NULL;
    size_t size_bytes = (size_t)count * sizeof(float);
    void *memory = NULL;
    snprintf(name, sizeof name, "%s.%s", module, suffix);
    QZO_TRY(qzo_model_dir_require_float(&view, model->dir, name, 1, count, 0));
    host = malloc(size_bytes);
    if (host == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %s", name);
        goto cleanup;
    }
    for (int64_t i = 0; i < count; i++) host[i] = base + qzo_tensor_float_at(view, i);
    QZO_TRY(model->backend->ops->allocate(model->backend, &memory, size_bytes));
    out->values = memory;
    model->loaded_bytes += (int64_t)size_bytes;
    QZO_TRY(model->backend->ops->upload(model->backend, memory, host, size_bytes));
    out->name = strdup(module);
    if (out->name == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %s", name);
        goto cleanup;
    }
    out->base = base;
    out->tensor = (qzo_qtensor){.format = &qzo_quant_dense,
                                .name = out->name,
                                .out_features = 1,
                                .in_features = count,
                                .as.dense = *view};
    QZO_TRY(qzo_model_add_values(model, &out->tensor, QZO_GROUP_UNQUANTIZED, suffix, base));
cleanup:
    free(host);
    return status;
}

qzo_status qzo_vector_values(const float **out, qzo_backend *backend, const qzo_vector *vector,
                             float *scratch, const float *masters,
                             const qzo_perturbation *perturbation) {
    *out = vector->values;
    if (vector->tensor.group_count == 0) return QZO_OK;
    *out = scratch;
    return backend->ops->perturb(backend, scratch, &vector->tensor, masters, perturbation);
}

void qzo_vector_release(qzo_backend *backend, qzo_vector *vector) {
    backend->ops->release(backend, vector->values);
    free(vector->name);
}

int qzo_model_quantize_threads(const qzo_model *model) {
    if (model->backend->dry) return 0;
    return model->backend->thread_count > 0 ? model->backend->thread_count : 1;
}

qzo_status qzo_model_quantize(qzo_qtensor *tensor, const qzo_model_dir *dir, int threads) {
    const qzo_bnb_kind *kind = qzo_model_dir_quantize_kind(dir);
    if (kind == NULL) return QZO_OK;
    if (qzo_model_dir_gguf(dir, NULL) != NULL) {
        qzo_qtensor_release(tensor);
        return qzo_fail(QZO_ERR_CONFIG,
                        "%s: quantize: %s: weights of a GGUF file are taken as they are",
                        qzo_model_dir_path(dir), kind->name);
    }
    if (tensor->format == &qzo_quant_dense) return qzo_bnb_quantize(tensor, kind, threads);
    qzo_status status =
        qzo_fail(QZO_ERR_CONFIG,
                 "%s: module %s is quantized already (%s): quantize: %s takes weights in fp32, "
                 "fp16 or bf16",
                 qzo_model_dir_path(dir), tensor->name, tensor->format->name, kind->name);
    qzo_qtensor_release(tensor);
    return status;
}

qzo_status qzo_model_load_bound(qzo_linear *out, qzo_model *model, const qzo_qtensor *tensor,
                                qzo_group_kind kind) {
    qzo_status status = QZO_OK;
    char bias[NAME_BYTES];
    const char *module = tensor->name;
    out->tensor = *tensor;
    out->name = strdup(module);
    if (out->name == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: no memory", module);
    out->tensor.name = out->name;
    QZO_TRY(qzo_model_add_values(model, &out->tensor, kind, tensor->format->value_suffix, 0.0f));
    model->loaded_bytes += qzo_bnb_made_bytes(tensor) + qzo_qtensor_repacked_bytes(tensor);
    if (!model->backend->dry) QZO_TRY(qzo_qtensor_repack(&out->tensor));
    QZO_TRY(model->backend->ops->weight_load(model->backend, &out->weight, &out->tensor));
    snprintf(bias, sizeof bias, "%s.bias", module);
    if (qzo_model_dir_find(model->dir, bias) != NULL)
        QZO_TRY(qzo_model_load_vector(&out->bias, model, out->name, "bias", tensor->out_features,
                                      0.0f));
cleanup:
    return status;
}

qzo_status qzo_model_load_linear(qzo_linear *out, qzo_model *model, const char *module,
                                 int64_t out_features, int64_t in_features) {
    qzo_qtensor tensor;
    qzo_status status = qzo_qtensor_bind(&tensor, model->dir, module, out_features, in_features);
    if (status == QZO_OK)
        status = qzo_model_quantize(&tensor, model->dir, qzo_model_quantize_threads(model));
    if (status != QZO_OK) {
        qzo_qtensor_release(&tensor);
        return status;
    }
    return qzo_model_load_bound(out, model, &tensor, QZO_GROUP_WEIGHTS);
}

void qzo_linear_release(qzo_backend *backend, qzo_linear *linear) {
    backend->ops->weight_free(backend, linear->weight);
    qzo_vector_release(backend, &linear->bias);
    qzo_qtensor_release(&linear->tensor);
    free(linear->name);
}

bool qzo_model_is_transposed(const qzo_arch *arch, const qzo_qtensor *tensor) {
    return arch != NULL && arch->transposed_linears && tensor->format == &qzo_quant_dense;
}

qzo_status qzo_model_initial_values(const qzo_model *model, float *masters_host) {
    for (int64_t i = 0; i < model->part_count; i++) {
        const qzo_part *part = &model->parts[i];
        float *out = masters_host + part->tensor->span_offset;
        qzo_status status = part->tensor->format->read_values(out, part->tensor);
        if (status != QZO_OK) return status;
        for (int64_t j = 0; part->base != 0.0f && j < part->tensor->in_features; j++)
            out[j] = part->base + out[j];
    }
    return QZO_OK;
}

/* A vector's values without the base that the file's lack; one that did not move is the file's own,
 * which the difference of two rounded numbers need not be. */
static qzo_status write_vector(qzo_tensor_changes *out, const qzo_part *part, const float *values) {
    int64_t count = part->tensor->in_features;
    float *stored = malloc((size_t)count * sizeof *stored);
    if (stored == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: no memory", part->tensor->name);
    for (int64_t i = 0; i < count; i++) {
        float own = qzo_tensor_float_at(&part->tensor->as.dense, i);
        stored[i] = values[i] == part->base + own ? own : values[i] - part->base;
    }
    qzo_status status = part->tensor->format->write_values(out, part->tensor, stored);
    free(stored);
    return status;
}

/* As the file has the tensor. */
static qzo_status write_part(qzo_tensor_changes *out, const qzo_model *model, const qzo_part *part,
                             const float *values) {
    bool is_linear = part->kind == QZO_GROUP_WEIGHTS;
    if (part->base != 0.0f) return write_vector(out, part, values);
    if (is_linear && qzo_model_is_transposed(model->arch, part->tensor))
        return qzo_dense_write_transposed(out, part->tensor, values);
    return part->tensor->format->write_values(out, part->tensor, values);
}

/* What was quantized at load is not in the folder, though it does not train. */
static qzo_status write_at_rest(qzo_tensor_changes *out, const qzo_qtensor *tensor) {
    size_t count = (size_t)(tensor->out_features * tensor->group_count);
    float *values = malloc(count * sizeof *values);
    if (values == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: no memory", tensor->name);
    qzo_status status = tensor->format->read_values(values, tensor);
    if (status == QZO_OK) status = tensor->format->write_values(out, tensor, values);
    free(values);
    return status;
}

qzo_status qzo_model_changes(qzo_tensor_changes *out, const qzo_model *model,
                             const float *masters_host) {
    for (int64_t i = 0; i < model->part_count; i++) {
        const qzo_part *part = &model->parts[i];
        bool trains = part->tensor->span != QZO_SPAN_NONE;
        if (!trains && qzo_bnb_made_bytes(part->tensor) == 0) continue;
        qzo_status status =
            trains ? write_part(out, model, part, masters_host + part->tensor->span_offset)
                   : write_at_rest(out, part->tensor);
        if (status != QZO_OK) return status;
    }
    return QZO_OK;
}
