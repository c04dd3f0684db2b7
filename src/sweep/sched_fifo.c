/* Grid order, every trial to its end. A trial that was parked or lost comes again before later
 * ones: the first rows of the table fill first, whatever happens to the machines. */
#include "sweep/scheduler.h"

#include "base/check.h"

#include <inttypes.h>
#include <stdlib.h>

typedef enum { TRIAL_WAITING, TRIAL_RUNNING, TRIAL_ENDED } trial_state;

typedef struct fifo {
    int64_t trial_count;
    int64_t ended_count;
    int64_t first_waiting; /* none before it waits */
    unsigned char states[];
} fifo;

static qzo_status fifo_create(void **state, int64_t trial_count) {
    QZO_ASSERT(trial_count >= 0);
    fifo *f = calloc(1, sizeof *f + (size_t)trial_count); /* TRIAL_WAITING is 0 */
    *state = f;
    if (!f)
        return qzo_fail(QZO_ERR_MEMORY, "no memory to schedule %" PRId64 " trials", trial_count);
    f->trial_count = trial_count;
    return QZO_OK;
}

static bool fifo_next(void *state, int64_t *trial) {
    fifo *f = state;
    while (f->first_waiting < f->trial_count && f->states[f->first_waiting] != TRIAL_WAITING)
        f->first_waiting++;
    if (f->first_waiting == f->trial_count) return false;
    f->states[f->first_waiting] = TRIAL_RUNNING;
    *trial = f->first_waiting;
    return true;
}

static void fifo_report(void *state, int64_t trial, qzo_status outcome, double score) {
    fifo *f = state;
    (void)score;
    QZO_ASSERT(trial >= 0);
    QZO_ASSERT(trial < f->trial_count);
    QZO_ASSERT(f->states[trial] != TRIAL_ENDED);
    if (outcome == QZO_ERR_INTERRUPTED) {
        f->states[trial] = TRIAL_WAITING;
        if (trial < f->first_waiting) f->first_waiting = trial;
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
    .create = fifo_create,
    .destroy = free,
    .next = fifo_next,
    .report = fifo_report,
    .done = fifo_done,
};
