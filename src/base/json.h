/* Typed look-ups over jansson. Errors carry the file's name and, for malformed text, the position.
 * A key that is absent and a key of the wrong type are different errors. */
#ifndef QZO_BASE_JSON_H
#define QZO_BASE_JSON_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Parses text of size_bytes; name stands in messages. Duplicate keys are refused. The caller
 * releases *out with json_decref. */
qzo_status qzo_json_parse(json_t **out, const char *text, size_t size_bytes, const char *name);

/* Reads and parses a file of at most size_bytes_max. */
qzo_status qzo_json_read(json_t **out, const char *path, size_t size_bytes_max);

/* Required fields of an object; name stands in messages. */
qzo_status qzo_json_int(int64_t *out, const json_t *object, const char *key, int64_t min,
                        int64_t max, const char *name);
qzo_status qzo_json_number(double *out, const json_t *object, const char *key, const char *name);
qzo_status qzo_json_bool(bool *out, const json_t *object, const char *key, const char *name);
/* Borrowed from the object. */
qzo_status qzo_json_string(const char **out, const json_t *object, const char *key,
                           const char *name);

/* True where the key is there and not null: the optional fields ask this first. */
bool qzo_json_has(const json_t *object, const char *key);

#endif
