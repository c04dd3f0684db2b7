/* NCCL between processes of one host, through shared memory that has the unique id's name: what
 * comm_nccl.c uses, as a non-blocking communicator answers. Calls return at once; work is done by
 * whoever looks at ncclCommGetAsyncError. An abort shows on the other ranks. */
#include "nccl.h"

#include <atomic>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static constexpr int RANKS_MAX = 16;
static constexpr size_t SLOT_BYTES = (size_t)1 << 16;

/* Slots are used in turn: a rank that writes the next one again has seen all others leave it. */
struct shared_state {
    std::atomic<int> joined, aborted;
    std::atomic<long> arrived[RANKS_MAX]; /* gathers that this rank has given its part to */
    unsigned char slots[2][RANKS_MAX][SLOT_BYTES];
};

struct ncclComm {
    shared_state *shared;
    int size, rank;
    long gathers;
    void *all; /* of the gather in flight, or nullptr */
    size_t count;
    ncclUniqueId id; /* names the memory */
};

ncclResult_t ncclGetVersion(int *version) {
    *version = 0;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t code) {
    return code == ncclRemoteError ? "another rank gave up" : "a wrong call";
}

const char *ncclGetLastError(ncclComm_t) { return "emulated"; }

ncclResult_t ncclGetUniqueId(ncclUniqueId *out) {
    static int count;
    std::memset(out, 0, sizeof *out);
    std::snprintf(out->internal, sizeof out->internal, "/qzo-emulated-%d-%d", (int)getpid(),
                  count++);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
    if (size > RANKS_MAX || config->blocking != 0) return ncclSystemError;
    int file = shm_open(id.internal, O_CREAT | O_RDWR, 0600);
    if (file < 0 || ftruncate(file, sizeof(shared_state)) != 0) return ncclSystemError;
    void *memory = mmap(nullptr, sizeof(shared_state), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED) return ncclSystemError;
    ncclComm *comm =
        new ncclComm{static_cast<shared_state *>(memory), size, rank, 0, nullptr, 0, id};
    if (comm->shared->joined.fetch_add(1) + 1 == size) shm_unlink(comm->id.internal);
    *out = comm;
    return ncclInProgress;
}

static bool all_arrived(const ncclComm *comm) {
    for (int i = 0; i < comm->size; i++)
        if (comm->shared->arrived[i].load() < comm->gathers) return false;
    return true;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *out) {
    shared_state *shared = comm->shared;
    *out = ncclInProgress;
    if (shared->aborted.load() != 0) *out = ncclRemoteError;
    if (*out != ncclInProgress || shared->joined.load() < comm->size || !all_arrived(comm))
        return ncclSuccess;
    if (comm->all != nullptr)
        for (int i = 0; i < comm->size; i++)
            std::memcpy(static_cast<unsigned char *>(comm->all) + (size_t)i * comm->count,
                        shared->slots[comm->gathers % 2][i], comm->count);
    comm->all = nullptr;
    *out = ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclAllGather(const void *mine, void *all, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t) {
    if (type != ncclUint8 || count > SLOT_BYTES || comm->all != nullptr) return ncclSystemError;
    comm->gathers++;
    comm->all = all;
    comm->count = count;
    std::memcpy(comm->shared->slots[comm->gathers % 2][comm->rank], mine, count);
    comm->shared->arrived[comm->rank].store(comm->gathers);
    return ncclInProgress;
}

ncclResult_t ncclCommFinalize(ncclComm_t) { return ncclSuccess; }

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    munmap(comm->shared, sizeof(shared_state));
    delete comm;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    comm->shared->aborted.store(1);
    shm_unlink(comm->id.internal); /* where some rank never joined */
    return ncclCommDestroy(comm);
}
