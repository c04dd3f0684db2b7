/* qzo status DIR: how a sweep stands, from another terminal, reading only. */
#include "cli/cli.h"
#include "cli/live.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

static const struct timespec REFRESH = {.tv_nsec = 500000000};

int qzo_cmd_status(const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_live *live = NULL;
    qzo_results *results = NULL;
    if (options->json) {
        QZO_TRY(qzo_results_load(&results, options->folder));
        QZO_TRY(qzo_table_print_json(results));
        goto cleanup;
    }
    QZO_TRY(qzo_live_open(&live, options->folder));
    if (!isatty(STDOUT_FILENO)) {
        qzo_live_print(live, stdout, 120, INT32_MAX);
        goto cleanup;
    }
    qzo_live_redraw(live, stdout);
    while (qzo_live_is_running(live)) {
        nanosleep(&REFRESH, NULL);
        QZO_TRY(qzo_live_refresh(live));
        qzo_live_redraw(live, stdout);
    }
cleanup:
    qzo_live_close(live);
    qzo_results_free(results);
    return qzo_exit_report(status, options);
}
