/* Mistral (Jiang et al., arXiv 2310.06825; names as in Hugging Face transformers): Llama's blocks
 * with a sliding window in every layer. */
#include "model/config.h"

enum { WINDOW_DEFAULT = 4096 };

static qzo_status read_mistral(qzo_shape *out, const json_t *config, const char *name) {
    qzo_status status = QZO_OK;
    qzo_config_defaults(out);
    QZO_TRY(qzo_config_llama(out, config, name));
    if (json_object_get(config, "sliding_window") == NULL) out->window = WINDOW_DEFAULT;
    QZO_TRY(qzo_config_windows(out, config, 0, 1, name));
cleanup:
    return status;
}

const qzo_arch qzo_arch_mistral = {
    .name = "mistral",
    .model_type = "mistral",
    .read_shape = read_mistral,
    .norm = QZO_NORM_RMS,
    .base = "model.",
    .embedding = "model.embed_tokens",
    .final_norm = "model.norm",
    .head = "lm_head",
    .layer_prefix = "model.layers.%lld.",
    .norms =
        {[QZO_PLACE_ATTENTION] = "input_layernorm", [QZO_PLACE_FFN] = "post_attention_layernorm"},
    .linears = {[QZO_LINEAR_Q] = "self_attn.q_proj",
                [QZO_LINEAR_K] = "self_attn.k_proj",
                [QZO_LINEAR_V] = "self_attn.v_proj",
                [QZO_LINEAR_O] = "self_attn.o_proj",
                [QZO_LINEAR_GATE] = "mlp.gate_proj",
                [QZO_LINEAR_UP] = "mlp.up_proj",
                [QZO_LINEAR_DOWN] = "mlp.down_proj"},
};
