/* scheduler: a name, or a mapping of a name and what that scheduler reads. */
#include "sweep/sweep_reader.h"

#include <string.h>

enum {
    NAME,
    MIN_STEPS,
    ETA,
    BRACKETS,
    MIN_TRIALS,
    INTERVAL,
    QUANTILE,
    FACTORS,
    PERTURB,
    KEY_COUNT
};
enum { STEPS_MAX = 999999999 };

static const double FACTOR_MAX = 1000.0, QUANTILE_MAX = 0.5;

bool qzo_setting_can_be_perturbed(const qzo_setting *setting) {
    return setting->section == QZO_SECTION_TRAIN && setting->kind == QZO_SETTING_NUMBER &&
           !setting->is_of_model;
}

/* A number that is no setting, read and refused as one. */
static qzo_status read_number(double *out, const qzo_reader *r, const char *key, double max,
                              const qzo_yaml_node *value) {
    qzo_trial_spec scratch = {0};
    const qzo_setting setting = {.key = key,
                                 .kind = QZO_SETTING_NUMBER,
                                 .offset = offsetof(qzo_trial_spec, eps),
                                 .max = max,
                                 .min_exclusive = true};
    qzo_status status = qzo_reader_value(r, &scratch, &setting, value);
    *out = scratch.eps;
    return status;
}

/* One number, or a list of them. */
static qzo_status read_factors(qzo_reader *r, const qzo_yaml_node *value) {
    qzo_status status = QZO_OK;
    qzo_scheduler_choice *out = &r->sweep->scheduler;
    bool is_list = value->kind == QZO_YAML_SEQUENCE;
    int64_t count = is_list ? qzo_yaml_child_count(value) : 1;
    if (count < 1 || count > QZO_FACTORS_MAX)
        return qzo_reader_fail(r, value, "factors: expected 1 to %d numbers, found %lld",
                               QZO_FACTORS_MAX, (long long)count);
    const qzo_yaml_node *node = is_list ? value->first : value;
    out->factor_count = count;
    for (int64_t i = 0; i < count; i++, node = node->next)
        QZO_TRY(read_number(&out->factors[i], r, "factors", FACTOR_MAX, node));
cleanup:
    return status;
}

static qzo_status read_perturbed(qzo_reader *r, const qzo_yaml_node *value) {
    qzo_scheduler_choice *out = &r->sweep->scheduler;
    qzo_word_list known = {.count = 0};
    char words[QZO_LIST_BYTES];
    for (const qzo_setting *s = qzo_settings; s->key; s++)
        if (qzo_setting_can_be_perturbed(s)) known.words[known.count++] = s->key;
    qzo_reader_list(words, &known);
    bool is_list = value->kind == QZO_YAML_SEQUENCE;
    for (const qzo_yaml_node *node = is_list ? value->first : value; node;
         node = is_list ? node->next : NULL) {
        const qzo_setting *setting =
            node->kind == QZO_YAML_SCALAR ? qzo_setting_find(node->text) : NULL;
        if (!setting || !qzo_setting_can_be_perturbed(setting))
            return qzo_reader_fail_expected(r, node, "perturb", words);
        for (int64_t i = 0; i < out->perturbed_count; i++)
            if (out->perturbed[i] == setting)
                return qzo_reader_fail(r, node, "perturb: %s stands there twice", setting->key);
        if (out->perturbed_count == QZO_PERTURBED_MAX)
            return qzo_reader_fail(r, node, "perturb: at most %d settings", QZO_PERTURBED_MAX);
        out->perturbed[out->perturbed_count++] = setting;
    }
    return out->perturbed_count > 0 ? QZO_OK : qzo_reader_fail_expected(r, value, "perturb", words);
}

/* Keys that other schedulers read are left alone, but not where they look like those of this. */
static qzo_status check_key(const qzo_reader *r, const qzo_yaml_node *key, int index) {
    const qzo_scheduler_ops *ops = r->sweep->scheduler.ops;
    if (!ops->has_rungs)
        return qzo_reader_fail(r, key, "%s: expected a scheduler with rungs, found %s", key->text,
                               ops->name);
    if (ops->forks == (index >= INTERVAL)) return QZO_OK;
    return qzo_reader_fail(r, key, "%s: scheduler %s has no such key", key->text, ops->name);
}

static qzo_status read_keys(qzo_reader *r, const qzo_yaml_node *const *found) {
    qzo_status status = QZO_OK;
    qzo_scheduler_choice *out = &r->sweep->scheduler;
    int64_t *const counts[] = {NULL,           &out->min_steps,  &out->eta,
                               &out->brackets, &out->min_trials, &out->interval};
    static const int minimum[] = {0, 1, 2, 1, 1, 1};
    for (int i = MIN_STEPS; i < KEY_COUNT; i++)
        if (found[i]) QZO_TRY(check_key(r, found[i], i));
    for (int i = MIN_STEPS; i <= INTERVAL; i++) {
        if (!found[i]) continue;
        *counts[i] = qzo_reader_count(found[i]->next, STEPS_MAX);
        if (*counts[i] < minimum[i])
            return qzo_reader_fail(r, found[i], "%s: expected an integer of at least %d",
                                   found[i]->text, minimum[i]);
    }
    if (found[QUANTILE])
        QZO_TRY(read_number(&out->quantile, r, "quantile", QUANTILE_MAX, found[QUANTILE]->next));
    if (found[FACTORS]) QZO_TRY(read_factors(r, found[FACTORS]->next));
    if (found[PERTURB]) QZO_TRY(read_perturbed(r, found[PERTURB]->next));
cleanup:
    return status;
}

qzo_status qzo_reader_scheduler(qzo_reader *r, const qzo_yaml_node *value) {
    qzo_status status = QZO_OK;
    qzo_scheduler_choice *out = &r->sweep->scheduler;
    qzo_word_list names = {.count = 0};
    static const qzo_word_list list = {{"name", "min_steps", "eta", "brackets", "min_trials",
                                        "interval", "quantile", "factors", "perturb"},
                                       KEY_COUNT};
    const qzo_yaml_node *found[KEY_COUNT] = {NULL};
    char words[QZO_LIST_BYTES];
    while (qzo_schedulers[names.count]) {
        names.words[names.count] = qzo_schedulers[names.count]->name;
        names.count++;
    }
    *out = (qzo_scheduler_choice){.ops = &qzo_sched_fifo,
                                  .eta = 3,
                                  .brackets = 1,
                                  .min_trials = 3,
                                  .quantile = 0.2,
                                  .factors = {0.8, 1.2},
                                  .factor_count = 2};
    if (!value) return QZO_OK;
    if (value->kind == QZO_YAML_MAPPING)
        QZO_TRY(qzo_reader_find_keys(found, r, value, "scheduler", &list));
    const qzo_yaml_node *name =
        value->kind == QZO_YAML_MAPPING ? qzo_yaml_value_of(found[NAME]) : value;
    if (!name) return qzo_reader_fail(r, value, "scheduler: expected a name, found none");
    out->ops = name->kind == QZO_YAML_SCALAR ? qzo_scheduler_find(name->text) : NULL;
    qzo_reader_list(words, &names);
    if (!out->ops) return qzo_reader_fail_expected(r, name, "scheduler", words);
    QZO_TRY(read_keys(r, found));
cleanup:
    return status;
}
