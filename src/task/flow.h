/* The flow-matching objective of Stable Diffusion 3 (Esser et al., arXiv 2403.03206; as diffusers'
 * training scripts compute it): between an image x and noise n lies (1 - sigma) x + sigma n; the
 * model sees that and says n - x; the loss is the weighted mean of squares. All on the host. */
#ifndef QZO_TASK_FLOW_H
#define QZO_TASK_FLOW_H

#include <stdint.h>

/* How u in (0, 1), the place on the schedule, is drawn. */
typedef enum {
    QZO_DENSITY_LOGIT_NORMAL, /* sigmoid(mean + std z) */
    QZO_DENSITY_UNIFORM,
    QZO_DENSITY_MODE, /* 1 - u - scale (cos^2(pi u / 2) - 1 + u), u uniform */
    QZO_DENSITY_COUNT
} qzo_density;

/* The weight of a squared error at sigma. */
typedef enum {
    QZO_WEIGHTING_NONE,       /* 1: the plain mean squared error */
    QZO_WEIGHTING_SIGMA_SQRT, /* sigma^-2 */
    QZO_WEIGHTING_COSMAP,     /* 2 / (pi (1 - 2 sigma + 2 sigma^2)) */
    QZO_WEIGHTING_COUNT
} qzo_weighting;

/* "logit_normal", "uniform", "mode"; "none", "sigma_sqrt", "cosmap"; NULL past the last. */
const char *qzo_density_name(int density);
const char *qzo_weighting_name(int weighting);

typedef struct qzo_flow_settings {
    qzo_density density;
    qzo_weighting weighting;
    double logit_mean, logit_std, mode_scale;
    double shift; /* of the schedule: sigma = shift s / (1 + (shift - 1) s) */
} qzo_flow_settings;

/* What evaluations measure by, whatever a trial trains by: the plain loss at logit-normal places of
 * the same schedule. Trials that weigh or draw differently can then be compared. */
qzo_flow_settings qzo_flow_measure(const qzo_flow_settings *training);

/* What an example meets: a function of (seed, round, place) alone, so that both perturbed
 * evaluations and all ranks have the same. */
typedef struct qzo_flow_draw {
    float sigma;         /* one of the schedule's 1000 */
    float timestep;      /* 1000 sigma: what the model is told */
    uint64_t noise_seed; /* of qzo_flow_noise */
} qzo_flow_draw;

/* round: of training, from 0 on; or QZO_FLOW_EVALUATION, whose place is the example itself, so that
 * every evaluation of a split sees the same. */
#define QZO_FLOW_EVALUATION UINT64_MAX
qzo_flow_draw qzo_flow_draw_of(const qzo_flow_settings *settings, uint64_t seed, uint64_t round,
                               uint32_t place);

/* noisy (count) = (1 - sigma) latent + sigma noise, target (count) = noise - latent, with N(0, 1)
 * noise. */
void qzo_flow_mix(float *noisy, float *target, const float *latent, int64_t count,
                  const qzo_flow_draw *draw);

/* The mean over `count` of weight (predicted - target)^2. */
double qzo_flow_loss(const qzo_flow_settings *settings, const float *predicted, const float *target,
                     int64_t count, const qzo_flow_draw *draw);

#endif
