/* Asynchronous successive halving (Li et al. 2020): a free group takes the best trial that is among
 * the first n / eta of the n that came to its rung, from the highest rung down; else a new trial.
 * Nobody waits for a rung to fill. When nothing is left to start, each rung sends its best on, so
 * that one trial at least runs to its end; the others stop where they stand. */
#include "sweep/rung_table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PLACES_MAX = 100000000 };

/* A trial with the score that it had at a rung. */
typedef struct scored {
    double score;
    int64_t trial;
} scored;

/* The trials that came to a rung. */
typedef struct rung_state {
    scored *standing; /* (standing_count): heap of those that stand there, the best first */
    scored *left;     /* (left_count): those that went on or ended there, the best first */
    int64_t standing_count, left_count, went_on;
} rung_state;

typedef struct asha {
    qzo_rung_table *table;
    rung_state *rungs;
    scored *places; /* (2, rung_count, trial_count): of the rungs */
} asha;

static void asha_destroy(void *state) {
    asha *a = state;
    if (!a) return;
    qzo_rung_table_destroy(a->table);
    free(a->rungs);
    free(a->places);
    free(a);
}

static qzo_status asha_create(void **state, const qzo_scheduler_settings *settings) {
    qzo_status status = QZO_OK;
    int64_t trials = settings->trial_count, rungs = settings->rung_count;
    *state = NULL;
    if (trials > 0 && rungs > PLACES_MAX / trials)
        return qzo_fail(QZO_ERR_LIMIT,
                        "%" PRId64 " trials with %" PRId64 " rungs each, at most %d in all", trials,
                        rungs, PLACES_MAX);
    asha *a = calloc(1, sizeof *a);
    if (!a) return qzo_fail(QZO_ERR_MEMORY, "no memory for %" PRId64 " rungs", rungs);
    QZO_TRY(qzo_rung_table_create(&a->table, settings));
    a->table->prefers_higher = true;
    a->rungs = calloc((size_t)rungs + 1, sizeof *a->rungs);
    a->places = calloc((size_t)(2 * rungs * trials) + 1, sizeof *a->places);
    if (!a->rungs || !a->places) {
        status = qzo_fail(QZO_ERR_MEMORY, "no memory for %" PRId64 " rungs", rungs);
        goto cleanup;
    }
    for (int64_t r = 0; r < rungs; r++) {
        a->rungs[r].standing = a->places + 2 * r * trials;
        a->rungs[r].left = a->places + (2 * r + 1) * trials;
    }
    *state = a;
    a = NULL;
cleanup:
    asha_destroy(a);
    return status;
}

static bool is_better(const scored *a, const scored *b) {
    return qzo_rung_better(a->score, a->trial, b->score, b->trial);
}

static void swap(scored *a, scored *b) {
    scored kept = *a;
    *a = *b;
    *b = kept;
}

static void add_standing(rung_state *rung, scored entry) {
    scored *heap = rung->standing;
    int64_t at = rung->standing_count++;
    heap[at] = entry;
    for (; at > 0 && is_better(&heap[at], &heap[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&heap[at], &heap[(at - 1) / 2]);
}

static scored take_best(rung_state *rung) {
    scored *heap = rung->standing, best = heap[0];
    int64_t count = --rung->standing_count, at = 0;
    heap[0] = heap[count];
    for (;;) {
        int64_t next = 2 * at + 1;
        if (next + 1 < count && is_better(&heap[next + 1], &heap[next])) next++;
        if (next >= count || !is_better(&heap[next], &heap[at])) return best;
        swap(&heap[next], &heap[at]);
        at = next;
    }
}

/* How many of those that left the rung rank before the entry. */
static int64_t rank_among_left(const rung_state *rung, const scored *entry) {
    int64_t low = 0, high = rung->left_count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (is_better(&rung->left[middle], entry))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void add_left(rung_state *rung, scored entry) {
    int64_t at = rank_among_left(rung, &entry);
    memmove(&rung->left[at + 1], &rung->left[at],
            (size_t)(rung->left_count++ - at) * sizeof *rung->left);
    rung->left[at] = entry;
}

static bool promote(asha *a, bool at_the_end, qzo_action *out) {
    const qzo_scheduler_settings *s = a->table->settings;
    for (int64_t r = s->rung_count - 2; r >= 0; r--) {
        rung_state *rung = &a->rungs[r];
        if (rung->standing_count == 0) continue;
        /* Nobody who stands there is better than the best of them: its rank is among the others. */
        int64_t came = rung->standing_count + rung->left_count;
        bool is_first = rank_among_left(rung, &rung->standing[0]) < came / s->eta;
        if (!is_first && !(at_the_end && rung->went_on == 0)) continue;
        scored best = take_best(rung);
        add_left(rung, best);
        rung->went_on++;
        a->table->trials[best.trial].rung++;
        return qzo_rung_run(a->table, best.trial, out);
    }
    return false;
}

static bool asha_next(void *state, qzo_action *out) {
    asha *a = state;
    qzo_rung_table *table = a->table;
    if (qzo_rung_stop_one(table, out)) return true;
    if (promote(a, false, out) || qzo_rung_run_one(table, out)) return true;
    if (table->running_count > 0) return false;
    if (promote(a, true, out)) return true;
    for (int64_t r = 0; r < table->settings->rung_count; r++)
        while (a->rungs[r].standing_count > 0)
            qzo_rung_stop(table, a->rungs[r].standing[--a->rungs[r].standing_count].trial);
    return qzo_rung_stop_one(table, out);
}

static void asha_report(void *state, int64_t trial, qzo_report_kind kind, double score) {
    asha *a = state;
    rung_state *rung = &a->rungs[a->table->trials[trial].rung];
    (void)qzo_rung_table_report(a->table, trial, kind, score);
    if (kind == QZO_REPORT_RUNG) add_standing(rung, (scored){score, trial});
    if (kind == QZO_REPORT_ENDED) add_left(rung, (scored){score, trial});
}

static bool asha_done(const void *state) {
    const qzo_rung_table *table = ((const asha *)state)->table;
    return table->ended_count == table->settings->trial_count;
}

const qzo_scheduler_ops qzo_sched_asha = {
    .name = "asha",
    .help = "asynchronous successive halving: no group waits for a rung to fill",
    .has_rungs = true,
    .create = asha_create,
    .destroy = asha_destroy,
    .next = asha_next,
    .report = asha_report,
    .done = asha_done,
};
