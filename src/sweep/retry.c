#include "sweep/retry.h"

#include "base/check.h"
#include "base/file_io.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RETRIES_MAX = 9999 };

/* link and unlink, since rename would replace a journal that was set aside before. */
static qzo_status set_aside(const char *path) {
    QZO_ASSERT(path != NULL); /* which gcc cannot see where it looks for undefined behaviour */
    char kept[PATH_MAX];
    QZO_ASSERT(path != NULL); /* gcc, watched by its sanitizer, fears for %s */
    for (int number = 1; number <= RETRIES_MAX; number++) {
        snprintf(kept, sizeof kept, "%s.%d", path, number);
        if (link(path, kept) == 0)
            return unlink(path) == 0
                       ? QZO_OK
                       : qzo_fail(QZO_ERR_IO, "%s: cannot remove: %s", path, strerror(errno));
        if (errno != EEXIST)
            return qzo_fail(QZO_ERR_IO, "%s: cannot set aside as %s: %s", path, kept,
                            strerror(errno));
    }
    return qzo_fail(QZO_ERR_LIMIT, "%s: %d journals set aside already, at most %d", path,
                    RETRIES_MAX, RETRIES_MAX);
}

qzo_status qzo_retry(int64_t *count, const qzo_results *results, const char *folder,
                     const qzo_slice *slice, qzo_outcome outcome, qzo_decisions *decisions) {
    *count = 0;
    for (int64_t i = 0; i < results->row_count; i++) {
        const qzo_result_row *row = &results->rows[i];
        /* Its status and not its end: a journal that cannot be read is a failure too. */
        if (!qzo_slice_has(slice, i) || strcmp(row->status, qzo_outcome_name(outcome)) != 0)
            continue;
        char *path = qzo_journal_path(folder, &row->trial->id);
        if (path == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", folder);
        qzo_status status = qzo_decisions_outcome(decisions, i, QZO_ERR_INTERRUPTED);
        if (status == QZO_OK) status = set_aside(path);
        free(path);
        if (status != QZO_OK) return status;
        ++*count;
    }
    return QZO_OK;
}
