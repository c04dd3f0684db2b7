/* OPT (Zhang et al., arXiv 2205.01068; names as in Hugging Face transformers): LayerNorm, learned
 * positions, biases everywhere, ReLU. The 350m variant embeds in fewer dimensions, projects in and
 * out, and norms what attention and feed-forward leave. */
#include "model/config.h"

#include "base/json.h"

/* Positions begin at row 2: the first two are for padding in the code that OPT was trained with. */
enum { POSITION_OFFSET = 2 };

static const qzo_linear_kind kinds[] = {QZO_LINEAR_Q, QZO_LINEAR_K,  QZO_LINEAR_V,
                                        QZO_LINEAR_O, QZO_LINEAR_UP, QZO_LINEAR_DOWN};

static qzo_status read_opt(qzo_shape *out, const json_t *config, const char *name) {
    qzo_status status = QZO_OK;
    bool norm_before = true, bias = true;
    qzo_config_defaults(out);
    out->activation = QZO_ACTIVATION_RELU;
    out->norm_epsilon = 1e-5f;
    out->tied_head = true;
    QZO_TRY(qzo_json_int(&out->width, config, "hidden_size", 1, QZO_WIDTH_MAX, name));
    QZO_TRY(qzo_json_int(&out->ffn_width, config, "ffn_dim", 1, QZO_WIDTH_MAX, name));
    QZO_TRY(qzo_json_int(&out->layer_count, config, "num_hidden_layers", 1, QZO_LAYERS_MAX, name));
    QZO_TRY(qzo_json_int(&out->head_count, config, "num_attention_heads", 1, QZO_HEADS_MAX, name));
    QZO_TRY(qzo_json_int(&out->vocab, config, "vocab_size", 1, QZO_VOCAB_MAX, name));
    QZO_TRY(qzo_config_int(&out->positions_max, config, "max_position_embeddings",
                           QZO_POSITIONS_MAX, name));
    QZO_TRY(qzo_config_int(&out->embed_width, config, "word_embed_proj_dim", QZO_WIDTH_MAX, name));
    QZO_TRY(qzo_config_activation(&out->activation, config, "activation_function", name));
    QZO_TRY(qzo_config_flag(&out->tied_head, config, "tie_word_embeddings", name));
    QZO_TRY(qzo_config_flag(&norm_before, config, "do_layer_norm_before", name));
    QZO_TRY(qzo_config_flag(&bias, config, "enable_bias", name));
    QZO_TRY(qzo_config_refuse(config, "layer_norm_elementwise_affine", true, name));
    QZO_TRY(qzo_config_refuse(config, "_remove_final_layer_norm", false, name));
    QZO_TRY(qzo_config_finish_heads(out, name));
    out->post_norm = !norm_before;
    if (bias) qzo_config_set_biases(out, kinds, sizeof kinds / sizeof *kinds);
cleanup:
    return status;
}

const qzo_arch qzo_arch_opt = {
    .name = "opt",
    .model_type = "opt",
    .read_shape = read_opt,
    .norm = QZO_NORM_LAYER,
    .position_offset = POSITION_OFFSET,
    .base = "model.",
    .embedding = "model.decoder.embed_tokens",
    .positions = "model.decoder.embed_positions",
    .project_in = "model.decoder.project_in",
    .project_out = "model.decoder.project_out",
    .final_norm = "model.decoder.final_layer_norm",
    .head = "lm_head",
    .layer_prefix = "model.decoder.layers.%lld.",
    .norms = {[QZO_PLACE_ATTENTION] = "self_attn_layer_norm", [QZO_PLACE_FFN] = "final_layer_norm"},
    .linears = {[QZO_LINEAR_Q] = "self_attn.q_proj",
                [QZO_LINEAR_K] = "self_attn.k_proj",
                [QZO_LINEAR_V] = "self_attn.v_proj",
                [QZO_LINEAR_O] = "self_attn.out_proj",
                [QZO_LINEAR_UP] = "fc1",
                [QZO_LINEAR_DOWN] = "fc2"},
};
