#include "model/config.h"

#include "base/json.h"

#include <math.h>
#include <string.h>

qzo_status qzo_config_int(int64_t *out, const json_t *config, const char *key, int64_t max,
                          const char *name) {
    return qzo_json_has(config, key) ? qzo_json_int(out, config, key, 1, max, name) : QZO_OK;
}

qzo_status qzo_config_count(int64_t *out, const json_t *config, const char *key, int64_t max,
                            const char *name) {
    return qzo_json_has(config, key) ? qzo_json_int(out, config, key, 0, max, name) : QZO_OK;
}

qzo_status qzo_config_float(float *out, const json_t *config, const char *key, const char *name) {
    double value = 0.0;
    if (!qzo_json_has(config, key)) return QZO_OK;
    qzo_status status = qzo_json_number(&value, config, key, name);
    if (status != QZO_OK) return status;
    if (!((float)value > 0.0f && isfinite((float)value)))
        return qzo_fail(QZO_ERR_FORMAT, "%s: %s is %g, expected a number above 0", name, key,
                        value);
    *out = (float)value;
    return QZO_OK;
}

qzo_status qzo_config_flag(bool *out, const json_t *config, const char *key, const char *name) {
    return qzo_json_has(config, key) ? qzo_json_bool(out, config, key, name) : QZO_OK;
}

qzo_status qzo_config_refuse(const json_t *config, const char *key, bool supported,
                             const char *name) {
    bool found = supported;
    qzo_status status = qzo_config_flag(&found, config, key, name);
    if (status != QZO_OK || found == supported) return status;
    return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: %s %s is not supported", name, key,
                    found ? "true" : "false");
}

qzo_status qzo_config_activation(qzo_activation *out, const json_t *config, const char *key,
                                 const char *name) {
    static const struct {
        const char *text;
        qzo_activation kind;
    } known[] = {{"silu", QZO_ACTIVATION_SILU},
                 {"relu", QZO_ACTIVATION_RELU},
                 {"gelu", QZO_ACTIVATION_GELU},
                 {"gelu_new", QZO_ACTIVATION_GELU_TANH},
                 {"gelu_pytorch_tanh", QZO_ACTIVATION_GELU_TANH}};
    const char *text = NULL;
    if (!qzo_json_has(config, key)) return QZO_OK;
    qzo_status status = qzo_json_string(&text, config, key, name);
    if (status != QZO_OK) return status;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].text, text) == 0) {
            *out = known[i].kind;
            return QZO_OK;
        }
    return qzo_fail(QZO_ERR_UNSUPPORTED,
                    "%s: %s \"%s\" is not supported, expected silu, relu, gelu, gelu_new or "
                    "gelu_pytorch_tanh",
                    name, key, text);
}

/* --- rotary positions --- */

static qzo_status read_llama3(qzo_rope *out, const json_t *rope, const char *name) {
    qzo_status status = QZO_OK;
    out->kind = QZO_ROPE_LLAMA3;
    out->low_factor = out->high_factor = out->original_positions = 0.0f;
    QZO_TRY(qzo_config_float(&out->low_factor, rope, "low_freq_factor", name));
    QZO_TRY(qzo_config_float(&out->high_factor, rope, "high_freq_factor", name));
    QZO_TRY(
        qzo_config_float(&out->original_positions, rope, "original_max_position_embeddings", name));
    if (!(out->low_factor > 0.0f && out->high_factor > out->low_factor &&
          out->original_positions > 0.0f))
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: llama3 positions: expected low_freq_factor below high_freq_factor and "
                        "original_max_position_embeddings, found %g, %g, %g",
                        name, (double)out->low_factor, (double)out->high_factor,
                        (double)out->original_positions);
cleanup:
    return status;
}

static qzo_status read_factors(qzo_rope *out, const json_t *rope, const char *name) {
    const json_t *factors = json_object_get(rope, "factors");
    size_t count = json_array_size(factors);
    if (count > QZO_ROPE_FACTORS_MAX)
        return qzo_fail(QZO_ERR_LIMIT, "%s: %zu factors of positions, at most %d", name, count,
                        QZO_ROPE_FACTORS_MAX);
    out->kind = QZO_ROPE_FACTORS;
    out->factor_count = (int64_t)count;
    for (size_t i = 0; i < count; i++) {
        out->factors[i] = (float)json_number_value(json_array_get(factors, i));
        if (!(out->factors[i] > 0.0f && isfinite(out->factors[i])))
            return qzo_fail(QZO_ERR_FORMAT, "%s: factor %zu of positions is %g, expected above 0",
                            name, i, (double)out->factors[i]);
    }
    return QZO_OK;
}

/* One object, rope_parameters or rope_scaling; unnamed: the type where none is named. */
static qzo_status read_rope(qzo_rope *out, const json_t *config, const char *key,
                            const char *unnamed, const char *name) {
    qzo_status status = QZO_OK;
    const json_t *rope = json_object_get(config, key);
    const char *text = unnamed;
    float partial = 1.0f;
    if (!json_is_object(rope)) return QZO_OK;
    const char *type_key = qzo_json_has(rope, "rope_type") ? "rope_type" : "type";
    if (qzo_json_has(rope, type_key)) QZO_TRY(qzo_json_string(&text, rope, type_key, name));
    QZO_TRY(qzo_config_float(&out->theta, rope, "rope_theta", name));
    QZO_TRY(qzo_config_float(&partial, rope, "partial_rotary_factor", name));
    if (partial != 1.0f)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: partial_rotary_factor %g is not supported", name,
                        (double)partial);
    if (strcmp(text, "default") == 0) return QZO_OK;
    if (strcmp(text, "factors") == 0) return read_factors(out, rope, name);
    if (strcmp(text, "linear") != 0 && strcmp(text, "llama3") != 0)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: %s of type \"%s\" is not supported", name, key,
                        text);
    out->factor = 0.0f;
    QZO_TRY(qzo_config_float(&out->factor, rope, "factor", name));
    if (!(out->factor > 0.0f))
        return qzo_fail(QZO_ERR_FORMAT, "%s: %s of type \"%s\" has no factor", name, key, text);
    out->kind = QZO_ROPE_LINEAR;
    if (strcmp(text, "llama3") == 0) QZO_TRY(read_llama3(out, rope, name));
cleanup:
    return status;
}

qzo_status qzo_config_rope(qzo_rope *out, const json_t *config, const char *name) {
    qzo_status status = QZO_OK;
    float partial = 1.0f;
    QZO_TRY(qzo_config_float(&out->theta, config, "rope_theta", name));
    QZO_TRY(qzo_config_float(&partial, config, "partial_rotary_factor", name));
    if (partial != 1.0f)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: partial_rotary_factor %g is not supported", name,
                        (double)partial);
    QZO_TRY(read_rope(out, config, "rope_scaling", "unnamed", name));
    QZO_TRY(read_rope(out, config, "rope_parameters", "default", name));
cleanup:
    return status;
}

/* --- shapes --- */

void qzo_config_defaults(qzo_shape *out) {
    *out = (qzo_shape){.positions_max = 2048,
                       .activation = QZO_ACTIVATION_SILU,
                       .rope = {.theta = 10000.0f},
                       .norm_epsilon = 1e-6f,
                       .embed_scale = 1.0f};
}

qzo_status qzo_config_finish_heads(qzo_shape *out, const char *name) {
    if (out->kv_head_count == 0) out->kv_head_count = out->head_count;
    if (out->head_dim == 0) {
        if (out->width % out->head_count != 0)
            return qzo_fail(QZO_ERR_FORMAT, "%s: a width of %lld is not a multiple of %lld heads",
                            name, (long long)out->width, (long long)out->head_count);
        out->head_dim = out->width / out->head_count;
    }
    if (out->head_count % out->kv_head_count != 0)
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: %lld attention heads cannot share %lld key-value heads", name,
                        (long long)out->head_count, (long long)out->kv_head_count);
    if (out->embed_width == 0) out->embed_width = out->width;
    if (out->attention_scale == 0.0f) out->attention_scale = 1.0f / sqrtf((float)out->head_dim);
    return QZO_OK;
}

qzo_status qzo_config_llama(qzo_shape *out, const json_t *config, const char *name) {
    qzo_status status = QZO_OK;
    QZO_TRY(qzo_json_int(&out->width, config, "hidden_size", 1, QZO_WIDTH_MAX, name));
    QZO_TRY(qzo_json_int(&out->ffn_width, config, "intermediate_size", 1, QZO_WIDTH_MAX, name));
    QZO_TRY(qzo_json_int(&out->layer_count, config, "num_hidden_layers", 1, QZO_LAYERS_MAX, name));
    QZO_TRY(qzo_json_int(&out->head_count, config, "num_attention_heads", 1, QZO_HEADS_MAX, name));
    QZO_TRY(qzo_json_int(&out->vocab, config, "vocab_size", 1, QZO_VOCAB_MAX, name));
    QZO_TRY(qzo_config_int(&out->positions_max, config, "max_position_embeddings",
                           QZO_POSITIONS_MAX, name));
    QZO_TRY(
        qzo_config_int(&out->kv_head_count, config, "num_key_value_heads", QZO_HEADS_MAX, name));
    QZO_TRY(qzo_config_int(&out->head_dim, config, "head_dim", QZO_WIDTH_MAX, name));
    QZO_TRY(qzo_config_float(&out->norm_epsilon, config, "rms_norm_eps", name));
    QZO_TRY(qzo_config_rope(&out->rope, config, name));
    QZO_TRY(qzo_config_activation(&out->activation, config, "hidden_act", name));
    QZO_TRY(qzo_config_flag(&out->tied_head, config, "tie_word_embeddings", name));
    QZO_TRY(qzo_config_finish_heads(out, name));
    if (out->head_dim % 2 != 0)
        return qzo_fail(QZO_ERR_FORMAT, "%s: rotary positions need an even head size, found %lld",
                        name, (long long)out->head_dim);
    if (out->rope.kind == QZO_ROPE_FACTORS && out->rope.factor_count != out->head_dim / 2)
        return qzo_fail(QZO_ERR_FORMAT, "%s: %lld factors of positions, expected %lld", name,
                        (long long)out->rope.factor_count, (long long)out->head_dim / 2);
cleanup:
    return status;
}

qzo_status qzo_config_windows(qzo_shape *out, const json_t *config, int64_t first, int64_t stride,
                              const char *name) {
    const json_t *types = json_object_get(config, "layer_types");
    qzo_status status =
        qzo_config_int(&out->window, config, "sliding_window", QZO_POSITIONS_MAX, name);
    if (status != QZO_OK || out->window == 0) return status;
    if (json_is_array(types) && (int64_t)json_array_size(types) != out->layer_count)
        return qzo_fail(QZO_ERR_FORMAT, "%s: layer_types has %zu entries, expected %lld", name,
                        json_array_size(types), (long long)out->layer_count);
    for (int64_t layer = 0; layer < out->layer_count; layer++) {
        bool windowed = layer >= first && (layer - first) % stride == 0;
        if (json_is_array(types)) {
            const char *text = json_string_value(json_array_get(types, (size_t)layer));
            windowed = text != NULL && strcmp(text, "sliding_attention") == 0;
            if (text == NULL || (!windowed && strcmp(text, "full_attention") != 0))
                return qzo_fail(QZO_ERR_UNSUPPORTED,
                                "%s: layer_types: layer %lld is neither full_attention nor "
                                "sliding_attention",
                                name, (long long)layer);
        }
        if (windowed) out->windowed[layer / 64] |= (uint64_t)1 << (layer % 64);
    }
    return QZO_OK;
}

void qzo_config_set_biases(qzo_shape *out, const qzo_linear_kind *kinds, int count) {
    for (int i = 0; i < count; i++) out->has_bias[kinds[i]] = true;
}
