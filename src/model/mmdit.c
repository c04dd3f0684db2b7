#include "model/mmdit.h"

#include "base/json.h"
#include "model/config.h"
#include "weights/bnb_quantize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char CLASS_NAME[] = "SD3Transformer2DModel";

bool qzo_mmdit_detect(const json_t *config) {
    const char *name = json_string_value(json_object_get(config, "_class_name"));
    return name != NULL && strcmp(name, CLASS_NAME) == 0;
}

/* --- config.json --- */

static qzo_status read_dual_layers(qzo_mmdit_shape *out, const json_t *config, const char *name) {
    const char *key = "dual_attention_layers";
    const json_t *layers = json_object_get(config, key), *layer;
    size_t i;
    if (!qzo_json_has(config, key)) return QZO_OK;
    if (!json_is_array(layers))
        return qzo_fail(QZO_ERR_FORMAT, "%s: %s must be a list of layers", name, key);
    json_array_foreach(layers, i, layer) {
        json_int_t index = json_integer_value(layer);
        if (!json_is_integer(layer) || index < 0 || index >= out->layer_count)
            return qzo_fail(QZO_ERR_FORMAT, "%s: %s: entry %zu is no layer of %lld", name, key, i,
                            (long long)out->layer_count);
        out->is_dual[index] = true;
    }
    return QZO_OK;
}

static qzo_status read_norms(qzo_mmdit_shape *out, const json_t *config, const char *name) {
    const char *kind = NULL;
    if (!qzo_json_has(config, "qk_norm")) return QZO_OK;
    qzo_status status = qzo_json_string(&kind, config, "qk_norm", name);
    if (status != QZO_OK) return status;
    if (strcmp(kind, "rms_norm") != 0)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: qk_norm \"%s\" is not supported, only rms_norm",
                        name, kind);
    out->has_norms = true;
    return QZO_OK;
}

/* Absent keys have the defaults of diffusers. */
qzo_status qzo_mmdit_read_shape(qzo_mmdit_shape *out, const json_t *config, const char *name) {
    qzo_status status = QZO_OK;
    *out = (qzo_mmdit_shape){.head_count = 18,
                             .head_dim = 64,
                             .layer_count = 18,
                             .patch = 2,
                             .side_max = 96,
                             .channels = 16,
                             .text_width = 4096,
                             .pooled_width = 2048};
    int64_t caption_width = 1152;
    enum { SIDE_MAX = 1 << 12, PATCH_MAX = 64, CHANNELS_MAX = 1 << 12 };
    const struct {
        const char *key;
        int64_t *value, max;
    } sizes[] = {{"num_attention_heads", &out->head_count, QZO_HEADS_MAX},
                 {"attention_head_dim", &out->head_dim, QZO_WIDTH_MAX},
                 {"num_layers", &out->layer_count, QZO_MMDIT_LAYERS_MAX},
                 {"patch_size", &out->patch, PATCH_MAX},
                 {"pos_embed_max_size", &out->side_max, SIDE_MAX},
                 {"in_channels", &out->channels, CHANNELS_MAX},
                 {"joint_attention_dim", &out->text_width, QZO_WIDTH_MAX},
                 {"caption_projection_dim", &caption_width, QZO_WIDTH_MAX},
                 {"pooled_projection_dim", &out->pooled_width, QZO_WIDTH_MAX}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        QZO_TRY(qzo_config_int(sizes[i].value, config, sizes[i].key, sizes[i].max, name));
    out->out_channels = out->channels;
    QZO_TRY(qzo_config_int(&out->out_channels, config, "out_channels", CHANNELS_MAX, name));
    out->width = out->head_count * out->head_dim;
    if (out->width > QZO_WIDTH_MAX)
        return qzo_fail(QZO_ERR_FORMAT, "%s: %lld heads of %lld, at most a width of %d", name,
                        (long long)out->head_count, (long long)out->head_dim, QZO_WIDTH_MAX);
    if (caption_width != out->width)
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: caption_projection_dim is %lld, %lld heads of %lld are %lld", name,
                        (long long)caption_width, (long long)out->head_count,
                        (long long)out->head_dim, (long long)out->width);
    QZO_TRY(read_dual_layers(out, config, name));
    QZO_TRY(read_norms(out, config, name));
cleanup:
    return status;
}

/* --- blocks --- */

enum { FFN = 4, MODULATION = 6, DUAL_MODULATION = 9, LAST_MODULATION = 2 };

/* in and out in multiples of the width. */
static const struct {
    const char *module;
    int in, out;
} block_linears[QZO_MMDIT_LINEAR_COUNT] = {
    [QZO_MMDIT_MODULATION] = {"norm1.linear", 1, MODULATION},
    [QZO_MMDIT_TEXT_MODULATION] = {"norm1_context.linear", 1, MODULATION},
    [QZO_MMDIT_Q] = {"attn.to_q", 1, 1},
    [QZO_MMDIT_K] = {"attn.to_k", 1, 1},
    [QZO_MMDIT_V] = {"attn.to_v", 1, 1},
    [QZO_MMDIT_O] = {"attn.to_out.0", 1, 1},
    [QZO_MMDIT_TEXT_Q] = {"attn.add_q_proj", 1, 1},
    [QZO_MMDIT_TEXT_K] = {"attn.add_k_proj", 1, 1},
    [QZO_MMDIT_TEXT_V] = {"attn.add_v_proj", 1, 1},
    [QZO_MMDIT_TEXT_O] = {"attn.to_add_out", 1, 1},
    [QZO_MMDIT_OWN_Q] = {"attn2.to_q", 1, 1},
    [QZO_MMDIT_OWN_K] = {"attn2.to_k", 1, 1},
    [QZO_MMDIT_OWN_V] = {"attn2.to_v", 1, 1},
    [QZO_MMDIT_OWN_O] = {"attn2.to_out.0", 1, 1},
    [QZO_MMDIT_UP] = {"ff.net.0.proj", 1, FFN},
    [QZO_MMDIT_DOWN] = {"ff.net.2", FFN, 1},
    [QZO_MMDIT_TEXT_UP] = {"ff_context.net.0.proj", 1, FFN},
    [QZO_MMDIT_TEXT_DOWN] = {"ff_context.net.2", FFN, 1},
};

static const char *const block_norms[QZO_MMDIT_NORM_COUNT] = {
    [QZO_MMDIT_NORM_Q] = "attn.norm_q",
    [QZO_MMDIT_NORM_K] = "attn.norm_k",
    [QZO_MMDIT_NORM_TEXT_Q] = "attn.norm_added_q",
    [QZO_MMDIT_NORM_TEXT_K] = "attn.norm_added_k",
    [QZO_MMDIT_NORM_OWN_Q] = "attn2.norm_q",
    [QZO_MMDIT_NORM_OWN_K] = "attn2.norm_k",
};

/* The last block's text rows end in its keys and values. */
static bool has_linear(const qzo_mmdit_shape *shape, int64_t layer, qzo_mmdit_linear kind) {
    switch (kind) {
    case QZO_MMDIT_OWN_Q:
    case QZO_MMDIT_OWN_K:
    case QZO_MMDIT_OWN_V:
    case QZO_MMDIT_OWN_O: return shape->is_dual[layer];
    case QZO_MMDIT_TEXT_Q:
    case QZO_MMDIT_TEXT_O:
    case QZO_MMDIT_TEXT_UP:
    case QZO_MMDIT_TEXT_DOWN: return layer < shape->layer_count - 1;
    default: return true;
    }
}

static bool has_norm(const qzo_mmdit_shape *shape, int64_t layer, qzo_mmdit_norm kind) {
    if (!shape->has_norms) return false;
    if (kind == QZO_MMDIT_NORM_TEXT_Q) return layer < shape->layer_count - 1;
    return shape->is_dual[layer] || (kind != QZO_MMDIT_NORM_OWN_Q && kind != QZO_MMDIT_NORM_OWN_K);
}

static int64_t modulation_width(const qzo_mmdit_shape *shape, int64_t layer,
                                qzo_mmdit_linear kind) {
    if (kind == QZO_MMDIT_MODULATION) return shape->is_dual[layer] ? DUAL_MODULATION : MODULATION;
    return layer == shape->layer_count - 1 ? LAST_MODULATION : MODULATION;
}

static void module_name(char out[QZO_MODULE_NAME_BYTES], int64_t layer, const char *module) {
    snprintf(out, QZO_MODULE_NAME_BYTES, "transformer_blocks.%lld.%s", (long long)layer, module);
}

static qzo_status load_block(qzo_model *model, int64_t layer) {
    qzo_status status = QZO_OK;
    const qzo_mmdit_shape *shape = &model->mmdit->shape;
    qzo_mmdit_block *block = &model->mmdit->blocks[layer];
    char module[QZO_MODULE_NAME_BYTES];
    for (int kind = 0; kind < QZO_MMDIT_LINEAR_COUNT; kind++) {
        int64_t out = block_linears[kind].out;
        if (!has_linear(shape, layer, (qzo_mmdit_linear)kind)) continue;
        if (kind == QZO_MMDIT_MODULATION || kind == QZO_MMDIT_TEXT_MODULATION)
            out = modulation_width(shape, layer, (qzo_mmdit_linear)kind);
        module_name(module, layer, block_linears[kind].module);
        QZO_TRY(qzo_model_load_linear(&block->linears[kind], model, module, out * shape->width,
                                      block_linears[kind].in * shape->width));
    }
    for (int kind = 0; kind < QZO_MMDIT_NORM_COUNT; kind++) {
        if (!has_norm(shape, layer, (qzo_mmdit_norm)kind)) continue;
        module_name(module, layer, block_norms[kind]);
        QZO_TRY(qzo_model_load_vector(&block->norms[kind], model, module, "weight", shape->head_dim,
                                      0.0f));
    }
cleanup:
    return status;
}

/* --- what is outside the blocks --- */

static qzo_status load_patches(qzo_model *model) {
    static const char module[] = "pos_embed.proj", weight[] = "pos_embed.proj.weight";
    const qzo_mmdit_shape *shape = &model->mmdit->shape;
    qzo_qtensor tensor;
    qzo_status status = qzo_dense_bind_flat(&tensor, model->dir, module, weight, shape->width,
                                            qzo_mmdit_in_row(shape));
    if (status != QZO_OK) return status;
    return qzo_model_load_bound(&model->mmdit->ends[QZO_MMDIT_PATCHES], model, &tensor,
                                QZO_GROUP_UNQUANTIZED);
}

/* The table is a constant: no group trains it. */
static qzo_status load_positions(qzo_model *model) {
    static const char name[] = "pos_embed.pos_embed";
    qzo_mmdit *mmdit = model->mmdit;
    int64_t side = mmdit->shape.side_max;
    qzo_status status = qzo_dense_bind_flat(&mmdit->positions_tensor, model->dir, name, name,
                                            side * side, mmdit->shape.width);
    if (status != QZO_OK) return status;
    return model->backend->ops->weight_load(model->backend, &mmdit->positions,
                                            &mmdit->positions_tensor);
}

static qzo_status load_ends(qzo_model *model) {
    qzo_status status = QZO_OK;
    const qzo_mmdit_shape *shape = &model->mmdit->shape;
    int64_t width = shape->width;
    const struct {
        qzo_mmdit_end kind;
        const char *module;
        int64_t out, in;
    } ends[] = {
        {QZO_MMDIT_TIME_UP, "time_text_embed.timestep_embedder.linear_1", width,
         QZO_MMDIT_TIME_WIDTH},
        {QZO_MMDIT_TIME_DOWN, "time_text_embed.timestep_embedder.linear_2", width, width},
        {QZO_MMDIT_POOLED_UP, "time_text_embed.text_embedder.linear_1", width, shape->pooled_width},
        {QZO_MMDIT_POOLED_DOWN, "time_text_embed.text_embedder.linear_2", width, width},
        {QZO_MMDIT_CAPTION, "context_embedder", width, shape->text_width},
        {QZO_MMDIT_OUT_MODULATION, "norm_out.linear", LAST_MODULATION * width, width},
        {QZO_MMDIT_OUT, "proj_out", qzo_mmdit_out_row(shape), width},
    };
    QZO_TRY(load_patches(model));
    QZO_TRY(load_positions(model));
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        QZO_TRY(qzo_model_load_linear(&model->mmdit->ends[ends[i].kind], model, ends[i].module,
                                      ends[i].out, ends[i].in));
cleanup:
    return status;
}

/* No pass reads the last block's text queries, but their tensors stand in the files, and diffusers
 * quantizes them with the others: a folder that has them in fp16 beside 4-bit neighbours is one
 * that it refuses. So they are quantized with the others here too, stay at rest and off the device.
 */
static qzo_status load_unread(qzo_model *model) {
    qzo_status status = QZO_OK;
    const qzo_mmdit_shape *shape = &model->mmdit->shape;
    qzo_linear *unread = &model->mmdit->unread;
    char module[QZO_MODULE_NAME_BYTES], weight[QZO_MODULE_NAME_BYTES + 8];
    module_name(module, shape->layer_count - 1, block_linears[QZO_MMDIT_TEXT_Q].module);
    snprintf(weight, sizeof weight, "%s.weight", module);
    if (qzo_model_dir_quantize_kind(model->dir) == NULL ||
        qzo_model_dir_find(model->dir, weight) == NULL)
        return QZO_OK;
    unread->name = strdup(module);
    if (unread->name == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: no memory", module);
    QZO_TRY(
        qzo_qtensor_bind(&unread->tensor, model->dir, unread->name, shape->width, shape->width));
    QZO_TRY(qzo_model_quantize(&unread->tensor, model->dir, qzo_model_quantize_threads(model)));
    model->loaded_bytes += qzo_bnb_made_bytes(&unread->tensor);
cleanup:
    return status;
}

/* --- the whole --- */

static void place_at_rest(qzo_model *model, qzo_linear *linears, int count) {
    for (int i = 0; i < count; i++)
        if (linears[i].weight != NULL && linears[i].tensor.group_count > 0 &&
            linears[i].tensor.span == QZO_SPAN_NONE)
            qzo_model_place_at_rest(model, &linears[i].tensor);
}

qzo_status qzo_mmdit_load(qzo_model *model) {
    qzo_status status = QZO_OK;
    const char *path = qzo_model_dir_path(model->dir);
    /* A weight and a bias each, and the norms. */
    enum { BLOCK_PARTS_MAX = 2 * QZO_MMDIT_LINEAR_COUNT + QZO_MMDIT_NORM_COUNT };
    qzo_mmdit *mmdit = model->mmdit = calloc(1, sizeof *mmdit);
    if (mmdit == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    QZO_TRY(qzo_mmdit_read_shape(&mmdit->shape, qzo_model_dir_config(model->dir), path));
    QZO_TRY(qzo_model_check_heads(model, mmdit->shape.head_dim));
    mmdit->blocks = calloc((size_t)mmdit->shape.layer_count, sizeof *mmdit->blocks);
    if (mmdit->blocks == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for %lld layers", path,
                        (long long)mmdit->shape.layer_count);
    QZO_TRY(qzo_model_reserve_parts(model, mmdit->shape.layer_count * BLOCK_PARTS_MAX +
                                               2 * QZO_MMDIT_END_COUNT + 1));
    for (int64_t i = 0; i < mmdit->shape.layer_count; i++) QZO_TRY(load_block(model, i));
    QZO_TRY(load_ends(model));
    QZO_TRY(load_unread(model));
    model->master_count = model->value_count;
    for (int64_t i = 0; i < mmdit->shape.layer_count; i++)
        place_at_rest(model, mmdit->blocks[i].linears, QZO_MMDIT_LINEAR_COUNT);
    place_at_rest(model, mmdit->ends, QZO_MMDIT_END_COUNT);
    if (mmdit->unread.name != NULL) qzo_model_place_at_rest(model, &mmdit->unread.tensor);
cleanup:
    return status;
}

static void free_linears(qzo_backend *backend, qzo_linear *linears, int count) {
    for (int i = 0; i < count; i++) qzo_linear_release(backend, &linears[i]);
}

void qzo_mmdit_free(qzo_backend *backend, qzo_mmdit *mmdit) {
    if (mmdit == NULL) return;
    for (int64_t i = 0; mmdit->blocks != NULL && i < mmdit->shape.layer_count; i++) {
        free_linears(backend, mmdit->blocks[i].linears, QZO_MMDIT_LINEAR_COUNT);
        for (int kind = 0; kind < QZO_MMDIT_NORM_COUNT; kind++)
            qzo_vector_release(backend, &mmdit->blocks[i].norms[kind]);
    }
    free_linears(backend, mmdit->ends, QZO_MMDIT_END_COUNT);
    qzo_linear_release(backend, &mmdit->unread);
    backend->ops->weight_free(backend, mmdit->positions);
    qzo_qtensor_release(&mmdit->positions_tensor);
    free(mmdit->blocks);
    free(mmdit);
}
