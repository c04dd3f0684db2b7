/* The part of a sweep file that says which trials there are: parameters, lists of trials, zip,
 * exclude, and several of these as grids. */
#include "sweep/sweep_reader.h"

#include "sweep/wandb.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const qzo_space_keys[QZO_SPACE_KEY_COUNT] = {"parameters", "trials", "zip", "exclude",
                                                         "grids"};

/* Room for one more parameter, which varies alone. */
static qzo_parameter *add_parameter(qzo_space *space, const qzo_setting *setting) {
    size_t count = (size_t)space->parameter_count;
    qzo_parameter *grown = realloc(space->parameters, (count + 1) * sizeof *grown);
    if (!grown) return NULL;
    space->parameters = grown;
    grown[count] = (qzo_parameter){.setting = setting, .together = space->parameter_count++};
    return &grown[count];
}

/* --- one parameter --- */

/* A copy of the text of a value that was read into spec; a list of words as one text. */
static char *text_of(const qzo_trial_spec *spec, const qzo_setting *setting,
                     const qzo_yaml_node *value) {
    return value->kind == QZO_YAML_SCALAR ? strdup(value->text) : qzo_setting_text(spec, setting);
}

/* Checks count values, siblings from first on, and keeps their texts. */
static qzo_status read_values(const qzo_reader *r, qzo_parameter *parameter,
                              const qzo_yaml_node *first, int64_t count) {
    qzo_status status = QZO_OK;
    qzo_trial_spec scratch;
    qzo_trial_spec_defaults(&scratch);
    parameter->values = calloc((size_t)count, sizeof *parameter->values);
    if (!parameter->values) return qzo_reader_fail_memory(r);
    const qzo_yaml_node *value = first;
    for (int64_t i = 0; i < count; i++, value = value->next) {
        QZO_TRY(qzo_reader_value(r, &scratch, parameter->setting, value));
        parameter->values[i] = text_of(&scratch, parameter->setting, value);
        if (!parameter->values[i]) {
            status = qzo_reader_fail_memory(r);
            goto cleanup;
        }
        parameter->value_count = i + 1;
    }
cleanup:
    qzo_trial_spec_release(&scratch);
    return status;
}

/* The names that Weights & Biases has for them. */
static const struct {
    const char *name;
    qzo_draw_kind kind;
    bool whole, with_quantum;
} distributions[] = {
    {"uniform", QZO_DRAW_UNIFORM, false, false},
    {"int_uniform", QZO_DRAW_UNIFORM, true, false},
    {"q_uniform", QZO_DRAW_UNIFORM, false, true},
    {"log_uniform_values", QZO_DRAW_LOG, false, false},
    {"q_log_uniform_values", QZO_DRAW_LOG, false, true},
};
enum { DISTRIBUTION_COUNT = sizeof distributions / sizeof *distributions };

/* "constant" and "categorical" say what value and values say by themselves. */
static qzo_status find_distribution(int *out, const qzo_reader *r, const qzo_yaml_node *node,
                                    bool has_values) {
    if (node == NULL) {
        *out = 0;
        return QZO_OK;
    }
    bool is_text = node->kind == QZO_YAML_SCALAR;
    for (int i = 0; is_text && !has_values && i < DISTRIBUTION_COUNT; i++)
        if (strcmp(node->text, distributions[i].name) == 0) {
            *out = i;
            return QZO_OK;
        }
    if (is_text && has_values &&
        (strcmp(node->text, "constant") == 0 || strcmp(node->text, "categorical") == 0))
        return QZO_OK;
    return qzo_reader_fail_expected(
        r, node, "distribution",
        has_values ? "constant or categorical beside value and values"
                   : "uniform, int_uniform, q_uniform, log_uniform_values or q_log_uniform_values "
                     "beside min and max");
}

/* A bound of a drawn setting, which the setting itself must take. */
static qzo_status read_bound(const qzo_reader *r, double *out, const qzo_setting *setting,
                             const qzo_yaml_node *node) {
    qzo_trial_spec scratch;
    qzo_trial_spec_defaults(&scratch);
    qzo_status status = qzo_reader_value(r, &scratch, setting, node);
    const void *field = (const char *)&scratch + setting->offset;
    if (status == QZO_OK)
        *out = setting->kind == QZO_SETTING_INT    ? (double)*(const int64_t *)field
               : setting->kind == QZO_SETTING_SEED ? (double)*(const uint64_t *)field
                                                   : *(const double *)field;
    if (status == QZO_OK && !isfinite(*out))
        status = qzo_reader_fail_expected(r, node, setting->key, "a finite bound");
    qzo_trial_spec_release(&scratch);
    return status;
}

enum { VALUE, VALUES, DISTRIBUTION, MIN, MAX, QUANTUM, WHEN, BODY_COUNT };

void qzo_parameter_multiples(double *first, double *last, const qzo_parameter *parameter) {
    const double slack = 1e-9; /* 0.6 / 0.1 is a little less than 6 */
    *first = ceil(parameter->min / parameter->quantum - slack);
    *last = floor(parameter->max / parameter->quantum + slack);
}

static qzo_status read_drawn(const qzo_reader *r, qzo_parameter *parameter,
                             const qzo_yaml_node *key, const qzo_yaml_node *const *found) {
    qzo_status status = QZO_OK;
    const qzo_setting *setting = parameter->setting;
    int kind = 0;
    bool is_whole = setting->kind == QZO_SETTING_INT || setting->kind == QZO_SETTING_SEED;
    if (r->sweep->method != QZO_METHOD_RANDOM)
        return qzo_reader_fail(r, key,
                               "%s: expected value or values, found min and max, which "
                               "need method: random",
                               key->text);
    if (!is_whole && setting->kind != QZO_SETTING_NUMBER)
        return qzo_reader_fail(r, key,
                               "%s: expected value or values, found min and max: it is no "
                               "number",
                               key->text);
    QZO_TRY(find_distribution(&kind, r, qzo_yaml_value_of(found[DISTRIBUTION]), false));
    QZO_TRY(read_bound(r, &parameter->min, setting, qzo_yaml_value_of(found[MIN])));
    QZO_TRY(read_bound(r, &parameter->max, setting, qzo_yaml_value_of(found[MAX])));
    const qzo_yaml_node *quantum = qzo_yaml_value_of(found[QUANTUM]);
    if ((quantum != NULL) != distributions[kind].with_quantum)
        return qzo_reader_fail(r, key, "%s: expected q with %s, and only there", key->text,
                               "q_uniform and q_log_uniform_values");
    if (quantum) QZO_TRY(read_bound(r, &parameter->quantum, setting, quantum));
    if (distributions[kind].whole || is_whole)
        parameter->quantum = parameter->quantum > 0 ? parameter->quantum : 1.0;
    parameter->draw = distributions[kind].kind;
    if (parameter->min > parameter->max ||
        (parameter->draw == QZO_DRAW_LOG && !(parameter->min > 0)) ||
        (quantum && !(parameter->quantum > 0)))
        status = qzo_reader_fail(
            r, key, "%s: expected min <= max%s, found min %g, max %g, q %g", key->text,
            parameter->draw == QZO_DRAW_LOG ? ", both above 0, q above 0" : ", q above 0",
            parameter->min, parameter->max, parameter->quantum);
    double first = 0.0, last = 0.0;
    if (status == QZO_OK && quantum) qzo_parameter_multiples(&first, &last, parameter);
    if (first > last)
        status = qzo_reader_fail(r, key, "%s: expected a multiple of q = %g from %g to %g",
                                 key->text, parameter->quantum, parameter->min, parameter->max);
    parameter->swept = true;
cleanup:
    return status;
}

static qzo_status read_expression(const qzo_reader *r, qzo_expression **out,
                                  const qzo_yaml_node *node, const char *key) {
    if (node->kind != QZO_YAML_SCALAR || qzo_yaml_is_nothing(node))
        return qzo_reader_fail_expected(r, node, key,
                                        "a condition such as \"learning_rate > 1e-5\"");
    qzo_status status = qzo_expression_parse(out, node->text, r->sweep->folder);
    return status == QZO_OK ? status
                            : qzo_fail_context(status, "%s:%" PRId64 ":%" PRId64 ": %s", r->name,
                                               node->line, node->column, key);
}

static qzo_status read_parameter(const qzo_reader *r, qzo_parameter *parameter,
                                 const qzo_yaml_node *key) {
    qzo_status status = QZO_OK;
    static const qzo_word_list list = {
        {"value", "values", "distribution", "min", "max", "q", "when"}, BODY_COUNT};
    const qzo_yaml_node *found[BODY_COUNT] = {NULL}, *body = key->next;
    int unused = 0;
    if (body->kind != QZO_YAML_MAPPING)
        return qzo_reader_fail_expected(r, body, key->text,
                                        "a mapping {value: x} or {values: [x, ...]}");
    QZO_TRY(qzo_reader_find_keys(found, r, body, key->text, &list));
    if (found[WHEN])
        QZO_TRY(read_expression(r, &parameter->when, qzo_yaml_value_of(found[WHEN]), "when"));
    const qzo_yaml_node *one = qzo_yaml_value_of(found[VALUE]);
    const qzo_yaml_node *many = qzo_yaml_value_of(found[VALUES]);
    if (!one && !many && found[MIN] && found[MAX]) return read_drawn(r, parameter, key, found);
    if ((one != NULL) == (many != NULL))
        return qzo_reader_fail(r, body,
                               "%s: expected either value or values (or, with method: random, min "
                               "and max), found %s",
                               key->text, one ? "both" : "neither");
    if (found[MIN] || found[MAX] || found[QUANTUM])
        return qzo_reader_fail(r, body, "%s: expected either values or min and max, found both",
                               key->text);
    QZO_TRY(find_distribution(&unused, r, qzo_yaml_value_of(found[DISTRIBUTION]), true));
    if (one) return read_values(r, parameter, one, 1);
    if (many->kind != QZO_YAML_SEQUENCE || !many->first) {
        const char *expected = "a list with at least one value";
        return many->kind == QZO_YAML_SEQUENCE
                   ? qzo_reader_fail(r, many, "%s: expected %s, found an empty one", key->text,
                                     expected)
                   : qzo_reader_fail_expected(r, many, key->text, expected);
    }
    parameter->swept = true;
    QZO_TRY(read_values(r, parameter, many->first, qzo_yaml_child_count(many)));
cleanup:
    return status;
}

static qzo_status read_parameters(qzo_reader *r, qzo_space *space,
                                  const qzo_yaml_node *parameters) {
    qzo_status status = QZO_OK;
    qzo_word_list list = qzo_reader_settings(true, true);
    QZO_TRY(qzo_reader_expect_mapping(r, parameters, "parameters"));
    for (const qzo_yaml_node *key = parameters->first; key; key = key->next->next) {
        QZO_TRY(qzo_reader_expect_key(r, key, "parameters"));
        const qzo_setting *setting = qzo_setting_find(key->text);
        if (!setting && r->is_foreign) setting = qzo_wandb_setting(key->text);
        if (!setting && r->is_foreign) {
            QZO_TRY(qzo_wandb_ignore_parameter(r, key));
            continue;
        }
        if (!setting || setting->section == QZO_SECTION_METRIC)
            return qzo_reader_fail_unknown(r, key, "parameters", &list);
        QZO_TRY(qzo_reader_claim(r, setting, key));
        qzo_parameter *parameter = add_parameter(space, setting);
        if (!parameter) return qzo_reader_fail_memory(r);
        QZO_TRY(read_parameter(r, parameter, key));
    }
cleanup:
    return status;
}

/* --- lists of trials --- */

static qzo_parameter *find_parameter(qzo_space *space, const qzo_setting *setting) {
    for (int64_t i = 0; i < space->parameter_count; i++)
        if (space->parameters[i].setting == setting) return &space->parameters[i];
    return NULL;
}

/* One entry: each of its settings becomes value number `index` of a parameter. */
static qzo_status read_listed(qzo_reader *r, qzo_space *space, const qzo_yaml_node *entry,
                              int64_t index, int64_t count) {
    qzo_status status = QZO_OK;
    qzo_word_list list = qzo_reader_settings(true, true);
    qzo_trial_spec scratch;
    qzo_trial_spec_defaults(&scratch);
    QZO_TRY(qzo_reader_expect_mapping(r, entry, "trials"));
    for (const qzo_yaml_node *key = entry->first; key; key = key->next->next) {
        QZO_TRY(qzo_reader_expect_key(r, key, "trials"));
        const qzo_setting *setting = qzo_setting_find(key->text);
        if (!setting || setting->section == QZO_SECTION_METRIC) {
            status = qzo_reader_fail_unknown(r, key, "trials", &list);
            goto cleanup;
        }
        qzo_parameter *parameter = find_parameter(space, setting);
        if (!parameter) {
            QZO_TRY(qzo_reader_claim(r, setting, key));
            parameter = add_parameter(space, setting);
            if (parameter) parameter->values = calloc((size_t)count, sizeof *parameter->values);
            if (!parameter || !parameter->values) {
                status = qzo_reader_fail_memory(r);
                goto cleanup;
            }
            parameter->value_count = count;
            parameter->swept = true;
            parameter->together = 0;
        }
        if (parameter->values[index]) {
            status = qzo_reader_fail(r, key, "expected %s once in a trial, found it again",
                                     setting->key);
            goto cleanup;
        }
        QZO_TRY(qzo_reader_value(r, &scratch, setting, key->next));
        parameter->values[index] = text_of(&scratch, setting, key->next);
        if (!parameter->values[index]) status = qzo_reader_fail_memory(r);
    }
cleanup:
    qzo_trial_spec_release(&scratch);
    return status;
}

static qzo_status read_trials(qzo_reader *r, qzo_space *space, const qzo_yaml_node *trials) {
    qzo_status status = QZO_OK;
    int64_t index = 0;
    if (trials->kind != QZO_YAML_SEQUENCE || !trials->first)
        return qzo_reader_fail_expected(r, trials, "trials",
                                        "a list of mappings, one for each trial");
    int64_t count = qzo_yaml_child_count(trials);
    for (const qzo_yaml_node *entry = trials->first; entry; entry = entry->next)
        QZO_TRY(read_listed(r, space, entry, index++, count));
    if (space->parameter_count == 0)
        status = qzo_reader_fail(r, trials, "trials: expected settings, found none in any trial");
cleanup:
    return status;
}

/* --- zip and exclude --- */

static qzo_status read_zip_group(const qzo_reader *r, qzo_space *space,
                                 const qzo_yaml_node *group) {
    int64_t first = -1;
    if (group->kind != QZO_YAML_SEQUENCE || qzo_yaml_child_count(group) < 2)
        return qzo_reader_fail_expected(r, group, "zip",
                                        "a list of at least two parameters, or of such lists");
    for (const qzo_yaml_node *name = group->first; name; name = name->next) {
        const qzo_setting *setting =
            name->kind == QZO_YAML_SCALAR ? qzo_setting_find(name->text) : NULL;
        qzo_parameter *parameter = setting ? find_parameter(space, setting) : NULL;
        if (!parameter || !parameter->swept || parameter->draw != QZO_DRAW_VALUES)
            return qzo_reader_fail_expected(r, name, "zip", "a parameter that has values");
        int64_t index = parameter - space->parameters;
        if (parameter->together != index || index == first)
            return qzo_reader_fail(r, name, "zip: expected %s once, found it again", name->text);
        if (first < 0) first = index;
        const qzo_parameter *leader = &space->parameters[first];
        if (parameter->value_count != leader->value_count)
            return qzo_reader_fail(
                r, name, "zip: expected as many values as %s has, %" PRId64 ", found %" PRId64,
                leader->setting->key, leader->value_count, parameter->value_count);
        parameter->together = first;
    }
    return QZO_OK;
}

static qzo_status read_zip(const qzo_reader *r, qzo_space *space, const qzo_yaml_node *zip) {
    qzo_status status = QZO_OK;
    if (zip->kind == QZO_YAML_SEQUENCE && zip->first && zip->first->kind == QZO_YAML_SEQUENCE) {
        for (const qzo_yaml_node *group = zip->first; group; group = group->next)
            QZO_TRY(read_zip_group(r, space, group));
        return QZO_OK;
    }
    QZO_TRY(read_zip_group(r, space, zip));
cleanup:
    return status;
}

static qzo_status read_exclude(const qzo_reader *r, qzo_space *space,
                               const qzo_yaml_node *exclude) {
    qzo_status status = QZO_OK;
    bool is_list = exclude->kind == QZO_YAML_SEQUENCE;
    size_t count = is_list ? (size_t)qzo_yaml_child_count(exclude) : 1;
    space->excludes = calloc(count + 1, sizeof *space->excludes);
    if (!space->excludes) return qzo_reader_fail_memory(r);
    if (!is_list) {
        QZO_TRY(read_expression(r, &space->excludes[space->exclude_count], exclude, "exclude"));
        space->exclude_count++;
        return QZO_OK;
    }
    for (const qzo_yaml_node *one = exclude->first; one; one = one->next) {
        QZO_TRY(read_expression(r, &space->excludes[space->exclude_count], one, "exclude"));
        space->exclude_count++;
    }
cleanup:
    return status;
}

/* `repeats: N` is a seed that every combination has N values of. */
static qzo_status add_repeats(qzo_reader *r, qzo_space *space) {
    const qzo_setting *seed = qzo_setting_find("seed");
    int64_t count = r->sweep->repeats;
    char text[32];
    if (count == 0) return QZO_OK;
    if (find_parameter(space, seed))
        return qzo_reader_fail(r, r->seen[seed - qzo_settings],
                               "expected seed once, found it beside repeats (which sweeps it)");
    qzo_parameter *parameter = add_parameter(space, seed);
    if (!parameter) return qzo_reader_fail_memory(r);
    parameter->swept = parameter->is_repeat = true;
    parameter->values = calloc((size_t)count, sizeof *parameter->values);
    if (!parameter->values) return qzo_reader_fail_memory(r);
    for (int64_t i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%" PRIu64, r->sweep->base.seed + (uint64_t)i);
        parameter->values[i] = strdup(text);
        if (!parameter->values[i]) return qzo_reader_fail_memory(r);
        parameter->value_count = i + 1;
    }
    return QZO_OK;
}

/* --- one grid, or several --- */

static qzo_status read_space(qzo_reader *r, const qzo_yaml_node *const *found) {
    qzo_status status = QZO_OK;
    qzo_space *space = &r->sweep->spaces[r->sweep->space_count++];
    if (found[QZO_SPACE_TRIALS]) QZO_TRY(read_trials(r, space, found[QZO_SPACE_TRIALS]->next));
    if (found[QZO_SPACE_PARAMETERS])
        QZO_TRY(read_parameters(r, space, found[QZO_SPACE_PARAMETERS]->next));
    if (found[QZO_SPACE_ZIP]) QZO_TRY(read_zip(r, space, found[QZO_SPACE_ZIP]->next));
    if (found[QZO_SPACE_EXCLUDE]) QZO_TRY(read_exclude(r, space, found[QZO_SPACE_EXCLUDE]->next));
    QZO_TRY(add_repeats(r, space));
cleanup:
    return status;
}

/* Each grid may set what the others do not: the claims of one are forgotten for the next, unless
 * all made them. */
static qzo_status read_grids(qzo_reader *r, const qzo_yaml_node *grids) {
    qzo_status status = QZO_OK;
    const qzo_yaml_node *before[QZO_WORDS_MAX], *by_all[QZO_WORDS_MAX];
    qzo_word_list list = {.count = QZO_SPACE_GRIDS};
    for (size_t i = 0; i < list.count; i++) list.words[i] = qzo_space_keys[i];
    memcpy(before, r->seen, sizeof before);
    for (const qzo_yaml_node *one = grids->first; one; one = one->next) {
        const qzo_yaml_node *found[QZO_SPACE_KEY_COUNT] = {NULL};
        QZO_TRY(qzo_reader_find_keys(found, r, one, "a grid", &list));
        memcpy(r->seen, before, sizeof before);
        QZO_TRY(read_space(r, found));
        for (int i = 0; i < QZO_WORDS_MAX; i++)
            by_all[i] = one == grids->first || by_all[i] ? r->seen[i] : NULL;
    }
    memcpy(r->seen, by_all, sizeof by_all);
cleanup:
    return status;
}

qzo_status qzo_reader_spaces(qzo_reader *r, const qzo_yaml_node *const *found) {
    qzo_status status = QZO_OK;
    const qzo_yaml_node *grids = qzo_yaml_value_of(found[QZO_SPACE_GRIDS]);
    bool has_trials = found[QZO_SPACE_TRIALS] != NULL;
    if (grids && (grids->kind != QZO_YAML_SEQUENCE || !grids->first))
        return qzo_reader_fail_expected(r, grids, "grids", "a list of mappings");
    for (int i = 0; grids && i < QZO_SPACE_GRIDS; i++)
        if (found[i])
            return qzo_reader_fail(r, found[i], "expected %s inside grids, found it beside grids",
                                   qzo_space_keys[i]);
    r->sweep->spaces =
        calloc(grids ? (size_t)qzo_yaml_child_count(grids) : 1, sizeof *r->sweep->spaces);
    if (!r->sweep->spaces) return qzo_reader_fail_memory(r);
    if (grids)
        QZO_TRY(read_grids(r, grids));
    else
        QZO_TRY(read_space(r, found));
    if (r->sweep->method == QZO_METHOD_LIST && !has_trials && !grids)
        status =
            qzo_fail(QZO_ERR_CONFIG, "%s: expected trials with method: list, found none", r->name);
cleanup:
    return status;
}
