/* qzo eval MODEL TASK...: loss and score of a model folder, or of a trial's tuned scales. */
#include "cli/cli.h"
#include "cli/eval_report.h"
#include "cli/recorded_trial.h"

#include "base/file_io.h"
#include "base/new_file.h"
#include "trial/replay.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { RESULTS_MAX = 2 * QZO_TASKS_MAX, TRIAL_TEXT_BYTES = 4352 };

/* Packed tokens of a forward pass of a folder; a guess, which no device has measured. A trial's
 * scores are cut as in its run, so that its losses are those of its journal to the last bit. */
enum { EVAL_TOKENS = 2048 };

typedef struct evaluation {
    const qzo_options *options;
    qzo_backend *backend;
    qzo_workbench bench;
    qzo_recorded_trial trial; /* zeroed where the model is a folder */
    qzo_trial_spec spec;
    char trial_text[TRIAL_TEXT_BYTES];
    qzo_task *tasks[QZO_TASKS_MAX]; /* opened for the results: the bench closes its own */
    char *labels[QZO_TASKS_MAX];    /* of the tasks */
    qzo_eval_result results[RESULTS_MAX];
    int64_t result_count;
    qzo_new_file predictions; /* zeroed: none are wanted */
} evaluation;

/* --- the model --- */

static qzo_status set_path(char **out, const char *path) {
    free(*out);
    *out = strdup(path);
    return *out != NULL ? QZO_OK : qzo_fail(QZO_ERR_MEMORY, "out of memory for a path");
}

static qzo_status open_trial(evaluation *e) {
    qzo_status status = QZO_OK;
    qzo_options of_trial = *e->options;
    of_trial.folder = e->options->model_path;
    of_trial.trial = e->options->eval_trial;
    of_trial.model_path = NULL;
    int64_t step = e->options->step;
    if (e->options->quantize_name != NULL)
        return qzo_fail(QZO_ERR_USAGE, "--quantize: a trial has its own; leave it out");
    QZO_TRY(qzo_recorded_trial_open(&e->trial, &of_trial));
    QZO_TRY(qzo_workbench_load_for(&e->bench, &e->trial.spec));
    QZO_TRY(
        qzo_replay_to(&step, &e->bench, &e->trial.file, &e->trial.spec, &e->trial.model_digest));
    snprintf(e->trial_text, sizeof e->trial_text, "trial %s of %s, step %" PRId64 "%s",
             e->trial.row->id, of_trial.folder, step,
             e->options->step < 0 ? ", the best on dev" : "");
cleanup:
    return status;
}

static bool is_wanted(const qzo_options *options, qzo_split_kind split) {
    return options->split_name != NULL ? strcmp(options->split_name, qzo_split_name(split)) == 0
                                       : split != QZO_SPLIT_TRAIN;
}

static qzo_status open_model(evaluation *e) {
    qzo_status status = QZO_OK;
    const qzo_backend_options backend = {.pairs = QZO_PAIRS_NEVER,
                                         .thread_count = qzo_threads(e->options, 1)};
    QZO_TRY(qzo_backend_open(&e->backend, e->options->backend_name, &backend));
    qzo_workbench_init(&e->bench, e->backend);
    e->bench.scores_train = is_wanted(e->options, QZO_SPLIT_TRAIN);
    if (e->options->eval_trial != NULL) return open_trial(e);
    if (e->options->step >= 0)
        return qzo_fail(QZO_ERR_USAGE, "--step is a trial's: --trial names one");
    qzo_trial_spec_defaults(&e->spec);
    e->spec.eval_tokens = EVAL_TOKENS;
    if (e->options->quantize_name != NULL) e->spec.quantize = e->options->quantize_name;
    QZO_TRY(set_path(&e->spec.model_path, e->options->model_path));
    QZO_TRY(set_path(&e->spec.task_path, e->options->task_paths[0]));
    QZO_TRY(qzo_trial_spec_complete(&e->spec));
    QZO_TRY(qzo_workbench_load_for(&e->bench, &e->spec));
    QZO_TRY(e->backend->ops->copy(e->backend, e->bench.masters, e->bench.initial,
                                  (size_t)e->bench.model->value_count * sizeof(float)));
cleanup:
    return status;
}

/* --- tasks --- */

/* How many demonstrations the task was prepared with. */
static qzo_status read_shots(int64_t *out, const char *path) {
    qzo_safetensors *file = NULL;
    qzo_status status = qzo_safetensors_open(&file, path);
    const char *text = status == QZO_OK ? qzo_safetensors_metadata(file, "shots") : NULL;
    *out = text != NULL ? strtoll(text, NULL, 10) : 0;
    qzo_safetensors_close(file);
    return status;
}

static qzo_status take_scores(qzo_example_scores *out, evaluation *e, const char *task_path,
                              qzo_split_kind split) {
    qzo_trial_spec *spec = e->options->eval_trial != NULL ? &e->trial.spec : &e->spec;
    qzo_status status = set_path(&spec->task_path, task_path);
    if (status == QZO_OK) status = qzo_workbench_prepare_task(&e->bench, spec);
    if (status != QZO_OK) return status;
    return qzo_example_scores_take(out, &e->bench, &e->bench.task->splits[split],
                                   e->options->example_limit, spec);
}

static qzo_status calibrate(evaluation *e, qzo_eval_result *r) {
    qzo_example_scores base = {0};
    if (strcmp(r->metric->name, "accuracy") != 0)
        return qzo_fail(QZO_ERR_CONFIG,
                        "--calibration: expected a task scored by accuracy, %s is "
                        "scored by %s",
                        r->task->name, r->metric->name);
    qzo_status status = take_scores(&base, e, e->options->calibration_path, r->split);
    if (status == QZO_OK) status = qzo_example_scores_calibrate(&r->scores, r->metric, &base);
    qzo_example_scores_release(&base);
    r->is_calibrated = status == QZO_OK;
    return status;
}

static qzo_status evaluate_split(evaluation *e, int64_t index, qzo_split_kind split) {
    qzo_status status = QZO_OK;
    const qzo_task *task = e->tasks[index];
    const char *path = e->options->task_paths[index];
    qzo_eval_result *r = &e->results[e->result_count];
    uint64_t seed = (uint64_t)e->options->bootstrap_seed;
    *r = (qzo_eval_result){.task = task,
                           .label = e->labels[index],
                           .split = split,
                           .example_count = task->splits[split].example_count};
    QZO_TRY(take_scores(&r->scores, e, path, split));
    e->result_count++;
    r->loss = e->bench.loss;
    r->metric = e->bench.metric;
    r->scores.split = task->splits[split]; /* the bench's may go before it is printed */
    if (r->scores.split.example_count > e->options->example_limit)
        r->scores.split.example_count = e->options->example_limit;
    const int64_t count = r->scores.split.example_count;
    QZO_TRY(read_shots(&r->shot_count, path));
    if (e->options->calibration_path != NULL) QZO_TRY(calibrate(e, r));
    QZO_TRY(
        qzo_bootstrap(&r->score_interval, r->scores.scores, r->scores.score_weights, count, seed));
    r->score_interval.low = r->metric->of_mean(r->score_interval.low);
    r->score_interval.high = r->metric->of_mean(r->score_interval.high);
    QZO_TRY(qzo_bootstrap(&r->loss_interval, r->scores.losses, r->scores.weights, count, seed));
cleanup:
    return status;
}

static qzo_status evaluate_task(evaluation *e, int64_t index) {
    const char *path = e->options->task_paths[index];
    qzo_status status = qzo_task_open(&e->tasks[index], path);
    if (status == QZO_OK)
        status = qzo_eval_label(&e->labels[index], e->tasks[index], path, e->labels, index);
    if (status != QZO_OK) return status;
    int64_t before = e->result_count;
    for (int s = 0; s < QZO_SPLIT_COUNT && status == QZO_OK; s++) {
        if (!is_wanted(e->options, (qzo_split_kind)s)) continue;
        if (e->tasks[index]->splits[s].example_count > 0)
            status = evaluate_split(e, index, (qzo_split_kind)s);
    }
    if (status == QZO_OK && e->result_count == before)
        status = qzo_fail(QZO_ERR_CONFIG, "%s: the split %s has no examples", path,
                          e->options->split_name);
    return status;
}

/* --- predictions --- */

/* The endings of files that an evaluation reads out of folders. */
static bool is_read(const char *name) {
    static const char *const endings[] = {".json", ".safetensors", ".gguf",
                                          ".qzj",  ".yaml",        ".sqlite"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t length = strlen(name), tail = strlen(endings[i]);
        if (length > tail && strcmp(name + length - tail, endings[i]) == 0) return true;
    }
    return false;
}

static bool is_same_file(const char *a, const char *b) {
    struct stat found, other;
    return a != NULL && b != NULL && stat(a, &found) == 0 && stat(b, &other) == 0 &&
           found.st_dev == other.st_dev && found.st_ino == other.st_ino;
}

/* Whether path is the input, or what is read of it where it is a folder. */
static bool belongs_to(const char *path, const char *input) {
    bool found = is_same_file(path, input);
    DIR *listing = found || input == NULL ? NULL : opendir(input);
    if (listing == NULL) return found;
    for (const struct dirent *entry = readdir(listing); entry != NULL && !found;
         entry = readdir(listing)) {
        if (!is_read(entry->d_name)) continue;
        char *inside = qzo_path_join(input, entry->d_name);
        found = is_same_file(path, inside);
        free(inside);
    }
    closedir(listing);
    return found;
}

static qzo_status refuse_input(const evaluation *e, const char *input) {
    const char *path = e->options->predictions_path;
    if (path == NULL || !belongs_to(path, input)) return QZO_OK;
    return qzo_fail(QZO_ERR_USAGE, "--predictions: expected a new file, %s is read as part of %s",
                    path, input);
}

/* Before anything is computed: a file that cannot be written must not cost an evaluation. */
static qzo_status open_predictions(evaluation *e) {
    qzo_status status = QZO_OK;
    const qzo_options *options = e->options;
    if (options->predictions_path == NULL) return QZO_OK;
    char *journals = qzo_path_join(options->model_path, "trials");
    for (int64_t i = 0; i < options->task_count; i++)
        QZO_TRY(refuse_input(e, options->task_paths[i]));
    QZO_TRY(refuse_input(e, options->calibration_path));
    QZO_TRY(refuse_input(e, options->model_path));
    QZO_TRY(refuse_input(e, journals));
    QZO_TRY(qzo_new_file_begin(&e->predictions, options->predictions_path));
cleanup:
    free(journals);
    return status;
}

static qzo_status write_predictions(evaluation *e) {
    qzo_status status = QZO_OK;
    if (e->predictions.stream == NULL) return QZO_OK;
    for (int64_t i = 0; i < e->result_count; i++)
        QZO_TRY(qzo_eval_write_predictions(e->predictions.stream, &e->results[i],
                                           e->options->predictions_path));
    QZO_TRY(qzo_new_file_commit(&e->predictions));
cleanup:
    return status;
}

/* --- the command --- */

/* Of what computed: both kinds of CPU are "cpu" to the operations. */
static const char *backend_name(const evaluation *e) {
    const char *asked = e->options->backend_name;
    return strcmp(asked, "auto") == 0 ? e->backend->ops->name : asked;
}

static qzo_status evaluate(evaluation *e) {
    qzo_status status = QZO_OK;
    if (e->options->calibration_path != NULL && e->options->task_count > 1)
        return qzo_fail(QZO_ERR_USAGE, "--calibration is that of one task, found %" PRId64 " tasks",
                        e->options->task_count);
    QZO_TRY(open_predictions(e));
    QZO_TRY(open_model(e));
    QZO_TRY(refuse_input(e, e->trial.spec.model_path)); /* of a trial it is known only now */
    qzo_workbench_log_load(&e->bench, QZO_LOG_INFO);
    for (int64_t i = 0; i < e->options->task_count; i++) QZO_TRY(evaluate_task(e, i));
    QZO_TRY(write_predictions(e));
    if (e->options->json)
        QZO_TRY(qzo_eval_print_json(e->results, e->result_count, e->trial_text, backend_name(e),
                                    e->options));
    else
        qzo_eval_print_table(e->results, e->result_count, e->trial_text);
cleanup:
    return status;
}

int qzo_cmd_eval(const qzo_options *options) {
    evaluation *e = calloc(1, sizeof *e);
    if (e == NULL) return qzo_exit_report(qzo_fail(QZO_ERR_MEMORY, "out of memory"), options);
    e->options = options;
    qzo_status status = evaluate(e);
    for (int64_t i = 0; i < e->result_count; i++) qzo_example_scores_release(&e->results[i].scores);
    for (int64_t i = 0; i < options->task_count; i++) {
        qzo_task_close(e->tasks[i]);
        free(e->labels[i]);
    }
    qzo_new_file_close(&e->predictions);
    qzo_workbench_release(&e->bench);
    qzo_recorded_trial_close(&e->trial);
    qzo_trial_spec_release(&e->spec);
    qzo_backend_close(e->backend);
    free(e);
    return qzo_exit_report(status, options);
}
