#include "weights/tensor_changes.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

enum { CAPACITY_FIRST = 64 };

static qzo_status grow(qzo_tensor_changes *changes) {
    if (changes->count < changes->capacity) return QZO_OK;
    int64_t capacity = changes->capacity > 0 ? 2 * changes->capacity : CAPACITY_FIRST;
    qzo_tensor_view *views = realloc(changes->views, (size_t)capacity * sizeof *views);
    if (views == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld tensors", (long long)capacity);
    changes->views = views;
    changes->capacity = capacity;
    return QZO_OK;
}

qzo_status qzo_tensor_changes_put(qzo_tensor_changes *changes, const qzo_tensor_view *view) {
    qzo_tensor_view added = *view;
    QZO_ASSERT(qzo_tensor_changes_find(changes, view->name) == NULL);
    added.name = strdup(view->name);
    added.count = 1;
    for (int i = 0; i < view->rank; i++) added.count *= view->shape[i];
    added.size_bytes = (size_t)added.count * qzo_dtype_bytes(view->dtype);
    if (added.name == NULL || grow(changes) != QZO_OK) {
        free((void *)(uintptr_t)added.name);
        free((void *)(uintptr_t)added.data);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for a tensor");
    }
    changes->views[changes->count++] = added;
    return QZO_OK;
}

const qzo_tensor_view *qzo_tensor_changes_find(const qzo_tensor_changes *changes,
                                               const char *name) {
    for (int64_t i = 0; i < changes->count; i++)
        if (strcmp(changes->views[i].name, name) == 0) return &changes->views[i];
    return NULL;
}

void qzo_tensor_changes_release(qzo_tensor_changes *changes) {
    for (int64_t i = 0; i < changes->count; i++) {
        free((void *)(uintptr_t)changes->views[i].name);
        free((void *)(uintptr_t)changes->views[i].data);
    }
    free(changes->views);
    *changes = (qzo_tensor_changes){0};
}
