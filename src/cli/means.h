/* The table of means over seeds: `qzo report DIR --mean`. */
#ifndef QZO_CLI_MEANS_H
#define QZO_CLI_MEANS_H

#include "cli/options.h"
#include "sweep/results.h"

/* On stdout: one row per combination of the swept settings but the seeds. */
qzo_status qzo_means_print(const qzo_results *results, const qzo_options *options);

#endif
