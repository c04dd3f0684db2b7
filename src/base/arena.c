#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

/* False where the result does not fit. */
static bool padded_bytes(size_t *out, int64_t count, size_t element_bytes) {
    size_t bytes;
    if (count < 0 || __builtin_mul_overflow((uint64_t)count, element_bytes, &bytes)) return false;
    const size_t mask = QZO_ARENA_ALIGNMENT_BYTES - 1;
    if (__builtin_add_overflow(bytes, mask, &bytes)) return false;
    *out = bytes & ~mask;
    return true;
}

void *qzo_arena_reserve(qzo_arena *arena, int64_t count, size_t element_bytes) {
    size_t bytes = 0;
    size_t *total = arena->base == NULL ? &arena->planned_bytes : &arena->used_bytes;
    const size_t start = *total;
    if (!padded_bytes(&bytes, count, element_bytes) ||
        __builtin_add_overflow(*total, bytes, total)) {
        arena->overflow = true;
        return NULL;
    }
    /* A request beyond the plan is counted, so that qzo_arena_finish can name both numbers. */
    if (arena->base == NULL || *total > arena->planned_bytes) return NULL;
    return arena->base + start;
}

qzo_status qzo_arena_allocate(qzo_arena *arena, size_t bytes_max, const char *name) {
    arena->name = name;
    if (arena->overflow)
        return qzo_fail(QZO_ERR_LIMIT, "%s: the plan exceeds the address space", name);
    if (arena->planned_bytes > bytes_max)
        return qzo_fail(QZO_ERR_LIMIT, "%s: %zu bytes are needed, at most %zu", name,
                        arena->planned_bytes, bytes_max);
    size_t bytes = arena->planned_bytes > 0 ? arena->planned_bytes : QZO_ARENA_ALIGNMENT_BYTES;
    arena->base = aligned_alloc(QZO_ARENA_ALIGNMENT_BYTES, bytes);
    if (arena->base == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "%s: cannot allocate %zu bytes", name, bytes);
    memset(arena->base, 0, bytes); /* touches every page now, not in the step loop */
    return QZO_OK;
}

qzo_status qzo_arena_finish(const qzo_arena *arena) {
    if (arena->overflow || arena->used_bytes != arena->planned_bytes)
        return qzo_fail(QZO_ERR_LIMIT, "%s: %zu bytes planned, %zu used",
                        arena->name != NULL ? arena->name : "arena", arena->planned_bytes,
                        arena->used_bytes);
    return QZO_OK;
}

void qzo_arena_release(qzo_arena *arena) {
    free(arena->base);
    *arena = (qzo_arena){0};
}
