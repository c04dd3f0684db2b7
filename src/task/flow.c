#include "task/flow.h"

#include "base/math64.h"
#include "base/noise.h"
#include "base/philox.h"

enum { TIMESTEPS = 1000 };

static const double PI = 3.14159265358979323846;

/* Noise of images has a tensor id that no tensor's 32-bit hash gives but by chance, and a seed of
 * its own for every example, so that it cannot meet a direction of perturbation. */
enum { NOISE_ID = 0 };

const char *qzo_density_name(int density) {
    static const char *const names[] = {"logit_normal", "uniform", "mode", NULL};
    return names[density];
}

const char *qzo_weighting_name(int weighting) {
    static const char *const names[] = {"none", "sigma_sqrt", "cosmap", NULL};
    return names[weighting];
}

qzo_flow_settings qzo_flow_measure(const qzo_flow_settings *training) {
    return (qzo_flow_settings){.density = QZO_DENSITY_LOGIT_NORMAL,
                               .weighting = QZO_WEIGHTING_NONE,
                               .logit_std = 1.0,
                               .shift = training->shift};
}

static double place_of(const qzo_flow_settings *settings, const qzo_philox_block *block) {
    double uniform = ((double)block->word[0] + 0.5) * 0x1p-32;
    float z = 0.0f, unused = 0.0f;
    switch (settings->density) {
    case QZO_DENSITY_UNIFORM: return uniform;
    case QZO_DENSITY_MODE: {
        double cosine = qzo_cospi(0.5 * uniform);
        return 1.0 - uniform - settings->mode_scale * (cosine * cosine - 1.0 + uniform);
    }
    default: break;
    }
    qzo_normal_pair(&z, &unused, block->word[0], block->word[1]);
    return 1.0 / (1.0 + qzo_exp(-(settings->logit_mean + settings->logit_std * (double)z)));
}

/* Step i of the schedule is (1000 - i) / 1000 before it is shifted: u near 0 is nearly all noise.
 */
qzo_flow_draw qzo_flow_draw_of(const qzo_flow_settings *settings, uint64_t seed, uint64_t round,
                               uint32_t place) {
    qzo_philox_block first = qzo_philox(seed, round, place, QZO_PURPOSE_TIME);
    qzo_philox_block second = qzo_philox(~seed, round, place, QZO_PURPOSE_TIME);
    int64_t index = (int64_t)(place_of(settings, &first) * TIMESTEPS);
    if (index < 0) index = 0;
    if (index > TIMESTEPS - 1) index = TIMESTEPS - 1;
    double s = (double)(TIMESTEPS - index) / TIMESTEPS;
    double sigma = settings->shift * s / (1.0 + (settings->shift - 1.0) * s);
    return (qzo_flow_draw){.sigma = (float)sigma,
                           .timestep = (float)(sigma * TIMESTEPS),
                           .noise_seed = (uint64_t)second.word[0] | (uint64_t)second.word[1] << 32};
}

void qzo_flow_mix(float *noisy, float *target, const float *latent, int64_t count,
                  const qzo_flow_draw *draw) {
    float rest = 1.0f - draw->sigma;
    qzo_noise_fill(noisy, draw->noise_seed, NOISE_ID, 0, count, QZO_DIRECTIONS_GAUSSIAN);
    for (int64_t i = 0; i < count; i++) {
        float noise = noisy[i];
        target[i] = noise - latent[i];
        noisy[i] = rest * latent[i] + draw->sigma * noise;
    }
}

static double weight_of(const qzo_flow_settings *settings, double sigma) {
    switch (settings->weighting) {
    case QZO_WEIGHTING_SIGMA_SQRT: return 1.0 / (sigma * sigma);
    case QZO_WEIGHTING_COSMAP: return 2.0 / (PI * (1.0 - 2.0 * sigma + 2.0 * sigma * sigma));
    default: return 1.0;
    }
}

double qzo_flow_loss(const qzo_flow_settings *settings, const float *predicted, const float *target,
                     int64_t count, const qzo_flow_draw *draw) {
    double sum = 0.0;
    for (int64_t i = 0; i < count; i++) {
        double error = (double)predicted[i] - (double)target[i];
        sum += error * error;
    }
    return weight_of(settings, (double)draw->sigma) * sum / (double)count;
}
