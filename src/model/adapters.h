/* Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685): beside a linear layer y = W x + b
 * stands scale B (A x), with A (rank, in_features) and B (out_features, rank) in fp32. They belong
 * to a trial, the model below them to all trials: their masters lie behind the model's, and trials
 * with different ranks share one loaded model.
 *
 * Modules are chosen and tensors are named as Hugging Face PEFT does it: the span of an A is called
 * "base_model.model.MODULE.lora_A.weight". A fused layer has one adapter, as there. */
#ifndef QZO_MODEL_ADAPTERS_H
#define QZO_MODEL_ADAPTERS_H

#include "model/model.h"

typedef struct qzo_adapter_settings {
    int64_t rank; /* 0: no adapters */
    double alpha;
    /* Names joined by '+'. A module has an adapter where its name, or the end of it behind a dot,
     * is one of them; "all-linear": every linear layer of the blocks; "": those that compute
     * queries and values. Borrowed. */
    const char *targets;
} qzo_adapter_settings;

/* Of one linear layer. */
typedef struct qzo_adapter {
    const qzo_qtensor *base; /* W; NULL: the layer has no adapter */
    char *names[2];          /* of the tensors, which borrow them */
    qzo_qtensor down, up;    /* A, B */
    qzo_weight *down_weight, *up_weight;
} qzo_adapter;

typedef struct qzo_adapters {
    qzo_adapter_settings settings;
    float scale; /* alpha / rank */
    const qzo_model *model;
    qzo_adapter *all; /* (layer_count, QZO_LINEAR_COUNT) */
    qzo_span *spans;  /* all A and B in the order of the layers; A before B */
    int64_t adapter_count, span_count, value_count;
    int64_t width_max;    /* of the outputs that have an adapter */
    qzo_act *low, *added; /* of qzo_adapters_reserve: (rows, rank), (rows, width_max) */
} qzo_adapters;

bool qzo_adapter_settings_equal(const qzo_adapter_settings *a, const qzo_adapter_settings *b);

/* The first value lies at model->master_count of the masters. The spans train as the model's group
 * QZO_GROUP_LORA. The model must outlive the adapters; the caller closes them. QZO_ERR_CONFIG names
 * a target that no layer has, and those that there are. */
qzo_status qzo_adapters_open(qzo_adapters **out, const qzo_model *model,
                             const qzo_adapter_settings *settings);
void qzo_adapters_close(qzo_adapters *adapters); /* NULL is fine */

/* What stands beside the layer's linear of that kind; NULL: nothing. adapters NULL is fine. */
const qzo_adapter *qzo_adapters_find(const qzo_adapters *adapters, const qzo_layer *layer,
                                     qzo_linear_kind kind);

/* Room for forward passes over so many rows; before the step loop only. */
qzo_status qzo_adapters_reserve(qzo_adapters *adapters, int64_t rows);

/* out (rows, out_features) += scale (x A^T) B^T */
qzo_status qzo_adapter_add(qzo_adapters *adapters, const qzo_adapter *adapter, qzo_act *out,
                           const qzo_act *x, const float *masters,
                           const qzo_perturbation *perturbation, int64_t rows);

/* host (value_count): PEFT's default distribution. B is 0; A is uniform in +-1 / sqrt(in_features),
 * which kaiming_uniform with a = sqrt(5) comes to: with w the word of (seed, tensor, element) for
 * QZO_PURPOSE_INIT, a = fp32((2 w + 1 - 2^32) / 2^32 / sqrt(in_features)), computed in double. */
void qzo_adapters_initial_values(const qzo_adapters *adapters, float *host, uint64_t seed);

/* Names joined by '+' that `targets` stands for in this model, as PEFT's target_modules has them.
 * Fresh; NULL when out of memory. */
char *qzo_adapters_targets(const qzo_adapters *adapters);

#endif
