#include "sweep/scheduling.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static qzo_status fail_memory(void) {
    return qzo_fail(QZO_ERR_MEMORY, "out of memory for a scheduler's rungs");
}

static qzo_status add_rung(qzo_scheduling *s, int64_t steps) {
    if (s->rung_count > 0 && s->rungs[s->rung_count - 1] >= steps) return QZO_OK;
    if (s->rung_count == QZO_RUNGS_MAX)
        return qzo_fail(QZO_ERR_LIMIT,
                        "scheduler: more than %d rungs: raise min_steps or "
                        "evaluate_every",
                        QZO_RUNGS_MAX);
    int64_t *grown = realloc(s->rungs, ((size_t)s->rung_count + 1) * sizeof *grown);
    if (!grown) return fail_memory();
    s->rungs = grown;
    grown[s->rung_count++] = steps;
    return QZO_OK;
}

/* Rungs compare trials at the same step, so all must have evaluations there. */
static qzo_status check_alike(const qzo_sweep_spec *sweep, const qzo_grid *grid) {
    for (int64_t i = 1; i < grid->trial_count; i++) {
        const qzo_trial_spec *a = &grid->trials[0].spec, *b = &grid->trials[i].spec;
        if (a->steps != b->steps || a->evaluate_every != b->evaluate_every)
            return qzo_fail(QZO_ERR_CONFIG,
                            "%s: scheduler %s: expected trials with equal steps and "
                            "evaluate_every, found %" PRId64 " and %" PRId64 " in trial 1, %" PRId64
                            " and %" PRId64 " in trial %" PRId64,
                            sweep->file_path, sweep->scheduler.ops->name, a->steps,
                            a->evaluate_every, b->steps, b->evaluate_every, i + 1);
    }
    return QZO_OK;
}

static qzo_status make_rungs(qzo_scheduling *s, const qzo_sweep_spec *sweep,
                             const qzo_trial_spec *spec) {
    qzo_status status = QZO_OK;
    bool every_evaluation = sweep->scheduler.ops == &qzo_sched_median;
    int64_t every = spec->evaluate_every;
    double wanted =
        sweep->scheduler.min_steps > 0 ? (double)sweep->scheduler.min_steps : (double)every;
    while (wanted < (double)spec->steps) {
        int64_t steps = (int64_t)wanted;
        if (steps % every != 0) steps += every - steps % every;
        if (steps >= spec->steps) break;
        QZO_TRY(add_rung(s, steps));
        wanted = every_evaluation ? (double)(steps + every) : wanted * (double)s->eta;
    }
    QZO_TRY(add_rung(s, spec->steps));
cleanup:
    return status;
}

qzo_status qzo_scheduling_make(qzo_scheduling *out, const qzo_sweep_spec *sweep,
                               const qzo_grid *grid) {
    qzo_status status = QZO_OK;
    *out = (qzo_scheduling){.ops = sweep->scheduler.ops,
                            .eta = sweep->scheduler.eta,
                            .brackets = sweep->scheduler.brackets,
                            .min_trials = sweep->scheduler.min_trials,
                            .by_score = strcmp(sweep->base.metric_name, "dev_score") == 0,
                            .maximize = strcmp(sweep->base.metric_goal, "maximize") == 0};
    if (!out->ops->has_rungs || grid->trial_count == 0) return QZO_OK;
    QZO_TRY(check_alike(sweep, grid));
    QZO_TRY(make_rungs(out, sweep, &grid->trials[0].spec));
cleanup:
    if (status != QZO_OK) qzo_scheduling_release(out);
    return status;
}

void qzo_scheduling_release(qzo_scheduling *scheduling) {
    free(scheduling->rungs);
    *scheduling = (qzo_scheduling){0};
}

bool qzo_scheduling_equal(const qzo_scheduling *a, const qzo_scheduling *b) {
    if (a->ops != b->ops) return false;
    if (!a->ops->has_rungs) return true;
    return a->rung_count == b->rung_count && a->eta == b->eta && a->brackets == b->brackets &&
           a->min_trials == b->min_trials && a->by_score == b->by_score &&
           a->maximize == b->maximize &&
           memcmp(a->rungs, b->rungs, (size_t)a->rung_count * sizeof *a->rungs) == 0;
}

json_t *qzo_scheduling_to_json(const qzo_scheduling *s) {
    json_t *rungs = json_array();
    for (int64_t i = 0; rungs != NULL && i < s->rung_count; i++)
        if (json_array_append_new(rungs, json_integer(s->rungs[i])) != 0) {
            json_decref(rungs);
            rungs = NULL;
        }
    return json_pack("{ss, so, sI, sI, sI, sb, sb}", "name", s->ops->name, "rungs", rungs, "eta",
                     (json_int_t)s->eta, "brackets", (json_int_t)s->brackets, "min_trials",
                     (json_int_t)s->min_trials, "by_score", (int)s->by_score, "maximize",
                     (int)s->maximize);
}

qzo_status qzo_scheduling_from_json(qzo_scheduling *out, const json_t *object, const char *name) {
    qzo_status status = QZO_OK;
    const char *scheduler = NULL;
    *out = (qzo_scheduling){.ops = &qzo_sched_fifo};
    if (object == NULL) return QZO_OK;
    QZO_TRY(qzo_json_string(&scheduler, object, "name", name));
    out->ops = qzo_scheduler_find(scheduler);
    if (out->ops == NULL) {
        status =
            qzo_fail(QZO_ERR_UNSUPPORTED, "%s: scheduler \"%.40s\" is not known", name, scheduler);
        goto cleanup;
    }
    const json_t *rungs = json_object_get(object, "rungs");
    out->eta = json_integer_value(json_object_get(object, "eta"));
    out->brackets = json_integer_value(json_object_get(object, "brackets"));
    out->min_trials = json_integer_value(json_object_get(object, "min_trials"));
    out->by_score = json_is_true(json_object_get(object, "by_score"));
    out->maximize = json_is_true(json_object_get(object, "maximize"));
    for (size_t i = 0; i < json_array_size(rungs); i++)
        QZO_TRY(add_rung(out, json_integer_value(json_array_get(rungs, i))));
    bool is_sound = out->eta >= 2 && out->brackets >= 1 && out->min_trials >= 1 &&
                    (size_t)out->rung_count == json_array_size(rungs) && out->rung_count >= 1 &&
                    out->rungs[0] >= 1;
    if (out->ops->has_rungs && !is_sound)
        status = qzo_fail(QZO_ERR_FORMAT,
                          "%s: \"scheduler\": expected eta >= 2, brackets, min_trials >= 1 and "
                          "ascending rungs",
                          name);
cleanup:
    if (status != QZO_OK) qzo_scheduling_release(out);
    return status;
}

double qzo_scheduling_score(const qzo_scheduling *scheduling, double dev_score, double dev_loss) {
    double value = scheduling->by_score ? dev_score : dev_loss;
    return scheduling->maximize ? -value : value;
}
