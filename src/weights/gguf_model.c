#include "weights/gguf_model.h"

#include "base/check.h"
#include "base/file_io.h"
#include "weights/gguf_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 512 };

typedef struct entry {
    qzo_tensor_view view; /* name NULL: not a weight, its values stand in the config */
    const qzo_gguf_tensor_info *stored;
    int64_t head_rows; /* 0: the rows are in the file's order */
    uint8_t *owned;
} entry;

struct qzo_gguf_model {
    qzo_gguf *file;
    json_t *config;
    qzo_gguf_heads heads;
    entry *entries; /* of all tensors, in the file's order */
    int64_t entry_count;
    const entry **weights; /* those with a name */
    int64_t weight_count;
};

static const char *const block_suffixes[] = {"q4_0", "q8_0", "q4_k", "q6_k"};

const char *qzo_gguf_block_suffix(qzo_gguf_block kind) { return block_suffixes[kind]; }

static bool block_of(qzo_gguf_block *out, qzo_gguf_type type) {
    switch (type) {
    case QZO_GGUF_Q4_0: *out = QZO_GGUF_BLOCK_Q4_0; return true;
    case QZO_GGUF_Q8_0: *out = QZO_GGUF_BLOCK_Q8_0; return true;
    case QZO_GGUF_Q4_K: *out = QZO_GGUF_BLOCK_Q4_K; return true;
    case QZO_GGUF_Q6_K: *out = QZO_GGUF_BLOCK_Q6_K; return true;
    default: return false;
    }
}

static qzo_dtype dtype_of(qzo_gguf_type type) {
    return type == QZO_GGUF_F32   ? QZO_DTYPE_F32
           : type == QZO_GGUF_F16 ? QZO_DTYPE_F16
                                  : QZO_DTYPE_BF16;
}

/* --- names --- */

typedef struct name_pair {
    const char *stored, *canonical;
    bool is_linear;    /* which may have a bias */
    bool is_head_norm; /* which not every architecture has */
} name_pair;

static const name_pair end_names[] = {
    {"token_embd", "model.embed_tokens", false, false},
    {"output_norm", "model.norm", false, false},
    {"output", "lm_head", false, false},
};

static const name_pair layer_names[] = {
    {"attn_norm", "input_layernorm", false, false},
    {"attn_q", "self_attn.q_proj", true, false},
    {"attn_k", "self_attn.k_proj", true, false},
    {"attn_v", "self_attn.v_proj", true, false},
    {"attn_output", "self_attn.o_proj", true, false},
    {"attn_q_norm", "self_attn.q_norm", false, true},
    {"attn_k_norm", "self_attn.k_norm", false, true},
    {"ffn_norm", "post_attention_layernorm", false, false},
    {"ffn_gate", "mlp.gate_proj", true, false},
    {"ffn_up", "mlp.up_proj", true, false},
    {"ffn_down", "mlp.down_proj", true, false},
};

static const name_pair *pair_of(const name_pair *pairs, size_t count, const char *name,
                                size_t length) {
    for (size_t i = 0; i < count; i++)
        if (strlen(pairs[i].stored) == length && strncmp(pairs[i].stored, name, length) == 0)
            return &pairs[i];
    return NULL;
}

/* "blk.12." at the beginning of a name: the layer, and where its rest begins; -1: none. */
static int64_t layer_of(const char **rest, const char *name) {
    char *end = NULL;
    if (strncmp(name, "blk.", 4) != 0 || name[4] < '0' || name[4] > '9') return -1;
    long long layer = strtoll(name + 4, &end, 10);
    if (*end != '.' || (name[4] == '0' && end != name + 5)) return -1;
    *rest = end + 1;
    return layer;
}

/* transformers' name of a tensor without ".weight" or ".bias", which *part is; false: none. */
static bool canonical_of(char out[NAME_BYTES], const char **part, const qzo_gguf_heads *heads,
                         const char *name) {
    const char *rest = name;
    int64_t layer = layer_of(&rest, name);
    const char *dot = strrchr(rest, '.');
    if (dot == NULL || layer >= heads->layer_count) return false;
    bool is_bias = strcmp(dot, ".bias") == 0;
    size_t length = (size_t)(dot - rest);
    const name_pair *pair =
        layer >= 0 ? pair_of(layer_names, sizeof layer_names / sizeof *layer_names, rest, length)
                   : pair_of(end_names, sizeof end_names / sizeof *end_names, rest, length);
    if (pair == NULL || (!is_bias && strcmp(dot, ".weight") != 0)) return false;
    if ((is_bias && !pair->is_linear) || (pair->is_head_norm && !heads->has_norms)) return false;
    if (layer >= 0)
        snprintf(out, NAME_BYTES, "model.layers.%lld.%s", (long long)layer, pair->canonical);
    else
        snprintf(out, NAME_BYTES, "%s", pair->canonical);
    *part = dot + 1;
    return true;
}

/* --- rows of q and k --- */

/* Rows between transformers' order and the file's; `to_file` says in which direction. */
static void reorder(uint8_t *out, const uint8_t *in, int64_t rows, size_t row_bytes,
                    int64_t head_rows, bool to_file) {
    for (int64_t row = 0; row < rows; row++) {
        int64_t stored = qzo_gguf_stored_row(row, head_rows);
        memcpy(out + (size_t)(to_file ? stored : row) * row_bytes,
               in + (size_t)(to_file ? row : stored) * row_bytes, row_bytes);
    }
}

/* Rows of a head where llama.cpp reorders them, else 0. */
static qzo_status find_head_rows(int64_t *out, const qzo_gguf_model *model,
                                 const qzo_gguf_tensor_info *stored) {
    const char *rest = stored->name;
    *out = 0;
    if (!model->heads.reordered || layer_of(&rest, stored->name) < 0) return QZO_OK;
    bool is_q = strncmp(rest, "attn_q.", 7) == 0, is_k = strncmp(rest, "attn_k.", 7) == 0;
    if (!is_q && !is_k) return QZO_OK;
    int64_t heads = is_q ? model->heads.count : model->heads.kv_count;
    if (stored->shape[0] % heads != 0 || stored->shape[0] / heads % 2 != 0)
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: %lld rows for %lld heads of an even size",
                        qzo_gguf_name(model->file), stored->name, (long long)stored->shape[0],
                        (long long)heads);
    *out = stored->shape[0] / heads;
    return QZO_OK;
}

static qzo_status fail_memory(const qzo_gguf_model *model) {
    return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", qzo_gguf_name(model->file));
}

/* --- views --- */

static qzo_status fill_blocks(entry *out, const qzo_gguf_model *model) {
    const qzo_gguf_tensor_info *stored = out->stored;
    if (stored->rank != 2)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: tensor %s: rank %d of type %s, expected 2",
                        qzo_gguf_name(model->file), stored->name, stored->rank,
                        qzo_gguf_layouts[stored->type].name);
    out->view.dtype = QZO_DTYPE_U8;
    out->view.shape[0] = stored->shape[0];
    out->view.shape[1] = (int64_t)stored->size_bytes / stored->shape[0];
    out->view.count = (int64_t)stored->size_bytes;
    return QZO_OK;
}

static qzo_status fill_floats(entry *out, const qzo_gguf_model *model) {
    qzo_tensor_view *view = &out->view;
    view->dtype = dtype_of(out->stored->type);
    view->count = 1;
    for (int i = 0; i < view->rank; i++) {
        view->shape[i] = out->stored->shape[i];
        view->count *= view->shape[i];
    }
    if (out->head_rows == 0) return QZO_OK;
    out->owned = malloc(view->size_bytes);
    if (out->owned == NULL) return fail_memory(model);
    reorder(out->owned, view->data, view->shape[0], view->size_bytes / (size_t)view->shape[0],
            out->head_rows, false);
    view->data = out->owned;
    return QZO_OK;
}

static qzo_status fill_entry(entry *out, const qzo_gguf_model *model,
                             const qzo_gguf_tensor_info *stored) {
    qzo_status status = QZO_OK;
    char module[NAME_BYTES], *name = NULL;
    const char *part = NULL;
    qzo_gguf_block kind;
    out->stored = stored;
    if (strcmp(stored->name, QZO_GGUF_ROPE_FACTORS) == 0 && model->heads.reordered) return QZO_OK;
    if (!canonical_of(module, &part, &model->heads, stored->name))
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: tensor %s is not known of this architecture",
                        qzo_gguf_name(model->file), stored->name);
    bool is_blocks = block_of(&kind, stored->type);
    if (asprintf(&name, "%s.%s", module, is_blocks ? block_suffixes[kind] : part) < 0)
        return fail_memory(model);
    out->view = (qzo_tensor_view){
        .name = name, .rank = stored->rank, .data = stored->data, .size_bytes = stored->size_bytes};
    QZO_TRY(find_head_rows(&out->head_rows, model, stored));
    QZO_TRY(is_blocks ? fill_blocks(out, model) : fill_floats(out, model));
cleanup:
    return status;
}

static qzo_status fill_entries(qzo_gguf_model *model) {
    size_t room = (size_t)qzo_gguf_count(model->file) + 1;
    model->entries = calloc(room, sizeof *model->entries);
    model->weights = calloc(room, sizeof(const entry *));
    if (model->entries == NULL || model->weights == NULL) return fail_memory(model);
    for (int64_t i = 0; i < qzo_gguf_count(model->file); i++) {
        entry *filled = &model->entries[model->entry_count++];
        qzo_status status = fill_entry(filled, model, qzo_gguf_at(model->file, i));
        if (status != QZO_OK) return status;
        if (filled->view.name != NULL) model->weights[model->weight_count++] = filled;
    }
    return QZO_OK;
}

/* Takes the file, also on failure. */
static qzo_status build(qzo_gguf_model **out, qzo_gguf *file) {
    qzo_status status = QZO_OK;
    *out = NULL;
    qzo_gguf_model *model = calloc(1, sizeof *model);
    if (model == NULL) {
        qzo_gguf_close(file);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for a GGUF file");
    }
    model->file = file;
    QZO_TRY(qzo_gguf_config_read(&model->config, &model->heads, file));
    QZO_TRY(fill_entries(model));
    *out = model;
    model = NULL;
cleanup:
    qzo_gguf_model_close(model);
    return status;
}

qzo_status qzo_gguf_model_open(qzo_gguf_model **out, const char *path) {
    qzo_gguf *file = NULL;
    *out = NULL;
    qzo_status status = qzo_gguf_open(&file, path);
    return status == QZO_OK ? build(out, file) : status;
}

qzo_status qzo_gguf_model_parse(qzo_gguf_model **out, const uint8_t *bytes, size_t size_bytes,
                                const char *name) {
    qzo_gguf *file = NULL;
    *out = NULL;
    qzo_status status = qzo_gguf_parse(&file, bytes, size_bytes, name);
    return status == QZO_OK ? build(out, file) : status;
}

void qzo_gguf_model_close(qzo_gguf_model *model) {
    if (model == NULL) return;
    for (int64_t i = 0; i < model->entry_count; i++) {
        free((void *)(uintptr_t)model->entries[i].view.name);
        free(model->entries[i].owned);
    }
    free(model->entries);
    free(model->weights);
    json_decref(model->config);
    qzo_gguf_close(model->file);
    free(model);
}

const qzo_gguf *qzo_gguf_model_file(const qzo_gguf_model *model) { return model->file; }

json_t *qzo_gguf_model_config(const qzo_gguf_model *model) { return model->config; }

int64_t qzo_gguf_model_count(const qzo_gguf_model *model) { return model->weight_count; }

const qzo_tensor_view *qzo_gguf_model_at(const qzo_gguf_model *model, int64_t index) {
    QZO_ASSERT(index >= 0 && index < model->weight_count);
    return &model->weights[index]->view;
}

int64_t qzo_gguf_model_owned_bytes(const qzo_gguf_model *model) {
    int64_t sum_bytes = 0;
    for (int64_t i = 0; i < model->entry_count; i++)
        if (model->entries[i].owned != NULL)
            sum_bytes += (int64_t)model->entries[i].view.size_bytes;
    return sum_bytes;
}

static const entry *find(const qzo_gguf_model *model, const char *name) {
    for (int64_t i = 0; i < model->weight_count; i++)
        if (strcmp(model->weights[i]->view.name, name) == 0) return model->weights[i];
    return NULL;
}

bool qzo_gguf_model_blocks(qzo_gguf_blocks *out, const qzo_gguf_model *model,
                           const qzo_tensor_view *view) {
    qzo_gguf_block kind;
    const entry *found = find(model, view->name);
    if (found == NULL || !block_of(&kind, found->stored->type)) return false;
    *out = qzo_gguf_blocks_of(kind);
    out->blocks = view->data;
    out->in_features = found->stored->shape[1];
    out->head_rows = found->head_rows;
    return true;
}

/* --- writing --- */

/* A change's bytes as the file has them: borrowed, or *owned where rows had to move. */
static qzo_status changed_bytes(const uint8_t **out, uint8_t **owned, const qzo_gguf_model *model,
                                const entry *place, const qzo_tensor_view *changed) {
    *out = changed->data;
    *owned = NULL;
    if (changed->size_bytes != place->stored->size_bytes || changed->dtype != place->view.dtype)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: tensor %s: a GGUF file keeps its types and sizes",
                        qzo_gguf_name(model->file), changed->name);
    if (place->owned == NULL) return QZO_OK;
    *owned = malloc(changed->size_bytes);
    if (*owned == NULL) return fail_memory(model);
    int64_t rows = place->view.shape[0];
    reorder(*owned, changed->data, rows, changed->size_bytes / (size_t)rows, place->head_rows,
            true);
    *out = *owned;
    return QZO_OK;
}

static qzo_status check_places(const qzo_gguf_model *model, const qzo_tensor_changes *changes) {
    for (int64_t i = 0; i < changes->count; i++)
        if (changes->views[i].data == NULL || find(model, changes->views[i].name) == NULL)
            return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: a GGUF file has no place for tensor %s",
                            qzo_gguf_name(model->file), changes->views[i].name);
    return QZO_OK;
}

qzo_status qzo_gguf_model_write(const qzo_gguf_model *model, const qzo_tensor_changes *changes,
                                const char *path) {
    qzo_status status = QZO_OK;
    size_t size_bytes = 0, room = 2 * (size_t)model->entry_count + 1;
    const uint8_t *bytes = qzo_gguf_bytes(model->file, &size_bytes), *at = bytes;
    int64_t count = 0, owned_count = 0;
    qzo_file_part *parts = calloc(room, sizeof *parts);
    uint8_t **owned = calloc(room, sizeof(uint8_t *));
    if (parts == NULL || owned == NULL) {
        status = fail_memory(model);
        goto cleanup;
    }
    QZO_TRY(check_places(model, changes));
    for (int64_t i = 0; i < model->entry_count; i++) {
        const entry *place = &model->entries[i];
        const qzo_tensor_view *changed =
            place->view.name != NULL ? qzo_tensor_changes_find(changes, place->view.name) : NULL;
        if (changed == NULL) continue;
        const uint8_t *data = NULL, *begin = place->stored->data;
        QZO_TRY(changed_bytes(&data, &owned[owned_count++], model, place, changed));
        parts[count++] = (qzo_file_part){.bytes = at, .size_bytes = (size_t)(begin - at)};
        parts[count++] = (qzo_file_part){.bytes = data, .size_bytes = changed->size_bytes};
        at = begin + place->stored->size_bytes;
    }
    parts[count++] = (qzo_file_part){.bytes = at, .size_bytes = size_bytes - (size_t)(at - bytes)};
    QZO_TRY(qzo_file_replace_parts(path, parts, count));
cleanup:
    for (int64_t i = 0; i < owned_count; i++) free(owned[i]);
    free(owned);
    free(parts);
    return status;
}
