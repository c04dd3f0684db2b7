/* Phi-3 (Abdin et al., arXiv 2404.14219; names as in Hugging Face transformers): Llama's blocks
 * with q, k and v in one linear layer, gate and up in another, and a sliding window in every layer
 * where there is one. */
#include "model/config.h"

static qzo_status read_phi3(qzo_shape *out, const json_t *config, const char *name) {
    qzo_status status = QZO_OK;
    qzo_config_defaults(out);
    out->norm_epsilon = 1e-5f;
    QZO_TRY(qzo_config_llama(out, config, name));
    QZO_TRY(qzo_config_windows(out, config, 0, 1, name));
cleanup:
    return status;
}

const qzo_arch qzo_arch_phi3 = {
    .name = "phi3",
    .model_type = "phi3",
    .read_shape = read_phi3,
    .norm = QZO_NORM_RMS,
    .base = "model.",
    .embedding = "model.embed_tokens",
    .final_norm = "model.norm",
    .head = "lm_head",
    .layer_prefix = "model.layers.%lld.",
    .norms =
        {[QZO_PLACE_ATTENTION] = "input_layernorm", [QZO_PLACE_FFN] = "post_attention_layernorm"},
    .linears = {[QZO_LINEAR_QKV] = "self_attn.qkv_proj",
                [QZO_LINEAR_O] = "self_attn.o_proj",
                [QZO_LINEAR_GATE_UP] = "mlp.gate_up_proj",
                [QZO_LINEAR_DOWN] = "mlp.down_proj"},
};
