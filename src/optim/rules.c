#include "optim/rules.h"

#include "base/math64.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct qzo_rule {
    const qzo_update_rule *kind;
    qzo_rule_settings settings;
    int64_t seen;            /* gradients that the mean was taken over */
    double mean;             /* of |gradient|, each at most the bound of its step */
    double *window, *sorted; /* (clip_memory): the last |gradient|, in a ring; ascending */
    int64_t window_next;     /* where the next one goes */
    double moment;           /* running mean of squares */
    double forgotten;        /* weight of the zero that `moment` began with */
};

static bool is_finite(const qzo_record *record) {
    return (record->flags & QZO_FLAG_NOT_FINITE) == 0;
}

static double clipped(double gradient, double bound) {
    if (gradient > bound) return bound;
    return gradient < -bound ? -bound : gradient;
}

/* --- plain (QZO, arXiv 2505.13430, section 3.2: directional derivative clipping) ---
 *
 * k = fp32((rate / samples) clip(gradient, C)), once in double; C = clip, 100 in the paper. No
 * state. The other rules that clip differ from it in C alone. */

static double plain_bound(const qzo_rule *rule) { return rule->settings.clip; }

static void clipped_factors(float *k, const qzo_rule *rule, const qzo_record *records,
                            int64_t count, double rate) {
    double bound = rule->kind->bound(rule);
    for (int64_t i = 0; i < count; i++) {
        double gradient = clipped((double)records[i].gradient, bound);
        k[i] = is_finite(&records[i]) ? (float)(rate / (double)count * gradient) : 0.0f;
    }
}

static const qzo_update_rule plain = {
    .name = "plain", .bound = plain_bound, .factors = clipped_factors};

/* --- mean_clip: a bound in units of what this model's gradients are ---
 *
 * C = min(clip, clip_factor m), m the running mean of min(|gradient|, C of its step): over all
 * records until there were clip_memory of them, then m += (|gradient| - m) / clip_memory. Before
 * the first record C = clip. What enters the mean is clipped, so that one wild record raises it by
 * (clip_factor - 1) / clip_memory at most (and clip_factor must be above 1, or it only falls); a
 * gradient of exactly 0 says that rounding ate the difference, nothing of its size, and does not
 * enter. State: m and a count. Records enter after their step: C is one number for all samples of a
 * step. */

static double mean_clip_bound(const qzo_rule *rule) {
    if (rule->seen == 0) return rule->settings.clip;
    return fmin(rule->settings.clip, rule->settings.clip_factor * rule->mean);
}

static void mean_clip_observe(qzo_rule *rule, const qzo_record *records, int64_t count) {
    double bound = mean_clip_bound(rule);
    for (int64_t i = 0; i < count; i++) {
        double size = fmin(fabs((double)records[i].gradient), bound);
        if (!is_finite(&records[i]) || !(size > 0.0) || isinf(size)) continue;
        if (rule->seen < rule->settings.clip_memory) rule->seen++;
        rule->mean += (size - rule->mean) / (double)rule->seen;
    }
}

static const qzo_update_rule mean_clip = {.name = "mean_clip",
                                          .bound = mean_clip_bound,
                                          .factors = clipped_factors,
                                          .observe = mean_clip_observe,
                                          .reads = {"clip_factor", "clip_memory"}};

/* --- quantile_clip (after AutoClip, arXiv 2007.14469, which takes norms of whole gradients) ---
 *
 * C = min(clip, the ceil(clip_quantile n)-th smallest of the last n <= clip_memory sizes
 * |gradient|); before the first record C = clip. Sizes enter as they were measured, those of
 * exactly 0 do not (see mean_clip). State: the sizes. */

static double quantile_clip_bound(const qzo_rule *rule) {
    if (rule->seen == 0) return rule->settings.clip;
    double rank = ceil(rule->settings.clip_quantile * (double)rule->seen);
    return fmin(rule->settings.clip, rule->sorted[rank < 1.0 ? 0 : (int64_t)rank - 1]);
}

/* Of the first that is not smaller than size. */
static int64_t place_of(const double *sorted, int64_t count, double size) {
    int64_t low = 0, high = count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (sorted[middle] < size)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Kept in order one by one: the library's qsort allocates. */
static void quantile_clip_remember(qzo_rule *rule, double size) {
    double *oldest = &rule->window[rule->window_next], *sorted = rule->sorted;
    if (rule->seen == rule->settings.clip_memory) {
        double *gone = sorted + place_of(sorted, rule->seen, *oldest);
        rule->seen--;
        memmove(gone, gone + 1, (size_t)(sorted + rule->seen - gone) * sizeof *gone);
    }
    double *place = sorted + place_of(sorted, rule->seen, size);
    memmove(place + 1, place, (size_t)(sorted + rule->seen - place) * sizeof *place);
    *place = *oldest = size;
    rule->seen++;
    rule->window_next = (rule->window_next + 1) % rule->settings.clip_memory;
}

static void quantile_clip_observe(qzo_rule *rule, const qzo_record *records, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        double size = fabs((double)records[i].gradient);
        if (is_finite(&records[i]) && size > 0.0) quantile_clip_remember(rule, size);
    }
}

static const qzo_update_rule quantile_clip = {.name = "quantile_clip",
                                              .bound = quantile_clip_bound,
                                              .factors = clipped_factors,
                                              .observe = quantile_clip_observe,
                                              .has_window = true,
                                              .reads = {"clip_quantile", "clip_memory"}};

/* --- meazo (MEAZO: Dbouk et al., On Adaptivity in Zeroth-Order Optimization, arXiv 2605.03869) ---
 *
 * Known to us from a summary that gives its formulas; the bias is corrected as in Adam. One scalar
 * second moment for all values: g = mean over the step's samples of clip(gradient, C),
 * v = b v + (1 - b) g^2, k = fp32((rate / samples) clip(gradient, C) / (sqrt(v / (1 - b^t)) +
 * 1e-8)) with b = 1 - 1 / moment_memory and t the steps so far, this one included: the learning
 * rate is then about the length of a step along z. State: v and b^t. C = clip; none is the
 * published rule. */

static const double MEAZO_SMALLEST = 1e-8;

typedef struct meazo_moment {
    double value, forgotten;
} meazo_moment;

static meazo_moment meazo_next(const qzo_rule *rule, const qzo_record *records, int64_t count) {
    meazo_moment next = {rule->moment, rule->forgotten};
    double sum = 0.0, weight = 1.0 / (double)rule->settings.moment_memory;
    int64_t finite = 0;
    for (int64_t i = 0; i < count; i++) {
        if (!is_finite(&records[i])) continue;
        sum += clipped((double)records[i].gradient, rule->settings.clip);
        finite++;
    }
    if (finite == 0 || !isfinite(sum)) return next;
    double mean = sum / (double)finite;
    next.value += (mean * mean - next.value) * weight;
    next.forgotten *= 1.0 - weight;
    return next;
}

static void meazo_factors(float *k, const qzo_rule *rule, const qzo_record *records, int64_t count,
                          double rate) {
    meazo_moment moment = meazo_next(rule, records, count);
    double root = moment.forgotten < 1.0 ? sqrt(moment.value / (1.0 - moment.forgotten)) : 0.0;
    for (int64_t i = 0; i < count; i++) {
        double gradient = clipped((double)records[i].gradient, rule->settings.clip);
        bool applies = is_finite(&records[i]) && isfinite(gradient);
        k[i] = applies ? (float)(rate / (double)count * gradient / (root + MEAZO_SMALLEST)) : 0.0f;
    }
}

static void meazo_observe(qzo_rule *rule, const qzo_record *records, int64_t count) {
    meazo_moment moment = meazo_next(rule, records, count);
    rule->moment = moment.value;
    rule->forgotten = moment.forgotten;
}

static const qzo_update_rule meazo = {.name = "meazo",
                                      .bound = plain_bound,
                                      .factors = meazo_factors,
                                      .observe = meazo_observe,
                                      .reads = {"moment_memory"}};

/* --- momentum (the heavy ball: Polyak 1964, in the form of Sutskever et al., ICML 2013, eq. 1) ---
 *
 * k as plain; the records of a step move a velocity v instead of the value x: v = momentum v, then
 * v = fma(-k, z, v) in their order, and x = x + v, once, before the constraint. With a learning
 * rate that stays the same this is PyTorch's SGD(momentum), whose steps are 1 / (1 - momentum)
 * times as long as plain's in the long run. The velocity of a group that rests rests. State: v, one
 * fp32 per value, 0 at first; replaying the records moves it again, bit for bit. */

static const qzo_update_rule momentum = {.name = "momentum",
                                         .bound = plain_bound,
                                         .factors = clipped_factors,
                                         .has_velocity = true,
                                         .reads = {"momentum"}};

/* --- fzoo (FZOO: Dang et al., arXiv 2506.09034, and github.com/DKmiyan/FZOO) ---
 *
 * One-sided: loss+ of each sample against the loss without perturbation, L0, which is taken once.
 * k = fp32((rate / samples) (loss+ - L0) / s), s the standard deviation of the step's losses loss+
 * (over samples, not samples - 1): the form of the authors' program; the paper's formula divides by
 * eps besides, which is another unit of the learning rate. Here (loss+ - L0) is eps times the
 * gradient, clipped as plain's; no clip is the published rule. Where all losses are equal, s = 0
 * and k = 0. Directions of -1 and +1 are the authors' and the default; their reuse of the last
 * step's losses is left out. No state. */

static double spread_of_losses(const qzo_record *records, int64_t count) {
    double sum = 0.0, squares = 0.0;
    int64_t finite = 0;
    for (int64_t i = 0; i < count; i++)
        if (is_finite(&records[i])) sum += (double)records[i].loss_plus, finite++;
    double mean = sum / (double)finite;
    for (int64_t i = 0; i < count; i++) {
        double distance = (double)records[i].loss_plus - mean;
        if (is_finite(&records[i])) squares += distance * distance;
    }
    return finite > 0 ? sqrt(squares / (double)finite) : 0.0;
}

static void fzoo_factors(float *k, const qzo_rule *rule, const qzo_record *records, int64_t count,
                         double rate) {
    double spread = spread_of_losses(records, count), eps = rule->settings.eps;
    for (int64_t i = 0; i < count; i++) {
        double gradient = clipped((double)records[i].gradient, rule->settings.clip);
        bool applies = is_finite(&records[i]) && isfinite(gradient) && spread > 0.0;
        k[i] = applies ? (float)(rate / (double)count * gradient * eps / spread) : 0.0f;
    }
}

static const qzo_update_rule fzoo = {.name = "fzoo",
                                     .bound = plain_bound,
                                     .factors = fzoo_factors,
                                     .is_one_sided = true,
                                     .has_clean = true,
                                     .samples_min = 2,
                                     .directions = "rademacher"};

/* --- spsa_1_5 (1.5-SPSA: Chaubard, Kochenderfer and Re, Probe-Space Preconditioning, 2026) ---
 *
 * Known to us from notes taken of the text. Beside the pairs of a step its loss without
 * perturbation, L0, is taken once; the curvature along a sample's direction is c = (loss+ - 2 L0 +
 * loss-) / eps^2, and its share of the step is divided by max(1, |c|^p), p = curvature_power, 0.1
 * in the source: k = fp32((rate / samples) clip(gradient, C) / max(1, |c|^p)). The weight is one of
 * the direction, not of a tensor. Directions of -1 and +1 are the source's and the default. No
 * state. */

static double curvature_weight(const qzo_record *record, double clean, double eps, double power) {
    double bend = ((double)record->loss_plus - clean) + ((double)record->loss_minus - clean);
    double size = fabs(bend / (eps * eps));
    return size > 1.0 ? qzo_exp(-power * qzo_log(size)) : 1.0;
}

static void spsa_1_5_factors(float *k, const qzo_rule *rule, const qzo_record *records,
                             int64_t count, double rate) {
    const qzo_rule_settings *settings = &rule->settings;
    double clean = (double)records[count].loss_plus;
    for (int64_t i = 0; i < count; i++) {
        double gradient = clipped((double)records[i].gradient, settings->clip);
        bool applies = is_finite(&records[i]) && isfinite(gradient) && isfinite(clean);
        double weight =
            applies ? curvature_weight(&records[i], clean, settings->eps, settings->curvature_power)
                    : 0.0;
        k[i] = applies ? (float)(rate / (double)count * gradient * weight) : 0.0f;
    }
}

static const qzo_update_rule spsa_1_5 = {.name = "spsa_1_5",
                                         .bound = plain_bound,
                                         .factors = spsa_1_5_factors,
                                         .has_clean = true,
                                         .directions = "rademacher",
                                         .reads = {"curvature_power"}};

/* --- mezo_gv (MeZO-GV: Jin, Cen and Tan, arXiv 2601.04710, section III-A) ---
 *
 * Candidates first: loss+ of each sample, M of them. With v = the mean direction of the
 * floor(guide_share M) samples with the lowest losses less the mean direction of the others, a pair
 * of losses along v gives g = (loss+ - loss-) / (2 eps), and the step is that of plain along v: as
 * v is a sum of share_i z_i, k_i = fp32(rate clip(g, C) share_i). Of two losses that are equal the
 * first is the lower one; a sample whose loss is not finite is in neither half. Where a half is
 * empty v = 0 and k = 0. With 4 samples and halves v is as long as one direction z. The paper gives
 * no number for its share, or we found none: 1/2 is ours. No state. */

static double mezo_gv_share(const qzo_rule *rule, const qzo_record *records, int64_t count,
                            int64_t sample) {
    const qzo_record *own = &records[sample];
    int64_t finite = 0, lower = 0;
    for (int64_t i = 0; i < count; i++) {
        if (!is_finite(&records[i])) continue;
        finite++;
        lower += records[i].loss_plus < own->loss_plus ||
                 (records[i].loss_plus == own->loss_plus && i < sample);
    }
    int64_t low = (int64_t)(rule->settings.guide_share * (double)finite), high = finite - low;
    if (!is_finite(own) || low == 0 || high == 0) return 0.0;
    return lower < low ? 1.0 / (double)low : -1.0 / (double)high;
}

static void mezo_gv_factors(float *k, const qzo_rule *rule, const qzo_record *records,
                            int64_t count, double rate) {
    const qzo_record *pair = &records[count];
    double gradient = clipped((double)pair->gradient, rule->settings.clip);
    bool applies = is_finite(pair) && isfinite(gradient);
    for (int64_t i = 0; i < count; i++)
        k[i] = applies ? (float)(rate * gradient * mezo_gv_share(rule, records, count, i)) : 0.0f;
}

static const qzo_update_rule mezo_gv = {.name = "mezo_gv",
                                        .bound = plain_bound,
                                        .factors = mezo_gv_factors,
                                        .share = mezo_gv_share,
                                        .samples_min = 2,
                                        .reads = {"guide_share"}};

/* --- the registry --- */

const qzo_update_rule *const qzo_update_rules[] = {
    &plain, &mean_clip, &quantile_clip, &meazo, &momentum, &fzoo, &spsa_1_5, &mezo_gv, NULL};

int64_t qzo_update_rule_records(const qzo_update_rule *kind, int64_t samples) {
    return samples + ((kind->has_clean && !kind->is_one_sided) || kind->share != NULL ? 1 : 0);
}

int64_t qzo_update_rule_evaluations(const qzo_update_rule *kind, int64_t samples) {
    if (kind->share != NULL) return samples + 2;
    return samples * (kind->is_one_sided ? 1 : 2) + (kind->has_clean ? 1 : 0);
}

const qzo_update_rule *qzo_update_rule_find(const char *name) {
    for (int i = 0; qzo_update_rules[i] != NULL; i++)
        if (strcmp(qzo_update_rules[i]->name, name) == 0) return qzo_update_rules[i];
    return NULL;
}

qzo_status qzo_rule_open(qzo_rule **out, const qzo_update_rule *kind,
                         const qzo_rule_settings *settings) {
    qzo_rule *rule = calloc(1, sizeof *rule);
    if (rule == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for an update rule");
    rule->kind = kind;
    rule->settings = *settings;
    if (kind->has_window) {
        rule->window = calloc((size_t)settings->clip_memory, sizeof(double));
        rule->sorted = calloc((size_t)settings->clip_memory, sizeof(double));
        if (rule->window == NULL || rule->sorted == NULL) {
            qzo_rule_close(rule);
            return qzo_fail(QZO_ERR_MEMORY, "out of memory for the last %lld gradients",
                            (long long)settings->clip_memory);
        }
    }
    qzo_rule_reset(rule);
    *out = rule;
    return QZO_OK;
}

void qzo_rule_close(qzo_rule *rule) {
    if (rule == NULL) return;
    free(rule->window);
    free(rule->sorted);
    free(rule);
}

void qzo_rule_reset(qzo_rule *rule) {
    rule->seen = rule->window_next = 0;
    rule->mean = rule->moment = 0.0;
    rule->forgotten = 1.0;
}

double qzo_rule_bound(const qzo_rule *rule) { return rule->kind->bound(rule); }

void qzo_rule_factors(float *k, const qzo_rule *rule, const qzo_record *records, int64_t count,
                      double rate) {
    rule->kind->factors(k, rule, records, count, rate);
}

double qzo_rule_share(const qzo_rule *rule, const qzo_record *records, int64_t count,
                      int64_t sample) {
    return rule->kind->share(rule, records, count, sample);
}

void qzo_rule_observe(qzo_rule *rule, const qzo_record *records, int64_t count) {
    if (rule->kind->observe != NULL) rule->kind->observe(rule, records, count);
}

/* --- kinds of perturbation --- */

/* absolute: value +- eps z, whatever the value (QZO, Algorithm 1). relative: value +- eps u z with
 * u the initial value, so that eps and the learning rate mean the same for scales of any size. */
const qzo_perturbation_kind qzo_perturbation_kinds[] = {
    {"absolute", false},
    {"relative", true},
    {0},
};

const qzo_perturbation_kind *qzo_perturbation_kind_find(const char *name) {
    for (const qzo_perturbation_kind *kind = qzo_perturbation_kinds; kind->name != NULL; kind++)
        if (strcmp(kind->name, name) == 0) return kind;
    return NULL;
}
