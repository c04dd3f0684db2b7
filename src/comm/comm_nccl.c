/* Records of a step between devices over NCCL. Part of the CUDA module, whose only calls into comm
 * are through the tables of the groups that it is given.
 *
 * A message is 32 bytes per slot, so the communicator is as small as NCCL allows: one block of
 * threads. It is non-blocking, and every wait polls for errors of other ranks and has a deadline:
 * a rank that died must not hang the others. Meanwhile control messages move on: the rank that is
 * waited for may itself wait for one. A communicator that failed, here or on another rank, is
 * aborted at once and never used again; one that works is finalized and destroyed. */
#include "comm/comm_nccl.h"

#include "backend/cuda_module.h"
#include "base/clock.h"

#include <cuda_runtime_api.h>
#include <nccl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Larger gathers are rare (journals, host names) and go through the base. */
enum { GATHER_BYTES_MAX = 1 << 16 };

/* Longer than any step or evaluation between two gathers should take. */
static const double DEADLINE_SECONDS = 1800.0;
/* Longer than thousands of ranks need. */
static const double OPEN_DEADLINE_SECONDS = 300.0;
/* How often ranks that open a communicator tell each other how they are: NCCL itself leaves them
 * in the dark about one that failed. */
static const double OPEN_ROUND_SECONDS = 1.0;
/* All work is done by then: the others are about to close theirs, or never will. */
static const double CLOSE_DEADLINE_SECONDS = 60.0;

typedef struct nccl_state {
    qzo_comm *base;
    ncclComm_t nccl;
    cudaStream_t stream;
    uint8_t *device; /* mine (GATHER_BYTES_MAX), then all (size * GATHER_BYTES_MAX) */
    uint8_t *host;   /* the same, pinned */
    double deadline_seconds;
    bool failed;
} nccl_state;

const char *qzo_cuda_comm_version(void);

static nccl_state *state_of(qzo_comm *comm) { return comm->state; }

static qzo_status status_from_cuda(cudaError_t code, const char *call) {
    if (code == cudaSuccess) return QZO_OK;
    cudaGetLastError(); /* a run goes on without NCCL: the next launch must not find this error */
    return qzo_fail(QZO_ERR_ENVIRONMENT, "%s: %s", call, cudaGetErrorString(code));
}

/* A call in progress is none that failed: wait_for_nccl tells. */
static qzo_status status_from_nccl(const nccl_state *state, ncclResult_t code, const char *call) {
    if (code == ncclSuccess || code == ncclInProgress) return QZO_OK;
    return qzo_fail(QZO_ERR_ENVIRONMENT, "%s: %s (%s)", call, ncclGetErrorString(code),
                    ncclGetLastError(state->nccl));
}

#define TRY_CUDA(call) QZO_TRY(status_from_cuda((call), #call))
#define TRY_NCCL(call) QZO_TRY(status_from_nccl(state, (call), #call))

/* Between two looks at what is waited for since `start`. */
static qzo_status wait_briefly(const nccl_state *state, double start, const char *what) {
    if (qzo_clock_seconds() - start > state->deadline_seconds)
        return qzo_fail(QZO_ERR_ENVIRONMENT,
                        "%s: some rank has not answered for %.0f seconds; `ncclras` on a node "
                        "shows which one is behind",
                        what, state->deadline_seconds);
    sched_yield();
    return state->base->ops->progress(state->base);
}

/* Until the last call on the communicator has taken effect. */
static qzo_status wait_for_nccl(const nccl_state *state, const char *what) {
    double start = qzo_clock_seconds();
    for (;;) {
        ncclResult_t found = ncclInProgress;
        ncclResult_t asked = ncclCommGetAsyncError(state->nccl, &found);
        if (asked != ncclSuccess) return status_from_nccl(state, asked, what);
        if (found != ncclInProgress) return status_from_nccl(state, found, what);
        qzo_status status = wait_briefly(state, start, what);
        if (status != QZO_OK) return status;
    }
}

/* Until the stream has run what was put on it. */
static qzo_status wait_for_stream(const nccl_state *state, const char *what) {
    double start = qzo_clock_seconds();
    for (;;) {
        ncclResult_t found = ncclSuccess;
        cudaError_t done = cudaStreamQuery(state->stream);
        if (done != cudaErrorNotReady) return status_from_cuda(done, what);
        ncclResult_t asked = ncclCommGetAsyncError(state->nccl, &found);
        if (asked == ncclSuccess) asked = found;
        if (asked != ncclSuccess && asked != ncclInProgress)
            return status_from_nccl(state, asked, what);
        qzo_status status = wait_briefly(state, start, what);
        if (status != QZO_OK) return status;
    }
}

/* What others still wait for on this communicator will not come: they see an error or their own
 * deadline passes. Also the first step of a close that must not wait. */
static void give_up(nccl_state *state) {
    if (state->nccl != NULL) ncclCommAbort(state->nccl);
    state->nccl = NULL;
    state->failed = true;
}

/* --- the group's operations --- */

static const char *nccl_library(const qzo_comm *comm) {
    (void)comm;
    return qzo_cuda_comm_version();
}

static qzo_status nccl_gather(qzo_comm *comm, void *all, const void *mine, size_t bytes) {
    qzo_status status = QZO_OK;
    nccl_state *state = state_of(comm);
    if (bytes > GATHER_BYTES_MAX) return state->base->ops->gather(state->base, all, mine, bytes);
    if (bytes == 0) return QZO_OK;
    if (state->failed)
        return qzo_fail(QZO_ERR_ENVIRONMENT, "NCCL failed before in this group of ranks");
    uint8_t *device_all = state->device + GATHER_BYTES_MAX;
    uint8_t *host_all = state->host + GATHER_BYTES_MAX;
    size_t all_bytes = (size_t)comm->size * bytes;
    memcpy(state->host, mine, bytes);
    TRY_CUDA(
        cudaMemcpyAsync(state->device, state->host, bytes, cudaMemcpyHostToDevice, state->stream));
    TRY_NCCL(
        ncclAllGather(state->device, device_all, bytes, ncclUint8, state->nccl, state->stream));
    QZO_TRY(wait_for_nccl(state, "ncclAllGather"));
    TRY_CUDA(
        cudaMemcpyAsync(host_all, device_all, all_bytes, cudaMemcpyDeviceToHost, state->stream));
    QZO_TRY(wait_for_stream(state, "ncclAllGather"));
    memcpy(all, host_all, all_bytes);
cleanup:
    if (status != QZO_OK) give_up(state);
    return status;
}

static qzo_status nccl_broadcast(qzo_comm *comm, void *data, size_t bytes, int root) {
    qzo_comm *base = state_of(comm)->base;
    return base->ops->broadcast(base, data, bytes, root);
}

static qzo_status nccl_barrier(qzo_comm *comm) {
    qzo_comm *base = state_of(comm)->base;
    return base->ops->barrier(base);
}

/* Parts are groups of the base's kind: a rank keeps one communicator of NCCL. */
static qzo_status nccl_split(qzo_comm *comm, qzo_comm **out, int color, int key) {
    qzo_comm *base = state_of(comm)->base;
    return base->ops->split(base, out, color, key);
}

static qzo_status nccl_send(qzo_comm *comm, int to, const qzo_message *message) {
    qzo_comm *base = state_of(comm)->base;
    return base->ops->send(base, to, message);
}

static qzo_status nccl_poll(qzo_comm *comm, bool *received, int *from, qzo_message *message) {
    qzo_comm *base = state_of(comm)->base;
    return base->ops->poll(base, received, from, message);
}

static qzo_status nccl_progress(qzo_comm *comm) {
    qzo_comm *base = state_of(comm)->base;
    return base->ops->progress(base);
}

/* All outstanding work done, and the communicator told so. */
static qzo_status finalize(nccl_state *state) {
    qzo_status status = QZO_OK;
    state->deadline_seconds = CLOSE_DEADLINE_SECONDS;
    TRY_NCCL(ncclCommFinalize(state->nccl));
    QZO_TRY(wait_for_nccl(state, "ncclCommFinalize"));
cleanup:
    return status;
}

/* Everything but the base. */
static void drop(nccl_state *state) {
    if (state->nccl != NULL && finalize(state) == QZO_OK)
        ncclCommDestroy(state->nccl);
    else
        give_up(state);
    if (state->stream != NULL) cudaStreamDestroy(state->stream);
    cudaFree(state->device);
    cudaFreeHost(state->host);
    free(state);
}

static void nccl_close(qzo_comm *comm) {
    qzo_comm *base = state_of(comm)->base;
    drop(state_of(comm));
    base->ops->close(base);
    free(comm);
}

static const qzo_comm_ops nccl_ops = {
    .name = "nccl",
    .library = nccl_library,
    .close = nccl_close,
    .gather = nccl_gather,
    .broadcast = nccl_broadcast,
    .barrier = nccl_barrier,
    .split = nccl_split,
    .send = nccl_send,
    .poll = nccl_poll,
    .progress = nccl_progress,
};

/* --- opening --- */

/* Whether all ranks are well; a rank that is fails because of another. *pending: this one is not
 * done yet; afterwards, some rank is not. Collective. */
static qzo_status agree(qzo_comm *base, qzo_status mine, bool *pending) {
    enum { PENDING = -1 };
    int32_t own = mine == QZO_OK && *pending ? PENDING : (int32_t)mine;
    int32_t *all = malloc((size_t)base->size * sizeof *all);
    if (all == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for %d ranks", base->size);
    qzo_status status = base->ops->gather(base, all, &own, sizeof own);
    *pending = false;
    for (int i = 0; status == QZO_OK && mine == QZO_OK && i < base->size; i++)
        if (all[i] == PENDING)
            *pending = true;
        else if (all[i] != QZO_OK)
            status = qzo_fail(QZO_ERR_ENVIRONMENT, "rank %d cannot open NCCL", i);
    free(all);
    return mine != QZO_OK ? mine : status;
}

/* A round of waiting for this rank's communicator. */
static qzo_status wait_a_round(const nccl_state *state, bool *pending) {
    double start = qzo_clock_seconds();
    for (;;) {
        ncclResult_t found = ncclInProgress;
        ncclResult_t asked = ncclCommGetAsyncError(state->nccl, &found);
        *pending = asked == ncclSuccess && found == ncclInProgress;
        if (!*pending)
            return status_from_nccl(state, asked != ncclSuccess ? asked : found,
                                    "ncclCommInitRankConfig");
        if (qzo_clock_seconds() - start > OPEN_ROUND_SECONDS) return QZO_OK;
        qzo_status status = wait_briefly(state, start, "ncclCommInitRankConfig");
        if (status != QZO_OK) return status;
    }
}

/* Until the communicator is there on all ranks, or one of them has failed; `mine`: of the call that
 * began to open this rank's. Collective. */
static qzo_status wait_together(const nccl_state *state, qzo_comm *base, qzo_status mine) {
    double start = qzo_clock_seconds();
    for (;;) {
        bool pending = false;
        if (mine == QZO_OK) mine = wait_a_round(state, &pending);
        if (pending && qzo_clock_seconds() - start > OPEN_DEADLINE_SECONDS)
            mine =
                qzo_fail(QZO_ERR_ENVIRONMENT, "ncclCommInitRankConfig: not done after %.0f seconds",
                         OPEN_DEADLINE_SECONDS);
        qzo_status status = agree(base, mine, &pending);
        if (status != QZO_OK || !pending) return status;
    }
}

static qzo_status open_buffers(nccl_state *state, int size) {
    qzo_status status = QZO_OK;
    size_t size_bytes = (size_t)GATHER_BYTES_MAX * ((size_t)size + 1);
    void *device = NULL, *host = NULL;
    TRY_CUDA(cudaStreamCreateWithFlags(&state->stream, cudaStreamNonBlocking));
    TRY_CUDA(cudaMalloc(&device, size_bytes));
    state->device = device;
    TRY_CUDA(cudaHostAlloc(&host, size_bytes, cudaHostAllocDefault));
    state->host = host;
cleanup:
    return status;
}

/* Returns before it is open. */
static qzo_status open_communicator(nccl_state *state, const qzo_comm *base, ncclUniqueId id) {
    qzo_status status = QZO_OK;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.minCTAs = config.maxCTAs = 1;
    config.cgaClusterSize = 0;
    config.commName = "qzo";
    TRY_NCCL(ncclCommInitRankConfig(&state->nccl, base->size, id, base->rank, &config));
cleanup:
    return status;
}

/* Ranks succeed or fail together at each of the steps, so that none waits alone in the next. */
qzo_status qzo_cuda_comm_open(qzo_comm **out, qzo_comm *base);
qzo_status qzo_cuda_comm_open(qzo_comm **out, qzo_comm *base) {
    qzo_status status = QZO_OK;
    bool pending = false;
    ncclUniqueId id;
    qzo_comm *comm = calloc(1, sizeof *comm);
    nccl_state *state = calloc(1, sizeof *state);
    memset(&id, 0, sizeof id);
    if (comm == NULL || state == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for a communicator");
    } else {
        *state = (nccl_state){.base = base, .deadline_seconds = DEADLINE_SECONDS};
        status = open_buffers(state, base->size);
    }
    if (status == QZO_OK && base->rank == 0)
        status = status_from_nccl(state, ncclGetUniqueId(&id), "ncclGetUniqueId");
    QZO_TRY(agree(base, status, &pending));
    QZO_TRY(base->ops->broadcast(base, &id, sizeof id, 0));
    status = wait_together(state, base, open_communicator(state, base, id));
    if (status != QZO_OK) { /* where this rank's works, it would wait for the others to close */
        give_up(state);
        goto cleanup;
    }
    *comm = (qzo_comm){.ops = &nccl_ops, .rank = base->rank, .size = base->size, .state = state};
    *out = comm;
    comm = NULL;
    state = NULL;
cleanup:
    if (state != NULL) drop(state);
    free(comm);
    return status;
}

const char *qzo_cuda_comm_version(void) {
    static char text[32];
    int version = 0;
    if (text[0] == '\0' && ncclGetVersion(&version) == ncclSuccess)
        snprintf(text, sizeof text, "NCCL %d.%d.%d", version / 10000, version / 100 % 100,
                 version % 100);
    return text;
}
