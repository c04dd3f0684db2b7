/* Texts that a model continues: greedy or sampled, several at a time, over a cache of keys and
 * values. Everything is allocated when a generator opens.
 *
 * Sequences are taken in waves, in their order: as many as the limits have room for. On the CPU a
 * sequence's tokens do not depend on its neighbours. */
#ifndef QZO_MODEL_GENERATE_H
#define QZO_MODEL_GENERATE_H

#include "model/forward.h"
#include "model/sample.h"

#include <stdbool.h>

typedef struct qzo_generator qzo_generator;

typedef struct qzo_generator_limits {
    int64_t sequences; /* of a wave */
    int64_t rows;      /* prompt tokens of a wave */
    int64_t new_max;   /* tokens that a sequence gets, at most */
} qzo_generator_limits;

/* When a text ends. */
typedef struct qzo_ends {
    const int32_t *ids; /* tokens that end it */
    int64_t id_count;
    const char *const *texts; /* what the new text ends before, not empty; may span tokens */
    int64_t text_count;
    /* The text of a token (not terminated; borrowed) and its size. NULL: none, without texts. */
    size_t (*piece)(const void *context, const uint8_t **bytes, int32_t id);
    const void *context;
} qzo_ends;

typedef struct qzo_sequence {
    const int32_t *prompt;
    int64_t prompt_count; /* at least 1 */
    uint64_t number;      /* of qzo_sample */
    int32_t *ids;         /* out, (new_max): the new ones; one that ends the text is the last */
    int64_t count;        /* out */
    bool ended;           /* out: by a token or a text */
    bool has_nan;         /* out: some logit that a token was chosen by is no number */
    int64_t cut_bytes;    /* out: of the new text, from what ended it on */
} qzo_sequence;

typedef struct qzo_generation {
    int64_t new_max; /* at most that of the limits */
    qzo_sampling sampling;
    qzo_ends ends;
} qzo_generation;

/* config.json's eos_token_id, a number or a list of them (the first QZO_END_IDS_MAX); how many. */
enum { QZO_END_IDS_MAX = 64 };
int64_t qzo_model_end_ids(int32_t out[QZO_END_IDS_MAX], const qzo_model *model);

/* The generator borrows forward, whose limits must have room for a wave: rows, as many gathers as
 * sequences, and a context of the longest prompt and all new tokens but the last. */
qzo_status qzo_generator_open(qzo_generator **out, qzo_forward *forward, const qzo_model *model,
                              const qzo_generator_limits *limits);
void qzo_generator_close(qzo_generator *generator); /* NULL is fine */

/* Continues all sequences. QZO_ERR_LIMIT where a prompt alone is too long for a wave or for the
 * context. */
qzo_status qzo_generate(qzo_generator *generator, qzo_sequence *sequences, int64_t count,
                        const qzo_generation *settings, const float *masters,
                        const qzo_perturbation *perturbation);

#endif
