/* The part of `qzo plan --calibrate` that says how long a sweep takes, on how many ranks per trial,
 * and how to submit it. */
#ifndef QZO_CLI_PLAN_TIME_H
#define QZO_CLI_PLAN_TIME_H

#include "cli/estimate.h"
#include "sweep/kinds.h"

enum { QZO_CHOICES_MAX = 32 };

/* One number of ranks per trial. */
typedef struct qzo_rank_choice {
    int64_t ranks_per_trial;
    double seconds; /* until the last trial ends */
} qzo_rank_choice;

typedef struct qzo_plan_time {
    qzo_calibration *calibrations; /* one per kind */
    qzo_rank_choice choices[QZO_CHOICES_MAX];
    int choice_count, best, asked; /* best, asked: indices; asked: that of the sweep file */
    int64_t first_kind;            /* index of the first that can run */
    int64_t rank_count, per_node;
    int64_t scheduled_steps; /* of all trials */
    double limit_seconds;    /* --time; 0: none */
    const char *sweep_path, *scheduler_name;
    const char *model_path, *task_path; /* --model, --task; NULL: those of the sweep file */
} qzo_plan_time;

/* Times the kinds and estimates. The caller releases it. */
qzo_status qzo_plan_time_make(qzo_plan_time *out, const qzo_sweep_spec *sweep, const qzo_grid *grid,
                              const qzo_kinds *kinds, const qzo_options *options);
void qzo_plan_time_release(qzo_plan_time *time); /* safe on a zeroed one */

void qzo_plan_time_print(const qzo_plan_time *time, const qzo_kinds *kinds);
json_t *qzo_plan_time_json(const qzo_plan_time *time); /* NULL out of memory */

#endif
