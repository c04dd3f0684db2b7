#include "optim/rules.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* k = fp32((rate / samples) clip(gradient, C)), once in double (QZO, arXiv 2505.13430, section
 * 3.2: directional derivative clipping). */
static void plain_factors(float *k, const qzo_record *records, int64_t count, double rate,
                          double clip) {
    for (int64_t i = 0; i < count; i++) {
        double gradient = (double)records[i].gradient;
        if (gradient > clip) gradient = clip;
        if (gradient < -clip) gradient = -clip;
        bool applies = (records[i].flags & QZO_FLAG_NOT_FINITE) == 0;
        k[i] = applies ? (float)(rate / (double)count * gradient) : 0.0f;
    }
}

static const qzo_update_rule plain = {"plain", plain_factors};

const qzo_update_rule *const qzo_update_rules[] = {&plain, NULL};

const qzo_update_rule *qzo_update_rule_find(const char *name) {
    for (int i = 0; qzo_update_rules[i] != NULL; i++)
        if (strcmp(qzo_update_rules[i]->name, name) == 0) return qzo_update_rules[i];
    return NULL;
}

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
