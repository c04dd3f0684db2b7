#include "cli/journal_view.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

enum { RECORDS_FIRST = 16 };

static qzo_status fail_memory(const qzo_journal_view *view) {
    return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory",
                    view->path != NULL ? view->path : "journal");
}

static qzo_status find_journal(qzo_journal_view *view, const char *folder, const char *trial) {
    qzo_status status = QZO_OK;
    qzo_results *results = NULL;
    const qzo_result_row *row = NULL;
    QZO_TRY(qzo_results_load(&results, folder));
    QZO_TRY(qzo_results_find(&row, results, trial));
    view->number = row->number;
    memcpy(view->id, row->id, sizeof view->id);
    view->path = qzo_journal_path(folder, &row->trial->id);
    if (view->path == NULL) status = fail_memory(view);
cleanup:
    qzo_results_free(results);
    return status;
}

qzo_status qzo_journal_view_open(qzo_journal_view *out, const char *folder, const char *trial) {
    qzo_status status = QZO_OK;
    qzo_frame frame;
    *out = (qzo_journal_view){0};
    QZO_TRY(find_journal(out, folder, trial));
    QZO_TRY(qzo_journal_load(&out->file, out->path));
    if (out->file.tail == QZO_TAIL_DAMAGED)
        qzo_log_warn("%s: damaged behind byte %zu of %zu", out->path, out->file.valid_bytes,
                     out->file.size_bytes);
    qzo_frame_reader_start(&out->reader, out->file.bytes, out->file.valid_bytes, QZO_JOURNAL_MAGIC);
    if (qzo_frame_next(&out->reader, &frame)) {
        QZO_TRY(qzo_header_decode(&out->header, &out->texts, &frame));
        out->has_header = true;
    }
cleanup:
    return status != QZO_OK && out->path != NULL ? qzo_fail_context(status, "%s", out->path)
                                                 : status;
}

void qzo_journal_view_close(qzo_journal_view *view) {
    qzo_journal_release(&view->file);
    free(view->path);
    free(view->texts);
    free(view->records);
    free(view->k);
    *view = (qzo_journal_view){0};
}

bool qzo_journal_view_next(qzo_journal_view *view, qzo_frame *frame) {
    return view->has_header && qzo_frame_next(&view->reader, frame);
}

qzo_status qzo_journal_view_step(qzo_journal_view *view, qzo_step *out, const qzo_frame *frame) {
    /* A record takes at least as many bytes in the frame as in memory, so this is enough. */
    int64_t needed = RECORDS_FIRST + (int64_t)(frame->payload_bytes / sizeof(qzo_record));
    if (needed > view->records_max) {
        free(view->records);
        free(view->k);
        view->records = calloc((size_t)needed, sizeof *view->records);
        view->k = calloc((size_t)needed, sizeof *view->k);
        view->records_max = view->records != NULL && view->k != NULL ? needed : 0;
        if (view->records_max == 0) return fail_memory(view);
    }
    qzo_status status = qzo_step_decode(out, view->records, view->k, view->records_max, frame);
    return status != QZO_OK ? qzo_fail_context(status, "%s", view->path) : status;
}
