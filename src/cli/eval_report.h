/* What `qzo eval` prints: a table for people, JSON with the names that lm-evaluation-harness gives
 * the same things, a line of JSON per example. */
#ifndef QZO_CLI_EVAL_REPORT_H
#define QZO_CLI_EVAL_REPORT_H

#include "base/bootstrap.h"
#include "cli/options.h"
#include "trial/example_scores.h"

#include <stdio.h>

/* One split of one task. */
typedef struct qzo_eval_result {
    const qzo_task *task;
    const char *label; /* what programs know the task by: qzo_eval_label */
    qzo_split_kind split;
    int64_t example_count; /* of the split; the scores may have fewer */
    int64_t shot_count;    /* demonstrations before each prompt */
    const qzo_loss *loss;
    const qzo_metric *metric;
    qzo_example_scores scores;
    qzo_interval score_interval, loss_interval; /* 95 %, by the bootstrap */
    bool is_calibrated;
} qzo_eval_result;

/* A name for the task that none of the others (count) goes by, with or without the name of a split
 * behind it: its own, else its path, else that with a number. The caller frees *out. */
qzo_status qzo_eval_label(char **out, const qzo_task *task, const char *task_path,
                          char *const *others, int64_t count);

/* trial_text: "" or which trial and step is scored; backend_name: of what computed. */
void qzo_eval_print_table(const qzo_eval_result *results, int64_t count, const char *trial_text);
qzo_status qzo_eval_print_json(const qzo_eval_result *results, int64_t count,
                               const char *trial_text, const char *backend_name,
                               const qzo_options *options);

/* Appends one line per example. */
qzo_status qzo_eval_write_predictions(FILE *file, const qzo_eval_result *result, const char *path);

#endif
