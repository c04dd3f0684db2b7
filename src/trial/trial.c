/* Ranks run the same code in lockstep; only rank 0 of the group touches files. An error of one rank
 * is carried to all by the next exchange (the objective returns it, the record says FAILED), so
 * that nobody waits for a rank that gave up. */
#include "trial/trial.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "trial/batches.h"
#include "trial/evaluate.h"
#include "trial/replay.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct trial {
    const qzo_trial_spec *spec;
    qzo_digest identity;
    qzo_workbench *bench;
    qzo_comm *group;
    const qzo_trial_files *files;
    const qzo_trial_hooks *hooks;
    qzo_progress progress;
    qzo_journal *journal; /* rank 0 */
    qzo_batches batches;
    qzo_qspsa *optimizer;
    double loss, dev_score, dev_loss;
    double started_at, switch_seconds, step_seconds, evaluation_seconds;
    bool repaired; /* a desync was repaired at this step */
} trial;

static bool leads(const trial *t) { return t->group->rank == 0; }

/* Between two exchanges a rank is alone: what fails there (the journal of rank 0, a device) is kept
 * by the optimizer, and the next exchange tells the others. */
static void remember(const trial *t, qzo_status status) { qzo_qspsa_fail(t->optimizer, status); }

static qzo_status failure_of(const trial *t) { return qzo_qspsa_failure(t->optimizer); }

/* --- the objective that the optimizer sees --- */

/* A loss that is wrong on purpose. */
static bool is_injected(double *sum, int64_t step) {
    bool is_zero = qzo_fault_during_step(QZO_FAULT_ZERO_LOSS, step);
    *sum = is_zero ? 0.0 : (double)NAN;
    return is_zero || qzo_fault_at_step(QZO_FAULT_NAN_LOSS, step);
}

static qzo_status loss_sum(void *context, double *sum, const qzo_probe *probe) {
    trial *t = context;
    if (is_injected(sum, probe->step)) return QZO_OK;
    t->hooks->poll(t->hooks->context);
    return qzo_batches_loss_sum(&t->batches, sum, probe);
}

static qzo_status loss_sums(void *context, double sums[2], const qzo_probe *probe) {
    trial *t = context;
    double both[2] = {(double)NAN, (double)NAN};
    t->hooks->poll(t->hooks->context);
    qzo_status status = qzo_batches_loss_sums(&t->batches, both, probe);
    for (int sign = 0; sign < 2; sign++)
        if (!is_injected(&sums[sign], probe->step)) sums[sign] = both[sign];
    return status;
}

static double loss_weight(void *context, int64_t batch) {
    trial *t = context;
    return qzo_batches_loss_weight(&t->batches, batch);
}

static qzo_status open_optimizer(trial *t) {
    qzo_status status = QZO_OK;
    qzo_qspsa_settings settings = qzo_batches_settings(t->spec);
    qzo_objective objective = {.context = t,
                               .unit_count = qzo_batches_unit_count(t->spec),
                               .loss_sum = loss_sum,
                               .loss_sums = loss_sums,
                               .loss_weight = loss_weight,
                               .may_be_zero = qzo_trial_spec_by_metric(t->spec)};
    QZO_TRY(qzo_workbench_reset(t->bench, t->spec)); /* the optimizer copies what it trains */
    QZO_TRY(qzo_batches_open(&t->batches, t->bench, t->spec));
    QZO_TRY(qzo_qspsa_open(&t->optimizer, &settings, &t->bench->trainable, &objective, t->group));
cleanup:
    return status;
}

/* --- timing: whatever may differ between two runs of the same trial --- */

static void write_timing(const trial *t, int64_t step, const char *event) {
    const qzo_backend *backend = t->bench->backend;
    qzo_memory_use memory = {0};
    FILE *file = fopen(t->files->timing_path, "a");
    if (file == NULL) return; /* a figure less is no reason to stop a trial */
    if (backend->ops->memory_use(backend, &memory) != QZO_OK) memory = (qzo_memory_use){0};
    fprintf(file,
            "{\"event\": \"%s\", \"step\": %lld, \"ranks\": %d, \"seconds\": %.6f, "
            "\"switch_seconds\": %.6f, \"step_seconds\": %.6f, \"evaluation_seconds\": %.6f, "
            "\"wait_seconds\": %.6f, \"bytes_sent\": %llu, \"transport\": \"%s\", "
            "\"memory_bytes\": %lld, \"device_bytes\": %lld}\n",
            event, (long long)step, t->group->size, qzo_clock_seconds() - t->started_at,
            t->switch_seconds, t->step_seconds, t->evaluation_seconds, t->group->wait_seconds,
            (unsigned long long)t->group->bytes_sent, t->group->ops->name,
            (long long)memory.peak_bytes, (long long)memory.device_used_bytes);
    fclose(file);
}

/* Once per model that was loaded, not per trial. */
static void report_load(const trial *t) {
    double seconds = t->bench->load_seconds;
    qzo_workbench_log_load(t->bench, leads(t) ? QZO_LOG_INFO : QZO_LOG_DEBUG);
    FILE *file = leads(t) && seconds > 0.0 ? fopen(t->files->timing_path, "a") : NULL;
    if (file == NULL) return;
    fprintf(file,
            "{\"event\": \"load\", \"seconds\": %.6f, \"load_seconds\": %.6f, "
            "\"mapped_bytes\": %lld}\n",
            qzo_clock_seconds() - t->started_at, seconds,
            (long long)qzo_model_dir_data_bytes(t->bench->model->dir));
    fclose(file);
}

static void report_progress(const trial *t, int64_t step, bool evaluated) {
    qzo_trial_progress progress = {.step = step,
                                   .steps = t->spec->steps,
                                   .loss = t->loss,
                                   .dev_score = t->dev_score,
                                   .dev_loss = t->dev_loss,
                                   .seconds = qzo_clock_seconds() - t->started_at,
                                   .evaluated = evaluated};
    if (leads(t)) t->hooks->progress(t->hooks->context, &progress);
}

/* --- the journal, on rank 0 --- */

static const char *arithmetic_of(const trial *t) {
    return t->bench->backend->ops->arithmetic(t->bench->backend);
}

static qzo_status append_header(const trial *t, uint64_t value_count, uint64_t initial_digest) {
    char *settings = qzo_trial_spec_canonical(t->spec);
    if (settings == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for the settings");
    qzo_journal_header header = {.identity = t->identity,
                                 .model_digest = t->spec->model_digest,
                                 .task_digest = t->spec->task_digest,
                                 .value_count = value_count,
                                 .initial_digest = initial_digest,
                                 .settings = settings,
                                 .arithmetic = arithmetic_of(t)};
    qzo_status status = qzo_journal_header_append(t->journal, &header);
    free(settings);
    return status;
}

/* Rank 0 reads the file; its bytes go to all, so that no rank depends on what a shared file system
 * shows it at the moment. */
static qzo_status load_everywhere(trial *t, qzo_journal_file *out) {
    qzo_status status = QZO_OK;
    *out = (qzo_journal_file){0};
    if (leads(t)) status = qzo_journal_load(out, t->files->journal_path);
    QZO_TRY(qzo_comm_worst_status(t->group, status));
    uint64_t size_bytes = out->valid_bytes;
    QZO_TRY(qzo_comm_broadcast(t->group, &size_bytes, sizeof size_bytes, 0));
    if (size_bytes == 0) return QZO_OK;
    uint8_t *bytes = leads(t) ? out->bytes : malloc(size_bytes);
    status = bytes != NULL ? QZO_OK : qzo_fail(QZO_ERR_MEMORY, "out of memory for a journal");
    QZO_TRY(qzo_comm_worst_status(t->group, status));
    QZO_TRY(qzo_comm_broadcast(t->group, bytes, size_bytes, 0));
    if (!leads(t)) qzo_journal_adopt(out, bytes, size_bytes);
cleanup:
    return status;
}

/* Rank 0 opens the journal where the replay ended and writes what its start lacks. */
static qzo_status open_journal(trial *t, const qzo_journal_file *file) {
    qzo_status status = QZO_OK;
    QZO_TRY(qzo_journal_open(&t->journal, t->files->journal_path, file,
                             qzo_trial_spec_records(t->spec)));
    if (!t->progress.has_header) {
        QZO_TRY(
            append_header(t, (uint64_t)qzo_workbench_value_count(t->bench), t->progress.digest));
    } else if (strcmp(t->progress.arithmetic, arithmetic_of(t)) != 0) {
        qzo_log_warn("resuming with arithmetic \"%s\" after \"%s\"", arithmetic_of(t),
                     t->progress.arithmetic);
        QZO_TRY(qzo_journal_change_append(t->journal, t->progress.last_step, arithmetic_of(t)));
    }
    if (file->tail != QZO_TAIL_CLEAN)
        qzo_log_warn("%s: %s after step %lld; continuing from there", t->files->journal_path,
                     file->tail == QZO_TAIL_TORN ? "torn" : "damaged",
                     (long long)t->progress.last_step);
cleanup:
    return status;
}

static qzo_status replay_and_check(trial *t, const qzo_journal_file *file) {
    qzo_status status = QZO_OK;
    uint64_t digest = 0;
    qzo_progress_release(&t->progress);
    QZO_TRY(
        qzo_replay(&t->progress, t->bench, qzo_qspsa_rule(t->optimizer), file, t->spec, INT64_MAX));
    QZO_TRY(qzo_masters_digest(&digest, &t->bench->trainable));
    if (digest != t->progress.digest)
        status = qzo_fail(QZO_ERR_DESYNC,
                          "the journal records digest %016llx after step %lld, replaying it gives "
                          "%016llx",
                          (unsigned long long)t->progress.digest, (long long)t->progress.last_step,
                          (unsigned long long)digest);
cleanup:
    if (status != QZO_OK) qzo_fail_context(status, "%s", t->files->journal_path);
    return status;
}

/* --- phases; each ends with the same status on all ranks --- */

static qzo_status resume(trial *t) {
    qzo_status status = QZO_OK;
    qzo_journal_file file = {0};
    QZO_TRY(load_everywhere(t, &file));
    status = open_optimizer(t); /* its rule takes part in the replay */
    if (status == QZO_OK) status = replay_and_check(t, &file);
    if (status == QZO_OK && leads(t) && !t->progress.ended) status = open_journal(t, &file);
    if (status == QZO_OK) status = qzo_qspsa_sync(t->optimizer);
    QZO_TRY(qzo_comm_worst_status(t->group, status));
cleanup:
    qzo_journal_release(&file);
    return status;
}

/* Evaluates the current masters on dev at `step`; keeps them where they are the best so far. */
static qzo_status evaluate_dev(trial *t, int64_t step) {
    qzo_status status = QZO_OK;
    double begin = qzo_clock_seconds();
    qzo_evaluation evaluation = {.step = step, .split = QZO_SPLIT_DEV};
    QZO_TRY(qzo_evaluate_split(&evaluation.score, &evaluation.loss, t->bench, t->group,
                               &t->bench->task->splits[QZO_SPLIT_DEV], t->spec, failure_of(t),
                               t->hooks));
    if (leads(t)) remember(t, qzo_journal_evaluation_append(t->journal, &evaluation));
    t->progress.last_dev_step = step;
    t->dev_score = evaluation.score;
    t->dev_loss = evaluation.loss;
    if (t->progress.best_step < 0 ||
        qzo_evaluation_better(&evaluation, t->progress.best_score, t->progress.best_loss,
                              t->spec->metric_name, t->spec->metric_goal)) {
        t->progress.best_step = step;
        t->progress.best_score = evaluation.score;
        t->progress.best_loss = evaluation.loss;
        remember(t, qzo_workbench_keep_best(t->bench));
    }
    t->evaluation_seconds += qzo_clock_seconds() - begin;
    if (leads(t)) write_timing(t, step, "dev");
    report_progress(t, step, true);
cleanup:
    return status;
}

/* The masters of the best step on test, once. */
static qzo_status evaluate_test(trial *t) {
    qzo_status status = QZO_OK;
    double begin = qzo_clock_seconds();
    qzo_evaluation evaluation = {.step = t->progress.best_step, .split = QZO_SPLIT_TEST};
    const qzo_split *split = &t->bench->task->splits[QZO_SPLIT_TEST];
    if (t->progress.has_test || split->example_count == 0) return QZO_OK;
    remember(t, qzo_workbench_restore_best(t->bench));
    QZO_TRY(qzo_evaluate_split(&evaluation.score, &evaluation.loss, t->bench, t->group, split,
                               t->spec, failure_of(t), t->hooks));
    if (leads(t)) remember(t, qzo_journal_evaluation_append(t->journal, &evaluation));
    t->evaluation_seconds += qzo_clock_seconds() - begin;
cleanup:
    return status;
}

/* The ranks' masters differ: all rebuild them from the journal, once per step. */
static qzo_status repair(trial *t) {
    qzo_status status = QZO_OK;
    qzo_journal_file file = {0};
    char reason[512];
    snprintf(reason, sizeof reason, "%.500s", qzo_error_message());
    if (t->repaired) return qzo_fail(QZO_ERR_DESYNC, "%s, also after a replay", reason);
    t->repaired = true;
    if (leads(t)) qzo_log_error("%s; all ranks replay the journal", reason);
    QZO_TRY(load_everywhere(t, &file));
    status = replay_and_check(t, &file);
    QZO_TRY(qzo_comm_worst_status(t->group, status));
    QZO_TRY(qzo_qspsa_sync(t->optimizer));
cleanup:
    qzo_journal_release(&file);
    return status;
}

static double mean_loss(const qzo_step *step) {
    double sum = 0.0;
    for (int64_t i = 0; i < step->record_count; i++)
        sum += 0.5 * ((double)step->records[i].loss_plus + (double)step->records[i].loss_minus);
    return sum / (double)step->record_count;
}

static bool evaluates_after(const qzo_trial_spec *spec, int64_t step) {
    return step % spec->evaluate_every == 0 || step == spec->steps;
}

/* Changes one trainable value of this rank alone, as a memory error would. */
static qzo_status corrupt_masters(const trial *t) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = t->bench->backend;
    float value = 0.0f;
    QZO_TRY(backend->ops->download(backend, &value, t->bench->masters, sizeof value));
    value += 1.0f;
    QZO_TRY(backend->ops->upload(backend, t->bench->masters, &value, sizeof value));
cleanup:
    return status;
}

static qzo_status inject_faults(const trial *t, int64_t step) {
    if (qzo_fault_at_step(QZO_FAULT_KILL, step)) raise(SIGKILL);
    if (qzo_fault_at_step(QZO_FAULT_DELAY, step)) sleep(2);
    return qzo_fault_at_step(QZO_FAULT_CORRUPT, step) ? corrupt_masters(t) : QZO_OK;
}

/* One step and what follows it. QZO_ERR_INTERRUPTED: some rank asked to park. */
static qzo_status run_step(trial *t, int64_t step) {
    qzo_status status = QZO_OK;
    qzo_step done;
    uint32_t any_flags = 0;
    double begin = qzo_clock_seconds();
    QZO_TRY(inject_faults(t, step));
    uint32_t my_flags = t->hooks->should_park(t->hooks->context) ? QZO_FLAG_PARK : 0;
    status = qzo_qspsa_step(t->optimizer, step, my_flags, &done, &any_flags);
    if (status == QZO_ERR_DESYNC) {
        QZO_TRY(repair(t));
        QZO_TRY(qzo_qspsa_step(t->optimizer, step, my_flags, &done, &any_flags));
    }
    if (status != QZO_OK) goto cleanup;
    (void)qzo_fault_at_step(QZO_FAULT_ZERO_LOSS, step); /* it lasted for this step */
    t->repaired = false;
    /* A step that rank 0 could not apply has no digest to record. */
    if (leads(t) && failure_of(t) == QZO_OK)
        remember(t, qzo_journal_step_append(t->journal, &done));
    t->progress.last_step = step;
    t->progress.collapsed = qzo_step_collapsed(&done);
    t->loss = mean_loss(&done);
    t->step_seconds += qzo_clock_seconds() - begin;
    report_progress(t, step, false);
    if (!t->progress.collapsed && evaluates_after(t->spec, step)) QZO_TRY(evaluate_dev(t, step));
    if ((any_flags & QZO_FLAG_PARK) != 0 && step < t->spec->steps && !t->progress.collapsed) {
        QZO_TRY(qzo_comm_worst_status(t->group, failure_of(t)));
        status = qzo_fail(QZO_ERR_INTERRUPTED, "parked after step %lld", (long long)step);
    }
cleanup:
    return status;
}

/* The trial's last step, or that of the rung where a scheduler wants to be asked. */
static int64_t last_step_now(const trial *t) {
    int64_t until = t->hooks->until_step;
    return until > 0 && until < t->spec->steps ? until : t->spec->steps;
}

static qzo_status run_steps(trial *t) {
    qzo_status status = QZO_OK;
    int64_t last = t->progress.last_step;
    bool evaluated = t->progress.last_dev_step == last;
    if (!t->progress.collapsed && !evaluated && (last == 0 || evaluates_after(t->spec, last)))
        QZO_TRY(evaluate_dev(t, last));
    for (int64_t step = last + 1; step <= last_step_now(t) && !t->progress.collapsed; step++)
        QZO_TRY(run_step(t, step));
cleanup:
    return status;
}

static qzo_status end_trial(trial *t, qzo_outcome outcome, const char *text) {
    qzo_status status = failure_of(t);
    t->bench->free_since = qzo_clock_seconds();
    if (leads(t) && status == QZO_OK)
        status = qzo_journal_end_append(t->journal, t->progress.last_step, outcome, text);
    if (leads(t)) write_timing(t, t->progress.last_step, qzo_outcome_name(outcome));
    return qzo_comm_worst_status(t->group, status);
}

static qzo_status train(trial *t, qzo_outcome *outcome) {
    qzo_status status = QZO_OK;
    t->switch_seconds = qzo_clock_seconds() - t->bench->free_since;
    if (leads(t)) write_timing(t, t->progress.last_step, "started");
    QZO_TRY(run_steps(t));
    if (!t->progress.collapsed && t->progress.last_step < t->spec->steps) {
        *outcome = QZO_OUTCOME_COUNT;
        if (leads(t)) write_timing(t, t->progress.last_step, "rung");
        return qzo_comm_worst_status(t->group, failure_of(t));
    }
    *outcome = t->progress.collapsed ? QZO_OUTCOME_DIVERGED : QZO_OUTCOME_FINISHED;
    if (!t->progress.collapsed) QZO_TRY(evaluate_test(t));
    char text[128] = "";
    if (t->progress.collapsed)
        snprintf(text, sizeof text, "step %lld: the loss is not finite, or exactly zero",
                 (long long)t->progress.last_step);
    QZO_TRY(end_trial(t, *outcome, text));
cleanup:
    return status;
}

/* Whether an error is the trial's own fault: its model, its task, its settings. */
static bool is_of_trial(qzo_status status) {
    return status == QZO_ERR_CONFIG || status == QZO_ERR_FORMAT || status == QZO_ERR_UNSUPPORTED ||
           status == QZO_ERR_LIMIT || status == QZO_ERR_NOT_FOUND;
}

/* A path that could not be read when the trial was listed has its own digest in the place of its
 * contents': that trial can never run. One that was readable then, and is not now, can later. */
static bool was_unreadable(const qzo_digest *digest, const char *path) {
    qzo_digest of_path = qzo_digest_of(path, strlen(path));
    return qzo_digest_equal(digest, &of_path);
}

/* A trial that cannot even be prepared: a journal that says so, and nothing else. */
static qzo_status record_failure(trial *t, qzo_outcome *outcome, const char *reason) {
    qzo_status status = QZO_OK;
    qzo_journal_file file = {0};
    *outcome = QZO_OUTCOME_FAILED;
    if (leads(t)) {
        QZO_TRY(qzo_journal_load(&file, t->files->journal_path));
        QZO_TRY(qzo_journal_open(&t->journal, t->files->journal_path, &file, 0));
        if (file.frame_count == 0) QZO_TRY(append_header(t, 0, 0));
        QZO_TRY(qzo_journal_end_append(t->journal, 0, QZO_OUTCOME_FAILED, reason));
        qzo_log_error("trial failed: %s", reason);
    }
cleanup:
    qzo_journal_release(&file);
    return qzo_comm_worst_status(t->group, status);
}

static qzo_status prepare(trial *t, qzo_outcome *outcome, bool *failed) {
    qzo_status status = qzo_workbench_prepare(t->bench, t->spec);
    if (status == QZO_OK) status = qzo_workbench_check_trainable(t->bench);
    status = qzo_comm_worst_status(t->group, status);
    *failed =
        is_of_trial(status) ||
        (status == QZO_ERR_IO && (was_unreadable(&t->spec->model_digest, t->spec->model_path) ||
                                  was_unreadable(&t->spec->task_digest, t->spec->task_path)));
    if (status == QZO_OK) report_load(t);
    if (!*failed) return status;
    char reason[1024];
    snprintf(reason, sizeof reason, "%.1000s", qzo_error_message());
    return record_failure(t, outcome, reason);
}

qzo_status qzo_trial_run(qzo_outcome *outcome, const qzo_trial_spec *spec, qzo_workbench *bench,
                         qzo_comm *group, const qzo_trial_files *files,
                         const qzo_trial_hooks *hooks) {
    qzo_status status = QZO_OK;
    bool failed = false;
    trial t = {.spec = spec,
               .identity = qzo_trial_spec_identity(spec),
               .bench = bench,
               .group = group,
               .files = files,
               .hooks = hooks,
               .loss = (double)NAN,
               .dev_score = (double)NAN,
               .dev_loss = (double)NAN,
               .started_at = qzo_clock_seconds()};
    group->wait_seconds = 0.0;
    group->bytes_sent = 0;
    QZO_TRY(prepare(&t, outcome, &failed));
    if (failed) goto cleanup;
    QZO_TRY(resume(&t));
    if (t.progress.ended) {
        *outcome = t.progress.outcome;
        goto cleanup;
    }
    QZO_TRY(train(&t, outcome));
cleanup:
    if (leads(&t) && status == QZO_ERR_INTERRUPTED)
        write_timing(&t, t.progress.last_step, "parked");
    qzo_status closed = qzo_journal_close(t.journal);
    if (status == QZO_OK) status = closed;
    qzo_qspsa_close(t.optimizer);
    qzo_batches_close(&t.batches);
    qzo_progress_release(&t.progress);
    return status;
}
