/* A trial's groups of trainable values: its settings as the model and the optimizer want them. */
#include "trial/group_settings.h"

#include "weights/bnb_quantize.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *qzo_text_intern(const char *text) {
    typedef struct interned {
        struct interned *next;
        char text[];
    } interned;
    static interned *all;
    for (const interned *one = all; one; one = one->next)
        if (strcmp(one->text, text) == 0) return one->text;
    interned *fresh = malloc(sizeof *fresh + strlen(text) + 1);
    if (!fresh) return NULL;
    memcpy(fresh->text, text, strlen(text) + 1);
    fresh->next = all;
    all = fresh;
    return fresh->text;
}

bool qzo_words_order(char out[QZO_WORDS_BYTES_MAX], const qzo_setting *setting, const char *text) {
    size_t used = 0, found = 0, count = 0;
    for (const char *at = text; *at; at++) count += *at == '+';
    out[0] = '\0';
    for (int i = 0; setting->choice(i); i++) {
        size_t length = strlen(setting->choice(i)), times = 0;
        for (const char *at = text; *at; at += strcspn(at, "+"), at += *at == '+')
            times += strcspn(at, "+") == length && strncmp(at, setting->choice(i), length) == 0;
        if (times > 1 || used + length + 2 > QZO_WORDS_BYTES_MAX) return false;
        if (times == 0) continue;
        used += (size_t)snprintf(out + used, QZO_WORDS_BYTES_MAX - used, "%s%s",
                                 used > 0 ? "+" : "", setting->choice(i));
        found++;
    }
    return found == count + 1;
}

static int compare_words(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void qzo_words_sort(char out[QZO_WORDS_BYTES_MAX], const char *text) {
    char kept[QZO_WORDS_BYTES_MAX], *words[QZO_WORDS_BYTES_MAX];
    size_t used = 0, count = 1;
    snprintf(kept, sizeof kept, "%s", text);
    words[0] = kept;
    for (char *at = kept; *at != '\0'; at++) {
        if (*at != '+') continue;
        *at = '\0';
        words[count++] = at + 1;
    }
    qsort(words, count, sizeof *words, compare_words);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(words[i], words[i - 1]) == 0) continue;
        used += (size_t)snprintf(out + used, QZO_WORDS_BYTES_MAX - used, "%s%s", i > 0 ? "+" : "",
                                 words[i]);
    }
}

bool qzo_trial_spec_trains(const qzo_trial_spec *spec, qzo_group_kind kind) {
    const char *name = qzo_group_name((int)kind);
    size_t length = strlen(name);
    for (const char *at = spec->groups; *at; at += strcspn(at, "+"), at += *at == '+')
        if (strcspn(at, "+") == length && strncmp(at, name, length) == 0) return true;
    return false;
}

static qzo_keep keep_of(const char *name) {
    int keep = 0;
    while (qzo_keep_name(keep + 1) && strcmp(qzo_keep_name(keep), name) != 0) keep++;
    return (qzo_keep)keep;
}

qzo_training qzo_trial_spec_training(const qzo_trial_spec *spec) {
    qzo_training training = {.quantize = qzo_bnb_kind_find(spec->quantize)};
    for (int kind = 0; kind < QZO_GROUP_COUNT; kind++) {
        const qzo_group_settings *group = &spec->group[kind];
        training.groups[kind] =
            (qzo_group_choice){.is_used = qzo_trial_spec_trains(spec, (qzo_group_kind)kind),
                               .keep = keep_of(group->constraint),
                               .include = group->include,
                               .exclude = group->exclude};
    }
    return training;
}

qzo_adapter_settings qzo_trial_spec_adapters(const qzo_trial_spec *spec) {
    if (!qzo_trial_spec_trains(spec, QZO_GROUP_LORA)) return (qzo_adapter_settings){.targets = ""};
    return (qzo_adapter_settings){.rank = spec->lora_rank,
                                  .alpha = spec->lora_alpha,
                                  .targets = spec->group[QZO_GROUP_LORA].include};
}

void qzo_trial_spec_rates(qzo_value_group out[QZO_GROUP_COUNT], const qzo_trial_spec *spec) {
    for (int kind = 0; kind < QZO_GROUP_COUNT; kind++) {
        const qzo_group_settings *group = &spec->group[kind];
        double eps = group->eps > 0.0 ? group->eps / spec->eps : 1.0;
        double rate = group->learning_rate > 0.0 ? group->learning_rate / spec->learning_rate : 1.0;
        out[kind] = (qzo_value_group){.eps_factor = (float)eps,
                                      .rate_factor = (float)(rate / eps),
                                      .is_active = true,
                                      .after = group->after,
                                      .until = group->until};
    }
}

static void forget_adapters(qzo_trial_spec *spec) {
    qzo_trial_spec defaults;
    qzo_trial_spec_defaults(&defaults);
    spec->lora_rank = defaults.lora_rank;
    spec->lora_alpha = defaults.lora_alpha;
}

/* What stands for the trial's own value is one identity with it, and what is said of a group that
 * does not train is none. */
static qzo_status complete_group(qzo_trial_spec *spec, qzo_group_kind kind) {
    qzo_group_settings *group = &spec->group[kind];
    if (!qzo_trial_spec_trains(spec, kind)) {
        *group = (qzo_group_settings){.constraint = qzo_keep_name(QZO_KEEP_AUTO)};
        group->include = group->exclude = qzo_text_intern("");
        if (kind == QZO_GROUP_LORA) forget_adapters(spec);
        return QZO_OK;
    }
    if (group->learning_rate == spec->learning_rate) group->learning_rate = 0.0;
    if (group->eps == spec->eps) group->eps = 0.0;
    if (group->until >= spec->steps) group->until = 0;
    if (group->learning_rate > 0.0 && spec->learning_rate == 0.0)
        return qzo_fail(QZO_ERR_CONFIG,
                        "expected a learning_rate > 0 beside groups.%s.learning_rate, found 0",
                        qzo_group_name((int)kind));
    if (group->after >= (group->until > 0 ? group->until : spec->steps))
        return qzo_fail(QZO_ERR_CONFIG,
                        "expected groups.%s.after below until and steps, found after %" PRId64
                        ", until %" PRId64 " and steps %" PRId64,
                        qzo_group_name((int)kind), group->after, group->until, spec->steps);
    return QZO_OK;
}

qzo_status qzo_trial_spec_complete_groups(qzo_trial_spec *spec) {
    qzo_status status = QZO_OK;
    for (int kind = 0; kind < QZO_GROUP_COUNT && status == QZO_OK; kind++)
        status = complete_group(spec, (qzo_group_kind)kind);
    return status;
}
