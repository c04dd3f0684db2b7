#include "backend/backend.h"
#include "backend/cuda_module.h"
#include "base/log.h"

#include <string.h>

/* The best first. */
const qzo_backend_entry qzo_backends[] = {
    {QZO_BACKEND_CUDA, qzo_backend_cuda_open}, /* fails where the build has no module */
    {"cpu", qzo_backend_cpu_open},
    {"cpu-bf16", qzo_backend_cpu_bf16_open},
    {QZO_BACKEND_CUDA_BF16, qzo_backend_cuda_bf16_open},
    {NULL, NULL},
};

/* A device that is there but does not work is an error, not a reason to compute elsewhere. */
static const char *best_name(const qzo_backend_options *options) {
#if defined(QZO_HAVE_CUDA)
    if (qzo_cuda_available() == QZO_OK) return QZO_BACKEND_CUDA;
    if (options->local_rank == 0 && !options->dry)
        qzo_log_info("no CUDA device, using the CPU: %s", qzo_error_message());
#endif
    (void)options;
    return "cpu";
}

static qzo_status open_named(qzo_backend **out, const char *name,
                             const qzo_backend_options *options) {
    if (options->dry && strcmp(name, QZO_BACKEND_CUDA) == 0)
        return qzo_backend_cuda_dry_open(out, false);
    if (options->dry && strcmp(name, QZO_BACKEND_CUDA_BF16) == 0)
        return qzo_backend_cuda_dry_open(out, true);
    for (const qzo_backend_entry *entry = qzo_backends; entry->name != NULL; entry++)
        if (strcmp(entry->name, name) == 0) return entry->open(out, options);
    return qzo_fail(QZO_ERR_USAGE,
                    "no backend is named \"%s\": expected auto, cpu, cpu-bf16, cuda or cuda-bf16",
                    name);
}

qzo_status qzo_backend_open(qzo_backend **out, const char *name,
                            const qzo_backend_options *options) {
    if (strcmp(name, "auto") == 0) name = best_name(options);
    qzo_status status = open_named(out, name, options);
    if (status != QZO_OK) return status;
    (*out)->thread_count = options->thread_count;
    if (options->pairs != QZO_PAIRS_AUTO)
        (*out)->pair_rows_max = options->pairs == QZO_PAIRS_ALWAYS ? INT64_MAX : 0;
    return QZO_OK;
}

void qzo_backend_close(qzo_backend *backend) {
    if (backend != NULL) backend->ops->close(backend);
}

void qzo_memory_use_fill(qzo_memory_use *out, const qzo_ledger *ledger) {
    *out = (qzo_memory_use){.peak_bytes = ledger->peak_bytes};
    for (int i = 0; i < QZO_MEMORY_KINDS; i++) {
        out->held_bytes[i] = ledger->held_bytes[i];
        out->own_bytes += ledger->held_bytes[i];
    }
}
