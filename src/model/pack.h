/* Token rows packed one after the other, without padding, and what is asked of them.
 *
 * A question's options share their longest common token prefix: it is stored once, and every option
 * continues it as a branch. The last token of a row predicts nothing and is left out; so options
 * of one token cost no row of their own. Rows of logits are asked for once each, however many
 * targets read them. Capacity is fixed at creation; filling a pack allocates nothing.
 *
 * Questions that begin alike (demonstrations) share those rows too, where the pack has places: then
 * a question's keys and values stand at consecutive places, and what it shares with an earlier
 * question stands there once more, though it is computed once. A row attends to places, so that
 * attention knows two ranges and no more, however questions branch. Which rows are shared depends
 * on the questions of the pack alone, in their order. On the CPU it changes no bit, since no row's
 * result depends on other rows; a device may choose its kernels by the number of rows. */
#ifndef QZO_MODEL_PACK_H
#define QZO_MODEL_PACK_H

#include "model/prefixes.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct qzo_pack_limits {
    int64_t rows;    /* packed tokens */
    int64_t gathers; /* rows of logits */
    int64_t targets; /* predicted answer tokens */
    int64_t options;
    int64_t context; /* rows that one row attends to: the longest sequence */
    int64_t places;  /* for keys and values; 0: questions share nothing, each row has one */
    /* Of packs that a forward pass runs under both signs of a perturbation at once; 0: of none. */
    int64_t pair_rows, pair_gathers, pair_places;
} qzo_pack_limits;

typedef struct qzo_pack {
    qzo_pack_limits limits;
    int64_t row_count, gather_count, target_count, option_count;
    int64_t place_count; /* more than rows where questions share some, else as many: place = row */
    /* (rows) */
    int32_t *ids, *positions;
    int32_t *row_place;     /* where it stands first; a row of its own attends from there */
    int32_t *gather_of_row; /* index of the row's logits, or -1 */
    /* (places): the row whose key and value stand there, and what it attends to, in places */
    int32_t *place_row, *prefix_begin, *prefix_end, *own_begin;
    int32_t *gather_rows, *gather_positions, *gather_places; /* (gathers) */
    /* (targets), target_row (index among the gathered) ascends within an option only; the forward
     * pass wants it ascending over all: target_order lists the targets so. */
    int32_t *target_row, *target_id, *target_order;
    int64_t *option_target_begin; /* (options + 1) */
    qzo_prefixes questions;       /* what those that were added begin with */
    int32_t *question_begin;      /* (options): the first place of each of them */
    void *storage;
} qzo_pack;

/* Whether keys and values of the pack have other places than its rows. */
static inline bool qzo_pack_is_shared(const qzo_pack *pack) {
    return pack->place_count > pack->row_count;
}

qzo_status qzo_pack_create(qzo_pack *out, const qzo_pack_limits *limits);
void qzo_pack_release(qzo_pack *pack); /* safe on a zeroed pack */
void qzo_pack_clear(qzo_pack *pack);

/* One question. Option i has lengths[i] >= 2 tokens, of which the last answer_tokens[i] (1 ..
 * lengths[i] - 1) are its answer. QZO_ERR_LIMIT with both numbers where the pack is too small.
 * Where the pack has places, tokens stay readable until it is cleared. */
qzo_status qzo_pack_add(qzo_pack *pack, int64_t option_count, const int32_t *const *tokens,
                        const int64_t *lengths, const int32_t *answer_tokens);

/* Puts target_order in ascending order of target_row. Call once after the last add. */
void qzo_pack_finish(qzo_pack *pack);

/* What one question needs by itself, a place for each row: added up they are the limits of a pack.
 */
void qzo_pack_measure(qzo_pack_limits *out, int64_t option_count, const int32_t *const *tokens,
                      const int64_t *lengths, const int32_t *answer_tokens);

#endif
