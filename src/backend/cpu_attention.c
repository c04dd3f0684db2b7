/* Attention of the CPU backend: which queries share a block. The arithmetic is cpu_attention.h's.
 */
#include "backend/cpu_state.h"
#include "base/check.h"

/* What the pieces of one call share. */
typedef struct attention_job {
    const cpu_state *state;
    float *out;
    const float *q, *k, *v;
    const qzo_attention *attention;
    int64_t queries;
} attention_job;

int64_t qzo_cpu_attention_scratch_floats(int64_t context_max) {
    return (context_max + CPU_ATTENTION_LANES) * CPU_ATTENTION_LANES;
}

/* Where the text of a query begins: before what its window cuts off. */
static int64_t text_of(const qzo_attention *attention, int64_t query) {
    int64_t row = attention->query_rows != NULL ? attention->query_rows[query] : query;
    bool has_prefix = attention->prefix_begin[row] < attention->prefix_end[row];
    return has_prefix ? attention->prefix_begin[row] : attention->own_begin[row];
}

/* Blocks are cut at the ends of texts and, from the beginning of a text, after every
 * CPU_ATTENTION_LANES queries. A piece has those that begin among as many queries. */
static void attention_piece(void *context, int64_t piece, int thread) {
    const attention_job *job = context;
    const qzo_attention *attention = job->attention;
    int64_t first = piece * CPU_ATTENTION_LANES, last = first + CPU_ATTENTION_LANES;
    if (last > job->queries) last = job->queries;
    int64_t text = text_of(attention, first), begin = first;
    while (begin > 0 && text_of(attention, begin - 1) == text) begin--;
    begin += (first - begin + CPU_ATTENTION_LANES - 1) / CPU_ATTENTION_LANES * CPU_ATTENTION_LANES;
    /* Where the text ends before that block would begin, the next text begins one. */
    for (int64_t query = first; query < begin; query++)
        if (query >= last || text_of(attention, query) != text) {
            begin = query;
            break;
        }
    while (begin < last) {
        int64_t end = begin + 1;
        text = text_of(attention, begin);
        while (end < job->queries && end - begin < CPU_ATTENTION_LANES &&
               text_of(attention, end) == text)
            end++;
        job->state->ops->attention_block(job->out, job->q, job->k, job->v, attention, begin,
                                         end - begin, scratch_of(job->state, thread));
        begin = end;
    }
}

qzo_status qzo_cpu_attention(qzo_backend *backend, qzo_act *out, const qzo_act *q, const qzo_act *k,
                             const qzo_act *v, const qzo_attention *attention, int64_t queries) {
    const cpu_state *state = state_of(backend);
    QZO_ASSERT(attention->head_dim <= CPU_HEAD_MAX);
    QZO_ASSERT(qzo_cpu_attention_scratch_floats(attention->context_max) <= state->scratch_floats);
    attention_job job = {.state = state,
                         .out = (float *)out,
                         .q = (const float *)q,
                         .k = (const float *)k,
                         .v = (const float *)v,
                         .attention = attention,
                         .queries = queries};
    int64_t pieces = (queries + CPU_ATTENTION_LANES - 1) / CPU_ATTENTION_LANES;
    qzo_thread_pool_run(state->pool, pieces, attention_piece, &job);
    return QZO_OK;
}

qzo_status qzo_cpu_check_heads(const qzo_backend *backend, int64_t head_dim) {
    (void)backend;
    if (head_dim <= CPU_HEAD_MAX) return QZO_OK;
    return qzo_fail(QZO_ERR_UNSUPPORTED, "heads of %lld values, at most %d", (long long)head_dim,
                    CPU_HEAD_MAX);
}
