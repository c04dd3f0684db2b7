#include "cli/plan_time.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 16384 }; /* three paths */

/* Times of machines vary, and a job that ends a minute early starts again. */
static const double MARGIN = 1.2, START_SECONDS = 120.0;

/* Dealing trial by trial costs trials times groups; beyond this a bound must do. */
static const double DEALS_MAX = 1e8;

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

static qzo_trial_size size_of(const qzo_trial_spec *spec, const qzo_kind *kind, int64_t steps) {
    bool is_whole = steps == spec->steps;
    return (qzo_trial_size){.steps = steps,
                            .evaluations = 1 + divide_up(steps, spec->evaluate_every),
                            .passes_per_step = qzo_trial_spec_passes(spec),
                            .records_per_step = spec->samples_per_step,
                            .passes_per_evaluation = kind->dev_passes,
                            .test_passes = is_whole ? kind->test_passes : 0};
}

/* Seconds until the last of the trials ends, each taken by the first group that is free. */
static double makespan(const double *trial_seconds, int64_t count, int64_t group_count,
                       double *groups) {
    double sum = 0.0, longest = 0.0, last = 0.0;
    bool deals = (double)count * (double)group_count <= DEALS_MAX;
    for (int64_t g = 0; g < group_count; g++) groups[g] = 0.0;
    for (int64_t i = 0; i < count; i++) {
        sum += trial_seconds[i];
        if (trial_seconds[i] > longest) longest = trial_seconds[i];
        int64_t first = 0;
        for (int64_t g = 1; deals && g < group_count; g++)
            if (groups[g] < groups[first]) first = g;
        groups[first] += trial_seconds[i];
        if (groups[first] > last) last = groups[first];
    }
    double spread = sum / (double)group_count;
    return deals ? last : spread > longest ? spread : longest;
}

typedef struct estimator {
    qzo_plan_time *time;
    const qzo_grid *grid;
    const qzo_kinds *kinds;
    int64_t *steps;        /* (trial_count) */
    double *trial_seconds; /* (trial_count) */
    double *groups;        /* (rank_count) */
} estimator;

static void add_choice(estimator *e, int64_t ranks_per_trial) {
    qzo_plan_time *t = e->time;
    if (t->choice_count == QZO_CHOICES_MAX) return;
    for (int64_t i = 0; i < e->grid->trial_count; i++) {
        const qzo_trial_spec *spec = &e->grid->trials[i].spec;
        const qzo_kind *kind = qzo_kinds_find(e->kinds, spec);
        qzo_trial_size size = size_of(spec, kind, e->steps[i]);
        e->trial_seconds[i] =
            kind->status == QZO_OK
                ? qzo_trial_seconds(&size, &t->calibrations[kind - e->kinds->entries],
                                    ranks_per_trial)
                : 0.0;
    }
    double seconds = makespan(e->trial_seconds, e->grid->trial_count,
                              divide_up(t->rank_count, ranks_per_trial), e->groups);
    t->choices[t->choice_count] = (qzo_rank_choice){ranks_per_trial, seconds};
    if (seconds < t->choices[t->best].seconds) t->best = t->choice_count;
    t->choice_count++;
}

/* Powers of two, all ranks, and what the sweep file asks for. */
static void add_choices(estimator *e, int64_t asked) {
    qzo_plan_time *t = e->time;
    int64_t ranks = 1;
    if (asked == QZO_RANKS_ALL || asked > t->rank_count) asked = t->rank_count;
    while (ranks <= t->rank_count) {
        if (ranks == asked) t->asked = t->choice_count;
        add_choice(e, ranks);
        int64_t next = ranks * 2;
        if (ranks < asked && asked < next) next = asked;
        if (ranks < t->rank_count && t->rank_count < next) next = t->rank_count;
        /* Behind a number that is no power of two, the next power again. */
        if ((ranks & (ranks - 1)) != 0 && ranks != t->rank_count) {
            next = 1;
            while (next <= ranks) next *= 2;
            if (t->rank_count < next) next = t->rank_count;
        }
        ranks = next;
    }
}

qzo_status qzo_plan_time_make(qzo_plan_time *out, const qzo_sweep_spec *sweep, const qzo_grid *grid,
                              const qzo_kinds *kinds, const qzo_options *options) {
    qzo_status status = QZO_OK;
    *out = (qzo_plan_time){.rank_count = options->rank_count,
                           .per_node = options->per_node,
                           .sweep_path = options->sweep_path,
                           .model_path = options->model_path,
                           .task_path = options->task_path,
                           .scheduler_name = sweep->scheduler.ops->name};
    estimator e = {.time = out, .grid = grid, .kinds = kinds};
    size_t trials = (size_t)grid->trial_count;
    if (options->time_text != NULL)
        QZO_TRY(qzo_time_parse(&out->limit_seconds, options->time_text));
    out->calibrations = calloc((size_t)kinds->count + 1, sizeof *out->calibrations);
    e.steps = calloc(trials + 1, sizeof *e.steps);
    e.trial_seconds = calloc(trials + 1, sizeof *e.trial_seconds);
    e.groups = calloc((size_t)out->rank_count, sizeof *e.groups);
    if (!out->calibrations || !e.steps || !e.trial_seconds || !e.groups) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for a plan", sweep->file_path);
        goto cleanup;
    }
    out->first_kind = -1;
    for (int64_t i = 0; i < kinds->count; i++) {
        if (kinds->entries[i].status != QZO_OK) continue;
        QZO_TRY(qzo_calibrate(&out->calibrations[i], kinds->entries[i].spec, options));
        if (out->first_kind < 0) out->first_kind = i;
    }
    if (out->first_kind < 0) goto cleanup; /* no trial can run: nothing to estimate */
    QZO_TRY(qzo_scheduled_steps(e.steps, sweep, grid));
    for (size_t i = 0; i < trials; i++) out->scheduled_steps += e.steps[i];
    add_choices(&e, sweep->ranks_per_trial);
cleanup:
    free(e.steps);
    free(e.trial_seconds);
    free(e.groups);
    return status;
}

void qzo_plan_time_release(qzo_plan_time *time) {
    free(time->calibrations);
    *time = (qzo_plan_time){0};
}

/* --- printing --- */

static void print_calibrations(const qzo_plan_time *t, const qzo_kinds *kinds) {
    for (int64_t i = 0; i < kinds->count; i++) {
        const qzo_calibration *c = &t->calibrations[i];
        if (kinds->entries[i].status != QZO_OK) continue;
        printf("a step of trial %" PRId64 " on one rank (%s, %" PRId64 " thread%s): %.4g ms, %.4g "
               "steps/s; forward pass %.3g ms, update %.3g ms, evaluation pass %.3g ms\n",
               kinds->entries[i].first_trial + 1, c->backend_name, c->thread_count,
               c->thread_count == 1 ? "" : "s", 1e3 * c->step_seconds, 1.0 / c->step_seconds,
               1e3 * c->pass_seconds, 1e3 * c->update_seconds, 1e3 * c->eval_seconds);
    }
}

static double suggested_seconds(const qzo_plan_time *t) {
    return t->limit_seconds > 0 ? t->limit_seconds
                                : MARGIN * t->choices[t->asked].seconds + START_SECONDS;
}

static void sbatch_line(char *out, size_t size, const qzo_plan_time *t) {
    char text[QZO_TIME_TEXT_BYTES];
    int64_t tasks = t->rank_count < t->per_node ? t->rank_count : t->per_node;
    int64_t nodes = divide_up(t->rank_count, tasks);
    snprintf(out, size,
             "sbatch --nodes=%" PRId64 " --ntasks-per-node=%" PRId64 " --time=%s slurm/%s.sbatch "
             "%s OUT%s%s%s%s",
             nodes, tasks, qzo_time_text(text, suggested_seconds(t)),
             nodes == 1 ? "run_one_node" : "run_many_nodes", t->sweep_path,
             t->model_path != NULL ? " --model " : "", t->model_path != NULL ? t->model_path : "",
             t->task_path != NULL ? " --task " : "", t->task_path != NULL ? t->task_path : "");
}

/* Jobs of the limit that the sweep takes; each start loses a little. */
static int64_t job_count(const qzo_plan_time *t) {
    double usable = t->limit_seconds - START_SECONDS;
    double needed = t->choices[t->asked].seconds;
    if (t->limit_seconds == 0 || needed <= t->limit_seconds) return 1;
    return usable > 0 ? (int64_t)(needed / usable) + 1 : 0;
}

void qzo_plan_time_print(const qzo_plan_time *t, const qzo_kinds *kinds) {
    char text[QZO_TIME_TEXT_BYTES], line[LINE_BYTES];
    if (t->choice_count == 0) return;
    double seconds = t->choices[t->asked].seconds;
    const qzo_calibration *c = &t->calibrations[t->first_kind];
    double units = (double)t->rank_count *
                   (strcmp(c->backend_name, "GPU") == 0 ? 1.0 : (double)c->thread_count);
    print_calibrations(t, kinds);
    printf("%" PRId64 " steps with scheduler %s\n", t->scheduled_steps, t->scheduler_name);
    for (int i = 0; i < t->choice_count; i++)
        printf("  ranks_per_trial %-6" PRId64 " %12s%s%s\n", t->choices[i].ranks_per_trial,
               qzo_time_text(text, t->choices[i].seconds), i == t->best ? "  shortest" : "",
               i == t->asked ? "  as the sweep file has it" : "");
    printf("%.3g hours, %.3g %s-hours\n", seconds / 3600.0, units * seconds / 3600.0,
           strcmp(c->backend_name, "GPU") == 0 ? "GPU" : "core");
    int64_t jobs = job_count(t);
    if (t->limit_seconds > 0 && jobs == 1)
        printf("fits --time %s\n", qzo_time_text(text, t->limit_seconds));
    else if (t->limit_seconds > 0 && jobs > 1)
        printf("does not fit --time %s: about %" PRId64 " starts, which the batch files make\n",
               qzo_time_text(text, t->limit_seconds), jobs);
    else if (t->limit_seconds > 0)
        printf("--time %s is too short to start in\n", qzo_time_text(text, t->limit_seconds));
    sbatch_line(line, sizeof line, t);
    printf("%s\n", line);
}

json_t *qzo_plan_time_json(const qzo_plan_time *t) {
    char line[LINE_BYTES];
    json_t *choices = json_array();
    for (int i = 0; i < t->choice_count; i++)
        json_array_append_new(choices, json_pack("{sI, sf}", "ranks_per_trial",
                                                 (json_int_t)t->choices[i].ranks_per_trial,
                                                 "seconds", t->choices[i].seconds));
    if (t->choice_count == 0) return choices;
    const qzo_calibration *c = &t->calibrations[t->first_kind];
    sbatch_line(line, sizeof line, t);
    return json_pack(
        "{sf, sf, sf, sf, sI, so, sI, sf, sI, ss}", "step_seconds", c->step_seconds, "pass_seconds",
        c->pass_seconds, "update_seconds", c->update_seconds, "evaluation_pass_seconds",
        c->eval_seconds, "scheduled_steps", (json_int_t)t->scheduled_steps, "choices", choices,
        "shortest_ranks_per_trial", (json_int_t)t->choices[t->best].ranks_per_trial, "seconds",
        t->choices[t->asked].seconds, "starts", (json_int_t)job_count(t), "sbatch", line);
}
