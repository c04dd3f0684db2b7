#include "model/pack.h"

#include <stdlib.h>
#include <string.h>

qzo_status qzo_pack_create(qzo_pack *out, const qzo_pack_limits *limits) {
    memset(out, 0, sizeof *out);
    size_t rows = (size_t)limits->rows, targets = (size_t)limits->targets;
    size_t count32 = 6 * rows + 2 * (size_t)limits->gathers + 3 * targets;
    size_t offsets_bytes = ((size_t)limits->options + 1) * sizeof(int64_t);
    char *storage = calloc(1, offsets_bytes + count32 * sizeof(int32_t));
    if (storage == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for a pack of %lld tokens",
                        (long long)limits->rows);
    out->limits = *limits;
    out->storage = storage;
    out->option_target_begin = (int64_t *)(void *)storage;
    int32_t *next = (int32_t *)(void *)(storage + offsets_bytes);
    int32_t **const row_arrays[] = {&out->ids,        &out->positions, &out->prefix_begin,
                                    &out->prefix_end, &out->own_begin, &out->gather_of_row};
    for (size_t i = 0; i < sizeof row_arrays / sizeof *row_arrays; i++, next += rows)
        *row_arrays[i] = next;
    out->gather_rows = next;
    out->gather_positions = next + limits->gathers;
    next += 2 * limits->gathers;
    out->target_row = next;
    out->target_id = next + targets;
    out->target_order = next + 2 * targets;
    return QZO_OK;
}

void qzo_pack_release(qzo_pack *pack) {
    free(pack->storage);
    memset(pack, 0, sizeof *pack);
}

void qzo_pack_clear(qzo_pack *pack) {
    pack->row_count = pack->gather_count = pack->target_count = pack->option_count = 0;
}

/* Rows that all options have in common; the last token of a row is never fed. */
static int64_t shared_rows(int64_t option_count, const int32_t *const *tokens,
                           const int64_t *lengths) {
    int64_t shared = lengths[0] - 1;
    for (int64_t i = 1; i < option_count; i++) {
        if (lengths[i] - 1 < shared) shared = lengths[i] - 1;
        int64_t equal = 0;
        while (equal < shared && tokens[i][equal] == tokens[0][equal]) equal++;
        shared = equal;
    }
    return shared;
}

void qzo_pack_measure(qzo_pack_limits *out, int64_t option_count, const int32_t *const *tokens,
                      const int64_t *lengths, const int32_t *answer_tokens) {
    int64_t shared = shared_rows(option_count, tokens, lengths);
    *out = (qzo_pack_limits){.rows = shared, .options = option_count};
    for (int64_t i = 0; i < option_count; i++) {
        out->rows += lengths[i] - 1 - shared;
        out->targets += answer_tokens[i];
        if (lengths[i] - 1 > out->context) out->context = lengths[i] - 1;
    }
    out->gathers = out->targets < out->rows ? out->targets : out->rows;
}

static void add_row(qzo_pack *pack, int32_t id, int64_t position, int64_t prefix_begin,
                    int64_t prefix_end, int64_t own_begin) {
    int64_t row = pack->row_count++;
    pack->ids[row] = id;
    pack->positions[row] = (int32_t)position;
    pack->prefix_begin[row] = (int32_t)prefix_begin;
    pack->prefix_end[row] = (int32_t)prefix_end;
    pack->own_begin[row] = (int32_t)own_begin;
    pack->gather_of_row[row] = -1;
}

static void add_target(qzo_pack *pack, int64_t row, int32_t id) {
    if (pack->gather_of_row[row] < 0) {
        pack->gather_of_row[row] = (int32_t)pack->gather_count;
        pack->gather_positions[pack->gather_count] = pack->positions[row];
        pack->gather_rows[pack->gather_count++] = (int32_t)row;
    }
    pack->target_row[pack->target_count] = pack->gather_of_row[row];
    pack->target_id[pack->target_count++] = id;
}

qzo_status qzo_pack_add(qzo_pack *pack, int64_t option_count, const int32_t *const *tokens,
                        const int64_t *lengths, const int32_t *answer_tokens) {
    qzo_pack_limits need;
    qzo_pack_measure(&need, option_count, tokens, lengths, answer_tokens);
    if (pack->row_count + need.rows > pack->limits.rows ||
        pack->target_count + need.targets > pack->limits.targets ||
        pack->gather_count + need.gathers > pack->limits.gathers ||
        pack->option_count + need.options > pack->limits.options ||
        need.context > pack->limits.context)
        return qzo_fail(QZO_ERR_LIMIT, "a pack of %lld tokens has no room for %lld more",
                        (long long)pack->limits.rows, (long long)need.rows);

    int64_t shared = shared_rows(option_count, tokens, lengths), begin = pack->row_count;
    for (int64_t p = 0; p < shared; p++) add_row(pack, tokens[0][p], p, begin, begin, begin);
    for (int64_t i = 0; i < option_count; i++) {
        int64_t own = pack->row_count, first_answer = lengths[i] - answer_tokens[i];
        for (int64_t p = shared; p < lengths[i] - 1; p++)
            add_row(pack, tokens[i][p], p, begin, begin + shared, own);
        pack->option_target_begin[pack->option_count++] = pack->target_count;
        for (int64_t p = first_answer; p < lengths[i]; p++) { /* predicted by the row before */
            int64_t row = p - 1 < shared ? begin + p - 1 : own + p - 1 - shared;
            add_target(pack, row, tokens[i][p]);
        }
    }
    pack->option_target_begin[pack->option_count] = pack->target_count;
    return QZO_OK;
}

void qzo_pack_finish(qzo_pack *pack) {
    /* Targets are nearly in order already: insertion sort, stable. */
    for (int64_t i = 0; i < pack->target_count; i++) {
        int64_t place = i;
        while (place > 0 && pack->target_row[pack->target_order[place - 1]] > pack->target_row[i]) {
            pack->target_order[place] = pack->target_order[place - 1];
            place--;
        }
        pack->target_order[place] = (int32_t)i;
    }
}
