#include "base/json.h"
#include "model/arch.h"

#include <stdio.h>
#include <string.h>

const qzo_arch *const qzo_archs[] = {&qzo_arch_llama, &qzo_arch_mistral, &qzo_arch_qwen2,
                                     &qzo_arch_qwen3, &qzo_arch_phi3,    &qzo_arch_gemma2,
                                     &qzo_arch_opt,   &qzo_arch_gpt2,    NULL};

enum { KNOWN_BYTES = 512 };

qzo_status qzo_arch_find(const qzo_arch **out, const json_t *config, const char *name) {
    const char *model_type = NULL;
    qzo_status status = qzo_json_string(&model_type, config, "model_type", name);
    if (status != QZO_OK) return status;
    char known[KNOWN_BYTES] = "";
    for (int i = 0; qzo_archs[i] != NULL; i++) {
        if (strcmp(qzo_archs[i]->model_type, model_type) == 0) {
            *out = qzo_archs[i];
            return QZO_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "",
                 qzo_archs[i]->model_type);
    }
    return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: model_type \"%s\" is not supported; known: %s", name,
                    model_type, known);
}
