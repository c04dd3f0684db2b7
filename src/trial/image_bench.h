/* A workbench's part for images: the workspace of a diffusion transformer and the flow-matching
 * loss of prepared images (task/flow.h). */
#ifndef QZO_TRIAL_IMAGE_BENCH_H
#define QZO_TRIAL_IMAGE_BENCH_H

#include "model/mmdit_forward.h"
#include "task/flow.h"
#include "task/image_file.h"
#include "task/task_file.h"

typedef struct qzo_image_bench qzo_image_bench;

/* Room for `examples` at a time, and for pair_examples under both signs of a perturbation. model
 * and task outlive it; the caller closes it. QZO_ERR_CONFIG where the images were prepared for
 * another kind of model. */
qzo_status qzo_image_bench_open(qzo_image_bench **out, const qzo_model *model, const qzo_task *task,
                                int64_t examples, int64_t pair_examples);
void qzo_image_bench_close(qzo_image_bench *bench); /* NULL is fine */

/* Rows of one example: its patches and its text. */
int64_t qzo_image_bench_rows(const qzo_image_bench *bench);

/* Which timesteps and noise the examples of a call meet. */
typedef struct qzo_image_draw {
    uint64_t seed, round; /* as in qzo_flow_draw_of */
    int64_t first;        /* place of the call's first example in its round */
} qzo_image_draw;

/* losses (count): of the examples, in their order. A call with the examples and the draw
 * of the one before does not prepare them again: both signs of a perturbation share that. */
qzo_status qzo_image_bench_evaluate(qzo_image_bench *bench, double *losses,
                                    const qzo_flow_settings *settings, qzo_split_kind split,
                                    const int64_t *examples, int64_t count,
                                    const qzo_image_draw *draw, const float *masters,
                                    const qzo_perturbation *perturbation);

/* The same for c and -c of the perturbation, at once where there is room: losses (2, count). */
qzo_status qzo_image_bench_evaluate_pair(qzo_image_bench *bench, double *losses,
                                         const qzo_flow_settings *settings, qzo_split_kind split,
                                         const int64_t *examples, int64_t count,
                                         const qzo_image_draw *draw, const float *masters,
                                         const qzo_perturbation *perturbation);

#endif
