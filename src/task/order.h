/* The order in which examples are drawn: shuffled epochs without replacement, a pure function of
 * (data seed, step). Fisher-Yates over Philox with purpose DATA: the swap of place i in epoch e
 * uses word 0 of counter i, third word e. */
#ifndef QZO_TASK_ORDER_H
#define QZO_TASK_ORDER_H

#include "base/status.h"

#include <stdint.h>

typedef struct qzo_order qzo_order;

qzo_status qzo_order_open(qzo_order **out, uint64_t data_seed, int64_t example_count);
void qzo_order_close(qzo_order *order); /* NULL is fine */

/* indices (batch): the examples of step 1, 2, ... A batch may run over the end of an epoch. */
void qzo_order_draw(qzo_order *order, int64_t *indices, int64_t step, int64_t batch);

#endif
