#include "cli/estimate.h"

#include "base/clock.h"
#include "sweep/scheduling.h"
#include "trial/batches.h"
#include "trial/eval_chunks.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { TIMED_STEPS = 3 };

/* --- calibration --- */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double seconds[TIMED_STEPS]) {
    qsort(seconds, TIMED_STEPS, sizeof *seconds, ascending);
    return seconds[TIMED_STEPS / 2];
}

/* k = 0 leaves the masters as they are and takes as long as any other. */
static qzo_status time_update(double *out, qzo_workbench *bench, const qzo_trial_spec *spec) {
    double seconds[TIMED_STEPS];
    qzo_record record = {.seed = 1};
    qzo_gain gain;
    const float k = 0.0f;
    const qzo_qspsa_settings settings = qzo_batches_settings(spec);
    const qzo_step step = {.step = 1, .records = &record, .k = &k, .record_count = 1};
    for (int i = 0; i < TIMED_STEPS; i++) {
        uint64_t digest = 0; /* waits for a device that works behind the host's back */
        double begin = qzo_clock_seconds();
        qzo_status status = qzo_qspsa_apply(&bench->trainable, &gain, &settings, &step, &digest);
        if (status != QZO_OK) return status;
        seconds[i] = qzo_clock_seconds() - begin;
    }
    *out = median_of(seconds);
    return QZO_OK;
}

static qzo_status time_evaluation(double *out, qzo_workbench *bench, const qzo_trial_spec *spec) {
    const qzo_split *split = &bench->task->splits[QZO_SPLIT_DEV];
    qzo_eval_chunks chunks = {0};
    double seconds[TIMED_STEPS];
    qzo_perturbation none = {0};
    int64_t *examples = NULL;
    qzo_status status = qzo_eval_chunks_make(&chunks, split, split, spec);
    if (status != QZO_OK) return status;
    int64_t count = chunks.count > 0 ? chunks.begin[1] : 0;
    qzo_eval_chunks_release(&chunks);
    examples = calloc((size_t)count + 1, sizeof *examples);
    if (examples == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for an evaluation");
    for (int64_t i = 0; i < count; i++) examples[i] = i;
    const qzo_batch batch = {.split = split, .examples = examples, .count = count};
    for (int i = 0; count > 0 && i < TIMED_STEPS; i++) {
        qzo_sums sums;
        double begin = qzo_clock_seconds();
        QZO_TRY(qzo_workbench_evaluate(bench, &sums, &batch, &none));
        seconds[i] = qzo_clock_seconds() - begin;
    }
    *out = count > 0 ? median_of(seconds) : 0.0;
cleanup:
    free(examples);
    return status;
}

static qzo_status time_steps(double *out, qzo_workbench *bench, const qzo_trial_spec *spec,
                             qzo_comm *alone) {
    qzo_status status = QZO_OK;
    qzo_batches batches = {0};
    qzo_qspsa *optimizer = NULL;
    double seconds[TIMED_STEPS];
    qzo_step done;
    uint32_t flags = 0;
    qzo_qspsa_settings settings = qzo_batches_settings(spec);
    qzo_objective objective = {.context = &batches,
                               .unit_count = qzo_batches_unit_count(spec),
                               .loss_sum = qzo_batches_loss_sum,
                               .loss_sums = qzo_batches_loss_sums,
                               .loss_weight = qzo_batches_loss_weight};
    QZO_TRY(qzo_workbench_reset(bench, spec));
    QZO_TRY(qzo_batches_open(&batches, bench, spec));
    QZO_TRY(qzo_qspsa_open(&optimizer, &settings, &bench->trainable, &objective, alone));
    QZO_TRY(qzo_qspsa_sync(optimizer));
    QZO_TRY(qzo_qspsa_step(optimizer, 1, 0, &done, &flags)); /* to warm up */
    for (int i = 0; i < TIMED_STEPS; i++) {
        double begin = qzo_clock_seconds();
        QZO_TRY(qzo_qspsa_step(optimizer, 2 + i, 0, &done, &flags));
        seconds[i] = qzo_clock_seconds() - begin;
    }
    *out = median_of(seconds);
cleanup:
    qzo_qspsa_close(optimizer);
    qzo_batches_close(&batches);
    return status;
}

qzo_status qzo_calibrate(qzo_calibration *out, const qzo_trial_spec *spec,
                         const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = NULL;
    qzo_comm *alone = NULL;
    qzo_workbench bench = {0};
    qzo_trial_spec timed = *spec; /* borrows the paths */
    qzo_backend_options backend_options = {.pairs = options->pairs,
                                           .thread_count = qzo_threads(options, 1)};
    if (timed.steps < TIMED_STEPS + 1) timed.steps = TIMED_STEPS + 1;
    QZO_TRY(qzo_backend_open(&backend, options->backend_name, &backend_options));
    QZO_TRY(qzo_comm_local_open(&alone));
    qzo_workbench_init(&bench, backend);
    QZO_TRY(qzo_workbench_prepare(&bench, &timed));
    *out = (qzo_calibration){.thread_count = backend_options.thread_count,
                             .backend_name = backend->ops->device != NULL ? "GPU" : "CPU"};
    QZO_TRY(time_steps(&out->step_seconds, &bench, &timed, alone));
    QZO_TRY(time_update(&out->update_seconds, &bench, &timed));
    QZO_TRY(time_evaluation(&out->eval_seconds, &bench, &timed));
    int64_t passes = qzo_trial_spec_passes(&timed);
    double updates = (double)timed.samples_per_step * out->update_seconds;
    double left = out->step_seconds - updates;
    out->pass_seconds = (left > 0.0 ? left : 0.0) / (double)passes;
cleanup:
    qzo_workbench_release(&bench);
    qzo_comm_close(alone);
    qzo_backend_close(backend);
    return status;
}

/* --- what follows from it --- */

static double passes_on(int64_t passes, int64_t ranks) {
    return (double)((passes + ranks - 1) / ranks);
}

double qzo_trial_seconds(const qzo_trial_size *size, const qzo_calibration *calibration,
                         int64_t ranks) {
    double step = passes_on(size->passes_per_step, ranks) * calibration->pass_seconds +
                  (double)size->records_per_step * calibration->update_seconds;
    double evaluation = passes_on(size->passes_per_evaluation, ranks) * calibration->eval_seconds;
    double test = passes_on(size->test_passes, ranks) * calibration->eval_seconds;
    return (double)size->steps * step + (double)size->evaluations * evaluation + test;
}

qzo_status qzo_scheduled_steps(int64_t *steps, const qzo_sweep_spec *sweep, const qzo_grid *grid) {
    qzo_status status = QZO_OK;
    qzo_scheduling scheduling = {0};
    void *state = NULL;
    qzo_action action;
    for (int64_t i = 0; i < grid->trial_count; i++) steps[i] = grid->trials[i].spec.steps;
    QZO_TRY(qzo_scheduling_make(&scheduling, sweep, grid));
    /* A fork goes on in the place of a trial that is stopped: as many steps as without it. */
    if (!scheduling.ops->has_rungs || scheduling.ops->forks) goto cleanup;
    qzo_scheduler_settings settings = {.trial_count = grid->trial_count,
                                       .rungs = scheduling.rungs,
                                       .rung_count = scheduling.rung_count,
                                       .eta = scheduling.eta,
                                       .brackets = scheduling.brackets,
                                       .min_trials = scheduling.min_trials};
    QZO_TRY(scheduling.ops->create(&state, &settings));
    while (!scheduling.ops->done(state) && scheduling.ops->next(state, &action)) {
        if (action.kind != QZO_ACTION_RUN) continue;
        bool ends = action.rung == scheduling.rung_count - 1;
        steps[action.trial] = scheduling.rungs[action.rung];
        /* Golden-ratio scores: no order of quality among the rows. */
        double score = (double)(action.trial + 1) * 0.61803398874989485;
        scheduling.ops->report(state, action.trial, ends ? QZO_REPORT_ENDED : QZO_REPORT_RUNG,
                               score - floor(score));
    }
cleanup:
    if (state != NULL) scheduling.ops->destroy(state);
    qzo_scheduling_release(&scheduling);
    return status;
}

/* --- times of a day --- */

qzo_status qzo_time_parse(double *seconds, const char *text) {
    int days = 0, parts[3] = {0, 0, 0}, end = 0, count = 0;
    const char *at = text;
    if (sscanf(at, "%d-%n", &days, &end) == 1 && end > 0) at += end;
    bool has_days = at != text;
    end = 0;
    while (count < 3 && sscanf(at, "%d%n", &parts[count], &end) == 1 && at[0] >= '0' &&
           at[0] <= '9') {
        at += end;
        count++;
        if (*at != ':') break;
        at++;
    }
    bool is_whole = *at == '\0' && count > 0 && days >= 0 && (at == text || at[-1] != ':');
    if (!is_whole || days > 365 || parts[0] > 1000000)
        return qzo_fail(QZO_ERR_USAGE,
                        "--time: expected minutes, MM:SS, HH:MM:SS or D-HH:MM:SS, found '%.40s'",
                        text);
    double first = parts[0], second = parts[1], third = parts[2];
    if (has_days) /* D-HH, D-HH:MM */
        *seconds = 86400.0 * days + 3600 * first + 60 * second + third;
    else
        *seconds = count == 3   ? 3600 * first + 60 * second + third
                   : count == 2 ? 60 * first + second
                                : 60 * first;
    return QZO_OK;
}

const char *qzo_time_text(char out[QZO_TIME_TEXT_BYTES], double seconds) {
    long long whole = seconds < 1e15 ? (long long)ceil(seconds) : (long long)1e15;
    long long days = whole / 86400;
    int used = days > 0 ? snprintf(out, QZO_TIME_TEXT_BYTES, "%lld-", days) : 0;
    snprintf(out + used, (size_t)(QZO_TIME_TEXT_BYTES - used), "%02lld:%02lld:%02lld",
             whole / 3600 % 24, whole / 60 % 60, whole % 60);
    return out;
}
