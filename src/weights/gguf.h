/* One GGUF file (llama.cpp's format, versions 2 and 3, little-endian): its header checked
 * completely, its tensors borrowed from the mapping.
 *
 * Checked: every length and count against the bytes that are left, types, key names that stand
 * twice, the alignment, tensors that are whole blocks, lie in the file and do not overlap. Names
 * are those of llama.cpp; gguf_model.h has the tensors as a model folder has them. */
#ifndef QZO_WEIGHTS_GGUF_H
#define QZO_WEIGHTS_GGUF_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is read of ggml's tensor types; blocks of gguf_decode.h, or floats, whose block is one. */
typedef enum {
    QZO_GGUF_F32,
    QZO_GGUF_F16,
    QZO_GGUF_BF16,
    QZO_GGUF_Q4_0,
    QZO_GGUF_Q8_0,
    QZO_GGUF_Q4_K,
    QZO_GGUF_Q6_K,
    QZO_GGUF_TYPE_COUNT
} qzo_gguf_type;

typedef struct qzo_gguf_layout {
    const char *name; /* "Q4_0", as llama.cpp spells it */
    uint32_t number;  /* in the file */
    int64_t block;    /* elements */
    int64_t block_bytes;
} qzo_gguf_layout;

extern const qzo_gguf_layout qzo_gguf_layouts[QZO_GGUF_TYPE_COUNT];

enum { QZO_GGUF_RANK_MAX = 4 };

typedef struct qzo_gguf_tensor_info {
    char *name;
    qzo_gguf_type type;
    int rank;
    int64_t shape[QZO_GGUF_RANK_MAX]; /* the last runs fastest: of weights (out, in) */
    const uint8_t *data;
    size_t size_bytes;
} qzo_gguf_tensor_info;

typedef struct qzo_gguf qzo_gguf;

/* Maps and checks the file. The caller closes it; everything is borrowed from it. */
qzo_status qzo_gguf_open(qzo_gguf **out, const char *path);

/* The same over bytes that the caller keeps alive; name stands in messages. */
qzo_status qzo_gguf_parse(qzo_gguf **out, const uint8_t *bytes, size_t size_bytes,
                          const char *name);
void qzo_gguf_close(qzo_gguf *file); /* NULL is fine */

const char *qzo_gguf_name(const qzo_gguf *file);
const uint8_t *qzo_gguf_bytes(const qzo_gguf *file, size_t *size_bytes);

/* Tensors in the order in which they lie in the file. */
int64_t qzo_gguf_count(const qzo_gguf *file);
const qzo_gguf_tensor_info *qzo_gguf_at(const qzo_gguf *file, int64_t index);
const qzo_gguf_tensor_info *qzo_gguf_find(const qzo_gguf *file, const char *name); /* or NULL */

/* Texts of a file are not terminated. */
typedef struct qzo_gguf_text {
    const char *text;
    size_t size_bytes;
} qzo_gguf_text;

/* Key `index` of the metadata; an empty text past the last. */
qzo_gguf_text qzo_gguf_key(const qzo_gguf *file, int64_t index);
bool qzo_gguf_has(const qzo_gguf *file, const char *key);
bool qzo_gguf_text_is(qzo_gguf_text text, const char *wanted);

/* QZO_ERR_FORMAT where the key is missing, of another kind or outside min .. max. */
qzo_status qzo_gguf_int(int64_t *out, const qzo_gguf *file, const char *key, int64_t min,
                        int64_t max);
qzo_status qzo_gguf_number(double *out, const qzo_gguf *file, const char *key);
qzo_status qzo_gguf_string(qzo_gguf_text *out, const qzo_gguf *file, const char *key);

/* A list of texts, read from the first to the last; or of 32-bit integers. */
typedef struct qzo_gguf_list {
    const uint8_t *at; /* of the next text */
    int64_t count;
} qzo_gguf_list;
qzo_status qzo_gguf_strings(qzo_gguf_list *out, const qzo_gguf *file, const char *key);
qzo_gguf_text qzo_gguf_next(qzo_gguf_list *list); /* called at most `count` times */
qzo_status qzo_gguf_ints(qzo_gguf_list *out, const qzo_gguf *file, const char *key);
int32_t qzo_gguf_int_at(const qzo_gguf_list *list, int64_t index);

#endif
