/* Tensors that take the place of a model folder's, or leave it: what an export writes. Formats add
 * to it (quant.h, write_values); qzo_model_dir_write carries it out. */
#ifndef QZO_WEIGHTS_TENSOR_CHANGES_H
#define QZO_WEIGHTS_TENSOR_CHANGES_H

#include "base/status.h"
#include "weights/safetensors.h"

#include <stdint.h>

/* Zeroed: no change. */
typedef struct qzo_tensor_changes {
    qzo_tensor_view *views; /* names and data are owned; data NULL: the tensor leaves */
    int64_t count, capacity;
} qzo_tensor_changes;

/* view->data comes from malloc and is taken over, also on failure; the name is copied. A view
 * without data (NULL) takes the tensor of that name out. size_bytes and count follow from the
 * type and the shape. */
qzo_status qzo_tensor_changes_put(qzo_tensor_changes *changes, const qzo_tensor_view *view);

/* The change of that name; NULL where there is none. */
const qzo_tensor_view *qzo_tensor_changes_find(const qzo_tensor_changes *changes, const char *name);

void qzo_tensor_changes_release(qzo_tensor_changes *changes); /* safe on a zeroed one */

#endif
