#include "sweep/rung_table.h"

#include "base/check.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

qzo_status qzo_rung_table_create(void **out, const qzo_scheduler_settings *settings) {
    size_t count = (size_t)settings->trial_count;
    qzo_rung_table *table = calloc(1, sizeof *table + count * sizeof table->trials[0]);
    *out = table;
    if (!table)
        return qzo_fail(QZO_ERR_MEMORY, "no memory to schedule %" PRId64 " trials",
                        settings->trial_count);
    table->settings = settings;
    for (size_t i = 0; i < count; i++) table->trials[i].score = (double)NAN;
    return QZO_OK;
}

void qzo_rung_table_destroy(void *table) {
    if (!table) return;
    free(((qzo_rung_table *)table)->scores);
    free(table);
}

bool qzo_rung_table_done(const void *state) {
    const qzo_rung_table *table = state;
    return table->ended_count == table->settings->trial_count;
}

int64_t qzo_rung_trial_at(const qzo_rung_table *table, int64_t place) {
    return table->settings->order ? table->settings->order[place] : place;
}

bool qzo_rung_table_report(qzo_rung_table *table, int64_t trial, qzo_report_kind kind,
                           double score) {
    qzo_rung_trial *t = &table->trials[trial];
    QZO_ASSERT(trial >= 0);
    QZO_ASSERT(trial < table->settings->trial_count);
    QZO_ASSERT(t->state == QZO_RUNG_RUNNING || t->state == QZO_RUNG_WAITING);
    bool was_running = t->state == QZO_RUNG_RUNNING;
    if (was_running) table->running_count--;
    if (kind == QZO_REPORT_PARKED) {
        t->state = QZO_RUNG_WAITING;
        return false;
    }
    t->score = score;
    t->state = kind == QZO_REPORT_RUNG ? QZO_RUNG_REACHED : QZO_RUNG_ENDED;
    if (kind == QZO_REPORT_ENDED) table->ended_count++;
    return was_running;
}

bool qzo_rung_stop_one(qzo_rung_table *table, qzo_action *out) {
    for (int64_t i = 0; i < table->settings->trial_count; i++) {
        qzo_rung_trial *t = &table->trials[i];
        if (t->state != QZO_RUNG_TO_STOP) continue;
        *out = (qzo_action){.kind = QZO_ACTION_STOP, .trial = i, .rung = t->rung};
        t->state = QZO_RUNG_ENDED;
        table->ended_count++;
        return true;
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

bool qzo_rung_better(double score_a, int64_t trial_a, double score_b, int64_t trial_b) {
    if (isnan(score_a) != isnan(score_b)) return isnan(score_b);
    if (score_a < score_b || score_b < score_a) return score_a < score_b;
    return trial_a < trial_b;
}
