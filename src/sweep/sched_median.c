/* Median stopping: at every rung a trial goes on unless its score is worse than the median of the
 * scores that at least min_trials others had there. Trials run in the given order; one that goes on
 * comes before a new one, so that its group keeps it. */
#include "sweep/rung_table.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { SCORES_MAX = 100000000 };

static qzo_status median_create(void **state, const qzo_scheduler_settings *settings) {
    qzo_status status = qzo_rung_table_create(state, settings);
    if (status != QZO_OK) return status;
    qzo_rung_table *table = *state;
    int64_t trials = settings->trial_count;
    if (trials > 0 && settings->rung_count > SCORES_MAX / trials)
        return qzo_fail(QZO_ERR_LIMIT,
                        "%" PRId64 " trials with %" PRId64 " evaluations each, at most %d in all",
                        trials, settings->rung_count, SCORES_MAX);
    size_t cells = (size_t)(settings->rung_count * trials);
    table->scores = malloc((cells + 1) * sizeof *table->scores);
    if (!table->scores) return qzo_fail(QZO_ERR_MEMORY, "no memory for %zu scores", cells);
    for (size_t i = 0; i < cells; i++) table->scores[i] = (double)INFINITY; /* not there yet */
    return QZO_OK;
}

static bool median_next(void *state, qzo_action *out) {
    qzo_rung_table *table = state;
    int64_t best = -1;
    if (qzo_rung_stop_one(table, out)) return true;
    for (int64_t place = 0; place < table->settings->trial_count; place++) {
        int64_t trial = qzo_rung_trial_at(table, place);
        const qzo_rung_trial *t = &table->trials[trial];
        if (t->state == QZO_RUNG_WAITING && (best < 0 || t->rung > table->trials[best].rung))
            best = trial;
    }
    return best >= 0 && qzo_rung_run(table, best, out);
}

/* Whether more than half of the others' scores at the rung are better, and at least min_trials of
 * them are there: then it is worse than their median. */
static bool is_below_median(const qzo_rung_table *table, int64_t rung, int64_t trial) {
    int64_t count = table->settings->trial_count, others = 0, better = 0;
    const double *scores = table->scores + rung * count;
    for (int64_t i = 0; i < count; i++) {
        if (i == trial || (isinf(scores[i]) && scores[i] > 0)) continue;
        others++;
        better += scores[i] < scores[trial] || (isnan(scores[trial]) && !isnan(scores[i]));
    }
    return others >= table->settings->min_trials && 2 * better > others;
}

static void median_report(void *state, int64_t trial, qzo_report_kind kind, double score) {
    qzo_rung_table *table = state;
    qzo_rung_trial *t = &table->trials[trial];
    if (kind != QZO_REPORT_PARKED)
        table->scores[t->rung * table->settings->trial_count + trial] = score;
    if (!qzo_rung_table_report(table, trial, kind, score) || kind != QZO_REPORT_RUNG) return;
    bool stops = is_below_median(table, t->rung, trial);
    t->state = stops ? QZO_RUNG_TO_STOP : QZO_RUNG_WAITING;
    t->rung += !stops;
}

const qzo_scheduler_ops qzo_sched_median = {
    .name = "median",
    .help = "stops a trial that is worse than the median of the others at the same step",
    .has_rungs = true,
    .create = median_create,
    .destroy = qzo_rung_table_destroy,
    .next = median_next,
    .report = median_report,
    .done = qzo_rung_table_done,
};
