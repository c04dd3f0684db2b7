#include "weights/safetensors_write.h"

#include "base/file_io.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT_BYTES = 8, LENGTH_BYTES = 8 };

static int compare_order(const void *a, const void *b) {
    const qzo_tensor_view *x = *(const qzo_tensor_view *const *)a;
    const qzo_tensor_view *y = *(const qzo_tensor_view *const *)b;
    size_t x_bytes = qzo_dtype_bytes(x->dtype), y_bytes = qzo_dtype_bytes(y->dtype);
    if (x_bytes != y_bytes) return x_bytes > y_bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static json_t *entry_of(const qzo_tensor_view *view, uint64_t begin) {
    json_t *shape = json_array();
    for (int i = 0; i < view->rank; i++) json_array_append_new(shape, json_integer(view->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", qzo_dtype_name(view->dtype), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)(begin + view->size_bytes));
}

static json_t *metadata_copy(const qzo_safetensors *file) {
    json_t *metadata = json_object();
    const char *key;
    for (int64_t i = 0; (key = qzo_safetensors_metadata_key(file, i)) != NULL; i++)
        json_object_set_new(metadata, key, json_string(qzo_safetensors_metadata(file, key)));
    return metadata;
}

/* Length and header, padded with blanks; fresh. */
static qzo_status build_header(uint8_t **out, size_t *size_bytes, const qzo_tensor_view **views,
                               int64_t count, const qzo_safetensors *metadata_of) {
    qzo_status status = QZO_OK;
    uint64_t begin = 0;
    char *text = NULL;
    json_t *header = json_object();
    if (metadata_of != NULL && qzo_safetensors_metadata_key(metadata_of, 0) != NULL)
        json_object_set_new(header, "__metadata__", metadata_copy(metadata_of));
    for (int64_t i = 0; i < count; i++) {
        json_object_set_new(header, views[i]->name, entry_of(views[i], begin));
        begin += views[i]->size_bytes;
    }
    text = json_dumps(header, JSON_COMPACT);
    size_t length = text != NULL ? strlen(text) : 0;
    size_t padded = (length + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
    *size_bytes = LENGTH_BYTES + padded;
    *out = text != NULL ? malloc(*size_bytes) : NULL;
    if (*out == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for the header of %lld tensors",
                          (long long)count);
        goto cleanup;
    }
    qzo_put_u64(*out, padded);
    memset(*out + LENGTH_BYTES, ' ', padded);
    memcpy(*out + LENGTH_BYTES, text, length);
cleanup:
    free(text);
    json_decref(header);
    return status;
}

qzo_status qzo_safetensors_write(const char *path, const qzo_tensor_view **views, int64_t count,
                                 const qzo_safetensors *metadata_of) {
    qzo_status status = QZO_OK;
    uint8_t *header = NULL;
    qzo_file_part *parts = calloc((size_t)count + 1, sizeof *parts);
    if (parts == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    qsort(views, (size_t)count, sizeof *views, compare_order);
    QZO_TRY(build_header(&header, &parts[0].size_bytes, views, count, metadata_of));
    parts[0].bytes = header;
    for (int64_t i = 0; i < count; i++)
        parts[i + 1] = (qzo_file_part){.bytes = views[i]->data, .size_bytes = views[i]->size_bytes};
    QZO_TRY(qzo_file_replace_parts(path, parts, count + 1));
cleanup:
    free(header);
    free(parts);
    return status;
}
