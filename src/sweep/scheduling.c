#include "sweep/scheduling.h"

#include <inttypes.h>
#include <stdio.h>
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
    const qzo_scheduler_choice *choice = &sweep->scheduler;
    int64_t every = spec->evaluate_every, step = choice->ops == &qzo_sched_median ? every : 0;
    if (choice->ops->forks) step = choice->interval > 0 ? choice->interval : every;
    double wanted = choice->ops->forks      ? (double)step
                    : choice->min_steps > 0 ? (double)choice->min_steps
                                            : (double)every;
    while (wanted < (double)spec->steps) {
        int64_t steps = (int64_t)wanted;
        if (steps % every != 0) steps += every - steps % every;
        if (steps >= spec->steps) break;
        QZO_TRY(add_rung(s, steps));
        wanted = step > 0 ? (double)(steps + step) : wanted * (double)s->eta;
    }
    QZO_TRY(add_rung(s, spec->steps));
cleanup:
    return status;
}

/* What the file names, else the swept settings that can be perturbed. */
static qzo_status choose_perturbed(qzo_perturbing *out, const qzo_sweep_spec *sweep,
                                   const qzo_grid *grid) {
    const qzo_scheduler_choice *choice = &sweep->scheduler;
    *out = (qzo_perturbing){.quantile = choice->quantile,
                            .factor_count = choice->factor_count,
                            .setting_count = choice->perturbed_count,
                            .seed = sweep->search_seed};
    memcpy(out->factors, choice->factors, sizeof out->factors);
    memcpy(out->settings, choice->perturbed, sizeof out->settings);
    for (int64_t i = 0; choice->perturbed_count == 0 && i < grid->swept_count; i++) {
        const qzo_setting *setting = qzo_setting_find(grid->swept_keys[i]);
        if (qzo_setting_can_be_perturbed(setting) && out->setting_count < QZO_PERTURBED_MAX)
            out->settings[out->setting_count++] = setting;
    }
    return out->setting_count > 0
               ? QZO_OK
               : qzo_fail(QZO_ERR_CONFIG,
                          "%s: scheduler %s: expected a swept number to perturb, or the key "
                          "perturb, found neither",
                          sweep->file_path, choice->ops->name);
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
    if (out->ops->forks) QZO_TRY(choose_perturbed(&out->perturbing, sweep, grid));
    QZO_TRY(make_rungs(out, sweep, &grid->trials[0].spec));
cleanup:
    if (status != QZO_OK) qzo_scheduling_release(out);
    return status;
}

void qzo_scheduling_release(qzo_scheduling *scheduling) {
    free(scheduling->rungs);
    *scheduling = (qzo_scheduling){0};
}

static bool perturbing_equal(const qzo_perturbing *a, const qzo_perturbing *b) {
    bool same = a->quantile == b->quantile && a->factor_count == b->factor_count &&
                a->setting_count == b->setting_count && a->seed == b->seed;
    for (int64_t i = 0; same && i < a->factor_count; i++) same = a->factors[i] == b->factors[i];
    for (int64_t i = 0; same && i < a->setting_count; i++) same = a->settings[i] == b->settings[i];
    return same;
}

bool qzo_scheduling_equal(const qzo_scheduling *a, const qzo_scheduling *b) {
    if (a->ops != b->ops) return false;
    if (!a->ops->has_rungs) return true;
    return a->rung_count == b->rung_count && a->eta == b->eta && a->brackets == b->brackets &&
           a->min_trials == b->min_trials && a->by_score == b->by_score &&
           a->maximize == b->maximize && perturbing_equal(&a->perturbing, &b->perturbing) &&
           memcmp(a->rungs, b->rungs, (size_t)a->rung_count * sizeof *a->rungs) == 0;
}

/* The seed as text: JSON's integers have a sign. */
static json_t *perturbing_to_json(const qzo_perturbing *p) {
    char seed[32];
    snprintf(seed, sizeof seed, "%" PRIu64, p->seed);
    json_t *factors = json_array(), *settings = json_array();
    for (int64_t i = 0; i < p->factor_count; i++)
        json_array_append_new(factors, json_real(p->factors[i]));
    for (int64_t i = 0; i < p->setting_count; i++)
        json_array_append_new(settings, json_string(p->settings[i]->key));
    return json_pack("{sf, so, so, ss}", "quantile", p->quantile, "factors", factors, "settings",
                     settings, "seed", seed);
}

json_t *qzo_scheduling_to_json(const qzo_scheduling *s) {
    json_t *rungs = json_array();
    for (int64_t i = 0; rungs != NULL && i < s->rung_count; i++)
        if (json_array_append_new(rungs, json_integer(s->rungs[i])) != 0) {
            json_decref(rungs);
            rungs = NULL;
        }
    json_t *object = json_pack("{ss, so, sI, sI, sI, sb, sb}", "name", s->ops->name, "rungs", rungs,
                               "eta", (json_int_t)s->eta, "brackets", (json_int_t)s->brackets,
                               "min_trials", (json_int_t)s->min_trials, "by_score",
                               (int)s->by_score, "maximize", (int)s->maximize);
    if (object != NULL && s->ops->forks &&
        json_object_set_new(object, "perturbing", perturbing_to_json(&s->perturbing)) != 0) {
        json_decref(object);
        object = NULL;
    }
    return object;
}

static qzo_status perturbing_from_json(qzo_perturbing *out, const json_t *object,
                                       const char *name) {
    const json_t *factors = json_object_get(object, "factors");
    const json_t *settings = json_object_get(object, "settings");
    const char *seed = json_string_value(json_object_get(object, "seed"));
    size_t factor_count = json_array_size(factors), setting_count = json_array_size(settings);
    *out = (qzo_perturbing){.quantile = json_number_value(json_object_get(object, "quantile"))};
    bool is_sound = out->quantile > 0.0 && out->quantile <= 0.5 && seed != NULL &&
                    factor_count >= 1 && factor_count <= QZO_FACTORS_MAX && setting_count >= 1 &&
                    setting_count <= QZO_PERTURBED_MAX;
    for (size_t i = 0; is_sound && i < factor_count; i++) {
        out->factors[out->factor_count++] = json_number_value(json_array_get(factors, i));
        is_sound = out->factors[i] > 0.0;
    }
    for (size_t i = 0; is_sound && i < setting_count; i++) {
        const char *key = json_string_value(json_array_get(settings, i));
        const qzo_setting *setting = key != NULL ? qzo_setting_find(key) : NULL;
        is_sound = setting != NULL && qzo_setting_can_be_perturbed(setting);
        out->settings[out->setting_count++] = setting;
    }
    if (is_sound) out->seed = strtoull(seed, NULL, 10);
    return is_sound ? QZO_OK
                    : qzo_fail(QZO_ERR_FORMAT,
                               "%s: \"perturbing\": expected a quantile, a seed, factors and "
                               "settings of this version",
                               name);
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
    if (out->ops->forks)
        QZO_TRY(
            perturbing_from_json(&out->perturbing, json_object_get(object, "perturbing"), name));
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
