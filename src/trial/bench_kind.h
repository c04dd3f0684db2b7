/* What a workbench drives: a kind of model on its kind of task. A trial does the same with all of
 * them and asks here; which kind it is, only the entries and their registry know
 * (tools/check_layers.py). */
#ifndef QZO_TRIAL_BENCH_KIND_H
#define QZO_TRIAL_BENCH_KIND_H

#include "trial/workbench.h"

typedef struct qzo_bench_kind {
    const char *name; /* what its models and tasks are of, in messages */

    /* Every model and every task is of one kind. */
    bool (*has_model)(const qzo_model *model);
    bool (*has_task)(const qzo_task *task);

    /* What the task, whose file messages name by path, is trained and scored by: static. */
    qzo_status (*find_scoring)(const qzo_loss **loss, const qzo_metric **metric,
                               const qzo_task *task, const char *path);

    /* Leaves bench->workspace with room for the trial's batches and its evaluations: the one that
     * is there where it fits, or one in its place. The bench's model and task are of this kind.
     * QZO_ERR_CONFIG where they, or the settings, do not fit together. */
    qzo_status (*prepare)(qzo_workbench *bench, const qzo_trial_spec *spec);
    void (*close)(qzo_workspace *workspace); /* one of its own */

    /* As qzo_workbench_evaluate, _evaluate_pair and _score, added to sums that are zero. */
    qzo_status (*evaluate)(qzo_workbench *bench, qzo_sums *out, const qzo_batch *batch,
                           const qzo_perturbation *perturbation);
    qzo_status (*evaluate_pair)(qzo_workbench *bench, qzo_sums out[2], const qzo_batch *batch,
                                const qzo_perturbation *perturbation);
    /* NULL: there are no scores, and `prepare` refuses trials by them. */
    qzo_status (*score)(qzo_workbench *bench, qzo_sums *out, const qzo_batch *batch,
                        const qzo_perturbation *perturbation);
} qzo_bench_kind;

extern const qzo_bench_kind qzo_bench_texts;  /* text_bench.c */
extern const qzo_bench_kind qzo_bench_images; /* image_bench.c */

/* NULL-terminated. */
extern const qzo_bench_kind *const qzo_bench_kinds[];

const qzo_bench_kind *qzo_bench_kind_of_model(const qzo_model *model);
const qzo_bench_kind *qzo_bench_kind_of_task(const qzo_task *task);

#endif
