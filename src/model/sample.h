/* The next token from its logits: the most likely one, or drawn by the counter-based generator.
 * A drawn token is a pure function of (logits, settings, sequence, position). */
#ifndef QZO_MODEL_SAMPLE_H
#define QZO_MODEL_SAMPLE_H

#include <stdint.h>

typedef struct qzo_sampling {
    double temperature; /* divides the logits; 0: the most likely token */
    int64_t top_k;      /* only so many of the most likely tokens; 0: all */
    double top_p;       /* of those the fewest whose probabilities reach it; 1: all */
    uint64_t seed;
} qzo_sampling;

typedef struct qzo_candidate {
    float logit;
    int32_t id;
} qzo_candidate;

/* The token after logits (vocab); of equal logits the lowest id is the more likely one. Drawn by
 * Philox with purpose TOKEN, counter `sequence`, third word `position`. scratch: (vocab). */
int32_t qzo_sample(const float *logits, int64_t vocab, const qzo_sampling *sampling,
                   uint64_t sequence, uint32_t position, qzo_candidate *scratch);

#endif
