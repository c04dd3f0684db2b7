#include "sweep/benches.h"

#include <stdlib.h>

qzo_status qzo_benches_open(qzo_benches *out, qzo_backend *backend, int64_t count) {
    *out = (qzo_benches){.entries = calloc((size_t)count, sizeof *out->entries),
                         .used = calloc((size_t)count, sizeof *out->used),
                         .count = count};
    if (!out->entries || !out->used) {
        free(out->entries);
        free(out->used);
        *out = (qzo_benches){0};
        return qzo_fail(QZO_ERR_MEMORY, "no memory for %lld models", (long long)count);
    }
    for (int64_t i = 0; i < count; i++) qzo_workbench_init(&out->entries[i], backend);
    return QZO_OK;
}

void qzo_benches_close(qzo_benches *benches) {
    for (int64_t i = 0; i < benches->count; i++) qzo_workbench_release(&benches->entries[i]);
    free(benches->entries);
    free(benches->used);
    *benches = (qzo_benches){0};
}

qzo_workbench *qzo_benches_take(qzo_benches *benches, const qzo_trial_spec *spec) {
    int64_t best = 0;
    for (int64_t i = 0; i < benches->count; i++) {
        bool holds = qzo_workbench_holds(&benches->entries[i], spec);
        if (holds || benches->used[i] < benches->used[best]) best = i;
        if (holds) break;
    }
    qzo_workbench *bench = &benches->entries[best];
    benches->used[best] = ++benches->trial_count;
    benches->taken = bench;
    benches->was_loaded = qzo_workbench_holds(bench, spec);
    bench->free_since = benches->free_since;
    return bench;
}

void qzo_benches_give(qzo_benches *benches, const qzo_trial_spec *spec) {
    benches->free_since = benches->taken->free_since;
    benches->load_count += !benches->was_loaded && qzo_workbench_holds(benches->taken, spec);
}
