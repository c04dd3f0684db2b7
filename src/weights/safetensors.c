#include "weights/safetensors.h"

#include "base/check.h"
#include "base/file_io.h"
#include "base/file_map.h"
#include "base/half.h"
#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "tensors are little-endian in the file and read in place");

enum {
    LENGTH_BYTES = 8,             /* the header's length, before the header */
    HEADER_BYTES_MAX = 100000000, /* the format's own limit */
};

struct qzo_safetensors {
    qzo_file_map map; /* empty where the caller owns the bytes */
    json_t *header;   /* owns every name and metadata value */
    const uint8_t *payload;
    size_t payload_bytes;
    qzo_tensor_view *views; /* in order of names */
    int64_t count;
    const json_t *metadata;     /* borrowed from the header; NULL where there is none */
    const char **metadata_keys; /* in order, NULL-terminated */
};

static const struct {
    const char *name;
    size_t bytes;
} dtypes[QZO_DTYPE_COUNT] = {
    [QZO_DTYPE_BOOL] = {"BOOL", 1}, [QZO_DTYPE_U8] = {"U8", 1},   [QZO_DTYPE_I8] = {"I8", 1},
    [QZO_DTYPE_I16] = {"I16", 2},   [QZO_DTYPE_U16] = {"U16", 2}, [QZO_DTYPE_F16] = {"F16", 2},
    [QZO_DTYPE_BF16] = {"BF16", 2}, [QZO_DTYPE_I32] = {"I32", 4}, [QZO_DTYPE_U32] = {"U32", 4},
    [QZO_DTYPE_F32] = {"F32", 4},   [QZO_DTYPE_I64] = {"I64", 8}, [QZO_DTYPE_U64] = {"U64", 8},
    [QZO_DTYPE_F64] = {"F64", 8},
};

const char *qzo_dtype_name(qzo_dtype dtype) { return dtypes[dtype].name; }

size_t qzo_dtype_bytes(qzo_dtype dtype) { return dtypes[dtype].bytes; }

bool qzo_dtype_is_float(qzo_dtype dtype) {
    return dtype == QZO_DTYPE_F32 || dtype == QZO_DTYPE_F16 || dtype == QZO_DTYPE_BF16;
}

static qzo_status parse_dtype(qzo_dtype *out, const char *text, const char *file,
                              const char *tensor) {
    for (int i = 0; i < QZO_DTYPE_COUNT; i++) {
        if (strcmp(dtypes[i].name, text) == 0) {
            *out = (qzo_dtype)i;
            return QZO_OK;
        }
    }
    return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: tensor %s: unknown type \"%s\"", file, tensor, text);
}

/* Item index of a list of integers that are not negative. */
static qzo_status item_size(int64_t *out, const json_t *list, size_t index, const char *what,
                            const char *file, const char *tensor) {
    const json_t *item = json_array_get(list, index);
    if (!json_is_integer(item) || json_integer_value(item) < 0)
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: tensor %s: %s[%zu] must be an integer that is not negative", file,
                        tensor, what, index);
    *out = json_integer_value(item);
    return QZO_OK;
}

/* Fills rank, shape, count and size_bytes of view, whose name and type are known. */
static qzo_status parse_shape(qzo_tensor_view *view, const json_t *entry, const char *file) {
    qzo_status status = QZO_OK;
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape))
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: \"shape\" must be a list", file,
                        view->name);
    const size_t rank = json_array_size(shape);
    if (rank > QZO_TENSOR_RANK_MAX)
        return qzo_fail(QZO_ERR_LIMIT, "%s: tensor %s: %zu dimensions, at most %d", file,
                        view->name, rank, QZO_TENSOR_RANK_MAX);
    view->rank = (int)rank;
    view->count = 1;
    for (size_t i = 0; i < rank; i++) {
        QZO_TRY(item_size(&view->shape[i], shape, i, "shape", file, view->name));
        if (__builtin_mul_overflow(view->count, view->shape[i], &view->count)) {
            status =
                qzo_fail(QZO_ERR_LIMIT, "%s: tensor %s: more than 2^63 elements", file, view->name);
            goto cleanup;
        }
    }
    if (__builtin_mul_overflow((uint64_t)view->count, qzo_dtype_bytes(view->dtype),
                               &view->size_bytes))
        status = qzo_fail(QZO_ERR_LIMIT, "%s: tensor %s: more than 2^64 bytes", file, view->name);
cleanup:
    return status;
}

/* Fills data of view and checks its size against the shape's. */
static qzo_status parse_offsets(qzo_tensor_view *view, const json_t *entry,
                                const qzo_safetensors *safetensors, const char *file) {
    qzo_status status = QZO_OK;
    int64_t begin = 0, end = 0;
    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (!json_is_array(offsets) || json_array_size(offsets) != 2)
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: tensor %s: \"data_offsets\" must be a list of two integers", file,
                        view->name);
    QZO_TRY(item_size(&begin, offsets, 0, "data_offsets", file, view->name));
    QZO_TRY(item_size(&end, offsets, 1, "data_offsets", file, view->name));
    if (begin > end || (uint64_t)end > safetensors->payload_bytes)
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: tensor %s: data at [%lld, %lld), but the file holds %zu bytes of data",
                        file, view->name, (long long)begin, (long long)end,
                        safetensors->payload_bytes);
    if ((uint64_t)(end - begin) != view->size_bytes)
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: tensor %s: %lld bytes of data, its type and shape need %zu", file,
                        view->name, (long long)(end - begin), view->size_bytes);
    view->data = safetensors->payload + begin;
cleanup:
    return status;
}

static qzo_status parse_tensor(qzo_tensor_view *view, const char *name, const json_t *entry,
                               const qzo_safetensors *safetensors, const char *file) {
    qzo_status status = QZO_OK;
    const char *type = NULL;
    view->name = name;
    status = qzo_json_string(&type, entry, "dtype", name);
    if (status != QZO_OK) return qzo_fail_context(status, "%s: tensor", file);
    QZO_TRY(parse_dtype(&view->dtype, type, file, name));
    QZO_TRY(parse_shape(view, entry, file));
    QZO_TRY(parse_offsets(view, entry, safetensors, file));
cleanup:
    return status;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(((const qzo_tensor_view *)a)->name, ((const qzo_tensor_view *)b)->name);
}

static int compare_places(const void *a, const void *b) {
    const qzo_tensor_view *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    /* Empty tensors come before the one that starts at the same place. */
    return (x->size_bytes > y->size_bytes) - (x->size_bytes < y->size_bytes);
}

/* The tensors must cover the data exactly: a hole could hide anything, an overlap is a mistake.
 * Sorts the views by place. */
static qzo_status check_cover(qzo_safetensors *safetensors, const char *file) {
    const uint8_t *expected = safetensors->payload;
    qsort(safetensors->views, (size_t)safetensors->count, sizeof *safetensors->views,
          compare_places);
    for (int64_t i = 0; i < safetensors->count; i++) {
        const qzo_tensor_view *view = &safetensors->views[i];
        if (view->data != expected)
            return qzo_fail(QZO_ERR_FORMAT,
                            "%s: tensor %s: data starts at %zu, expected %zu: tensors %s", file,
                            view->name, (size_t)(view->data - safetensors->payload),
                            (size_t)(expected - safetensors->payload),
                            view->data < expected ? "overlap" : "leave a hole");
        expected += view->size_bytes;
    }
    const size_t covered = (size_t)(expected - safetensors->payload);
    if (covered != safetensors->payload_bytes)
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensors cover %zu bytes of data, the file holds %zu",
                        file, covered, safetensors->payload_bytes);
    return QZO_OK;
}

static int compare_strings(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static qzo_status parse_metadata(qzo_safetensors *safetensors, const char *file) {
    json_t *metadata = json_object_get(safetensors->header, "__metadata__");
    const size_t count = json_object_size(metadata); /* 0 for NULL */
    if (metadata != NULL && !json_is_object(metadata))
        return qzo_fail(QZO_ERR_FORMAT, "%s: \"__metadata__\" must be an object", file);
    safetensors->metadata = metadata;
    safetensors->metadata_keys = calloc(count + 1, sizeof *safetensors->metadata_keys);
    if (safetensors->metadata_keys == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for %zu metadata keys", file, count);
    size_t filled = 0;
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value) {
        if (!json_is_string(value))
            return qzo_fail(QZO_ERR_FORMAT, "%s: metadata \"%s\" must be a string", file, key);
        safetensors->metadata_keys[filled++] = key;
    }
    qsort(safetensors->metadata_keys, filled, sizeof *safetensors->metadata_keys, compare_strings);
    return QZO_OK;
}

/* Parses the header's text and places payload. */
static qzo_status parse_header(qzo_safetensors *safetensors, const uint8_t *bytes,
                               size_t size_bytes, const char *file) {
    qzo_status status = QZO_OK;
    if (size_bytes < LENGTH_BYTES)
        return qzo_fail(QZO_ERR_FORMAT, "%s: %zu bytes are too short for a safetensors file", file,
                        size_bytes);
    const uint64_t header_bytes = qzo_get_u64(bytes);
    if (header_bytes > HEADER_BYTES_MAX)
        return qzo_fail(QZO_ERR_LIMIT,
                        "%s: a header of %llu bytes, at most %d: not a safetensors file?", file,
                        (unsigned long long)header_bytes, HEADER_BYTES_MAX);
    if (header_bytes > size_bytes - LENGTH_BYTES)
        return qzo_fail(QZO_ERR_FORMAT, "%s: a header of %llu bytes, but the file ends after %zu",
                        file, (unsigned long long)header_bytes, size_bytes - LENGTH_BYTES);
    const char *text = (const char *)bytes + LENGTH_BYTES;
    if (header_bytes == 0 || text[0] != '{')
        return qzo_fail(QZO_ERR_FORMAT, "%s: the header must start with {", file);
    QZO_TRY(qzo_json_parse(&safetensors->header, text, (size_t)header_bytes, file));
    if (!json_is_object(safetensors->header))
        return qzo_fail(QZO_ERR_FORMAT, "%s: the header must be an object", file);
    safetensors->payload = bytes + LENGTH_BYTES + header_bytes;
    safetensors->payload_bytes = size_bytes - LENGTH_BYTES - (size_t)header_bytes;
cleanup:
    return status;
}

static qzo_status parse_tensors(qzo_safetensors *safetensors, const char *file) {
    qzo_status status = QZO_OK;
    const size_t entries = json_object_size(safetensors->header);
    safetensors->views = calloc(entries + 1, sizeof *safetensors->views);
    if (safetensors->views == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for %zu tensors", file, entries);
    const char *name;
    json_t *entry;
    json_object_foreach(safetensors->header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) continue;
        if (!json_is_object(entry))
            return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: expected an object", file, name);
        QZO_TRY(
            parse_tensor(&safetensors->views[safetensors->count], name, entry, safetensors, file));
        safetensors->count++;
    }
    QZO_TRY(check_cover(safetensors, file));
    qsort(safetensors->views, (size_t)safetensors->count, sizeof *safetensors->views,
          compare_names);
cleanup:
    return status;
}

qzo_status qzo_safetensors_parse(qzo_safetensors **out, const uint8_t *bytes, size_t size_bytes,
                                 const char *name) {
    qzo_status status = QZO_OK;
    *out = NULL;
    qzo_safetensors *safetensors = calloc(1, sizeof *safetensors);
    if (safetensors == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", name);
    QZO_TRY(parse_header(safetensors, bytes, size_bytes, name));
    QZO_TRY(parse_metadata(safetensors, name));
    QZO_TRY(parse_tensors(safetensors, name));
    *out = safetensors;
    safetensors = NULL;
cleanup:
    qzo_safetensors_close(safetensors);
    return status;
}

qzo_status qzo_safetensors_open(qzo_safetensors **out, const char *path) {
    qzo_status status = QZO_OK;
    qzo_file_map map = {0};
    *out = NULL;
    QZO_TRY(qzo_file_map_open(&map, path));
    QZO_TRY(qzo_safetensors_parse(out, map.bytes, map.size_bytes, path));
    (*out)->map = map;
    map = (qzo_file_map){0};
cleanup:
    qzo_file_map_close(&map);
    return status;
}

void qzo_safetensors_close(qzo_safetensors *file) {
    if (file == NULL) return;
    free(file->metadata_keys);
    free(file->views);
    json_decref(file->header);
    qzo_file_map_close(&file->map);
    free(file);
}

int64_t qzo_safetensors_count(const qzo_safetensors *file) { return file->count; }

const qzo_tensor_view *qzo_safetensors_at(const qzo_safetensors *file, int64_t index) {
    QZO_ASSERT(index >= 0 && index < file->count);
    return &file->views[index];
}

const qzo_tensor_view *qzo_safetensors_find(const qzo_safetensors *file, const char *name) {
    const qzo_tensor_view key = {.name = name};
    return bsearch(&key, file->views, (size_t)file->count, sizeof key, compare_names);
}

const char *qzo_safetensors_metadata(const qzo_safetensors *file, const char *key) {
    return json_string_value(json_object_get(file->metadata, key)); /* NULL of NULL */
}

const char *qzo_safetensors_metadata_key(const qzo_safetensors *file, int64_t index) {
    QZO_ASSERT(index >= 0);
    if (index >= (int64_t)json_object_size(file->metadata)) return NULL;
    return file->metadata_keys[index];
}

const uint8_t *qzo_safetensors_payload(const qzo_safetensors *file, size_t *size_bytes) {
    *size_bytes = file->payload_bytes;
    return file->payload;
}

bool qzo_tensor_aligned(const qzo_tensor_view *view) {
    return (uintptr_t)view->data % qzo_dtype_bytes(view->dtype) == 0;
}

float qzo_tensor_float_at(const qzo_tensor_view *view, int64_t index) {
    const uint8_t *at = view->data + (size_t)index * qzo_dtype_bytes(view->dtype);
    if (view->dtype == QZO_DTYPE_F32) return qzo_float_from_bits(qzo_get_u32(at));
    const uint16_t bits = (uint16_t)(at[0] | at[1] << 8);
    QZO_ASSERT(view->dtype == QZO_DTYPE_F16 || view->dtype == QZO_DTYPE_BF16);
    return view->dtype == QZO_DTYPE_F16 ? qzo_fp16_to_float(bits) : qzo_bf16_to_float(bits);
}

bool qzo_tensor_float_put(uint8_t *data, qzo_dtype dtype, int64_t index, float value) {
    uint8_t *at = data + (size_t)index * qzo_dtype_bytes(dtype);
    QZO_ASSERT(qzo_dtype_is_float(dtype));
    if (dtype == QZO_DTYPE_F32) {
        qzo_put_u32(at, qzo_float_bits(value));
        return true;
    }
    const bool is_fp16 = dtype == QZO_DTYPE_F16;
    const uint16_t bits = is_fp16 ? qzo_float_to_fp16(value) : qzo_float_to_bf16(value);
    if (isfinite(value) && !isfinite(is_fp16 ? qzo_fp16_to_float(bits) : qzo_bf16_to_float(bits)))
        return false;
    at[0] = (uint8_t)bits;
    at[1] = (uint8_t)(bits >> 8);
    return true;
}
