#include "trial/replay.h"

#include "base/noise.h"
#include "task/task_file.h"
#include "trial/batches.h"
#include "trial/fork.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void qzo_progress_release(qzo_progress *progress) {
    free(progress->arithmetic);
    *progress = (qzo_progress){0};
}

qzo_status qzo_masters_digest(uint64_t *out, const qzo_trainable *trainable) {
    return trainable->backend->ops->digest(trainable->backend, out, trainable->masters,
                                           trainable->spans, trainable->span_count);
}

bool qzo_step_collapsed(const qzo_step *step) {
    for (int64_t i = 0; i < step->record_count; i++)
        if ((step->records[i].flags & (QZO_FLAG_NOT_FINITE | QZO_FLAG_ZERO_LOSS)) != 0) return true;
    return false;
}

/* Room for one step, and where the replay stands. */
typedef struct replay {
    qzo_workbench *bench;
    qzo_rule *rule; /* NULL: nobody asks for its state */
    const qzo_trial_spec *spec;
    qzo_record *records;
    float *k;
    qzo_gain *gains;
    qzo_qspsa_settings settings;
    qzo_progress *progress;
} replay;

static qzo_status set_arithmetic(qzo_progress *progress, const char *text, size_t text_bytes) {
    free(progress->arithmetic);
    progress->arithmetic = strndup(text, text_bytes);
    return progress->arithmetic != NULL ? QZO_OK
                                        : qzo_fail(QZO_ERR_MEMORY, "out of memory for a text");
}

/* A fork begins as its first origin did: with the adapters that its seed draws, and its settings.
 */
static qzo_status begin_as(replay *r, const char *settings) {
    qzo_trial_spec origin;
    qzo_status status = qzo_trial_spec_parse(&origin, settings);
    if (status != QZO_OK) return status;
    r->settings = qzo_batches_settings(&origin);
    status = qzo_workbench_reset(r->bench, &origin);
    qzo_trial_spec_release(&origin);
    return status;
}

/* What an update needs of settings that a fork may change. */
static qzo_status set_rates(replay *r, const char *settings) {
    qzo_trial_spec spec;
    qzo_status status = qzo_trial_spec_parse(&spec, settings);
    if (status != QZO_OK) return status;
    qzo_trial_spec_rates(r->bench->model->groups, &spec);
    r->settings = qzo_batches_settings(&spec);
    r->bench->trainable.decay = (float)spec.momentum;
    qzo_trial_spec_release(&spec);
    return QZO_OK;
}

static qzo_status take_header(replay *r, const qzo_frame *frame) {
    qzo_status status = QZO_OK;
    qzo_journal_header header;
    char *texts = NULL;
    uint64_t digest = 0;
    QZO_TRY(qzo_header_decode(&header, &texts, frame));
    if (r->spec->fork_step > 0) QZO_TRY(begin_as(r, header.settings));
    r->progress->has_header = true;
    QZO_TRY(set_arithmetic(r->progress, header.arithmetic, strlen(header.arithmetic)));
    if (header.value_count == 0) goto cleanup; /* a trial that failed before its model was loaded */
    QZO_TRY(qzo_masters_digest(&digest, &r->bench->trainable));
    int64_t value_count = qzo_workbench_value_count(r->bench);
    if (header.value_count != (uint64_t)value_count || header.initial_digest != digest)
        status = qzo_fail(QZO_ERR_FORMAT,
                          "the journal starts from %llu values with digest %016llx, the model has "
                          "%lld with digest %016llx",
                          (unsigned long long)header.value_count,
                          (unsigned long long)header.initial_digest, (long long)value_count,
                          (unsigned long long)digest);
    r->progress->digest = digest;
cleanup:
    free(texts);
    return status;
}

static qzo_status take_step(replay *r, const qzo_frame *frame, int64_t until_step, bool *stop) {
    qzo_status status = QZO_OK;
    qzo_step step;
    QZO_TRY(qzo_step_decode(&step, r->records, r->k, qzo_trial_spec_records(r->spec), frame));
    if (step.step > until_step) {
        *stop = true;
        return QZO_OK;
    }
    if (step.step != r->progress->last_step + 1) {
        status = qzo_fail(QZO_ERR_FORMAT, "the journal has step %lld after step %lld",
                          (long long)step.step, (long long)r->progress->last_step);
        goto cleanup;
    }
    qzo_value_groups_enter(r->bench->trainable.groups, r->bench->trainable.group_count, step.step);
    QZO_TRY(qzo_qspsa_apply(&r->bench->trainable, r->gains, &r->settings, &step, NULL));
    int64_t samples = step.record_count;
    if (samples > r->settings.samples_per_step) samples = r->settings.samples_per_step;
    if (r->rule != NULL) qzo_rule_observe(r->rule, step.records, samples);
    r->progress->last_step = step.step;
    r->progress->digest = step.digest;
    r->progress->collapsed = qzo_step_collapsed(&step);
cleanup:
    return status;
}

static qzo_status take_evaluation(replay *r, const qzo_frame *frame) {
    qzo_evaluation evaluation;
    qzo_progress *progress = r->progress;
    qzo_status status = qzo_evaluation_decode(&evaluation, frame);
    if (status != QZO_OK) return status;
    if (evaluation.split == QZO_SPLIT_TEST) {
        progress->has_test = true;
        return QZO_OK;
    }
    progress->last_dev_step = evaluation.step;
    if (progress->best_step >= 0 &&
        !qzo_evaluation_better(&evaluation, progress->best_score, progress->best_loss,
                               r->spec->metric_name, r->spec->metric_goal))
        return QZO_OK;
    progress->best_step = evaluation.step;
    progress->best_score = evaluation.score;
    progress->best_loss = evaluation.loss;
    return qzo_workbench_keep_best(r->bench);
}

static qzo_status take_change(replay *r, const char *text, size_t text_bytes) {
    const char *settings = NULL;
    size_t settings_bytes = 0;
    if (!qzo_change_has_settings(&settings, &settings_bytes, text, text_bytes))
        return set_arithmetic(r->progress, text, text_bytes);
    char *copy = strndup(settings, settings_bytes);
    if (copy == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for settings");
    qzo_status status = set_rates(r, copy);
    free(copy);
    return status;
}

static qzo_status take_other(replay *r, const qzo_frame *frame) {
    if (frame->type == QZO_FRAME_END) {
        qzo_end end;
        qzo_status status = qzo_end_decode(&end, frame);
        if (status != QZO_OK) return status;
        r->progress->ended = true;
        r->progress->outcome = end.outcome;
    } else if (frame->type == QZO_FRAME_CHANGE) {
        int64_t step = 0;
        const char *text = NULL;
        size_t text_bytes = 0;
        qzo_status status = qzo_change_decode(&step, &text, &text_bytes, frame);
        return status == QZO_OK ? take_change(r, text, text_bytes) : status;
    }
    return QZO_OK; /* frames of later versions are skipped */
}

qzo_status qzo_replay(qzo_progress *out, qzo_workbench *bench, qzo_rule *rule,
                      const qzo_journal_file *file, const qzo_trial_spec *spec,
                      int64_t until_step) {
    qzo_status status = QZO_OK;
    size_t samples = (size_t)qzo_trial_spec_records(spec);
    const qzo_digest identity = qzo_trial_spec_identity(spec);
    qzo_frame_reader reader;
    qzo_frame frame;
    bool stop = false;
    replay r = {.bench = bench,
                .rule = rule,
                .spec = spec,
                .records = calloc(samples, sizeof(qzo_record)),
                .k = calloc(samples, sizeof(float)),
                .gains = calloc(samples, sizeof(qzo_gain)),
                .settings = qzo_batches_settings(spec),
                .progress = out};
    *out = (qzo_progress){
        .last_dev_step = -1, .best_step = -1, .best_score = (double)NAN, .best_loss = (double)NAN};
    if (r.records == NULL || r.k == NULL || r.gains == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu records", samples);
        goto cleanup;
    }
    if (rule != NULL) qzo_rule_reset(rule);
    QZO_TRY(qzo_journal_check_identity(file, &identity));
    QZO_TRY(qzo_workbench_reset(bench, spec));
    QZO_TRY(qzo_masters_digest(&out->digest, &bench->trainable));
    qzo_frame_reader_start(&reader, file->bytes, file->valid_bytes, QZO_JOURNAL_MAGIC);
    while (!stop && qzo_frame_next(&reader, &frame)) {
        if (!out->has_header)
            QZO_TRY(take_header(&r, &frame));
        else if (frame.type == QZO_FRAME_STEP)
            QZO_TRY(take_step(&r, &frame, until_step, &stop));
        else if (frame.type == QZO_FRAME_EVAL)
            QZO_TRY(take_evaluation(&r, &frame));
        else
            QZO_TRY(take_other(&r, &frame));
    }
cleanup:
    free(r.records);
    free(r.k);
    free(r.gains);
    return status;
}

/* --- a step to start from --- */

static qzo_status check_base(const qzo_workbench *bench, const qzo_digest *expected) {
    qzo_digest found;
    char expected_text[QZO_DIGEST_TEXT_BYTES], found_text[QZO_DIGEST_TEXT_BYTES];
    qzo_status status = qzo_model_dir_digest(&found, bench->model->dir);
    if (status != QZO_OK || qzo_digest_equal(&found, expected)) return status;
    qzo_digest_text(expected_text, expected);
    qzo_digest_text(found_text, &found);
    return qzo_fail(QZO_ERR_CONFIG,
                    "%s is not the model that the trial started from: expected contents %s, found "
                    "%s; --model names the right folder",
                    bench->model_path, expected_text, found_text);
}

qzo_status qzo_replay_to(int64_t *step, qzo_workbench *bench, const qzo_journal_file *file,
                         const qzo_trial_spec *spec, const qzo_digest *base_digest) {
    qzo_status status = QZO_OK;
    qzo_progress progress = {0};
    int64_t wanted = *step;
    QZO_TRY(check_base(bench, base_digest));
    QZO_TRY(qzo_replay(&progress, bench, NULL, file, spec, wanted >= 0 ? wanted : INT64_MAX));
    *step = wanted >= 0 ? wanted : progress.best_step;
    if (wanted >= 0 && progress.last_step < wanted)
        status = qzo_fail(QZO_ERR_USAGE, "--step %lld: the journal ends at step %lld",
                          (long long)wanted, (long long)progress.last_step);
    else if (*step < 0)
        status = qzo_fail(QZO_ERR_USAGE, "the trial has no evaluation yet, so no best step; --step "
                                         "names one");
    else if (wanted < 0)
        status = qzo_workbench_restore_best(bench);
cleanup:
    qzo_progress_release(&progress);
    return status;
}
