/* The keys of a sweep file over the tree of yaml_tree.h. Every setting goes through qzo_settings;
 * what is written here is only the frame around them: which key stands where, and the places in
 * messages. */
#include "sweep/sweep_spec.h"

#include "base/check.h"
#include "base/file_io.h"
#include "base/suggest.h"
#include "sweep/yaml_tree.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX = 64, SENTENCE_BYTES = 1536, LIST_BYTES = 1024, FOUND_BYTES = 96 };

const char *const qzo_sweep_methods[] = {"grid", NULL};

typedef struct reader {
    qzo_sweep_spec *sweep;
    const char *name;                     /* of the file, for messages */
    const qzo_yaml_node *seen[WORDS_MAX]; /* per setting: the key that set it */
} reader;

/* Words of a mapping's keys, for look-up and for messages. */
typedef struct word_list {
    const char *words[WORDS_MAX];
    size_t count;
} word_list;

/* --- messages --------------------------------------------------------------------------------- */

static qzo_status fail_node(const reader *r, const qzo_yaml_node *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static qzo_status fail_node(const reader *r, const qzo_yaml_node *node, const char *format, ...) {
    char sentence[SENTENCE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    return qzo_fail(QZO_ERR_CONFIG, "%s:%" PRId64 ":%" PRId64 ": %s", r->name, node->line,
                    node->column, sentence);
}

static qzo_status fail_memory(const reader *r) {
    return qzo_fail(QZO_ERR_MEMORY, "%s: no memory to read it", r->name);
}

static bool is_nothing(const qzo_yaml_node *node) {
    return node->kind == QZO_YAML_SCALAR && node->is_plain &&
           (node->text[0] == '\0' || strcmp(node->text, "~") == 0 ||
            strcmp(node->text, "null") == 0);
}

/* What stands there, bounded and in one line. */
static void describe(char out[FOUND_BYTES], const qzo_yaml_node *node) {
    if (node->kind != QZO_YAML_SCALAR) {
        snprintf(out, FOUND_BYTES, "a %s", node->kind == QZO_YAML_MAPPING ? "mapping" : "list");
        return;
    }
    if (is_nothing(node)) {
        snprintf(out, FOUND_BYTES, "nothing");
        return;
    }
    int length = snprintf(out, FOUND_BYTES, "%s\"%.40s%s\"", node->is_plain ? "" : "the text ",
                          node->text, strlen(node->text) > 40 ? "..." : "");
    for (int i = 0; i < length; i++)
        if ((unsigned char)out[i] < ' ' || out[i] == 127) out[i] = '?';
}

static qzo_status fail_expected(const reader *r, const qzo_yaml_node *node, const char *key,
                                const char *expected) {
    char found[FOUND_BYTES];
    describe(found, node);
    return fail_node(r, node, "%s: expected %s, found %s", key, expected, found);
}

static void list_words(char out[LIST_BYTES], const word_list *list) {
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < list->count && used < LIST_BYTES; i++)
        used += (size_t)snprintf(out + used, LIST_BYTES - used, "%s%s", i == 0 ? "" : ", ",
                                 list->words[i]);
}

/* Where a setting that stands in the wrong mapping belongs; NULL for unknown words. */
static const char *right_place(const char *key) {
    const qzo_setting *setting = qzo_setting_find(key);
    if (!setting) return NULL;
    switch (setting->section) {
    case QZO_SECTION_TOP: return "it belongs at the top level or in parameters";
    case QZO_SECTION_TRAIN: return "it belongs in train or in parameters";
    case QZO_SECTION_METRIC: return "it belongs in metric, without its metric_";
    }
    return NULL;
}

static qzo_status fail_unknown_key(const reader *r, const qzo_yaml_node *key, const char *where,
                                   const word_list *list) {
    char words[LIST_BYTES], found[FOUND_BYTES], hint[FOUND_BYTES] = "";
    const char *near = qzo_suggest(key->text, list->words, list->count);
    const char *place = right_place(key->text);
    if (near)
        snprintf(hint, sizeof hint, " (did you mean %s?)", near);
    else if (place)
        snprintf(hint, sizeof hint, " (%s)", place);
    describe(found, key);
    list_words(words, list);
    return fail_node(r, key, "unknown key in %s: expected one of %s; found %s%s", where, words,
                     found, hint);
}

/* --- mappings --------------------------------------------------------------------------------- */

static qzo_status expect_mapping(const reader *r, const qzo_yaml_node *node, const char *where) {
    return node->kind == QZO_YAML_MAPPING ? QZO_OK : fail_expected(r, node, where, "a mapping");
}

static qzo_status expect_key(const reader *r, const qzo_yaml_node *key, const char *where) {
    return key->kind == QZO_YAML_SCALAR ? QZO_OK
                                        : fail_expected(r, key, where, "a single word as key");
}

/* found (of list's count) = the key node of each word, or NULL. The value is its `next`. */
static qzo_status find_keys(const qzo_yaml_node **found, const reader *r,
                            const qzo_yaml_node *mapping, const char *where,
                            const word_list *list) {
    qzo_status status = QZO_OK;
    QZO_TRY(expect_mapping(r, mapping, where));
    for (const qzo_yaml_node *key = mapping->first; key; key = key->next->next) {
        QZO_TRY(expect_key(r, key, where));
        size_t i = 0;
        while (i < list->count && strcmp(list->words[i], key->text) != 0) i++;
        if (i == list->count) return fail_unknown_key(r, key, where, list);
        if (found[i])
            return fail_node(
                r, key, "expected %s once in %s, found it again (first at %" PRId64 ":%" PRId64 ")",
                key->text, where, found[i]->line, found[i]->column);
        found[i] = key;
    }
cleanup:
    return status;
}

static const qzo_yaml_node *value_of(const qzo_yaml_node *key) { return key ? key->next : NULL; }

/* --- settings --------------------------------------------------------------------------------- */

/* Train and parameters set the same things: each once, in one place. */
static qzo_status claim(reader *r, const qzo_setting *setting, const qzo_yaml_node *key) {
    size_t index = (size_t)(setting - qzo_settings);
    QZO_ASSERT(index < WORDS_MAX);
    const qzo_yaml_node *first = r->seen[index];
    if (first)
        return fail_node(
            r, key, "expected %s in one place, found it again (first at %" PRId64 ":%" PRId64 ")",
            setting->key, first->line, first->column);
    r->seen[index] = key;
    return QZO_OK;
}

/* Reads one value into spec: the type of the YAML node first, then the setting's own check. */
static qzo_status read_value(const reader *r, qzo_trial_spec *spec, const qzo_setting *setting,
                             const qzo_yaml_node *value) {
    char expected[QZO_SETTING_EXPECTED_BYTES];
    bool takes_text = setting->kind == QZO_SETTING_CHOICE || setting->kind == QZO_SETTING_PATH;
    qzo_setting_expected(expected, setting);
    if (value->kind != QZO_YAML_SCALAR || is_nothing(value) || (!takes_text && !value->is_plain))
        return fail_expected(r, value, setting->key, expected);
    qzo_status status = qzo_setting_read(spec, setting, value->text);
    if (status == QZO_OK) return QZO_OK;
    return qzo_fail_context(status, "%s:%" PRId64 ":%" PRId64 ": %s", r->name, value->line,
                            value->column, setting->key);
}

static word_list setting_words(bool with_train, bool with_top) {
    word_list list = {.count = 0};
    for (const qzo_setting *s = qzo_settings; s->key; s++) {
        if (!(s->section == QZO_SECTION_TRAIN && with_train) &&
            !(s->section == QZO_SECTION_TOP && with_top))
            continue;
        QZO_ASSERT(list.count + 2 <= WORDS_MAX);
        list.words[list.count++] = s->key;
        if (s->alias) list.words[list.count++] = s->alias;
    }
    return list;
}

static qzo_status read_train(reader *r, const qzo_yaml_node *train) {
    qzo_status status = QZO_OK;
    word_list list = setting_words(true, false);
    QZO_TRY(expect_mapping(r, train, "train"));
    for (const qzo_yaml_node *key = train->first; key; key = key->next->next) {
        QZO_TRY(expect_key(r, key, "train"));
        const qzo_setting *setting = qzo_setting_find(key->text);
        if (!setting || setting->section != QZO_SECTION_TRAIN)
            return fail_unknown_key(r, key, "train", &list);
        QZO_TRY(claim(r, setting, key));
        QZO_TRY(read_value(r, &r->sweep->base, setting, key->next));
    }
cleanup:
    return status;
}

/* model and task of the top level; they are paths. */
static qzo_status read_path(reader *r, const char *setting_key, char **field,
                            const qzo_yaml_node *key) {
    qzo_status status = QZO_OK;
    const qzo_setting *setting = qzo_setting_find(setting_key);
    if (!key) return QZO_OK;
    QZO_TRY(claim(r, setting, key));
    QZO_TRY(read_value(r, &r->sweep->base, setting, key->next));
    char *joined = qzo_path_join(r->sweep->folder, *field);
    if (!joined) return fail_memory(r);
    free(*field);
    *field = joined;
cleanup:
    return status;
}

static qzo_status read_metric(reader *r, const qzo_yaml_node *metric) {
    qzo_status status = QZO_OK;
    const word_list list = {{"name", "goal"}, 2};
    const qzo_yaml_node *found[2] = {NULL, NULL};
    qzo_trial_spec *base = &r->sweep->base;
    QZO_TRY(find_keys(found, r, metric, "metric", &list));
    if (found[0]) QZO_TRY(read_value(r, base, qzo_setting_find("metric_name"), found[0]->next));
    /* A score is better when it is larger: only who says otherwise means otherwise. */
    if (strcmp(base->metric_name, "dev_score") == 0)
        QZO_TRY(qzo_setting_read(base, qzo_setting_find("metric_goal"), "maximize"));
    if (found[1]) QZO_TRY(read_value(r, base, qzo_setting_find("metric_goal"), found[1]->next));
    if (strcmp(base->metric_name, "dev_loss") == 0 && strcmp(base->metric_goal, "maximize") == 0)
        status = fail_node(r, value_of(found[1]),
                           "goal: expected minimize with metric dev_loss, found maximize (the best "
                           "step would be the one with the largest loss)");
cleanup:
    return status;
}

/* --- parameters ------------------------------------------------------------------------------- */

static int64_t child_count(const qzo_yaml_node *node) {
    int64_t count = 0;
    for (const qzo_yaml_node *child = node->first; child; child = child->next) count++;
    return count;
}

/* Checks count values, siblings from first on, and keeps their texts. */
static qzo_status read_parameter_values(const reader *r, qzo_parameter *parameter,
                                        const qzo_yaml_node *first, int64_t count) {
    qzo_status status = QZO_OK;
    qzo_trial_spec scratch;
    qzo_trial_spec_defaults(&scratch);
    parameter->values = calloc((size_t)count, sizeof *parameter->values);
    if (!parameter->values) return fail_memory(r);
    const qzo_yaml_node *value = first;
    for (int64_t i = 0; i < count; i++, value = value->next) {
        QZO_TRY(read_value(r, &scratch, parameter->setting, value));
        parameter->values[i] = strdup(value->text);
        if (!parameter->values[i]) {
            status = fail_memory(r);
            goto cleanup;
        }
        parameter->value_count = i + 1;
    }
cleanup:
    qzo_trial_spec_release(&scratch);
    return status;
}

static qzo_status read_parameter(const reader *r, qzo_parameter *parameter,
                                 const qzo_yaml_node *key) {
    qzo_status status = QZO_OK;
    const word_list list = {{"value", "values"}, 2};
    const qzo_yaml_node *found[2] = {NULL, NULL}, *body = key->next;
    if (body->kind != QZO_YAML_MAPPING)
        return fail_expected(r, body, key->text, "a mapping {value: x} or {values: [x, ...]}");
    QZO_TRY(find_keys(found, r, body, key->text, &list));
    const qzo_yaml_node *one = value_of(found[0]), *many = value_of(found[1]);
    if ((one != NULL) == (many != NULL))
        return fail_node(r, body, "%s: expected either value or values, found %s", key->text,
                         one ? "both" : "neither");
    if (one) return read_parameter_values(r, parameter, one, 1);
    if (many->kind != QZO_YAML_SEQUENCE || !many->first) {
        const char *expected = "a list with at least one value";
        return many->kind == QZO_YAML_SEQUENCE
                   ? fail_node(r, many, "%s: expected %s, found an empty one", key->text, expected)
                   : fail_expected(r, many, key->text, expected);
    }
    parameter->swept = true;
    QZO_TRY(read_parameter_values(r, parameter, many->first, child_count(many)));
cleanup:
    return status;
}

static qzo_status read_parameters(reader *r, const qzo_yaml_node *parameters) {
    qzo_status status = QZO_OK;
    qzo_sweep_spec *sweep = r->sweep;
    word_list list = setting_words(true, true);
    QZO_TRY(expect_mapping(r, parameters, "parameters"));
    size_t capacity = (size_t)child_count(parameters) / 2;
    sweep->parameters = calloc(capacity + 1, sizeof *sweep->parameters);
    if (!sweep->parameters) return fail_memory(r);
    for (const qzo_yaml_node *key = parameters->first; key; key = key->next->next) {
        QZO_TRY(expect_key(r, key, "parameters"));
        const qzo_setting *setting = qzo_setting_find(key->text);
        if (!setting || setting->section == QZO_SECTION_METRIC)
            return fail_unknown_key(r, key, "parameters", &list);
        QZO_TRY(claim(r, setting, key));
        qzo_parameter *parameter = &sweep->parameters[sweep->parameter_count++];
        parameter->setting = setting;
        QZO_TRY(read_parameter(r, parameter, key));
    }
cleanup:
    return status;
}

/* --- the rest of the top level ---------------------------------------------------------------- */

/* "folder/lr.yaml" is called "lr". */
static char *stem_of(const char *path) {
    const char *slash = strrchr(path, '/');
    const char *begin = slash ? slash + 1 : path;
    const char *dot = strrchr(begin, '.');
    return strndup(begin, dot && dot != begin ? (size_t)(dot - begin) : strlen(begin));
}

static qzo_status read_name(reader *r, const qzo_yaml_node *value) {
    if (!value) {
        r->sweep->name = stem_of(r->name);
        return r->sweep->name ? QZO_OK : fail_memory(r);
    }
    if (value->kind != QZO_YAML_SCALAR || is_nothing(value) || value->text[0] == '\0')
        return fail_expected(r, value, "name", "a text");
    if (strlen(value->text) > QZO_SWEEP_NAME_BYTES_MAX)
        return fail_node(r, value, "name: expected at most %d bytes, found %zu",
                         QZO_SWEEP_NAME_BYTES_MAX, strlen(value->text));
    for (const char *c = value->text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127) /* it stands in tables, which have lines */
            return fail_expected(r, value, "name", "a text in one line");
    r->sweep->name = strdup(value->text);
    return r->sweep->name ? QZO_OK : fail_memory(r);
}

static qzo_status read_ranks(reader *r, const qzo_yaml_node *value) {
    char expected[FOUND_BYTES];
    snprintf(expected, sizeof expected, "an integer from 1 to %d, or all", QZO_RANKS_PER_TRIAL_MAX);
    r->sweep->ranks_per_trial = 1;
    if (!value) return QZO_OK;
    if (value->kind == QZO_YAML_SCALAR && strcmp(value->text, "all") == 0) {
        r->sweep->ranks_per_trial = QZO_RANKS_ALL;
        return QZO_OK;
    }
    bool is_number = value->kind == QZO_YAML_SCALAR && value->is_plain && value->text[0] != '0' &&
                     value->text[0] != '\0' && strlen(value->text) <= 9 &&
                     strspn(value->text, "0123456789") == strlen(value->text);
    long count = is_number ? strtol(value->text, NULL, 10) : 0;
    if (count < 1 || count > QZO_RANKS_PER_TRIAL_MAX)
        return fail_expected(r, value, "ranks_per_trial", expected);
    r->sweep->ranks_per_trial = count;
    return QZO_OK;
}

static qzo_status read_method(reader *r, const qzo_yaml_node *value) {
    word_list list = {.count = 0};
    char words[LIST_BYTES];
    while (qzo_sweep_methods[list.count]) {
        list.words[list.count] = qzo_sweep_methods[list.count];
        list.count++;
    }
    r->sweep->method = qzo_sweep_methods[0];
    if (!value) return QZO_OK;
    for (size_t i = 0; value->kind == QZO_YAML_SCALAR && i < list.count; i++)
        if (strcmp(value->text, list.words[i]) == 0) {
            r->sweep->method = list.words[i];
            return QZO_OK;
        }
    list_words(words, &list);
    return fail_expected(r, value, "method", words);
}

static qzo_status check_required(const reader *r) {
    for (const qzo_setting *s = qzo_settings; s->key; s++)
        if (!s->default_text && !r->seen[s - qzo_settings])
            return qzo_fail(QZO_ERR_CONFIG, "%s: expected %s (%s), found none: %s", r->name, s->key,
                            s->help, right_place(s->key));
    return QZO_OK;
}

static qzo_status read_sweep(reader *r, const qzo_yaml_node *root) {
    enum { NAME, MODEL, TASK, RANKS, TRAIN, METHOD, METRIC, PARAMETERS, KEY_COUNT };
    static const word_list list = {
        {"name", "model", "task", "ranks_per_trial", "train", "method", "metric", "parameters"},
        KEY_COUNT};
    qzo_status status = QZO_OK;
    const qzo_yaml_node *found[KEY_COUNT] = {NULL};
    qzo_trial_spec *base = &r->sweep->base;
    if (!root)
        return qzo_fail(QZO_ERR_CONFIG, "%s: expected keys such as model and task, found nothing",
                        r->name);
    QZO_TRY(find_keys(found, r, root, "the sweep file", &list));
    QZO_TRY(read_name(r, value_of(found[NAME])));
    QZO_TRY(read_path(r, "model", &base->model_path, found[MODEL]));
    QZO_TRY(read_path(r, "task", &base->task_path, found[TASK]));
    QZO_TRY(read_ranks(r, value_of(found[RANKS])));
    if (found[TRAIN]) QZO_TRY(read_train(r, found[TRAIN]->next));
    QZO_TRY(read_method(r, value_of(found[METHOD])));
    if (found[METRIC]) QZO_TRY(read_metric(r, found[METRIC]->next));
    if (found[PARAMETERS]) QZO_TRY(read_parameters(r, found[PARAMETERS]->next));
    QZO_TRY(check_required(r));
cleanup:
    return status;
}

/* --- entry points ----------------------------------------------------------------------------- */

qzo_status qzo_sweep_spec_parse(qzo_sweep_spec **out, const char *text, size_t text_bytes,
                                const char *name, const char *folder) {
    qzo_status status = QZO_OK;
    qzo_yaml_node *root = NULL;
    *out = NULL;
    qzo_sweep_spec *sweep = calloc(1, sizeof *sweep);
    reader r = {.sweep = sweep, .name = name};
    if (!sweep) return fail_memory(&r);
    qzo_trial_spec_defaults(&sweep->base);
    sweep->file_path = strdup(name);
    sweep->folder = strdup(folder);
    sweep->text = malloc(text_bytes + 1);
    if (!sweep->file_path || !sweep->folder || !sweep->text) {
        status = fail_memory(&r);
        goto cleanup;
    }
    if (text_bytes > 0) memcpy(sweep->text, text, text_bytes);
    sweep->text[text_bytes] = '\0';
    sweep->text_bytes = text_bytes;
    QZO_TRY(qzo_yaml_parse(&root, sweep->text, text_bytes, name));
    QZO_TRY(read_sweep(&r, root));
    *out = sweep;
    sweep = NULL;
cleanup:
    qzo_yaml_free(root);
    qzo_sweep_spec_free(sweep);
    return status;
}

qzo_status qzo_sweep_spec_load(qzo_sweep_spec **out, const char *path) {
    qzo_status status = QZO_OK;
    char *text = NULL, *folder = NULL;
    size_t text_bytes = 0;
    *out = NULL;
    status = qzo_file_read(&text, &text_bytes, path, QZO_YAML_BYTES_MAX);
    if (status == QZO_ERR_IO) status = QZO_ERR_NOT_FOUND; /* unreadable: as good as not there */
    QZO_TRY(status);
    folder = qzo_path_folder(path);
    if (!folder) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: no memory to read it", path);
        goto cleanup;
    }
    QZO_TRY(qzo_sweep_spec_parse(out, text, text_bytes, path, folder));
cleanup:
    free(folder);
    free(text);
    return status;
}

void qzo_sweep_spec_free(qzo_sweep_spec *sweep) {
    if (!sweep) return;
    for (int64_t i = 0; i < sweep->parameter_count; i++) {
        qzo_parameter *parameter = &sweep->parameters[i];
        for (int64_t v = 0; v < parameter->value_count; v++) free(parameter->values[v]);
        free(parameter->values);
    }
    free(sweep->parameters);
    qzo_trial_spec_release(&sweep->base);
    free(sweep->name);
    free(sweep->file_path);
    free(sweep->folder);
    free(sweep->text);
    free(sweep);
}
