/* A fixed set of threads that share out numbered pieces of one job. Which thread takes which piece
 * varies from run to run: pieces must not depend on each other, and each writes its own results. */
#ifndef QZO_BASE_THREAD_POOL_H
#define QZO_BASE_THREAD_POOL_H

#include "base/status.h"

#include <stdint.h>

typedef struct qzo_thread_pool qzo_thread_pool;

/* thread is 0 .. thread_count - 1, for scratch memory. */
typedef void qzo_pool_piece(void *context, int64_t piece, int thread);

/* thread_count includes the caller; 1 starts no thread. */
qzo_status qzo_thread_pool_open(qzo_thread_pool **out, int thread_count);
void qzo_thread_pool_close(qzo_thread_pool *pool); /* NULL is fine */
int qzo_thread_pool_size(const qzo_thread_pool *pool);

/* Runs all pieces and returns when they are done. One caller at a time. */
void qzo_thread_pool_run(qzo_thread_pool *pool, int64_t piece_count, qzo_pool_piece *piece,
                         void *context);

#endif
