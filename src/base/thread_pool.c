#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* A job is often shorter than a futex wake-up (some 10 microseconds): workers spin a little first.
 */
enum { SPIN_COUNT = 2000 };

typedef struct worker {
    qzo_thread_pool *pool;
    pthread_t thread;
    int index;
} worker;

struct qzo_thread_pool {
    int size;
    worker *workers; /* (size - 1) */
    pthread_mutex_t mutex;
    pthread_cond_t started;
    atomic_uint_fast64_t job; /* counts jobs; a worker runs each number once */
    atomic_int_fast64_t next_piece;
    atomic_int busy_count; /* workers that have not finished the job */
    bool stopping;         /* guarded by mutex */
    int64_t piece_count;
    qzo_pool_piece *piece;
    void *context;
};

static void take_pieces(qzo_thread_pool *pool, int thread) {
    for (;;) {
        int64_t piece = atomic_fetch_add(&pool->next_piece, 1);
        if (piece >= pool->piece_count) return;
        pool->piece(pool->context, piece, thread);
    }
}

/* Waits for a job with another number than `seen`; false when the pool closes. */
static bool wait_for_job(qzo_thread_pool *pool, uint64_t *seen) {
    for (int spin = 0; spin < SPIN_COUNT; spin++) {
        if (atomic_load(&pool->job) != *seen) break;
        if (spin % 64 == 63) sched_yield();
    }
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load(&pool->job) == *seen && !pool->stopping)
        pthread_cond_wait(&pool->started, &pool->mutex);
    bool stopping = pool->stopping;
    *seen = atomic_load(&pool->job);
    pthread_mutex_unlock(&pool->mutex);
    return !stopping;
}

static void *worker_main(void *argument) {
    worker *self = argument;
    uint64_t seen = 0;
    while (wait_for_job(self->pool, &seen)) {
        take_pieces(self->pool, self->index);
        atomic_fetch_sub(&self->pool->busy_count, 1);
    }
    return NULL;
}

qzo_status qzo_thread_pool_open(qzo_thread_pool **out, int thread_count) {
    qzo_thread_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for a thread pool");
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->started, NULL);
    pool->size = 1;
    pool->workers = calloc((size_t)thread_count, sizeof *pool->workers);
    if (pool->workers == NULL) {
        qzo_thread_pool_close(pool);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for %d threads", thread_count);
    }
    for (int i = 1; i < thread_count; i++) {
        worker *self = &pool->workers[i - 1];
        self->pool = pool;
        self->index = i;
        if (pthread_create(&self->thread, NULL, worker_main, self) != 0) {
            qzo_thread_pool_close(pool);
            return qzo_fail(QZO_ERR_ENVIRONMENT, "cannot start thread %d of %d", i, thread_count);
        }
        pool->size++;
    }
    *out = pool;
    return QZO_OK;
}

void qzo_thread_pool_close(qzo_thread_pool *pool) {
    if (pool == NULL) return;
    pthread_mutex_lock(&pool->mutex);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->started);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 1; i < pool->size; i++) pthread_join(pool->workers[i - 1].thread, NULL);
    pthread_cond_destroy(&pool->started);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->workers);
    free(pool);
}

int qzo_thread_pool_size(const qzo_thread_pool *pool) { return pool->size; }

void qzo_thread_pool_run(qzo_thread_pool *pool, int64_t piece_count, qzo_pool_piece *piece,
                         void *context) {
    if (pool->size == 1 || piece_count <= 1) {
        for (int64_t i = 0; i < piece_count; i++) piece(context, i, 0);
        return;
    }
    pool->piece_count = piece_count;
    pool->piece = piece;
    pool->context = context;
    atomic_store(&pool->next_piece, 0);
    atomic_store(&pool->busy_count, pool->size - 1);
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->job, 1); /* publishes the fields above */
    pthread_cond_broadcast(&pool->started);
    pthread_mutex_unlock(&pool->mutex);
    take_pieces(pool, 0);
    while (atomic_load(&pool->busy_count) > 0) sched_yield();
}
