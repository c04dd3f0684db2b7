#include "model/model.h"

#include "base/digest.h"
#include "base/math64.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = QZO_MODULE_NAME_BYTES };

/* The smallest value of a positive scale (the paper's code clamps there). */
static const float SCALE_FLOOR = 1e-7f;

static void layer_module(char out[NAME_BYTES], const qzo_arch *arch, int64_t layer,
                         const char *module) {
    /* The only directive of layer_prefix is %lld; spelled out here for the compiler's check. */
    char number[32];
    snprintf(number, sizeof number, "%lld", (long long)layer);
    const char *hole = strstr(arch->layer_prefix, "%lld");
    snprintf(out, NAME_BYTES, "%.*s%s%s%s", (int)(hole - arch->layer_prefix), arch->layer_prefix,
             number, hole + strlen("%lld"), module);
}

static void linear_shape(int64_t *out_features, int64_t *in_features, const qzo_shape *shape,
                         qzo_linear_kind kind) {
    int64_t q_width = shape->head_count * shape->head_dim;
    int64_t kv_width = shape->kv_head_count * shape->head_dim;
    *in_features = kind == QZO_LINEAR_O      ? q_width
                   : kind == QZO_LINEAR_DOWN ? shape->ffn_width
                                             : shape->width;
    switch (kind) {
    case QZO_LINEAR_Q: *out_features = q_width; break;
    case QZO_LINEAR_K:
    case QZO_LINEAR_V: *out_features = kv_width; break;
    case QZO_LINEAR_GATE:
    case QZO_LINEAR_UP: *out_features = shape->ffn_width; break;
    default: *out_features = shape->width; break;
    }
}

static qzo_status load_norm(float **out, qzo_model *model, const char *module) {
    qzo_status status = QZO_OK;
    float *host = NULL;
    char name[NAME_BYTES];
    const qzo_tensor_view *view = NULL;
    int64_t width = model->shape.width;
    size_t size_bytes = (size_t)width * sizeof(float);
    void *memory = NULL;
    snprintf(name, sizeof name, "%s.weight", module);
    QZO_TRY(qzo_model_dir_require_float(&view, model->dir, name, 1, width, 0));
    host = malloc(size_bytes);
    if (host == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %s", name);
        goto cleanup;
    }
    for (int64_t i = 0; i < width; i++) host[i] = qzo_tensor_float_at(view, i);
    QZO_TRY(model->backend->ops->allocate(model->backend, &memory, size_bytes));
    *out = memory;
    model->loaded_bytes += (int64_t)size_bytes;
    QZO_TRY(model->backend->ops->upload(model->backend, memory, host, size_bytes));
cleanup:
    free(host);
    return status;
}

void qzo_rope_table_fill(float *host, const qzo_shape *shape, int64_t positions) {
    int64_t half = shape->head_dim / 2;
    double log_theta = qzo_log((double)shape->rope_theta);
    for (int64_t i = 0; i < half; i++) {
        float exponent = (float)(2 * i) / (float)shape->head_dim;
        float frequency = 1.0f / (float)qzo_exp(log_theta * (double)exponent);
        for (int64_t p = 0; p < positions; p++) {
            float angle = (float)p * frequency;
            host[(p * half + i) * 2] = (float)qzo_cos((double)angle);
            host[(p * half + i) * 2 + 1] = (float)qzo_sin((double)angle);
        }
    }
}

/* Gives the tensor its span where it has trainable values; a collision of ids is refused. */
static qzo_status add_span(qzo_model *model, qzo_qtensor *tensor) {
    tensor->span = QZO_SPAN_NONE;
    if (tensor->group_count == 0) return QZO_OK;
    size_t name_bytes = strlen(tensor->name) + strlen(tensor->format->value_suffix) + 2;
    char *name = malloc(name_bytes);
    if (name == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for %s", tensor->name);
    snprintf(name, name_bytes, "%s.%s", tensor->name, tensor->format->value_suffix);
    int64_t index = model->span_count++;
    model->span_names[index] = name;
    model->spans[index] = (qzo_span){.name = name,
                                     .tensor_id = qzo_tensor_id(name),
                                     .constraint = tensor->format->constraint,
                                     .floor = SCALE_FLOOR,
                                     .offset = model->value_count,
                                     .count = tensor->out_features * tensor->group_count};
    tensor->span = (int)index;
    tensor->span_offset = model->value_count;
    tensor->tensor_id = model->spans[index].tensor_id;
    model->value_count += model->spans[index].count;
    for (int64_t i = 0; i < index; i++)
        if (model->spans[i].tensor_id == tensor->tensor_id)
            return qzo_fail(QZO_ERR_UNSUPPORTED,
                            "%s and %s have the same 32-bit id: their noise would be equal",
                            model->spans[i].name, name);
    return QZO_OK;
}

static qzo_status load_layer(qzo_model *model, int64_t index) {
    qzo_status status = QZO_OK;
    qzo_layer *layer = &model->layers[index];
    char module[NAME_BYTES];
    layer_module(module, model->arch, index, model->arch->attention_norm);
    QZO_TRY(load_norm(&layer->attention_norm, model, module));
    layer_module(module, model->arch, index, model->arch->ffn_norm);
    QZO_TRY(load_norm(&layer->ffn_norm, model, module));
    for (int kind = 0; kind < QZO_LINEAR_COUNT; kind++) {
        int64_t out_features = 0, in_features = 0;
        layer_module(module, model->arch, index, model->arch->linears[kind]);
        linear_shape(&out_features, &in_features, &model->shape, (qzo_linear_kind)kind);
        layer->names[kind] = strdup(module);
        if (layer->names[kind] == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: no memory", module);
        QZO_TRY(qzo_qtensor_bind(&layer->tensors[kind], model->dir, layer->names[kind],
                                 out_features, in_features));
        QZO_TRY(add_span(model, &layer->tensors[kind]));
        QZO_TRY(model->backend->ops->weight_load(model->backend, &layer->weights[kind],
                                                 &layer->tensors[kind]));
    }
cleanup:
    return status;
}

/* The embedding table and the head; a tied model has one tensor for both. */
static qzo_status load_ends(qzo_model *model) {
    qzo_status status = QZO_OK;
    const qzo_shape *shape = &model->shape;
    const qzo_backend_ops *ops = model->backend->ops;
    const char *head = shape->tied_head ? model->arch->embedding : model->arch->head;
    QZO_TRY(load_norm(&model->final_norm, model, model->arch->final_norm));
    QZO_TRY(qzo_qtensor_bind(&model->embedding_tensor, model->dir, model->arch->embedding,
                             shape->vocab, shape->width));
    QZO_TRY(qzo_qtensor_bind(&model->head_tensor, model->dir, head, shape->vocab, shape->width));
    if (model->embedding_tensor.group_count > 0 || model->head_tensor.group_count > 0) {
        status = qzo_fail(QZO_ERR_UNSUPPORTED, "%s: a quantized embedding or head is not supported",
                          qzo_model_dir_path(model->dir));
        goto cleanup;
    }
    QZO_TRY(ops->weight_load(model->backend, &model->embedding, &model->embedding_tensor));
    QZO_TRY(ops->weight_load(model->backend, &model->head, &model->head_tensor));
cleanup:
    return status;
}

qzo_status qzo_model_load(qzo_model **out, qzo_model_dir *dir, qzo_backend *backend) {
    qzo_status status = QZO_OK;
    qzo_model *model = calloc(1, sizeof *model);
    if (model == NULL) {
        qzo_model_dir_close(dir);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for a model");
    }
    const char *path = qzo_model_dir_path(dir);
    model->dir = dir;
    model->backend = backend;
    QZO_TRY(qzo_arch_find(&model->arch, qzo_model_dir_config(dir), path));
    QZO_TRY(model->arch->read_shape(&model->shape, qzo_model_dir_config(dir), path));
    size_t layers = (size_t)model->shape.layer_count, spans = layers * QZO_LINEAR_COUNT;
    model->layers = calloc(layers, sizeof *model->layers);
    model->spans = calloc(spans, sizeof *model->spans);
    model->span_names = calloc(spans, sizeof *model->span_names);
    if (model->layers == NULL || model->spans == NULL || model->span_names == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for %zu layers", path, layers);
        goto cleanup;
    }
    for (int64_t i = 0; i < model->shape.layer_count; i++) QZO_TRY(load_layer(model, i));
    QZO_TRY(load_ends(model));
    *out = model;
    model = NULL;
cleanup:
    qzo_model_free(model);
    return status;
}

void qzo_model_free(qzo_model *model) {
    if (model == NULL) return;
    qzo_backend *backend = model->backend;
    for (int64_t i = 0; model->layers != NULL && i < model->shape.layer_count; i++) {
        qzo_layer *layer = &model->layers[i];
        backend->ops->release(backend, layer->attention_norm);
        backend->ops->release(backend, layer->ffn_norm);
        for (int kind = 0; kind < QZO_LINEAR_COUNT; kind++) {
            backend->ops->weight_free(backend, layer->weights[kind]);
            qzo_qtensor_release(&layer->tensors[kind]);
            free(layer->names[kind]);
        }
    }
    backend->ops->weight_free(backend, model->embedding);
    backend->ops->weight_free(backend, model->head);
    qzo_qtensor_release(&model->embedding_tensor);
    qzo_qtensor_release(&model->head_tensor);
    backend->ops->release(backend, model->final_norm);
    for (int64_t i = 0; i < model->span_count; i++) free(model->span_names[i]);
    free(model->span_names);
    free(model->spans);
    free(model->layers);
    qzo_model_dir_close(model->dir);
    free(model);
}

qzo_status qzo_model_initial_values(const qzo_model *model, float *masters_host) {
    for (int64_t i = 0; i < model->shape.layer_count; i++)
        for (int kind = 0; kind < QZO_LINEAR_COUNT; kind++) {
            const qzo_qtensor *tensor = &model->layers[i].tensors[kind];
            if (tensor->span == QZO_SPAN_NONE) continue;
            qzo_status status =
                tensor->format->read_values(masters_host + tensor->span_offset, tensor);
            if (status != QZO_OK) return status;
        }
    return QZO_OK;
}

qzo_status qzo_model_changes(qzo_tensor_changes *out, const qzo_model *model,
                             const float *masters_host) {
    *out = (qzo_tensor_changes){0};
    for (int64_t i = 0; i < model->shape.layer_count; i++)
        for (int kind = 0; kind < QZO_LINEAR_COUNT; kind++) {
            const qzo_qtensor *tensor = &model->layers[i].tensors[kind];
            if (tensor->span == QZO_SPAN_NONE) continue;
            qzo_status status =
                tensor->format->write_values(out, tensor, masters_host + tensor->span_offset);
            if (status != QZO_OK) return status;
        }
    return QZO_OK;
}

qzo_status qzo_model_bind_linear(qzo_qtensor *out, char module[QZO_MODULE_NAME_BYTES],
                                 const qzo_model_dir *dir, const qzo_arch *arch,
                                 const qzo_shape *shape, int64_t layer, qzo_linear_kind kind) {
    int64_t out_features = 0, in_features = 0;
    layer_module(module, arch, layer, arch->linears[kind]);
    linear_shape(&out_features, &in_features, shape, kind);
    return qzo_qtensor_bind(out, dir, module, out_features, in_features);
}

qzo_status qzo_model_measure(qzo_model_sizes *out, const qzo_model_dir *dir) {
    qzo_status status = QZO_OK;
    const qzo_arch *arch = NULL;
    qzo_qtensor tensor = {0};
    char module[QZO_MODULE_NAME_BYTES];
    *out = (qzo_model_sizes){0};
    QZO_TRY(qzo_arch_find(&arch, qzo_model_dir_config(dir), qzo_model_dir_path(dir)));
    QZO_TRY(arch->read_shape(&out->shape, qzo_model_dir_config(dir), qzo_model_dir_path(dir)));
    for (int64_t i = 0; i < qzo_model_dir_count(dir); i++)
        out->mapped_bytes += (int64_t)qzo_model_dir_at(dir, i)->size_bytes;
    for (int64_t i = 0; i < out->shape.layer_count; i++)
        for (int kind = 0; kind < QZO_LINEAR_COUNT; kind++) {
            QZO_TRY(qzo_model_bind_linear(&tensor, module, dir, arch, &out->shape, i,
                                          (qzo_linear_kind)kind));
            out->value_count += tensor.out_features * tensor.group_count;
            qzo_qtensor_release(&tensor);
        }
    int64_t norms = (2 * out->shape.layer_count + 1) * out->shape.width;
    out->loaded_bytes = norms * (int64_t)sizeof(float);
cleanup:
    qzo_qtensor_release(&tensor);
    return status;
}
