#include "base/json.h"

#include "base/file_io.h"

#include <stdlib.h>

qzo_status qzo_json_parse(json_t **out, const char *text, size_t size_bytes, const char *name) {
    json_error_t error;
    *out = json_loadb(text, size_bytes, JSON_REJECT_DUPLICATES, &error);
    if (*out != NULL) return QZO_OK;
    if (json_error_code(&error) == json_error_out_of_memory)
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory at byte %d", name, error.position);
    return qzo_fail(QZO_ERR_FORMAT, "%s: malformed JSON at line %d, column %d, byte %d: %s", name,
                    error.line, error.column, error.position, error.text);
}

qzo_status qzo_json_read(json_t **out, const char *path, size_t size_bytes_max) {
    qzo_status status = QZO_OK;
    char *text = NULL;
    size_t size_bytes = 0;
    *out = NULL;
    QZO_TRY(qzo_file_read(&text, &size_bytes, path, size_bytes_max));
    QZO_TRY(qzo_json_parse(out, text, size_bytes, path));
cleanup:
    free(text);
    return status;
}

static const char *type_name(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number with a fraction or exponent";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: break;
    }
    return "null";
}

/* The value of a required key. */
static qzo_status field(const json_t **out, const json_t *object, const char *key,
                        const char *name) {
    if (!json_is_object(object))
        return qzo_fail(QZO_ERR_FORMAT, "%s: expected an object with \"%s\", found %s", name, key,
                        object != NULL ? type_name(object) : "nothing");
    *out = json_object_get(object, key);
    if (*out == NULL) return qzo_fail(QZO_ERR_FORMAT, "%s: \"%s\" is missing", name, key);
    return QZO_OK;
}

static qzo_status fail_type(const json_t *value, const char *key, const char *name,
                            const char *expected) {
    return qzo_fail(QZO_ERR_FORMAT, "%s: \"%s\" must be %s, found %s", name, key, expected,
                    type_name(value));
}

qzo_status qzo_json_int(int64_t *out, const json_t *object, const char *key, int64_t min,
                        int64_t max, const char *name) {
    qzo_status status = QZO_OK;
    const json_t *value = NULL;
    QZO_TRY(field(&value, object, key, name));
    if (!json_is_integer(value)) return fail_type(value, key, name, "an integer");
    int64_t number = json_integer_value(value);
    if (number < min || number > max)
        return qzo_fail(QZO_ERR_FORMAT, "%s: \"%s\" must lie in %lld .. %lld, found %lld", name,
                        key, (long long)min, (long long)max, (long long)number);
    *out = number;
cleanup:
    return status;
}

qzo_status qzo_json_number(double *out, const json_t *object, const char *key, const char *name) {
    qzo_status status = QZO_OK;
    const json_t *value = NULL;
    QZO_TRY(field(&value, object, key, name));
    if (!json_is_number(value)) return fail_type(value, key, name, "a number");
    *out = json_number_value(value);
cleanup:
    return status;
}

qzo_status qzo_json_bool(bool *out, const json_t *object, const char *key, const char *name) {
    qzo_status status = QZO_OK;
    const json_t *value = NULL;
    QZO_TRY(field(&value, object, key, name));
    if (!json_is_boolean(value)) return fail_type(value, key, name, "true or false");
    *out = json_is_true(value);
cleanup:
    return status;
}

qzo_status qzo_json_string(const char **out, const json_t *object, const char *key,
                           const char *name) {
    qzo_status status = QZO_OK;
    const json_t *value = NULL;
    QZO_TRY(field(&value, object, key, name));
    if (!json_is_string(value)) return fail_type(value, key, name, "a string");
    *out = json_string_value(value);
cleanup:
    return status;
}

bool qzo_json_has(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return value != NULL && !json_is_null(value);
}
