#include "sweep/wandb.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOTE_BYTES = 512 };

const char *const qzo_wandb_keys[QZO_WANDB_KEY_COUNT] = {
    "program", "command", "project", "entity", "description", "early_terminate"};

/* Names of Hugging Face's trainer. */
static const struct {
    const char *name, *key;
} synonyms[] = {
    {"lr", "learning_rate"},
    {"per_device_train_batch_size", "batch"},
    {"max_steps", "steps"},
    {"eval_steps", "evaluate_every"},
    {"lr_scheduler_type", "schedule"},
};

static qzo_status note(qzo_reader *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static qzo_status note(qzo_reader *r, const char *format, ...) {
    char line[NOTE_BYTES], *all = NULL;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    const char *before = r->sweep->notes ? r->sweep->notes : "";
    size_t bytes = strlen(before) + strlen(line) + 3;
    all = malloc(bytes);
    if (!all) return qzo_reader_fail_memory(r);
    snprintf(all, bytes, "%s%s%s", before, before[0] ? "; " : "", line);
    free(r->sweep->notes);
    r->sweep->notes = all;
    return QZO_OK;
}

const qzo_setting *qzo_wandb_setting(const char *name) {
    for (size_t i = 0; i < sizeof synonyms / sizeof *synonyms; i++)
        if (strcmp(synonyms[i].name, name) == 0) return qzo_setting_find(synonyms[i].key);
    return NULL;
}

qzo_status qzo_wandb_ignore_parameter(qzo_reader *r, const qzo_yaml_node *key) {
    const qzo_yaml_node *body = key->next;
    bool varies = false;
    for (const qzo_yaml_node *at = body->kind == QZO_YAML_MAPPING ? body->first : NULL; at;
         at = at->next->next) {
        bool is_values = at->kind == QZO_YAML_SCALAR && strcmp(at->text, "values") == 0;
        bool is_range = at->kind == QZO_YAML_SCALAR && strcmp(at->text, "min") == 0;
        varies |= is_range || (is_values && qzo_yaml_child_count(at->next) > 1);
    }
    if (varies)
        return qzo_reader_fail(r, key,
                               "expected parameters that qzo has, found \"%.40s\" with several "
                               "values: its trials would be equal",
                               key->text);
    return note(r, "parameter %.40s is ignored", key->text);
}

qzo_status qzo_wandb_metric(qzo_reader *r, const qzo_yaml_node *name, const qzo_yaml_node *goal) {
    qzo_status status = QZO_OK;
    qzo_trial_spec *base = &r->sweep->base;
    bool maximize = goal && goal->kind == QZO_YAML_SCALAR && strcmp(goal->text, "maximize") == 0;
    const char *metric = maximize ? "dev_score" : "dev_loss";
    QZO_TRY(qzo_setting_read(base, qzo_setting_find("metric_name"), metric));
    QZO_TRY(qzo_setting_read(base, qzo_setting_find("metric_goal"),
                             maximize ? "maximize" : "minimize"));
    if (name && name->kind == QZO_YAML_SCALAR)
        QZO_TRY(note(r, "metric %.40s is read as %s: the best step is chosen on dev", name->text,
                     metric));
cleanup:
    return status;
}

/* "--max_steps=20000": the setting, or NULL; *value behind the sign. */
static const qzo_setting *setting_of_argument(const char *argument, const char **value) {
    char name[64];
    const char *equals = strchr(argument, '=');
    if (strncmp(argument, "--", 2) != 0 || !equals) return NULL;
    size_t bytes = (size_t)(equals - argument) - 2;
    if (bytes >= sizeof name) return NULL;
    memcpy(name, argument + 2, bytes);
    name[bytes] = '\0';
    *value = equals + 1;
    const qzo_setting *setting = qzo_setting_find(name);
    if (setting && setting->section != QZO_SECTION_TRAIN) return NULL;
    return setting ? setting : qzo_wandb_setting(name);
}

/* Of one named twice the last counts, as for the program that was meant. */
static qzo_status read_command(qzo_reader *r, const qzo_yaml_node *command) {
    qzo_status status = QZO_OK;
    bool by_command[QZO_WORDS_MAX] = {false};
    const qzo_yaml_node *first = command->kind == QZO_YAML_SEQUENCE ? command->first : NULL;
    for (const qzo_yaml_node *item = first; item; item = item->next) {
        const char *value = NULL;
        if (item->kind != QZO_YAML_SCALAR || item->text[0] == '$') continue;
        const qzo_setting *setting = setting_of_argument(item->text, &value);
        if (setting) {
            size_t index = (size_t)(setting - qzo_settings);
            bool is_free = !r->seen[index] || by_command[index];
            if (is_free && qzo_setting_read(&r->sweep->base, setting, value) == QZO_OK) {
                r->seen[index] = item;
                by_command[index] = true;
                QZO_TRY(note(r, "%.80s is read as %s", item->text, setting->key));
                continue;
            }
        }
        QZO_TRY(note(r, "%.80s is ignored", item->text));
    }
cleanup:
    return status;
}

qzo_status qzo_wandb_read(qzo_reader *r, const qzo_yaml_node *const *found) {
    qzo_status status = QZO_OK;
    for (int i = 0; i < QZO_WANDB_KEY_COUNT; i++) {
        if (!found[i]) continue;
        if (i == QZO_WANDB_COMMAND)
            QZO_TRY(read_command(r, found[i]->next));
        else if (i == QZO_WANDB_EARLY_TERMINATE)
            QZO_TRY(note(r, "early_terminate is ignored: qzo has a scheduler of its own"));
        else
            QZO_TRY(note(r, "%s is ignored", qzo_wandb_keys[i]));
    }
cleanup:
    return status;
}
