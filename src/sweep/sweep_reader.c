#include "sweep/sweep_reader.h"

#include "base/check.h"
#include "base/suggest.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SENTENCE_BYTES = 1536, LIST_END_BYTES = 32 };

/* --- messages --------------------------------------------------------------------------------- */

qzo_status qzo_reader_fail(const qzo_reader *r, const qzo_yaml_node *node, const char *format,
                           ...) {
    char sentence[SENTENCE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    return qzo_fail(QZO_ERR_CONFIG, "%s:%" PRId64 ":%" PRId64 ": %s", r->name, node->line,
                    node->column, sentence);
}

qzo_status qzo_reader_fail_memory(const qzo_reader *r) {
    return qzo_fail(QZO_ERR_MEMORY, "%s: no memory to read it", r->name);
}

bool qzo_yaml_is_nothing(const qzo_yaml_node *node) {
    return node->kind == QZO_YAML_SCALAR && node->is_plain &&
           (node->text[0] == '\0' || strcmp(node->text, "~") == 0 ||
            strcmp(node->text, "null") == 0);
}

/* What stands there, bounded. */
void qzo_yaml_describe(char out[QZO_FOUND_BYTES], const qzo_yaml_node *node) {
    if (node->kind != QZO_YAML_SCALAR) {
        snprintf(out, QZO_FOUND_BYTES, "a %s", node->kind == QZO_YAML_MAPPING ? "mapping" : "list");
        return;
    }
    if (qzo_yaml_is_nothing(node)) {
        snprintf(out, QZO_FOUND_BYTES, "nothing");
        return;
    }
    snprintf(out, QZO_FOUND_BYTES, "%s\"%.40s%s\"", node->is_plain ? "" : "the text ", node->text,
             strlen(node->text) > 40 ? "..." : "");
}

qzo_status qzo_reader_fail_expected(const qzo_reader *r, const qzo_yaml_node *node, const char *key,
                                    const char *expected) {
    char found[QZO_FOUND_BYTES];
    qzo_yaml_describe(found, node);
    return qzo_reader_fail(r, node, "%s: expected %s, found %s", key, expected, found);
}

void qzo_reader_list(char out[QZO_LIST_BYTES], const qzo_word_list *list) {
    size_t used = 0, i = 0;
    out[0] = '\0';
    for (; i < list->count; i++) {
        const size_t room = QZO_LIST_BYTES - used - LIST_END_BYTES;
        if (strlen(list->words[i]) + 2 >= room) break;
        used += (size_t)snprintf(out + used, room, "%s%s", i == 0 ? "" : ", ", list->words[i]);
    }
    if (i < list->count) snprintf(out + used, LIST_END_BYTES, " and %zu more", list->count - i);
}

/* Where a setting that stands in the wrong mapping belongs; NULL for unknown words. */
const char *qzo_reader_right_place(const char *key) {
    const qzo_setting *setting = qzo_setting_find(key);
    if (!setting) return NULL;
    switch (setting->section) {
    case QZO_SECTION_TOP: return "it belongs at the top level or in parameters";
    case QZO_SECTION_TRAIN: return "it belongs in train or in parameters";
    case QZO_SECTION_METRIC: return "it belongs in metric, without its metric_";
    }
    return NULL;
}

qzo_status qzo_reader_fail_unknown(const qzo_reader *r, const qzo_yaml_node *key, const char *where,
                                   const qzo_word_list *list) {
    char words[QZO_LIST_BYTES], found[QZO_FOUND_BYTES], hint[QZO_FOUND_BYTES] = "";
    const char *near = qzo_suggest(key->text, list->words, list->count);
    const char *place = qzo_reader_right_place(key->text);
    if (near)
        snprintf(hint, sizeof hint, " (did you mean %s?)", near);
    else if (place)
        snprintf(hint, sizeof hint, " (%s)", place);
    qzo_yaml_describe(found, key);
    qzo_reader_list(words, list);
    return qzo_reader_fail(r, key, "unknown key in %s: expected one of %s; found %s%s", where,
                           words, found, hint);
}

/* --- mappings --------------------------------------------------------------------------------- */

qzo_status qzo_reader_expect_mapping(const qzo_reader *r, const qzo_yaml_node *node,
                                     const char *where) {
    return node->kind == QZO_YAML_MAPPING ? QZO_OK
                                          : qzo_reader_fail_expected(r, node, where, "a mapping");
}

qzo_status qzo_reader_expect_key(const qzo_reader *r, const qzo_yaml_node *key, const char *where) {
    return key->kind == QZO_YAML_SCALAR
               ? QZO_OK
               : qzo_reader_fail_expected(r, key, where, "a single word as key");
}

/* found (of list's count) = the key node of each word, or NULL. The value is its `next`. */
qzo_status qzo_reader_find_keys(const qzo_yaml_node **found, const qzo_reader *r,
                                const qzo_yaml_node *mapping, const char *where,
                                const qzo_word_list *list) {
    qzo_status status = QZO_OK;
    QZO_TRY(qzo_reader_expect_mapping(r, mapping, where));
    for (const qzo_yaml_node *key = mapping->first; key; key = key->next->next) {
        QZO_TRY(qzo_reader_expect_key(r, key, where));
        size_t i = 0;
        while (i < list->count && strcmp(list->words[i], key->text) != 0) i++;
        if (i == list->count) return qzo_reader_fail_unknown(r, key, where, list);
        if (found[i])
            return qzo_reader_fail(
                r, key, "expected %s once in %s, found it again (first at %" PRId64 ":%" PRId64 ")",
                key->text, where, found[i]->line, found[i]->column);
        found[i] = key;
    }
cleanup:
    return status;
}

int64_t qzo_yaml_child_count(const qzo_yaml_node *node) {
    int64_t count = 0;
    for (const qzo_yaml_node *child = node->first; child; child = child->next) count++;
    return count;
}

const qzo_yaml_node *qzo_yaml_value_of(const qzo_yaml_node *key) { return key ? key->next : NULL; }

/* --- settings --------------------------------------------------------------------------------- */

/* Train and parameters set the same things: each once, in one place. */
qzo_status qzo_reader_claim(qzo_reader *r, const qzo_setting *setting, const qzo_yaml_node *key) {
    size_t index = (size_t)(setting - qzo_settings);
    QZO_ASSERT(index < QZO_WORDS_MAX);
    const qzo_yaml_node *first = r->seen[index];
    if (first)
        return qzo_reader_fail(
            r, key, "expected %s in one place, found it again (first at %" PRId64 ":%" PRId64 ")",
            setting->key, first->line, first->column);
    r->seen[index] = key;
    return QZO_OK;
}

/* A list of words is what its words joined by '+' are. */
static qzo_status read_list(const qzo_reader *r, qzo_trial_spec *spec, const qzo_setting *setting,
                            const qzo_yaml_node *list) {
    char text[QZO_LIST_BYTES] = "", expected[QZO_SETTING_EXPECTED_BYTES];
    size_t used = 0;
    qzo_setting_expected(expected, setting);
    for (const qzo_yaml_node *word = list->first; word; word = word->next) {
        if (word->kind != QZO_YAML_SCALAR || used + strlen(word->text) + 2 > sizeof text)
            return qzo_reader_fail_expected(r, word, setting->key, expected);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used > 0 ? "+" : "",
                                 word->text);
    }
    qzo_status status = qzo_setting_read(spec, setting, text);
    if (status == QZO_OK) return QZO_OK;
    return qzo_fail_context(status, "%s:%" PRId64 ":%" PRId64 ": %s", r->name, list->line,
                            list->column, setting->key);
}

/* Reads one value into spec: the type of the YAML node first, then the setting's own check. */
qzo_status qzo_reader_value(const qzo_reader *r, qzo_trial_spec *spec, const qzo_setting *setting,
                            const qzo_yaml_node *value) {
    char expected[QZO_SETTING_EXPECTED_BYTES];
    bool takes_text = setting->kind == QZO_SETTING_CHOICE || setting->kind == QZO_SETTING_PATH ||
                      setting->kind == QZO_SETTING_WORDS;
    if (setting->kind == QZO_SETTING_WORDS && value->kind == QZO_YAML_SEQUENCE)
        return read_list(r, spec, setting, value);
    qzo_setting_expected(expected, setting);
    if (value->kind != QZO_YAML_SCALAR || qzo_yaml_is_nothing(value) ||
        (!takes_text && !value->is_plain))
        return qzo_reader_fail_expected(r, value, setting->key, expected);
    qzo_status status = qzo_setting_read(spec, setting, value->text);
    if (status == QZO_OK) return QZO_OK;
    return qzo_fail_context(status, "%s:%" PRId64 ":%" PRId64 ": %s", r->name, value->line,
                            value->column, setting->key);
}

qzo_word_list qzo_reader_settings(bool with_train, bool with_top) {
    qzo_word_list list = {.count = 0};
    for (const qzo_setting *s = qzo_settings; s->key; s++) {
        if (!(s->section == QZO_SECTION_TRAIN && with_train) &&
            !(s->section == QZO_SECTION_TOP && with_top))
            continue;
        QZO_ASSERT(list.count + 2 <= QZO_WORDS_MAX);
        list.words[list.count++] = s->key;
        if (s->alias) list.words[list.count++] = s->alias;
    }
    return list;
}

/* YAML 1.1 would read a leading zero as octal. */
int64_t qzo_reader_count(const qzo_yaml_node *value, int64_t max) {
    bool is_number = value->kind == QZO_YAML_SCALAR && value->is_plain && value->text[0] != '0' &&
                     value->text[0] != '\0' && strlen(value->text) <= 9 &&
                     strspn(value->text, "0123456789") == strlen(value->text);
    int64_t count = is_number ? strtol(value->text, NULL, 10) : 0;
    return count <= max ? count : 0;
}
