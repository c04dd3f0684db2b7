/* One training run on one group of ranks: step, evaluate, journal, stop, resume.
 *
 * A trial is a state machine over its journal: whatever the journal lacks is done next. Starting,
 * resuming after any kill, and running a finished trial again are the same call. */
#ifndef QZO_TRIAL_TRIAL_H
#define QZO_TRIAL_TRIAL_H

#include "comm/comm.h"
#include "trial/journal.h"
#include "trial/trial_spec.h"
#include "trial/workbench.h"

/* What a progress line shows. */
typedef struct qzo_trial_progress {
    int64_t step, steps;
    double loss;      /* mean of loss+ and loss- of the last step; NaN before */
    double dev_score; /* of the last evaluation; NaN before */
    double dev_loss;
    double seconds; /* in this process */
    bool evaluated; /* this report follows an evaluation */
} qzo_trial_progress;

/* How the sweep takes part; called on every rank, between units of work. */
typedef struct qzo_trial_hooks {
    void *context;
    bool (*should_park)(void *context); /* stop at the next boundary */
    void (*poll)(void *context);        /* answer others; must be quick */
    void (*progress)(void *context, const qzo_trial_progress *progress); /* rank 0 of the group */
    int64_t until_step; /* return after this step's evaluation, not ended; 0: at the trial's end */
} qzo_trial_hooks;

typedef struct qzo_trial_files {
    const char *journal_path;
    const char *timing_path;
} qzo_trial_files;

/* Runs or resumes the trial until it ends or is parked; collective over the group, same result on
 * all its ranks. QZO_OK: it ended, *outcome says how (a model or task that cannot be used ends the
 * trial as failed). QZO_ERR_INTERRUPTED: parked, work is left. QZO_ERR_FORMAT: the journal there is
 * another trial's, or of no kind that this program can read; it is left alone. Other errors concern
 * the machine or the files of the run, not the trial: nothing is recorded as failed. Where
 * until_step came first, QZO_OK and *outcome is QZO_OUTCOME_COUNT: none yet. Learning-rate
 * schedules count the trial's own steps, wherever it is told to pause: its steps are those of a run
 * without a pause. */
qzo_status qzo_trial_run(qzo_outcome *outcome, const qzo_trial_spec *spec, qzo_workbench *bench,
                         qzo_comm *group, const qzo_trial_files *files,
                         const qzo_trial_hooks *hooks);

#endif
