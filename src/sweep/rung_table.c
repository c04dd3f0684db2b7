#include "sweep/rung_table.h"

#include "base/check.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

qzo_status qzo_rung_table_create(qzo_rung_table **out, const qzo_scheduler_settings *settings) {
    size_t count = (size_t)settings->trial_count;
    qzo_rung_table *table = calloc(1, sizeof *table + count * sizeof table->trials[0]);
    int64_t *waiting = calloc(count + 1, sizeof *waiting);
    *out = table;
    if (!table || !waiting) {
        free(table);
        free(waiting);
        *out = NULL;
        return qzo_fail(QZO_ERR_MEMORY, "no memory to schedule %" PRId64 " trials",
                        settings->trial_count);
    }
    table->settings = settings;
    table->waiting = waiting;
    table->waiting_count = settings->trial_count;
    for (int64_t place = 0; place < settings->trial_count; place++) {
        waiting[place] = qzo_rung_trial_at(table, place); /* sorted, so it is a heap */
        table->trials[waiting[place]] = (qzo_rung_trial){.score = (double)NAN, .place = place};
    }
    return QZO_OK;
}

void qzo_rung_table_destroy(qzo_rung_table *table) {
    if (!table) return;
    free(table->waiting);
    free(table);
}

int64_t qzo_rung_trial_at(const qzo_rung_table *table, int64_t place) {
    return table->settings->order ? table->settings->order[place] : place;
}

/* --- those that wait --- */

static bool runs_before(const qzo_rung_table *table, int64_t a, int64_t b) {
    const qzo_rung_trial *x = &table->trials[a], *y = &table->trials[b];
    if (table->prefers_higher && x->rung != y->rung) return x->rung > y->rung;
    return x->place < y->place;
}

static void swap(int64_t *a, int64_t *b) {
    int64_t kept = *a;
    *a = *b;
    *b = kept;
}

void qzo_rung_wait(qzo_rung_table *table, int64_t trial) {
    int64_t *heap = table->waiting, at = table->waiting_count++;
    QZO_ASSERT(at < table->settings->trial_count);
    table->trials[trial].state = QZO_RUNG_WAITING;
    heap[at] = trial;
    for (; at > 0 && runs_before(table, heap[at], heap[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&heap[at], &heap[(at - 1) / 2]);
}

static int64_t take_first(qzo_rung_table *table) {
    int64_t *heap = table->waiting, first = heap[0], count = --table->waiting_count, at = 0;
    heap[0] = heap[count];
    for (;;) {
        int64_t next = 2 * at + 1;
        if (next + 1 < count && runs_before(table, heap[next + 1], heap[next])) next++;
        if (next >= count || !runs_before(table, heap[next], heap[at])) return first;
        swap(&heap[next], &heap[at]);
        at = next;
    }
}

bool qzo_rung_run_one(qzo_rung_table *table, qzo_action *out) {
    while (table->waiting_count > 0) {
        int64_t trial = take_first(table);
        if (table->trials[trial].state == QZO_RUNG_WAITING) return qzo_rung_run(table, trial, out);
    }
    return false;
}

bool qzo_rung_run(qzo_rung_table *table, int64_t trial, qzo_action *out) {
    qzo_rung_trial *t = &table->trials[trial];
    *out = (qzo_action){.kind = QZO_ACTION_RUN, .trial = trial, .rung = t->rung};
    t->state = QZO_RUNG_RUNNING;
    table->running_count++;
    return true;
}

/* --- reports --- */

bool qzo_rung_table_report(qzo_rung_table *table, int64_t trial, qzo_report_kind kind,
                           double score) {
    qzo_rung_trial *t = &table->trials[trial];
    QZO_ASSERT(trial >= 0);
    QZO_ASSERT(trial < table->settings->trial_count);
    QZO_ASSERT(t->state == QZO_RUNG_RUNNING || t->state == QZO_RUNG_WAITING);
    bool was_running = t->state == QZO_RUNG_RUNNING;
    if (was_running) table->running_count--;
    if (kind == QZO_REPORT_PARKED) {
        if (was_running) qzo_rung_wait(table, trial);
        return false;
    }
    t->score = score;
    t->state = kind == QZO_REPORT_RUNG ? QZO_RUNG_REACHED : QZO_RUNG_ENDED;
    if (kind == QZO_REPORT_ENDED) table->ended_count++;
    return was_running;
}

/* --- those that stop --- */

void qzo_rung_stop(qzo_rung_table *table, int64_t trial) {
    table->trials[trial].state = QZO_RUNG_TO_STOP;
    if (table->stop_count++ == 0 || trial < table->stop_first) table->stop_first = trial;
}

bool qzo_rung_stop_one(qzo_rung_table *table, qzo_action *out) {
    if (table->stop_count == 0) return false;
    int64_t trial = table->stop_first;
    while (table->trials[trial].state != QZO_RUNG_TO_STOP) trial++;
    *out = (qzo_action){.kind = QZO_ACTION_STOP, .trial = trial, .rung = table->trials[trial].rung};
    table->trials[trial].state = QZO_RUNG_ENDED;
    table->ended_count++;
    table->stop_count--;
    table->stop_first = trial + 1;
    return true;
}

bool qzo_rung_better(double score_a, int64_t trial_a, double score_b, int64_t trial_b) {
    if (isnan(score_a) != isnan(score_b)) return isnan(score_b);
    if (score_a < score_b || score_b < score_a) return score_a < score_b;
    return trial_a < trial_b;
}
