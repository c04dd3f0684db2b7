#include "task/order.h"

#include "base/philox.h"

#include <stdlib.h>

struct qzo_order {
    uint64_t data_seed;
    int64_t example_count;
    int64_t epoch;   /* that `places` holds; -1 none */
    int64_t *places; /* (example_count): a permutation */
};

qzo_status qzo_order_open(qzo_order **out, uint64_t data_seed, int64_t example_count) {
    qzo_order *order = calloc(1, sizeof *order);
    int64_t *places = malloc((size_t)example_count * sizeof *places);
    if (order == NULL || places == NULL) {
        free(order);
        free(places);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for the order of %lld examples",
                        (long long)example_count);
    }
    *order = (qzo_order){data_seed, example_count, -1, places};
    *out = order;
    return QZO_OK;
}

void qzo_order_close(qzo_order *order) {
    if (order == NULL) return;
    free(order->places);
    free(order);
}

static void shuffle(qzo_order *order, int64_t epoch) {
    for (int64_t i = 0; i < order->example_count; i++) order->places[i] = i;
    for (int64_t i = order->example_count - 1; i > 0; i--) {
        qzo_philox_block block =
            qzo_philox(order->data_seed, (uint64_t)i, (uint32_t)epoch, QZO_PURPOSE_DATA);
        int64_t j = (int64_t)(((uint64_t)block.word[0] * (uint64_t)(i + 1)) >> 32);
        int64_t swapped = order->places[i];
        order->places[i] = order->places[j];
        order->places[j] = swapped;
    }
    order->epoch = epoch;
}

void qzo_order_draw(qzo_order *order, int64_t *indices, int64_t step, int64_t batch) {
    for (int64_t i = 0; i < batch; i++) {
        int64_t place = (step - 1) * batch + i, epoch = place / order->example_count;
        if (epoch != order->epoch) shuffle(order, epoch);
        indices[i] = order->places[place % order->example_count];
    }
}
