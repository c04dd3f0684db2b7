/* qzo run SWEEP.yaml --out DIR: alone, under mpirun or under srun. */
#include "cli/cli.h"
#include "cli/live.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "sweep/results.h"
#include "sweep/run.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A handler may do nothing more than this; the flag travels in the next record. */
static volatile sig_atomic_t park_requested;

static void request_park(int number) {
    (void)number;
    park_requested = 1;
}

static bool should_park(void) { return park_requested != 0; }

/* USR2 and TERM park; USR1 too, since some sites send it. */
static void watch_signals(void) {
    static const int numbers[] = {SIGTERM, SIGUSR1, SIGUSR2};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = request_park;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error of write, like a full disk */
}

/* "KIND:RANK@AT,..." to the faults of this process. */
static qzo_status add_faults(const char *list, int rank) {
    char one[64];
    qzo_fault_set_rank(rank);
    for (const char *at = list; at != NULL && *at != '\0';) {
        size_t length = strcspn(at, ",");
        snprintf(one, sizeof one, "%.*s", (int)(length < sizeof one ? length : sizeof one - 1), at);
        qzo_status status = qzo_fault_add(one);
        if (status != QZO_OK) return status;
        at += length + (at[length] == ',');
    }
    return QZO_OK;
}

static qzo_status open_world(qzo_comm **world, qzo_backend **backend, int *threads,
                             const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_launch launch = qzo_environment_launch();
    int local_rank = 0, local_size = 1;
    watch_signals(); /* a job may be stopped while its ranks still gather */
    QZO_TRY(qzo_comm_world_open(world, &launch));
    qzo_log_configure(options->log_level, (*world)->rank, (*world)->size);
    QZO_TRY(add_faults(options->faults, (*world)->rank));
    watch_signals(); /* again after MPI_Init, which may set its own */
    qzo_bus_error_watch();
    QZO_TRY(qzo_comm_local_rank(*world, &local_rank, &local_size));
    *threads = qzo_threads(options, local_size);
    qzo_backend_options backend_options = {
        .pairs = options->pairs, .thread_count = *threads, .local_rank = local_rank};
    status = qzo_backend_open(backend, options->backend_name, &backend_options);
    QZO_TRY(qzo_comm_worst_status(*world, status));
    if ((*world)->rank == 0)
        qzo_log_info("%d ranks, %d threads each, backend %s (%s)", (*world)->size, *threads,
                     (*backend)->ops->name, (*backend)->ops->arithmetic(*backend));
cleanup:
    return status;
}

/* --- the table that redraws in place, on rank 0 --- */

static const double REDRAW_SECONDS = 0.5;

typedef struct display {
    const char *folder;
    qzo_live *live;
    double drawn_at;
} display;

/* A table that cannot be drawn is no reason to stop a sweep: it is tried again later. */
static void draw(void *context) {
    display *d = context;
    double now = qzo_clock_seconds();
    if (now - d->drawn_at < REDRAW_SECONDS) return;
    d->drawn_at = now;
    qzo_status status =
        d->live == NULL ? qzo_live_open(&d->live, d->folder) : qzo_live_refresh(d->live);
    if (status == QZO_OK) qzo_live_redraw(d->live, stderr);
}

static bool wants_table(const qzo_options *options) {
    if (strcmp(options->progress_name, "auto") != 0)
        return strcmp(options->progress_name, "table") == 0;
    return isatty(STDERR_FILENO) && options->log_level == QZO_LOG_INFO;
}

/* On rank 0: the table, and the exit code that the trials' outcomes give. */
static int show_results(const qzo_options *options, const qzo_run_report *report,
                        const qzo_slice *slice) {
    qzo_results *results = NULL;
    qzo_status status = qzo_results_load(&results, options->out_folder);
    if (status != QZO_OK) return qzo_exit_report(status, options);
    int code = QZO_EXIT_OK;
    for (int64_t i = 0; i < results->row_count; i++) {
        const char *name = results->rows[i].status; /* failed also where a journal is unreadable */
        if (qzo_slice_has(slice, i) &&
            (strcmp(name, "diverged") == 0 || strcmp(name, "failed") == 0 ||
             strcmp(name, "waiting") == 0)) /* its journal is whole and cannot be gone on with */
            code = QZO_EXIT_TRIALS;
    }
    if (!options->quiet) {
        if (report->was_done)
            printf("All %lld trials%s had ended already: nothing to do.\n",
                   (long long)report->trial_count,
                   qzo_slice_is_whole(slice) ? "" : " of the slice");
        qzo_table_print(stdout, results);
    }
    qzo_results_free(results);
    return fflush(stdout) == 0 ? code : QZO_EXIT_ENVIRONMENT;
}

/* Of --retry; any where it was not given. */
static qzo_outcome retried_outcome(const char *name) {
    qzo_outcome outcome = QZO_OUTCOME_FINISHED;
    while (name != NULL && strcmp(qzo_outcome_name(outcome), name) != 0) outcome++;
    return outcome;
}

int qzo_cmd_run(const qzo_options *options) {
    qzo_status status = QZO_OK;
    double started_at = qzo_clock_seconds();
    qzo_comm *world = NULL;
    qzo_backend *backend = NULL;
    qzo_run_report report;
    int threads = 1;
    int32_t code = 0;
    display shown = {.folder = options->out_folder};
    QZO_TRY(open_world(&world, &backend, &threads, options));
    bool table = wants_table(options);
    if (table) qzo_log_configure(QZO_LOG_WARN, world->rank, world->size); /* lines would break it */
    qzo_run_settings settings = {.sweep_path = options->sweep_path,
                                 .additions = {options->model_path, options->task_path},
                                 .out_folder = options->out_folder,
                                 .job = qzo_environment_job(),
                                 .end_time = options->end_time,
                                 .retry = options->retry_name != NULL,
                                 .retried = retried_outcome(options->retry_name),
                                 .version = qzo_build_text(),
                                 .world = world,
                                 .backend = backend,
                                 .backend_name = options->backend_name,
                                 .thread_count = threads,
                                 .pairs = options->pairs,
                                 .memory_limit_bytes = options->memory_limit_bytes,
                                 .transport = options->transport,
                                 .started_at = started_at,
                                 .should_park = should_park,
                                 .tick = table ? draw : NULL,
                                 .tick_context = &shown};
    QZO_TRY(qzo_slice_parse(&settings.slice, options->slice_text));
    status = qzo_sweep_run(&report, &settings);
    if (shown.live != NULL) { /* the last state of the table */
        shown.drawn_at = 0.0;
        draw(&shown);
    }
    if (status == QZO_ERR_INTERRUPTED && world->rank == 0)
        qzo_log_info("parked: run the same command again to continue");
    else
        QZO_TRY(status);
    if (status == QZO_OK && world->rank == 0)
        code = show_results(options, &report, &settings.slice);
    if (status == QZO_OK) QZO_TRY(qzo_comm_broadcast(world, &code, sizeof code, 0));
cleanup:
    if (status == QZO_ERR_INTERRUPTED)
        code = QZO_EXIT_INTERRUPTED;
    else if (status != QZO_OK) /* all ranks hold the same sentence: one prints it */
        code = world == NULL || world->rank == 0 ? qzo_exit_report(status, options)
                                                 : qzo_exit_code(status);
    qzo_log_open(NULL);
    qzo_live_close(shown.live);
    qzo_backend_close(backend);
    qzo_comm_close(world);
    return code;
}
