/* One trial's journal as the commands read it: found by what the user typed, frame by frame. */
#ifndef QZO_CLI_JOURNAL_VIEW_H
#define QZO_CLI_JOURNAL_VIEW_H

#include "base/status.h"
#include "sweep/results.h"
#include "trial/journal.h"

typedef struct qzo_journal_view {
    char *path;
    int64_t number; /* of the trial in the table */
    char id[QZO_DIGEST_TEXT_BYTES];
    qzo_journal_file file;
    qzo_frame_reader reader;
    qzo_journal_header header; /* where has_header */
    bool has_header;           /* false: the trial has not begun */
    char *texts;
    qzo_record *records; /* of the step decoded last */
    float *k;
    int64_t records_max;
} qzo_journal_view;

/* trial: a row number or the first digits of an id. The caller closes it. */
qzo_status qzo_journal_view_open(qzo_journal_view *out, const char *folder, const char *trial);
void qzo_journal_view_close(qzo_journal_view *view); /* safe on a zeroed view */

/* The next frame after the header; false at the end. */
bool qzo_journal_view_next(qzo_journal_view *view, qzo_frame *frame);

/* A STEP frame; out borrows the view's records until the next call. */
qzo_status qzo_journal_view_step(qzo_journal_view *view, qzo_step *out, const qzo_frame *frame);

#endif
