#include "model/adapters.h"

#include "base/digest.h"
#include "base/philox.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = QZO_MODULE_NAME_BYTES + 64, LIST_BYTES = 256 };

static const char ALL_LINEAR[] = "all-linear";

bool qzo_adapter_settings_equal(const qzo_adapter_settings *a, const qzo_adapter_settings *b) {
    if (a->rank == 0 || b->rank == 0) return a->rank == b->rank;
    return a->rank == b->rank && a->alpha == b->alpha && strcmp(a->targets, b->targets) == 0;
}

/* --- which modules --- */

/* Checkpoints of a model without its head omit the base of all names; PEFT sees the whole model. */
static void module_name(char out[NAME_BYTES], const qzo_model *model, const char *stored) {
    const char *base = model->arch->base;
    bool is_whole = strncmp(stored, base, strlen(base)) == 0;
    snprintf(out, NAME_BYTES, "%s%s", is_whole ? "" : base, stored);
}

/* The last part of a module's name. */
static const char *last_part(const char *module) {
    const char *dot = strrchr(module, '.');
    return dot != NULL ? dot + 1 : module;
}

static bool is_target(const char *module, const char *target, size_t length) {
    size_t whole = strlen(module);
    if (length > whole || strncmp(module + whole - length, target, length) != 0) return false;
    return length == whole || module[whole - length - 1] == '.';
}

/* Queries and values, or what is fused with them: PEFT's own choice for every architecture here. */
static bool is_default(qzo_linear_kind kind) {
    return kind == QZO_LINEAR_Q || kind == QZO_LINEAR_V || kind == QZO_LINEAR_QKV;
}

static bool is_chosen(const char *targets, const char *module, qzo_linear_kind kind) {
    if (targets[0] == '\0') return is_default(kind);
    if (strcmp(targets, ALL_LINEAR) == 0) return true;
    for (const char *at = targets; *at != '\0'; at += *at == '+') {
        size_t length = strcspn(at, "+");
        if (is_target(module, at, length)) return true;
        at += length;
    }
    return false;
}

/* The architecture's linear layers by the last part of their names, each once. */
static void list_linears(char out[LIST_BYTES], const qzo_arch *arch, bool defaults_only,
                         const char *separator) {
    size_t used = 0;
    out[0] = '\0';
    for (int kind = 0; kind < QZO_LINEAR_COUNT; kind++) {
        if (arch->linears[kind] == NULL) continue;
        if (defaults_only && !is_default((qzo_linear_kind)kind)) continue;
        const char *name = last_part(arch->linears[kind]);
        bool is_there = false;
        for (int before = 0; before < kind; before++)
            is_there |= arch->linears[before] != NULL &&
                        strcmp(last_part(arch->linears[before]), name) == 0;
        if (is_there || used >= LIST_BYTES) continue;
        used += (size_t)snprintf(out + used, LIST_BYTES - used, "%s%s", used > 0 ? separator : "",
                                 name);
    }
}

/* A target that no module has is a mistake in the sweep file, whatever the others have. */
static qzo_status check_targets(const qzo_adapters *adapters) {
    const qzo_model *model = adapters->model;
    const char *targets = adapters->settings.targets;
    if (strcmp(targets, ALL_LINEAR) == 0) return QZO_OK;
    for (const char *at = targets; *at != '\0'; at += *at == '+') {
        size_t length = strcspn(at, "+");
        bool is_found = false;
        for (int64_t i = 0; i < model->shape.layer_count * QZO_LINEAR_COUNT && !is_found; i++) {
            char module[NAME_BYTES];
            if (adapters->all[i].base == NULL) continue;
            module_name(module, model, adapters->all[i].base->name);
            is_found = is_target(module, at, length);
        }
        if (!is_found) {
            char known[LIST_BYTES];
            list_linears(known, model->arch, false, ", ");
            return qzo_fail(QZO_ERR_CONFIG,
                            "groups.lora.targets: expected names of linear layers (%s, or "
                            "all-linear), found \"%.*s\"",
                            known, (int)length, at);
        }
        at += length;
    }
    return QZO_OK;
}

char *qzo_adapters_targets(const qzo_adapters *adapters) {
    char list[LIST_BYTES];
    const char *targets = adapters->settings.targets;
    bool is_all = strcmp(targets, ALL_LINEAR) == 0;
    if (targets[0] != '\0' && !is_all) return strdup(targets);
    list_linears(list, adapters->model->arch, !is_all, "+");
    return strdup(list);
}

/* --- spans --- */

static qzo_status check_id(const qzo_span *added, const qzo_span *spans, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (spans[i].tensor_id == added->tensor_id)
            return qzo_fail(QZO_ERR_UNSUPPORTED,
                            "%s and %s have the same 32-bit id: their noise would be equal",
                            spans[i].name, added->name);
    return QZO_OK;
}

/* A matrix (out_features, in_features) whose elements lie in the masters. */
static qzo_status add_matrix(qzo_adapters *adapters, qzo_qtensor *out, char **name,
                             const char *module, const char *suffix, int64_t out_features,
                             int64_t in_features) {
    const qzo_model *model = adapters->model;
    const qzo_value_group *group = &model->groups[QZO_GROUP_LORA];
    if (asprintf(name, "base_model.model.%s.%s.weight", module, suffix) < 0) {
        *name = NULL;
        return qzo_fail(QZO_ERR_MEMORY, "%s: no memory", module);
    }
    qzo_span span = {.name = *name,
                     .tensor_id = qzo_tensor_id(*name),
                     .constraint = QZO_CONSTRAINT_FREE,
                     .offset = model->master_count + adapters->value_count,
                     .count = out_features * in_features,
                     .group = group};
    *out = (qzo_qtensor){.format = &qzo_quant_dense,
                         .name = *name,
                         .out_features = out_features,
                         .in_features = in_features,
                         .group_count = in_features,
                         .span = (int)adapters->span_count,
                         .span_offset = span.offset,
                         .tensor_id = span.tensor_id,
                         .group = group,
                         .as.dense = {.name = *name,
                                      .dtype = QZO_DTYPE_F32,
                                      .rank = 2,
                                      .shape = {out_features, in_features},
                                      .count = span.count,
                                      .size_bytes = (size_t)span.count * sizeof(float)}};
    qzo_status status = check_id(&span, model->spans, model->span_count);
    if (status == QZO_OK) status = check_id(&span, adapters->spans, adapters->span_count);
    adapters->spans[adapters->span_count++] = span;
    adapters->value_count += span.count;
    return status;
}

static qzo_status add_adapter(qzo_adapters *adapters, qzo_adapter *out, const qzo_qtensor *base,
                              const char *module) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = adapters->model->backend;
    int64_t rank = adapters->settings.rank;
    int64_t most = base->in_features < base->out_features ? base->in_features : base->out_features;
    if (rank > most)
        return qzo_fail(QZO_ERR_CONFIG,
                        "groups.lora.rank: %s is (%lld, %lld), expected a rank of at most %lld, "
                        "found %lld",
                        module, (long long)base->out_features, (long long)base->in_features,
                        (long long)most, (long long)rank);
    out->base = base;
    QZO_TRY(add_matrix(adapters, &out->down, &out->names[0], module, "lora_A", rank,
                       base->in_features));
    QZO_TRY(
        add_matrix(adapters, &out->up, &out->names[1], module, "lora_B", base->out_features, rank));
    QZO_TRY(backend->ops->weight_load(backend, &out->down_weight, &out->down));
    QZO_TRY(backend->ops->weight_load(backend, &out->up_weight, &out->up));
    adapters->adapter_count++;
    if (base->out_features > adapters->width_max) adapters->width_max = base->out_features;
cleanup:
    return status;
}

/* --- lifetime --- */

qzo_status qzo_adapters_open(qzo_adapters **out, const qzo_model *model,
                             const qzo_adapter_settings *settings) {
    qzo_status status = QZO_OK;
    if (model->mmdit != NULL)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: groups: lora: a model of images has no adapters",
                        qzo_model_dir_path(model->dir));
    qzo_adapters *adapters = calloc(1, sizeof *adapters);
    if (adapters == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for adapters");
    size_t places = (size_t)(model->shape.layer_count * QZO_LINEAR_COUNT);
    adapters->settings = *settings;
    adapters->scale = (float)(settings->alpha / (double)settings->rank);
    adapters->model = model;
    adapters->all = calloc(places, sizeof *adapters->all);
    adapters->spans = calloc(2 * places, sizeof *adapters->spans);
    if (adapters->all == NULL || adapters->spans == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for adapters");
        goto cleanup;
    }
    for (size_t i = 0; i < places; i++) {
        size_t kind = i % QZO_LINEAR_COUNT;
        const qzo_qtensor *base = &model->layers[i / QZO_LINEAR_COUNT].tensors[kind];
        char module[NAME_BYTES];
        if (base->name == NULL) continue; /* the architecture has none */
        module_name(module, model, base->name);
        if (is_chosen(settings->targets, module, (qzo_linear_kind)kind))
            QZO_TRY(add_adapter(adapters, &adapters->all[i], base, module));
    }
    QZO_TRY(check_targets(adapters));
    *out = adapters;
    adapters = NULL;
cleanup:
    qzo_adapters_close(adapters);
    return status;
}

void qzo_adapters_close(qzo_adapters *adapters) {
    if (adapters == NULL) return;
    qzo_backend *backend = adapters->model->backend;
    int64_t places = adapters->model->shape.layer_count * QZO_LINEAR_COUNT;
    for (int64_t i = 0; adapters->all != NULL && i < places; i++) {
        qzo_adapter *adapter = &adapters->all[i];
        backend->ops->weight_free(backend, adapter->down_weight);
        backend->ops->weight_free(backend, adapter->up_weight);
        free(adapter->names[0]);
        free(adapter->names[1]);
    }
    backend->ops->release(backend, adapters->low);
    backend->ops->release(backend, adapters->added);
    free(adapters->all);
    free(adapters->spans);
    free(adapters);
}

const qzo_adapter *qzo_adapters_find(const qzo_adapters *adapters, const qzo_layer *layer,
                                     qzo_linear_kind kind) {
    if (adapters == NULL) return NULL;
    const qzo_adapter *found =
        &adapters->all[(layer - adapters->model->layers) * QZO_LINEAR_COUNT + (int)kind];
    return found->base != NULL ? found : NULL;
}

/* --- the forward pass --- */

qzo_status qzo_adapters_reserve(qzo_adapters *adapters, int64_t rows) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = adapters->model->backend;
    size_t row_bytes = (size_t)rows * backend->ops->activation_bytes;
    void *low = NULL, *added = NULL;
    backend->ops->release(backend, adapters->low);
    backend->ops->release(backend, adapters->added);
    adapters->low = adapters->added = NULL;
    QZO_TRY(backend->ops->allocate(backend, &low, row_bytes * (size_t)adapters->settings.rank));
    adapters->low = low;
    QZO_TRY(backend->ops->allocate(backend, &added, row_bytes * (size_t)adapters->width_max));
    adapters->added = added;
cleanup:
    return status;
}

qzo_status qzo_adapter_add(qzo_adapters *adapters, const qzo_adapter *adapter, qzo_act *out,
                           const qzo_act *x, const float *masters,
                           const qzo_perturbation *perturbation, int64_t rows) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = adapters->model->backend;
    QZO_TRY(backend->ops->linear(backend, adapters->low, x, adapter->down_weight, masters,
                                 perturbation, rows));
    QZO_TRY(backend->ops->linear(backend, adapters->added, adapters->low, adapter->up_weight,
                                 masters, perturbation, rows));
    QZO_TRY(backend->ops->add_scaled(backend, out, adapters->added, adapters->scale,
                                     rows * adapter->up.out_features));
cleanup:
    return status;
}

/* --- values --- */

static void fill_uniform(float *out, uint64_t seed, uint32_t tensor_id, int64_t count,
                         double bound) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t word = qzo_philox(seed, (uint64_t)i / 4, tensor_id, QZO_PURPOSE_INIT).word[i % 4];
        out[i] = (float)((2.0 * (double)word + 1.0 - 0x1p32) * 0x1p-32 * bound);
    }
}

void qzo_adapters_initial_values(const qzo_adapters *adapters, float *host, uint64_t seed) {
    const qzo_model *model = adapters->model;
    memset(host, 0, (size_t)adapters->value_count * sizeof *host);
    for (int64_t i = 0; i < model->shape.layer_count * QZO_LINEAR_COUNT; i++) {
        const qzo_adapter *adapter = &adapters->all[i];
        if (adapter->base == NULL) continue;
        const qzo_span *span = &adapters->spans[adapter->down.span];
        fill_uniform(host + span->offset - model->master_count, seed, span->tensor_id, span->count,
                     1.0 / sqrt((double)adapter->base->in_features));
    }
}
