#include "sweep/grid.h"

#include "base/file_io.h"

#include <inttypes.h>
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

static qzo_status count_combinations(expansion *e) {
    double count = 1; /* in double: the message must name a number that no integer may hold */
    for (int64_t p = 0; p < e->sweep->parameter_count; p++)
        count *= (double)e->sweep->parameters[p].value_count;
    if (count > QZO_GRID_TRIALS_MAX)
        return qzo_fail(QZO_ERR_LIMIT, "%s: %.0f combinations of parameters, at most %d",
                        e->sweep->file_path, count, QZO_GRID_TRIALS_MAX);
    e->combination_count = (int64_t)count;
    return QZO_OK;
}

static qzo_status allocate(expansion *e) {
    size_t count = (size_t)e->combination_count;
    e->slot_count = 2;
    while (e->slot_count < 2 * count) e->slot_count *= 2;
    e->slots = calloc(e->slot_count, sizeof *e->slots);
    e->grid = calloc(1, sizeof *e->grid);
    if (!e->slots || !e->grid) return fail_memory(e);
    e->grid->trials = calloc(count, sizeof *e->grid->trials);
    e->grid->swept_keys =
        calloc((size_t)e->sweep->parameter_count + 1, sizeof *e->grid->swept_keys);
    if (!e->grid->trials || !e->grid->swept_keys) return fail_memory(e);
    for (int64_t p = 0; p < e->sweep->parameter_count; p++)
        if (e->sweep->parameters[p].swept)
            e->grid->swept_keys[e->grid->swept_count++] = e->sweep->parameters[p].setting->key;
    return QZO_OK;
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

/* Sets one parameter; *shown is what tables print: a path as the file has it, since a resolved one
 * would depend on the machine. */
static qzo_status set_parameter(const expansion *e, qzo_trial_spec *spec,
                                const qzo_parameter *parameter, const char *text, char **shown) {
    if (parameter->setting->kind != QZO_SETTING_PATH) {
        qzo_status status = qzo_setting_read(spec, parameter->setting, text);
        if (status == QZO_OK) *shown = qzo_setting_text(spec, parameter->setting);
        return status != QZO_OK ? status : *shown ? QZO_OK : fail_memory(e);
    }
    char *joined = qzo_path_join(e->sweep->folder, text);
    if (!joined) return fail_memory(e);
    qzo_status status = qzo_setting_read(spec, parameter->setting, joined);
    free(joined);
    if (status == QZO_OK) *shown = strdup(text);
    return status != QZO_OK ? status : *shown ? QZO_OK : fail_memory(e);
}

static void release_trial(qzo_grid_trial *trial, int64_t swept_count) {
    for (int64_t i = 0; trial->values && i < swept_count; i++) free(trial->values[i]);
    free(trial->values);
    qzo_trial_spec_release(&trial->spec);
    *trial = (qzo_grid_trial){0};
}

/* Combination number index, read as a number whose digits are the parameters' values. */
static qzo_status build_trial(expansion *e, qzo_grid_trial *trial, int64_t index) {
    qzo_status status = QZO_OK;
    const qzo_sweep_spec *sweep = e->sweep;
    int64_t rest = index, column = e->grid->swept_count;
    QZO_TRY(qzo_trial_spec_copy(&trial->spec, &sweep->base));
    trial->values = calloc((size_t)e->grid->swept_count + 1, sizeof *trial->values);
    if (!trial->values) return fail_memory(e);
    for (int64_t p = sweep->parameter_count - 1; p >= 0; p--) {
        const qzo_parameter *parameter = &sweep->parameters[p];
        const char *text = parameter->values[rest % parameter->value_count];
        char *shown = NULL;
        rest /= parameter->value_count;
        QZO_TRY(set_parameter(e, &trial->spec, parameter, text, &shown));
        if (parameter->swept)
            trial->values[--column] = shown;
        else
            free(shown);
    }
    QZO_TRY(qzo_trial_spec_complete(&trial->spec));
    QZO_TRY(digest_of(&trial->spec.model_digest, e, trial->spec.model_path, true));
    QZO_TRY(digest_of(&trial->spec.task_digest, e, trial->spec.task_path, false));
    trial->id = qzo_trial_spec_identity(&trial->spec);
cleanup:
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

qzo_status qzo_grid_expand(qzo_grid **out, const qzo_sweep_spec *sweep,
                           qzo_content_digest content_digest, void *context) {
    qzo_status status = QZO_OK;
    expansion e = {.sweep = sweep, .content_digest = content_digest, .context = context};
    *out = NULL;
    QZO_TRY(count_combinations(&e));
    QZO_TRY(allocate(&e));
    for (int64_t index = 0; index < e.combination_count; index++) {
        qzo_grid_trial *trial = &e.grid->trials[e.grid->trial_count];
        status = build_trial(&e, trial, index);
        int64_t *slot = status == QZO_OK ? find_slot(&e, &trial->id) : NULL;
        if (slot && *slot == 0) {
            *slot = ++e.grid->trial_count;
            continue;
        }
        release_trial(trial, e.grid->swept_count);
        if (status != QZO_OK) goto cleanup;
        e.grid->duplicate_count++;
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
