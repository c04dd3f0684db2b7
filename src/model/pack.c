#include "model/pack.h"

#include <stdlib.h>
#include <string.h>

qzo_status qzo_pack_create(qzo_pack *out, const qzo_pack_limits *limits) {
    qzo_status status = QZO_OK;
    memset(out, 0, sizeof *out);
    size_t rows = (size_t)limits->rows, gathers = (size_t)limits->gathers;
    size_t targets = (size_t)limits->targets, options = (size_t)limits->options;
    size_t places = (size_t)(limits->places > limits->rows ? limits->places : limits->rows);
    size_t count32 = 4 * rows + 4 * places + 3 * gathers + 3 * targets + options;
    size_t offsets_bytes = (options + 1) * sizeof(int64_t);
    char *storage = calloc(1, offsets_bytes + count32 * sizeof(int32_t));
    if (storage == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for a pack of %lld tokens",
                        (long long)limits->rows);
    out->limits = *limits;
    out->storage = storage;
    out->option_target_begin = (int64_t *)(void *)storage;
    int32_t *next = (int32_t *)(void *)(storage + offsets_bytes);
    const struct {
        int32_t **array;
        size_t count;
    } arrays[] = {{&out->ids, rows},
                  {&out->positions, rows},
                  {&out->row_place, rows},
                  {&out->gather_of_row, rows},
                  {&out->place_row, places},
                  {&out->prefix_begin, places},
                  {&out->prefix_end, places},
                  {&out->own_begin, places},
                  {&out->gather_rows, gathers},
                  {&out->gather_positions, gathers},
                  {&out->gather_places, gathers},
                  {&out->target_row, targets},
                  {&out->target_id, targets},
                  {&out->target_order, targets},
                  {&out->question_begin, options}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        *arrays[i].array = next;
        next += arrays[i].count;
    }
    if (limits->places > 0) QZO_TRY(qzo_prefixes_open(&out->questions, limits->options));
cleanup:
    if (status != QZO_OK) qzo_pack_release(out);
    return status;
}

void qzo_pack_release(qzo_pack *pack) {
    qzo_prefixes_close(&pack->questions);
    free(pack->storage);
    memset(pack, 0, sizeof *pack);
}

void qzo_pack_clear(qzo_pack *pack) {
    pack->row_count = pack->gather_count = pack->target_count = pack->option_count = 0;
    pack->place_count = pack->questions.count = 0;
}

void qzo_pack_measure(qzo_pack_limits *out, int64_t option_count, const int32_t *const *tokens,
                      const int64_t *lengths, const int32_t *answer_tokens) {
    int64_t shared = qzo_prefix_of_options(option_count, tokens, lengths).rows;
    *out = (qzo_pack_limits){.rows = shared, .options = option_count};
    for (int64_t i = 0; i < option_count; i++) {
        out->rows += lengths[i] - 1 - shared;
        out->targets += answer_tokens[i];
        if (lengths[i] - 1 > out->context) out->context = lengths[i] - 1;
    }
    out->places = out->rows;
    out->gathers = out->targets < out->rows ? out->targets : out->rows;
}

/* What the places of a part of a question attend to. */
typedef struct part {
    int64_t prefix_begin, prefix_end, own_begin;
} part;

/* The next place is for the key and value of that row. */
static void add_place(qzo_pack *pack, int64_t row, const part *of) {
    int64_t place = pack->place_count++;
    pack->place_row[place] = (int32_t)row;
    pack->prefix_begin[place] = (int32_t)of->prefix_begin;
    pack->prefix_end[place] = (int32_t)of->prefix_end;
    pack->own_begin[place] = (int32_t)of->own_begin;
}

static void add_row(qzo_pack *pack, int32_t id, int64_t position, const part *of) {
    int64_t row = pack->row_count++;
    pack->ids[row] = id;
    pack->positions[row] = (int32_t)position;
    pack->row_place[row] = (int32_t)pack->place_count;
    pack->gather_of_row[row] = -1;
    add_place(pack, row, of);
}

static void add_target(qzo_pack *pack, int64_t row, int32_t id) {
    if (pack->gather_of_row[row] < 0) {
        pack->gather_of_row[row] = (int32_t)pack->gather_count;
        pack->gather_positions[pack->gather_count] = pack->positions[row];
        pack->gather_places[pack->gather_count] = pack->row_place[row];
        pack->gather_rows[pack->gather_count++] = (int32_t)row;
    }
    pack->target_row[pack->target_count] = pack->gather_of_row[row];
    pack->target_id[pack->target_count++] = id;
}

static qzo_status check_room(const qzo_pack *pack, const qzo_pack_limits *need) {
    const qzo_pack_limits *limits = &pack->limits;
    if (limits->places > 0 && pack->place_count + need->places > limits->places)
        return qzo_fail(QZO_ERR_LIMIT, "a pack of %lld places has no room for %lld more",
                        (long long)limits->places, (long long)need->places);
    if (pack->row_count + need->rows > limits->rows ||
        pack->target_count + need->targets > limits->targets ||
        pack->gather_count + need->gathers > limits->gathers ||
        pack->option_count + need->options > limits->options || need->context > limits->context)
        return qzo_fail(QZO_ERR_LIMIT, "a pack of %lld tokens has no room for %lld more",
                        (long long)limits->rows, (long long)need->rows);
    return QZO_OK;
}

/* What the options begin with: the rows that an earlier question has, then new ones. */
static void add_prefix(qzo_pack *pack, qzo_prefix prefix, qzo_shared_rows shared) {
    int64_t begin = pack->place_count;
    const part first = {begin, begin, begin};
    const int32_t *earlier = pack->place_row;
    if (shared.rows > 0) earlier += pack->question_begin[shared.question];
    for (int64_t p = 0; p < shared.rows; p++) add_place(pack, earlier[p], &first);
    for (int64_t p = shared.rows; p < prefix.rows; p++) add_row(pack, prefix.tokens[p], p, &first);
    if (pack->limits.places == 0) return;
    pack->question_begin[pack->questions.count] = (int32_t)begin;
    qzo_prefixes_add(&pack->questions, prefix);
}

qzo_status qzo_pack_add(qzo_pack *pack, int64_t option_count, const int32_t *const *tokens,
                        const int64_t *lengths, const int32_t *answer_tokens) {
    qzo_pack_limits need;
    const qzo_prefix prefix = qzo_prefix_of_options(option_count, tokens, lengths);
    const qzo_shared_rows shared = qzo_prefixes_find(&pack->questions, prefix);
    qzo_pack_measure(&need, option_count, tokens, lengths, answer_tokens);
    need.rows -= shared.rows;
    qzo_status status = check_room(pack, &need);
    if (status != QZO_OK) return status;

    int64_t begin = pack->place_count;
    add_prefix(pack, prefix, shared);
    for (int64_t i = 0; i < option_count; i++) {
        int64_t own = pack->place_count, first_answer = lengths[i] - answer_tokens[i];
        const part branch = {begin, begin + prefix.rows, own};
        for (int64_t p = prefix.rows; p < lengths[i] - 1; p++)
            add_row(pack, tokens[i][p], p, &branch);
        pack->option_target_begin[pack->option_count++] = pack->target_count;
        for (int64_t p = first_answer; p < lengths[i]; p++) { /* predicted by the row before */
            int64_t place = p - 1 < prefix.rows ? begin + p - 1 : own + p - 1 - prefix.rows;
            add_target(pack, pack->place_row[place], tokens[i][p]);
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
