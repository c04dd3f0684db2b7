/* Asynchronous successive halving (Li et al. 2020): a free group takes the best trial that is among
 * the first n / eta of the n that came to its rung, from the highest rung down; else a new trial.
 * Nobody waits for a rung to fill. When nothing is left to start, each rung sends its best on, so
 * that one trial at least runs to its end; the others stop where they stand. */
#include "sweep/rung_table.h"

#include <stdlib.h>

/* Whether the trial has a result at a rung: it stands there or went on from it. */
static bool came_to(const qzo_rung_trial *t, int64_t rung) {
    bool is_between = t->state == QZO_RUNG_WAITING || t->state == QZO_RUNG_RUNNING;
    return t->rung > rung || (t->rung == rung && !is_between);
}

/* Its result there. */
static double score_at(const qzo_rung_table *table, int64_t rung, int64_t trial) {
    return table->scores[rung * table->settings->trial_count + trial];
}

static qzo_status asha_create(void **state, const qzo_scheduler_settings *settings) {
    qzo_status status = qzo_rung_table_create(state, settings);
    if (status != QZO_OK) return status;
    qzo_rung_table *table = *state;
    size_t cells = (size_t)(settings->rung_count * settings->trial_count);
    table->scores = calloc(cells + 1, sizeof *table->scores);
    return table->scores ? QZO_OK : qzo_fail(QZO_ERR_MEMORY, "no memory for %zu scores", cells);
}

/* The trials that came to a rung, how many went on, and the best that stands there; -1: none. */
typedef struct rung_view {
    int64_t came, went_on, best;
} rung_view;

static rung_view look_at(const qzo_rung_table *table, int64_t rung) {
    rung_view view = {.best = -1};
    for (int64_t i = 0; i < table->settings->trial_count; i++) {
        const qzo_rung_trial *t = &table->trials[i];
        if (!came_to(t, rung)) continue;
        view.came++;
        view.went_on += t->rung > rung;
        if (t->rung == rung && t->state == QZO_RUNG_REACHED &&
            (view.best < 0 || qzo_rung_better(score_at(table, rung, i), i,
                                              score_at(table, rung, view.best), view.best)))
            view.best = i;
    }
    return view;
}

/* How many of those that came to the rung rank before the trial. */
static int64_t rank_of(const qzo_rung_table *table, int64_t rung, int64_t trial) {
    int64_t rank = 0;
    for (int64_t i = 0; i < table->settings->trial_count; i++)
        if (came_to(&table->trials[i], rung))
            rank +=
                qzo_rung_better(score_at(table, rung, i), i, score_at(table, rung, trial), trial);
    return rank;
}

static bool promote(qzo_rung_table *table, bool at_the_end, qzo_action *out) {
    for (int64_t rung = table->settings->rung_count - 2; rung >= 0; rung--) {
        rung_view view = look_at(table, rung);
        if (view.best < 0) continue;
        bool is_first = rank_of(table, rung, view.best) < view.came / table->settings->eta;
        if (!is_first && !(at_the_end && view.went_on == 0)) continue;
        table->trials[view.best].rung++;
        return qzo_rung_run(table, view.best, out);
    }
    return false;
}

static bool start_waiting(qzo_rung_table *table, qzo_action *out) {
    int64_t best = -1;
    for (int64_t place = 0; place < table->settings->trial_count; place++) {
        int64_t trial = qzo_rung_trial_at(table, place);
        const qzo_rung_trial *t = &table->trials[trial];
        if (t->state == QZO_RUNG_WAITING && (best < 0 || t->rung > table->trials[best].rung))
            best = trial; /* one that was parked on its way up comes first */
    }
    return best >= 0 && qzo_rung_run(table, best, out);
}

static bool asha_next(void *state, qzo_action *out) {
    qzo_rung_table *table = state;
    if (qzo_rung_stop_one(table, out)) return true;
    if (promote(table, false, out) || start_waiting(table, out)) return true;
    if (table->running_count > 0) return false;
    if (promote(table, true, out)) return true;
    for (int64_t i = 0; i < table->settings->trial_count; i++)
        if (table->trials[i].state == QZO_RUNG_REACHED) table->trials[i].state = QZO_RUNG_TO_STOP;
    return qzo_rung_stop_one(table, out);
}

static void asha_report(void *state, int64_t trial, qzo_report_kind kind, double score) {
    qzo_rung_table *table = state;
    if (kind != QZO_REPORT_PARKED)
        table->scores[table->trials[trial].rung * table->settings->trial_count + trial] = score;
    (void)qzo_rung_table_report(table, trial, kind, score);
}

const qzo_scheduler_ops qzo_sched_asha = {
    .name = "asha",
    .help = "asynchronous successive halving: no group waits for a rung to fill",
    .has_rungs = true,
    .create = asha_create,
    .destroy = qzo_rung_table_destroy,
    .next = asha_next,
    .report = asha_report,
    .done = qzo_rung_table_done,
};
