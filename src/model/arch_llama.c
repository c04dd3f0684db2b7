/* Llama 1, 2, 3, 3.1 and 3.2 and what shares their blocks: RMSNorm, rotary positions, grouped
 * queries, SwiGLU (Touvron et al., arXiv 2302.13971, 2307.09288; Dubey et al., 2407.21783; names as
 * in Hugging Face transformers). */
#include "model/config.h"

static const qzo_linear_kind attention_kinds[] = {QZO_LINEAR_Q, QZO_LINEAR_K, QZO_LINEAR_V,
                                                  QZO_LINEAR_O};
static const qzo_linear_kind ffn_kinds[] = {QZO_LINEAR_GATE, QZO_LINEAR_UP, QZO_LINEAR_DOWN};

static qzo_status read_llama(qzo_shape *out, const json_t *config, const char *name) {
    qzo_status status = QZO_OK;
    bool attention_bias = false, mlp_bias = false;
    qzo_config_defaults(out);
    QZO_TRY(qzo_config_llama(out, config, name));
    QZO_TRY(qzo_config_flag(&attention_bias, config, "attention_bias", name));
    QZO_TRY(qzo_config_flag(&mlp_bias, config, "mlp_bias", name));
    if (attention_bias) qzo_config_set_biases(out, attention_kinds, 4);
    if (mlp_bias) qzo_config_set_biases(out, ffn_kinds, 3);
cleanup:
    return status;
}

const qzo_arch qzo_arch_llama = {
    .name = "llama",
    .model_type = "llama",
    .read_shape = read_llama,
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
