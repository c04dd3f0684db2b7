#include "trial/memory_plan.h"

#include <stdio.h>
#include <string.h>

static qzo_status count(qzo_memory_plan *out, qzo_workbench *bench, const qzo_trial_spec *spec) {
    qzo_status status = QZO_OK;
    const qzo_backend *backend = bench->backend;
    qzo_memory_use loaded, all;
    QZO_TRY(qzo_workbench_load_for(bench, spec));
    QZO_TRY(backend->ops->memory_use(backend, &loaded));
    QZO_TRY(qzo_workbench_prepare(bench, spec));
    QZO_TRY(qzo_workbench_check_trainable(bench));
    QZO_TRY(backend->ops->memory_use(backend, &all));
    int64_t adapter_values = qzo_workbench_value_count(bench) - bench->model->value_count;
    int64_t values_bytes = (bench->model->master_count + adapter_values) * (int64_t)sizeof(float);
    int64_t beside_bytes = bench->beside != NULL ? values_bytes : 0;
    out->mapped_bytes = qzo_model_dir_data_bytes(bench->model->dir);
    out->value_count = qzo_workbench_value_count(bench);
    out->adapter_values = adapter_values;
    out->adapter_count = bench->adapters != NULL ? bench->adapters->adapter_count : 0;
    out->row_max = bench->workspace->row_max;
    out->pair_rows = bench->workspace->pair_rows;
    out->ends_bytes = bench->model->ends_bytes;
    out->weight_bytes = all.held_bytes[QZO_MEMORY_WEIGHTS] - out->ends_bytes;
    out->masters_bytes = 2 * values_bytes + beside_bytes;
    out->loaded_bytes = loaded.held_bytes[QZO_MEMORY_BUFFERS] - out->masters_bytes;
    out->host_bytes = values_bytes + bench->model->loaded_bytes - out->loaded_bytes +
                      bench->model->value_count * qzo_core_find(spec->compat)->value_bytes;
    out->activation_bytes =
        all.held_bytes[QZO_MEMORY_BUFFERS] - loaded.held_bytes[QZO_MEMORY_BUFFERS];
    out->scratch_bytes = all.held_bytes[QZO_MEMORY_SCRATCH];
    out->own_bytes = all.own_bytes;
cleanup:
    return status;
}

qzo_status qzo_memory_plan_measure(qzo_memory_plan *out, const qzo_trial_spec *spec,
                                   const char *backend_name, int thread_count, qzo_pairs pairs) {
    qzo_status status = QZO_OK;
    const qzo_backend_options options = {.pairs = pairs, .thread_count = thread_count, .dry = true};
    qzo_backend *backend = NULL;
    qzo_workbench bench = {0};
    *out = (qzo_memory_plan){0};
    QZO_TRY(qzo_backend_open(&backend, backend_name, &options));
    snprintf(out->backend_name, sizeof out->backend_name, "%s",
             strcmp(backend_name, "auto") == 0 ? backend->ops->name : backend_name);
    qzo_workbench_init(&bench, backend);
    QZO_TRY(count(out, &bench, spec));
    out->library_memory = backend->ops->library_memory;
    for (const qzo_memory_item *item = out->library_memory; item != NULL && item->name != NULL;
         item++)
        out->library_bytes += item->size_bytes;
    out->rank_bytes =
        out->own_bytes +
        (out->library_memory != NULL ? out->library_bytes : out->mapped_bytes + out->host_bytes);
cleanup:
    qzo_workbench_release(&bench);
    qzo_backend_close(backend);
    return status;
}
