/* Update rules, which turn the gradients of a step into the factors k of its perturbations, and
 * kinds of perturbation: registries, one line per entry.
 *
 * A rule may remember what earlier steps told. Its state is a function of the records of those
 * steps, in their order, and of nothing else: so it does not depend on ranks, and resuming is
 * telling it the records of the journal. Records flagged QZO_FLAG_NOT_FINITE never enter it. What
 * a rule keeps for each value (a velocity) is moved with the masters, and so replayed with them. */
#ifndef QZO_OPTIM_RULES_H
#define QZO_OPTIM_RULES_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* What one finished perturbation tells, as it travels between ranks: 32 bytes, little-endian. */
typedef struct qzo_record {
    uint64_t seed;
    float loss_plus;
    float loss_minus; /* where one-sided: without perturbation; of a candidate: loss_plus again */
    float gradient;   /* (loss_plus - loss_minus) / (2 eps), or one-sided over eps, not clipped */
    uint32_t sample;
    uint32_t flags;  /* qzo_record_flags */
    uint32_t digest; /* low bits of the masters' digest when the losses were computed */
} qzo_record;

typedef enum {
    QZO_FLAG_EMPTY = 1u << 0,      /* a slot without a perturbation */
    QZO_FLAG_NOT_FINITE = 1u << 1, /* a loss is NaN or infinite: never applied */
    QZO_FLAG_CLIPPED = 1u << 2,    /* |gradient| > the rule's bound in this step */
    QZO_FLAG_ZERO_LOSS = 1u << 3,  /* both losses are exactly 0: the model has collapsed */
    QZO_FLAG_ONE_SIDED = 1u << 4,  /* loss_minus is that of the masters as they are */
    QZO_FLAG_CLEAN = 1u << 5,      /* no sample: both losses are that without perturbation */
    QZO_FLAG_CANDIDATE = 1u << 6,  /* one loss, which says the sample's share of the guide */
    QZO_FLAG_GUIDED = 1u << 7,     /* no sample: both losses are those along the guide */
    QZO_FLAG_PARK = 1u << 8,       /* this rank wants to stop after the step; depends on the run */
    QZO_FLAG_FAILED = 1u << 9,     /* this rank could not evaluate its share; depends on the run */
    QZO_FLAG_CORRUPT = 1u << 10,   /* this rank's masters changed since its last update */
    QZO_FLAGS_RUN_DEPENDENT = QZO_FLAG_PARK | QZO_FLAG_FAILED | QZO_FLAG_CORRUPT
} qzo_record_flags;

/* Those of a trial's settings that rules read. */
typedef struct qzo_rule_settings {
    double eps;            /* size of a perturbation */
    double clip;           /* bound on |gradient|; INFINITY: none */
    double clip_factor;    /* mean_clip: the bound as a multiple of the mean |gradient| */
    int64_t clip_memory;   /* mean_clip, quantile_clip: records that they remember */
    double clip_quantile;  /* quantile_clip: the bound among the remembered |gradient|, in (0, 1] */
    int64_t moment_memory; /* meazo: steps that the second moment remembers */
    double momentum;       /* momentum: share of the velocity that a step keeps */
    double curvature_power; /* spsa_1_5: of the curvature that a step is divided by */
    double guide_share;     /* mezo_gv: of the samples, those with the lowest losses */
} qzo_rule_settings;

/* A rule with its state. */
typedef struct qzo_rule qzo_rule;

enum { QZO_RULE_READS_MAX = 2 };

typedef struct qzo_update_rule {
    const char *name;
    /* The largest |gradient| that the next step takes as it is, given the steps so far. */
    double (*bound)(const qzo_rule *rule);
    /* k (count), one per sample's record: fp32 of a value computed in double. rate: learning rate
     * times schedule; a record flagged QZO_FLAG_NOT_FINITE gets k = 0. Behind the samples' records
     * stands the clean or the guided one, where there is one. */
    void (*factors)(float *k, const qzo_rule *rule, const qzo_record *records, int64_t count,
                    double rate);
    void (*observe)(qzo_rule *rule, const qzo_record *records, int64_t count); /* NULL: no state */
    bool has_window;   /* remembers clip_memory single gradients */
    bool has_velocity; /* the trainable values have one, see qzo_trainable */
    /* What a step evaluates: loss+ and loss- of each sample, or loss+ alone; and the loss without
     * perturbation, once, for which its samples must share their batch. */
    bool is_one_sided, has_clean;
    /* Not NULL: a step evaluates loss+ alone of each sample, the candidates; then a pair along
     * their guide (guide.h), of which this is a sample's share, told by all their records. */
    double (*share)(const qzo_rule *rule, const qzo_record *records, int64_t count, int64_t sample);
    int64_t samples_min;    /* that a step must have; 0: any number */
    const char *directions; /* the default with this rule; NULL: that of all */
    const char
        *reads[QZO_RULE_READS_MAX + 1]; /* of qzo_rule_settings, beside clip; ends with NULL */
} qzo_update_rule;

/* NULL-terminated: plain (the paper's), mean_clip, quantile_clip, meazo, momentum, fzoo,
 * spsa_1_5, mezo_gv. */
extern const qzo_update_rule *const qzo_update_rules[];
const qzo_update_rule *qzo_update_rule_find(const char *name);

/* Losses of a batch that a step of so many samples takes. */
int64_t qzo_update_rule_evaluations(const qzo_update_rule *kind, int64_t samples);

/* Records of a step: one per sample, in their order; then, where a clean loss stands beside pairs,
 * or a pair beside candidates, its own, which is never applied. */
int64_t qzo_update_rule_records(const qzo_update_rule *kind, int64_t samples);

/* Allocates all that the rule will need, as before the first step. The caller closes it. */
qzo_status qzo_rule_open(qzo_rule **out, const qzo_update_rule *kind,
                         const qzo_rule_settings *settings);
void qzo_rule_close(qzo_rule *rule); /* NULL is fine */
void qzo_rule_reset(qzo_rule *rule); /* as it was opened */

double qzo_rule_bound(const qzo_rule *rule);
void qzo_rule_factors(float *k, const qzo_rule *rule, const qzo_record *records, int64_t count,
                      double rate);

/* Of a rule with a guide. */
double qzo_rule_share(const qzo_rule *rule, const qzo_record *records, int64_t count,
                      int64_t sample);

/* A step is done: its records enter the state. After qzo_rule_factors, or from a journal. */
void qzo_rule_observe(qzo_rule *rule, const qzo_record *records, int64_t count);

/* How z acts on a value. */
typedef struct qzo_perturbation_kind {
    const char *name;
    bool is_relative; /* z is replaced by initial value * z, when perturbing and when updating */
} qzo_perturbation_kind;

/* NULL-named entry last: absolute (the paper's), relative. */
extern const qzo_perturbation_kind qzo_perturbation_kinds[];
const qzo_perturbation_kind *qzo_perturbation_kind_find(const char *name);

#endif
