/* Llama 1 and 2 and what shares their blocks: RMSNorm, rotary positions, grouped queries, SwiGLU
 * (Touvron et al., arXiv 2302.13971, 2307.09288; names as in Hugging Face transformers). */
#include "base/json.h"
#include "model/arch.h"

#include <math.h>
#include <string.h>

enum { WIDTH_MAX = 1 << 20, LAYERS_MAX = 1 << 12, HEADS_MAX = 1 << 12, VOCAB_MAX = 1 << 24 };

static const int64_t POSITIONS_MAX = (int64_t)1 << 24;

static qzo_status optional_int(int64_t *out, const json_t *config, const char *key, int64_t max,
                               const char *name) {
    return qzo_json_has(config, key) ? qzo_json_int(out, config, key, 1, max, name) : QZO_OK;
}

static qzo_status read_sizes(qzo_shape *out, const json_t *config, const char *name) {
    qzo_status status = QZO_OK;
    QZO_TRY(qzo_json_int(&out->width, config, "hidden_size", 1, WIDTH_MAX, name));
    QZO_TRY(qzo_json_int(&out->ffn_width, config, "intermediate_size", 1, WIDTH_MAX, name));
    QZO_TRY(qzo_json_int(&out->layer_count, config, "num_hidden_layers", 1, LAYERS_MAX, name));
    QZO_TRY(qzo_json_int(&out->head_count, config, "num_attention_heads", 1, HEADS_MAX, name));
    QZO_TRY(qzo_json_int(&out->vocab, config, "vocab_size", 1, VOCAB_MAX, name));
    out->positions_max = 2048;
    QZO_TRY(
        optional_int(&out->positions_max, config, "max_position_embeddings", POSITIONS_MAX, name));
    out->kv_head_count = out->head_count;
    QZO_TRY(optional_int(&out->kv_head_count, config, "num_key_value_heads", HEADS_MAX, name));
    out->head_dim = out->width / out->head_count;
    QZO_TRY(optional_int(&out->head_dim, config, "head_dim", WIDTH_MAX, name));
    if (out->head_count % out->kv_head_count != 0)
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: %lld attention heads cannot share %lld key-value heads", name,
                        (long long)out->head_count, (long long)out->kv_head_count);
    if (out->head_dim % 2 != 0)
        return qzo_fail(QZO_ERR_FORMAT, "%s: rotary positions need an even head size, found %lld",
                        name, (long long)out->head_dim);
cleanup:
    return status;
}

/* transformers 5 writes the type of scaling into rope_parameters, before that into rope_scaling. */
static qzo_status refuse_rope(const json_t *config, const char *key, const char *absent,
                              const char *name) {
    const json_t *rope = json_object_get(config, key);
    if (!json_is_object(rope)) return QZO_OK;
    const json_t *kind = json_object_get(rope, "rope_type");
    if (kind == NULL) kind = json_object_get(rope, "type");
    const char *text = json_is_string(kind) ? json_string_value(kind) : absent;
    if (strcmp(text, "default") == 0) return QZO_OK;
    return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: %s of type \"%s\" is not supported", name, key, text);
}

/* What the forward pass does not do must be refused, not ignored. */
static qzo_status refuse_variants(const json_t *config, const char *name) {
    static const char *const biases[] = {"attention_bias", "mlp_bias"};
    for (int i = 0; i < 2; i++)
        if (json_is_true(json_object_get(config, biases[i])))
            return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: %s is not supported", name, biases[i]);
    qzo_status status = refuse_rope(config, "rope_scaling", "unnamed", name);
    if (status == QZO_OK) status = refuse_rope(config, "rope_parameters", "default", name);
    if (status != QZO_OK) return status;
    const json_t *activation = json_object_get(config, "hidden_act");
    if (json_is_string(activation) && strcmp(json_string_value(activation), "silu") != 0)
        return qzo_fail(QZO_ERR_UNSUPPORTED,
                        "%s: hidden_act \"%s\" is not supported, expected silu", name,
                        json_string_value(activation));
    return QZO_OK;
}

/* transformers 5 writes rope_parameters {rope_theta}; before that it stood at the top. */
static qzo_status read_theta(double *out, const json_t *config, const char *name) {
    const json_t *parameters = json_object_get(config, "rope_parameters");
    if (json_is_object(parameters) && qzo_json_has(parameters, "rope_theta"))
        return qzo_json_number(out, parameters, "rope_theta", name);
    if (qzo_json_has(config, "rope_theta")) return qzo_json_number(out, config, "rope_theta", name);
    return QZO_OK;
}

static qzo_status read_shape(qzo_shape *out, const json_t *config, const char *name) {
    qzo_status status = QZO_OK;
    double epsilon = 1e-6, theta = 10000.0;
    QZO_TRY(refuse_variants(config, name));
    QZO_TRY(read_sizes(out, config, name));
    if (qzo_json_has(config, "rms_norm_eps"))
        QZO_TRY(qzo_json_number(&epsilon, config, "rms_norm_eps", name));
    QZO_TRY(read_theta(&theta, config, name));
    if (!(epsilon > 0 && epsilon < 1) || !(theta > 0 && isfinite(theta)))
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: rms_norm_eps %g and rope_theta %g: expected numbers above 0", name,
                        epsilon, theta);
    out->norm_epsilon = (float)epsilon;
    out->rope_theta = (float)theta;
    if (qzo_json_has(config, "tie_word_embeddings"))
        QZO_TRY(qzo_json_bool(&out->tied_head, config, "tie_word_embeddings", name));
cleanup:
    return status;
}

const qzo_arch qzo_arch_llama = {
    .name = "llama",
    .model_type = "llama",
    .read_shape = read_shape,
    .norm = QZO_NORM_RMS,
    .activation = QZO_ACTIVATION_SILU,
    .embedding = "model.embed_tokens",
    .final_norm = "model.norm",
    .head = "lm_head",
    .layer_prefix = "model.layers.%lld.",
    .attention_norm = "input_layernorm",
    .ffn_norm = "post_attention_layernorm",
    .linears = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"},
};
