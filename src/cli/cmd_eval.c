/* qzo eval MODEL TASK: zero-shot loss and score of a model folder, quantized or not. */
#include "cli/cli.h"

#include "trial/evaluate.h"
#include "trial/trial_spec.h"
#include "trial/workbench.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

typedef struct split_result {
    int64_t example_count;
    double score, loss;
} split_result;

static bool never(void *context) {
    (void)context;
    return false;
}

static void nothing(void *context) { (void)context; }

static qzo_status evaluate(qzo_workbench *bench, const qzo_trial_spec *spec,
                           split_result results[QZO_SPLIT_COUNT]) {
    qzo_status status = QZO_OK;
    qzo_comm *alone = NULL;
    qzo_trial_hooks hooks = {.should_park = never, .poll = nothing};
    QZO_TRY(qzo_comm_local_open(&alone));
    QZO_TRY(qzo_workbench_prepare(bench, spec));
    qzo_workbench_log_load(bench, QZO_LOG_INFO);
    QZO_TRY(bench->backend->ops->copy(bench->backend, bench->masters, bench->initial,
                                      (size_t)bench->model->value_count * sizeof(float)));
    for (int s = QZO_SPLIT_DEV; s < QZO_SPLIT_COUNT; s++) {
        const qzo_split *split = &bench->task->splits[s];
        results[s].example_count = split->example_count;
        if (split->example_count == 0) continue;
        QZO_TRY(qzo_evaluate_split(&results[s].score, &results[s].loss, bench, alone, split,
                                   spec->eval_batch, QZO_OK, &hooks));
    }
cleanup:
    qzo_comm_close(alone);
    return status;
}

/* Of a mean of 0/1 scores. */
static double standard_error(const split_result *r) {
    return sqrt(r->score * (1.0 - r->score) / (double)r->example_count);
}

static void print_table(const qzo_workbench *bench, const split_result results[QZO_SPLIT_COUNT]) {
    printf("%s, %s loss\n\n%-6s %9s %10s %10s %10s\n", bench->task->name, bench->task->loss,
           "split", "examples", bench->task->metric, "std error", "loss");
    for (int s = QZO_SPLIT_DEV; s < QZO_SPLIT_COUNT; s++)
        if (results[s].example_count > 0)
            printf("%-6s %9" PRId64 " %10.4f %10.4f %10.4f\n", qzo_split_name((qzo_split_kind)s),
                   results[s].example_count, results[s].score, standard_error(&results[s]),
                   results[s].loss);
}

static qzo_status print_json(const qzo_workbench *bench,
                             const split_result results[QZO_SPLIT_COUNT]) {
    json_t *splits = json_object();
    for (int s = QZO_SPLIT_DEV; s < QZO_SPLIT_COUNT; s++)
        if (results[s].example_count > 0)
            json_object_set_new(splits, qzo_split_name((qzo_split_kind)s),
                                json_pack("{s:I, s:f, s:f, s:f}", "examples",
                                          (json_int_t)results[s].example_count, "score",
                                          results[s].score, "score_stderr",
                                          standard_error(&results[s]), "loss", results[s].loss));
    json_t *root = json_pack("{s:s, s:s, s:s, s:o}", "task", bench->task->name, "metric",
                             bench->task->metric, "loss", bench->task->loss, "splits", splits);
    return qzo_json_print(root);
}

int qzo_cmd_eval(const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = NULL;
    qzo_workbench bench = {0};
    qzo_trial_spec spec = {0};
    split_result results[QZO_SPLIT_COUNT] = {{0}};
    qzo_backend_options backend_options = {.thread_count = qzo_threads(options, 1)};
    qzo_trial_spec_defaults(&spec);
    spec.model_path = strdup(options->model_path);
    spec.task_path = strdup(options->task_path);
    if (spec.model_path == NULL || spec.task_path == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for a path");
        goto cleanup;
    }
    if (options->quantize_name != NULL) spec.quantize = options->quantize_name;
    QZO_TRY(qzo_trial_spec_complete(&spec));
    QZO_TRY(qzo_backend_open(&backend, options->backend_name, &backend_options));
    qzo_workbench_init(&bench, backend);
    QZO_TRY(evaluate(&bench, &spec, results));
    if (options->json)
        QZO_TRY(print_json(&bench, results));
    else
        print_table(&bench, results);
cleanup:
    qzo_workbench_release(&bench);
    qzo_trial_spec_release(&spec);
    qzo_backend_close(backend);
    return qzo_exit_report(status, options);
}
