/* A journal's frames to the row that tables show. */
#include "trial/journal.h"
#include "trial/trial_spec.h"

#include "task/task_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool qzo_evaluation_better(const qzo_evaluation *candidate, double best_score, double best_loss,
                           const char *metric_name, const char *metric_goal) {
    bool by_score = strcmp(metric_name, "dev_score") == 0;
    double value = by_score ? candidate->score : candidate->loss;
    double best = by_score ? best_score : best_loss;
    if (isnan(value)) return false;
    if (isnan(best)) return true;
    return strcmp(metric_goal, "maximize") == 0 ? value > best : value < best;
}

static void take_evaluation(qzo_trial_summary *out, const qzo_evaluation *evaluation,
                            const qzo_trial_spec *spec) {
    if (evaluation->split == QZO_SPLIT_TEST) {
        out->test_score = evaluation->score;
        out->test_loss = evaluation->loss;
        return;
    }
    out->last_dev_score = evaluation->score;
    out->last_dev_loss = evaluation->loss;
    if (evaluation->step == 0) out->zero_shot_dev = evaluation->score;
    if (out->best_step >= 0 && !qzo_evaluation_better(evaluation, out->dev_score, out->dev_loss,
                                                      spec->metric_name, spec->metric_goal))
        return;
    out->best_step = evaluation->step;
    out->dev_score = evaluation->score;
    out->dev_loss = evaluation->loss;
}

static void take_step(qzo_trial_summary *out, const qzo_step *step) {
    out->steps = step->step;
    double sum = 0.0;
    bool is_still = true;
    for (int64_t i = 0; i < step->record_count; i++) {
        is_still &= step->records[i].gradient == 0.0f;
        sum += 0.5 * ((double)step->records[i].loss_plus + (double)step->records[i].loss_minus);
        out->clipped_count += (step->records[i].flags & QZO_FLAG_CLIPPED) != 0;
        out->record_count += (step->records[i].flags & (QZO_FLAG_CLEAN | QZO_FLAG_CANDIDATE)) == 0;
    }
    out->still_steps = is_still ? out->still_steps + 1 : 0;
    out->last_loss = step->record_count > 0 ? sum / (double)step->record_count : (double)NAN;
}

static qzo_status take_end(qzo_trial_summary *out, const qzo_frame *frame) {
    qzo_end end;
    qzo_status status = qzo_end_decode(&end, frame);
    if (status != QZO_OK) return status;
    out->ended = true;
    out->outcome = end.outcome;
    free(out->text); /* a second END is none of ours, but may be in a file */
    out->text = strndup(end.text, end.text_bytes);
    return out->text != NULL ? QZO_OK : qzo_fail(QZO_ERR_MEMORY, "out of memory for a text");
}

qzo_status qzo_trial_summarize_until(qzo_trial_summary *out, const qzo_journal_file *file,
                                     int64_t until_step) {
    qzo_status status = QZO_OK;
    qzo_frame_reader reader;
    qzo_frame frame;
    qzo_journal_header header;
    qzo_trial_spec spec = {0};
    char *texts = NULL;
    int64_t records_max = 0;
    qzo_record *records = NULL;
    float *k = NULL;
    double none = (double)NAN;
    *out = (qzo_trial_summary){.best_step = -1,
                               .zero_shot_dev = none,
                               .dev_score = none,
                               .dev_loss = none,
                               .last_dev_score = none,
                               .last_dev_loss = none,
                               .test_score = none,
                               .test_loss = none,
                               .last_loss = none};
    qzo_frame_reader_start(&reader, file->bytes, file->valid_bytes, QZO_JOURNAL_MAGIC);
    if (!qzo_frame_next(&reader, &frame)) return QZO_OK;
    QZO_TRY(qzo_header_decode(&header, &texts, &frame));
    QZO_TRY(qzo_trial_spec_parse(&spec, header.settings));
    out->exists = true;
    out->steps_total = spec.steps;
    records_max = qzo_trial_spec_records(&spec);
    records = calloc((size_t)records_max, sizeof *records);
    k = calloc((size_t)records_max, sizeof *k);
    if (records == NULL || k == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld records", (long long)records_max);
        goto cleanup;
    }
    while (qzo_frame_next(&reader, &frame)) {
        qzo_evaluation evaluation;
        qzo_step step;
        if (frame.type == QZO_FRAME_STEP) {
            QZO_TRY(qzo_step_decode(&step, records, k, records_max, &frame));
            if (step.step > until_step) break;
            take_step(out, &step);
        } else if (frame.type == QZO_FRAME_EVAL) {
            QZO_TRY(qzo_evaluation_decode(&evaluation, &frame));
            take_evaluation(out, &evaluation, &spec);
        } else if (frame.type == QZO_FRAME_END) {
            QZO_TRY(take_end(out, &frame));
        }
    }
cleanup:
    free(texts);
    free(records);
    free(k);
    qzo_trial_spec_release(&spec);
    return status;
}

qzo_status qzo_trial_summarize(qzo_trial_summary *out, const qzo_journal_file *file) {
    return qzo_trial_summarize_until(out, file, INT64_MAX);
}

void qzo_trial_summary_release(qzo_trial_summary *summary) {
    free(summary->text);
    *summary = (qzo_trial_summary){0};
}
