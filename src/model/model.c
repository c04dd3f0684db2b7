#include "model/mmdit.h"

#include "base/math64.h"
#include "weights/bnb_quantize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = QZO_MODULE_NAME_BYTES };

/* Tensors that may train: linear layers and their biases, norms with gain and bias; what is outside
 * the layers. */
enum { LAYER_PARTS_MAX = 2 * QZO_LINEAR_COUNT + 2 * QZO_PLACE_COUNT, END_PARTS_MAX = 16 };

/* Checkpoints of a model without its head omit the base of all names. */
static const char *stored_name(const qzo_model_dir *dir, const qzo_arch *arch, const char *name) {
    char tensor[NAME_BYTES];
    size_t length = strlen(arch->base);
    snprintf(tensor, sizeof tensor, "%s.weight", arch->embedding);
    bool omitted =
        qzo_model_dir_find(dir, tensor) == NULL && qzo_model_dir_find(dir, tensor + length) != NULL;
    return omitted && strncmp(name, arch->base, length) == 0 ? name + length : name;
}

static void layer_module(char out[NAME_BYTES], const qzo_model_dir *dir, const qzo_arch *arch,
                         int64_t layer, const char *module) {
    /* The only directive of layer_prefix is %lld; spelled out here for the compiler's check. */
    const char *prefix = stored_name(dir, arch, arch->layer_prefix);
    const char *hole = strstr(prefix, "%lld");
    snprintf(out, NAME_BYTES, "%.*s%lld%s%s", (int)(hole - prefix), prefix, (long long)layer,
             hole + strlen("%lld"), module);
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
    case QZO_LINEAR_QKV: *out_features = q_width + 2 * kv_width; break;
    case QZO_LINEAR_GATE:
    case QZO_LINEAR_UP: *out_features = shape->ffn_width; break;
    case QZO_LINEAR_GATE_UP: *out_features = 2 * shape->ffn_width; break;
    default: *out_features = shape->width; break;
    }
}

static qzo_status load_norm(qzo_norm *out, qzo_model *model, const char *module, int64_t width) {
    const qzo_arch *arch = model->arch;
    qzo_status status =
        qzo_model_load_vector(&out->gain, model, module, "weight", width, arch->norm_gain_base);
    if (status == QZO_OK && arch->norm == QZO_NORM_LAYER)
        status = qzo_model_load_vector(&out->bias, model, module, "bias", width, 0.0f);
    return status;
}

/* Some quantizers write a bias of zeros for every linear layer. Any other that config.json does not
 * tell of would be left out in silence. */
static qzo_status refuse_bias(const qzo_model_dir *dir, const char *module) {
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s.bias", module);
    const qzo_tensor_view *view = qzo_model_dir_find(dir, name);
    if (view == NULL) return QZO_OK;
    qzo_status status = qzo_model_dir_require_float(&view, dir, name, 1, view->count, 0);
    for (int64_t i = 0; status == QZO_OK && i < view->count; i++)
        if (qzo_tensor_float_at(view, i) != 0.0f)
            return qzo_fail(QZO_ERR_FORMAT,
                            "%s: tensor %s: config.json says that there is no such bias",
                            qzo_model_dir_path(dir), name);
    return status;
}

/* transformers' llama3 scaling: high frequencies stay, low ones are divided, and those between go
 * from one to the other by how often they turn within the original positions. */
static float llama3_frequency(float frequency, const qzo_rope *rope) {
    const float two_pi = 6.28318530717958647692f;
    float length = two_pi / frequency;
    if (length < rope->original_positions / rope->high_factor) return frequency;
    if (length > rope->original_positions / rope->low_factor) return frequency / rope->factor;
    float smooth = (rope->original_positions / length - rope->low_factor) /
                   (rope->high_factor - rope->low_factor);
    return (1.0f - smooth) * frequency / rope->factor + smooth * frequency;
}

void qzo_rope_table_fill(float *host, const qzo_shape *shape, int64_t positions) {
    const qzo_rope *rope = &shape->rope;
    int64_t half = shape->head_dim / 2;
    double log_theta = qzo_log((double)rope->theta);
    for (int64_t i = 0; i < half; i++) {
        float exponent = (float)(2 * i) / (float)shape->head_dim;
        float frequency = 1.0f / (float)qzo_exp(log_theta * (double)exponent);
        if (rope->kind == QZO_ROPE_LINEAR) frequency /= rope->factor;
        if (rope->kind == QZO_ROPE_FACTORS) frequency /= rope->factors[i];
        if (rope->kind == QZO_ROPE_LLAMA3) frequency = llama3_frequency(frequency, rope);
        for (int64_t p = 0; p < positions; p++) {
            float angle = (float)p * frequency;
            host[(p * half + i) * 2] = (float)qzo_cos((double)angle);
            host[(p * half + i) * 2 + 1] = (float)qzo_sin((double)angle);
        }
    }
}

/* Memory beside the files that a bound layer takes. */
static int64_t own_bytes(const qzo_arch *arch, const qzo_qtensor *tensor) {
    return qzo_model_is_transposed(arch, tensor)
               ? (int64_t)tensor->as.dense.size_bytes
               : qzo_bnb_made_bytes(tensor) + qzo_qtensor_repacked_bytes(tensor);
}

/* transformers would quantize these two as well; here they are ends, which are not. */
static qzo_status check_quantize(const qzo_model *model) {
    const qzo_bnb_kind *kind = qzo_model_dir_quantize_kind(model->dir);
    if (kind == NULL || model->shape.embed_width == model->shape.width) return QZO_OK;
    return qzo_fail(QZO_ERR_UNSUPPORTED,
                    "%s: quantize: %s: a model whose embeddings are projected is not supported",
                    qzo_model_dir_path(model->dir), kind->name);
}

static qzo_status load_linear(qzo_model *model, int64_t index, qzo_linear_kind kind) {
    qzo_status status = QZO_OK;
    qzo_layer *layer = &model->layers[index];
    qzo_qtensor *tensor = &layer->tensors[kind];
    char module[NAME_BYTES];
    QZO_TRY(qzo_model_bind_linear(tensor, module, model->dir, model->arch, &model->shape, index,
                                  kind, qzo_model_quantize_threads(model)));
    tensor->name = layer->names[kind] = strdup(module);
    if (tensor->name == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: no memory", module);
    QZO_TRY(
        qzo_model_add_values(model, tensor, QZO_GROUP_WEIGHTS, tensor->format->value_suffix, 0.0f));
    model->loaded_bytes += own_bytes(model->arch, tensor);
    if (!model->backend->dry) QZO_TRY(qzo_qtensor_repack(tensor));
    QZO_TRY(model->backend->ops->weight_load(model->backend, &layer->weights[kind], tensor));
    if (model->shape.has_bias[kind])
        QZO_TRY(qzo_model_load_vector(&layer->biases[kind], model, module, "bias",
                                      tensor->out_features, 0));
cleanup:
    return status;
}

static qzo_status load_layer(qzo_model *model, int64_t index) {
    qzo_status status = QZO_OK;
    const qzo_arch *arch = model->arch;
    const qzo_shape *shape = &model->shape;
    qzo_layer *layer = &model->layers[index];
    char module[NAME_BYTES];
    layer->window = qzo_shape_is_windowed(shape, index) ? shape->window : 0;
    for (int place = 0; place < QZO_PLACE_COUNT; place++) {
        if (arch->norms[place] == NULL) continue;
        bool of_heads = place == QZO_PLACE_Q || place == QZO_PLACE_K;
        layer_module(module, model->dir, arch, index, arch->norms[place]);
        QZO_TRY(load_norm(&layer->norms[place], model, module,
                          of_heads ? shape->head_dim : shape->width));
    }
    for (int kind = 0; kind < QZO_LINEAR_COUNT; kind++)
        if (arch->linears[kind] != NULL) QZO_TRY(load_linear(model, index, (qzo_linear_kind)kind));
cleanup:
    return status;
}

/* A weight outside the layers, (rows, columns). Blocks of a GGUF file do not train there; other
 * quantized ends are refused. */
static qzo_status load_end(qzo_weight **out, qzo_qtensor *tensor, qzo_model *model,
                           const char *module, int64_t rows, int64_t columns) {
    qzo_status status = QZO_OK;
    const char *name = stored_name(model->dir, model->arch, module);
    QZO_TRY(qzo_qtensor_bind(tensor, model->dir, name, rows, columns));
    if (tensor->group_count > 0 && tensor->format != &qzo_quant_gguf) {
        status = qzo_fail(QZO_ERR_UNSUPPORTED,
                          "%s: %s: a quantized embedding or head is not "
                          "supported",
                          qzo_model_dir_path(model->dir), name);
        goto cleanup;
    }
    if (tensor->group_count == 0)
        QZO_TRY(qzo_model_add_values(model, tensor, QZO_GROUP_UNQUANTIZED, "weight", 0.0f));
    QZO_TRY(model->backend->ops->weight_load(model->backend, out, tensor));
cleanup:
    return status;
}

/* Embeddings, the head and what lies next to them; a tied model has one tensor for both. */
static qzo_status load_ends(qzo_model *model) {
    qzo_status status = QZO_OK;
    const qzo_shape *shape = &model->shape;
    const qzo_arch *arch = model->arch;
    const qzo_backend_ops *ops = model->backend->ops;
    qzo_memory_use before, after;
    QZO_TRY(ops->memory_use(model->backend, &before));
    QZO_TRY(load_end(&model->embedding, &model->embedding_tensor, model, arch->embedding,
                     shape->vocab, shape->embed_width));
    if (shape->tied_head)
        model->head = model->embedding;
    else
        QZO_TRY(load_end(&model->head, &model->head_tensor, model, arch->head, shape->vocab,
                         shape->embed_width));
    if (arch->positions != NULL)
        QZO_TRY(load_end(&model->positions, &model->positions_tensor, model, arch->positions,
                         shape->positions_max + arch->position_offset, shape->width));
    if (shape->embed_width != shape->width) {
        QZO_TRY(load_end(&model->project_in, &model->project_in_tensor, model, arch->project_in,
                         shape->width, shape->embed_width));
        QZO_TRY(load_end(&model->project_out, &model->project_out_tensor, model, arch->project_out,
                         shape->embed_width, shape->width));
    }
    QZO_TRY(ops->memory_use(model->backend, &after));
    model->ends_bytes =
        after.held_bytes[QZO_MEMORY_WEIGHTS] - before.held_bytes[QZO_MEMORY_WEIGHTS];
    if (!shape->post_norm)
        QZO_TRY(load_norm(&model->final_norm, model,
                          stored_name(model->dir, arch, arch->final_norm), shape->width));
cleanup:
    return status;
}

/* Scales that do not train lie behind the spans. */
static void place_the_rest(qzo_model *model) {
    model->master_count = model->value_count;
    for (int64_t i = 0; i < model->shape.layer_count; i++)
        for (int kind = 0; kind < QZO_LINEAR_COUNT; kind++) {
            qzo_qtensor *tensor = &model->layers[i].tensors[kind];
            if (tensor->group_count == 0 || tensor->span != QZO_SPAN_NONE) continue;
            qzo_model_place_at_rest(model, tensor);
        }
    qzo_qtensor *const ends[] = {&model->embedding_tensor, &model->head_tensor};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends[i]->group_count > 0 && ends[i]->span == QZO_SPAN_NONE)
            qzo_model_place_at_rest(model, ends[i]);
}

qzo_status qzo_model_load(qzo_model **out, qzo_model_dir *dir, qzo_backend *backend) {
    return qzo_model_load_for(out, dir, backend, &qzo_training_default);
}

static qzo_status load_decoder(qzo_model *model) {
    qzo_status status = QZO_OK;
    const json_t *config = qzo_model_dir_config(model->dir);
    const char *path = qzo_model_dir_path(model->dir);
    QZO_TRY(qzo_arch_find(&model->arch, config, path));
    QZO_TRY(model->arch->read_shape(&model->shape, config, path));
    QZO_TRY(check_quantize(model));
    QZO_TRY(qzo_model_check_heads(model, model->shape.head_dim));
    int64_t layers = model->shape.layer_count;
    model->loaded_bytes = qzo_model_dir_owned_bytes(model->dir);
    model->layers = calloc((size_t)layers, sizeof *model->layers);
    if (model->layers == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for %lld layers", path,
                        (long long)layers);
    QZO_TRY(qzo_model_reserve_parts(model, layers * LAYER_PARTS_MAX + END_PARTS_MAX));
    for (int64_t i = 0; i < layers; i++) QZO_TRY(load_layer(model, i));
    QZO_TRY(load_ends(model));
    place_the_rest(model);
cleanup:
    return status;
}

qzo_status qzo_model_load_for(qzo_model **out, qzo_model_dir *dir, qzo_backend *backend,
                              const qzo_training *training) {
    qzo_status status = QZO_OK;
    qzo_model *model = calloc(1, sizeof *model);
    if (model == NULL) {
        qzo_model_dir_close(dir);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for a model");
    }
    model->dir = dir;
    model->backend = backend;
    model->training = training;
    if (training->quantize != NULL) qzo_model_dir_quantize(dir, training->quantize);
    for (int kind = 0; kind < QZO_GROUP_COUNT; kind++)
        model->groups[kind] = (qzo_value_group){1.0f, 1.0f, true, 0, 0};
    QZO_TRY(qzo_mmdit_detect(qzo_model_dir_config(dir)) ? qzo_mmdit_load(model)
                                                        : load_decoder(model));
    model->training = NULL; /* borrowed for this call */
    *out = model;
    model = NULL;
cleanup:
    qzo_model_free(model);
    return status;
}

static void release_norm(qzo_backend *backend, qzo_norm *norm) {
    qzo_vector_release(backend, &norm->gain);
    qzo_vector_release(backend, &norm->bias);
}

static void release_layer(qzo_backend *backend, qzo_layer *layer) {
    for (int place = 0; place < QZO_PLACE_COUNT; place++)
        release_norm(backend, &layer->norms[place]);
    for (int kind = 0; kind < QZO_LINEAR_COUNT; kind++) {
        backend->ops->weight_free(backend, layer->weights[kind]);
        qzo_vector_release(backend, &layer->biases[kind]);
        qzo_qtensor_release(&layer->tensors[kind]);
        free(layer->names[kind]);
    }
}

qzo_status qzo_model_require_decoder(const qzo_model *model) {
    if (model->mmdit == NULL) return QZO_OK;
    return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: a model of images, expected one of texts",
                    qzo_model_dir_path(model->dir));
}

void qzo_model_free(qzo_model *model) {
    if (model == NULL) return;
    qzo_backend *backend = model->backend;
    qzo_weight *own_head = model->head != model->embedding ? model->head : NULL;
    qzo_weight *const ends[] = {model->embedding, own_head, model->positions, model->project_in,
                                model->project_out};
    qzo_qtensor *const end_tensors[] = {&model->embedding_tensor, &model->head_tensor,
                                        &model->positions_tensor, &model->project_in_tensor,
                                        &model->project_out_tensor};
    for (int64_t i = 0; model->layers != NULL && i < model->shape.layer_count; i++)
        release_layer(backend, &model->layers[i]);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        backend->ops->weight_free(backend, ends[i]);
        qzo_qtensor_release(end_tensors[i]);
    }
    release_norm(backend, &model->final_norm);
    qzo_mmdit_free(backend, model->mmdit);
    for (int64_t i = 0; i < model->span_count; i++) free(model->span_names[i]);
    free(model->span_names);
    free(model->spans);
    free(model->parts);
    free(model->layers);
    qzo_model_dir_close(model->dir);
    free(model);
}

static qzo_status bind_stored(qzo_qtensor *out, const char *module, const qzo_model_dir *dir,
                              const qzo_arch *arch, int64_t out_features, int64_t in_features) {
    if (arch->transposed_linears && qzo_quant_format_find(dir, module) == &qzo_quant_dense)
        return qzo_dense_bind_transposed(out, dir, module, out_features, in_features);
    return qzo_qtensor_bind(out, dir, module, out_features, in_features);
}

qzo_status qzo_model_bind_linear(qzo_qtensor *out, char module[QZO_MODULE_NAME_BYTES],
                                 const qzo_model_dir *dir, const qzo_arch *arch,
                                 const qzo_shape *shape, int64_t layer, qzo_linear_kind kind,
                                 int quantize_threads) {
    int64_t out_features = 0, in_features = 0;
    layer_module(module, dir, arch, layer, arch->linears[kind]);
    linear_shape(&out_features, &in_features, shape, kind);
    qzo_status status = shape->has_bias[kind] ? QZO_OK : refuse_bias(dir, module);
    if (status == QZO_OK) status = bind_stored(out, module, dir, arch, out_features, in_features);
    return status == QZO_OK ? qzo_model_quantize(out, dir, quantize_threads) : status;
}

/* Floats of all norms, as load_layer and load_ends have them. */
static int64_t norm_floats(const qzo_arch *arch, const qzo_shape *shape) {
    int64_t floats = 0;
    for (int place = 0; place < QZO_PLACE_COUNT; place++)
        if (arch->norms[place] != NULL)
            floats += place == QZO_PLACE_Q || place == QZO_PLACE_K ? shape->head_dim : shape->width;
    floats *= shape->layer_count;
    if (!shape->post_norm) floats += shape->width;
    return arch->norm == QZO_NORM_LAYER ? 2 * floats : floats;
}

qzo_status qzo_model_measure(qzo_model_sizes *out, const qzo_model_dir *dir) {
    qzo_status status = QZO_OK;
    const qzo_arch *arch = NULL;
    qzo_qtensor tensor = {0};
    char module[QZO_MODULE_NAME_BYTES];
    *out = (qzo_model_sizes){0};
    QZO_TRY(qzo_arch_find(&arch, qzo_model_dir_config(dir), qzo_model_dir_path(dir)));
    QZO_TRY(arch->read_shape(&out->shape, qzo_model_dir_config(dir), qzo_model_dir_path(dir)));
    out->arch = arch;
    out->mapped_bytes = qzo_model_dir_data_bytes(dir);
    out->loaded_bytes =
        qzo_model_dir_owned_bytes(dir) + norm_floats(arch, &out->shape) * (int64_t)sizeof(float);
    for (int64_t i = 0; i < out->shape.layer_count; i++)
        for (int kind = 0; kind < QZO_LINEAR_COUNT; kind++) {
            if (arch->linears[kind] == NULL) continue;
            QZO_TRY(qzo_model_bind_linear(&tensor, module, dir, arch, &out->shape, i,
                                          (qzo_linear_kind)kind, 0));
            out->value_count += tensor.out_features * tensor.group_count;
            if (out->shape.has_bias[kind])
                out->loaded_bytes += tensor.out_features * (int64_t)sizeof(float);
            out->loaded_bytes += own_bytes(arch, &tensor);
            qzo_qtensor_release(&tensor);
        }
cleanup:
    qzo_qtensor_release(&tensor);
    return status;
}
