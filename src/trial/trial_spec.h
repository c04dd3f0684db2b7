/* All settings of one trial. One table names every setting with its type, range, default and unit:
 * the YAML parser, the canonical text, the printed configuration and sweeps/README.md come from it.
 *
 * A trial's identity is the 128-bit digest of its canonical text: every setting that can change the
 * journal, and the digests of the model's and the task's contents; no paths, names, ranks, threads.
 * A fork, a trial that goes on from another's journal with settings of its own, has the identity of
 * that trial and the step in it, and so all that led there.
 */
#ifndef QZO_TRIAL_TRIAL_SPEC_H
#define QZO_TRIAL_TRIAL_SPEC_H

#include "base/digest.h"
#include "base/status.h"
#include "model/adapters.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of one group of trainable values; the defaults where the group is not used. */
typedef struct qzo_group_settings {
    double learning_rate, eps;     /* 0: the trial's */
    int64_t after, until;          /* trains in steps after + 1 .. until; until 0: to the last */
    const char *constraint;        /* qzo_keep_name */
    const char *include, *exclude; /* patterns, see qzo_group_choice; of lora its targets, see
                                      qzo_adapter_settings; interned */
} qzo_group_settings;

typedef struct qzo_trial_spec {
    char *model_path;        /* resolved; not part of the identity */
    char *task_path;         /* resolved; not part of the identity */
    qzo_digest model_digest; /* zero until known, and where the model is unreadable */
    qzo_digest task_digest;
    qzo_digest fork_parent; /* the trial whose journal this one goes on from */
    int64_t fork_step;      /* the last step that they share; 0: it is no fork */
    const char *quantize;   /* what linear layers become at load: qzo_bnb_kinds, or "none" */
    int64_t steps;
    int64_t batch;            /* examples per step */
    int64_t micro_batch;      /* examples per forward pass; 0 in a file means batch */
    int64_t samples_per_step; /* perturbations per step */
    const char *batches;      /* "shared" | "per_sample" */
    const char *objective;    /* "loss" | "metric" */
    int64_t evaluate_every;   /* steps; 0 in a file means steps (only at the end) */
    int64_t eval_batch;       /* examples per evaluation chunk */
    int64_t eval_tokens;      /* packed tokens per evaluation chunk; 0: eval_batch examples */
    int64_t warmup_steps;
    double learning_rate;
    double eps;
    double clip;            /* INFINITY: none */
    double clip_factor;     /* of the mean |gradient|, with mean_clip */
    int64_t clip_memory;    /* records that this mean, or quantile_clip, remembers */
    double clip_quantile;   /* of the remembered |gradient|, with quantile_clip */
    int64_t moment_memory;  /* steps that meazo's second moment remembers */
    double momentum;        /* share of the velocity that a step keeps, with momentum */
    double curvature_power; /* of the curvature that spsa_1_5 divides by */
    double guide_share;     /* of the candidates that lead mezo_gv's guide */
    double floor;           /* smallest value of a positive scale */
    const char *directions; /* names of registries; static strings */
    const char *perturbation;
    const char *update_rule;
    const char *compat; /* whose arithmetic: qzo_cores */
    /* Of objectives that draw timesteps. */
    const char *timestep_density, *loss_weighting;
    double logit_mean, logit_std, mode_scale, timestep_shift;
    const char *schedule;
    const char *metric_name; /* chooses the best step: "dev_loss" | "dev_score" */
    const char *metric_goal; /* "minimize" | "maximize" */
    uint64_t seed;           /* data and noise, unless overridden */
    uint64_t data_seed;
    uint64_t noise_seed;
    const char *groups; /* what trains: names of groups joined by '+'; interned */
    qzo_group_settings group[QZO_GROUP_COUNT];
    int64_t lora_rank;
    double lora_alpha;
    bool has_directions; /* false: the update rule's own, where it has one */
    bool has_data_seed;  /* false: data_seed = seed */
    bool has_noise_seed;
} qzo_trial_spec;

typedef enum {
    QZO_SETTING_INT,    /* int64_t in [min, max] */
    QZO_SETTING_SEED,   /* uint64_t */
    QZO_SETTING_NUMBER, /* double in [min, max]; INFINITY (".inf", "none") only where max is it */
    QZO_SETTING_CHOICE, /* const char *: one of a registry's names */
    QZO_SETTING_WORDS,  /* const char *: words joined by '+'; of `choice` where there is one */
    QZO_SETTING_PATH    /* char *: relative to the sweep file */
} qzo_setting_kind;

/* Where a sweep file may say it. */
typedef enum {
    QZO_SECTION_TOP,   /* the top level, or parameters */
    QZO_SECTION_TRAIN, /* train, or parameters */
    QZO_SECTION_METRIC /* metric, where the key stands without its "metric_" */
} qzo_section;

typedef struct qzo_setting {
    const char *key;
    const char *alias; /* another spelling that is read ("zo_eps" for eps), or NULL */
    qzo_section section;
    qzo_setting_kind kind;
    size_t offset;   /* in qzo_trial_spec */
    double min, max; /* of INT and NUMBER; min_exclusive where 0 itself makes no sense */
    bool min_exclusive;
    const char *default_text; /* NULL: required; "=KEY": as KEY, by qzo_trial_spec_complete */
    const char *(*choice)(int index); /* of CHOICE and WORDS; NULL past the last */
    bool in_identity;                 /* stands in the canonical text */
    const char *unit;                 /* "steps", "examples", "" */
    const char *help;                 /* one line */
    bool is_later; /* in the canonical text only where it is not the default: identities that were
                      made before this setting was, stay */
    bool is_of_model; /* says what a model is, and not how it is trained: holds for all steps of a
                         journal */
} qzo_setting;

/* Ends with a NULL key (setting_table.c). */
extern const qzo_setting qzo_settings[];

enum { QZO_SETTINGS_MAX = 80, QZO_SETTING_EXPECTED_BYTES = 256 };

/* By key or alias; NULL where there is none. */
const qzo_setting *qzo_setting_find(const char *key);

/* What a setting takes, for messages and tables: "an integer from 1 to 1000000". */
void qzo_setting_expected(char out[QZO_SETTING_EXPECTED_BYTES], const qzo_setting *setting);

/* Reads text into the field of setting. On error QZO_ERR_CONFIG and a sentence that says what was
 * expected and found, without file and place (the caller adds them). PATH: the text is stored as it
 * is; the spec owns a copy. */
qzo_status qzo_setting_read(qzo_trial_spec *spec, const qzo_setting *setting, const char *text);

/* The field as text (fresh, the caller frees it): %.9g for numbers, as tables print them. */
char *qzo_setting_text(const qzo_trial_spec *spec, const qzo_setting *setting);

/* The same with as many digits as tell any two numbers apart. */
char *qzo_setting_exact_text(const qzo_trial_spec *spec, const qzo_setting *setting);

/* All defaults; required ones are zero. */
void qzo_trial_spec_defaults(qzo_trial_spec *out);

/* Fills what follows from other settings (micro_batch, evaluate_every, seeds) and checks what two
 * settings say together (micro_batch <= batch, warmup_steps < steps). */
qzo_status qzo_trial_spec_complete(qzo_trial_spec *spec);

/* Forward passes of a step: its evaluations, each over all micro-batches. */
int64_t qzo_trial_spec_passes(const qzo_trial_spec *spec);

/* Records that a step leaves in the journal. */
int64_t qzo_trial_spec_records(const qzo_trial_spec *spec);

/* Whether the metric is what a step lowers, in place of the loss. */
bool qzo_trial_spec_by_metric(const qzo_trial_spec *spec);

/* Whether a step needs losses under both signs of a perturbation of values that stay: what a
 * forward pass may run at once. */
bool qzo_trial_spec_has_pairs(const qzo_trial_spec *spec);

/* Whether the perturbations of a step draw a batch each, or share one. */
bool qzo_trial_spec_batch_per_sample(const qzo_trial_spec *spec);

/* What `compat` leaves no choice about, checked (compat_settings.c). */
qzo_status qzo_trial_spec_check_compat(const qzo_trial_spec *spec);

/* Groups of trainable values (group_settings.c): whether one trains, what the model is loaded for,
 * and how each goes beside the others. With an eps of its own a group's share of the loss
 * difference over twice that eps is its gradient; the clip bounds the difference over twice the
 * trial's. */
bool qzo_trial_spec_trains(const qzo_trial_spec *spec, qzo_group_kind kind);
qzo_training qzo_trial_spec_training(const qzo_trial_spec *spec);
qzo_adapter_settings qzo_trial_spec_adapters(const qzo_trial_spec *spec);
void qzo_trial_spec_rates(qzo_value_group out[QZO_GROUP_COUNT], const qzo_trial_spec *spec);

qzo_status qzo_trial_spec_copy(qzo_trial_spec *out, const qzo_trial_spec *spec);
void qzo_trial_spec_release(qzo_trial_spec *spec); /* safe on a zeroed spec */

/* "key=value\n" of everything in the identity in the table's order; numbers as %.17g; then
 * "model=HEX\ntask=HEX\n"; of a fork, "fork=HEX@STEP\n". Fresh; the caller frees it. Read back by
 * qzo_trial_spec_parse. */
char *qzo_trial_spec_canonical(const qzo_trial_spec *spec);

/* The inverse (paths stay NULL): a journal's header is enough to replay. Refuses unknown keys. */
qzo_status qzo_trial_spec_parse(qzo_trial_spec *out, const char *canonical);

qzo_digest qzo_trial_spec_identity(const qzo_trial_spec *spec);

#endif
