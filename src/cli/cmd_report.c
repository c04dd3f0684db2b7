/* qzo report DIR: the table of trials. */
#include "cli/cli.h"

#include "base/log.h"
#include "cli/means.h"
#include "sweep/schedule.h"
#include "sweep/slice.h"

/* Runs of slices leave the view to this command; who may only read the folder misses nothing. */
static void store(const qzo_results *results, const char *folder) {
    if (qzo_results_store(results, folder) != QZO_OK)
        qzo_log_warn("the SQLite view is not rebuilt: %s", qzo_error_message());
}

/* The table stands on journals and decisions: do they tell the same? */
static qzo_status check(const qzo_results *results, const char *folder, bool is_live) {
    int64_t events = 0;
    qzo_status status = qzo_schedule_check(&events, results, folder, is_live);
    if (status == QZO_OK)
        qzo_log_info("%lld events of decisions.qzj agree with the journals of %lld trials",
                     (long long)events, (long long)results->row_count);
    return status;
}

int qzo_cmd_report(const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_results *results = NULL;
    bool was_live = qzo_folder_lock_is_held(options->folder); /* before anything is read */
    QZO_TRY(qzo_results_load(&results, options->folder));
    if (qzo_slices_exist(options->folder)) store(results, options->folder);
    if (options->check) QZO_TRY(check(results, options->folder, was_live));
    if (options->mean)
        QZO_TRY(qzo_means_print(results, options));
    else if (options->csv)
        qzo_table_print_csv(stdout, results);
    else if (options->json)
        QZO_TRY(qzo_table_print_json(results));
    else
        qzo_table_print(stdout, results);
cleanup:
    qzo_results_free(results);
    return qzo_exit_report(status, options);
}
