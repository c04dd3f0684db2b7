#include "weights/quant.h"

#include <stdlib.h>

const qzo_quant_format *const qzo_quant_formats[] = {
    &qzo_quant_awq,  &qzo_quant_gptq,       &qzo_quant_bnb,
    &qzo_quant_aqlm, &qzo_quant_compressed, &qzo_quant_hqq,
    &qzo_quant_gguf, &qzo_quant_dense,      NULL,
};

const qzo_quant_format *qzo_quant_format_find(const qzo_model_dir *dir, const char *module) {
    const qzo_quant_format *const *format = qzo_quant_formats;
    while (*format != NULL && !(*format)->detect(dir, module)) format++;
    return *format;
}

qzo_status qzo_qtensor_bind(qzo_qtensor *out, const qzo_model_dir *dir, const char *module,
                            int64_t out_features, int64_t in_features) {
    qzo_status status = QZO_OK;
    const qzo_quant_format *format = qzo_quant_format_find(dir, module);
    *out = (qzo_qtensor){0};
    if (format == NULL)
        return qzo_fail(QZO_ERR_FORMAT, "%s: no weight of module %s in a format that is known",
                        qzo_model_dir_path(dir), module);
    out->format = format;
    out->name = module;
    out->out_features = out_features;
    out->in_features = in_features;
    out->span = QZO_SPAN_NONE;
    QZO_TRY(format->bind(out, dir, module, out_features, in_features));
cleanup:
    if (status != QZO_OK) qzo_qtensor_release(out);
    return status;
}

qzo_status qzo_qtensor_repack(qzo_qtensor *tensor) {
    if (tensor->format->repack == NULL || tensor->owned != NULL) return QZO_OK;
    return tensor->format->repack(tensor);
}

void qzo_qtensor_release(qzo_qtensor *tensor) {
    free(tensor->owned);
    *tensor = (qzo_qtensor){0};
}
