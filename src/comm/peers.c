#include "comm/peers.h"

#include "base/log.h"
#include "comm/comm_nccl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LIST_BYTES = 256 };

static void describe(qzo_peer *out, const qzo_comm *comm, const qzo_backend *backend,
                     const char *version) {
    memset(out, 0, sizeof *out); /* its bytes travel, padding included */
    gethostname(out->host, sizeof out->host - 1);
    if (backend->ops->device != NULL)
        snprintf(out->device, sizeof out->device, "%s", backend->ops->device(backend));
    snprintf(out->version, sizeof out->version, "%s", version);
    snprintf(out->arithmetic, sizeof out->arithmetic, "%s", backend->ops->arithmetic(backend));
    const char *nccl = out->device[0] != '\0' ? qzo_comm_nccl_version() : "";
    snprintf(out->libraries, sizeof out->libraries, "%s%s%s", comm->ops->library(comm),
             nccl[0] != '\0' ? "; " : "", nccl);
}

qzo_status qzo_peers_gather(qzo_peer **out, qzo_comm *comm, const qzo_backend *backend,
                            const char *version) {
    qzo_peer mine, *all = calloc((size_t)comm->size, sizeof *all);
    qzo_status status = QZO_OK;
    if (all == NULL) status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %d ranks", comm->size);
    status = qzo_comm_worst_status(comm, status);
    if (status == QZO_OK) {
        describe(&mine, comm, backend, version);
        status = qzo_comm_worst_status(comm, qzo_comm_gather(comm, all, &mine, sizeof mine));
    }
    if (status != QZO_OK) {
        free(all);
        return status;
    }
    *out = all;
    return QZO_OK;
}

qzo_status qzo_peers_check_alike(const qzo_peer *peers, int count) {
    static const struct {
        const char *what;
        size_t offset;
    } parts[] = {{"is qzo", offsetof(qzo_peer, version)},
                 {"computes with", offsetof(qzo_peer, arithmetic)},
                 {"sends with", offsetof(qzo_peer, libraries)}};
    for (int rank = 1; rank < count; rank++)
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            const char *first = (const char *)&peers[0] + parts[i].offset;
            const char *other = (const char *)&peers[rank] + parts[i].offset;
            if (strcmp(first, other) != 0)
                return qzo_fail(QZO_ERR_ENVIRONMENT,
                                "the ranks must be alike: rank 0 on %s %s \"%s\", rank %d on %s "
                                "%s \"%s\"",
                                peers[0].host, parts[i].what, first, rank, peers[rank].host,
                                parts[i].what, other);
        }
    return QZO_OK;
}

/* A device is known by its own name: two hosts cannot have the same. */
static bool shares(const qzo_peer *a, const qzo_peer *b) {
    return strcmp(a->device, b->device) == 0;
}

/* "0, 2 and 3": the ranks behind `rank` in the range that share its device, and itself. */
static void list_sharers(char out[LIST_BYTES], const qzo_peer *peers, int rank, int end) {
    int count = 0, listed = 0;
    size_t used = 0;
    for (int other = rank; other < end; other++) count += shares(&peers[rank], &peers[other]);
    for (int other = rank; other < end; other++) {
        if (!shares(&peers[rank], &peers[other])) continue;
        const char *before = listed == 0 ? "" : listed + 1 == count ? " and " : ", ";
        listed++;
        int added = snprintf(out + used, LIST_BYTES - used, "%s%d", before, other);
        if (added < 0 || used + (size_t)added >= LIST_BYTES) break; /* the rest is cut */
        used += (size_t)added;
    }
}

qzo_status qzo_peers_check_devices(const qzo_peer *peers, int first, int count) {
    char list[LIST_BYTES];
    int end = first + count;
    for (int rank = first; rank < end; rank++) {
        if (peers[rank].device[0] == '\0')
            return qzo_fail(QZO_ERR_ENVIRONMENT,
                            "NCCL carries records between GPUs: rank %d on %s has none, it "
                            "computes with \"%s\"",
                            rank, peers[rank].host, peers[rank].arithmetic);
        for (int other = rank + 1; other < end; other++) {
            if (!shares(&peers[rank], &peers[other])) continue;
            list_sharers(list, peers, rank, end);
            return qzo_fail(QZO_ERR_ENVIRONMENT,
                            "NCCL wants a GPU per rank of a trial: ranks %s share %s of %s", list,
                            peers[rank].device, peers[rank].host);
        }
    }
    return QZO_OK;
}

qzo_status qzo_transport_decide(bool *nccl, qzo_transport_choice choice, const qzo_peer *peers,
                                int first, int count, bool explain) {
    *nccl = false;
    if (choice == QZO_TRANSPORT_MPI || (choice == QZO_TRANSPORT_AUTO && count == 1)) return QZO_OK;
    qzo_status status = qzo_peers_check_devices(peers, first, count);
    *nccl = status == QZO_OK;
    if (status == QZO_OK || choice == QZO_TRANSPORT_NCCL) return status;
    /* On the CPU nobody expects anything else than MPI. */
    if (explain && peers[first].device[0] != '\0')
        qzo_log_info("%s; its records travel over MPI", qzo_error_message());
    return QZO_OK;
}

qzo_status qzo_transport_check(qzo_transport_choice choice, const qzo_peer *peers, int64_t count,
                               int64_t group_size) {
    qzo_status status = QZO_OK;
    for (int64_t first = 0; status == QZO_OK && first < count; first += group_size) {
        int64_t left = count - first;
        bool nccl = false;
        status = qzo_transport_decide(&nccl, choice, peers, (int)first,
                                      (int)(left < group_size ? left : group_size), false);
    }
    return status;
}
