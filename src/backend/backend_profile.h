/* A backend around another one that tells where the time of a step goes, by phases.
 *
 * Every operation is passed on as it is, inside a named range of NVIDIA's profilers (base/range.h).
 * While the profile is on, each operation is also waited for and timed, and its floating-point
 * operations and bytes are counted: a timed step is slower than one that runs ahead, so phases tell
 * shares, and the time of a step is measured with the profile off. */
#ifndef QZO_BACKEND_BACKEND_PROFILE_H
#define QZO_BACKEND_BACKEND_PROFILE_H

#include "backend/backend.h"

#define QZO_PHASE_MAP(X)                                                                           \
    X(DECODE, "decode")       /* codes and perturbed values to weights */                          \
    X(MATMUL, "matmul")       /* linear layers and the head, without decoding */                   \
    X(ATTENTION, "attention") /* scores, softmax, weighted values */                               \
    X(ELEMENTS, "elements")   /* embed, norm, rope, activate, sums, copies of rows */              \
    X(LOSS, "loss")           /* log-probabilities from logits */                                  \
    X(UPDATE, "update")       /* update and digest */                                              \
    X(TRANSFER, "transfer")   /* between host and backend, and copies inside it */

#define QZO_PHASE_ENUM(name, text) QZO_PHASE_##name,
typedef enum { QZO_PHASE_MAP(QZO_PHASE_ENUM) QZO_PHASE_COUNT } qzo_phase;

/* Bytes are those that must move at least once: stored weights, values and both activations. */
typedef struct qzo_phase_total {
    int64_t calls;
    double seconds, flops, bytes;
} qzo_phase_total;

/* Takes inner over, also where it fails; qzo_backend_close closes both. */
qzo_status qzo_profile_open(qzo_backend **out, qzo_backend *inner);

/* On: totals start at zero. `profile` is what qzo_profile_open gave. */
void qzo_profile_switch(qzo_backend *profile, bool on);

/* (QZO_PHASE_COUNT); of the profile. */
const qzo_phase_total *qzo_profile_totals(const qzo_backend *profile);

/* Time that only watching took: decoding once more, alone, and reading the rows of attention. */
double qzo_profile_extra_seconds(const qzo_backend *profile);

const char *qzo_phase_name(qzo_phase phase);

/* Bytes of a weight's codes, zero points, groups and codebooks, or of its values as stored, and of
 * its trainable values in fp32: what a product reads at least. */
double qzo_profile_weight_bytes(const qzo_qtensor *tensor);

#endif
