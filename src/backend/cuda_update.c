/* Update and digest of the CUDA backend: one launch of one kernel for all spans, however many the
 * model has. A table of the spans travels to the device before it. Part of the CUDA module. */
#include "backend/cuda_state.h"

_Static_assert(sizeof(qzo_cuda_gain) == CUDA_GAIN_BYTES && sizeof(qzo_gain) == CUDA_GAIN_BYTES,
               "gains are uploaded as they are");
_Static_assert(offsetof(qzo_cuda_gain, k) == offsetof(qzo_gain, k), "the same");
_Static_assert(sizeof(qzo_cuda_span) == CUDA_SPAN_BYTES, "the buffer holds CUDA_SPANS_MAX");
_Static_assert((int)QZO_CUDA_FREE == QZO_CONSTRAINT_FREE &&
                   (int)QZO_CUDA_POSITIVE == QZO_CONSTRAINT_POSITIVE &&
                   (int)QZO_CUDA_KEEP_SIGN == QZO_CONSTRAINT_KEEP_SIGN,
               "constraints are passed as they are");

/* What a launch is asked for. */
typedef struct work {
    qzo_update_values values; /* the masters alone where it does not update */
    bool updates, digests;
    int64_t gain_count; /* of state->gains */
    qzo_directions directions;
} work;

/* Fills the table from spans[*next] on, as far as it goes, and moves *next behind; spans of a group
 * that rests are digested only. */
static qzo_status upload_spans(qzo_backend *backend, qzo_cuda_spans *out, const work *what,
                               const qzo_span *spans, int64_t span_count, int64_t *next) {
    cuda_state *state = state_of(backend);
    *out = (qzo_cuda_spans){.table = state->spans};
    for (; *next < span_count && out->count < CUDA_SPANS_MAX; (*next)++) {
        const qzo_span *span = &spans[*next];
        bool rests = !what->updates || (span->group != NULL && !span->group->is_active);
        if (span->count == 0 || (rests && !what->digests)) continue;
        state->spans_host[out->count++] = (qzo_cuda_span){
            .offset = span->offset,
            .count = span->count,
            .first_block = out->block_count,
            .tensor_id = span->tensor_id,
            .constraint = rests ? QZO_CUDA_AT_REST : (qzo_cuda_constraint)span->constraint,
            .floor = span->floor,
            .rate_factor = qzo_value_group_rate(span->group)};
        out->block_count += (span->count + QZO_CUDA_SPAN_BLOCK - 1) / QZO_CUDA_SPAN_BLOCK;
    }
    return qzo_cuda_upload(backend, state->spans, state->spans_host,
                           (size_t)out->count * sizeof *state->spans_host);
}

static qzo_status run_spans(qzo_backend *backend, const work *what, const qzo_span *spans,
                            int64_t span_count) {
    qzo_status status = QZO_OK;
    const cuda_state *state = state_of(backend);
    qzo_cuda_spans part;
    for (int64_t next = 0; next < span_count;) {
        QZO_TRY(upload_spans(backend, &part, what, spans, span_count, &next));
        TRY_CUDA(qzo_cuda_update(what->values.masters, what->values.unit, what->values.velocity,
                                 what->values.decay, part, state->gains, what->gain_count,
                                 what->directions == QZO_DIRECTIONS_RADEMACHER,
                                 what->digests ? state->digest : NULL, state->stream));
    }
cleanup:
    return status;
}

qzo_status qzo_cuda_update_op(qzo_backend *backend, const qzo_update_values *values,
                              const qzo_span *spans, int64_t span_count, const qzo_gain *gains,
                              int64_t gain_count, qzo_directions directions,
                              uint64_t *digest_host) {
    qzo_status status = QZO_OK;
    const cuda_state *state = state_of(backend);
    const work what = {.values = *values,
                       .updates = true,
                       .digests = digest_host != NULL,
                       .gain_count = gain_count,
                       .directions = directions};
    if (gain_count > CUDA_GAINS_MAX)
        return qzo_fail(QZO_ERR_LIMIT, "%lld records in a step, the CUDA backend takes %d",
                        (long long)gain_count, CUDA_GAINS_MAX);
    QZO_TRY(qzo_cuda_upload(backend, state->gains, gains, (size_t)gain_count * sizeof *gains));
    if (digest_host != NULL)
        TRY_CUDA(cudaMemsetAsync(state->digest, 0, sizeof *state->digest, state->stream));
    QZO_TRY(run_spans(backend, &what, spans, span_count));
    if (digest_host != NULL)
        QZO_TRY(qzo_cuda_download(backend, digest_host, state->digest, sizeof *digest_host));
cleanup:
    return status;
}

qzo_status qzo_cuda_digest_op(qzo_backend *backend, uint64_t *out_host, const float *masters,
                              const qzo_span *spans, int64_t span_count) {
    /* The kernel is shared with update; it writes no span at rest. */
    union {
        const float *in;
        float *out;
    } pointer = {.in = masters};
    qzo_status status = QZO_OK;
    const cuda_state *state = state_of(backend);
    const work what = {.values = {.masters = pointer.out}, .digests = true};
    TRY_CUDA(cudaMemsetAsync(state->digest, 0, sizeof *state->digest, state->stream));
    QZO_TRY(run_spans(backend, &what, spans, span_count));
    QZO_TRY(qzo_cuda_download(backend, out_host, state->digest, sizeof *out_host));
cleanup:
    return status;
}
