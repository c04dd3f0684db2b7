#include "trial/eval_chunks.h"

#include "trial/task_sizes.h"

#include <stdlib.h>

/* Keys and values of a chunk have at most so many places per packed token. Where many short
 * questions follow long demonstrations that bounds the memory; a larger one would save little more.
 */
enum { PLACES_PER_TOKEN = 8 };

/* Cuts where the next example would be one too many, or have too many tokens. */
static void cut(qzo_eval_chunks *out, const qzo_split *split, const qzo_trial_spec *spec,
                qzo_task_meter *meter, bool alike) {
    bool by_tokens = spec->eval_tokens > 0 && split->token_begin != NULL;
    int64_t taken = 0, tokens = 0, places = 0;
    for (int64_t e = 0; e < split->example_count; e++) {
        qzo_pack_limits need = {0};
        if (by_tokens) qzo_task_meter_read(&need, meter, e, false);
        bool is_full = taken == spec->eval_batch;
        if (by_tokens)
            is_full = tokens + need.rows > spec->eval_tokens ||
                      places + need.places > PLACES_PER_TOKEN * spec->eval_tokens;
        if (taken == 0 || is_full) {
            out->begin[out->count++] = e;
            taken = tokens = places = 0;
            qzo_task_meter_clear(meter);
            need.rows = need.places;
        }
        if (by_tokens && alike) qzo_task_meter_take(meter);
        taken++;
        tokens += need.rows;
        places += need.places;
        if (taken > out->examples_max) out->examples_max = taken;
    }
    out->begin[out->count] = split->example_count;
}

qzo_status qzo_eval_chunks_make(qzo_eval_chunks *out, const qzo_split *split,
                                const qzo_split *whole, const qzo_trial_spec *spec) {
    qzo_status status = QZO_OK;
    qzo_task_meter meter = {0};
    bool alike = false;
    *out = (qzo_eval_chunks){.begin = malloc(((size_t)split->example_count + 1) * sizeof(int64_t))};
    if (out->begin == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld examples",
                        (long long)split->example_count);
    QZO_TRY(qzo_task_begins_alike(&alike, whole));
    QZO_TRY(qzo_task_meter_open(&meter, split));
    cut(out, split, spec, &meter, alike);
cleanup:
    qzo_task_meter_close(&meter);
    if (status != QZO_OK) qzo_eval_chunks_release(out);
    return status;
}

void qzo_eval_chunks_release(qzo_eval_chunks *chunks) {
    free(chunks->begin);
    *chunks = (qzo_eval_chunks){0};
}
