#include "trial/batches.h"

#include <stdlib.h>

static const qzo_split *train_split(const qzo_batches *batches) {
    return &batches->bench->task->splits[QZO_SPLIT_TRAIN];
}

qzo_status qzo_batches_open(qzo_batches *out, qzo_workbench *bench, const qzo_trial_spec *spec) {
    *out = (qzo_batches){.bench = bench, .spec = spec};
    out->examples = malloc((size_t)spec->batch * sizeof *out->examples);
    if (out->examples == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for a batch of %lld",
                        (long long)spec->batch);
    return qzo_order_open(&out->order, spec->data_seed, train_split(out)->example_count);
}

void qzo_batches_close(qzo_batches *batches) {
    qzo_order_close(batches->order);
    free(batches->examples);
    *batches = (qzo_batches){0};
}

int64_t qzo_batches_unit_count(const qzo_trial_spec *spec) {
    return (spec->batch + spec->micro_batch - 1) / spec->micro_batch;
}

static void draw(qzo_batches *batches, int64_t batch) {
    if (batches->drawn_batch == batch) return;
    qzo_order_draw(batches->order, batches->examples, batch, batches->spec->batch);
    batches->drawn_batch = batch;
}

/* Minus the scores, or costs as they are. */
static double objective_of(const qzo_batches *batches, const qzo_sums *sums) {
    if (!qzo_trial_spec_by_metric(batches->spec)) return sums->loss;
    return batches->bench->metric->is_cost ? sums->score : -sums->score;
}

/* The probe's micro-batch. */
static qzo_batch micro_batch_of(qzo_batches *batches, const qzo_probe *probe) {
    const qzo_trial_spec *spec = batches->spec;
    int64_t first = probe->unit * spec->micro_batch, left = spec->batch - first;
    draw(batches, probe->batch);
    return (qzo_batch){.split = train_split(batches),
                       .examples = batches->examples + first,
                       .count = left < spec->micro_batch ? left : spec->micro_batch,
                       .is_training = true,
                       .seed = spec->data_seed,
                       .round = (uint64_t)probe->batch,
                       .first = first};
}

qzo_status qzo_batches_loss_sum(void *context, double *sum, const qzo_probe *probe) {
    qzo_batches *batches = context;
    qzo_workbench *bench = batches->bench;
    qzo_sums sums;
    const qzo_batch batch = micro_batch_of(batches, probe);
    qzo_status status = qzo_trial_spec_by_metric(batches->spec)
                            ? qzo_workbench_score(bench, &sums, &batch, &probe->perturbation)
                            : qzo_workbench_evaluate(bench, &sums, &batch, &probe->perturbation);
    *sum = objective_of(batches, &sums);
    batches->evaluation_count++;
    batches->row_count += bench->workspace->rows;
    return status;
}

qzo_status qzo_batches_loss_sums(void *context, double sums[2], const qzo_probe *probe) {
    qzo_batches *batches = context;
    qzo_workbench *bench = batches->bench;
    qzo_sums both[2];
    if (bench->workspace->pair_rows == 0) {
        qzo_probe minus = *probe;
        minus.perturbation.c = -probe->perturbation.c;
        qzo_status status = qzo_batches_loss_sum(context, &sums[0], probe);
        return status == QZO_OK ? qzo_batches_loss_sum(context, &sums[1], &minus) : status;
    }
    const qzo_batch batch = micro_batch_of(batches, probe);
    qzo_status status = qzo_workbench_evaluate_pair(bench, both, &batch, &probe->perturbation);
    for (int sign = 0; sign < 2; sign++) sums[sign] = objective_of(batches, &both[sign]);
    batches->evaluation_count += 2;
    batches->row_count += 2 * bench->workspace->rows;
    return status;
}

double qzo_batches_loss_weight(void *context, int64_t batch) {
    qzo_batches *batches = context;
    double weight = 0.0;
    const qzo_workbench *bench = batches->bench;
    bool by_metric = qzo_trial_spec_by_metric(batches->spec);
    draw(batches, batch);
    for (int64_t i = 0; i < batches->spec->batch; i++)
        weight += (by_metric ? bench->metric->weight : bench->loss->weight)(train_split(batches),
                                                                            batches->examples[i]);
    return weight;
}

qzo_qspsa_settings qzo_batches_settings(const qzo_trial_spec *spec) {
    return (qzo_qspsa_settings){.steps = spec->steps,
                                .samples_per_step = spec->samples_per_step,
                                .warmup_steps = spec->warmup_steps,
                                .batch_per_sample = qzo_trial_spec_batch_per_sample(spec),
                                .learning_rate = spec->learning_rate,
                                .eps = spec->eps,
                                .noise_seed = spec->noise_seed,
                                .directions = qzo_directions_find(spec->directions),
                                .rule = qzo_update_rule_find(spec->update_rule),
                                .rule_settings = {.eps = spec->eps,
                                                  .clip = spec->clip,
                                                  .clip_factor = spec->clip_factor,
                                                  .clip_memory = spec->clip_memory,
                                                  .clip_quantile = spec->clip_quantile,
                                                  .moment_memory = spec->moment_memory,
                                                  .momentum = spec->momentum,
                                                  .curvature_power = spec->curvature_power,
                                                  .guide_share = spec->guide_share},
                                .schedule = qzo_lr_schedule_find(spec->schedule)};
}
