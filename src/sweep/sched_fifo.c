/* The given order, every trial to its end. A trial that was parked or lost comes again before later
 * ones: the first rows of the table fill first, whatever happens to the machines. */
#include "sweep/scheduler.h"

#include "base/check.h"

#include <inttypes.h>
#include <stdlib.h>

typedef enum { TRIAL_WAITING, TRIAL_RUNNING, TRIAL_ENDED } trial_state;

typedef struct fifo {
    const qzo_scheduler_settings *settings;
    int64_t trial_count;
    int64_t ended_count;
    int64_t first_place; /* in the order; none before it waits */
    unsigned char states[];
} fifo;

static qzo_status fifo_create(void **state, const qzo_scheduler_settings *settings) {
    int64_t trial_count = settings->trial_count;
    QZO_ASSERT(trial_count >= 0);
    fifo *f = calloc(1, sizeof *f + (size_t)trial_count); /* TRIAL_WAITING is 0 */
    *state = f;
    if (!f)
        return qzo_fail(QZO_ERR_MEMORY, "no memory to schedule %" PRId64 " trials", trial_count);
    f->settings = settings;
    f->trial_count = trial_count;
    return QZO_OK;
}

static int64_t trial_at(const fifo *f, int64_t place) {
    return f->settings->order ? f->settings->order[place] : place;
}

static bool fifo_next(void *state, qzo_action *out) {
    fifo *f = state;
    while (f->first_place < f->trial_count &&
           f->states[trial_at(f, f->first_place)] != TRIAL_WAITING)
        f->first_place++;
    if (f->first_place == f->trial_count) return false;
    *out = (qzo_action){.kind = QZO_ACTION_RUN,
                        .trial = trial_at(f, f->first_place),
                        .rung = f->settings->rung_count - 1};
    f->states[out->trial] = TRIAL_RUNNING;
    return true;
}

static void fifo_report(void *state, int64_t trial, qzo_report_kind kind, double score) {
    fifo *f = state;
    (void)score;
    QZO_ASSERT(trial >= 0);
    QZO_ASSERT(trial < f->trial_count);
    QZO_ASSERT(f->states[trial] != TRIAL_ENDED);
    if (kind == QZO_REPORT_PARKED) {
        f->states[trial] = TRIAL_WAITING;
        f->first_place = 0; /* parking is rare: its place is looked for again */
        return;
    }
    f->states[trial] = TRIAL_ENDED;
    f->ended_count++;
}

static bool fifo_done(const void *state) {
    const fifo *f = state;
    return f->ended_count == f->trial_count;
}

const qzo_scheduler_ops qzo_sched_fifo = {
    .name = "fifo",
    .help = "every trial to its end, in the order of the table",
    .create = fifo_create,
    .destroy = free,
    .next = fifo_next,
    .report = fifo_report,
    .done = fifo_done,
};
