/* Faults on purpose (`qzo run --inject-fault KIND:RANK@AT`): what a cluster does to a job sooner or
 * later, done at a known place, so that tests and careful users see how a run survives it.
 *
 *   kill:R@S         rank R kills itself (SIGKILL) before step S of a trial
 *   corrupt:R@S      rank R changes one trainable value before step S
 *   delay:R@S        rank R sleeps for two seconds before step S
 *   nan-loss:R@S     a loss that rank R computes in step S is NaN
 *   zero-loss:R@S    the losses that rank R computes in step S are exactly 0
 *   update-error:R@S the device of rank R fails while it applies step S
 *   write-error:R@N  the N-th write to a file by rank R fails as on a full disk
 *   short-read:R@N   the N-th file that rank R reads whole ends after half of its bytes
 *   fork-error:R@N   rank R has no memory for the N-th fork that it is told of
 *
 * Each fault happens once per process. Without --inject-fault every question is answered no. */
#ifndef QZO_BASE_FAULT_H
#define QZO_BASE_FAULT_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    QZO_FAULT_KILL,
    QZO_FAULT_CORRUPT,
    QZO_FAULT_DELAY,
    QZO_FAULT_NAN_LOSS,
    QZO_FAULT_ZERO_LOSS,
    QZO_FAULT_UPDATE_ERROR,
    QZO_FAULT_WRITE_ERROR,
    QZO_FAULT_SHORT_READ,
    QZO_FAULT_FORK_ERROR,
    QZO_FAULT_COUNT
} qzo_fault_kind;

enum { QZO_FAULTS_MAX = 32 };

/* Adds one fault; QZO_ERR_USAGE says what was expected. */
qzo_status qzo_fault_add(const char *text);

/* Which rank this process is; faults of other ranks never happen here. 0 until told. */
void qzo_fault_set_rank(int rank);

/* Whether a fault of this kind is due at a step; then it is spent. */
bool qzo_fault_at_step(qzo_fault_kind kind, int64_t step);

/* Counts one occasion (a write, a read, a fork); whether the fault is due at it. */
bool qzo_fault_on_occasion(qzo_fault_kind kind);

/* As qzo_fault_at_step, but a zero-loss fault is not spent: it lasts for the whole step. */
bool qzo_fault_during_step(qzo_fault_kind kind, int64_t step);

#endif
