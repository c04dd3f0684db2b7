/* Groups of trainable values: what a trial trains beside or instead of the scales, chosen by kind
 * and by name. A model is loaded for such a choice (model.h). */
#ifndef QZO_MODEL_GROUPS_H
#define QZO_MODEL_GROUPS_H

#include "weights/model_dir.h"
#include "weights/qtensor.h"

#include <stdbool.h>

typedef enum {
    QZO_GROUP_SCALES,      /* of quantized weights */
    QZO_GROUP_UNQUANTIZED, /* embeddings, positions, norms, biases, head */
    QZO_GROUP_WEIGHTS,     /* linear layers that are not quantized (MeZO, arXiv 2305.17333) */
    QZO_GROUP_LORA,        /* low-rank adapters beside linear layers (adapters.h) */
    QZO_GROUP_COUNT
} qzo_group_kind;

/* "scales", "unquantized", "weights", "lora"; NULL past the last. */
const char *qzo_group_name(int kind);

/* How a group's values are kept after an update. */
typedef enum {
    QZO_KEEP_AUTO, /* scales as their format says, others free */
    QZO_KEEP_FREE,
    QZO_KEEP_POSITIVE,
    QZO_KEEP_SIGN
} qzo_keep;

/* "auto", "free", "positive", "keep_sign"; NULL past the last. */
const char *qzo_keep_name(int keep);

typedef struct qzo_group_choice {
    bool is_used;
    qzo_keep keep;
    /* Patterns joined by '+': of the whole name of a span where they have a '*', '?' or '[', else
     * of one or several of its parts between dots. Empty: include all, exclude none. Borrowed. */
    const char *include, *exclude;
} qzo_group_choice;

typedef struct qzo_training {
    qzo_group_choice groups[QZO_GROUP_COUNT];
    const qzo_bnb_kind *quantize; /* what linear layers become at load; NULL: they stay */
} qzo_training;

/* The scales alone. */
extern const qzo_training qzo_training_default;

/* Whether one loaded model serves both. Adapters are no part of it. */
bool qzo_training_equal(const qzo_training *a, const qzo_training *b);

/* Whether values of that kind and name train. */
bool qzo_training_has(const qzo_training *training, qzo_group_kind kind, const char *name);

/* What keeps values of that kind, whose format says `own`. */
qzo_constraint qzo_training_constraint(const qzo_training *training, qzo_group_kind kind,
                                       qzo_constraint own);

#endif
