/* A trial's journal: the append-only record of its steps and evaluations, and its only checkpoint.
 *
 * Frames (base/frames.h), payloads little-endian, no times, ranks or hosts:
 *
 *   HEADER  u32 format version, u32 noise version, 16 identity, 16 model digest,
 *           16 task digest, u64 number of values, u64 digest of the initial values,
 *           u32 text bytes and the canonical settings, u32 text bytes and the arithmetic
 *   STEP    u64 step (1, 2, ...), u64 digest of the values after it, u32 records, then per
 *           record u64 seed, f32 loss_plus, f32 loss_minus, f32 gradient, u32 sample,
 *           u32 flags (qzo_record_flags), u32 0, f32 k
 *   EVAL    u64 step, u32 split, u32 0, f64 score, f64 loss
 *   CHANGE  u64 step, text: the arithmetic from here on, after a resume on another machine; or
 *           the settings from here on, of a trial that was forked here (fork.h)
 *   END     u64 step, u32 outcome, u32 0, text
 *
 * The scales at any step are the initial ones and the updates of all STEP frames up to it. */
#ifndef QZO_TRIAL_JOURNAL_H
#define QZO_TRIAL_JOURNAL_H

#include "base/digest.h"
#include "base/frames.h"
#include "base/status.h"
#include "optim/qspsa.h"

#include <stdbool.h>
#include <stdint.h>

extern const char QZO_JOURNAL_MAGIC[QZO_FRAMES_MAGIC_BYTES];

enum { QZO_JOURNAL_VERSION = 1 };

typedef enum {
    QZO_FRAME_HEADER = 1,
    QZO_FRAME_STEP = 2,
    QZO_FRAME_EVAL = 3,
    QZO_FRAME_CHANGE = 4,
    QZO_FRAME_END = 5
} qzo_frame_type;

typedef enum {
    QZO_OUTCOME_FINISHED,
    QZO_OUTCOME_STOPPED,
    QZO_OUTCOME_DIVERGED,
    QZO_OUTCOME_FAILED,
    QZO_OUTCOME_COUNT
} qzo_outcome;

/* "finished", "stopped", "diverged", "failed". */
const char *qzo_outcome_name(qzo_outcome outcome);

typedef struct qzo_journal_header {
    uint32_t format_version, noise_version;
    qzo_digest identity, model_digest, task_digest;
    uint64_t value_count;
    uint64_t initial_digest;
    const char *settings; /* NUL-terminated by the decoder's caller: see qzo_header_decode */
    const char *arithmetic;
} qzo_journal_header;

typedef struct qzo_evaluation {
    int64_t step;
    uint32_t split; /* qzo_split_kind */
    double score, loss;
} qzo_evaluation;

typedef struct qzo_end {
    int64_t step;
    qzo_outcome outcome;
    const char *text; /* borrowed, not terminated */
    size_t text_bytes;
} qzo_end;

/* --- reading --- */

/* Texts are copied into *texts (fresh; the caller frees it). */
qzo_status qzo_header_decode(qzo_journal_header *out, char **texts, const qzo_frame *frame);

/* records and k: room for records_max; QZO_ERR_LIMIT where the frame has more. out borrows them. */
qzo_status qzo_step_decode(qzo_step *out, qzo_record *records, float *k, int64_t records_max,
                           const qzo_frame *frame);
qzo_status qzo_evaluation_decode(qzo_evaluation *out, const qzo_frame *frame);
qzo_status qzo_end_decode(qzo_end *out, const qzo_frame *frame);
qzo_status qzo_change_decode(int64_t *step, const char **text, size_t *text_bytes,
                             const qzo_frame *frame);

/* A whole journal in memory. */
typedef struct qzo_journal_file {
    uint8_t *bytes;
    size_t size_bytes;
    size_t valid_bytes; /* up to the last whole frame */
    uint64_t checksum;  /* of the last whole frame */
    qzo_tail tail;
    int64_t frame_count;
} qzo_journal_file;

/* Reads and checks all frames. A file that is not there is an empty journal. The caller releases.
 */
qzo_status qzo_journal_load(qzo_journal_file *out, const char *path);

/* The same over bytes that the file takes over. */
void qzo_journal_adopt(qzo_journal_file *out, uint8_t *bytes, size_t size_bytes);
void qzo_journal_release(qzo_journal_file *file); /* safe on a zeroed file */

/* --- what a table shows of a trial --- */

typedef struct qzo_trial_summary {
    bool exists; /* there is a journal with a header */
    bool ended;
    qzo_outcome outcome; /* where ended */
    char *text;          /* END's; fresh, freed with the summary; or NULL */
    int64_t steps;       /* last step */
    int64_t steps_total; /* that the settings ask for; 0 where there is no journal */
    int64_t best_step;   /* -1: none yet */
    double zero_shot_dev, dev_score, dev_loss; /* the dev values of the best step; NaN: none */
    double last_dev_score, last_dev_loss;      /* of the last evaluation; NaN: none */
    double test_score, test_loss;
    int64_t still_steps; /* the last steps in a row whose gradients are all exactly 0 */
    double last_loss;    /* mean of loss+ and loss- of the last step; NaN: none */
    int64_t clipped_count, record_count;
} qzo_trial_summary;

/* From so many still steps on a trial is said to have stopped learning: its loss does not answer to
 * any direction, as where all options have the same logits. */
enum { QZO_STILL_STEPS_MIN = 20 };

/* Which evaluation is best: settings' metric_name and metric_goal, the earliest on a tie. */
bool qzo_evaluation_better(const qzo_evaluation *candidate, double best_score, double best_loss,
                           const char *metric_name, const char *metric_goal);

/* From a journal's whole frames; calls nothing of models or tasks. */
qzo_status qzo_trial_summarize(qzo_trial_summary *out, const qzo_journal_file *file);
/* The same as after step until_step: what stands behind its evaluation is not there yet. */
qzo_status qzo_trial_summarize_until(qzo_trial_summary *out, const qzo_journal_file *file,
                                     int64_t until_step);
void qzo_trial_summary_release(qzo_trial_summary *summary);

/* --- writing --- */

typedef struct qzo_journal qzo_journal;

/* Appends after the whole frames of `file`, which was loaded from the same path. Where the file was
 * damaged (more behind its last whole frame than one torn step) its bytes are first kept beside it,
 * as PATH with ".damaged" instead of
 * ".qzj". The caller closes it. */
qzo_status qzo_journal_open(qzo_journal **out, const char *path, const qzo_journal_file *file,
                            int64_t records_max);
qzo_status qzo_journal_header_append(qzo_journal *journal, const qzo_journal_header *header);
qzo_status qzo_journal_step_append(qzo_journal *journal, const qzo_step *step);
qzo_status qzo_journal_evaluation_append(qzo_journal *journal, const qzo_evaluation *evaluation);
qzo_status qzo_journal_change_append(qzo_journal *journal, int64_t step, const char *text);
qzo_status qzo_journal_end_append(qzo_journal *journal, int64_t step, qzo_outcome outcome,
                                  const char *text);
qzo_status qzo_journal_sync(qzo_journal *journal);
qzo_status qzo_journal_close(qzo_journal *journal); /* syncs; NULL is fine */

#endif
