/* The forward pass of a multimodal diffusion transformer, written once over qzo_backend_ops.
 *
 * A workspace takes batches within its limits: everything is allocated when it opens. All examples
 * have latents of one size and as many text rows. A batch is set once and may be run many times,
 * with other perturbations. Values are read as fma(c, z, master) while weights are decoded. */
#ifndef QZO_MODEL_MMDIT_FORWARD_H
#define QZO_MODEL_MMDIT_FORWARD_H

#include "model/mmdit.h"

typedef struct qzo_mmdit_limits {
    int64_t examples;
    int64_t height, width; /* of a latent, multiples of the patch */
    int64_t text_rows;     /* of an example, at least 1 */
    int64_t pair_examples; /* of batches that run under both signs of a perturbation at once */
} qzo_mmdit_limits;

/* Host memory, borrowed for the call. */
typedef struct qzo_mmdit_batch {
    int64_t example_count;
    const float *latents;   /* (examples, channels, height, width) */
    const float *timesteps; /* (examples): 0 to 1000 */
    const float *text;      /* (examples, text_rows, text_width) */
    const float *pooled;    /* (examples, pooled_width) */
} qzo_mmdit_batch;

typedef struct qzo_mmdit_forward qzo_mmdit_forward;

/* model must outlive the workspace; the caller closes it. QZO_ERR_LIMIT where a latent is no
 * multiple of the patch or larger than the position table. */
qzo_status qzo_mmdit_forward_open(qzo_mmdit_forward **out, const qzo_model *model,
                                  const qzo_mmdit_limits *limits);
void qzo_mmdit_forward_close(qzo_mmdit_forward *forward); /* NULL is fine */

/* Bytes that qzo_mmdit_forward_open allocates in the backend's memory. */
int64_t qzo_mmdit_forward_bytes(const qzo_mmdit_shape *shape, size_t activation_bytes,
                                const qzo_mmdit_limits *limits);

qzo_status qzo_mmdit_forward_set(qzo_mmdit_forward *forward, const qzo_mmdit_batch *batch);

/* out_host (examples, out_channels, height, width): what the model predicts of the batch that was
 * set last. */
qzo_status qzo_mmdit_forward_run(qzo_mmdit_forward *forward, const float *masters,
                                 const qzo_perturbation *perturbation, float *out_host);

/* Whether that batch is within limits->pair_examples. */
bool qzo_mmdit_forward_has_pair(const qzo_mmdit_forward *forward);

/* The same for +c and -c at once: out_host (2, examples, ...), first those under +c. Where
 * qzo_mmdit_forward_has_pair is true; the same bits as one after the other. */
qzo_status qzo_mmdit_forward_run_pair(qzo_mmdit_forward *forward, const float *masters,
                                      const qzo_perturbation *perturbation, float *out_host);

#endif
