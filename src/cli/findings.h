/* What `qzo doctor` found, and what to do about it. */
#ifndef QZO_CLI_FINDINGS_H
#define QZO_CLI_FINDINGS_H

#include "base/status.h"

#include <stdbool.h>

enum { QZO_FINDINGS_MAX = 32, QZO_FINDING_BYTES = 512 };

typedef enum { QZO_FINDING_OK, QZO_FINDING_WARNING, QZO_FINDING_PROBLEM } qzo_finding_level;

typedef struct qzo_finding {
    const char *name; /* "ranks", "output folder" */
    qzo_finding_level level;
    char found[QZO_FINDING_BYTES];
    char advice[QZO_FINDING_BYTES]; /* "" where all is well */
} qzo_finding;

/* Zeroed: empty. */
typedef struct qzo_findings {
    qzo_finding list[QZO_FINDINGS_MAX];
    int count;
} qzo_findings;

/* A new finding that is well; the caller may say otherwise with qzo_finding_advise. */
qzo_finding *qzo_finding_add(qzo_findings *findings, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void qzo_finding_advise(qzo_finding *finding, qzo_finding_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

bool qzo_findings_have_problem(const qzo_findings *findings);
qzo_status qzo_findings_print(const qzo_findings *findings, bool json); /* on stdout */

/* --- src/cli/folder_check.c --- */

/* Whether journals can be kept in a folder (or, where it is not there yet, in the nearest one above
 * it): that a file can be made, how long a sync takes, that locks work, how much room is left. */
void qzo_findings_of_folder(qzo_findings *findings, const char *folder);

#endif
