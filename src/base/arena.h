/* Plan, allocate once, slice. One function lists the buffers and runs twice:
 *
 *     static void slice(buffers *b, qzo_arena *arena) {
 *         b->logits = qzo_arena_reserve(arena, token_count * vocab_size, sizeof(float));
 *     }
 *     slice(&b, &arena);                                      // adds up; every pointer is NULL
 *     QZO_TRY(qzo_arena_allocate(&arena, limit_bytes, "activations"));
 *     slice(&b, &arena);                                      // hands out the same bytes
 *     QZO_TRY(qzo_arena_finish(&arena));                      // planned == used
 *
 * So a plan cannot drift from what is used, and `qzo plan` runs the first pass alone. */
#ifndef QZO_BASE_ARENA_H
#define QZO_BASE_ARENA_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QZO_ARENA_ALIGNMENT_BYTES = 64 }; /* a cache line, and the widest vector */

typedef struct qzo_arena { /* zeroed: an arena that plans */
    uint8_t *base;         /* NULL until qzo_arena_allocate */
    size_t planned_bytes;
    size_t used_bytes;
    const char *name; /* in messages; borrowed, given to qzo_arena_allocate */
    bool overflow;    /* the plan exceeds SIZE_MAX */
} qzo_arena;

/* count elements of element_bytes each, 64-byte aligned. NULL while planning and for a negative or
 * unplanned request, which qzo_arena_allocate or qzo_arena_finish reports; count 0 is fine. */
void *qzo_arena_reserve(qzo_arena *arena, int64_t count, size_t element_bytes);

/* Ends the plan: one allocation, zeroed. QZO_ERR_LIMIT with both numbers above bytes_max. */
qzo_status qzo_arena_allocate(qzo_arena *arena, size_t bytes_max, const char *name);

/* Every planned byte was handed out, and no more: QZO_ERR_LIMIT with both numbers otherwise. */
qzo_status qzo_arena_finish(const qzo_arena *arena);

/* Frees the block and zeroes the arena; safe on a zeroed one. */
void qzo_arena_release(qzo_arena *arena);

#endif
