/* The forward pass of a decoder transformer, written once over qzo_backend_ops.
 *
 * A qzo_forward is a workspace for packs within its limits: everything is allocated when it opens.
 * Values are read as fma(c, z, master) while weights are decoded; nothing is changed. */
#ifndef QZO_MODEL_FORWARD_H
#define QZO_MODEL_FORWARD_H

#include "model/adapters.h"
#include "model/kv_cache.h"
#include "model/pack.h"

typedef struct qzo_forward qzo_forward;

/* model must outlive the workspace; the caller closes it. QZO_ERR_LIMIT where limits->context
 * exceeds the model's positions. */
qzo_status qzo_forward_open(qzo_forward **out, const qzo_model *model,
                            const qzo_pack_limits *limits);

/* The same with adapters of that model, which must outlive it and serve one workspace at a time;
 * NULL: none. */
qzo_status qzo_forward_open_adapted(qzo_forward **out, const qzo_model *model,
                                    qzo_adapters *adapters, const qzo_pack_limits *limits);
void qzo_forward_close(qzo_forward *forward); /* NULL is fine */

const qzo_pack_limits *qzo_forward_limits(const qzo_forward *forward);

/* Bytes that qzo_forward_open allocates for a model of this shape. */
int64_t qzo_forward_bytes(const qzo_arch *arch, const qzo_shape *shape, size_t activation_bytes,
                          const qzo_pack_limits *limits);

/* log_probs_host (pack->target_count): ln p of every target, in the pack's order. */
qzo_status qzo_forward_log_probs(qzo_forward *forward, const qzo_pack *pack, const float *masters,
                                 const qzo_perturbation *perturbation, double *log_probs_host);

/* Whether the pack is within limits->pair_rows, pair_gathers and pair_places. */
bool qzo_forward_has_pair(const qzo_forward *forward, const qzo_pack *pack);

/* The same for +c and -c at once: log_probs_host (2, target_count), first those under +c. For packs
 * of which qzo_forward_has_pair is true; the same bits as one after the other. */
qzo_status qzo_forward_log_probs_pair(qzo_forward *forward, const qzo_pack *pack,
                                      const float *masters, const qzo_perturbation *perturbation,
                                      double *log_probs_host);

/* logits_host (gather_count, vocab) of the rows that the pack gathers. */
qzo_status qzo_forward_logits(qzo_forward *forward, const qzo_pack *pack, const float *masters,
                              const qzo_perturbation *perturbation, float *logits_host);

/* The same for sequences that go on: a row's keys and values are kept in its place of the cache,
 * and it attends to its sequence's places up to its own. Of the pack only ids, positions and what
 * is gathered are read. */
qzo_status qzo_forward_continue(qzo_forward *forward, const qzo_pack *pack,
                                const qzo_kv_cache *cache, const qzo_kv_places *places_host,
                                const float *masters, const qzo_perturbation *perturbation,
                                float *logits_host);

#endif
