/* What the arithmetic of the paper's program leaves no choice about: settings that it does not have
 * are refused, not ignored. */
#include "trial/trial_spec.h"

#include "model/groups.h"

#include <inttypes.h>
#include <string.h>

static qzo_status refuse(const char *key, const char *expected, const char *found) {
    return qzo_fail(QZO_ERR_CONFIG, "compat: paper has %s %s alone, found %s", key, expected,
                    found);
}

/* Every group goes with the same eps and learning rate, in all steps; scales are bounded from
 * below, whatever their format says of signs, other values are free. */
static qzo_status check_group(const qzo_trial_spec *spec, int kind) {
    const qzo_group_settings *group = &spec->group[kind];
    bool is_plain = group->learning_rate == 0.0 && group->eps == 0.0 && group->after == 0 &&
                    group->until == 0 &&
                    strcmp(group->constraint, qzo_keep_name(QZO_KEEP_AUTO)) == 0;
    if (is_plain) return QZO_OK;
    return qzo_fail(QZO_ERR_CONFIG,
                    "compat: paper has one learning_rate and eps in all steps and its own bounds: "
                    "expected no groups.%s.learning_rate, eps, after, until or constraint",
                    qzo_group_name(kind));
}

qzo_status qzo_trial_spec_check_compat(const qzo_trial_spec *spec) {
    qzo_status status = QZO_OK;
    if (strcmp(spec->compat, "paper") != 0) return QZO_OK;
    if (spec->samples_per_step != 1)
        return qzo_fail(QZO_ERR_CONFIG,
                        "compat: paper has one perturbation per step: expected samples_per_step 1, "
                        "found %" PRId64,
                        spec->samples_per_step);
    if (strcmp(spec->perturbation, "absolute") != 0)
        return refuse("perturbation", "absolute", spec->perturbation);
    if (strcmp(spec->directions, "gaussian") != 0)
        return refuse("directions", "gaussian", spec->directions);
    if (strcmp(spec->update_rule, "plain") != 0)
        return refuse("update_rule", "plain", spec->update_rule);
    if (qzo_trial_spec_trains(spec, QZO_GROUP_LORA))
        return qzo_fail(QZO_ERR_CONFIG, "compat: paper has no adapters: expected groups without "
                                        "lora");
    for (int kind = 0; kind < QZO_GROUP_LORA && status == QZO_OK; kind++)
        status = check_group(spec, kind);
    return status;
}
