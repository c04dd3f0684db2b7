#include "cli/findings.h"

#include "base/check.h"
#include "cli/cli.h"

#include <stdarg.h>

static const char *const LEVELS[] = {"ok", "warning", "problem"};

qzo_finding *qzo_finding_add(qzo_findings *findings, const char *name, const char *format, ...) {
    QZO_ASSERT(findings->count < QZO_FINDINGS_MAX);
    qzo_finding *finding = &findings->list[findings->count++];
    va_list arguments;
    *finding = (qzo_finding){.name = name};
    va_start(arguments, format);
    vsnprintf(finding->found, sizeof finding->found, format, arguments);
    va_end(arguments);
    return finding;
}

void qzo_finding_advise(qzo_finding *finding, qzo_finding_level level, const char *format, ...) {
    va_list arguments;
    finding->level = level;
    va_start(arguments, format);
    vsnprintf(finding->advice, sizeof finding->advice, format, arguments);
    va_end(arguments);
}

bool qzo_findings_have_problem(const qzo_findings *findings) {
    for (int i = 0; i < findings->count; i++)
        if (findings->list[i].level == QZO_FINDING_PROBLEM) return true;
    return false;
}

qzo_status qzo_findings_print(const qzo_findings *findings, bool json) {
    json_t *list = json_array();
    for (int i = 0; i < findings->count; i++) {
        const qzo_finding *f = &findings->list[i];
        const char *advice = f->advice[0] != '\0' ? f->advice : NULL;
        json_array_append_new(list,
                              json_pack("{ss, ss, ss, ss*}", "name", f->name, "level",
                                        LEVELS[f->level], "found", f->found, "advice", advice));
        if (json) continue;
        printf("%-8s %-14s %s\n", LEVELS[f->level], f->name, f->found);
        if (advice != NULL) printf("%23s %s\n", "->", advice);
    }
    if (json) return qzo_json_print(json_pack("{so}", "findings", list));
    json_decref(list);
    return QZO_OK;
}
