#include "optim/rules.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct qzo_rule {
    const qzo_update_rule *kind;
    qzo_rule_settings settings;
    int64_t seen; /* gradients that the mean was taken over */
    double mean;  /* of |gradient|, each at most the bound of its step */
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

static const qzo_update_rule plain = {"plain", plain_bound, clipped_factors, NULL};

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

static const qzo_update_rule mean_clip = {"mean_clip", mean_clip_bound, clipped_factors,
                                          mean_clip_observe};

/* --- the registry --- */

const qzo_update_rule *const qzo_update_rules[] = {&plain, &mean_clip, NULL};

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
    *out = rule;
    return QZO_OK;
}

void qzo_rule_close(qzo_rule *rule) { free(rule); }

void qzo_rule_reset(qzo_rule *rule) {
    rule->seen = 0;
    rule->mean = 0.0;
}

double qzo_rule_bound(const qzo_rule *rule) { return rule->kind->bound(rule); }

void qzo_rule_factors(float *k, const qzo_rule *rule, const qzo_record *records, int64_t count,
                      double rate) {
    rule->kind->factors(k, rule, records, count, rate);
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
