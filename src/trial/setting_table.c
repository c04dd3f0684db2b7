/* The table of settings. See trial_spec.h.
 *
 * Adding a setting is a field in qzo_trial_spec and a line here; the sweep file, the canonical text
 * and the table in sweeps/README.md (a test compares them) follow. A line that always stands in the
 * canonical text would change every identity, and finished trials of older sweeps would run again:
 * a new one says `.is_later = true`. */
#include "base/noise.h"
#include "optim/cores.h"
#include "optim/lr_schedule.h"
#include "optim/rules.h"
#include "task/flow.h"
#include "trial/trial_spec.h"
#include "weights/bnb_quantize.h"

#include <math.h>
#include <string.h>

/* Ample for any sensible trial, small enough that products of two stay far from overflow. */
#define STEPS_MAX    1e9
#define COUNT_MAX    1e6
#define SAMPLES_MAX  65536.0
#define RANK_MAX     65536.0
#define NUMBER_MAX   1e6
/* Below 1, where a velocity would never end. */
#define MOMENTUM_MAX 0.999

static const char *update_rule_choice(int index) {
    int count = 0;
    while (qzo_update_rules[count]) count++;
    return index < count ? qzo_update_rules[index]->name : NULL;
}

static const char *compat_choice(int index) {
    return qzo_cores[index] ? qzo_cores[index]->name : NULL;
}

static const char *quantize_choice(int index) {
    if (index == 0) return "none";
    return qzo_bnb_kinds[index - 1] ? qzo_bnb_kinds[index - 1]->name : NULL;
}

static const char *perturbation_choice(int index) { return qzo_perturbation_kinds[index].name; }

static const char *batches_choice(int index) {
    static const char *const names[] = {"shared", "per_sample"};
    return index < 2 ? names[index] : NULL;
}

static const char *objective_choice(int index) {
    static const char *const names[] = {"loss", "metric"};
    return index < 2 ? names[index] : NULL;
}

static const char *schedule_choice(int index) {
    int count = 0;
    while (qzo_lr_schedules[count]) count++;
    return index < count ? qzo_lr_schedules[index]->name : NULL;
}

static const char *metric_name_choice(int index) {
    static const char *const names[] = {"dev_loss", "dev_score"};
    return index < 2 ? names[index] : NULL;
}

static const char *metric_goal_choice(int index) {
    static const char *const names[] = {"minimize", "maximize"};
    return index < 2 ? names[index] : NULL;
}

/* The fields of a line up to its help; more may follow by name. */
#define AT(field) offsetof(qzo_trial_spec, field)
#define PATH(key, field, what)                                                                     \
    key, NULL, QZO_SECTION_TOP, QZO_SETTING_PATH, AT(field), 0, 0, false, NULL, NULL, false, "",   \
        .help = what
#define KEYED_INT(key, field, min, max, default_text, unit, what)                                  \
    key, NULL, QZO_SECTION_TRAIN, QZO_SETTING_INT, AT(field), min, max, false, default_text, NULL, \
        true, unit, .help = what
#define KEYED_NUMBER(key, field, max, above_zero, default_text, what)                              \
    key, NULL, QZO_SECTION_TRAIN, QZO_SETTING_NUMBER, AT(field), 0, max, above_zero, default_text, \
        NULL, true, "", .help = what
#define INT(field, min, max, default_text, unit, what)                                             \
#field, NULL, QZO_SECTION_TRAIN, QZO_SETTING_INT, AT(field), min, max, false, default_text,    \
        NULL, true, unit, .help = what
#define NUMBER(field, alias, max, above_zero, default_text, what)                                  \
    NUMBER_FROM(0, field, alias, max, above_zero, default_text, what)
#define NUMBER_FROM(min, field, alias, max, above_min, default_text, what)                         \
#field, alias, QZO_SECTION_TRAIN, QZO_SETTING_NUMBER, AT(field), min, max, above_min,          \
        default_text, NULL, true, "", .help = what
#define CHOICE(field, section, default_text, choice, what)                                         \
#field, NULL, section, QZO_SETTING_CHOICE, AT(field), 0, 0, false, default_text, choice, true, \
        "", .help = what
#define SEED(field, default_text, in_identity, what)                                               \
#field, NULL, QZO_SECTION_TRAIN, QZO_SETTING_SEED, AT(field), 0, 0, false, default_text, NULL, \
        in_identity, "", .help = what

#define WORDS(key, field, default_text, choice, what)                                              \
    key, NULL, QZO_SECTION_TRAIN, QZO_SETTING_WORDS, AT(field), 0, 0, false, default_text, choice, \
        true, "", .help = what, .is_later = true
#define GROUP_STEPS(name, kind)                                                                    \
    {"groups." name ".learning_rate",                                                              \
     NULL,                                                                                         \
     QZO_SECTION_TRAIN,                                                                            \
     QZO_SETTING_NUMBER,                                                                           \
     AT(group[kind].learning_rate),                                                                \
     0,                                                                                            \
     NUMBER_MAX,                                                                                   \
     true,                                                                                         \
     "=learning_rate",                                                                             \
     NULL,                                                                                         \
     true,                                                                                         \
     "",                                                                                           \
     .help = "of the group " name,                                                                 \
     .is_later = true},                                                                            \
        {"groups." name ".eps",                                                                    \
         NULL,                                                                                     \
         QZO_SECTION_TRAIN,                                                                        \
         QZO_SETTING_NUMBER,                                                                       \
         AT(group[kind].eps),                                                                      \
         0,                                                                                        \
         NUMBER_MAX,                                                                               \
         true,                                                                                     \
         "=eps",                                                                                   \
         NULL,                                                                                     \
         true,                                                                                     \
         "",                                                                                       \
         .help = "of the group " name,                                                             \
         .is_later = true},                                                                        \
        {"groups." name ".after",                                                                  \
         NULL,                                                                                     \
         QZO_SECTION_TRAIN,                                                                        \
         QZO_SETTING_INT,                                                                          \
         AT(group[kind].after),                                                                    \
         0,                                                                                        \
         STEPS_MAX,                                                                                \
         false,                                                                                    \
         "0",                                                                                      \
         NULL,                                                                                     \
         true,                                                                                     \
         "steps",                                                                                  \
         .help = name " rest up to this step",                                                     \
         .is_later = true},                                                                        \
    {                                                                                              \
        "groups." name ".until", NULL, QZO_SECTION_TRAIN, QZO_SETTING_INT, AT(group[kind].until),  \
            0, STEPS_MAX, false, "0", NULL, true, "steps",                                         \
            .help = name " rest after this step; 0: never", .is_later = true                       \
    }
#define GROUP(name, kind)                                                                          \
    GROUP_STEPS(name, kind),                                                                       \
        {"groups." name ".constraint",                                                             \
         NULL,                                                                                     \
         QZO_SECTION_TRAIN,                                                                        \
         QZO_SETTING_CHOICE,                                                                       \
         AT(group[kind].constraint),                                                               \
         0,                                                                                        \
         0,                                                                                        \
         false,                                                                                    \
         "auto",                                                                                   \
         qzo_keep_name,                                                                            \
         true,                                                                                     \
         "",                                                                                       \
         .help = "what an update keeps; auto: signs of scales, by format",                         \
         .is_later = true},                                                                        \
        {WORDS("groups." name ".include", group[kind].include, "", NULL,                           \
               "which " name " train: parts of names, or patterns")},                              \
    {                                                                                              \
        WORDS("groups." name ".exclude", group[kind].exclude, "", NULL, "which " name " do not")   \
    }

const qzo_setting qzo_settings[] = {
    {PATH("model", model_path, "folder of the model, or a GGUF file")},
    {PATH("task", task_path, "prepared task file (*.qzt)")},
    {INT(steps, 1, STEPS_MAX, "20000", "steps", "updates of the scales")},
    {INT(batch, 1, COUNT_MAX, "16", "examples",
         "examples that the losses of a step are taken over")},
    {INT(micro_batch, 0, COUNT_MAX, "=batch", "examples", "examples per forward pass; 0: batch")},
    {INT(samples_per_step, 1, SAMPLES_MAX, "1", "perturbations",
         "perturbations averaged by a step")},
    {CHOICE(batches, QZO_SECTION_TRAIN, "shared", batches_choice,
            "one batch for the perturbations of a step, or each its own"),
     .is_later = true},
    {CHOICE(objective, QZO_SECTION_TRAIN, "loss", objective_choice,
            "what falls: the task's loss, or minus its metric"),
     .is_later = true},
    {NUMBER(learning_rate, NULL, NUMBER_MAX, false, "1e-7", "factor of an update")},
    {CHOICE(schedule, QZO_SECTION_TRAIN, "constant", schedule_choice,
            "learning rate over the steps")},
    {INT(warmup_steps, 0, STEPS_MAX, "0", "steps", "steps of a linear rise of the learning rate")},
    {NUMBER(eps, "zo_eps", NUMBER_MAX, true, "1e-3", "size of a perturbation")},
    {NUMBER(clip, NULL, INFINITY, true, "100", "bound on the projected gradient")},
    {NUMBER_FROM(1, clip_factor, NULL, NUMBER_MAX, true, "3",
                 "mean_clip: bound over the gradients' mean size"),
     .is_later = true},
    {INT(clip_memory, 1, COUNT_MAX, "100", "perturbations",
         "mean_clip, quantile_clip: how many they remember"),
     .is_later = true},
    {NUMBER(clip_quantile, NULL, 1, true, "0.9",
            "quantile_clip: bound among the remembered gradients"),
     .is_later = true},
    {INT(moment_memory, 1, COUNT_MAX, "100", "steps",
         "meazo: how many the second moment remembers"),
     .is_later = true},
    {NUMBER(momentum, NULL, MOMENTUM_MAX, false, "0.9",
            "momentum: share of the velocity that stays"),
     .is_later = true},
    {NUMBER(curvature_power, NULL, 1, false, "0.1",
            "spsa_1_5: power of the curvature that a step is divided by"),
     .is_later = true},
    {NUMBER(guide_share, NULL, 1, true, "0.5",
            "mezo_gv: directions, those with the lowest losses, that lead a step"),
     .is_later = true},
    {NUMBER(floor, NULL, NUMBER_MAX, false, "1e-7", "smallest value of a positive scale"),
     .is_of_model = true},
    {CHOICE(directions, QZO_SECTION_TRAIN, "gaussian", qzo_directions_name,
            "kind of random direction z")},
    {CHOICE(perturbation, QZO_SECTION_TRAIN, "absolute", perturbation_choice,
            "how z acts on a scale")},
    {CHOICE(update_rule, QZO_SECTION_TRAIN, "plain", update_rule_choice, "gradients to updates")},
    {CHOICE(compat, QZO_SECTION_TRAIN, "none", compat_choice,
            "paper: its program's arithmetic, in fp16 and in place"),
     .is_later = true},
    {CHOICE(quantize, QZO_SECTION_TRAIN, "none", quantize_choice,
            "linear layers of an unquantized model, at load"),
     .is_later = true},
    {CHOICE(timestep_density, QZO_SECTION_TRAIN, "logit_normal", qzo_density_name,
            "images: how timesteps are drawn"),
     .is_later = true},
    {NUMBER_FROM(-1000, logit_mean, NULL, 1000, false, "0", "logit_normal: of its normal"),
     .is_later = true},
    {NUMBER(logit_std, NULL, NUMBER_MAX, true, "1", "logit_normal: of its normal"),
     .is_later = true},
    {NUMBER(mode_scale, NULL, NUMBER_MAX, false, "1.29", "mode: how far from uniform"),
     .is_later = true},
    {NUMBER(timestep_shift, NULL, NUMBER_MAX, true, "3", "images: shift of the noise schedule"),
     .is_later = true, .is_of_model = true},
    {CHOICE(loss_weighting, QZO_SECTION_TRAIN, "none", qzo_weighting_name,
            "images: weight of an error by its noise"),
     .is_later = true},
    {INT(evaluate_every, 0, STEPS_MAX, "4000", "steps",
         "steps between evaluations; 0: only at the end")},
    {INT(eval_batch, 1, COUNT_MAX, "16", "examples", "examples per forward pass of an evaluation")},
    {INT(eval_tokens, 0, COUNT_MAX, "0", "tokens",
         "packed tokens per forward pass of an evaluation; 0: eval_batch"),
     .is_later = true},
    {SEED(seed, "0", false, "chooses data order and directions")},
    {SEED(data_seed, "=seed", true, "chooses the data order alone")},
    {SEED(noise_seed, "=seed", true, "chooses the directions alone")},
    {CHOICE(metric_name, QZO_SECTION_METRIC, "dev_loss", metric_name_choice,
            "what tells the best step")},
    {CHOICE(metric_goal, QZO_SECTION_METRIC, "minimize", metric_goal_choice,
            "which way it is better")},
    {WORDS("groups", groups, "scales", qzo_group_name, "what trains")},
    GROUP("scales", QZO_GROUP_SCALES),
    GROUP("unquantized", QZO_GROUP_UNQUANTIZED),
    GROUP("weights", QZO_GROUP_WEIGHTS),
    GROUP_STEPS("lora", QZO_GROUP_LORA),
    {KEYED_INT("groups.lora.rank", lora_rank, 1, RANK_MAX, "8", "", "columns of an adapter"),
     .is_later = true},
    {KEYED_NUMBER("groups.lora.alpha", lora_alpha, NUMBER_MAX, true, "16",
                  "adapters are scaled by alpha / rank"),
     .is_later = true, .is_of_model = true},
    {WORDS("groups.lora.targets", group[QZO_GROUP_LORA].include, "", NULL,
           "linear layers that have one, by PEFT's names; none: queries and values")},
    {0},
};

_Static_assert(sizeof qzo_settings / sizeof qzo_settings[0] <= QZO_SETTINGS_MAX, "see its line");

const qzo_setting *qzo_setting_find(const char *key) {
    for (const qzo_setting *s = qzo_settings; s->key; s++)
        if (strcmp(s->key, key) == 0 || (s->alias && strcmp(s->alias, key) == 0)) return s;
    return NULL;
}
