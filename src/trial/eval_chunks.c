#include "trial/eval_chunks.h"

#include "trial/task_sizes.h"

#include <stdlib.h>

/* Cuts where the next example would be one too many, or have too many tokens. */
static void cut(qzo_eval_chunks *out, const qzo_split *split, const qzo_trial_spec *spec,
                qzo_task_meter *meter) {
    bool by_tokens = spec->eval_tokens > 0 && split->token_begin != NULL;
    int64_t taken = 0, tokens = 0;
    for (int64_t e = 0; e < split->example_count; e++) {
        qzo_pack_limits need = {0};
        if (by_tokens) qzo_task_meter_read(&need, meter, e, false);
        bool is_full = by_tokens ? tokens + need.rows > spec->eval_tokens //
                                 : taken == spec->eval_batch;
        if (taken == 0 || is_full) {
            out->begin[out->count++] = e;
            taken = tokens = 0;
        }
        taken++;
        tokens += need.rows;
        if (taken > out->examples_max) out->examples_max = taken;
    }
    out->begin[out->count] = split->example_count;
}

qzo_status qzo_eval_chunks_make(qzo_eval_chunks *out, const qzo_split *split,
                                const qzo_trial_spec *spec) {
    qzo_task_meter meter = {0};
    *out = (qzo_eval_chunks){.begin = malloc(((size_t)split->example_count + 1) * sizeof(int64_t))};
    qzo_status status = out->begin != NULL
                            ? qzo_task_meter_open(&meter, split)
                            : qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld examples",
                                       (long long)split->example_count);
    if (status == QZO_OK) cut(out, split, spec, &meter);
    qzo_task_meter_close(&meter);
    if (status != QZO_OK) qzo_eval_chunks_release(out);
    return status;
}

void qzo_eval_chunks_release(qzo_eval_chunks *chunks) {
    free(chunks->begin);
    *chunks = (qzo_eval_chunks){0};
}
