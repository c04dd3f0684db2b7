/* Counts what a backend allocates, by what it is for. */
#ifndef QZO_BACKEND_LEDGER_H
#define QZO_BACKEND_LEDGER_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef enum {
    QZO_MEMORY_WEIGHTS, /* by weight_load, as long as the weight */
    QZO_MEMORY_BUFFERS, /* by allocate */
    QZO_MEMORY_SCRATCH, /* the backend's own, shared by all operations */
    QZO_MEMORY_KINDS
} qzo_memory_kind;

typedef struct qzo_ledger_entry {
    const void *memory;
    int64_t size_bytes;
    qzo_memory_kind kind;
} qzo_ledger_entry;

typedef struct qzo_ledger { /* zeroed: nothing is allocated */
    qzo_ledger_entry *entries;
    int64_t count, capacity;
    int64_t held_bytes[QZO_MEMORY_KINDS];
    int64_t peak_bytes; /* of all kinds together */
} qzo_ledger;

/* QZO_ERR_MEMORY where the ledger cannot grow: the caller frees the memory. */
qzo_status qzo_ledger_add(qzo_ledger *ledger, const void *memory, size_t size_bytes,
                          qzo_memory_kind kind);
void qzo_ledger_remove(qzo_ledger *ledger, const void *memory); /* NULL is fine */
void qzo_ledger_release(qzo_ledger *ledger);

#endif
