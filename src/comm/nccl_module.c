/* The way from the program to comm_nccl.c, which is part of the CUDA module. */
#include "backend/cuda_module.h"
#include "comm/comm_nccl.h"

qzo_status qzo_comm_nccl_open(qzo_comm **out, qzo_comm *base) {
    const qzo_cuda_module *module = NULL;
    qzo_status status = qzo_cuda_available();
    if (status == QZO_OK) status = qzo_cuda_module_open(&module);
    if (status == QZO_OK && module->comm_open == NULL)
        status = qzo_fail(QZO_ERR_ENVIRONMENT, "this qzo was built without NCCL");
    status = qzo_comm_worst_status(base, status);
    return status == QZO_OK ? module->comm_open(out, base) : status;
}

const char *qzo_comm_nccl_version(void) {
    const qzo_cuda_module *module = NULL;
    if (qzo_cuda_module_open(&module) != QZO_OK || module->comm_version == NULL) return "";
    return module->comm_version();
}
