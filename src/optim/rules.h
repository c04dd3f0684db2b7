/* Update rules and kinds of perturbation: registries, one line per entry. */
#ifndef QZO_OPTIM_RULES_H
#define QZO_OPTIM_RULES_H

#include <stdbool.h>
#include <stdint.h>

/* What one finished perturbation tells, as it travels between ranks: 32 bytes, little-endian. */
typedef struct qzo_record {
    uint64_t seed;
    float loss_plus;
    float loss_minus;
    float gradient; /* (loss_plus - loss_minus) / (2 eps), not clipped */
    uint32_t sample;
    uint32_t flags;  /* qzo_record_flags */
    uint32_t digest; /* low bits of the masters' digest when the losses were computed */
} qzo_record;

typedef enum {
    QZO_FLAG_EMPTY = 1u << 0,      /* a slot without a perturbation */
    QZO_FLAG_NOT_FINITE = 1u << 1, /* a loss is NaN or infinite: never applied */
    QZO_FLAG_CLIPPED = 1u << 2,    /* |gradient| > clip */
    QZO_FLAG_ZERO_LOSS = 1u << 3,  /* both losses are exactly 0: the model has collapsed */
    QZO_FLAG_PARK = 1u << 8,       /* this rank wants to stop after the step; depends on the run */
    QZO_FLAG_FAILED = 1u << 9,     /* this rank could not evaluate its share; depends on the run */
    QZO_FLAG_CORRUPT = 1u << 10,   /* this rank's masters changed since its last update */
    QZO_FLAGS_RUN_DEPENDENT = QZO_FLAG_PARK | QZO_FLAG_FAILED | QZO_FLAG_CORRUPT
} qzo_record_flags;

/* A rule turns the gradients of a step into the factors k of its perturbations. */
typedef struct qzo_update_rule {
    const char *name;
    /* k (count), one per record: fp32 of a value computed in double. rate: learning rate times
     * schedule; a record flagged QZO_FLAG_NOT_FINITE gets k = 0. */
    void (*factors)(float *k, const qzo_record *records, int64_t count, double rate, double clip);
} qzo_update_rule;

/* NULL-terminated: plain (the paper's). */
extern const qzo_update_rule *const qzo_update_rules[];
const qzo_update_rule *qzo_update_rule_find(const char *name);

/* How z acts on a value. */
typedef struct qzo_perturbation_kind {
    const char *name;
    bool
        is_relative; /* z is replaced by initial value * z, in the perturbation and in the update */
} qzo_perturbation_kind;

/* NULL-named entry last: absolute (the paper's), relative. */
extern const qzo_perturbation_kind qzo_perturbation_kinds[];
const qzo_perturbation_kind *qzo_perturbation_kind_find(const char *name);

#endif
