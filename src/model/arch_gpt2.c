/* GPT-2 (Radford et al., 2019; names as in Hugging Face transformers): LayerNorm, learned
 * positions, fused q, k and v, weights stored (in, out), GELU by tanh. */
#include "model/config.h"

#include "base/json.h"

static const qzo_linear_kind kinds[] = {QZO_LINEAR_QKV, QZO_LINEAR_O, QZO_LINEAR_UP,
                                        QZO_LINEAR_DOWN};

static qzo_status read_gpt2(qzo_shape *out, const json_t *config, const char *name) {
    qzo_status status = QZO_OK;
    qzo_config_defaults(out);
    out->activation = QZO_ACTIVATION_GELU_TANH;
    out->norm_epsilon = 1e-5f;
    out->tied_head = true;
    out->positions_max = 1024;
    QZO_TRY(qzo_json_int(&out->width, config, "n_embd", 1, QZO_WIDTH_MAX / 4, name));
    QZO_TRY(qzo_json_int(&out->layer_count, config, "n_layer", 1, QZO_LAYERS_MAX, name));
    QZO_TRY(qzo_json_int(&out->head_count, config, "n_head", 1, QZO_HEADS_MAX, name));
    QZO_TRY(qzo_json_int(&out->vocab, config, "vocab_size", 1, QZO_VOCAB_MAX, name));
    out->ffn_width = 4 * out->width;
    QZO_TRY(qzo_config_int(&out->ffn_width, config, "n_inner", QZO_WIDTH_MAX, name));
    QZO_TRY(qzo_config_int(&out->positions_max, config, "n_positions", QZO_POSITIONS_MAX, name));
    QZO_TRY(qzo_config_float(&out->norm_epsilon, config, "layer_norm_epsilon", name));
    QZO_TRY(qzo_config_activation(&out->activation, config, "activation_function", name));
    QZO_TRY(qzo_config_flag(&out->tied_head, config, "tie_word_embeddings", name));
    QZO_TRY(qzo_config_refuse(config, "scale_attn_weights", true, name));
    QZO_TRY(qzo_config_refuse(config, "scale_attn_by_inverse_layer_idx", false, name));
    QZO_TRY(qzo_config_refuse(config, "add_cross_attention", false, name));
    QZO_TRY(qzo_config_finish_heads(out, name));
    qzo_config_set_biases(out, kinds, sizeof kinds / sizeof *kinds);
cleanup:
    return status;
}

const qzo_arch qzo_arch_gpt2 = {
    .name = "gpt2",
    .model_type = "gpt2",
    .read_shape = read_gpt2,
    .norm = QZO_NORM_LAYER,
    .transposed_linears = true,
    .base = "transformer.",
    .embedding = "transformer.wte",
    .positions = "transformer.wpe",
    .final_norm = "transformer.ln_f",
    .head = "lm_head",
    .layer_prefix = "transformer.h.%lld.",
    .norms = {[QZO_PLACE_ATTENTION] = "ln_1", [QZO_PLACE_FFN] = "ln_2"},
    .linears = {[QZO_LINEAR_QKV] = "attn.c_attn",
                [QZO_LINEAR_O] = "attn.c_proj",
                [QZO_LINEAR_UP] = "mlp.c_fc",
                [QZO_LINEAR_DOWN] = "mlp.c_proj"},
};
