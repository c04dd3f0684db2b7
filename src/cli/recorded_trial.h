/* A trial of an output folder as its journal has it: what replay and export start from. */
#ifndef QZO_CLI_RECORDED_TRIAL_H
#define QZO_CLI_RECORDED_TRIAL_H

#include "cli/options.h"
#include "sweep/results.h"
#include "trial/journal.h"
#include "trial/trial_spec.h"

typedef struct qzo_recorded_trial {
    qzo_results *results;
    const qzo_result_row *row;
    qzo_journal_file file;
    qzo_trial_spec spec; /* those at the journal's end; places from the listing, or --model */
    qzo_digest model_digest;
} qzo_recorded_trial;

/* DIR and TRIAL of the command line. A journal that is damaged behind some frame is warned of: only
 * what stands before is used. The caller closes it. */
qzo_status qzo_recorded_trial_open(qzo_recorded_trial *out, const qzo_options *options);
void qzo_recorded_trial_close(qzo_recorded_trial *trial); /* safe on a zeroed one */

#endif
