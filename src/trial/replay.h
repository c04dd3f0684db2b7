/* Rebuilds a trial's masters from its journal: how trials resume, how ranks that disagree are
 * repaired, how any step of any trial can be seen again. */
#ifndef QZO_TRIAL_REPLAY_H
#define QZO_TRIAL_REPLAY_H

#include "trial/journal.h"
#include "trial/trial_spec.h"
#include "trial/workbench.h"

/* Where a journal stands. */
typedef struct qzo_progress {
    bool has_header, ended;
    qzo_outcome outcome;   /* where ended */
    int64_t last_step;     /* 0: none yet */
    int64_t last_dev_step; /* of the last dev evaluation; -1: none */
    bool has_test;
    bool collapsed;    /* the last step's losses are not finite, or exactly zero */
    uint64_t digest;   /* recorded after last_step (initial: the header's) */
    int64_t best_step; /* -1: none */
    double best_score, best_loss;
    char *arithmetic; /* of the last HEADER or CHANGE; fresh */
} qzo_progress;

void qzo_progress_release(qzo_progress *progress);

/* Replays the file's whole frames up to and with step until_step (INT64_MAX: all) on the masters of
 * the bench, starting from its initial values; the masters of the best dev evaluation are copied to
 * bench->best_host. Refuses a journal of another trial, model or number of values (QZO_ERR_FORMAT).
 * Computes nothing but updates: no loss, no GPU is needed. rule: reset, then told the records; NULL
 * where no step follows. */
qzo_status qzo_replay(qzo_progress *out, qzo_workbench *bench, qzo_rule *rule,
                      const qzo_journal_file *file, const qzo_trial_spec *spec, int64_t until_step);

/* The masters of step `step`, or, where it is -1, of the best dev evaluation, whose step goes to
 * *step. QZO_ERR_USAGE where the journal has no such step, QZO_ERR_CONFIG where the bench holds
 * other contents than the model that the trial started from. */
qzo_status qzo_replay_to(int64_t *step, qzo_workbench *bench, const qzo_journal_file *file,
                         const qzo_trial_spec *spec, const qzo_digest *base_digest);

/* Digest of the masters as they are now. */
qzo_status qzo_masters_digest(uint64_t *out, const qzo_trainable *trainable);

/* Whether a step's losses say that the trial is lost: one is not finite, or a pair is exactly 0. */
bool qzo_step_collapsed(const qzo_step *step);

#endif
