/* Any bytes as JSON: an error with its place, or a value whose fields can be asked for. */
#include "base/json.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes) {
    json_t *value = NULL;
    if (qzo_json_parse(&value, (const char *)bytes, size_bytes, "fuzz") != QZO_OK) {
        if (value != NULL || qzo_error_message()[0] == '\0') abort();
        return 0;
    }
    int64_t integer = 0;
    double number = 0;
    bool truth = false;
    const char *string = NULL;
    (void)qzo_json_int(&integer, value, "a", 0, 100, "fuzz");
    (void)qzo_json_number(&number, value, "a", "fuzz");
    (void)qzo_json_bool(&truth, value, "a", "fuzz");
    (void)qzo_json_string(&string, value, "a", "fuzz");
    (void)qzo_json_has(value, "a");
    json_decref(value);
    return 0;
}
