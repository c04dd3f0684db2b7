/* One safetensors file: its header checked completely, its tensors borrowed from the mapping.
 *
 * Checked: the header's length, JSON without duplicate keys, known types, shapes whose product
 * fits, data offsets that lie in the file, cover it without a hole, and do not overlap. Data may be
 * unaligned (the format allows it): read it with memcpy, or ask qzo_tensor_aligned. */
#ifndef QZO_WEIGHTS_SAFETENSORS_H
#define QZO_WEIGHTS_SAFETENSORS_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    QZO_DTYPE_BOOL,
    QZO_DTYPE_U8,
    QZO_DTYPE_I8,
    QZO_DTYPE_I16,
    QZO_DTYPE_U16,
    QZO_DTYPE_F16,
    QZO_DTYPE_BF16,
    QZO_DTYPE_I32,
    QZO_DTYPE_U32,
    QZO_DTYPE_F32,
    QZO_DTYPE_I64,
    QZO_DTYPE_U64,
    QZO_DTYPE_F64,
    QZO_DTYPE_COUNT
} qzo_dtype;

/* "F16" and the like, as the format spells it. */
const char *qzo_dtype_name(qzo_dtype dtype);
size_t qzo_dtype_bytes(qzo_dtype dtype);
bool qzo_dtype_is_float(qzo_dtype dtype); /* F32, F16 or BF16 */

enum { QZO_TENSOR_RANK_MAX = 8 };

typedef struct qzo_tensor_view {
    const char *name;
    qzo_dtype dtype;
    int rank;
    int64_t shape[QZO_TENSOR_RANK_MAX];
    int64_t count; /* product of the shape */
    const uint8_t *data;
    size_t size_bytes;
} qzo_tensor_view;

typedef struct qzo_safetensors qzo_safetensors;

/* Maps and checks the file. The caller closes it; every view and string is borrowed from it. */
qzo_status qzo_safetensors_open(qzo_safetensors **out, const char *path);

/* The same over bytes that the caller keeps alive; name stands in messages. */
qzo_status qzo_safetensors_parse(qzo_safetensors **out, const uint8_t *bytes, size_t size_bytes,
                                 const char *name);

void qzo_safetensors_close(qzo_safetensors *file); /* NULL is fine */

/* Tensors in ascending order of their names. */
int64_t qzo_safetensors_count(const qzo_safetensors *file);
const qzo_tensor_view *qzo_safetensors_at(const qzo_safetensors *file, int64_t index);

/* NULL where there is none of that name. */
const qzo_tensor_view *qzo_safetensors_find(const qzo_safetensors *file, const char *name);

/* A value of __metadata__, NULL where there is none. */
const char *qzo_safetensors_metadata(const qzo_safetensors *file, const char *key);

/* The keys of __metadata__ in ascending order; NULL past the last. */
const char *qzo_safetensors_metadata_key(const qzo_safetensors *file, int64_t index);

/* All bytes after the header. */
const uint8_t *qzo_safetensors_payload(const qzo_safetensors *file, size_t *size_bytes);

/* Whether the view's data is aligned for its type and may be read through a typed pointer. */
bool qzo_tensor_aligned(const qzo_tensor_view *view);

/* One element of a floating-point view (F32, F16, BF16) as fp32; any alignment. */
float qzo_tensor_float_at(const qzo_tensor_view *view, int64_t index);

/* Its inverse: rounds value to nearest even and stores it at element index of data. False, and
 * nothing stored, where a finite value would become infinite. */
bool qzo_tensor_float_put(uint8_t *data, qzo_dtype dtype, int64_t index, float value);

#endif
