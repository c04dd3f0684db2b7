#include "backend/backend.h"

#include <string.h>

const qzo_backend_entry qzo_backends[] = {
    {"cpu", qzo_backend_cpu_open},
    {NULL, NULL},
};

qzo_status qzo_backend_open(qzo_backend **out, const char *name,
                            const qzo_backend_options *options) {
    if (strcmp(name, "auto") == 0) name = "cpu";
    for (const qzo_backend_entry *entry = qzo_backends; entry->name != NULL; entry++)
        if (strcmp(entry->name, name) == 0) return entry->open(out, options);
    return qzo_fail(QZO_ERR_USAGE, "no backend is named \"%s\": expected auto or cpu", name);
}

void qzo_backend_close(qzo_backend *backend) {
    if (backend != NULL) backend->ops->close(backend);
}
