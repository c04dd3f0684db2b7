#include "trial/bench_kind.h"

#include "base/check.h"

const qzo_bench_kind *const qzo_bench_kinds[] = {&qzo_bench_texts, &qzo_bench_images, NULL};

const qzo_bench_kind *qzo_bench_kind_of_model(const qzo_model *model) {
    int i = 0;
    while (qzo_bench_kinds[i] != NULL && !qzo_bench_kinds[i]->has_model(model)) i++;
    QZO_ASSERT(qzo_bench_kinds[i] != NULL);
    return qzo_bench_kinds[i];
}

const qzo_bench_kind *qzo_bench_kind_of_task(const qzo_task *task) {
    int i = 0;
    while (qzo_bench_kinds[i] != NULL && !qzo_bench_kinds[i]->has_task(task)) i++;
    QZO_ASSERT(qzo_bench_kinds[i] != NULL);
    return qzo_bench_kinds[i];
}
