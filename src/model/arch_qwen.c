/* Qwen2 and Qwen2.5 (Yang et al., arXiv 2407.10671, 2412.15115) and Qwen3 (arXiv 2505.09388; names
 * as in Hugging Face transformers): Llama's blocks, in Qwen2 with biases of q, k and v, in Qwen3
 * with norms of their heads. */
#include "model/config.h"

enum { HEAD_DIM_DEFAULT = 128, MAX_WINDOW_LAYERS_DEFAULT = 28 };

static const qzo_linear_kind attention_kinds[] = {QZO_LINEAR_Q, QZO_LINEAR_K, QZO_LINEAR_V,
                                                  QZO_LINEAR_O};

/* Layers from max_window_layers on have the window, if use_sliding_window says so at all. */
static qzo_status read_windows(qzo_shape *out, const json_t *config, const char *name) {
    qzo_status status = QZO_OK;
    bool is_used = false;
    int64_t first = MAX_WINDOW_LAYERS_DEFAULT;
    QZO_TRY(qzo_config_flag(&is_used, config, "use_sliding_window", name));
    if (!is_used) return QZO_OK;
    QZO_TRY(qzo_config_count(&first, config, "max_window_layers", QZO_LAYERS_MAX, name));
    QZO_TRY(qzo_config_windows(out, config, first, 1, name));
cleanup:
    return status;
}

static qzo_status read_qwen2(qzo_shape *out, const json_t *config, const char *name) {
    qzo_status status = QZO_OK;
    qzo_config_defaults(out);
    QZO_TRY(qzo_config_llama(out, config, name));
    QZO_TRY(read_windows(out, config, name));
    qzo_config_set_biases(out, attention_kinds, 3);
cleanup:
    return status;
}

static qzo_status read_qwen3(qzo_shape *out, const json_t *config, const char *name) {
    qzo_status status = QZO_OK;
    bool attention_bias = false;
    qzo_config_defaults(out);
    out->head_dim = HEAD_DIM_DEFAULT;
    QZO_TRY(qzo_config_llama(out, config, name));
    QZO_TRY(read_windows(out, config, name));
    QZO_TRY(qzo_config_flag(&attention_bias, config, "attention_bias", name));
    if (attention_bias) qzo_config_set_biases(out, attention_kinds, 4);
cleanup:
    return status;
}

const qzo_arch qzo_arch_qwen2 = {
    .name = "qwen2",
    .model_type = "qwen2",
    .read_shape = read_qwen2,
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

const qzo_arch qzo_arch_qwen3 = {
    .name = "qwen3",
    .model_type = "qwen3",
    .read_shape = read_qwen3,
    .norm = QZO_NORM_RMS,
    .base = "model.",
    .embedding = "model.embed_tokens",
    .final_norm = "model.norm",
    .head = "lm_head",
    .layer_prefix = "model.layers.%lld.",
    .norms = {[QZO_PLACE_ATTENTION] = "input_layernorm",
              [QZO_PLACE_FFN] = "post_attention_layernorm",
              [QZO_PLACE_Q] = "self_attn.q_norm",
              [QZO_PLACE_K] = "self_attn.k_norm"},
    .linears = {[QZO_LINEAR_Q] = "self_attn.q_proj",
                [QZO_LINEAR_K] = "self_attn.k_proj",
                [QZO_LINEAR_V] = "self_attn.v_proj",
                [QZO_LINEAR_O] = "self_attn.o_proj",
                [QZO_LINEAR_GATE] = "mlp.gate_proj",
                [QZO_LINEAR_UP] = "mlp.up_proj",
                [QZO_LINEAR_DOWN] = "mlp.down_proj"},
};
