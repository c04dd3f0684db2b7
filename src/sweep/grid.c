#include "sweep/grid.h"

#include "base/file_io.h"
#include "base/math64.h"
#include "sweep/draws.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The contents behind one path, looked up once however many trials name it. */
typedef struct content {
    char *path;
    bool is_model;
    qzo_digest digest;
} content;

typedef struct expansion {
    const qzo_sweep_spec *sweep;
    qzo_content_digest content_digest;
    void *context;
    qzo_grid *grid;
    int64_t combination_count;
    content *contents;
    size_t content_count;
    int64_t *slots;    /* hash table of trial numbers + 1; 0: empty */
    size_t slot_count; /* a power of two, at least twice the combinations */
} expansion;

static qzo_status fail_memory(const expansion *e) {
    return qzo_fail(QZO_ERR_MEMORY, "%s: no memory for %" PRId64 " trials", e->sweep->file_path,
                    e->combination_count);
}

/* How many combinations a space has; in double, since a message must name a number that no integer
 * may hold. */
static double combinations_of(const qzo_sweep_spec *sweep, const qzo_space *space) {
    double count = 1;
    bool is_random = sweep->method == QZO_METHOD_RANDOM;
    for (int64_t p = 0; p < space->parameter_count; p++) {
        const qzo_parameter *parameter = &space->parameters[p];
        if (parameter->together == p && (parameter->is_repeat || !is_random))
            count *= (double)parameter->value_count;
    }
    return is_random ? count * (double)sweep->run_cap : count;
}

static qzo_status count_combinations(expansion *e) {
    double count = 0;
    for (int64_t s = 0; s < e->sweep->space_count; s++)
        count += combinations_of(e->sweep, &e->sweep->spaces[s]);
    if (count > QZO_GRID_TRIALS_MAX)
        return qzo_fail(QZO_ERR_LIMIT, "%s: %.0f combinations of parameters, at most %d",
                        e->sweep->file_path, count, QZO_GRID_TRIALS_MAX);
    e->combination_count = (int64_t)count;
    return QZO_OK;
}

static bool is_column(const qzo_grid *grid, const char *key) {
    for (int64_t i = 0; i < grid->swept_count; i++)
        if (strcmp(grid->swept_keys[i], key) == 0) return true;
    return false;
}

static const qzo_parameter *parameter_of(const qzo_space *space, const qzo_setting *setting) {
    for (int64_t p = 0; p < space->parameter_count; p++)
        if (space->parameters[p].setting == setting) return &space->parameters[p];
    return NULL;
}

/* Whether trials may differ in it: a grid sweeps it, or the grids do not all fix it alike. */
static bool is_varied(const qzo_sweep_spec *sweep, const qzo_parameter *parameter) {
    if (parameter->swept) return true;
    for (int64_t s = 0; s < sweep->space_count; s++) {
        const qzo_parameter *other = parameter_of(&sweep->spaces[s], parameter->setting);
        if (other == NULL || other->swept || strcmp(other->values[0], parameter->values[0]) != 0)
            return true;
    }
    return false;
}

/* Every setting that trials differ in is a column of all grids. */
static qzo_status add_columns(expansion *e) {
    size_t settings = 0;
    while (qzo_settings[settings].key) settings++;
    e->grid->swept_keys = calloc(settings + 1, sizeof *e->grid->swept_keys);
    if (!e->grid->swept_keys) return fail_memory(e);
    for (int64_t s = 0; s < e->sweep->space_count; s++)
        for (int64_t p = 0; p < e->sweep->spaces[s].parameter_count; p++) {
            const qzo_parameter *parameter = &e->sweep->spaces[s].parameters[p];
            if (is_varied(e->sweep, parameter) && !is_column(e->grid, parameter->setting->key))
                e->grid->swept_keys[e->grid->swept_count++] = parameter->setting->key;
        }
    return QZO_OK;
}

static qzo_status allocate(expansion *e) {
    size_t count = (size_t)e->combination_count;
    e->slot_count = 2;
    while (e->slot_count < 2 * count) e->slot_count *= 2;
    e->slots = calloc(e->slot_count, sizeof *e->slots);
    e->grid = calloc(1, sizeof *e->grid);
    if (!e->slots || !e->grid) return fail_memory(e);
    e->grid->trials = calloc(count + 1, sizeof *e->grid->trials);
    return e->grid->trials ? add_columns(e) : fail_memory(e);
}

static qzo_status digest_of(qzo_digest *out, expansion *e, const char *path, bool is_model) {
    for (size_t i = 0; i < e->content_count; i++)
        if (e->contents[i].is_model == is_model && strcmp(e->contents[i].path, path) == 0) {
            *out = e->contents[i].digest;
            return QZO_OK;
        }
    content *grown = realloc(e->contents, (e->content_count + 1) * sizeof *grown);
    if (!grown) return fail_memory(e);
    e->contents = grown;
    content fresh = {.path = strdup(path), .is_model = is_model};
    if (!fresh.path) return fail_memory(e);
    qzo_status status = e->content_digest(&fresh.digest, path, is_model, e->context);
    if (status != QZO_OK) {
        free(fresh.path);
        return status;
    }
    e->contents[e->content_count++] = fresh;
    *out = fresh.digest;
    return QZO_OK;
}

static void release_trial(qzo_grid_trial *trial, int64_t swept_count) {
    for (int64_t i = 0; trial->values && i < swept_count; i++) free(trial->values[i]);
    free(trial->values);
    qzo_trial_spec_release(&trial->spec);
    *trial = (qzo_grid_trial){0};
}

/* --- one combination --- */

enum { DRAWN_BYTES = 32, SIX_DIGITS = 6 };

/* In [0, 1), for draw number n of a parameter. */
static double uniform(const qzo_sweep_spec *sweep, const qzo_parameter *parameter, int64_t n) {
    return qzo_draw_uniform(sweep->search_seed, parameter->setting->key, n);
}

static void draw_number(char out[DRAWN_BYTES], const qzo_sweep_spec *sweep,
                        const qzo_parameter *parameter, int64_t n) {
    double u = uniform(sweep, parameter, n), min = parameter->min, max = parameter->max;
    double value = parameter->draw == QZO_DRAW_LOG
                       ? qzo_exp(qzo_log(min) + u * (qzo_log(max) - qzo_log(min)))
                       : min + u * (max - min);
    if (parameter->quantum > 0) {
        double first, last;
        qzo_parameter_multiples(&first, &last, parameter);
        value = parameter->draw == QZO_DRAW_UNIFORM ? first + floor(u * (last - first + 1))
                                                    : floor(value / parameter->quantum + 0.5);
        value = (value < first ? first : value > last ? last : value) * parameter->quantum;
    }
    value = value < min ? min : value > max ? max : value;
    bool is_whole = parameter->setting->kind != QZO_SETTING_NUMBER;
    snprintf(out, DRAWN_BYTES, "%.*f", 0, value);
    if (!is_whole) snprintf(out, DRAWN_BYTES, "%.*g", SIX_DIGITS, value);
}

/* Which value each parameter of the space has in a combination: a number whose digits are the
 * parameters' values, or draws. */
static void choose(int64_t *chosen, const qzo_sweep_spec *sweep, const qzo_space *space,
                   int64_t index) {
    bool is_random = sweep->method == QZO_METHOD_RANDOM;
    int64_t rest = index;
    for (int64_t p = space->parameter_count - 1; p >= 0; p--) {
        const qzo_parameter *parameter = &space->parameters[p];
        if (parameter->together != p || (is_random && !parameter->is_repeat)) continue;
        chosen[p] = rest % parameter->value_count;
        rest /= parameter->value_count;
    }
    for (int64_t p = 0; p < space->parameter_count; p++) {
        const qzo_parameter *parameter = &space->parameters[p];
        if (parameter->together != p)
            chosen[p] = chosen[parameter->together];
        else if (is_random && parameter->draw != QZO_DRAW_VALUES)
            chosen[p] = rest; /* the number of the draw */
        else if (is_random && !parameter->is_repeat)
            chosen[p] = (int64_t)(uniform(sweep, parameter, rest) * (double)parameter->value_count);
    }
}

static int64_t column_of(const qzo_grid *grid, const qzo_parameter *parameter) {
    int64_t column = 0;
    while (strcmp(grid->swept_keys[column], parameter->setting->key) != 0) column++;
    return column;
}

/* Sets one parameter, and what tables print: a path as the file has it, since a resolved one would
 * depend on the machine. */
static qzo_status set_parameter(expansion *e, qzo_grid_trial *trial, const qzo_parameter *parameter,
                                int64_t chosen) {
    char drawn[DRAWN_BYTES];
    const char *text = drawn;
    if (parameter->draw == QZO_DRAW_VALUES)
        text = parameter->values[chosen];
    else
        draw_number(drawn, e->sweep, parameter, chosen);
    if (text == NULL) return QZO_OK; /* a listed trial that does not name it */
    bool is_path = parameter->setting->kind == QZO_SETTING_PATH;
    char *joined = is_path ? qzo_path_join(e->sweep->folder, text) : NULL;
    if (is_path && !joined) return fail_memory(e);
    qzo_status status = qzo_setting_read(&trial->spec, parameter->setting, is_path ? joined : text);
    free(joined);
    /* Another grid of the file may sweep the path. */
    bool is_shown = parameter->swept || (is_path && is_column(e->grid, parameter->setting->key));
    if (status != QZO_OK || !is_shown) return status;
    char **shown = &trial->values[column_of(e->grid, parameter)];
    free(*shown);
    *shown = is_path ? strdup(text) : qzo_setting_text(&trial->spec, parameter->setting);
    return *shown ? QZO_OK : fail_memory(e);
}

/* Whether its value number is its own: no zip shares it. */
static bool varies_alone(const qzo_space *space, int64_t index) {
    int64_t sharing = 0;
    for (int64_t p = 0; p < space->parameter_count; p++)
        sharing += space->parameters[p].together == space->parameters[index].together;
    return sharing == 1;
}

/* Conditional parameters come last, each seeing what those before it set. *skip: another
 * combination gives the same trial, since a condition does not hold. */
static qzo_status set_parameters(expansion *e, qzo_grid_trial *trial, const qzo_space *space,
                                 const int64_t *chosen, bool *skip) {
    qzo_status status = QZO_OK;
    *skip = false;
    for (int64_t p = 0; p < space->parameter_count; p++)
        if (!space->parameters[p].when)
            QZO_TRY(set_parameter(e, trial, &space->parameters[p], chosen[p]));
    for (int64_t p = 0; p < space->parameter_count; p++) {
        const qzo_parameter *parameter = &space->parameters[p];
        if (!parameter->when) continue;
        if (qzo_expression_holds(parameter->when, &trial->spec))
            QZO_TRY(set_parameter(e, trial, parameter, chosen[p]));
        else if (e->sweep->method != QZO_METHOD_RANDOM && chosen[p] > 0 && varies_alone(space, p))
            *skip = true;
    }
cleanup:
    return status;
}

static bool is_excluded(const qzo_space *space, const qzo_trial_spec *spec) {
    for (int64_t i = 0; i < space->exclude_count; i++)
        if (qzo_expression_holds(space->excludes[i], spec)) return true;
    return false;
}

/* The texts of the columns that set_parameter has not filled. */
static qzo_status fill_columns(expansion *e, qzo_grid_trial *trial) {
    for (int64_t i = 0; i < e->grid->swept_count; i++) {
        if (trial->values[i]) continue;
        trial->values[i] = qzo_setting_text(&trial->spec, qzo_setting_find(e->grid->swept_keys[i]));
        if (!trial->values[i]) return fail_memory(e);
    }
    return QZO_OK;
}

/* *dropped: the combination is excluded, or its conditions make it another's double. */
static qzo_status build_trial(expansion *e, qzo_grid_trial *trial, const qzo_space *space,
                              int64_t index, bool *dropped) {
    qzo_status status = QZO_OK;
    const qzo_sweep_spec *sweep = e->sweep;
    int64_t *chosen = calloc((size_t)space->parameter_count + 1, sizeof *chosen);
    QZO_TRY(qzo_trial_spec_copy(&trial->spec, &sweep->base));
    trial->values = calloc((size_t)e->grid->swept_count + 1, sizeof *trial->values);
    if (!trial->values || !chosen) {
        status = fail_memory(e);
        goto cleanup;
    }
    choose(chosen, sweep, space, index);
    QZO_TRY(set_parameters(e, trial, space, chosen, dropped));
    if (*dropped) goto cleanup;
    /* What follows from other settings can stand in a condition; but a combination that is left out
     * need not be possible. */
    qzo_status complete = qzo_trial_spec_complete(&trial->spec);
    if (is_excluded(space, &trial->spec)) {
        *dropped = true;
        e->grid->excluded_count++;
        goto cleanup;
    }
    QZO_TRY(complete);
    QZO_TRY(fill_columns(e, trial));
    QZO_TRY(digest_of(&trial->spec.model_digest, e, trial->spec.model_path, true));
    QZO_TRY(digest_of(&trial->spec.task_digest, e, trial->spec.task_path, false));
    trial->id = qzo_trial_spec_identity(&trial->spec);
cleanup:
    free(chosen);
    return status == QZO_OK ? status
                            : qzo_fail_context(status, "%s: combination %" PRId64 " of %" PRId64,
                                               sweep->file_path, index + 1, e->combination_count);
}

/* The slot of an identity: the one that holds it, or the empty one where it belongs. */
static int64_t *find_slot(const expansion *e, const qzo_digest *id) {
    size_t slot = (size_t)qzo_get_u64(id->bytes) & (e->slot_count - 1);
    while (e->slots[slot] != 0 && !qzo_digest_equal(&e->grid->trials[e->slots[slot] - 1].id, id))
        slot = (slot + 1) & (e->slot_count - 1);
    return &e->slots[slot];
}

static qzo_status expand_space(expansion *e, const qzo_space *space) {
    int64_t count = (int64_t)combinations_of(e->sweep, space), swept = e->grid->swept_count;
    bool has_cap = e->sweep->method != QZO_METHOD_RANDOM && e->sweep->run_cap > 0;
    for (int64_t index = 0; index < count; index++) {
        if (has_cap && e->grid->trial_count == e->sweep->run_cap) break;
        qzo_grid_trial *trial = &e->grid->trials[e->grid->trial_count];
        bool dropped = false;
        qzo_status status = build_trial(e, trial, space, index, &dropped);
        if (status != QZO_OK || dropped) {
            release_trial(trial, swept);
            if (status != QZO_OK) return status;
            continue;
        }
        int64_t *slot = find_slot(e, &trial->id);
        if (*slot == 0) {
            *slot = ++e->grid->trial_count;
        } else {
            release_trial(trial, swept);
            e->grid->duplicate_count++;
        }
    }
    return QZO_OK;
}

qzo_status qzo_grid_expand(qzo_grid **out, const qzo_sweep_spec *sweep,
                           qzo_content_digest content_digest, void *context) {
    qzo_status status = QZO_OK;
    expansion e = {.sweep = sweep, .content_digest = content_digest, .context = context};
    *out = NULL;
    QZO_TRY(count_combinations(&e));
    QZO_TRY(allocate(&e));
    for (int64_t s = 0; s < sweep->space_count; s++) QZO_TRY(expand_space(&e, &sweep->spaces[s]));
    if (e.grid->trial_count == 0) {
        status =
            qzo_fail(QZO_ERR_CONFIG,
                     "%s: expected trials, found that all %" PRId64 " combinations are excluded",
                     sweep->file_path, e.combination_count);
        goto cleanup;
    }
    *out = e.grid;
    e.grid = NULL;
cleanup:
    for (size_t i = 0; i < e.content_count; i++) free(e.contents[i].path);
    free(e.contents);
    free(e.slots);
    qzo_grid_free(e.grid);
    return status;
}

void qzo_grid_free(qzo_grid *grid) {
    if (!grid) return;
    for (int64_t i = 0; i < grid->trial_count; i++)
        release_trial(&grid->trials[i], grid->swept_count);
    free(grid->trials);
    free(grid->swept_keys);
    free(grid);
}
