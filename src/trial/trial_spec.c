/* Settings as text, and what they say together; canonical.c has the identity. See trial_spec.h. */
#include "trial/trial_spec.h"

#include "base/check.h"
#include "base/suggest.h"
#include "optim/cores.h"
#include "optim/rules.h"
#include "trial/group_settings.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FOUND_BYTES = 64, SETTING_TEXT_BYTES = 64, CHOICES_MAX = 32 };

/* Examples that a trial may draw, so that their places in the order stay far from overflow. */
static const double DRAWN_MAX = 1e18;

/* --- one setting ------------------------------------------------------------------------------ */

static void *field_of(qzo_trial_spec *spec, const qzo_setting *setting) {
    return (char *)spec + setting->offset;
}

static const void *const_field_of(const qzo_trial_spec *spec, const qzo_setting *setting) {
    return (const char *)spec + setting->offset;
}

void qzo_setting_expected(char out[QZO_SETTING_EXPECTED_BYTES], const qzo_setting *setting) {
    size_t size = QZO_SETTING_EXPECTED_BYTES, used = 0;
    switch (setting->kind) {
    case QZO_SETTING_INT:
        snprintf(out, size, "an integer from %.0f to %.0f", setting->min, setting->max);
        break;
    case QZO_SETTING_SEED: snprintf(out, size, "an integer from 0 to %" PRIu64, UINT64_MAX); break;
    case QZO_SETTING_NUMBER:
        used = (size_t)snprintf(out, size, "a number %s %g",
                                setting->min_exclusive ? ">" : ">=", setting->min);
        if (isinf(setting->max))
            snprintf(out + used, size - used, ", or .inf or none for no bound");
        else
            snprintf(out + used, size - used, " and <= %.9g", setting->max);
        break;
    case QZO_SETTING_CHOICE:
        out[0] = '\0';
        for (int i = 0; setting->choice(i) && used < size; i++) {
            const char *before = i == 0 ? "" : setting->choice(i + 1) ? ", " : " or ";
            used += (size_t)snprintf(out + used, size - used, "%s%s", before, setting->choice(i));
        }
        break;
    case QZO_SETTING_WORDS:
        used = (size_t)snprintf(out, size, "%s", setting->choice ? "one or more of" : "words");
        for (int i = 0; setting->choice && setting->choice(i) && used < size; i++)
            used += (size_t)snprintf(out + used, size - used, "%s %s", i > 0 ? "," : "",
                                     setting->choice(i));
        if (used < size) snprintf(out + used, size - used, ", joined by +");
        break;
    case QZO_SETTING_PATH: snprintf(out, size, "a path"); break;
    }
}

/* The text as it may stand in a message: bounded. */
static void found_text(char out[FOUND_BYTES], const char *text) {
    if (text[0] == '\0') {
        snprintf(out, FOUND_BYTES, "nothing");
        return;
    }
    bool is_cut = strlen(text) > 40;
    snprintf(out, FOUND_BYTES, "\"%.*s%s\"", 40, text, is_cut ? "..." : "");
}

static qzo_status fail_found(const qzo_setting *setting, const char *text) {
    char expected[QZO_SETTING_EXPECTED_BYTES], found[FOUND_BYTES];
    qzo_setting_expected(expected, setting);
    found_text(found, text);
    const char *choices[CHOICES_MAX], *near = NULL;
    size_t count = 0;
    if (setting->kind == QZO_SETTING_CHOICE) {
        while (count < CHOICES_MAX && (choices[count] = setting->choice((int)count))) count++;
        near = qzo_suggest(text, choices, count);
    }
    return qzo_fail(QZO_ERR_CONFIG, "expected %s, found %s%s%s%s", expected, found,
                    near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

/* Decimal digits without a leading zero, which YAML 1.1 would read as octal. */
static bool read_u64(uint64_t *out, const char *text) {
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || text[digits] != '\0' || (digits > 1 && text[0] == '0')) return false;
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    *out = (uint64_t)value;
    return errno == 0;
}

/* [sign] digits [. digits] [e [sign] digits], with a digit before or after the point. strtod alone
 * would also read hexadecimal, "nan" and leading blanks. A value that a double cannot hold (too
 * large, or too small to be told from 0) is no number here. */
static bool read_decimal(double *out, const char *text) {
    const char *at = text + (text[0] == '-' || text[0] == '+');
    size_t before = strspn(at, "0123456789"), after = 0;
    at += before;
    if (*at == '.') {
        after = strspn(at + 1, "0123456789");
        at += 1 + after;
    }
    if (before + after == 0) return false;
    if (*at == 'e' || *at == 'E') {
        at += 1 + (at[1] == '-' || at[1] == '+');
        size_t exponent = strspn(at, "0123456789");
        if (exponent == 0) return false;
        at += exponent;
    }
    if (*at != '\0') return false;
    errno = 0;
    *out = strtod(text, NULL) + 0.0; /* -0 and 0 are one value and must be one identity */
    return errno == 0;
}

static bool is_infinity(const char *text) {
    static const char *const spellings[] = {".inf",  ".Inf",  ".INF", "+.inf",
                                            "+.Inf", "+.INF", "inf",  "none"};
    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++)
        if (strcmp(text, spellings[i]) == 0) return true;
    return false;
}

static bool read_number(double *out, const qzo_setting *setting, const char *text) {
    double value = 0;
    if (isinf(setting->max) && is_infinity(text)) {
        *out = INFINITY;
        return true;
    }
    if (!read_decimal(&value, text) || value < setting->min || value > setting->max) return false;
    /* eps and clip meet fp32 values: what is 0 there is as impossible as 0. */
    if (setting->min_exclusive && (value == setting->min || (float)value == 0.0f)) return false;
    *out = value;
    return true;
}

/* Words of a choice in its order, others sorted: however a set is written, it is one identity. */
static qzo_status read_words(const char **field, const qzo_setting *setting, const char *text) {
    char ordered[QZO_WORDS_BYTES_MAX];
    if (strlen(text) >= QZO_WORDS_BYTES_MAX || strpbrk(text, "\n=, "))
        return fail_found(setting, text);
    if (setting->choice && !qzo_words_order(ordered, setting, text))
        return fail_found(setting, text);
    if (!setting->choice) qzo_words_sort(ordered, text);
    const char *copy = qzo_text_intern(ordered);
    if (!copy) return qzo_fail(QZO_ERR_MEMORY, "no memory for a setting");
    *field = copy;
    return QZO_OK;
}

static qzo_status read_path(char **field, const qzo_setting *setting, const char *text) {
    if (text[0] == '\0') return fail_found(setting, text);
    char *copy = strdup(text);
    if (!copy) return qzo_fail(QZO_ERR_MEMORY, "no memory for a path");
    free(*field);
    *field = copy;
    return QZO_OK;
}

qzo_status qzo_setting_read(qzo_trial_spec *spec, const qzo_setting *setting, const char *text) {
    void *field = field_of(spec, setting);
    uint64_t integer = 0;
    switch (setting->kind) {
    case QZO_SETTING_INT:
        if (!read_u64(&integer, text) || (double)integer < setting->min ||
            (double)integer > setting->max)
            return fail_found(setting, text);
        *(int64_t *)field = (int64_t)integer;
        return QZO_OK;
    case QZO_SETTING_SEED:
        if (!read_u64(&integer, text)) return fail_found(setting, text);
        *(uint64_t *)field = integer;
        if (setting->offset == offsetof(qzo_trial_spec, data_seed)) spec->has_data_seed = true;
        if (setting->offset == offsetof(qzo_trial_spec, noise_seed)) spec->has_noise_seed = true;
        return QZO_OK;
    case QZO_SETTING_NUMBER:
        return read_number(field, setting, text) ? QZO_OK : fail_found(setting, text);
    case QZO_SETTING_CHOICE:
        for (int i = 0; setting->choice(i); i++)
            if (strcmp(setting->choice(i), text) == 0) {
                *(const char **)field = setting->choice(i);
                if (setting->offset == offsetof(qzo_trial_spec, directions))
                    spec->has_directions = true;
                return QZO_OK;
            }
        return fail_found(setting, text);
    case QZO_SETTING_WORDS: return read_words(field, setting, text);
    case QZO_SETTING_PATH: return read_path(field, setting, text);
    }
    return qzo_fail(QZO_ERR_CONFIG, "the setting %s has no known kind", setting->key);
}

/* Numbers with so many digits: 9 as tables print them, 17 to tell any two doubles apart. */
static char *text_of(const qzo_trial_spec *spec, const qzo_setting *setting, int digits) {
    const void *field = const_field_of(spec, setting);
    char text[SETTING_TEXT_BYTES];
    const char *name = NULL;
    switch (setting->kind) {
    case QZO_SETTING_INT: snprintf(text, sizeof text, "%" PRId64, *(const int64_t *)field); break;
    case QZO_SETTING_SEED: snprintf(text, sizeof text, "%" PRIu64, *(const uint64_t *)field); break;
    case QZO_SETTING_NUMBER:
        snprintf(text, sizeof text, "%.*g", digits, *(const double *)field);
        break;
    case QZO_SETTING_CHOICE: /* a path's field holds a pointer to text as well */
    case QZO_SETTING_WORDS:
    case QZO_SETTING_PATH: name = *(const char *const *)field; return strdup(name ? name : "");
    }
    return strdup(text);
}

char *qzo_setting_text(const qzo_trial_spec *spec, const qzo_setting *setting) {
    return text_of(spec, setting, 9);
}

char *qzo_setting_exact_text(const qzo_trial_spec *spec, const qzo_setting *setting) {
    return text_of(spec, setting, 17);
}

/* --- a whole spec ----------------------------------------------------------------------------- */

void qzo_trial_spec_defaults(qzo_trial_spec *out) {
    *out = (qzo_trial_spec){0};
    for (const qzo_setting *s = qzo_settings; s->key; s++) {
        if (!s->default_text || s->default_text[0] == '=') continue;
        qzo_status status = qzo_setting_read(out, s, s->default_text);
        QZO_ASSERT(status == QZO_OK);
    }
    /* Adapters have no settings for these. */
    out->group[QZO_GROUP_LORA].constraint = qzo_keep_name(QZO_KEEP_FREE);
    out->group[QZO_GROUP_LORA].exclude = out->group[QZO_GROUP_LORA].include;
    out->has_directions = false;
}

static bool reads(const qzo_update_rule *rule, const char *key) {
    int i = 0;
    while (rule->reads[i] && strcmp(rule->reads[i], key) != 0) i++;
    return rule->reads[i] != NULL;
}

/* What only other update rules read changes nothing: two trials that differ in it alone are one. */
static void forget_unread(qzo_trial_spec *spec) {
    const qzo_update_rule *own = qzo_update_rule_find(spec->update_rule);
    for (int rule = 0; qzo_update_rules[rule]; rule++)
        for (const char *const *key = qzo_update_rules[rule]->reads; *key; key++) {
            const qzo_setting *setting = qzo_setting_find(*key);
            QZO_ASSERT(setting != NULL);
            if (reads(own, *key)) continue;
            qzo_status status = qzo_setting_read(spec, setting, setting->default_text);
            QZO_ASSERT(status == QZO_OK);
        }
}

bool qzo_trial_spec_by_metric(const qzo_trial_spec *spec) {
    return strcmp(spec->objective, "metric") == 0;
}

bool qzo_trial_spec_has_pairs(const qzo_trial_spec *spec) {
    const qzo_update_rule *rule = qzo_update_rule_find(spec->update_rule);
    return !qzo_trial_spec_by_metric(spec) && !rule->is_one_sided && rule->share == NULL &&
           qzo_core_find(spec->compat)->enter == NULL;
}

int64_t qzo_trial_spec_passes(const qzo_trial_spec *spec) {
    const qzo_update_rule *rule = qzo_update_rule_find(spec->update_rule);
    int64_t micro_batches = (spec->batch + spec->micro_batch - 1) / spec->micro_batch;
    return qzo_update_rule_evaluations(rule, spec->samples_per_step) * micro_batches;
}

int64_t qzo_trial_spec_records(const qzo_trial_spec *spec) {
    return qzo_update_rule_records(qzo_update_rule_find(spec->update_rule), spec->samples_per_step);
}

bool qzo_trial_spec_batch_per_sample(const qzo_trial_spec *spec) {
    return strcmp(spec->batches, "per_sample") == 0;
}

/* With one sample a step its batch is the step's: one trial, however it is written. */
static qzo_status complete_batches(qzo_trial_spec *spec) {
    double drawn = (double)spec->steps * (double)spec->batch * (double)spec->samples_per_step;
    if (spec->samples_per_step == 1) spec->batches = "shared";
    if (spec->micro_batch == 0) spec->micro_batch = spec->batch;
    if (qzo_trial_spec_batch_per_sample(spec) && drawn > DRAWN_MAX)
        return qzo_fail(QZO_ERR_CONFIG,
                        "expected at most %.0f examples over all steps, found %.0f with batches "
                        "per_sample",
                        DRAWN_MAX, drawn);
    if (spec->micro_batch > spec->batch)
        return qzo_fail(QZO_ERR_CONFIG,
                        "expected micro_batch <= batch, found micro_batch %" PRId64
                        " and batch %" PRId64,
                        spec->micro_batch, spec->batch);
    return QZO_OK;
}

/* Both halves of a guide's samples need one. */
static qzo_status check_guide(const qzo_trial_spec *spec) {
    int64_t lead = (int64_t)(spec->guide_share * (double)spec->samples_per_step);
    if (lead >= 1 && lead < spec->samples_per_step) return QZO_OK;
    return qzo_fail(QZO_ERR_CONFIG,
                    "expected guide_share such that 1 to %" PRId64 " of %" PRId64
                    " samples_per_step lead, found %g: %" PRId64 " of them",
                    spec->samples_per_step - 1, spec->samples_per_step, spec->guide_share, lead);
}

/* What the update rule needs of a step. */
static qzo_status complete_rule(qzo_trial_spec *spec) {
    const qzo_update_rule *rule = qzo_update_rule_find(spec->update_rule);
    forget_unread(spec);
    if (!spec->has_directions && rule->directions) spec->directions = rule->directions;
    if (spec->samples_per_step < rule->samples_min)
        return qzo_fail(QZO_ERR_CONFIG,
                        "expected samples_per_step >= %" PRId64 " with update_rule %s, found "
                        "%" PRId64,
                        rule->samples_min, rule->name, spec->samples_per_step);
    if ((rule->has_clean || rule->share) && qzo_trial_spec_batch_per_sample(spec))
        return qzo_fail(QZO_ERR_CONFIG,
                        "expected batches shared with update_rule %s, found per_sample: it "
                        "compares losses of a step with each other",
                        rule->name);
    return rule->share ? check_guide(spec) : QZO_OK;
}

qzo_status qzo_trial_spec_complete(qzo_trial_spec *spec) {
    if (!spec->has_data_seed) spec->data_seed = spec->seed;
    if (!spec->has_noise_seed) spec->noise_seed = spec->seed;
    if (spec->evaluate_every == 0 || spec->evaluate_every > spec->steps)
        spec->evaluate_every = spec->steps;
    qzo_status status = complete_batches(spec);
    if (status == QZO_OK) status = complete_rule(spec);
    if (status != QZO_OK) return status;
    if (spec->warmup_steps >= spec->steps)
        return qzo_fail(QZO_ERR_CONFIG,
                        "expected warmup_steps < steps, found warmup_steps %" PRId64
                        " and steps %" PRId64,
                        spec->warmup_steps, spec->steps);
    status = qzo_trial_spec_complete_groups(spec);
    if (status == QZO_OK) status = qzo_trial_spec_check_compat(spec);
    if (status != QZO_OK) return status;
    if (strcmp(spec->metric_name, "dev_loss") == 0 && strcmp(spec->metric_goal, "maximize") == 0)
        return qzo_fail(QZO_ERR_CONFIG, "expected goal minimize with metric dev_loss, found "
                                        "maximize: the best step would be the worst one");
    return QZO_OK;
}

qzo_status qzo_trial_spec_copy(qzo_trial_spec *out, const qzo_trial_spec *spec) {
    qzo_trial_spec copy = *spec;
    copy.model_path = spec->model_path ? strdup(spec->model_path) : NULL;
    copy.task_path = spec->task_path ? strdup(spec->task_path) : NULL;
    if ((spec->model_path && !copy.model_path) || (spec->task_path && !copy.task_path)) {
        qzo_trial_spec_release(&copy);
        return qzo_fail(QZO_ERR_MEMORY, "no memory to copy the settings of a trial");
    }
    *out = copy;
    return QZO_OK;
}

void qzo_trial_spec_release(qzo_trial_spec *spec) {
    free(spec->model_path);
    free(spec->task_path);
    *spec = (qzo_trial_spec){0};
}
