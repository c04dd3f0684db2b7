/* Fields that the config.json of several architectures share. `name` stands in messages. What the
 * forward pass does not do is refused here, never ignored. */
#ifndef QZO_MODEL_CONFIG_H
#define QZO_MODEL_CONFIG_H

#include "model/arch.h"

enum {
    QZO_WIDTH_MAX = 1 << 20,
    QZO_HEADS_MAX = 1 << 12,
    QZO_VOCAB_MAX = 1 << 24,
    QZO_POSITIONS_MAX = 1 << 24
};

/* Optional: where the key is absent or null, *out stays. Numbers are finite and above 0. */
qzo_status qzo_config_int(int64_t *out, const json_t *config, const char *key, int64_t max,
                          const char *name);
qzo_status qzo_config_count(int64_t *out, const json_t *config, const char *key, int64_t max,
                            const char *name); /* from 0 on */
qzo_status qzo_config_float(float *out, const json_t *config, const char *key, const char *name);
qzo_status qzo_config_flag(bool *out, const json_t *config, const char *key, const char *name);
qzo_status qzo_config_activation(qzo_activation *out, const json_t *config, const char *key,
                                 const char *name);

/* QZO_ERR_UNSUPPORTED where the flag is there and not `supported`. */
qzo_status qzo_config_refuse(const json_t *config, const char *key, bool supported,
                             const char *name);

/* rope_parameters as transformers 5 writes them, or rope_theta and rope_scaling. */
qzo_status qzo_config_rope(qzo_rope *out, const json_t *config, const char *name);

/* What every one needs before its own keys are read: no scaling of anything. */
void qzo_config_defaults(qzo_shape *out);

/* Head counts and sizes that do not fit together are refused; fills what follows from them. */
qzo_status qzo_config_finish_heads(qzo_shape *out, const char *name);

/* The keys that Llama and what came from it share: sizes, rms_norm_eps, rotary positions,
 * hidden_act, tie_word_embeddings. *out has the defaults of absent ones. */
qzo_status qzo_config_llama(qzo_shape *out, const json_t *config, const char *name);

/* Which layers of sliding_window have it: layer_types where the file lists them, else layers
 * first, first + stride, ... */
qzo_status qzo_config_windows(qzo_shape *out, const json_t *config, int64_t first, int64_t stride,
                              const char *name);

void qzo_config_set_biases(qzo_shape *out, const qzo_linear_kind *kinds, int count);

#endif
