/* The trainable values of the trial that a workbench is prepared for: as before its first step, and
 * its best ones. */
#include "trial/workbench_values.h"

#include "base/check.h"

#include <stdlib.h>

static int64_t adapter_values(const qzo_workbench *bench) {
    return qzo_workbench_value_count(bench) - bench->model->value_count;
}

size_t qzo_workbench_masters_bytes(const qzo_workbench *bench) {
    return (size_t)(bench->model->master_count + adapter_values(bench)) * sizeof(float);
}

static const qzo_update_rule *rule_of(const qzo_trial_spec *spec) {
    return qzo_update_rule_find(spec->update_rule);
}

bool qzo_workbench_needs_beside(const qzo_trial_spec *spec) {
    return rule_of(spec)->has_velocity || rule_of(spec)->share != NULL;
}

qzo_status qzo_workbench_hold_beside(qzo_workbench *bench, const qzo_trial_spec *spec) {
    qzo_backend *backend = bench->backend;
    void *memory = bench->beside;
    qzo_status status = QZO_OK;
    bool is_needed = qzo_workbench_needs_beside(spec);
    if (is_needed == (memory != NULL)) return QZO_OK;
    if (is_needed)
        status = backend->ops->allocate(backend, &memory, qzo_workbench_masters_bytes(bench));
    else
        backend->ops->release(backend, memory);
    bench->beside = is_needed && status == QZO_OK ? memory : NULL;
    return status;
}

/* The adapters' first values; in best_host, which nobody reads before something better is there. */
static qzo_status reset_adapters(qzo_workbench *bench, uint64_t seed) {
    int64_t first = bench->model->master_count, count = adapter_values(bench);
    bench->adapter_seed = seed;
    if (count == 0 || bench->backend->dry) return QZO_OK;
    qzo_adapters_initial_values(bench->adapters, bench->best_host + first, seed);
    return bench->backend->ops->upload(bench->backend, bench->masters + first,
                                       bench->best_host + first, (size_t)count * sizeof(float));
}

static qzo_status reset_velocity(qzo_workbench *bench, const qzo_trial_spec *spec) {
    size_t size_bytes = qzo_workbench_masters_bytes(bench);
    bool is_needed = rule_of(spec)->has_velocity;
    bench->trainable.velocity = is_needed ? bench->beside : NULL;
    bench->trainable.decay = (float)spec->momentum;
    if (!is_needed) return QZO_OK;
    QZO_ASSERT(bench->beside != NULL);
    float *zeros = calloc(1, size_bytes + 1);
    if (zeros == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu bytes", size_bytes);
    qzo_status status =
        bench->backend->ops->upload(bench->backend, bench->beside, zeros, size_bytes);
    free(zeros);
    return status;
}

qzo_status qzo_workbench_reset(qzo_workbench *bench, const qzo_trial_spec *spec) {
    qzo_status status = QZO_OK;
    bool is_default = (float)spec->floor == QZO_SCALE_FLOOR; /* then formats have their own */
    for (int64_t i = 0; i < bench->model->span_count; i++)
        bench->spans[i].floor = is_default ? bench->model->spans[i].floor : (float)spec->floor;
    qzo_trial_spec_rates(bench->model->groups, spec);
    bool is_relative = qzo_perturbation_kind_find(spec->perturbation)->is_relative;
    bench->trainable.unit = is_relative ? bench->initial : NULL;
    bench->trainable.aside = rule_of(spec)->share != NULL ? bench->beside : NULL;
    QZO_TRY(reset_velocity(bench, spec));
    bench->trainable.core = qzo_core_find(spec->compat);
    if (bench->room == NULL)
        QZO_TRY(qzo_core_room_open(&bench->room, bench->trainable.core, bench->model->value_count));
    bench->trainable.room = bench->room;
    QZO_TRY(bench->backend->ops->copy(bench->backend, bench->masters, bench->initial,
                                      (size_t)bench->model->value_count * sizeof(float)));
    QZO_TRY(reset_adapters(bench, spec->noise_seed));
    QZO_TRY(qzo_core_start(&bench->trainable));
cleanup:
    return status;
}

qzo_status qzo_workbench_download(const qzo_workbench *bench, float *values_host) {
    const qzo_model *model = bench->model;
    const qzo_backend_ops *ops = bench->backend->ops;
    qzo_status status = ops->download(bench->backend, values_host, bench->masters,
                                      (size_t)model->value_count * sizeof(float));
    if (status != QZO_OK || bench->adapters == NULL) return status;
    return ops->download(bench->backend, values_host + model->value_count,
                         bench->masters + model->master_count,
                         (size_t)adapter_values(bench) * sizeof(float));
}

qzo_status qzo_workbench_keep_best(qzo_workbench *bench) {
    return qzo_workbench_download(bench, bench->best_host);
}

qzo_status qzo_workbench_upload(qzo_workbench *bench, const float *values_host) {
    const qzo_model *model = bench->model;
    const qzo_backend_ops *ops = bench->backend->ops;
    qzo_status status = ops->upload(bench->backend, bench->masters, values_host,
                                    (size_t)model->value_count * sizeof(float));
    if (status != QZO_OK || bench->adapters == NULL) return status;
    return ops->upload(bench->backend, bench->masters + model->master_count,
                       values_host + model->value_count,
                       (size_t)adapter_values(bench) * sizeof(float));
}

qzo_status qzo_workbench_restore_best(qzo_workbench *bench) {
    return qzo_workbench_upload(bench, bench->best_host);
}
