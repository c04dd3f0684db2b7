#include "backend/backend_profile.h"

#include "backend/cuda_sizes.h"
#include "base/clock.h"
#include "base/range.h"
#include "weights/quant.h"

#include <stdlib.h>

typedef struct profile {
    /* First, so that a pointer to it is one to the profile. Its state is the inner backend's:
     * operations that are not wrapped work on it unchanged. */
    qzo_backend backend;
    qzo_backend_ops ops;
    qzo_backend *inner;
    bool on;
    qzo_phase_total totals[QZO_PHASE_COUNT];
    double extra_seconds;
} profile;

#define QZO_PHASE_NAME(name, text) text,
const char *qzo_phase_name(qzo_phase phase) {
    static const char *const names[] = {QZO_PHASE_MAP(QZO_PHASE_NAME)};
    return names[phase];
}

static profile *profile_of(qzo_backend *backend) { return (profile *)(void *)backend; }

/* --- ranges and times --- */

typedef struct range {
    profile *profile;
    qzo_phase phase;
    double begin;
} range;

static range begin(qzo_backend *backend, qzo_phase phase, const char *name) {
    range r = {.profile = profile_of(backend), .phase = phase};
    if (r.profile->on) {
        r.profile->inner->ops->download(r.profile->inner, NULL, NULL, 0);
        r.begin = qzo_clock_seconds();
    }
    qzo_range_begin(name);
    return r;
}

/* Ends a range whose operation gave `status`, which it returns or what waiting for it tells. */
static qzo_status end(const range *r, qzo_status status, double flops, double bytes) {
    qzo_phase_total *total = &r->profile->totals[r->phase];
    if (r->profile->on && status == QZO_OK)
        status = r->profile->inner->ops->download(r->profile->inner, NULL, NULL, 0);
    qzo_range_end();
    if (!r->profile->on) return status;
    total->calls++;
    total->seconds += qzo_clock_seconds() - r->begin;
    total->flops += flops;
    total->bytes += bytes;
    return status;
}

static double act_bytes(const profile *p) { return (double)p->inner->ops->activation_bytes; }

/* --- memory --- */

static qzo_status profile_upload(qzo_backend *backend, void *out, const void *in_host,
                                 size_t size_bytes) {
    range r = begin(backend, QZO_PHASE_TRANSFER, "upload");
    qzo_backend *inner = r.profile->inner;
    return end(&r, inner->ops->upload(inner, out, in_host, size_bytes), 0, (double)size_bytes);
}

static qzo_status profile_download(qzo_backend *backend, void *out_host, const void *in,
                                   size_t size_bytes) {
    range r = begin(backend, QZO_PHASE_TRANSFER, "download");
    qzo_backend *inner = r.profile->inner;
    return end(&r, inner->ops->download(inner, out_host, in, size_bytes), 0, (double)size_bytes);
}

static qzo_status profile_copy(qzo_backend *backend, void *out, const void *in, size_t size_bytes) {
    range r = begin(backend, QZO_PHASE_TRANSFER, "copy");
    qzo_backend *inner = r.profile->inner;
    return end(&r, inner->ops->copy(inner, out, in, size_bytes), 0, 2.0 * (double)size_bytes);
}

/* --- products --- */

double qzo_profile_weight_bytes(const qzo_qtensor *tensor) {
    qzo_cuda_layout layout;
    double values = (double)(tensor->group_count * tensor->out_features);
    /* A format that no device holds has its values counted alone. */
    if (qzo_cuda_layout_of(&layout, tensor, QZO_DTYPE_F16) != QZO_OK)
        return values * (double)sizeof(float);
    size_t parts = tensor->format->layout == QZO_LAYOUT_DENSE
                       ? layout.total_bytes
                       : layout.codes_bytes + layout.zeros_bytes + layout.groups_bytes +
                             layout.codebooks_bytes;
    return (double)parts + values * (double)sizeof(float);
}

/* Decoding is also part of the product that follows: its own time is taken first, alone. */
static qzo_status time_decoding(profile *p, double *seconds, const qzo_weight *weight,
                                const float *masters, const qzo_perturbation *perturbation,
                                int64_t rows, bool pair) {
    qzo_backend *inner = p->inner;
    *seconds = 0.0;
    if (!p->on || inner->ops->decode == NULL) return QZO_OK;
    double before = p->totals[QZO_PHASE_DECODE].seconds;
    range r = begin(&p->backend, QZO_PHASE_DECODE, "decode");
    qzo_status status =
        end(&r, inner->ops->decode(inner, weight, masters, perturbation, rows, pair), 0, 0);
    *seconds = p->totals[QZO_PHASE_DECODE].seconds - before;
    p->extra_seconds += *seconds;
    return status;
}

/* What remains of a product's time without `decoding` is that of multiplying. Where decoding alone
 * took longer than both, something else delayed it. */
static qzo_status end_product(const range *r, qzo_status status, const qzo_qtensor *tensor,
                              int64_t rows, double out_bytes, double decoding) {
    profile *p = r->profile;
    qzo_phase_total *decode = &p->totals[QZO_PHASE_DECODE];
    qzo_phase_total *matmul = &p->totals[QZO_PHASE_MATMUL];
    double inputs = (double)tensor->in_features, outputs = (double)tensor->out_features;
    double before = matmul->seconds;
    status = end(r, status, 2.0 * (double)rows * inputs * outputs,
                 (double)rows * (inputs * act_bytes(p) + outputs * out_bytes));
    if (!p->on) return status;
    double whole = matmul->seconds - before, part = decoding < whole ? decoding : whole;
    matmul->seconds -= part;
    decode->seconds -= decoding - part;
    decode->bytes += qzo_profile_weight_bytes(tensor);
    return status;
}

static qzo_status profile_linear(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                                 const qzo_weight *weight, const float *masters,
                                 const qzo_perturbation *perturbation, int64_t rows) {
    double decoding = 0.0;
    profile *p = profile_of(backend);
    qzo_status status = time_decoding(p, &decoding, weight, masters, perturbation, rows, false);
    if (status != QZO_OK) return status;
    range r = begin(backend, QZO_PHASE_MATMUL, "linear");
    status = p->inner->ops->linear(p->inner, out, x, weight, masters, perturbation, rows);
    return end_product(&r, status, p->inner->ops->weight_tensor(weight), rows, act_bytes(p),
                       decoding);
}

static qzo_status profile_linear_pair(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                                      const qzo_weight *weight, const float *masters,
                                      const qzo_perturbation *perturbation, int64_t rows) {
    double decoding = 0.0;
    profile *p = profile_of(backend);
    qzo_status status = time_decoding(p, &decoding, weight, masters, perturbation, rows, true);
    if (status != QZO_OK) return status;
    range r = begin(backend, QZO_PHASE_MATMUL, "linear_pair");
    status = p->inner->ops->linear_pair(p->inner, out, x, weight, masters, perturbation, rows);
    return end_product(&r, status, p->inner->ops->weight_tensor(weight), 2 * rows, act_bytes(p),
                       decoding);
}

static qzo_status profile_logits(qzo_backend *backend, float *out, const qzo_act *x,
                                 const qzo_weight *head, const float *masters,
                                 const qzo_perturbation *perturbation, int64_t rows) {
    double decoding = 0.0;
    profile *p = profile_of(backend);
    qzo_status status = time_decoding(p, &decoding, head, masters, perturbation, rows, false);
    if (status != QZO_OK) return status;
    range r = begin(backend, QZO_PHASE_MATMUL, "logits");
    status = p->inner->ops->logits(p->inner, out, x, head, masters, perturbation, rows);
    return end_product(&r, status, p->inner->ops->weight_tensor(head), rows, sizeof(float),
                       decoding);
}

/* --- attention --- */

/* A copy on the host, which the caller frees; NULL where there is none. */
static int32_t *fetch(const profile *p, const int32_t *in, int64_t count) {
    size_t size_bytes = (size_t)count * sizeof *in;
    int32_t *out = malloc(size_bytes > 0 ? size_bytes : 1);
    if (out == NULL || p->inner->ops->download(p->inner, out, in, size_bytes) == QZO_OK) return out;
    free(out);
    return NULL;
}

/* Rows that all queries attend to, together: 0 where they cannot be read. */
static double context_rows(profile *p, const qzo_attention *attention, int64_t queries) {
    double sum = 0.0, start = qzo_clock_seconds();
    int64_t row_count = queries;
    int32_t *chosen = NULL;
    if (attention->query_rows != NULL) {
        chosen = fetch(p, attention->query_rows, queries);
        if (chosen == NULL) return 0.0;
        for (int64_t i = 0; i < queries; i++)
            if (chosen[i] >= row_count) row_count = chosen[i] + 1;
    }
    int32_t *prefix_begin = fetch(p, attention->prefix_begin, row_count);
    int32_t *prefix_end = fetch(p, attention->prefix_end, row_count);
    int32_t *own_begin = fetch(p, attention->own_begin, row_count);
    if (prefix_begin != NULL && prefix_end != NULL && own_begin != NULL)
        for (int64_t i = 0; i < queries; i++) {
            int64_t row = chosen != NULL ? chosen[i] : i;
            int64_t count = prefix_end[row] - prefix_begin[row] + row + 1 - own_begin[row];
            bool is_cut = attention->window > 0 && count > attention->window;
            sum += (double)(is_cut ? attention->window : count);
        }
    free(chosen);
    free(prefix_begin);
    free(prefix_end);
    free(own_begin);
    p->extra_seconds += qzo_clock_seconds() - start;
    return sum;
}

static qzo_status profile_attention(qzo_backend *backend, qzo_act *out, const qzo_act *q,
                                    const qzo_act *k, const qzo_act *v,
                                    const qzo_attention *attention, int64_t queries) {
    profile *p = profile_of(backend);
    double width = (double)(attention->head_count * attention->head_dim);
    double kv_width = (double)(attention->kv_head_count * attention->head_dim);
    double flops = p->on ? 4.0 * width * context_rows(p, attention, queries) : 0.0;
    range r = begin(backend, QZO_PHASE_ATTENTION, "attention");
    qzo_status status = p->inner->ops->attention(p->inner, out, q, k, v, attention, queries);
    return end(&r, status, flops, 2.0 * (double)queries * (width + kv_width) * act_bytes(p));
}

/* --- elements --- */

static qzo_status profile_embed(qzo_backend *backend, float *residual, const qzo_weight *table,
                                const float *masters, const qzo_perturbation *perturbation,
                                const int32_t *ids, int64_t rows, float scale, bool add) {
    range r = begin(backend, QZO_PHASE_ELEMENTS, "embed");
    qzo_backend *inner = r.profile->inner;
    double elements = (double)(rows * inner->ops->weight_tensor(table)->in_features);
    qzo_status status =
        inner->ops->embed(inner, residual, table, masters, perturbation, ids, rows, scale, add);
    return end(&r, status, 0, 6.0 * elements);
}

static qzo_status profile_perturb(qzo_backend *backend, float *out, const qzo_qtensor *tensor,
                                  const float *masters, const qzo_perturbation *perturbation) {
    range r = begin(backend, QZO_PHASE_ELEMENTS, "perturb");
    qzo_backend *inner = r.profile->inner;
    double elements = (double)tensor->in_features;
    return end(&r, inner->ops->perturb(inner, out, tensor, masters, perturbation), 2.0 * elements,
               8.0 * elements);
}

static qzo_status profile_norm(qzo_backend *backend, qzo_act *out, const float *residual,
                               const float *gain, const float *bias, int64_t rows, int64_t width,
                               qzo_norm_kind kind, float epsilon) {
    range r = begin(backend, QZO_PHASE_ELEMENTS, "norm");
    qzo_backend *inner = r.profile->inner;
    double elements = (double)(rows * width);
    return end(&r, inner->ops->norm(inner, out, residual, gain, bias, rows, width, kind, epsilon),
               4.0 * elements, elements * (4.0 + act_bytes(r.profile)));
}

static qzo_status profile_modulate(qzo_backend *backend, qzo_act *out, const float *residual,
                                   const qzo_modulation *modulation, int64_t shift_at,
                                   int64_t scale_at, int64_t rows, int64_t width, float epsilon) {
    range r = begin(backend, QZO_PHASE_ELEMENTS, "modulate");
    qzo_backend *inner = r.profile->inner;
    double elements = (double)(rows * width);
    return end(&r,
               inner->ops->modulate(inner, out, residual, modulation, shift_at, scale_at, rows,
                                    width, epsilon),
               6.0 * elements, elements * (4.0 + act_bytes(r.profile)));
}

static qzo_status profile_add_gated(qzo_backend *backend, float *residual, const qzo_act *x,
                                    const qzo_modulation *modulation, int64_t gate_at, int64_t rows,
                                    int64_t width) {
    range r = begin(backend, QZO_PHASE_ELEMENTS, "add_gated");
    qzo_backend *inner = r.profile->inner;
    double elements = (double)(rows * width);
    return end(&r, inner->ops->add_gated(inner, residual, x, modulation, gate_at, rows, width),
               2.0 * elements, elements * (8.0 + act_bytes(r.profile)));
}

static qzo_status profile_add_bias(qzo_backend *backend, qzo_act *x, const float *bias,
                                   int64_t rows, int64_t width) {
    range r = begin(backend, QZO_PHASE_ELEMENTS, "add_bias");
    qzo_backend *inner = r.profile->inner;
    double elements = (double)(rows * width);
    return end(&r, inner->ops->add_bias(inner, x, bias, rows, width), elements,
               2.0 * elements * act_bytes(r.profile));
}

static qzo_status profile_select(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                                 const int32_t *rows, int64_t row_count, int64_t x_width,
                                 int64_t first, int64_t width) {
    range r = begin(backend, QZO_PHASE_ELEMENTS, "select");
    qzo_backend *inner = r.profile->inner;
    return end(&r, inner->ops->select(inner, out, x, rows, row_count, x_width, first, width), 0,
               2.0 * (double)(row_count * width) * act_bytes(r.profile));
}

static qzo_status profile_scatter(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                                  const int32_t *rows, int64_t row_count, int64_t width) {
    range r = begin(backend, QZO_PHASE_ELEMENTS, "scatter");
    qzo_backend *inner = r.profile->inner;
    return end(&r, inner->ops->scatter(inner, out, x, rows, row_count, width), 0,
               2.0 * (double)(row_count * width) * act_bytes(r.profile));
}

static qzo_status profile_rope(qzo_backend *backend, qzo_act *x, const int32_t *positions,
                               const float *table, int64_t rows, int64_t head_count,
                               int64_t head_dim) {
    range r = begin(backend, QZO_PHASE_ELEMENTS, "rope");
    qzo_backend *inner = r.profile->inner;
    double elements = (double)(rows * head_count * head_dim);
    return end(&r, inner->ops->rope(inner, x, positions, table, rows, head_count, head_dim),
               3.0 * elements, 2.0 * elements * act_bytes(r.profile));
}

static qzo_status profile_activate(qzo_backend *backend, qzo_act *gate, const qzo_act *up,
                                   int64_t count, qzo_activation activation) {
    range r = begin(backend, QZO_PHASE_ELEMENTS, "activate");
    qzo_backend *inner = r.profile->inner;
    return end(&r, inner->ops->activate(inner, gate, up, count, activation), 0,
               3.0 * (double)count * act_bytes(r.profile));
}

static qzo_status profile_add_scaled(qzo_backend *backend, qzo_act *x, const qzo_act *y,
                                     float factor, int64_t count) {
    range r = begin(backend, QZO_PHASE_ELEMENTS, "add_scaled");
    qzo_backend *inner = r.profile->inner;
    return end(&r, inner->ops->add_scaled(inner, x, y, factor, count), 2.0 * (double)count,
               3.0 * (double)count * act_bytes(r.profile));
}

static qzo_status profile_add(qzo_backend *backend, float *residual, const qzo_act *x,
                              int64_t count) {
    range r = begin(backend, QZO_PHASE_ELEMENTS, "add");
    qzo_backend *inner = r.profile->inner;
    return end(&r, inner->ops->add(inner, residual, x, count), (double)count,
               (double)count * (8.0 + act_bytes(r.profile)));
}

static qzo_status profile_widen(qzo_backend *backend, float *out, const qzo_act *x, int64_t count) {
    range r = begin(backend, QZO_PHASE_ELEMENTS, "widen");
    qzo_backend *inner = r.profile->inner;
    return end(&r, inner->ops->widen(inner, out, x, count), 0,
               (double)count * (4.0 + act_bytes(r.profile)));
}

static qzo_status profile_narrow(qzo_backend *backend, qzo_act *out, const float *x,
                                 int64_t count) {
    range r = begin(backend, QZO_PHASE_ELEMENTS, "narrow");
    qzo_backend *inner = r.profile->inner;
    return end(&r, inner->ops->narrow(inner, out, x, count), 0,
               (double)count * (4.0 + act_bytes(r.profile)));
}

static qzo_status profile_soft_cap(qzo_backend *backend, float *x, int64_t count, float cap) {
    range r = begin(backend, QZO_PHASE_ELEMENTS, "soft_cap");
    qzo_backend *inner = r.profile->inner;
    return end(&r, inner->ops->soft_cap(inner, x, count, cap), 0, 8.0 * (double)count);
}

static qzo_status profile_gather(qzo_backend *backend, float *out, const float *residual,
                                 const int32_t *rows, int64_t row_count, int64_t width) {
    range r = begin(backend, QZO_PHASE_ELEMENTS, "gather");
    qzo_backend *inner = r.profile->inner;
    return end(&r, inner->ops->gather(inner, out, residual, rows, row_count, width), 0,
               8.0 * (double)(row_count * width));
}

/* --- loss and update --- */

static qzo_status profile_log_probs(qzo_backend *backend, double *out_host, const float *logits,
                                    const int32_t *target_row, const int32_t *target_id,
                                    int64_t target_count, int64_t vocab) {
    range r = begin(backend, QZO_PHASE_LOSS, "log_probs");
    qzo_backend *inner = r.profile->inner;
    qzo_status status =
        inner->ops->log_probs(inner, out_host, logits, target_row, target_id, target_count, vocab);
    return end(&r, status, 0, 4.0 * (double)target_count * (double)vocab);
}

static double value_count(const qzo_span *spans, int64_t span_count) {
    double sum = 0.0;
    for (int64_t i = 0; i < span_count; i++) sum += (double)spans[i].count;
    return sum;
}

static qzo_status profile_update(qzo_backend *backend, const qzo_update_values *changed,
                                 const qzo_span *spans_host, int64_t span_count,
                                 const qzo_gain *gains_host, int64_t gain_count,
                                 qzo_directions directions, uint64_t *digest_host) {
    range r = begin(backend, QZO_PHASE_UPDATE, "update");
    qzo_backend *inner = r.profile->inner;
    double values = value_count(spans_host, span_count);
    qzo_status status = inner->ops->update(inner, changed, spans_host, span_count, gains_host,
                                           gain_count, directions, digest_host);
    double size_bytes = 8.0 * values;
    if (changed->unit != NULL) size_bytes += 4.0 * values;
    if (changed->velocity != NULL) size_bytes += 8.0 * values;
    return end(&r, status, 2.0 * values * (double)gain_count, size_bytes);
}

static qzo_status profile_digest(qzo_backend *backend, uint64_t *out_host, const float *masters,
                                 const qzo_span *spans_host, int64_t span_count) {
    range r = begin(backend, QZO_PHASE_UPDATE, "digest");
    qzo_backend *inner = r.profile->inner;
    return end(&r, inner->ops->digest(inner, out_host, masters, spans_host, span_count), 0,
               4.0 * value_count(spans_host, span_count));
}

/* --- lifetime --- */

static void profile_close(qzo_backend *backend) {
    profile *p = profile_of(backend);
    qzo_backend_close(p->inner);
    free(p);
}

qzo_status qzo_profile_open(qzo_backend **out, qzo_backend *inner) {
    profile *p = calloc(1, sizeof *p);
    if (p == NULL) {
        qzo_backend_close(inner);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for a profile");
    }
    p->inner = inner;
    p->ops = *inner->ops; /* also what is not wrapped below */
    p->ops.close = profile_close;
    p->ops.upload = profile_upload;
    p->ops.download = profile_download;
    p->ops.copy = profile_copy;
    p->ops.embed = profile_embed;
    p->ops.perturb = profile_perturb;
    p->ops.norm = profile_norm;
    p->ops.modulate = profile_modulate;
    p->ops.add_gated = profile_add_gated;
    p->ops.linear = profile_linear;
    if (p->ops.linear_pair != NULL) p->ops.linear_pair = profile_linear_pair;
    p->ops.add_bias = profile_add_bias;
    p->ops.select = profile_select;
    p->ops.scatter = profile_scatter;
    p->ops.rope = profile_rope;
    p->ops.attention = profile_attention;
    p->ops.activate = profile_activate;
    p->ops.add_scaled = profile_add_scaled;
    p->ops.add = profile_add;
    p->ops.widen = profile_widen;
    p->ops.narrow = profile_narrow;
    p->ops.gather = profile_gather;
    p->ops.logits = profile_logits;
    p->ops.soft_cap = profile_soft_cap;
    p->ops.log_probs = profile_log_probs;
    p->ops.update = profile_update;
    p->ops.digest = profile_digest;
    p->backend = (qzo_backend){.ops = &p->ops,
                               .state = inner->state,
                               .dry = inner->dry,
                               .thread_count = inner->thread_count,
                               .pair_rows_max = inner->pair_rows_max};
    *out = &p->backend;
    return QZO_OK;
}

void qzo_profile_switch(qzo_backend *backend, bool on) {
    profile *p = profile_of(backend);
    p->on = on;
    if (!on) return;
    p->extra_seconds = 0.0;
    for (int i = 0; i < QZO_PHASE_COUNT; i++) p->totals[i] = (qzo_phase_total){0};
}

const qzo_phase_total *qzo_profile_totals(const qzo_backend *backend) {
    return ((const profile *)(const void *)backend)->totals;
}

double qzo_profile_extra_seconds(const qzo_backend *backend) {
    return ((const profile *)(const void *)backend)->extra_seconds;
}
