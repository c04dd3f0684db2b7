/* Hyperband with synchronous rungs (Li et al. 2018; one bracket is successive halving). The trials
 * of a bracket all come to a rung before the best floor(n / eta) of its n go on, at least one; the
 * others stop. Bracket b skips the first b rungs. Nothing depends on who comes first, so an
 * interrupted sweep ends as an undisturbed one, byte for byte. */
#include "sweep/rung_table.h"

#include <math.h>
#include <stdlib.h>

/* Deals trials to brackets in proportion to Hyperband's numbers, eta^s / (s + 1) for the bracket
 * that halves s times: each trial to the bracket that lacks most. */
static qzo_status deal(qzo_rung_table *table) {
    const qzo_scheduler_settings *s = table->settings;
    int64_t brackets = s->brackets < s->rung_count ? s->brackets : s->rung_count;
    double *weights = calloc((size_t)brackets, sizeof *weights);
    double *counts = calloc((size_t)brackets, sizeof *counts);
    bool has_memory = weights && counts;
    for (int64_t b = 0; has_memory && b < brackets; b++) {
        int64_t halvings = s->rung_count - 1 - b;
        weights[b] = 1.0 / (double)(halvings + 1);
        for (int64_t i = 0; i < halvings; i++) weights[b] *= (double)s->eta;
    }
    for (int64_t place = 0; has_memory && place < s->trial_count; place++) {
        int64_t best = 0;
        for (int64_t b = 1; b < brackets; b++)
            if ((counts[b] + 1) / weights[b] < (counts[best] + 1) / weights[best]) best = b;
        counts[best]++;
        qzo_rung_trial *trial = &table->trials[qzo_rung_trial_at(table, place)];
        trial->bracket = trial->rung = best;
    }
    free(weights);
    free(counts);
    return has_memory ? QZO_OK : qzo_fail(QZO_ERR_MEMORY, "no memory for brackets");
}

static qzo_status hyperband_create(void **state, const qzo_scheduler_settings *settings) {
    qzo_status status = qzo_rung_table_create(state, settings);
    return status == QZO_OK ? deal(*state) : status;
}

static bool hyperband_next(void *state, qzo_action *out) {
    qzo_rung_table *table = state;
    if (qzo_rung_stop_one(table, out)) return true;
    for (int64_t place = 0; place < table->settings->trial_count; place++) {
        int64_t trial = qzo_rung_trial_at(table, place);
        if (table->trials[trial].state == QZO_RUNG_WAITING) return qzo_rung_run(table, trial, out);
    }
    return false;
}

/* How many trials of the rung rank before this one. */
static int64_t rank_of(const qzo_rung_table *table, int64_t trial) {
    const qzo_rung_trial *t = &table->trials[trial];
    int64_t rank = 0;
    for (int64_t i = 0; i < table->settings->trial_count; i++) {
        const qzo_rung_trial *other = &table->trials[i];
        if (other->bracket == t->bracket && other->rung == t->rung &&
            other->state == QZO_RUNG_REACHED)
            rank += qzo_rung_better(other->score, i, t->score, trial);
    }
    return rank;
}

static void decide_rung(qzo_rung_table *table, int64_t bracket, int64_t rung) {
    const qzo_scheduler_settings *s = table->settings;
    int64_t count = 0;
    for (int64_t i = 0; i < s->trial_count; i++) {
        const qzo_rung_trial *t = &table->trials[i];
        if (t->bracket != bracket || t->rung != rung) continue;
        if (t->state == QZO_RUNG_WAITING || t->state == QZO_RUNG_RUNNING) return;
        count++; /* also those that diverged on the way */
    }
    int64_t kept = count / s->eta > 0 ? count / s->eta : 1;
    int64_t *ranks = calloc((size_t)s->trial_count + 1, sizeof *ranks);
    for (int64_t i = 0; i < s->trial_count; i++) {
        const qzo_rung_trial *t = &table->trials[i];
        bool is_here = t->bracket == bracket && t->rung == rung && t->state == QZO_RUNG_REACHED;
        if (ranks) ranks[i] = is_here ? rank_of(table, i) : -1;
    }
    for (int64_t i = 0; ranks && i < s->trial_count; i++) {
        qzo_rung_trial *t = &table->trials[i];
        if (ranks[i] < 0) continue;
        t->state = ranks[i] < kept ? QZO_RUNG_WAITING : QZO_RUNG_TO_STOP;
        t->rung += ranks[i] < kept;
    }
    free(ranks);
}

/* Survivors of a rung are fewer than its trials: they get all the ranks. */
static int64_t hyperband_waiting(const void *state) {
    const qzo_rung_table *table = state;
    int64_t count = 0;
    for (int64_t i = 0; i < table->settings->trial_count; i++)
        count += table->trials[i].state == QZO_RUNG_WAITING;
    return count;
}

static void hyperband_report(void *state, int64_t trial, qzo_report_kind kind, double score) {
    qzo_rung_table *table = state;
    const qzo_rung_trial *t = &table->trials[trial];
    int64_t bracket = t->bracket, rung = t->rung;
    if (qzo_rung_table_report(table, trial, kind, score)) decide_rung(table, bracket, rung);
}

const qzo_scheduler_ops qzo_sched_hyperband = {
    .name = "hyperband",
    .help = "successive halving with synchronous rungs, in one or more brackets",
    .has_rungs = true,
    .create = hyperband_create,
    .destroy = qzo_rung_table_destroy,
    .next = hyperband_next,
    .report = hyperband_report,
    .done = qzo_rung_table_done,
    .waiting = hyperband_waiting,
};
