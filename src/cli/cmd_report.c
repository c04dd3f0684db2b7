/* qzo report DIR: the table of trials. */
#include "cli/cli.h"

int qzo_cmd_report(const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_results *results = NULL;
    QZO_TRY(qzo_results_load(&results, options->folder));
    if (options->csv)
        qzo_table_print_csv(stdout, results);
    else if (options->json)
        QZO_TRY(qzo_table_print_json(results));
    else
        qzo_table_print(stdout, results);
cleanup:
    qzo_results_free(results);
    return qzo_exit_report(status, options);
}
