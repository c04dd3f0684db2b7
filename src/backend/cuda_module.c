#include "backend/cuda_module.h"

#include "backend/cuda_sizes.h"
#include "base/digest.h"

#include <dlfcn.h>

#define DRIVER_FILE "libcuda.so.1"

/* What the module uses of the program: named here so that every program that can load the module
 * also holds it, whatever else it links. */
typedef void module_need(void);
const void *const qzo_cuda_module_needs[] = {
    &qzo_cuda_fixed_bytes,
    &qzo_cuda_library_memory,
};
module_need *const qzo_cuda_module_calls[] = {
    (module_need *)qzo_fail,
    (module_need *)qzo_fail_context,
    (module_need *)qzo_dtype_name,
    (module_need *)qzo_checksum,
    (module_need *)qzo_error_trace,
    (module_need *)qzo_noise_fill,
    (module_need *)qzo_ledger_add,
    (module_need *)qzo_ledger_remove,
    (module_need *)qzo_ledger_release,
    (module_need *)qzo_memory_use_fill,
    (module_need *)qzo_cuda_layout_of,
    (module_need *)qzo_cuda_check_heads,
    (module_need *)qzo_cuda_tile_bytes,
};

static const char *last_dl_error(void) {
    const char *text = dlerror();
    return text != NULL ? text : "no reason given";
}

qzo_status qzo_cuda_module_open(const qzo_cuda_module **out) {
    static const qzo_cuda_module *loaded;
    if (loaded == NULL) {
        void *library = dlopen(QZO_CUDA_MODULE_FILE, RTLD_NOW | RTLD_LOCAL);
        if (library == NULL)
            return qzo_fail(QZO_ERR_ENVIRONMENT, "the CUDA module does not load: %s",
                            last_dl_error());
        const qzo_cuda_module *module = dlsym(library, QZO_CUDA_MODULE_SYMBOL);
        if (module == NULL || module->version != QZO_CUDA_MODULE_VERSION ||
            module->ops_bytes != sizeof(qzo_backend_ops)) {
            dlclose(library);
            return qzo_fail(QZO_ERR_ENVIRONMENT, "%s belongs to another build of qzo",
                            QZO_CUDA_MODULE_FILE);
        }
        loaded = module;
    }
    *out = loaded;
    return QZO_OK;
}

qzo_status qzo_cuda_available(void) {
    const qzo_cuda_module *module = NULL;
    int count = 0;
    /* The driver comes first: without one, the module's libraries would be loaded for nothing. */
    if (dlopen(DRIVER_FILE, RTLD_LAZY | RTLD_LOCAL) == NULL)
        return qzo_fail(QZO_ERR_ENVIRONMENT, "no NVIDIA driver: %s", last_dl_error());
    qzo_status status = qzo_cuda_module_open(&module);
    return status == QZO_OK ? module->device_count(&count) : status;
}

static qzo_status open_backend(qzo_backend **out, const qzo_backend_options *options,
                               bool is_bf16) {
    const qzo_cuda_module *module = NULL;
    qzo_status status = qzo_cuda_available();
#if !defined(QZO_HAVE_CUDA)
    if (status != QZO_OK)
        return qzo_fail(QZO_ERR_ENVIRONMENT,
                        "this qzo was built without CUDA: build it where cmake finds nvcc");
#endif
    if (status == QZO_OK) status = qzo_cuda_module_open(&module);
    return status == QZO_OK ? module->backend_open(out, options, is_bf16) : status;
}

qzo_status qzo_backend_cuda_open(qzo_backend **out, const qzo_backend_options *options) {
    return open_backend(out, options, false);
}

qzo_status qzo_backend_cuda_bf16_open(qzo_backend **out, const qzo_backend_options *options) {
    return open_backend(out, options, true);
}
