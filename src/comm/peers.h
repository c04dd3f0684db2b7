/* What each rank of a world is: where it runs and what it computes with. Gathered once at the
 * start; what follows from it is decided by every rank alone, with the same result. */
#ifndef QZO_COMM_PEERS_H
#define QZO_COMM_PEERS_H

#include "backend/backend.h"
#include "comm/comm.h"

enum { QZO_PEER_HOST_BYTES = 72, QZO_PEER_TEXT_BYTES = 512 };

typedef struct qzo_peer {
    char host[QZO_PEER_HOST_BYTES];
    char device[QZO_DEVICE_ID_BYTES]; /* "" where it computes on none */
    char version[QZO_PEER_TEXT_BYTES];
    char arithmetic[QZO_PEER_TEXT_BYTES];
    char libraries[QZO_PEER_TEXT_BYTES]; /* that carry records */
} qzo_peer;

/* *out (comm->size) is the caller's to free. Collective; the same status on all ranks. */
qzo_status qzo_peers_gather(qzo_peer **out, qzo_comm *comm, const qzo_backend *backend,
                            const char *version);

/* QZO_ERR_ENVIRONMENT names the first rank whose version, arithmetic or libraries differ from those
 * of rank 0, and its host: a mixture would compute losses that depend on the rank. */
qzo_status qzo_peers_check_alike(const qzo_peer *peers, int count);

/* How the records of a group of ranks may travel. */
typedef enum {
    QZO_TRANSPORT_AUTO, /* NCCL where it can carry them, else MPI */
    QZO_TRANSPORT_NCCL,
    QZO_TRANSPORT_MPI
} qzo_transport_choice;

/* Whether ranks first .. first + count - 1 compute on a device each of its own, as NCCL wants it:
 * QZO_ERR_ENVIRONMENT says which ranks share which device, or which has none. */
qzo_status qzo_peers_check_devices(const qzo_peer *peers, int first, int count);

/* *nccl: what the choice comes to for these ranks. A rank alone has nobody to tell, so AUTO leaves
 * it without a communicator. The error of qzo_peers_check_devices where NCCL is demanded; where
 * AUTO cannot have it, that sentence is logged if *explain, which only one rank sets. */
qzo_status qzo_transport_decide(bool *nccl, qzo_transport_choice choice, const qzo_peer *peers,
                                int first, int count, bool explain);

/* Whether the choice is possible where count ranks work in groups of group_size, the last of which
 * may be smaller. */
qzo_status qzo_transport_check(qzo_transport_choice choice, const qzo_peer *peers, int64_t count,
                               int64_t group_size);

#endif
