/* Writes a safetensors file. Tensors lie in descending order of their types' sizes, then of names,
 * as the format's own library writes them, and begin at a multiple of 8 bytes: all are aligned. */
#ifndef QZO_WEIGHTS_SAFETENSORS_WRITE_H
#define QZO_WEIGHTS_SAFETENSORS_WRITE_H

#include "base/status.h"
#include "weights/safetensors.h"

#include <stdint.h>

/* views (count): sorted in place. metadata_of: the file whose __metadata__ is kept, or NULL. The
 * file appears whole or not at all. */
qzo_status qzo_safetensors_write(const char *path, const qzo_tensor_view **views, int64_t count,
                                 const qzo_safetensors *metadata_of);

#endif
