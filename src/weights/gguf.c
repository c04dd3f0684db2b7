/* The file, all integers little-endian:
 *
 *   "GGUF", u32 version, u64 tensors, u64 keys
 *   per key      text name, u32 kind, value; a text is a u64 length and its bytes, a list a u32
 *                kind, a u64 count and the values
 *   per tensor   text name, u32 rank, u64 sizes (the fastest first), u32 type, u64 offset
 *   padding to general.alignment (32 where it is absent), then the tensors at their offsets */
#include "weights/gguf.h"

#include "base/check.h"
#include "base/file_io.h"
#include "base/file_map.h"
#include "base/host_device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Far above any real file; they bound what a wrong one can ask for. */
enum { KEYS_MAX = 1 << 12, TENSORS_MAX = 1 << 16, NAME_BYTES_MAX = 255, ALIGNMENT_MAX = 1 << 16 };
enum { VERSION_MIN = 2, VERSION_MAX = 3, ALIGNMENT_DEFAULT = 32 };
enum { KEY_BYTES_MIN = 8 + 4 + 1, TENSOR_BYTES_MIN = 8 + 4 + 8 + 4 + 8 };

const qzo_gguf_layout qzo_gguf_layouts[QZO_GGUF_TYPE_COUNT] = {
    [QZO_GGUF_F32] = {"F32", 0, 1, 4},        [QZO_GGUF_F16] = {"F16", 1, 1, 2},
    [QZO_GGUF_BF16] = {"BF16", 30, 1, 2},     [QZO_GGUF_Q4_0] = {"Q4_0", 2, 32, 18},
    [QZO_GGUF_Q8_0] = {"Q8_0", 8, 32, 34},    [QZO_GGUF_Q4_K] = {"Q4_K", 12, 256, 144},
    [QZO_GGUF_Q6_K] = {"Q6_K", 14, 256, 210},
};

/* Names of the other types that files have, for messages. */
static const char *const other_types[] = {
    [3] = "Q4_1",     [6] = "Q5_0",   [7] = "Q5_1",    [9] = "Q8_1",     [10] = "Q2_K",
    [11] = "Q3_K",    [13] = "Q5_K",  [15] = "Q8_K",   [16] = "IQ2_XXS", [17] = "IQ2_XS",
    [18] = "IQ3_XXS", [19] = "IQ1_S", [20] = "IQ4_NL", [21] = "IQ3_S",   [22] = "IQ2_S",
    [23] = "IQ4_XS",  [24] = "I8",    [25] = "I16",    [26] = "I32",     [27] = "I64",
    [28] = "F64",     [29] = "IQ1_M", [34] = "TQ1_0",  [35] = "TQ2_0",   [39] = "MXFP4",
};

typedef enum {
    KIND_U8,
    KIND_I8,
    KIND_U16,
    KIND_I16,
    KIND_U32,
    KIND_I32,
    KIND_F32,
    KIND_BOOL,
    KIND_TEXT,
    KIND_LIST,
    KIND_U64,
    KIND_I64,
    KIND_F64,
    KIND_COUNT
} value_kind;

static const size_t kind_bytes[KIND_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

typedef struct key_value {
    qzo_gguf_text key;
    value_kind kind;
    value_kind item_kind; /* of a list */
    int64_t count;        /* of a list */
    const uint8_t *data;  /* of a text: its length */
} key_value;

struct qzo_gguf {
    qzo_file_map map;
    char *name;
    const uint8_t *bytes;
    size_t size_bytes;
    key_value *keys;
    int64_t key_count;
    qzo_gguf_tensor_info *tensors;
    int64_t tensor_count;
};

/* --- reading --- */

typedef struct cursor {
    const uint8_t *at;
    size_t left;
    const char *name; /* of the file */
} cursor;

static qzo_status take(const uint8_t **out, cursor *c, uint64_t size_bytes, const char *what) {
    if (size_bytes > c->left)
        return qzo_fail(QZO_ERR_FORMAT, "%s: cut off: %s takes %llu bytes, %zu are left", c->name,
                        what, (unsigned long long)size_bytes, c->left);
    *out = c->at;
    c->at += size_bytes;
    c->left -= (size_t)size_bytes;
    return QZO_OK;
}

static qzo_status take_u32(uint32_t *out, cursor *c, const char *what) {
    const uint8_t *at = NULL;
    qzo_status status = take(&at, c, sizeof *out, what);
    if (status == QZO_OK) *out = qzo_get_u32(at);
    return status;
}

static qzo_status take_u64(uint64_t *out, cursor *c, const char *what) {
    const uint8_t *at = NULL;
    qzo_status status = take(&at, c, sizeof *out, what);
    if (status == QZO_OK) *out = qzo_get_u64(at);
    return status;
}

static qzo_status take_text(qzo_gguf_text *out, cursor *c, const char *what) {
    uint64_t length = 0;
    const uint8_t *at = NULL;
    qzo_status status = take_u64(&length, c, what);
    if (status == QZO_OK) status = take(&at, c, length, what);
    if (status == QZO_OK)
        *out = (qzo_gguf_text){.text = (const char *)at, .size_bytes = (size_t)length};
    return status;
}

/* A name: short, and text up to its end. */
static qzo_status take_name(qzo_gguf_text *out, cursor *c, const char *what) {
    qzo_status status = take_text(out, c, what);
    if (status != QZO_OK) return status;
    if (out->size_bytes == 0 || out->size_bytes > NAME_BYTES_MAX ||
        memchr(out->text, 0, out->size_bytes) != NULL)
        return qzo_fail(QZO_ERR_FORMAT, "%s: %s of %zu bytes, expected a text of 1 to %d", c->name,
                        what, out->size_bytes, NAME_BYTES_MAX);
    return QZO_OK;
}

/* A count of things that take at least item_bytes each. */
static qzo_status take_count(int64_t *out, cursor *c, size_t item_bytes, uint64_t max,
                             const char *what) {
    uint64_t count = 0;
    qzo_status status = take_u64(&count, c, what);
    if (status != QZO_OK) return status;
    if (count > max)
        return qzo_fail(QZO_ERR_LIMIT, "%s: %llu %s, at most %llu", c->name,
                        (unsigned long long)count, what, (unsigned long long)max);
    *out = (int64_t)count;
    if (count > c->left / item_bytes)
        return qzo_fail(QZO_ERR_FORMAT, "%s: cut off: %llu %s in the %zu bytes that are left",
                        c->name, (unsigned long long)count, what, c->left);
    return QZO_OK;
}

/* --- keys --- */

bool qzo_gguf_text_is(qzo_gguf_text text, const char *wanted) {
    return text.size_bytes == strlen(wanted) && memcmp(text.text, wanted, text.size_bytes) == 0;
}

static qzo_status take_kind(value_kind *out, cursor *c, const char *what) {
    uint32_t kind = 0;
    qzo_status status = take_u32(&kind, c, what);
    if (status == QZO_OK && kind >= KIND_COUNT)
        return qzo_fail(QZO_ERR_FORMAT, "%s: %s %u, expected one below %d", c->name, what, kind,
                        KIND_COUNT);
    *out = (value_kind)kind;
    return status;
}

static qzo_status take_list(key_value *out, cursor *c) {
    qzo_status status = QZO_OK;
    QZO_TRY(take_kind(&out->item_kind, c, "the kind of a list's values"));
    if (out->item_kind == KIND_LIST)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: key %.*s is a list of lists", c->name,
                        (int)out->key.size_bytes, out->key.text);
    bool is_text = out->item_kind == KIND_TEXT;
    size_t item_bytes = is_text ? sizeof(uint64_t) : kind_bytes[out->item_kind];
    QZO_TRY(take_count(&out->count, c, item_bytes, INT64_MAX, "values of a list"));
    out->data = c->at;
    if (!is_text) {
        QZO_TRY(take(&out->data, c, (uint64_t)out->count * item_bytes, "a list"));
        return QZO_OK;
    }
    for (int64_t i = 0; i < out->count; i++) {
        qzo_gguf_text text;
        QZO_TRY(take_text(&text, c, "a text of a list"));
    }
cleanup:
    return status;
}

static qzo_status take_key(key_value *out, cursor *c) {
    qzo_status status = QZO_OK;
    qzo_gguf_text text;
    QZO_TRY(take_name(&out->key, c, "a key"));
    QZO_TRY(take_kind(&out->kind, c, "the kind of a value"));
    out->data = c->at;
    if (out->kind == KIND_LIST)
        QZO_TRY(take_list(out, c));
    else if (out->kind == KIND_TEXT)
        QZO_TRY(take_text(&text, c, "a value"));
    else
        QZO_TRY(take(&out->data, c, kind_bytes[out->kind], "a value"));
cleanup:
    return status;
}

static const key_value *find_key(const qzo_gguf *file, qzo_gguf_text key) {
    for (int64_t i = 0; i < file->key_count; i++)
        if (file->keys[i].key.size_bytes == key.size_bytes &&
            memcmp(file->keys[i].key.text, key.text, key.size_bytes) == 0)
            return &file->keys[i];
    return NULL;
}

static const key_value *find_named(const qzo_gguf *file, const char *key) {
    return find_key(file, (qzo_gguf_text){.text = key, .size_bytes = strlen(key)});
}

static qzo_status read_keys(qzo_gguf *file, cursor *c, int64_t count) {
    file->keys = calloc((size_t)count + 1, sizeof *file->keys);
    if (file->keys == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for %lld keys", c->name,
                        (long long)count);
    for (int64_t i = 0; i < count; i++) {
        key_value *added = &file->keys[i];
        qzo_status status = take_key(added, c);
        if (status != QZO_OK) return status;
        if (find_key(file, added->key) != NULL)
            return qzo_fail(QZO_ERR_FORMAT, "%s: key %.*s stands twice", c->name,
                            (int)added->key.size_bytes, added->key.text);
        file->key_count++;
    }
    return QZO_OK;
}

/* --- tensors --- */

static qzo_status take_type(qzo_gguf_type *out, cursor *c, const char *tensor) {
    uint32_t number = 0;
    qzo_status status = take_u32(&number, c, "a tensor's type");
    if (status != QZO_OK) return status;
    for (int type = 0; type < QZO_GGUF_TYPE_COUNT; type++)
        if (qzo_gguf_layouts[type].number == number) {
            *out = (qzo_gguf_type)type;
            return QZO_OK;
        }
    const char *other =
        number < sizeof other_types / sizeof *other_types ? other_types[number] : NULL;
    return qzo_fail(QZO_ERR_UNSUPPORTED,
                    "%s: tensor %s is of type %s (%u), expected F32, F16, BF16, Q4_0, Q8_0, Q4_K "
                    "or Q6_K",
                    c->name, tensor, other != NULL ? other : "unknown", number);
}

/* Sizes, and how many bytes they make; the file has the fastest first. */
static qzo_status take_shape(qzo_gguf_tensor_info *out, cursor *c) {
    uint32_t rank = 0;
    uint64_t sizes[QZO_GGUF_RANK_MAX] = {0}, count = 1;
    qzo_status status = take_u32(&rank, c, "a tensor's rank");
    if (status != QZO_OK) return status;
    if (rank < 1 || rank > QZO_GGUF_RANK_MAX)
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: rank %u, expected 1 to %d", c->name,
                        out->name, rank, QZO_GGUF_RANK_MAX);
    for (uint32_t i = 0; i < rank; i++) {
        status = take_u64(&sizes[i], c, "a tensor's size");
        if (status != QZO_OK) return status;
        if (sizes[i] == 0 || __builtin_mul_overflow(count, sizes[i], &count) ||
            count > INT64_MAX / 8)
            return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: size %u is %llu: empty or too large",
                            c->name, out->name, i, (unsigned long long)sizes[i]);
        out->shape[rank - 1 - i] = (int64_t)sizes[i];
    }
    out->rank = (int)rank;
    status = take_type(&out->type, c, out->name);
    if (status != QZO_OK) return status;
    const qzo_gguf_layout *layout = &qzo_gguf_layouts[out->type];
    if (sizes[0] % (uint64_t)layout->block != 0)
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: rows of %llu are no whole blocks of %lld",
                        c->name, out->name, (unsigned long long)sizes[0], (long long)layout->block);
    out->size_bytes = (size_t)(count / (uint64_t)layout->block) * (size_t)layout->block_bytes;
    return QZO_OK;
}

/* Until all are read, `data` holds the offset. */
static qzo_status take_tensor(qzo_gguf_tensor_info *out, uint64_t *offset, cursor *c) {
    qzo_status status = QZO_OK;
    qzo_gguf_text name;
    QZO_TRY(take_name(&name, c, "a tensor's name"));
    out->name = strndup(name.text, name.size_bytes);
    if (out->name == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", c->name);
    QZO_TRY(take_shape(out, c));
    QZO_TRY(take_u64(offset, c, "a tensor's offset"));
cleanup:
    return status;
}

static int compare_places(const void *a, const void *b) {
    const qzo_gguf_tensor_info *x = a, *y = b;
    return x->data < y->data ? -1 : x->data > y->data;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static qzo_status check_names(const qzo_gguf *file) {
    qzo_status status = QZO_OK;
    const char **names = calloc((size_t)file->tensor_count + 1, sizeof(const char *));
    if (names == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", file->name);
    for (int64_t i = 0; i < file->tensor_count; i++) names[i] = file->tensors[i].name;
    qsort(names, (size_t)file->tensor_count, sizeof(const char *), compare_names);
    for (int64_t i = 1; i < file->tensor_count && status == QZO_OK; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            status = qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s stands twice", file->name, names[i]);
    free(names);
    return status;
}

static qzo_status check_overlap(const qzo_gguf *file) {
    for (int64_t i = 1; i < file->tensor_count; i++) {
        const qzo_gguf_tensor_info *before = &file->tensors[i - 1], *here = &file->tensors[i];
        if (before->data + before->size_bytes > here->data)
            return qzo_fail(QZO_ERR_FORMAT, "%s: tensors %s and %s overlap", file->name,
                            before->name, here->name);
    }
    return QZO_OK;
}

/* c stands behind the header; the data begins at the next multiple of the alignment. */
static qzo_status place_tensors(qzo_gguf *file, cursor *c, const uint64_t *offsets) {
    qzo_status status = QZO_OK;
    int64_t alignment = ALIGNMENT_DEFAULT;
    const uint8_t *padding = NULL;
    if (qzo_gguf_has(file, "general.alignment"))
        QZO_TRY(qzo_gguf_int(&alignment, file, "general.alignment", 8, ALIGNMENT_MAX));
    if ((alignment & (alignment - 1)) != 0)
        return qzo_fail(QZO_ERR_FORMAT, "%s: general.alignment is %lld, expected a power of two",
                        c->name, (long long)alignment);
    size_t past = (size_t)(c->at - file->bytes) % (size_t)alignment;
    if (past > 0 && file->tensor_count > 0)
        QZO_TRY(take(&padding, c, (size_t)alignment - past, "the padding behind the header"));
    for (int64_t i = 0; i < file->tensor_count; i++) {
        qzo_gguf_tensor_info *tensor = &file->tensors[i];
        if (offsets[i] % (uint64_t)alignment != 0)
            return qzo_fail(QZO_ERR_FORMAT, "%s: tensor %s: offset %llu is no multiple of %lld",
                            c->name, tensor->name, (unsigned long long)offsets[i],
                            (long long)alignment);
        if (offsets[i] > c->left || tensor->size_bytes > c->left - offsets[i])
            return qzo_fail(QZO_ERR_FORMAT,
                            "%s: cut off: tensor %s takes %zu bytes from %llu on, there are %zu",
                            c->name, tensor->name, tensor->size_bytes,
                            (unsigned long long)offsets[i], c->left);
        tensor->data = c->at + offsets[i];
    }
    qsort(file->tensors, (size_t)file->tensor_count, sizeof *file->tensors, compare_places);
    QZO_TRY(check_overlap(file));
cleanup:
    return status;
}

static qzo_status read_tensors(qzo_gguf *file, cursor *c, int64_t count) {
    qzo_status status = QZO_OK;
    uint64_t *offsets = calloc((size_t)count + 1, sizeof *offsets);
    file->tensors = calloc((size_t)count + 1, sizeof *file->tensors);
    if (offsets == NULL || file->tensors == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for %lld tensors", c->name,
                          (long long)count);
        goto cleanup;
    }
    file->tensor_count = count;
    for (int64_t i = 0; i < count; i++) QZO_TRY(take_tensor(&file->tensors[i], &offsets[i], c));
    QZO_TRY(check_names(file));
    QZO_TRY(place_tensors(file, c, offsets));
cleanup:
    free(offsets);
    return status;
}

/* --- the file --- */

static qzo_status read_version(cursor *c) {
    uint32_t version = 0;
    const uint8_t *magic = NULL;
    qzo_status status = take(&magic, c, 4, "the magic number");
    if (status == QZO_OK && memcmp(magic, "GGUF", 4) != 0)
        return qzo_fail(QZO_ERR_FORMAT, "%s: not a GGUF file", c->name);
    if (status == QZO_OK) status = take_u32(&version, c, "the version");
    if (status != QZO_OK || (version >= VERSION_MIN && version <= VERSION_MAX)) return status;
    if (version != 0 && version % 65536 == 0)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: a big-endian GGUF file", c->name);
    return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: GGUF version %u, expected %d or %d", c->name, version,
                    VERSION_MIN, VERSION_MAX);
}

qzo_status qzo_gguf_parse(qzo_gguf **out, const uint8_t *bytes, size_t size_bytes,
                          const char *name) {
    qzo_status status = QZO_OK;
    int64_t tensor_count = 0, key_count = 0;
    cursor c = {.at = bytes, .left = size_bytes, .name = name};
    *out = NULL;
    qzo_gguf *file = calloc(1, sizeof *file);
    if (file == NULL || (file->name = strdup(name)) == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", name);
        goto cleanup;
    }
    file->bytes = bytes;
    file->size_bytes = size_bytes;
    QZO_TRY(read_version(&c));
    QZO_TRY(take_count(&tensor_count, &c, TENSOR_BYTES_MIN, TENSORS_MAX, "tensors"));
    QZO_TRY(take_count(&key_count, &c, KEY_BYTES_MIN, KEYS_MAX, "keys"));
    QZO_TRY(read_keys(file, &c, key_count));
    QZO_TRY(read_tensors(file, &c, tensor_count));
    *out = file;
    file = NULL;
cleanup:
    qzo_gguf_close(file);
    return status;
}

qzo_status qzo_gguf_open(qzo_gguf **out, const char *path) {
    qzo_status status = QZO_OK;
    qzo_file_map map = {0};
    *out = NULL;
    QZO_TRY(qzo_file_map_open(&map, path));
    QZO_TRY(qzo_gguf_parse(out, map.bytes, map.size_bytes, path));
    (*out)->map = map;
    map = (qzo_file_map){0};
cleanup:
    qzo_file_map_close(&map);
    return status;
}

void qzo_gguf_close(qzo_gguf *file) {
    if (file == NULL) return;
    for (int64_t i = 0; i < file->tensor_count; i++) free(file->tensors[i].name);
    free(file->tensors);
    free(file->keys);
    free(file->name);
    qzo_file_map_close(&file->map);
    free(file);
}

const char *qzo_gguf_name(const qzo_gguf *file) { return file->name; }

const uint8_t *qzo_gguf_bytes(const qzo_gguf *file, size_t *size_bytes) {
    *size_bytes = file->size_bytes;
    return file->bytes;
}

int64_t qzo_gguf_count(const qzo_gguf *file) { return file->tensor_count; }

const qzo_gguf_tensor_info *qzo_gguf_at(const qzo_gguf *file, int64_t index) {
    QZO_ASSERT(index >= 0 && index < file->tensor_count);
    return &file->tensors[index];
}

const qzo_gguf_tensor_info *qzo_gguf_find(const qzo_gguf *file, const char *name) {
    for (int64_t i = 0; i < file->tensor_count; i++)
        if (strcmp(file->tensors[i].name, name) == 0) return &file->tensors[i];
    return NULL;
}

/* --- values --- */

qzo_gguf_text qzo_gguf_key(const qzo_gguf *file, int64_t index) {
    QZO_ASSERT(index >= 0);
    return index < file->key_count ? file->keys[index].key : (qzo_gguf_text){.text = ""};
}

bool qzo_gguf_has(const qzo_gguf *file, const char *key) { return find_named(file, key) != NULL; }

static qzo_status require(const key_value **out, const qzo_gguf *file, const char *key) {
    *out = find_named(file, key);
    if (*out != NULL) return QZO_OK;
    return qzo_fail(QZO_ERR_FORMAT, "%s: key %s is missing", file->name, key);
}

static qzo_status fail_kind(const qzo_gguf *file, const char *key, const char *expected) {
    return qzo_fail(QZO_ERR_FORMAT, "%s: key %s: expected %s", file->name, key, expected);
}

/* The integer of a value; false where it is none, or above INT64_MAX. */
static bool integer_of(int64_t *out, const key_value *value) {
    const uint8_t *at = value->data;
    switch (value->kind) {
    case KIND_U8:
    case KIND_BOOL: *out = at[0]; return true;
    case KIND_I8: *out = (int8_t)at[0]; return true;
    case KIND_U16: *out = at[0] | at[1] << 8; return true;
    case KIND_I16: *out = (int16_t)(at[0] | at[1] << 8); return true;
    case KIND_U32: *out = qzo_get_u32(at); return true;
    case KIND_I32: *out = (int32_t)qzo_get_u32(at); return true;
    case KIND_I64:
    case KIND_U64: *out = (int64_t)qzo_get_u64(at); return value->kind == KIND_I64 || *out >= 0;
    default: return false;
    }
}

qzo_status qzo_gguf_int(int64_t *out, const qzo_gguf *file, const char *key, int64_t min,
                        int64_t max) {
    const key_value *value = NULL;
    int64_t found = 0;
    qzo_status status = require(&value, file, key);
    if (status != QZO_OK) return status;
    if (!integer_of(&found, value)) return fail_kind(file, key, "an integer");
    if (found < min || found > max)
        return qzo_fail(QZO_ERR_FORMAT, "%s: key %s is %lld, expected %lld to %lld", file->name,
                        key, (long long)found, (long long)min, (long long)max);
    *out = found;
    return QZO_OK;
}

qzo_status qzo_gguf_number(double *out, const qzo_gguf *file, const char *key) {
    const key_value *value = NULL;
    qzo_status status = require(&value, file, key);
    if (status != QZO_OK) return status;
    if (value->kind == KIND_F32) {
        *out = (double)qzo_float_from_bits(qzo_get_u32(value->data));
    } else if (value->kind == KIND_F64) {
        uint64_t bits = qzo_get_u64(value->data);
        memcpy(out, &bits, sizeof bits);
    } else {
        return fail_kind(file, key, "a float");
    }
    return isfinite(*out) ? QZO_OK : fail_kind(file, key, "a finite number");
}

qzo_status qzo_gguf_string(qzo_gguf_text *out, const qzo_gguf *file, const char *key) {
    const key_value *value = NULL;
    qzo_status status = require(&value, file, key);
    if (status != QZO_OK) return status;
    if (value->kind != KIND_TEXT) return fail_kind(file, key, "a text");
    qzo_gguf_list one = {.at = value->data, .count = 1};
    *out = qzo_gguf_next(&one);
    return QZO_OK;
}

qzo_status qzo_gguf_strings(qzo_gguf_list *out, const qzo_gguf *file, const char *key) {
    const key_value *value = NULL;
    qzo_status status = require(&value, file, key);
    if (status != QZO_OK) return status;
    if (value->kind != KIND_LIST || value->item_kind != KIND_TEXT)
        return fail_kind(file, key, "a list of texts");
    *out = (qzo_gguf_list){.at = value->data, .count = value->count};
    return QZO_OK;
}

qzo_gguf_text qzo_gguf_next(qzo_gguf_list *list) {
    QZO_ASSERT(list->count > 0);
    size_t length = (size_t)qzo_get_u64(list->at); /* checked when the file was read */
    qzo_gguf_text text = {.text = (const char *)list->at + sizeof(uint64_t), .size_bytes = length};
    list->at += sizeof(uint64_t) + length;
    list->count--;
    return text;
}

qzo_status qzo_gguf_ints(qzo_gguf_list *out, const qzo_gguf *file, const char *key) {
    const key_value *value = NULL;
    qzo_status status = require(&value, file, key);
    if (status != QZO_OK) return status;
    if (value->kind != KIND_LIST || (value->item_kind != KIND_I32 && value->item_kind != KIND_U32))
        return fail_kind(file, key, "a list of integers");
    *out = (qzo_gguf_list){.at = value->data, .count = value->count};
    return QZO_OK;
}

int32_t qzo_gguf_int_at(const qzo_gguf_list *list, int64_t index) {
    QZO_ASSERT(index >= 0 && index < list->count);
    return (int32_t)qzo_get_u32(list->at + 4 * (size_t)index);
}
