#include "cli/eval_report.h"

#include "cli/cli.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 256, NAME_WIDTH = 20 };

/* What lm-evaluation-harness calls our metrics. */
static const char *short_name(const qzo_metric *metric) {
    return strcmp(metric->name, "accuracy") == 0 ? "acc" : metric->name;
}

static bool is_lm(const qzo_eval_result *r) { return strcmp(r->loss->name, "lm") == 0; }

/* s / sqrt(n) with n - 1 in s, as there; 0 of a single example. A cost (perplexity) is no mean over
 * examples and has its interval alone. */
static double standard_error(const qzo_eval_result *r) {
    int64_t count = r->scores.split.example_count;
    double squares = 0.0;
    for (int64_t i = 0; i < count; i++) {
        double difference = r->scores.scores[i] - r->scores.score;
        squares += difference * difference;
    }
    return count < 2 ? 0.0 : sqrt(squares / (double)(count - 1) / (double)count);
}

/* --- names --- */

/* The harness knows one split per task: test goes by the task's name. */
static const char *split_ending(qzo_split_kind split) {
    static const char *const endings[QZO_SPLIT_COUNT] = {
        [QZO_SPLIT_TRAIN] = "_train", [QZO_SPLIT_DEV] = "_dev", [QZO_SPLIT_TEST] = ""};
    return endings[split];
}

/* Whether `longer` is `label`, or is what one of its splits is called. */
static bool is_or_extends(const char *longer, const char *label) {
    size_t length = strlen(label);
    if (strncmp(longer, label, length) != 0) return false;
    for (int s = 0; s < QZO_SPLIT_COUNT; s++)
        if (strcmp(longer + length, split_ending((qzo_split_kind)s)) == 0) return true;
    return false;
}

static bool is_taken(const char *label, char *const *others, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (is_or_extends(label, others[i]) || is_or_extends(others[i], label)) return true;
    return false;
}

qzo_status qzo_eval_label(char **out, const qzo_task *task, const char *task_path,
                          char *const *others, int64_t count) {
    *out = strdup(task->name);
    if (*out != NULL && is_taken(*out, others, count)) {
        free(*out);
        *out = strdup(task_path);
    }
    for (int64_t number = 2; *out != NULL && is_taken(*out, others, count); number++) {
        free(*out);
        if (asprintf(out, "%s#%" PRId64, task_path, number) < 0) *out = NULL;
    }
    return *out != NULL ? QZO_OK : qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", task_path);
}

/* --- for people --- */

static void print_score(const qzo_eval_result *r) {
    if (isnan(r->scores.score)) { /* of a task without one */
        printf("%-12s %8s %8s  %-17s", short_name(r->metric), "-", "-", "-");
        return;
    }
    printf("%-12s %8.4f ", short_name(r->metric), r->scores.score);
    if (r->metric->is_cost)
        printf("%8s ", "-");
    else
        printf("%8.4f ", standard_error(r));
    printf(" [%.4f, %.4f] ", r->score_interval.low, r->score_interval.high);
}

void qzo_eval_print_table(const qzo_eval_result *results, int64_t count, const char *trial_text) {
    if (trial_text[0] != '\0') printf("%s\n\n", trial_text);
    printf("%-*s %-5s %8s  %-12s %8s %8s  %-17s %9s  %s\n", NAME_WIDTH, "task", "split", "examples",
           "metric", "value", "stderr", "95 % interval", "loss", "95 % interval");
    for (int64_t i = 0; i < count; i++) {
        const qzo_eval_result *r = &results[i];
        int width = qzo_text_print(stdout, r->task->name, strlen(r->task->name));
        printf("%*s %-5s %8" PRId64 "  ", width < NAME_WIDTH ? NAME_WIDTH - width : 0, "",
               qzo_split_name(r->split), r->scores.split.example_count);
        print_score(r);
        printf("%9.4f  [%.4f, %.4f]\n", r->scores.loss, r->loss_interval.low,
               r->loss_interval.high);
    }
}

/* --- for programs --- */

static json_t *interval_json(double low, double high) { return json_pack("[f, f]", low, high); }

static void set_number(json_t *object, const char *metric, const char *suffix, json_t *value) {
    char key[NAME_BYTES];
    snprintf(key, sizeof key, "%s%s,none", metric, suffix);
    json_object_set_new(object, key, value);
}

static json_t *result_json(const qzo_eval_result *r, const char *name) {
    json_t *out = json_pack("{s:s, s:s, s:s, s:b, s:s}", "alias", name, "split",
                            qzo_split_name(r->split), "metric", r->metric->name, "calibrated",
                            r->is_calibrated, "objective", r->loss->name);
    const char *metric = short_name(r->metric);
    set_number(out, metric, "", json_real(r->scores.score));
    if (!r->metric->is_cost) set_number(out, metric, "_stderr", json_real(standard_error(r)));
    set_number(out, metric, "_ci95", interval_json(r->score_interval.low, r->score_interval.high));
    set_number(out, "loss", "", json_real(r->scores.loss));
    set_number(out, "loss", "_ci95", interval_json(r->loss_interval.low, r->loss_interval.high));
    if (is_lm(r)) {
        set_number(out, "token_perplexity", "", json_real(exp(r->scores.loss)));
        set_number(out, "token_perplexity", "_ci95",
                   interval_json(exp(r->loss_interval.low), exp(r->loss_interval.high)));
    }
    return out;
}

/* Images have a loss and no score. */
static json_t *higher_is_better_json(const qzo_eval_result *r) {
    bool has_score = r->task->images == NULL;
    return json_pack("{s:b}", has_score ? short_name(r->metric) : "loss",
                     has_score && !r->metric->is_cost);
}

static json_t *config_json(const char *trial_text, const char *backend_name,
                           const qzo_options *options) {
    json_t *out =
        json_pack("{s:s, s:s, s:i, s:I, s:s}", "model", options->model_path, "backend",
                  backend_name, "bootstrap_iters", QZO_BOOTSTRAP_RESAMPLES, "bootstrap_seed",
                  (json_int_t)options->bootstrap_seed, "bootstrap_interval", "percentile");
    if (trial_text[0] != '\0') json_object_set_new(out, "trial", json_string(trial_text));
    json_object_set_new(out, "limit",
                        options->example_limit < INT64_MAX
                            ? json_integer((json_int_t)options->example_limit)
                            : json_null());
    return out;
}

qzo_status qzo_eval_print_json(const qzo_eval_result *results, int64_t count,
                               const char *trial_text, const char *backend_name,
                               const qzo_options *options) {
    json_t *scores = json_object(), *shots = json_object(), *samples = json_object();
    json_t *higher = json_object(), *versions = json_object();
    for (int64_t i = 0; i < count; i++) {
        const qzo_eval_result *r = &results[i];
        char *name = NULL, digest[QZO_DIGEST_TEXT_BYTES];
        if (asprintf(&name, "%s%s", r->label, split_ending(r->split)) < 0) continue;
        qzo_digest_text(digest, &r->task->digest);
        json_object_set_new(scores, name, result_json(r, name));
        json_object_set_new(shots, name, json_integer((json_int_t)r->shot_count));
        json_object_set_new(samples, name,
                            json_pack("{s:I, s:I}", "original", (json_int_t)r->example_count,
                                      "effective", (json_int_t)r->scores.split.example_count));
        json_object_set_new(higher, name, higher_is_better_json(r));
        json_object_set_new(versions, name, json_string(digest));
        free(name);
    }
    return qzo_json_print(json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "results", scores, "n-shot",
                                    shots, "n-samples", samples, "higher_is_better", higher,
                                    "versions", versions, "config",
                                    config_json(trial_text, backend_name, options)));
}

/* --- example by example --- */

/* A text that is cut inside a character of UTF-8 loses what is not ASCII. */
static json_t *text_json(char *text) {
    json_t *out = json_string(text);
    if (out != NULL) return out;
    for (char *at = text; *at != '\0'; at++)
        if ((unsigned char)*at >= 0x80) *at = '?';
    return json_string(text);
}

/* As the split's: per example or, of a language model, per token. */
static double example_loss(const qzo_eval_result *r, int64_t example) {
    return r->scores.losses[example] / r->scores.weights[example];
}

static json_t *image_json(const qzo_eval_result *r, int64_t example) {
    return json_pack("{s:s, s:s, s:I, s:f}", "task", r->label, "split", qzo_split_name(r->split),
                     "doc_id", (json_int_t)example, "loss", example_loss(r, example));
}

static json_t *example_json(const qzo_eval_result *r, int64_t example) {
    const qzo_example_scores *scores = &r->scores;
    const qzo_split *split = &scores->split;
    json_t *sums = json_array(), *tokens = json_array(), *right = json_array();
    for (int64_t o = split->option_begin[example]; o < split->option_begin[example + 1]; o++) {
        int64_t option = o - split->option_begin[example];
        bool is_right =
            split->right != NULL ? split->right[o] != 0 : option == split->gold[example];
        json_array_append_new(sums, json_real(scores->log_prob_sums[o]));
        json_array_append_new(tokens, json_integer(split->answer_tokens[o]));
        if (is_right) json_array_append_new(right, json_integer((json_int_t)option));
    }
    json_t *out = json_pack("{s:s, s:s, s:I, s:i, s:o, s:I, s:o, s:o, s:f}", "task", r->label,
                            "split", qzo_split_name(r->split), "doc_id", (json_int_t)example,
                            "target", (int)split->gold[example], "right", right, "prediction",
                            (json_int_t)scores->predictions[example], "log_probs", sums, "tokens",
                            tokens, "loss", example_loss(r, example));
    if (!r->metric->is_cost)
        json_object_set_new(out, short_name(r->metric), json_real(scores->scores[example]));
    if (scores->texts[example] != NULL)
        json_object_set_new(out, "text", text_json(scores->texts[example]));
    return out;
}

qzo_status qzo_eval_write_predictions(FILE *file, const qzo_eval_result *result, const char *path) {
    for (int64_t e = 0; e < result->scores.split.example_count; e++) {
        bool is_image = result->task->images != NULL;
        json_t *line = is_image ? image_json(result, e) : example_json(result, e);
        char *text = line != NULL ? json_dumps(line, JSON_COMPACT) : NULL;
        json_decref(line);
        if (text == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
        bool written = fprintf(file, "%s\n", text) > 0;
        free(text);
        if (!written) return qzo_fail(QZO_ERR_IO, "%s: cannot be written", path);
    }
    return QZO_OK;
}
