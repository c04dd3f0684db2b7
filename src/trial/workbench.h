/* What one rank keeps from trial to trial: the loaded model, the task, the masters and the
 * workspace. A trial with the same model, task and shapes allocates nothing. */
#ifndef QZO_TRIAL_WORKBENCH_H
#define QZO_TRIAL_WORKBENCH_H

#include "base/log.h"
#include "model/adapters.h"
#include "optim/qspsa.h"
#include "task/score.h"
#include "trial/trial_spec.h"

#include <stdbool.h>

/* Told of every example, in the order of the batches: what its options got, or its loss where it
 * has no options, and, where the metric is one of texts, what was generated and its score. NULL:
 * nobody listens. */
typedef struct qzo_observer {
    void (*scored)(void *context, int64_t example, const qzo_scored_example *scored);
    void (*seen)(void *context, int64_t example, double loss);
    void (*answered)(void *context, int64_t example, qzo_text text, double score);
    void *context;
} qzo_observer;

/* Examples of a split that are evaluated together. */
typedef struct qzo_batch {
    const qzo_split *split;
    const int64_t *examples; /* (count) */
    int64_t count;
    bool is_training; /* false: of an evaluation, which always measures them the same way */
    /* Of training: what is drawn for an example follows from these and its place. */
    uint64_t seed, round;
    int64_t first; /* place of examples[0] in the round */
} qzo_batch;

/* Room for forward passes. More lies behind it, which the kind of the model keeps there. */
typedef struct qzo_workspace {
    int64_t row_max;   /* of any forward pass */
    int64_t pair_rows; /* of any that runs both signs of a perturbation at once; 0: none */
    int64_t rows;      /* of the batch that was evaluated last */
} qzo_workspace;

typedef struct qzo_workbench {
    qzo_backend *backend; /* borrowed */
    qzo_model *model;
    char *model_path;
    double load_seconds;   /* of the model, until qzo_workbench_log_load has told it; 0: told */
    qzo_training training; /* that the model is loaded for; texts are interned */
    qzo_adapter_settings adapter_settings;
    qzo_task *task;
    char *task_path;
    const struct qzo_bench_kind *kind; /* of the task: trial/bench_kind.h */
    const qzo_loss *loss;
    const qzo_metric *metric;
    qzo_adapters *adapters; /* the trial's; NULL: none */
    uint64_t adapter_seed;  /* that drew their initial values: of a fork its first origin's */
    /* (master_count of the model, then the adapters' values), in the backend's memory. The initial
     * values of adapters depend on the trial; in their place lies a unit of 1. */
    float *initial, *masters;
    float *beside; /* as masters: what the trial's update rule keeps or sets aside; NULL: nothing */
    float *best_host;         /* as masters: read once, so it need not lie on a device */
    qzo_trainable trainable;  /* of masters */
    qzo_core_room *room;      /* of the core of the last trial that needed one */
    qzo_span *spans;          /* the model's, with the trial's floor, and the adapters' */
    qzo_workspace *workspace; /* of that kind; NULL: none */
    bool scores_train;        /* room to evaluate the train split too; set before it is prepared */
    qzo_observer observer;
    double free_since; /* when its last trial, or what came before the first, ended; base/clock.h */
} qzo_workbench;

/* backend must outlive the workbench. */
void qzo_workbench_init(qzo_workbench *out, qzo_backend *backend);
void qzo_workbench_release(qzo_workbench *bench); /* safe on a zeroed workbench */

/* Loads what the trial needs and is not there yet. A task with other tokens than the model, or a
 * longer row than its positions: QZO_ERR_CONFIG says which. */
qzo_status qzo_workbench_prepare(qzo_workbench *bench, const qzo_trial_spec *spec);

/* The same with the model that the bench holds now. */
qzo_status qzo_workbench_prepare_task(qzo_workbench *bench, const qzo_trial_spec *spec);

/* Frees the model and what depends on it; the task stays. */
void qzo_workbench_drop_model(qzo_workbench *bench);

/* What the loaded trial trains: values of the model and of adapters. */
int64_t qzo_workbench_value_count(const qzo_workbench *bench);

/* QZO_ERR_CONFIG where that is nothing. */
qzo_status qzo_workbench_check_trainable(const qzo_workbench *bench);

/* Whether the model is there as the trial needs it. */
bool qzo_workbench_holds(const qzo_workbench *bench, const qzo_trial_spec *spec);

/* The model and its masters alone: for the trial's groups, enough to replay its journal; or for a
 * training of the scales alone; quantize: what linear layers become at load, or NULL. */
qzo_status qzo_workbench_load_for(qzo_workbench *bench, const qzo_trial_spec *spec);
qzo_status qzo_workbench_load_model(qzo_workbench *bench, const char *path,
                                    const qzo_bnb_kind *quantize);

/* The same of a folder that is open already, in place of the model that was there and with the
 * adapters that were; takes dir over, also on failure. */
qzo_status qzo_workbench_take_model(qzo_workbench *bench, qzo_model_dir *dir);

/* Logs once how long the model took to load and how fast its weights went to the device. */
void qzo_workbench_log_load(qzo_workbench *bench, qzo_log_level level);

/* Copies the initial values to the masters, those of adapters by the trial's seed, and takes the
 * trial's floor, kind of perturbation and core for them. */
qzo_status qzo_workbench_reset(qzo_workbench *bench, const qzo_trial_spec *spec);

/* All trainable values, first the model's, then the adapters', from the masters and into them:
 * values_host (qzo_workbench_value_count). */
qzo_status qzo_workbench_download(const qzo_workbench *bench, float *values_host);
qzo_status qzo_workbench_upload(qzo_workbench *bench, const float *values_host);

/* The masters to the best values, and back. */
qzo_status qzo_workbench_keep_best(qzo_workbench *bench);
qzo_status qzo_workbench_restore_best(qzo_workbench *bench);

/* Sums over the examples, in their order: losses and their weights, scores and theirs. */
typedef struct qzo_sums {
    double loss, weight, score, score_weight;
} qzo_sums;

/* The loss of the batch, in one forward pass; of an evaluation the scores as well, also those of
 * answers that are generated for them. */
qzo_status qzo_workbench_evaluate(qzo_workbench *bench, qzo_sums *out, const qzo_batch *batch,
                                  const qzo_perturbation *perturbation);

/* The training losses under c and -c of the perturbation, at once where there is room for them; no
 * score. The bits are those of qzo_workbench_evaluate. */
qzo_status qzo_workbench_evaluate_pair(qzo_workbench *bench, qzo_sums out[2],
                                       const qzo_batch *batch,
                                       const qzo_perturbation *perturbation);

/* The scores alone, by whatever the metric needs: of a trial whose objective is the metric. NAN
 * where the model's outputs are no numbers. */
qzo_status qzo_workbench_score(qzo_workbench *bench, qzo_sums *out, const qzo_batch *batch,
                               const qzo_perturbation *perturbation);

#endif
