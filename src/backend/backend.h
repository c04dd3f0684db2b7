/* Tensor operations behind one table. The forward pass and the optimizer are written once over it.
 *
 * Notation: (rows, width) is row-major. `float *` is fp32 and `qzo_act *` the backend's activation
 * type (fp32 on the CPU); both, and all integer arrays, live in the backend's memory unless a name
 * ends in _host. The residual stream, masters and logits are always fp32. A backend may run
 * operations asynchronously; `download` and `log_probs` wait.
 *
 * Sums keep their order whatever the thread count. On the CPU no row's result depends on other rows
 * of the call: packing cannot change a bit. With CUDA the kernels, and so the order of a sum, may
 * depend on the shape of a call, never on its values, on the ranks or on a timing.
 *
 * To add a backend: backend_<name>.c with this table filled, one line in backend_registry.c. */
#ifndef QZO_BACKEND_BACKEND_H
#define QZO_BACKEND_BACKEND_H

#include "backend/ledger.h"
#include "base/noise.h"
#include "base/status.h"
#include "weights/quant.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct qzo_act qzo_act;       /* activations; never dereferenced outside a backend */
typedef struct qzo_weight qzo_weight; /* a qtensor as the backend holds it */
typedef struct qzo_backend_ops qzo_backend_ops;

typedef struct qzo_backend {
    const qzo_backend_ops *ops;
    void *state;
    bool dry;         /* counts memory, holds none and computes nothing: for plans */
    int thread_count; /* that work for it on the host may take; 0: nobody said, so one */
    /* Both signs of a perturbation go together, not one after the other, where each has at most so
     * many rows; 0: never. It changes no bit. */
    int64_t pair_rows_max;
} qzo_backend;

/* How much memory a backend takes; what it is for as in ledger.h. */
typedef struct qzo_memory_use {
    int64_t held_bytes[QZO_MEMORY_KINDS]; /* of its own allocations, now */
    int64_t own_bytes, peak_bytes;        /* the sum of these, and the largest that it was */
    int64_t device_used_bytes; /* by whomever, driver and libraries included; 0: no device */
    int64_t device_bytes;      /* that the device has */
} qzo_memory_use;

/* Memory that a library takes beside the backend's own allocations, on the device. */
typedef struct qzo_memory_item {
    const char *name; /* NULL behind the last one */
    int64_t size_bytes;
} qzo_memory_item;

/* Trainable values are read as fma(c, z(seed), master), c times the factor of their group. c = 0
 * draws nothing. With `unit`, z is replaced by fp32(unit z): each value is perturbed in proportion
 * to its unit. */
typedef struct qzo_perturbation {
    uint64_t seed;
    float c;
    qzo_directions directions;
    const float *unit; /* laid out as the masters, in the backend's memory; NULL: 1 */
} qzo_perturbation;

/* One record of a step, ready to apply. */
typedef struct qzo_gain {
    uint64_t seed;
    float k;
} qzo_gain;

/* What an update changes, all laid out alike in the backend's memory. */
typedef struct qzo_update_values {
    float *masters;
    const float *unit; /* as in qzo_perturbation */
    float *velocity;   /* what the gains move in place of the masters, which it moves; NULL: none */
    float decay;       /* share of the velocity that stays */
} qzo_update_values;

enum { QZO_DEVICE_ID_BYTES = 48 };

typedef enum { QZO_NORM_RMS, QZO_NORM_LAYER } qzo_norm_kind;

typedef enum {
    QZO_ACTIVATION_SILU, /* x / (1 + e^-x) */
    QZO_ACTIVATION_RELU,
    QZO_ACTIVATION_GELU_TANH, /* x / 2 (1 + tanh(y / 2)), y = 2 sqrt(2 / pi) (x + 0.044715 x^3) */
    QZO_ACTIVATION_GELU,      /* x P(N <= x), N standard normal */
    QZO_ACTIVATION_COUNT
} qzo_activation;

/* Which rows a row attends to: [prefix_begin, prefix_end), then [own_begin, itself], or up to
 * own_end where that is given (rows of images and their captions see each other). A row of a shared
 * prefix has an empty prefix range. Arrays over all packed rows. */
typedef struct qzo_attention {
    const int32_t *query_rows; /* the packed row of each query; NULL: query i is row i */
    const int32_t *prefix_begin;
    const int32_t *prefix_end;
    const int32_t *own_begin;
    const int32_t *own_end; /* NULL: behind the row itself */
    int64_t context_max;    /* largest number of rows that one row attends to */
    int64_t head_count;
    int64_t kv_head_count; /* divides head_count */
    int64_t head_dim;
    float scale;     /* of the scores: 1 / sqrt(head_dim) in most models */
    float score_cap; /* scaled scores become cap tanh(score / cap); 0: they stay */
    int64_t window;  /* the last so many of those rows, itself included; 0: all */
} qzo_attention;

/* Shifts, scales and gates of rows that share a condition (Peebles and Xie, arXiv 2212.09748):
 * columns of (examples, stride) activations; row r belongs to example r / rows_per_example. */
typedef struct qzo_modulation {
    const qzo_act *values;
    int64_t stride;
    int64_t rows_per_example;
} qzo_modulation;

/* What the device can do at most, measured now: the roofline that `qzo bench` compares with. */
typedef struct qzo_peaks {
    double flops_per_second;      /* multiply and add, in the arithmetic of `linear` */
    double bf16_flops_per_second; /* of bf16 products with fp32 sums; 0: not measured */
    double copy_bytes_per_second; /* bytes read and written of a copy larger than any cache */
    const char *pretended;        /* why these are no measurement; NULL: they are one */
} qzo_peaks;

struct qzo_backend_ops {
    const char *name;
    size_t activation_bytes;               /* of one qzo_act element */
    const qzo_memory_item *library_memory; /* estimates for plans; NULL: none */

    /* Names the arithmetic for the journal's header: two processes whose texts are equal compute
     * the same losses. Lives as long as the backend. */
    const char *(*arithmetic)(const qzo_backend *backend);

    /* Optional (NULL: it computes on no device): names the device, below QZO_DEVICE_ID_BYTES, the
     * same from every process that uses it and from no process that uses another. */
    const char *(*device)(const qzo_backend *backend);

    void (*close)(qzo_backend *backend);
    qzo_status (*memory_use)(const qzo_backend *backend, qzo_memory_use *out_host);

    /* --- memory: 64-byte aligned, zeroed; the owner frees it --- */
    qzo_status (*allocate)(qzo_backend *backend, void **out, size_t size_bytes);
    void (*release)(qzo_backend *backend, void *memory); /* NULL is fine */
    qzo_status (*upload)(qzo_backend *backend, void *out, const void *in_host, size_t size_bytes);
    /* size_bytes 0 only waits for all that was asked before. */
    qzo_status (*download)(qzo_backend *backend, void *out_host, const void *in, size_t size_bytes);
    qzo_status (*copy)(qzo_backend *backend, void *out, const void *in, size_t size_bytes);

    /* Optional (NULL: takes any): QZO_ERR_UNSUPPORTED where `attention` takes no such heads. */
    qzo_status (*check_heads)(const qzo_backend *backend, int64_t head_dim);

    /* Scratch for attention over at most context_max rows, and for linear_pair where `pair`; after
     * weights were loaded, before the step loop only. */
    qzo_status (*reserve)(qzo_backend *backend, int64_t context_max, bool pair);

    /* The tensor must outlive the weight. Called before the step loop only. */
    qzo_status (*weight_load)(qzo_backend *backend, qzo_weight **out, const qzo_qtensor *tensor);
    void (*weight_free)(qzo_backend *backend, qzo_weight *weight); /* NULL is fine */
    const qzo_qtensor *(*weight_tensor)(const qzo_weight *weight);

    /* --- the forward pass --- */

    /* residual (rows, width) = scale table[ids], or += where add; the scales of a table (vocab,
     * width) that is quantized do not train */
    qzo_status (*embed)(qzo_backend *backend, float *residual, const qzo_weight *table,
                        const float *masters, const qzo_perturbation *perturbation,
                        const int32_t *ids, int64_t rows, float scale, bool add);

    /* out (in_features) = the perturbed values of a tensor of one row that trains: a norm's gain, a
     * bias */
    qzo_status (*perturb)(qzo_backend *backend, float *out, const qzo_qtensor *tensor,
                          const float *masters, const qzo_perturbation *perturbation);

    /* RMS: out = x / sqrt(mean(x^2) + epsilon) * gain, bias is not read; LAYER: d = x - mean(x),
     * out = d / sqrt(mean(d^2) + epsilon) * gain + bias; gain, bias (width) */
    qzo_status (*norm)(qzo_backend *backend, qzo_act *out, const float *residual, const float *gain,
                       const float *bias, int64_t rows, int64_t width, qzo_norm_kind kind,
                       float epsilon);

    /* d = x - mean(x), out (rows, width) = d / sqrt(mean(d^2) + epsilon) * (1 + scale) + shift,
     * shift and scale (width) from the columns shift_at and scale_at of the row's example */
    qzo_status (*modulate)(qzo_backend *backend, qzo_act *out, const float *residual,
                           const qzo_modulation *modulation, int64_t shift_at, int64_t scale_at,
                           int64_t rows, int64_t width, float epsilon);

    /* residual (rows, width) += gate x, gate (width) from column gate_at of the row's example */
    qzo_status (*add_gated)(qzo_backend *backend, float *residual, const qzo_act *x,
                            const qzo_modulation *modulation, int64_t gate_at, int64_t rows,
                            int64_t width);

    /* out (rows, out_features) = x (rows, in_features) W^T, W decoded with the perturbed values;
     * each sum runs over in_features in ascending order, one fma per term */
    qzo_status (*linear)(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                         const qzo_weight *weight, const float *masters,
                         const qzo_perturbation *perturbation, int64_t rows);

    /* Optional (NULL: two of the above): both signs of the perturbation at once, so that codes are
     * read once. out and x are two halves of `rows` rows each, those under +c, then those under -c.
     * The bits are those of a call for each. */
    qzo_status (*linear_pair)(qzo_backend *backend, qzo_act *out, const qzo_act *x,
                              const qzo_weight *weight, const float *masters,
                              const qzo_perturbation *perturbation, int64_t rows);

    /* x (rows, width) += bias (width) */
    qzo_status (*add_bias)(qzo_backend *backend, qzo_act *x, const float *bias, int64_t rows,
                           int64_t width);

    /* out (row_count, width) = columns first .. first + width - 1 of the named rows of x (any rows,
     * x_width); rows NULL: row i is row i. Takes apart what a fused layer computed. */
    qzo_status (*select)(qzo_backend *backend, qzo_act *out, const qzo_act *x, const int32_t *rows,
                         int64_t row_count, int64_t x_width, int64_t first, int64_t width);

    /* The named rows of out (any rows, width) = x (row_count, width); no row is named twice. Keeps
     * keys and values for the tokens that follow. */
    qzo_status (*scatter)(qzo_backend *backend, qzo_act *out, const qzo_act *x, const int32_t *rows,
                          int64_t row_count, int64_t width);

    /* Optional (NULL): what `linear` over that many rows decodes, or `linear_pair`, for nothing;
     * tells a profile the time of decoding from that of multiplying. */
    qzo_status (*decode)(qzo_backend *backend, const qzo_weight *weight, const float *masters,
                         const qzo_perturbation *perturbation, int64_t rows, bool pair);

    /* Rotates halves in place: (a, b) = (x[i], x[i + head_dim / 2]) to (a cos - b sin, b cos + a
     * sin) per head; table (positions, head_dim / 2, {cos, sin}) */
    qzo_status (*rope)(qzo_backend *backend, qzo_act *x, const int32_t *positions,
                       const float *table, int64_t rows, int64_t head_count, int64_t head_dim);

    /* out, q (queries, head_count * head_dim), k, v (all rows, kv_head_count * head_dim):
     * softmax(q k^T scale) v over the rows that `attention` names, in its order */
    qzo_status (*attention)(qzo_backend *backend, qzo_act *out, const qzo_act *q, const qzo_act *k,
                            const qzo_act *v, const qzo_attention *attention, int64_t queries);

    /* gate (count) = activation(gate) * up; up NULL: activation alone */
    qzo_status (*activate)(qzo_backend *backend, qzo_act *gate, const qzo_act *up, int64_t count,
                           qzo_activation activation);

    /* x (count) += factor y; one fma per element */
    qzo_status (*add_scaled)(qzo_backend *backend, qzo_act *x, const qzo_act *y, float factor,
                             int64_t count);

    /* residual (count) += x */
    qzo_status (*add)(qzo_backend *backend, float *residual, const qzo_act *x, int64_t count);

    /* out (count) = x: from the activation type to fp32, and back */
    qzo_status (*widen)(qzo_backend *backend, float *out, const qzo_act *x, int64_t count);
    qzo_status (*narrow)(qzo_backend *backend, qzo_act *out, const float *x, int64_t count);

    /* out (row_count, width) = residual[rows] */
    qzo_status (*gather)(qzo_backend *backend, float *out, const float *residual,
                         const int32_t *rows, int64_t row_count, int64_t width);

    /* logits (rows, vocab) in fp32 = x W^T */
    qzo_status (*logits)(qzo_backend *backend, float *out, const qzo_act *x, const qzo_weight *head,
                         const float *masters, const qzo_perturbation *perturbation, int64_t rows);

    /* x (count) = cap tanh(x / cap) */
    qzo_status (*soft_cap)(qzo_backend *backend, float *x, int64_t count, float cap);

    /* out_host[i] = logits[target_row[i]][target_id[i]] - ln sum exp(logits[target_row[i]]);
     * target_row ascends, so that one row's sum is taken once */
    qzo_status (*log_probs)(qzo_backend *backend, double *out_host, const float *logits,
                            const int32_t *target_row, const int32_t *target_id,
                            int64_t target_count, int64_t vocab);

    /* --- the optimizer --- */

    /* For every span whose group is active and every element: the velocity's decay, one fma per
     * gain in order (base/update.h), k times the group's factor, the velocity to the master, then
     * the constraint once. digest_host: what `digest` of the masters would say then, taken on the
     * way; NULL: not asked. spans_host, gains_host: host memory. */
    qzo_status (*update)(qzo_backend *backend, const qzo_update_values *values,
                         const qzo_span *spans_host, int64_t span_count, const qzo_gain *gains_host,
                         int64_t gain_count, qzo_directions directions, uint64_t *digest_host);

    /* Optional (NULL): takes about a second. */
    qzo_status (*measure_peaks)(qzo_backend *backend, qzo_peaks *out_host);

    /* Sum of qzo_digest_mix over all spans, also those that rest. */
    qzo_status (*digest)(qzo_backend *backend, uint64_t *out_host, const float *masters,
                         const qzo_span *spans_host, int64_t span_count);
};

/* When both signs of a perturbation are computed at once. */
typedef enum {
    QZO_PAIRS_AUTO, /* where the backend's table says that it pays */
    QZO_PAIRS_NEVER,
    QZO_PAIRS_ALWAYS
} qzo_pairs;

/* What opening a backend needs to know. */
typedef struct qzo_backend_options {
    qzo_pairs pairs;
    int thread_count; /* of this rank; at least 1 */
    int local_rank;   /* chooses the device */
    bool dry;         /* counts memory only; "cuda" then needs no device */
} qzo_backend_options;

typedef struct qzo_backend_entry {
    const char *name;
    qzo_status (*open)(qzo_backend **out, const qzo_backend_options *options);
} qzo_backend_entry;

/* The names of CUDA's two arithmetics. */
#define QZO_BACKEND_CUDA      "cuda"
#define QZO_BACKEND_CUDA_BF16 "cuda-bf16"

/* NULL-named entry last. */
extern const qzo_backend_entry qzo_backends[];

/* Opens by name; "auto" takes the best that this machine has. The caller closes it. */
qzo_status qzo_backend_open(qzo_backend **out, const char *name,
                            const qzo_backend_options *options);
void qzo_backend_close(qzo_backend *backend); /* NULL is fine */

/* The use that a ledger counts; no device. */
void qzo_memory_use_fill(qzo_memory_use *out, const qzo_ledger *ledger);

/* src/backend/cuda_dry.c: in every build */
qzo_status qzo_backend_cuda_dry_open(qzo_backend **out, bool is_bf16);

/* src/backend/backend_cpu.c; bf16: products of bf16 operands, QZO_ERR_ENVIRONMENT where the
 * processor has neither AMX nor AVX-512 */
qzo_status qzo_backend_cpu_open(qzo_backend **out, const qzo_backend_options *options);
qzo_status qzo_backend_cpu_bf16_open(qzo_backend **out, const qzo_backend_options *options);

#endif
