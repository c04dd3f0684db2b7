/* Median stopping: at every rung a trial goes on unless its score is worse than the median of the
 * scores that at least min_trials others had there. Trials run in the given order; one that goes on
 * comes before a new one, so that its group keeps it. */
#include "sweep/rung_table.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SCORES_MAX = 100000000 };

typedef struct median {
    qzo_rung_table *table;
    double *scores;  /* (rung_count, trial_count): of those that came to each rung, sorted */
    int64_t *counts; /* (rung_count) */
} median;

static void median_destroy(void *state) {
    median *m = state;
    if (!m) return;
    qzo_rung_table_destroy(m->table);
    free(m->scores);
    free(m->counts);
    free(m);
}

static qzo_status median_create(void **state, const qzo_scheduler_settings *settings) {
    qzo_status status = QZO_OK;
    int64_t trials = settings->trial_count, rungs = settings->rung_count;
    *state = NULL;
    if (trials > 0 && rungs > SCORES_MAX / trials)
        return qzo_fail(QZO_ERR_LIMIT,
                        "%" PRId64 " trials with %" PRId64 " evaluations each, at most %d in all",
                        trials, rungs, SCORES_MAX);
    median *m = calloc(1, sizeof *m);
    if (!m) return qzo_fail(QZO_ERR_MEMORY, "no memory for %" PRId64 " rungs", rungs);
    QZO_TRY(qzo_rung_table_create(&m->table, settings));
    m->table->prefers_higher = true;
    m->scores = calloc((size_t)(rungs * trials) + 1, sizeof *m->scores);
    m->counts = calloc((size_t)rungs + 1, sizeof *m->counts);
    if (!m->scores || !m->counts) {
        status = qzo_fail(QZO_ERR_MEMORY, "no memory for %" PRId64 " scores", rungs * trials);
        goto cleanup;
    }
    *state = m;
    m = NULL;
cleanup:
    median_destroy(m);
    return status;
}

static bool median_next(void *state, qzo_action *out) {
    qzo_rung_table *table = ((median *)state)->table;
    return qzo_rung_stop_one(table, out) || qzo_rung_run_one(table, out);
}

/* Smaller is better, NAN last. */
static bool is_better(double a, double b) { return a < b || (isnan(b) && !isnan(a)); }

/* How many scores at the rung are better; it is put among them. */
static int64_t add_score(median *m, int64_t rung, double score) {
    double *scores = m->scores + rung * m->table->settings->trial_count;
    int64_t low = 0, high = m->counts[rung]++;
    int64_t count = high;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (is_better(scores[middle], score))
            low = middle + 1;
        else
            high = middle;
    }
    memmove(&scores[low + 1], &scores[low], (size_t)(count - low) * sizeof *scores);
    scores[low] = score;
    return low;
}

/* Where more than half of the others' scores at the rung are better, and at least min_trials of
 * them are there, it is worse than their median. */
static void median_report(void *state, int64_t trial, qzo_report_kind kind, double score) {
    median *m = state;
    qzo_rung_trial *t = &m->table->trials[trial];
    bool asks = qzo_rung_table_report(m->table, trial, kind, score);
    if (kind == QZO_REPORT_PARKED) return;
    int64_t others = m->counts[t->rung], better = add_score(m, t->rung, score);
    if (!asks || kind != QZO_REPORT_RUNG) return;
    if (others >= m->table->settings->min_trials && 2 * better > others) {
        qzo_rung_stop(m->table, trial);
        return;
    }
    t->rung++;
    qzo_rung_wait(m->table, trial);
}

static bool median_done(const void *state) {
    const qzo_rung_table *table = ((const median *)state)->table;
    return table->ended_count == table->settings->trial_count;
}

const qzo_scheduler_ops qzo_sched_median = {
    .name = "median",
    .help = "stops a trial that is worse than the median of the others at the same step",
    .has_rungs = true,
    .create = median_create,
    .destroy = median_destroy,
    .next = median_next,
    .report = median_report,
    .done = median_done,
};
