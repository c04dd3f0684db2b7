/* Diffusion transformers on prepared images: the workspace of a model and its flow-matching losses
 * (task/flow.h). */
#ifndef QZO_TRIAL_IMAGE_BENCH_H
#define QZO_TRIAL_IMAGE_BENCH_H

#include "task/flow.h"
#include "trial/bench_kind.h"

typedef struct qzo_image_bench qzo_image_bench;

/* Room for `examples` at a time, and for pair_examples under both signs of a perturbation. model
 * and task outlive it; the caller closes it. QZO_ERR_CONFIG where the images were prepared for
 * another kind of model. */
qzo_status qzo_image_bench_open(qzo_image_bench **out, const qzo_model *model, const qzo_task *task,
                                int64_t examples, int64_t pair_examples);
void qzo_image_bench_close(qzo_image_bench *bench); /* NULL is fine */

/* losses (batch->count): of the examples, in their order, under the timesteps and the noise of the
 * batch's seed and round (as in qzo_flow_draw_of). A call with the batch of the one before does not
 * prepare it again: both signs of a perturbation share that. */
qzo_status qzo_image_bench_evaluate(qzo_image_bench *bench, double *losses,
                                    const qzo_flow_settings *settings, const qzo_batch *batch,
                                    const float *masters, const qzo_perturbation *perturbation);

/* The same for c and -c of the perturbation, at once where there is room: losses (2, count). */
qzo_status qzo_image_bench_evaluate_pair(qzo_image_bench *bench, double *losses,
                                         const qzo_flow_settings *settings, const qzo_batch *batch,
                                         const float *masters,
                                         const qzo_perturbation *perturbation);

#endif
