/* Method: a step to warm up, then spec->steps steps that nothing watches, whose best and median
 * time count; then WATCHED_STEPS under the profile, which waits after each operation, for the
 * shares of the phases. The time between the phases is the host's: packing, losses, launching. */
#include "cli/bench_step.h"

#include "base/clock.h"
#include "trial/batches.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { WATCHED_STEPS = 2 };

/* --- measuring --- */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static qzo_status time_steps(qzo_bench_step *out, qzo_qspsa *optimizer, int64_t count) {
    qzo_status status = QZO_OK;
    qzo_step done;
    uint32_t flags = 0;
    double *seconds = calloc((size_t)count, sizeof *seconds);
    if (seconds == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for %" PRId64, count);
    QZO_TRY(qzo_qspsa_step(optimizer, 1, 0, &done, &flags)); /* to warm up */
    for (int64_t i = 0; i < count; i++) {
        double begin = qzo_clock_seconds();
        QZO_TRY(qzo_qspsa_step(optimizer, 2 + i, 0, &done, &flags));
        seconds[i] = qzo_clock_seconds() - begin;
    }
    qsort(seconds, (size_t)count, sizeof *seconds, ascending);
    out->step_count = count;
    out->seconds_best = seconds[0];
    out->seconds_median = 0.5 * (seconds[(count - 1) / 2] + seconds[count / 2]);
cleanup:
    free(seconds);
    return status;
}

static qzo_status watch_steps(qzo_bench_step *out, qzo_qspsa *optimizer, qzo_backend *profile,
                              const qzo_comm *group, int64_t first_step) {
    qzo_status status = QZO_OK;
    qzo_step done;
    uint32_t flags = 0;
    double waited = group->wait_seconds, begin = qzo_clock_seconds();
    qzo_profile_switch(profile, true);
    for (int64_t i = 0; i < WATCHED_STEPS; i++)
        QZO_TRY(qzo_qspsa_step(optimizer, first_step + i, 0, &done, &flags));
    out->watched_seconds = (qzo_clock_seconds() - begin) / WATCHED_STEPS;
    out->exchange_seconds = (group->wait_seconds - waited) / WATCHED_STEPS;
    out->extra_seconds = qzo_profile_extra_seconds(profile) / WATCHED_STEPS;
    const qzo_phase_total *totals = qzo_profile_totals(profile);
    for (int i = 0; i < QZO_PHASE_COUNT; i++)
        out->phases[i] = (qzo_phase_total){.calls = totals[i].calls / WATCHED_STEPS,
                                           .seconds = totals[i].seconds / WATCHED_STEPS,
                                           .flops = totals[i].flops / WATCHED_STEPS,
                                           .bytes = totals[i].bytes / WATCHED_STEPS};
cleanup:
    qzo_profile_switch(profile, false);
    return status;
}

qzo_status qzo_bench_step_measure(qzo_bench_step *out, qzo_workbench *bench,
                                  const qzo_trial_spec *spec, qzo_comm *group) {
    qzo_status status = QZO_OK;
    qzo_batches batches = {0};
    qzo_qspsa *optimizer = NULL;
    qzo_qspsa_settings settings = qzo_batches_settings(spec);
    qzo_objective objective = {.context = &batches,
                               .unit_count = qzo_batches_unit_count(spec),
                               .loss_sum = qzo_batches_loss_sum,
                               .loss_sums = qzo_batches_loss_sums,
                               .loss_weight = qzo_batches_loss_weight};
    *out = (qzo_bench_step){.batch = spec->batch,
                            .samples = spec->samples_per_step,
                            .pair_rows = bench->workspace->pair_rows};
    QZO_TRY(qzo_workbench_reset(bench, spec));
    QZO_TRY(qzo_batches_open(&batches, bench, spec));
    QZO_TRY(qzo_qspsa_open(&optimizer, &settings, &bench->trainable, &objective, group));
    QZO_TRY(qzo_qspsa_sync(optimizer));
    QZO_TRY(time_steps(out, optimizer, spec->steps));
    QZO_TRY(watch_steps(out, optimizer, bench->backend, group, spec->steps + 2));
    if (batches.evaluation_count > 0)
        out->rows = (double)batches.row_count / (double)batches.evaluation_count;
    out->weight_bytes = out->phases[QZO_PHASE_DECODE].bytes;
    out->master_bytes = 2.0 * (double)bench->model->value_count * sizeof(float);
cleanup:
    qzo_qspsa_close(optimizer);
    qzo_batches_close(&batches);
    return status;
}

/* --- printing --- */

double qzo_bench_step_flops(const qzo_bench_step *step) {
    return step->phases[QZO_PHASE_MATMUL].flops + step->phases[QZO_PHASE_ATTENTION].flops;
}

double qzo_bench_step_floor_seconds(const qzo_bench_step *step, const qzo_peaks *peaks) {
    if (!(peaks->flops_per_second > 0.0 && peaks->copy_bytes_per_second > 0.0)) return 0.0;
    double computing = qzo_bench_step_flops(step) / peaks->flops_per_second;
    double moving = (step->weight_bytes + step->master_bytes) / peaks->copy_bytes_per_second;
    return computing > moving ? computing : moving;
}

/* What is left of a watched step outside the phases and the exchange. */
static double host_seconds(const qzo_bench_step *step) {
    double left = step->watched_seconds - step->exchange_seconds - step->extra_seconds;
    for (int i = 0; i < QZO_PHASE_COUNT; i++) left -= step->phases[i].seconds;
    return left > 0.0 ? left : 0.0;
}

static void print_phase(const char *name, int64_t calls, double seconds, double whole) {
    printf("  %-12s %8" PRId64 " %12.4f %7.1f%%\n", name, calls, seconds * 1e3,
           whole > 0.0 ? 100.0 * seconds / whole : 0.0);
}

void qzo_bench_step_print(const qzo_bench_step *step, const qzo_peaks *peaks) {
    double floor = qzo_bench_step_floor_seconds(step, peaks), best = step->seconds_best;
    double whole = host_seconds(step) + step->exchange_seconds;
    for (int i = 0; i < QZO_PHASE_COUNT; i++) whole += step->phases[i].seconds;
    printf("\nstep of %" PRId64 " examples, %" PRId64 " pairs, %.1f rows per evaluation: best %.3f "
           "ms, median %.3f ms of %" PRId64 "\n",
           step->batch, step->samples, step->rows, best * 1e3, step->seconds_median * 1e3,
           step->step_count);
    if (step->pair_rows > 0)
        printf("both signs of a perturbation at once, up to %" PRId64 " rows each\n",
               step->pair_rows);
    printf("%.3f GFLOP/s, %.1f%% of the roofline (%.3f ms%s)\n\n",
           qzo_bench_step_flops(step) / best / 1e9, 100.0 * floor / best, floor * 1e3,
           peaks->pretended != NULL ? ", of pretended peaks" : "");
    printf("  %-12s %8s %12s %8s\n", "phase", "calls", "ms", "share");
    for (int i = 0; i < QZO_PHASE_COUNT; i++)
        print_phase(qzo_phase_name((qzo_phase)i), step->phases[i].calls, step->phases[i].seconds,
                    whole);
    print_phase("exchange", 1, step->exchange_seconds, whole);
    print_phase("host", 1, host_seconds(step), whole);
}

static json_t *phase_json(const qzo_phase_total *phase) {
    return json_pack("{s:I, s:f, s:f, s:f}", "calls", (json_int_t)phase->calls, "seconds",
                     phase->seconds, "flops", phase->flops, "bytes", phase->bytes);
}

json_t *qzo_bench_step_json(const qzo_bench_step *step, const qzo_peaks *peaks) {
    double floor = qzo_bench_step_floor_seconds(step, peaks), best = step->seconds_best;
    json_t *phases = json_object();
    for (int i = 0; i < QZO_PHASE_COUNT; i++)
        json_object_set_new(phases, qzo_phase_name((qzo_phase)i), phase_json(&step->phases[i]));
    json_object_set_new(phases, "exchange", json_pack("{s:f}", "seconds", step->exchange_seconds));
    json_object_set_new(phases, "host", json_pack("{s:f}", "seconds", host_seconds(step)));
    return json_pack("{s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}",
                     "batch", (json_int_t)step->batch, "samples", (json_int_t)step->samples,
                     "steps", (json_int_t)step->step_count, "pair_rows",
                     (json_int_t)step->pair_rows, "rows_per_evaluation", step->rows, "seconds_best",
                     best, "seconds_median", step->seconds_median, "watched_seconds",
                     step->watched_seconds, "flops", qzo_bench_step_flops(step), "weight_bytes",
                     step->weight_bytes, "gflops", qzo_bench_step_flops(step) / best / 1e9,
                     "roofline_seconds", floor, "share_of_roofline", floor / best, "phases",
                     phases);
}
