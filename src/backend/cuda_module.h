/* The CUDA module: libqzo_cuda.so, which holds all code that needs CUDA, cuBLAS or NCCL. The
 * program links none of them and loads the module only where a driver is there, so that it starts
 * anywhere and CPU ranks do not pay for it. The module uses the program's own qzo_fail and the
 * like, so messages arrive where callers look for them; programs are linked with exported symbols
 * for that. */
#ifndef QZO_BACKEND_CUDA_MODULE_H
#define QZO_BACKEND_CUDA_MODULE_H

#include "backend/backend.h"

struct qzo_comm;

#define QZO_CUDA_MODULE_FILE    "libqzo_cuda.so"
#define QZO_CUDA_MODULE_SYMBOL  "qzo_cuda_module_table"

/* Changes with this struct. */
#define QZO_CUDA_MODULE_VERSION 3u

typedef struct qzo_cuda_module {
    uint32_t version;
    uint32_t ops_bytes; /* sizeof(qzo_backend_ops): tells a module of another build */
    /* QZO_ERR_ENVIRONMENT where there is no device; *count is then 0. */
    qzo_status (*device_count)(int *count);
    /* is_bf16: activations and decoded weights are bf16, else fp16 */
    qzo_status (*backend_open)(qzo_backend **out, const qzo_backend_options *options, bool is_bf16);
    /* comm/comm_nccl.h; both NULL in a build without NCCL */
    qzo_status (*comm_open)(struct qzo_comm **out, struct qzo_comm *base);
    const char *(*comm_version)(void);
} qzo_cuda_module;

/* The module alone, also without a driver. Loaded once and never unloaded. QZO_ERR_ENVIRONMENT
 * where it is not there, needs a library that is not there, or belongs to another build. */
qzo_status qzo_cuda_module_open(const qzo_cuda_module **out);

/* Whether this machine has a driver and a device; the message says what is missing. */
qzo_status qzo_cuda_available(void);

/* For qzo_backends. Ranks of a host take its devices in turn. */
qzo_status qzo_backend_cuda_open(qzo_backend **out, const qzo_backend_options *options);
qzo_status qzo_backend_cuda_bf16_open(qzo_backend **out, const qzo_backend_options *options);

#endif
