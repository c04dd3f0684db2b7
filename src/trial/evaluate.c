#include "trial/evaluate.h"

#include "trial/eval_chunks.h"

#include <stdlib.h>

/* One chunk's result as it travels between ranks of one machine type: 40 bytes. */
typedef struct chunk_result {
    qzo_sums sums;
    int32_t park;
    int32_t failed;
} chunk_result;

typedef struct evaluation {
    qzo_workbench *bench;
    const qzo_split *split;
    qzo_eval_chunks chunks;
    int64_t *examples; /* (chunks.examples_max) */
} evaluation;

static qzo_status evaluate_chunk(const evaluation *e, qzo_sums *out, int64_t chunk) {
    static const qzo_perturbation clean = {0};
    *out = (qzo_sums){0};
    if (chunk >= e->chunks.count) return QZO_OK;
    int64_t first = e->chunks.begin[chunk], count = e->chunks.begin[chunk + 1] - first;
    for (int64_t i = 0; i < count; i++) e->examples[i] = first + i;
    const qzo_batch batch = {.split = e->split, .examples = e->examples, .count = count};
    return qzo_workbench_evaluate(e->bench, out, &batch, &clean);
}

qzo_status qzo_evaluate_split(double *score, double *loss, qzo_workbench *bench, qzo_comm *group,
                              const qzo_split *split, const qzo_trial_spec *spec,
                              qzo_status my_status, const qzo_trial_hooks *hooks) {
    qzo_sums total = {0};
    evaluation e = {.bench = bench, .split = split};
    chunk_result *all = calloc((size_t)group->size, sizeof *all);
    qzo_status status = my_status;
    if (status == QZO_OK)
        status = qzo_eval_chunks_make(&e.chunks, split, &bench->task->splits[split->kind], spec);
    if (status == QZO_OK)
        e.examples = calloc((size_t)e.chunks.examples_max + 1, sizeof *e.examples);
    if (status == QZO_OK && (e.examples == NULL || all == NULL))
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld examples",
                          (long long)e.chunks.examples_max);
    /* A rank without memory must not leave the others waiting in the rounds. */
    status = qzo_comm_worst_status(group, status);
    bool park = false, failed = status != QZO_OK;
    for (int64_t chunk = 0; !failed && !park && chunk < e.chunks.count; chunk += group->size) {
        chunk_result mine = {.failed = status != QZO_OK};
        if (status == QZO_OK) {
            hooks->poll(hooks->context);
            status = evaluate_chunk(&e, &mine.sums, chunk + group->rank);
            mine.failed = status != QZO_OK;
            mine.park = hooks->should_park(hooks->context);
        }
        qzo_status gathered = qzo_comm_gather(group, all, &mine, sizeof mine);
        if (gathered != QZO_OK) status = gathered;
        for (int rank = 0; gathered == QZO_OK && rank < group->size; rank++) {
            total.loss += all[rank].sums.loss;
            total.weight += all[rank].sums.weight;
            total.score += all[rank].sums.score;
            total.score_weight += all[rank].sums.score_weight;
            park |= all[rank].park != 0;
            failed |= all[rank].failed != 0;
        }
        failed |= gathered != QZO_OK;
    }
    free(e.examples);
    qzo_eval_chunks_release(&e.chunks);
    free(all);
    status = qzo_comm_worst_status(group, status);
    if (status != QZO_OK) return status;
    if (park) return qzo_fail(QZO_ERR_INTERRUPTED, "parked during an evaluation");
    *score = bench->metric->of_mean(total.score / total.score_weight);
    *loss = total.loss / total.weight;
    return QZO_OK;
}
