#include "sweep/forks.h"

#include "base/check.h"
#include "base/fault.h"
#include "sweep/draws.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 128, NUMBER_BYTES = 32 };

/* One setting times its drawn factor. What it may not be, it does not become, neither alone nor
 * beside the trial's others: no fork ends a sweep. */
static void perturb(qzo_trial_spec *spec, const qzo_setting *setting, const qzo_perturbing *p,
                    int64_t trial) {
    char name[NAME_BYTES], text[NUMBER_BYTES];
    snprintf(name, sizeof name, "pbt.factor.%s", setting->key);
    double factor = p->factors[qzo_draw_index(p->seed, name, trial, p->factor_count)];
    double value = *(const double *)(const void *)((const char *)spec + setting->offset);
    snprintf(text, sizeof text, "%.6g", value * factor);
    qzo_trial_spec tried = *spec;
    if (qzo_setting_read(&tried, setting, text) == QZO_OK &&
        qzo_trial_spec_complete(&tried) == QZO_OK)
        *spec = tried;
}

qzo_status qzo_fork_spec(qzo_trial_spec *out, const qzo_trial_spec *parent,
                         const qzo_perturbing *perturbing, int64_t trial, int64_t step) {
    char seed[NUMBER_BYTES];
    qzo_trial_spec spec = *parent;
    spec.model_path = spec.task_path = NULL;
    spec.fork_parent = qzo_trial_spec_identity(parent);
    spec.fork_step = step;
    for (int64_t i = 0; i < perturbing->setting_count; i++)
        perturb(&spec, perturbing->settings[i], perturbing, trial);
    snprintf(seed, sizeof seed, "%" PRIu64,
             qzo_draw_bits(perturbing->seed, "pbt.noise_seed", trial));
    qzo_status status = qzo_setting_read(&spec, qzo_setting_find("noise_seed"), seed);
    if (status == QZO_OK) status = qzo_trial_spec_complete(&spec);
    if (status == QZO_OK) *out = spec;
    return status;
}

const qzo_grid_trial *qzo_forks_trial(const qzo_forks *forks, int64_t trial) {
    int64_t asked = forks->grid->trial_count;
    QZO_ASSERT(trial >= 0);
    QZO_ASSERT(trial < asked + forks->count);
    return trial < asked ? &forks->grid->trials[trial] : forks->trials[trial - asked];
}

int64_t qzo_forks_trial_count(const qzo_forks *forks) {
    return forks->grid->trial_count + forks->count;
}

static void free_fork(qzo_grid_trial *fork, int64_t swept_count) {
    if (!fork) return;
    for (int64_t i = 0; fork->values && i < swept_count; i++) free(fork->values[i]);
    free(fork->values);
    qzo_trial_spec_release(&fork->spec);
    free(fork);
}

/* What tables print: of a path what the parent has. */
static bool fill_values(qzo_grid_trial *fork, const qzo_grid_trial *parent, const qzo_grid *grid) {
    fork->values = calloc((size_t)grid->swept_count + 1, sizeof *fork->values);
    bool is_whole = fork->values != NULL;
    for (int64_t i = 0; is_whole && i < grid->swept_count; i++) {
        const qzo_setting *setting = qzo_setting_find(grid->swept_keys[i]);
        fork->values[i] = setting->kind == QZO_SETTING_PATH
                              ? strdup(parent->values[i])
                              : qzo_setting_text(&fork->spec, setting);
        is_whole = fork->values[i] != NULL;
    }
    return is_whole;
}

qzo_status qzo_forks_add(qzo_forks *forks, int64_t parent, int64_t step) {
    qzo_status status = QZO_OK;
    const qzo_grid_trial *origin = qzo_forks_trial(forks, parent);
    int64_t swept = forks->grid->swept_count, trial = qzo_forks_trial_count(forks);
    qzo_grid_trial *fork = calloc(1, sizeof *fork);
    qzo_grid_trial **grown =
        realloc(forks->trials, ((size_t)forks->count + 1) * sizeof *forks->trials);
    if (grown) forks->trials = grown;
    if (!grown || !fork) {
        status = qzo_fail(QZO_ERR_MEMORY, "no memory for a fork");
        goto cleanup;
    }
    if (qzo_fault_on_occasion(QZO_FAULT_FORK_ERROR)) {
        status = qzo_fail(QZO_ERR_MEMORY, "no memory for a fork (a fault on purpose)");
        goto cleanup;
    }
    QZO_TRY(qzo_fork_spec(&fork->spec, &origin->spec, forks->perturbing, trial, step));
    fork->spec.model_path = strdup(origin->spec.model_path);
    fork->spec.task_path = strdup(origin->spec.task_path);
    fork->id = qzo_trial_spec_identity(&fork->spec);
    if (!fork->spec.model_path || !fork->spec.task_path ||
        !fill_values(fork, origin, forks->grid)) {
        status = qzo_fail(QZO_ERR_MEMORY, "no memory for a fork");
        goto cleanup;
    }
    forks->trials[forks->count++] = fork;
    fork = NULL;
cleanup:
    free_fork(fork, swept);
    return status;
}

void qzo_forks_release(qzo_forks *forks) {
    for (int64_t i = 0; i < forks->count; i++)
        free_fork(forks->trials[i], forks->grid->swept_count);
    free(forks->trials);
    *forks = (qzo_forks){0};
}
