/* Any bytes as a safetensors file: an error, or views that lie inside the bytes. */
#include "weights/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

static volatile uint8_t sink; /* keeps the reads that the sanitizer checks */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes) {
    qzo_safetensors *file = NULL;
    if (qzo_safetensors_parse(&file, bytes, size_bytes, "fuzz") != QZO_OK) {
        if (file != NULL || qzo_error_message()[0] == '\0') abort();
        return 0;
    }
    size_t payload_bytes = 0, covered_bytes = 0;
    (void)qzo_safetensors_payload(file, &payload_bytes);
    for (int64_t i = 0; i < qzo_safetensors_count(file); i++) {
        const qzo_tensor_view *view = qzo_safetensors_at(file, i);
        if (qzo_safetensors_find(file, view->name) != view) abort();
        if (view->size_bytes != (size_t)view->count * qzo_dtype_bytes(view->dtype)) abort();
        for (size_t j = 0; j < view->size_bytes; j++) sink = (uint8_t)(sink ^ view->data[j]);
        covered_bytes += view->size_bytes;
    }
    if (covered_bytes != payload_bytes) abort();
    const char *key = NULL;
    for (int64_t i = 0; (key = qzo_safetensors_metadata_key(file, i)) != NULL; i++)
        if (qzo_safetensors_metadata(file, key) == NULL) abort();
    qzo_safetensors_close(file);
    return 0;
}
