/* YAML text to a tree that remembers the place of every node. It reads the plain part of YAML that
 * a sweep file needs: mappings, sequences, scalars, comments. Anchors, aliases, merge keys, tags
 * and a second document are refused, with their place: nothing here can grow larger than its text.
 */
#ifndef QZO_SWEEP_YAML_TREE_H
#define QZO_SWEEP_YAML_TREE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QZO_YAML_DEPTH_MAX = 8, QZO_YAML_BYTES_MAX = 1 << 20 };

typedef enum { QZO_YAML_SCALAR, QZO_YAML_SEQUENCE, QZO_YAML_MAPPING } qzo_yaml_kind;

typedef struct qzo_yaml_node {
    qzo_yaml_kind kind;
    bool is_plain; /* a scalar without quotes or block mark: it may be a number */
    char *text;    /* of a scalar, else NULL; holds no NUL */
    int64_t line;  /* of the first character, from 1 */
    int64_t column;
    struct qzo_yaml_node *first; /* children; a mapping's stand as key, value, key, value */
    struct qzo_yaml_node *next;  /* sibling */
} qzo_yaml_node;

/* name stands in messages, which read "NAME:LINE:COLUMN: ...". A text without a document gives a
 * NULL tree and QZO_OK. */
qzo_status qzo_yaml_parse(qzo_yaml_node **out, const char *text, size_t text_bytes,
                          const char *name);
void qzo_yaml_free(qzo_yaml_node *node); /* NULL is fine */

#endif
