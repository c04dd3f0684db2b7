/* Gemma 2 (Gemma Team, arXiv 2408.00118; names as in Hugging Face transformers): norms before and
 * behind both blocks that store gain - 1, embeddings times sqrt(width), caps on scores and logits,
 * a sliding window in every second layer. */
#include "model/config.h"

#include <math.h>

enum { HEAD_DIM_DEFAULT = 256, WINDOW_DEFAULT = 4096, EVERY_SECOND = 2 };

static const qzo_linear_kind attention_kinds[] = {QZO_LINEAR_Q, QZO_LINEAR_K, QZO_LINEAR_V,
                                                  QZO_LINEAR_O};

/* An absent key has a default, null means that there is no cap. */
static qzo_status read_cap(float *out, const json_t *config, const char *key, float absent,
                           const char *name) {
    *out = json_is_null(json_object_get(config, key)) ? 0.0f : absent;
    return qzo_config_float(out, config, key, name);
}

static qzo_status read_gemma2(qzo_shape *out, const json_t *config, const char *name) {
    qzo_status status = QZO_OK;
    bool attention_bias = false;
    float score_divisor = 256.0f; /* of the square of a score */
    qzo_config_defaults(out);
    out->tied_head = true;
    out->activation = QZO_ACTIVATION_GELU_TANH;
    out->head_dim = HEAD_DIM_DEFAULT;
    QZO_TRY(qzo_config_llama(out, config, name));
    QZO_TRY(qzo_config_activation(&out->activation, config, "hidden_activation", name));
    QZO_TRY(qzo_config_float(&score_divisor, config, "query_pre_attn_scalar", name));
    QZO_TRY(read_cap(&out->score_cap, config, "attn_logit_softcapping", 50.0f, name));
    QZO_TRY(read_cap(&out->logit_cap, config, "final_logit_softcapping", 30.0f, name));
    if (json_object_get(config, "sliding_window") == NULL) out->window = WINDOW_DEFAULT;
    QZO_TRY(qzo_config_windows(out, config, 0, EVERY_SECOND, name));
    QZO_TRY(qzo_config_flag(&attention_bias, config, "attention_bias", name));
    if (attention_bias) qzo_config_set_biases(out, attention_kinds, 4);
    out->attention_scale = 1.0f / sqrtf(score_divisor);
    out->embed_scale = sqrtf((float)out->width);
cleanup:
    return status;
}

const qzo_arch qzo_arch_gemma2 = {
    .name = "gemma2",
    .model_type = "gemma2",
    .read_shape = read_gemma2,
    .norm = QZO_NORM_RMS,
    .norm_gain_base = 1.0f,
    .base = "model.",
    .embedding = "model.embed_tokens",
    .final_norm = "model.norm",
    .head = "lm_head",
    .layer_prefix = "model.layers.%lld.",
    .norms = {[QZO_PLACE_ATTENTION] = "input_layernorm",
              [QZO_PLACE_ATTENTION_OUT] = "post_attention_layernorm",
              [QZO_PLACE_FFN] = "pre_feedforward_layernorm",
              [QZO_PLACE_FFN_OUT] = "post_feedforward_layernorm"},
    .linears = {[QZO_LINEAR_Q] = "self_attn.q_proj",
                [QZO_LINEAR_K] = "self_attn.k_proj",
                [QZO_LINEAR_V] = "self_attn.v_proj",
                [QZO_LINEAR_O] = "self_attn.o_proj",
                [QZO_LINEAR_GATE] = "mlp.gate_proj",
                [QZO_LINEAR_UP] = "mlp.up_proj",
                [QZO_LINEAR_DOWN] = "mlp.down_proj"},
};
