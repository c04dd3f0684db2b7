#include "weights/gguf_config.h"

#include "base/file_io.h"
#include "base/half.h"

#include <stdio.h>
#include <string.h>

enum { KEY_BYTES = 128, COUNT_MAX = 1 << 24, LAYERS_MAX = 1 << 12, HEADS_MAX = 1 << 12 };
enum { FACTORS_MAX = 1 << 12, QUANTIZATION_VERSION = 2 };

typedef struct architecture {
    const char *name;       /* general.architecture */
    const char *model_type; /* of config.json */
    bool reordered;
    bool has_norms;
} architecture;

static const architecture architectures[] = {
    {"llama", "llama", true, false},
    {"qwen2", "qwen2", false, false},
    {"qwen3", "qwen3", false, true},
};

typedef enum { WHOLE, REAL } number_kind;

/* Keys of an architecture, after its name and a dot. */
static const struct {
    const char *key, *config_key;
    number_kind kind;
    bool is_optional;
    int64_t max;
} numbers[] = {
    {"context_length", "max_position_embeddings", WHOLE, false, COUNT_MAX},
    {"embedding_length", "hidden_size", WHOLE, false, COUNT_MAX},
    {"block_count", "num_hidden_layers", WHOLE, false, LAYERS_MAX},
    {"feed_forward_length", "intermediate_size", WHOLE, false, COUNT_MAX},
    {"attention.head_count", "num_attention_heads", WHOLE, false, HEADS_MAX},
    {"attention.head_count_kv", "num_key_value_heads", WHOLE, true, HEADS_MAX},
    {"attention.key_length", "head_dim", WHOLE, true, COUNT_MAX},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", REAL, false, 0},
    {"rope.freq_base", "rope_theta", REAL, true, 0},
};

/* Keys that are read elsewhere, or change nothing that is computed here. */
static const char *const other_keys[] = {
    "vocab_size",
    "attention.value_length",
    "rope.dimension_count",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "tensor_data_layout",
    "expert_count",
    "expert_used_count",
    NULL,
};

typedef struct reader {
    const qzo_gguf *file;
    const architecture *arch;
    json_t *config;
    char key[KEY_BYTES];
} reader;

/* The full name of one of the architecture's keys; valid until the next call. */
static const char *key_of(reader *r, const char *key) {
    snprintf(r->key, sizeof r->key, "%s.%s", r->arch->name, key);
    return r->key;
}

static bool has(reader *r, const char *key) { return qzo_gguf_has(r->file, key_of(r, key)); }

static qzo_status put(reader *r, const char *key, json_t *value) {
    if (json_object_set_new(r->config, key, value) == 0) return QZO_OK;
    return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", qzo_gguf_name(r->file));
}

static int64_t config_int(const reader *r, const char *key) {
    return json_integer_value(json_object_get(r->config, key));
}

/* --- what is refused --- */

static qzo_status find_architecture(reader *r) {
    qzo_gguf_text name;
    qzo_status status = qzo_gguf_string(&name, r->file, "general.architecture");
    if (status != QZO_OK) return status;
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        if (qzo_gguf_text_is(name, architectures[i].name)) {
            r->arch = &architectures[i];
            return QZO_OK;
        }
    return qzo_fail(QZO_ERR_UNSUPPORTED,
                    "%s: general.architecture is \"%.*s\", expected llama, qwen2 or qwen3",
                    qzo_gguf_name(r->file), (int)name.size_bytes, name.text);
}

static bool is_known(const char *key, size_t length) {
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strlen(numbers[i].key) == length && strncmp(numbers[i].key, key, length) == 0)
            return true;
    for (int i = 0; other_keys[i] != NULL; i++)
        if (strlen(other_keys[i]) == length && strncmp(other_keys[i], key, length) == 0)
            return true;
    return false;
}

static qzo_status check_keys(const reader *r) {
    size_t prefix = strlen(r->arch->name);
    for (int64_t i = 0;; i++) {
        qzo_gguf_text key = qzo_gguf_key(r->file, i);
        if (key.size_bytes == 0) return QZO_OK;
        if (key.size_bytes <= prefix || strncmp(key.text, r->arch->name, prefix) != 0 ||
            key.text[prefix] != '.' || is_known(key.text + prefix + 1, key.size_bytes - prefix - 1))
            continue;
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: key %.*s is not known", qzo_gguf_name(r->file),
                        (int)key.size_bytes, key.text);
    }
}

/* A count that must be as given where it is there. */
static qzo_status expect(reader *r, const char *key, int64_t expected) {
    int64_t found = 0;
    if (!qzo_gguf_has(r->file, key)) return QZO_OK;
    qzo_status status = qzo_gguf_int(&found, r->file, key, 0, INT64_MAX);
    if (status != QZO_OK || found == expected) return status;
    return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: key %s is %lld, expected %lld",
                    qzo_gguf_name(r->file), key, (long long)found, (long long)expected);
}

static qzo_status check_variants(reader *r) {
    qzo_status status = QZO_OK;
    int64_t head_dim = config_int(r, "head_dim"), parts = 0;
    if (qzo_gguf_has(r->file, "split.count")) {
        QZO_TRY(qzo_gguf_int(&parts, r->file, "split.count", 0, COUNT_MAX));
        if (parts > 1)
            return qzo_fail(QZO_ERR_UNSUPPORTED,
                            "%s: one of %lld files of a model: merge them (llama-gguf-split "
                            "--merge)",
                            qzo_gguf_name(r->file), (long long)parts);
    }
    QZO_TRY(expect(r, "general.quantization_version", QUANTIZATION_VERSION));
    QZO_TRY(expect(r, key_of(r, "attention.value_length"), head_dim));
    QZO_TRY(expect(r, key_of(r, "rope.dimension_count"), head_dim));
    QZO_TRY(expect(r, key_of(r, "expert_count"), 0));
cleanup:
    return status;
}

/* --- what is read --- */

static qzo_status read_numbers(reader *r) {
    qzo_status status = QZO_OK;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        int64_t whole = 0;
        double real = 0.0;
        const char *key = key_of(r, numbers[i].key);
        if (numbers[i].is_optional && !qzo_gguf_has(r->file, key)) continue;
        if (numbers[i].kind == WHOLE) {
            QZO_TRY(qzo_gguf_int(&whole, r->file, key, 1, numbers[i].max));
            QZO_TRY(put(r, numbers[i].config_key, json_integer(whole)));
        } else {
            QZO_TRY(qzo_gguf_number(&real, r->file, key));
            QZO_TRY(put(r, numbers[i].config_key, json_real(real)));
        }
    }
cleanup:
    return status;
}

/* transformers has other defaults. */
static qzo_status read_head_dim(reader *r) {
    int64_t width = config_int(r, "hidden_size"), heads = config_int(r, "num_attention_heads");
    if (config_int(r, "head_dim") > 0) return QZO_OK;
    if (width % heads != 0)
        return qzo_fail(QZO_ERR_FORMAT, "%s: a width of %lld is not a multiple of %lld heads",
                        qzo_gguf_name(r->file), (long long)width, (long long)heads);
    return put(r, "head_dim", json_integer(width / heads));
}

static float float_at(const qzo_gguf_tensor_info *tensor, int64_t i) {
    const uint8_t *at = tensor->data + 4 * (size_t)i;
    return qzo_float_from_bits(qzo_get_u32(at));
}

/* Factors per frequency, of a file whose tensor says them. */
static qzo_status read_factors(reader *r, const qzo_gguf_tensor_info *tensor) {
    json_t *list = json_array(), *rope = NULL;
    if (tensor->type != QZO_GGUF_F32 || tensor->rank != 1 || tensor->shape[0] > FACTORS_MAX) {
        json_decref(list);
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: tensor %s: expected at most %d of type F32",
                        qzo_gguf_name(r->file), tensor->name, FACTORS_MAX);
    }
    /* One that is not finite is none for jansson: the list is too short then, which is refused. */
    for (int64_t i = 0; i < tensor->shape[0]; i++)
        json_array_append_new(list, json_real((double)float_at(tensor, i)));
    rope = json_pack("{s:s, s:o}", "rope_type", "factors", "factors", list);
    return put(r, "rope_scaling", rope);
}

/* llama.cpp takes a factor without a type as linear. */
static qzo_status read_rope(reader *r) {
    qzo_status status = QZO_OK;
    qzo_gguf_text type = {.text = "linear", .size_bytes = 6};
    double factor = 1.0;
    const qzo_gguf_tensor_info *factors = qzo_gguf_find(r->file, QZO_GGUF_ROPE_FACTORS);
    if (has(r, "rope.scaling.type"))
        QZO_TRY(qzo_gguf_string(&type, r->file, key_of(r, "rope.scaling.type")));
    bool is_linear = qzo_gguf_text_is(type, "linear");
    if (!is_linear && !qzo_gguf_text_is(type, "none"))
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: key %s is \"%.*s\", expected none or linear",
                        qzo_gguf_name(r->file), key_of(r, "rope.scaling.type"),
                        (int)type.size_bytes, type.text);
    if (is_linear && has(r, "rope.scaling.factor"))
        QZO_TRY(qzo_gguf_number(&factor, r->file, key_of(r, "rope.scaling.factor")));
    if (factors != NULL && factor != 1.0)
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: both %s and %s", qzo_gguf_name(r->file),
                        QZO_GGUF_ROPE_FACTORS, key_of(r, "rope.scaling.factor"));
    if (factors != NULL) QZO_TRY(read_factors(r, factors));
    if (factor != 1.0)
        QZO_TRY(put(r, "rope_scaling",
                    json_pack("{s:s, s:f}", "rope_type", "linear", "factor", factor)));
cleanup:
    return status;
}

/* Where a text ends: the model's end, and that of a turn or message where there is one. */
static qzo_status read_ends(reader *r) {
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    json_t *ends = json_array();
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int64_t id = 0;
        if (!qzo_gguf_has(r->file, keys[i])) continue;
        qzo_status status = qzo_gguf_int(&id, r->file, keys[i], 0, UINT32_MAX);
        if (status != QZO_OK) {
            json_decref(ends);
            return status;
        }
        json_array_append_new(ends, json_integer(id));
    }
    return put(r, "eos_token_id", ends);
}

/* What only the tensors tell. */
static qzo_status read_tensors(reader *r) {
    qzo_status status = QZO_OK;
    const qzo_gguf_tensor_info *embedding = qzo_gguf_find(r->file, "token_embd.weight");
    if (embedding == NULL)
        return qzo_fail(QZO_ERR_FORMAT, "%s: tensor token_embd.weight is missing",
                        qzo_gguf_name(r->file));
    bool is_tied = qzo_gguf_find(r->file, "output.weight") == NULL;
    bool has_bias = qzo_gguf_find(r->file, "blk.0.attn_q.bias") != NULL;
    bool has_ffn_bias = qzo_gguf_find(r->file, "blk.0.ffn_gate.bias") != NULL;
    QZO_TRY(put(r, "vocab_size", json_integer(embedding->shape[0])));
    QZO_TRY(put(r, "tie_word_embeddings", json_boolean(is_tied)));
    QZO_TRY(put(r, "attention_bias", json_boolean(has_bias)));
    QZO_TRY(put(r, "mlp_bias", json_boolean(has_ffn_bias)));
cleanup:
    return status;
}

qzo_status qzo_gguf_config_read(json_t **config, qzo_gguf_heads *heads, const qzo_gguf *file) {
    qzo_status status = QZO_OK;
    reader r = {.file = file, .config = json_object()};
    *config = NULL;
    QZO_TRY(find_architecture(&r));
    QZO_TRY(check_keys(&r));
    QZO_TRY(put(&r, "model_type", json_string(r.arch->model_type)));
    QZO_TRY(read_numbers(&r));
    QZO_TRY(read_head_dim(&r));
    QZO_TRY(check_variants(&r));
    QZO_TRY(read_rope(&r));
    QZO_TRY(read_tensors(&r));
    QZO_TRY(read_ends(&r));
    *heads = (qzo_gguf_heads){.layer_count = config_int(&r, "num_hidden_layers"),
                              .count = config_int(&r, "num_attention_heads"),
                              .kv_count = config_int(&r, "num_key_value_heads"),
                              .reordered = r.arch->reordered,
                              .has_norms = r.arch->has_norms};
    if (heads->kv_count == 0) heads->kv_count = heads->count;
    *config = r.config;
    r.config = NULL;
cleanup:
    json_decref(r.config);
    return status;
}
