/* The canonical text of a trial: what its identity is the digest of, and what journals keep. See
 * trial_spec.h. */
#include "trial/trial_spec.h"

#include "base/check.h"
#include "trial/group_settings.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CANONICAL_BYTES_MAX = 8192 };

static bool has_default(const qzo_trial_spec *spec, const qzo_setting *setting) {
    qzo_trial_spec defaults;
    qzo_trial_spec_defaults(&defaults);
    char *value = qzo_setting_exact_text(spec, setting),
         *standard = qzo_setting_exact_text(&defaults, setting);
    bool is_equal = value && standard && strcmp(value, standard) == 0;
    free(value);
    free(standard);
    return is_equal;
}

char *qzo_trial_spec_canonical(const qzo_trial_spec *spec) {
    char text[CANONICAL_BYTES_MAX];
    size_t used = 0;
    for (const qzo_setting *s = qzo_settings; s->key; s++) {
        if (!s->in_identity || (s->is_later && has_default(spec, s))) continue;
        char *value = qzo_setting_exact_text(spec, s);
        if (!value) return NULL;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s=%s\n", s->key, value);
        free(value);
        QZO_ASSERT(used < sizeof text); /* keys, choices and digits are bounded by the table */
    }
    char model[QZO_DIGEST_TEXT_BYTES], task[QZO_DIGEST_TEXT_BYTES];
    qzo_digest_text(model, &spec->model_digest);
    qzo_digest_text(task, &spec->task_digest);
    used += (size_t)snprintf(text + used, sizeof text - used, "model=%s\ntask=%s\n", model, task);
    QZO_ASSERT(used < sizeof text);
    if (spec->fork_step > 0) {
        char parent[QZO_DIGEST_TEXT_BYTES];
        qzo_digest_text(parent, &spec->fork_parent);
        used += (size_t)snprintf(text + used, sizeof text - used, "fork=%s@%" PRId64 "\n", parent,
                                 spec->fork_step);
        QZO_ASSERT(used < sizeof text);
    }
    return strdup(text);
}

enum { HEX_DIGITS = 32, STEP_DIGITS_MAX = 10 };

static qzo_status read_digest(qzo_digest *out, const char *text) {
    if (strlen(text) != HEX_DIGITS || strspn(text, "0123456789abcdef") != HEX_DIGITS)
        return qzo_fail(QZO_ERR_CONFIG,
                        "expected 32 lower-case hexadecimal digits, found \"%.40s\"", text);
    for (size_t i = 0; i < 16; i++) {
        char pair[3] = {text[2 * i], text[2 * i + 1], '\0'};
        out->bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return QZO_OK;
}

/* "HEX@STEP": the trial that this one goes on from, and after which step. */
static qzo_status read_fork(qzo_trial_spec *spec, const char *text) {
    char parent[HEX_DIGITS + 1];
    const char *step = strchr(text, '@');
    size_t digits = step ? strspn(step + 1, "0123456789") : 0;
    if (!step || digits == 0 || digits > STEP_DIGITS_MAX || step[1 + digits] != '\0' ||
        step[1] == '0')
        return qzo_fail(QZO_ERR_CONFIG, "expected a trial's id, @ and a step, found \"%.60s\"",
                        text);
    snprintf(parent, sizeof parent, "%.*s", (int)(step - text), text);
    if (step - text != HEX_DIGITS) parent[0] = '\0'; /* refused below */
    spec->fork_step = strtoll(step + 1, NULL, 10);
    return read_digest(&spec->fork_parent, parent);
}

/* Words stay as they were recorded, sorted or not: with the identity that the journal has. */
static qzo_status read_recorded(qzo_trial_spec *spec, const qzo_setting *setting,
                                const char *value) {
    qzo_status status = qzo_setting_read(spec, setting, value);
    if (status != QZO_OK || setting->kind != QZO_SETTING_WORDS || setting->choice) return status;
    const char *copy = qzo_text_intern(value);
    if (!copy) return qzo_fail(QZO_ERR_MEMORY, "no memory for a setting");
    *(const char **)(void *)((char *)spec + setting->offset) = copy;
    return QZO_OK;
}

/* One line, already split at its '='; is_seen has a place per setting. */
static qzo_status read_canonical_line(qzo_trial_spec *spec, const char *key, const char *value,
                                      bool is_seen[QZO_SETTINGS_MAX]) {
    if (strcmp(key, "fork") == 0) {
        if (spec->fork_step > 0)
            return qzo_fail(QZO_ERR_CONFIG, "settings of a trial: fork stands there twice");
        qzo_status status = read_fork(spec, value);
        return status == QZO_OK ? status : qzo_fail_context(status, "settings of a trial: fork");
    }
    const qzo_setting *setting = qzo_setting_find(key);
    bool is_model = strcmp(key, "model") == 0, is_task = strcmp(key, "task") == 0;
    if (!setting || (!setting->in_identity && !is_model && !is_task) ||
        strcmp(setting->key, key) != 0)
        return qzo_fail(QZO_ERR_CONFIG, "settings of a trial: unknown key \"%.40s\"", key);
    bool *seen = &is_seen[setting - qzo_settings];
    if (*seen) return qzo_fail(QZO_ERR_CONFIG, "settings of a trial: %s stands there twice", key);
    *seen = true;
    qzo_status status = is_model  ? read_digest(&spec->model_digest, value)
                        : is_task ? read_digest(&spec->task_digest, value)
                                  : read_recorded(spec, setting, value);
    return status == QZO_OK ? status : qzo_fail_context(status, "settings of a trial: %s", key);
}

qzo_status qzo_trial_spec_parse(qzo_trial_spec *out, const char *canonical) {
    qzo_status status = QZO_OK;
    qzo_trial_spec spec;
    bool is_seen[QZO_SETTINGS_MAX] = {false};
    qzo_trial_spec_defaults(&spec);
    char *text = strdup(canonical);
    if (!text) return qzo_fail(QZO_ERR_MEMORY, "no memory for the settings of a trial");
    for (char *line = text; *line;) {
        char *end = strchr(line, '\n'), *equals = strchr(line, '=');
        if (!end || !equals || equals > end) {
            status =
                qzo_fail(QZO_ERR_CONFIG,
                         "settings of a trial: expected lines key=value, found \"%.40s\"", line);
            goto cleanup;
        }
        *end = *equals = '\0';
        QZO_TRY(read_canonical_line(&spec, line, equals + 1, is_seen));
        line = end + 1;
    }
    for (const qzo_setting *s = qzo_settings; s->key; s++) {
        bool is_needed = (s->in_identity && !s->is_later) || s->kind == QZO_SETTING_PATH;
        if (is_needed && !is_seen[s - qzo_settings]) {
            status = qzo_fail(QZO_ERR_CONFIG, "settings of a trial: %s is missing", s->key);
            goto cleanup;
        }
    }
    QZO_TRY(qzo_trial_spec_complete(&spec));
    *out = spec;
cleanup:
    free(text);
    return status;
}

qzo_digest qzo_trial_spec_identity(const qzo_trial_spec *spec) {
    char *text = qzo_trial_spec_canonical(spec);
    QZO_ASSERT(text != NULL); /* a few hundred bytes: without them nothing works */
    qzo_digest identity = qzo_digest_of(text, strlen(text));
    free(text);
    return identity;
}
