/* A sweep file: YAML to a typed sweep. Errors read "FILE:LINE:COLUMN: expected ..., found ..." and
 * name the closest known key where one is near. Nothing else of the program knows YAML.
 *
 * sweeps/README.md has every key. Files that Weights & Biases reads are read too (sweep/wandb.h).
 */
#ifndef QZO_SWEEP_SWEEP_SPEC_H
#define QZO_SWEEP_SWEEP_SPEC_H

#include "base/status.h"
#include "sweep/expression.h"
#include "sweep/scheduler.h"
#include "trial/trial_spec.h"

#include <stddef.h>

/* How a number is drawn (method: random). */
typedef enum {
    QZO_DRAW_VALUES,  /* one of the values, each as likely */
    QZO_DRAW_UNIFORM, /* in [min, max] */
    QZO_DRAW_LOG      /* its logarithm is uniform in that of [min, max] */
} qzo_draw_kind;

typedef struct qzo_parameter {
    const qzo_setting *setting;
    /* Texts, already checked against the setting; a path as it was written. NULL in a list of
     * trials: that one does not name the setting. None where it is drawn. */
    char **values;
    int64_t value_count;
    bool swept; /* it gets a column in the tables */
    qzo_draw_kind draw;
    double min, max, quantum; /* of a drawn number; quantum 0: any */
    int64_t together; /* index of the parameter whose value number this one shares (zip); its own
                         where it varies alone */
    bool is_repeat;   /* every combination or draw has all its values */
    qzo_expression *when; /* NULL: always; else only in trials where it holds */
} qzo_parameter;

/* The multiples of a drawn parameter's quantum in its range: quantum times first ... last; none
 * where first > last. */
void qzo_parameter_multiples(double *first, double *last, const qzo_parameter *parameter);

/* One grid of the file; its trials follow those of the grids before. */
typedef struct qzo_space {
    qzo_parameter *parameters; /* in the file's order; the last varies fastest */
    int64_t parameter_count;
    qzo_expression **excludes; /* a trial for which one holds is left out */
    int64_t exclude_count;
} qzo_space;

enum { QZO_RANKS_ALL = 0, QZO_RANKS_PER_TRIAL_MAX = 1 << 20, QZO_SWEEP_NAME_BYTES_MAX = 200 };
enum { QZO_SWEEP_TRIALS_MAX = 1000000, QZO_SWEEP_REPEATS_MAX = 10000 };

typedef enum { QZO_METHOD_GRID, QZO_METHOD_RANDOM, QZO_METHOD_LIST, QZO_METHOD_COUNT } qzo_method;

/* "grid", "random", "list". */
extern const char *const qzo_sweep_methods[QZO_METHOD_COUNT];

enum { QZO_FACTORS_MAX = 16, QZO_PERTURBED_MAX = 16 };

/* Whether forks may change it: numbers that a step reads anew. */
bool qzo_setting_can_be_perturbed(const qzo_setting *setting);

/* What the file says of the scheduler; sweep/scheduling.h makes rungs of it. */
typedef struct qzo_scheduler_choice {
    const qzo_scheduler_ops *ops;
    int64_t min_steps; /* of the first rung; 0: the first evaluation */
    int64_t eta, brackets, min_trials;
    /* Of population based training: */
    int64_t interval; /* steps between rungs; 0: an evaluation to the next */
    double quantile;
    double factors[QZO_FACTORS_MAX]; /* a perturbed setting is multiplied by one of them */
    int64_t factor_count;
    const qzo_setting *perturbed[QZO_PERTURBED_MAX]; /* none: those of the swept that can be */
    int64_t perturbed_count;
} qzo_scheduler_choice;

typedef struct qzo_sweep_spec {
    char *name; /* the file's, without folder and ending, where it names none */
    char *file_path;
    char *folder; /* of the file: relative paths start here */
    char *text;   /* the file, byte for byte */
    size_t text_bytes;
    qzo_trial_spec base;     /* train, model, task, metric; paths joined with folder */
    int64_t ranks_per_trial; /* QZO_RANKS_ALL or a count */
    qzo_method method;
    int64_t run_cap;      /* random: draws of each grid; grid: at most so many trials; 0: none */
    uint64_t search_seed; /* of the draws */
    int64_t repeats;      /* seeds of every combination */
    qzo_scheduler_choice scheduler;
    qzo_space *spaces;
    int64_t space_count;
    char *notes; /* what was read in another sense than it was written, or ignored; or NULL */
} qzo_sweep_spec;

/* What the command line adds to a file; NULL: nothing. Relative to the working folder. */
typedef struct qzo_sweep_additions {
    const char *model_path, *task_path;
} qzo_sweep_additions;

qzo_status qzo_sweep_spec_load(qzo_sweep_spec **out, const char *path,
                               const qzo_sweep_additions *additions_or_null);

/* The same over text; name stands in messages, folder is where relative paths start. */
qzo_status qzo_sweep_spec_parse(qzo_sweep_spec **out, const char *text, size_t text_bytes,
                                const char *name, const char *folder,
                                const qzo_sweep_additions *additions_or_null);

void qzo_sweep_spec_free(qzo_sweep_spec *sweep); /* NULL is fine */

#endif
