/* Hyperband with synchronous rungs (Li et al. 2018; one bracket is successive halving). The trials
 * of a bracket all come to a rung before the best floor(n / eta) of its n go on, at least one; the
 * others stop. Bracket b skips the first b rungs. Nothing depends on who comes first, so an
 * interrupted sweep ends as an undisturbed one, byte for byte. */
#include "sweep/rung_table.h"

#include <math.h>
#include <stdlib.h>

typedef struct hyperband {
    qzo_rung_table *table;
    int64_t *members;      /* (trial_count): the trials of bracket 0, 1, ... */
    int64_t *first;        /* (brackets + 1): of each bracket in them */
    int64_t *coming;       /* (brackets): on their way to the bracket's rung, or waiting */
    qzo_rung_trial **here; /* (trial_count): while a rung is decided */
} hyperband;

static void hyperband_destroy(void *state) {
    hyperband *h = state;
    if (!h) return;
    qzo_rung_table_destroy(h->table);
    free(h->members);
    free(h->first);
    free(h->coming);
    free(h->here);
    free(h);
}

static int64_t bracket_count(const qzo_scheduler_settings *s) {
    return s->brackets < s->rung_count ? s->brackets : s->rung_count;
}

/* Deals trials to brackets in proportion to Hyperband's numbers, eta^s / (s + 1) for the bracket
 * that halves s times: each trial to the bracket that lacks most. */
static qzo_status deal(hyperband *h, const qzo_scheduler_settings *s) {
    int64_t brackets = bracket_count(s);
    double *weights = calloc((size_t)brackets, sizeof *weights);
    if (!weights) return qzo_fail(QZO_ERR_MEMORY, "no memory for brackets");
    for (int64_t b = 0; b < brackets; b++) {
        int64_t halvings = s->rung_count - 1 - b;
        weights[b] = 1.0 / (double)(halvings + 1);
        for (int64_t i = 0; i < halvings; i++) weights[b] *= (double)s->eta;
    }
    for (int64_t place = 0; place < s->trial_count; place++) {
        int64_t best = 0;
        for (int64_t b = 1; b < brackets; b++)
            if ((double)(h->coming[b] + 1) / weights[b] <
                (double)(h->coming[best] + 1) / weights[best])
                best = b;
        h->coming[best]++;
        qzo_rung_trial *trial = &h->table->trials[qzo_rung_trial_at(h->table, place)];
        trial->bracket = trial->rung = best;
    }
    free(weights);
    return QZO_OK;
}

/* Sorted by bracket; places in `first` move up while it is filled, and back. */
static void list_members(hyperband *h, const qzo_scheduler_settings *s) {
    int64_t brackets = bracket_count(s);
    for (int64_t b = 0; b < brackets; b++) h->first[b + 1] = h->first[b] + h->coming[b];
    for (int64_t i = 0; i < s->trial_count; i++)
        h->members[h->first[h->table->trials[i].bracket]++] = i;
    for (int64_t b = brackets; b > 0; b--) h->first[b] = h->first[b - 1];
    h->first[0] = 0;
}

static qzo_status hyperband_create(void **state, const qzo_scheduler_settings *settings) {
    qzo_status status = QZO_OK;
    size_t count = (size_t)settings->trial_count + 1;
    size_t brackets = (size_t)bracket_count(settings) + 1;
    hyperband *h = calloc(1, sizeof *h);
    *state = NULL;
    if (!h) return qzo_fail(QZO_ERR_MEMORY, "no memory for brackets");
    QZO_TRY(qzo_rung_table_create(&h->table, settings));
    h->members = calloc(count, sizeof *h->members);
    h->first = calloc(brackets, sizeof *h->first);
    h->coming = calloc(brackets, sizeof *h->coming);
    h->here = calloc(count, sizeof(qzo_rung_trial *));
    if (!h->members || !h->first || !h->coming || !h->here) {
        status = qzo_fail(QZO_ERR_MEMORY, "no memory for the brackets of %lld trials",
                          (long long)settings->trial_count);
        goto cleanup;
    }
    QZO_TRY(deal(h, settings));
    list_members(h, settings);
    *state = h;
    h = NULL;
cleanup:
    hyperband_destroy(h);
    return status;
}

static bool hyperband_next(void *state, qzo_action *out) {
    qzo_rung_table *table = ((hyperband *)state)->table;
    return qzo_rung_stop_one(table, out) || qzo_rung_run_one(table, out);
}

/* Of one table, so that the earlier row has the lower address. */
static int by_rank(const void *a, const void *b) {
    const qzo_rung_trial *x = *(qzo_rung_trial *const *)a, *y = *(qzo_rung_trial *const *)b;
    return qzo_rung_better(x->score, x > y, y->score, y > x) ? -1 : 1;
}

/* All of a bracket have come to its rung: its best go on. */
static void decide_rung(hyperband *h, int64_t bracket, int64_t rung) {
    qzo_rung_table *table = h->table;
    int64_t came = 0, live = 0; /* came: also those that diverged on the way */
    for (int64_t i = h->first[bracket]; i < h->first[bracket + 1]; i++) {
        qzo_rung_trial *t = &table->trials[h->members[i]];
        came += t->rung == rung;
        if (t->rung == rung && t->state == QZO_RUNG_REACHED) h->here[live++] = t;
    }
    int64_t kept = came / table->settings->eta > 0 ? came / table->settings->eta : 1;
    qsort(h->here, (size_t)live, sizeof(qzo_rung_trial *), by_rank);
    for (int64_t rank = 0; rank < live; rank++) {
        int64_t trial = h->here[rank] - table->trials;
        if (rank < kept) {
            h->here[rank]->rung++;
            h->coming[bracket]++;
            qzo_rung_wait(table, trial);
        } else {
            qzo_rung_stop(table, trial);
        }
    }
}

/* Survivors of a rung are fewer than its trials: they get all the ranks. */
static int64_t hyperband_waiting(const void *state) {
    const qzo_rung_table *table = ((const hyperband *)state)->table;
    int64_t count = 0;
    for (int64_t i = 0; i < table->waiting_count; i++)
        count += table->trials[table->waiting[i]].state == QZO_RUNG_WAITING;
    return count;
}

static void hyperband_report(void *state, int64_t trial, qzo_report_kind kind, double score) {
    hyperband *h = state;
    int64_t bracket = h->table->trials[trial].bracket, rung = h->table->trials[trial].rung;
    bool asks = qzo_rung_table_report(h->table, trial, kind, score);
    if (kind != QZO_REPORT_PARKED) h->coming[bracket]--;
    if (asks && h->coming[bracket] == 0) decide_rung(h, bracket, rung);
}

static bool hyperband_done(const void *state) {
    const qzo_rung_table *table = ((const hyperband *)state)->table;
    return table->ended_count == table->settings->trial_count;
}

const qzo_scheduler_ops qzo_sched_hyperband = {
    .name = "hyperband",
    .help = "successive halving with synchronous rungs, in one or more brackets",
    .has_rungs = true,
    .create = hyperband_create,
    .destroy = hyperband_destroy,
    .next = hyperband_next,
    .report = hyperband_report,
    .done = hyperband_done,
    .waiting = hyperband_waiting,
};
