/* One `qzo run`: a sweep file and an output folder, on all ranks of a world. What the folder
 * already holds is kept and continued; what the file no longer asks for is kept too. */
#ifndef QZO_SWEEP_RUN_H
#define QZO_SWEEP_RUN_H

#include "backend/backend.h"
#include "comm/peers.h"
#include "sweep/slice.h"
#include "sweep/sweep_spec.h"
#include "trial/journal.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct qzo_run_settings {
    const char *sweep_path;
    qzo_sweep_additions additions; /* to the sweep file */
    const char *out_folder;
    const char *job;  /* the scheduler's number of this job, or NULL */
    int64_t end_time; /* of the job, seconds since 1970; 0: none */
    qzo_slice slice;  /* zeroed: the whole sweep */
    bool retry;       /* trials that ended as `retried` are run anew */
    qzo_outcome retried;
    const char *version; /* of the program and its build; other ones are refused */
    qzo_comm *world;
    qzo_backend *backend;
    const char *backend_name;   /* as it was asked for, and */
    int thread_count;           /* of a rank: for the plan of its memory */
    qzo_pairs pairs;            /* as the backend was opened for */
    int64_t memory_limit_bytes; /* of a rank; 0: what its device has */
    qzo_transport_choice transport;
    double started_at; /* when the program began; base/clock.h */
    bool (*should_park)(void);
    void (*tick)(void *context); /* rank 0, often, while trials run; NULL: never */
    void *tick_context;
} qzo_run_settings;

/* What was there and what was done; on all ranks. */
typedef struct qzo_run_report {
    int64_t trial_count; /* of the slice */
    bool was_done;       /* earlier runs had ended all that the scheduler asks for */
} qzo_run_report;

/* Collective; the same status on all ranks. QZO_OK: every trial has ended, its journal says how. */
qzo_status qzo_sweep_run(qzo_run_report *out, const qzo_run_settings *settings);

#endif
