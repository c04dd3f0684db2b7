#include "backend/ledger.h"

#include "base/check.h"

#include <stdlib.h>

qzo_status qzo_ledger_add(qzo_ledger *ledger, const void *memory, size_t size_bytes,
                          qzo_memory_kind kind) {
    if (ledger->count == ledger->capacity) {
        int64_t capacity = ledger->capacity > 0 ? 2 * ledger->capacity : 64;
        qzo_ledger_entry *grown =
            realloc(ledger->entries, (size_t)capacity * sizeof *ledger->entries);
        if (grown == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for the ledger");
        ledger->entries = grown;
        ledger->capacity = capacity;
    }
    ledger->entries[ledger->count++] =
        (qzo_ledger_entry){.memory = memory, .size_bytes = (int64_t)size_bytes, .kind = kind};
    ledger->held_bytes[kind] += (int64_t)size_bytes;
    int64_t held_bytes = 0;
    for (int i = 0; i < QZO_MEMORY_KINDS; i++) held_bytes += ledger->held_bytes[i];
    if (held_bytes > ledger->peak_bytes) ledger->peak_bytes = held_bytes;
    return QZO_OK;
}

void qzo_ledger_remove(qzo_ledger *ledger, const void *memory) {
    if (memory == NULL) return;
    int64_t at = ledger->count - 1; /* what was allocated last is often freed first */
    while (at >= 0 && ledger->entries[at].memory != memory) at--;
    QZO_ASSERT(at >= 0);
    ledger->held_bytes[ledger->entries[at].kind] -= ledger->entries[at].size_bytes;
    ledger->entries[at] = ledger->entries[--ledger->count];
}

void qzo_ledger_release(qzo_ledger *ledger) {
    free(ledger->entries);
    *ledger = (qzo_ledger){0};
}
