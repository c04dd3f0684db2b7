/* Any bytes as a GGUF file: an error, or a model whose tensors lie inside the bytes and can be
 * decoded. */
#include "weights/gguf_model.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

static volatile float sink; /* keeps the reads that the sanitizer checks */

static void decode(const qzo_gguf_blocks *blocks, int64_t rows) {
    float out[QZO_GGUF_OCTET];
    for (int64_t row = 0; row < rows; row++)
        for (int64_t input = 0; input < blocks->in_features; input += QZO_GGUF_OCTET) {
            const uint8_t *block = qzo_gguf_block_at(blocks, row, input);
            qzo_gguf_octet(out, blocks, row, input, qzo_gguf_half(block + blocks->d_at));
            sink = out[0];
        }
}

static void read_tokens(const qzo_gguf *file) {
    qzo_gguf_list list;
    if (qzo_gguf_strings(&list, file, "tokenizer.ggml.tokens") == QZO_OK)
        while (list.count > 0) {
            qzo_gguf_text text = qzo_gguf_next(&list);
            for (size_t i = 0; i < text.size_bytes; i++) sink = (float)text.text[i];
        }
    if (qzo_gguf_ints(&list, file, "tokenizer.ggml.token_type") == QZO_OK)
        for (int64_t i = 0; i < list.count; i++) sink = (float)qzo_gguf_int_at(&list, i);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes) {
    qzo_gguf_model *model = NULL;
    if (qzo_gguf_model_parse(&model, bytes, size_bytes, "fuzz") != QZO_OK) {
        if (model != NULL || qzo_error_message()[0] == '\0') abort();
        return 0;
    }
    for (int64_t i = 0; i < qzo_gguf_model_count(model); i++) {
        const qzo_tensor_view *view = qzo_gguf_model_at(model, i);
        qzo_gguf_blocks blocks;
        if (view->size_bytes != (size_t)view->count * qzo_dtype_bytes(view->dtype)) abort();
        for (size_t j = 0; j < view->size_bytes; j++) sink = (float)view->data[j];
        if (qzo_gguf_model_blocks(&blocks, model, view)) decode(&blocks, view->shape[0]);
    }
    read_tokens(qzo_gguf_model_file(model));
    if (!json_is_object(qzo_gguf_model_config(model))) abort();
    qzo_gguf_model_close(model);
    return 0;
}
