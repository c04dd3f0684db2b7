#include "base/fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct fault {
    qzo_fault_kind kind;
    int64_t rank, at;
    bool spent;
} fault;

static fault faults[QZO_FAULTS_MAX];
static int fault_count;
static int64_t occasion_counts[QZO_FAULT_COUNT];
static int own_rank;

static const char *const names[QZO_FAULT_COUNT] = {"kill",        "corrupt",    "delay",
                                                   "nan-loss",    "zero-loss",  "update-error",
                                                   "write-error", "short-read", "fork-error"};

qzo_status qzo_fault_add(const char *text) {
    char kind[32];
    long long rank = 0, at = 0;
    int end = 0;
    if (fault_count == QZO_FAULTS_MAX)
        return qzo_fail(QZO_ERR_USAGE, "--inject-fault: at most %d faults", QZO_FAULTS_MAX);
    int fields = sscanf(text, "%31[a-z-]:%lld@%lld%n", kind, &rank, &at, &end);
    for (int i = 0; fields == 3 && text[end] == '\0' && rank >= 0 && at >= 1 && i < QZO_FAULT_COUNT;
         i++) {
        if (strcmp(names[i], kind) != 0) continue;
        faults[fault_count++] = (fault){(qzo_fault_kind)i, rank, at, false};
        return QZO_OK;
    }
    return qzo_fail(
        QZO_ERR_USAGE,
        "--inject-fault \"%s\": expected KIND:RANK@AT, with KIND one of kill, corrupt, "
        "delay, nan-loss, zero-loss, update-error, write-error, short-read, fork-error, "
        "RANK from 0 and AT from 1",
        text);
}

void qzo_fault_set_rank(int rank) { own_rank = rank; }

static fault *find(qzo_fault_kind kind, int64_t at) {
    for (int i = 0; i < fault_count; i++)
        if (faults[i].kind == kind && faults[i].at == at && faults[i].rank == own_rank &&
            !faults[i].spent)
            return &faults[i];
    return NULL;
}

bool qzo_fault_at_step(qzo_fault_kind kind, int64_t step) {
    fault *due = fault_count > 0 ? find(kind, step) : NULL;
    if (due != NULL) due->spent = true;
    return due != NULL;
}

bool qzo_fault_during_step(qzo_fault_kind kind, int64_t step) {
    return fault_count > 0 && find(kind, step) != NULL;
}

bool qzo_fault_on_occasion(qzo_fault_kind kind) {
    return fault_count > 0 && qzo_fault_at_step(kind, ++occasion_counts[kind]);
}
