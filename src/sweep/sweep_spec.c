/* The keys of a sweep file over the tree of yaml_tree.h. Every setting goes through qzo_settings;
 * what is written here is only the frame around them: which key stands where, and the places in
 * messages. */
#include "sweep/sweep_spec.h"

#include "base/file_io.h"
#include "sweep/sweep_reader.h"
#include "sweep/wandb.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const qzo_sweep_methods[QZO_METHOD_COUNT] = {"grid", "random", "list"};

/* --- settings --------------------------------------------------------------------------------- */

/* groups: { NAME: { KEY: VALUE, ... }, ... }: the groups that are named train, and each KEY is the
 * setting groups.NAME.KEY. */
static qzo_status read_groups(qzo_reader *r, const qzo_yaml_node *groups) {
    qzo_status status = QZO_OK;
    char names[QZO_LIST_BYTES] = "", key_text[QZO_LIST_BYTES];
    size_t used = 0;
    qzo_word_list known = {.count = 0}, all = qzo_reader_settings(true, false);
    while (qzo_group_name((int)known.count)) {
        known.words[known.count] = qzo_group_name((int)known.count);
        known.count++;
    }
    for (const qzo_yaml_node *name = groups->first; name; name = name->next->next) {
        const qzo_yaml_node *body = name->next;
        size_t i = 0;
        QZO_TRY(qzo_reader_expect_key(r, name, "groups"));
        while (i < known.count && strcmp(known.words[i], name->text) != 0) i++;
        if (i == known.count) return qzo_reader_fail_unknown(r, name, "groups", &known);
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? "+" : "",
                                 known.words[i]);
        if (qzo_yaml_is_nothing(body)) continue;
        QZO_TRY(qzo_reader_expect_mapping(r, body, name->text));
        for (const qzo_yaml_node *key = body->first; key; key = key->next->next) {
            QZO_TRY(qzo_reader_expect_key(r, key, name->text));
            snprintf(key_text, sizeof key_text, "groups.%s.%.100s", name->text, key->text);
            const qzo_setting *setting = qzo_setting_find(key_text);
            if (!setting) return qzo_reader_fail_unknown(r, key, name->text, &all);
            QZO_TRY(qzo_reader_claim(r, setting, key));
            QZO_TRY(qzo_reader_value(r, &r->sweep->base, setting, key->next));
        }
    }
    status = qzo_setting_read(&r->sweep->base, qzo_setting_find("groups"), names);
    if (status != QZO_OK)
        status = qzo_fail_context(status, "%s:%" PRId64 ":%" PRId64 ": groups", r->name,
                                  groups->line, groups->column);
cleanup:
    return status;
}

static qzo_status read_train(qzo_reader *r, const qzo_yaml_node *train) {
    qzo_status status = QZO_OK;
    qzo_word_list list = qzo_reader_settings(true, false);
    QZO_TRY(qzo_reader_expect_mapping(r, train, "train"));
    for (const qzo_yaml_node *key = train->first; key; key = key->next->next) {
        QZO_TRY(qzo_reader_expect_key(r, key, "train"));
        const qzo_setting *setting = qzo_setting_find(key->text);
        if (!setting || setting->section != QZO_SECTION_TRAIN)
            return qzo_reader_fail_unknown(r, key, "train", &list);
        QZO_TRY(qzo_reader_claim(r, setting, key));
        if (strcmp(setting->key, "groups") == 0 && key->next->kind == QZO_YAML_MAPPING)
            QZO_TRY(read_groups(r, key->next));
        else
            QZO_TRY(qzo_reader_value(r, &r->sweep->base, setting, key->next));
    }
cleanup:
    return status;
}

/* model and task of the top level; they are paths. */
static qzo_status read_path(qzo_reader *r, const char *setting_key, char **field,
                            const qzo_yaml_node *key) {
    qzo_status status = QZO_OK;
    const qzo_setting *setting = qzo_setting_find(setting_key);
    if (!key) return QZO_OK;
    QZO_TRY(qzo_reader_claim(r, setting, key));
    QZO_TRY(qzo_reader_value(r, &r->sweep->base, setting, key->next));
    char *joined = qzo_path_join(r->sweep->folder, *field);
    if (!joined) return qzo_reader_fail_memory(r);
    free(*field);
    *field = joined;
cleanup:
    return status;
}

static qzo_status read_metric(qzo_reader *r, const qzo_yaml_node *metric) {
    qzo_status status = QZO_OK;
    const qzo_word_list list = {{"name", "goal"}, 2};
    const qzo_yaml_node *found[2] = {NULL, NULL};
    qzo_trial_spec *base = &r->sweep->base;
    QZO_TRY(qzo_reader_find_keys(found, r, metric, "metric", &list));
    if (r->is_foreign)
        return qzo_wandb_metric(r, qzo_yaml_value_of(found[0]), qzo_yaml_value_of(found[1]));
    if (found[0])
        QZO_TRY(qzo_reader_value(r, base, qzo_setting_find("metric_name"), found[0]->next));
    /* A score is better when it is larger: only who says otherwise means otherwise. */
    if (strcmp(base->metric_name, "dev_score") == 0)
        QZO_TRY(qzo_setting_read(base, qzo_setting_find("metric_goal"), "maximize"));
    if (found[1])
        QZO_TRY(qzo_reader_value(r, base, qzo_setting_find("metric_goal"), found[1]->next));
    if (strcmp(base->metric_name, "dev_loss") == 0 && strcmp(base->metric_goal, "maximize") == 0)
        status = qzo_reader_fail(
            r, qzo_yaml_value_of(found[1]),
            "goal: expected minimize with metric dev_loss, found maximize (the best "
            "step would be the one with the largest loss)");
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

static qzo_status read_name(qzo_reader *r, const qzo_yaml_node *value) {
    if (!value) {
        r->sweep->name = stem_of(r->name);
        return r->sweep->name ? QZO_OK : qzo_reader_fail_memory(r);
    }
    if (value->kind != QZO_YAML_SCALAR || qzo_yaml_is_nothing(value) || value->text[0] == '\0')
        return qzo_reader_fail_expected(r, value, "name", "a text");
    if (strlen(value->text) > QZO_SWEEP_NAME_BYTES_MAX)
        return qzo_reader_fail(r, value, "name: expected at most %d bytes, found %zu",
                               QZO_SWEEP_NAME_BYTES_MAX, strlen(value->text));
    for (const char *c = value->text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127) /* it stands in tables, which have lines */
            return qzo_reader_fail_expected(r, value, "name", "a text in one line");
    r->sweep->name = strdup(value->text);
    return r->sweep->name ? QZO_OK : qzo_reader_fail_memory(r);
}

static qzo_status read_ranks(qzo_reader *r, const qzo_yaml_node *value) {
    char expected[QZO_FOUND_BYTES];
    snprintf(expected, sizeof expected, "an integer from 1 to %d, or all", QZO_RANKS_PER_TRIAL_MAX);
    r->sweep->ranks_per_trial = 1;
    if (!value) return QZO_OK;
    if (value->kind == QZO_YAML_SCALAR && strcmp(value->text, "all") == 0) {
        r->sweep->ranks_per_trial = QZO_RANKS_ALL;
        return QZO_OK;
    }
    r->sweep->ranks_per_trial = qzo_reader_count(value, QZO_RANKS_PER_TRIAL_MAX);
    return r->sweep->ranks_per_trial > 0
               ? QZO_OK
               : qzo_reader_fail_expected(r, value, "ranks_per_trial", expected);
}

static qzo_status read_method(qzo_reader *r, const qzo_yaml_node *value) {
    qzo_word_list list = {.count = QZO_METHOD_COUNT};
    char words[QZO_LIST_BYTES];
    for (int i = 0; i < QZO_METHOD_COUNT; i++) list.words[i] = qzo_sweep_methods[i];
    if (!value) return QZO_OK;
    for (int i = 0; value->kind == QZO_YAML_SCALAR && i < QZO_METHOD_COUNT; i++)
        if (strcmp(value->text, list.words[i]) == 0) {
            r->sweep->method = (qzo_method)i;
            return QZO_OK;
        }
    qzo_reader_list(words, &list);
    return qzo_reader_fail_expected(r, value, "method", words);
}

/* run_cap, repeats, search_seed. */
static qzo_status read_counts(qzo_reader *r, const qzo_yaml_node *run_cap,
                              const qzo_yaml_node *repeats, const qzo_yaml_node *search_seed) {
    qzo_trial_spec scratch = {0};
    char expected[QZO_FOUND_BYTES];
    if (run_cap) r->sweep->run_cap = qzo_reader_count(run_cap, QZO_SWEEP_TRIALS_MAX);
    if (repeats) r->sweep->repeats = qzo_reader_count(repeats, QZO_SWEEP_REPEATS_MAX);
    snprintf(expected, sizeof expected, "an integer from 1 to %d", QZO_SWEEP_TRIALS_MAX);
    if (run_cap && r->sweep->run_cap == 0)
        return qzo_reader_fail_expected(r, run_cap, "run_cap", expected);
    snprintf(expected, sizeof expected, "an integer from 1 to %d", QZO_SWEEP_REPEATS_MAX);
    if (repeats && r->sweep->repeats == 0)
        return qzo_reader_fail_expected(r, repeats, "repeats", expected);
    if (r->sweep->method == QZO_METHOD_RANDOM && !run_cap)
        return qzo_fail(QZO_ERR_CONFIG,
                        "%s: expected run_cap, the number of draws, with method: random", r->name);
    if (!search_seed) return QZO_OK;
    qzo_status status = qzo_reader_value(r, &scratch, qzo_setting_find("seed"), search_seed);
    r->sweep->search_seed = scratch.seed;
    return status;
}

static qzo_status check_required(const qzo_reader *r) {
    for (const qzo_setting *s = qzo_settings; s->key; s++)
        if (!s->default_text && !r->seen[s - qzo_settings])
            return qzo_fail(QZO_ERR_CONFIG, "%s: expected %s (%s), found none: %s, or --%s",
                            r->name, s->key, s->help, qzo_reader_right_place(s->key), s->key);
    return QZO_OK;
}

/* --model and --task of the command line, for files that cannot name them. */
static qzo_status add_path(qzo_reader *r, const char *key, const char *path) {
    static const qzo_yaml_node command_line = {.text = (char *)(uintptr_t) "the command line"};
    const qzo_setting *setting = qzo_setting_find(key);
    const qzo_yaml_node **seen = &r->seen[setting - qzo_settings];
    if (!path) return QZO_OK;
    if (*seen)
        return qzo_reader_fail(r, *seen, "expected %s either here or as --%s, found both", key,
                               key);
    *seen = &command_line;
    return qzo_setting_read(&r->sweep->base, setting, path);
}

enum {
    NAME,
    MODEL,
    TASK,
    RANKS,
    TRAIN,
    METHOD,
    METRIC,
    RUN_CAP,
    REPEATS,
    SEARCH_SEED,
    SCHEDULER,
    KEY_COUNT
};
enum { SPACE = KEY_COUNT, WANDB = SPACE + QZO_SPACE_KEY_COUNT };
enum { ALL_KEY_COUNT = WANDB + QZO_WANDB_KEY_COUNT };

/* The words of the top level; those of Weights & Biases only in a file that has them. */
static qzo_word_list top_words(const qzo_yaml_node *root, bool *is_foreign) {
    qzo_word_list list = {{"name", "model", "task", "ranks_per_trial", "train", "method", "metric",
                           "run_cap", "repeats", "search_seed", "scheduler"},
                          WANDB};
    for (int i = 0; i < QZO_SPACE_KEY_COUNT; i++) list.words[SPACE + i] = qzo_space_keys[i];
    for (int i = 0; i < QZO_WANDB_KEY_COUNT; i++) list.words[WANDB + i] = qzo_wandb_keys[i];
    *is_foreign = false;
    for (const qzo_yaml_node *key = root->kind == QZO_YAML_MAPPING ? root->first : NULL; key;
         key = key->next->next)
        if (key->kind == QZO_YAML_SCALAR &&
            strcmp(key->text, qzo_wandb_keys[QZO_WANDB_PROGRAM]) == 0)
            *is_foreign = true;
    if (*is_foreign) list.count = ALL_KEY_COUNT;
    return list;
}

static qzo_status read_sweep(qzo_reader *r, const qzo_yaml_node *root,
                             const qzo_sweep_additions *additions) {
    qzo_status status = QZO_OK;
    const qzo_yaml_node *found[ALL_KEY_COUNT] = {NULL};
    qzo_trial_spec *base = &r->sweep->base;
    if (!root)
        return qzo_fail(QZO_ERR_CONFIG, "%s: expected keys such as model and task, found nothing",
                        r->name);
    qzo_word_list list = top_words(root, &r->is_foreign);
    QZO_TRY(qzo_reader_find_keys(found, r, root, "the sweep file", &list));
    QZO_TRY(read_name(r, qzo_yaml_value_of(found[NAME])));
    QZO_TRY(read_path(r, "model", &base->model_path, found[MODEL]));
    QZO_TRY(read_path(r, "task", &base->task_path, found[TASK]));
    QZO_TRY(read_ranks(r, qzo_yaml_value_of(found[RANKS])));
    if (found[TRAIN]) QZO_TRY(read_train(r, found[TRAIN]->next));
    QZO_TRY(read_method(r, qzo_yaml_value_of(found[METHOD])));
    QZO_TRY(read_counts(r, qzo_yaml_value_of(found[RUN_CAP]), qzo_yaml_value_of(found[REPEATS]),
                        qzo_yaml_value_of(found[SEARCH_SEED])));
    QZO_TRY(qzo_reader_scheduler(r, qzo_yaml_value_of(found[SCHEDULER])));
    if (found[METRIC]) QZO_TRY(read_metric(r, found[METRIC]->next));
    QZO_TRY(qzo_reader_spaces(r, found + SPACE));
    QZO_TRY(qzo_wandb_read(r, found + WANDB));
    if (additions) QZO_TRY(add_path(r, "model", additions->model_path));
    if (additions) QZO_TRY(add_path(r, "task", additions->task_path));
    QZO_TRY(check_required(r));
cleanup:
    return status;
}

/* --- entry points ----------------------------------------------------------------------------- */

qzo_status qzo_sweep_spec_parse(qzo_sweep_spec **out, const char *text, size_t text_bytes,
                                const char *name, const char *folder,
                                const qzo_sweep_additions *additions_or_null) {
    qzo_status status = QZO_OK;
    qzo_yaml_node *root = NULL;
    *out = NULL;
    qzo_sweep_spec *sweep = calloc(1, sizeof *sweep);
    qzo_reader r = {.sweep = sweep, .name = name};
    if (!sweep) return qzo_reader_fail_memory(&r);
    qzo_trial_spec_defaults(&sweep->base);
    sweep->file_path = strdup(name);
    sweep->folder = strdup(folder);
    sweep->text = malloc(text_bytes + 1);
    if (!sweep->file_path || !sweep->folder || !sweep->text) {
        status = qzo_reader_fail_memory(&r);
        goto cleanup;
    }
    if (text_bytes > 0) memcpy(sweep->text, text, text_bytes);
    sweep->text[text_bytes] = '\0';
    sweep->text_bytes = text_bytes;
    QZO_TRY(qzo_yaml_parse(&root, sweep->text, text_bytes, name));
    QZO_TRY(read_sweep(&r, root, additions_or_null));
    *out = sweep;
    sweep = NULL;
cleanup:
    qzo_yaml_free(root);
    qzo_sweep_spec_free(sweep);
    return status;
}

qzo_status qzo_sweep_spec_load(qzo_sweep_spec **out, const char *path,
                               const qzo_sweep_additions *additions_or_null) {
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
    QZO_TRY(qzo_sweep_spec_parse(out, text, text_bytes, path, folder, additions_or_null));
cleanup:
    free(folder);
    free(text);
    return status;
}

static void release_space(qzo_space *space) {
    for (int64_t i = 0; i < space->parameter_count; i++) {
        qzo_parameter *parameter = &space->parameters[i];
        for (int64_t v = 0; parameter->values && v < parameter->value_count; v++)
            free(parameter->values[v]);
        free(parameter->values);
        qzo_expression_free(parameter->when);
    }
    for (int64_t i = 0; i < space->exclude_count; i++) qzo_expression_free(space->excludes[i]);
    free(space->parameters);
    free(space->excludes);
}

void qzo_sweep_spec_free(qzo_sweep_spec *sweep) {
    if (!sweep) return;
    for (int64_t i = 0; i < sweep->space_count; i++) release_space(&sweep->spaces[i]);
    free(sweep->spaces);
    free(sweep->notes);
    qzo_trial_spec_release(&sweep->base);
    free(sweep->name);
    free(sweep->file_path);
    free(sweep->folder);
    free(sweep->text);
    free(sweep);
}
