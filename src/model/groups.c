#include "model/groups.h"

#include <fnmatch.h>
#include <stddef.h>
#include <string.h>

enum { PATTERN_BYTES = 512 };

static const char *const group_names[] = {"scales", "unquantized", "weights", "lora"};
static const char *const keep_names[] = {"auto", "free", "positive", "keep_sign"};

const char *qzo_group_name(int kind) { return kind < QZO_GROUP_COUNT ? group_names[kind] : NULL; }

const char *qzo_keep_name(int keep) { return keep <= QZO_KEEP_SIGN ? keep_names[keep] : NULL; }

const qzo_training qzo_training_default = {
    .groups = {[QZO_GROUP_SCALES] = {true, QZO_KEEP_AUTO, "", ""},
               [QZO_GROUP_UNQUANTIZED] = {false, QZO_KEEP_AUTO, "", ""},
               [QZO_GROUP_WEIGHTS] = {false, QZO_KEEP_AUTO, "", ""},
               [QZO_GROUP_LORA] = {false, QZO_KEEP_AUTO, "", ""}}};

bool qzo_training_equal(const qzo_training *a, const qzo_training *b) {
    if (a->quantize != b->quantize) return false;
    for (int kind = 0; kind < QZO_GROUP_LORA; kind++) {
        const qzo_group_choice *x = &a->groups[kind], *y = &b->groups[kind];
        if (x->is_used != y->is_used) return false;
        if (x->is_used && (x->keep != y->keep || strcmp(x->include, y->include) != 0 ||
                           strcmp(x->exclude, y->exclude) != 0))
            return false;
    }
    return true;
}

/* Whether one or several dot-separated parts of name, one after the other, are the words. */
static bool has_parts(const char *name, const char *words) {
    size_t length = strlen(words);
    for (const char *part = name; part != NULL;) {
        bool is_equal = strncmp(part, words, length) == 0;
        if (is_equal && (part[length] == '.' || part[length] == '\0')) return true;
        part = strchr(part, '.');
        if (part != NULL) part++;
    }
    return false;
}

static bool matches(const char *patterns, const char *name) {
    for (const char *at = patterns; *at != '\0';) {
        char pattern[PATTERN_BYTES];
        size_t length = strcspn(at, "+");
        if (length > 0 && length < sizeof pattern) {
            memcpy(pattern, at, length);
            pattern[length] = '\0';
            bool is_glob = strpbrk(pattern, "*?[") != NULL;
            if (is_glob ? fnmatch(pattern, name, 0) == 0 : has_parts(name, pattern)) return true;
        }
        at += length + (at[length] == '+');
    }
    return false;
}

bool qzo_training_has(const qzo_training *training, qzo_group_kind kind, const char *name) {
    const qzo_group_choice *group = &training->groups[kind];
    return group->is_used && (group->include[0] == '\0' || matches(group->include, name)) &&
           !matches(group->exclude, name);
}

qzo_constraint qzo_training_constraint(const qzo_training *training, qzo_group_kind kind,
                                       qzo_constraint own) {
    switch (training->groups[kind].keep) {
    case QZO_KEEP_FREE: return QZO_CONSTRAINT_FREE;
    case QZO_KEEP_POSITIVE: return QZO_CONSTRAINT_POSITIVE;
    case QZO_KEEP_SIGN: return QZO_CONSTRAINT_KEEP_SIGN;
    default: return own;
    }
}
