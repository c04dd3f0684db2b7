/* One process alone: collectives are copies. */
#include "comm/comm.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

static const char *local_library(const qzo_comm *comm) {
    (void)comm;
    return "";
}

static void local_close(qzo_comm *comm) { free(comm); }

static qzo_status local_gather(qzo_comm *comm, void *all, const void *mine, size_t bytes) {
    (void)comm;
    memmove(all, mine, bytes);
    return QZO_OK;
}

static qzo_status local_broadcast(qzo_comm *comm, void *data, size_t bytes, int root) {
    (void)comm, (void)data, (void)bytes, (void)root;
    return QZO_OK;
}

static qzo_status local_barrier(qzo_comm *comm) {
    (void)comm;
    return QZO_OK;
}

static qzo_status local_split(qzo_comm *comm, qzo_comm **out, int color, int key) {
    (void)comm, (void)color, (void)key;
    return qzo_comm_local_open(out);
}

static qzo_status local_send(qzo_comm *comm, int to, const qzo_message *message) {
    (void)comm, (void)to, (void)message;
    QZO_ASSERT(!"a process alone has nobody to write to");
    return QZO_OK;
}

static qzo_status local_poll(qzo_comm *comm, bool *received, int *from, qzo_message *message) {
    (void)comm, (void)from, (void)message;
    *received = false;
    return QZO_OK;
}

static qzo_status local_progress(qzo_comm *comm) {
    (void)comm;
    return QZO_OK;
}

static const qzo_comm_ops local_ops = {
    .name = "local",
    .library = local_library,
    .close = local_close,
    .gather = local_gather,
    .broadcast = local_broadcast,
    .barrier = local_barrier,
    .split = local_split,
    .send = local_send,
    .poll = local_poll,
    .progress = local_progress,
};

qzo_status qzo_comm_local_open(qzo_comm **out) {
    qzo_comm *comm = calloc(1, sizeof *comm);
    if (comm == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for a communicator");
    comm->ops = &local_ops;
    comm->size = 1;
    *out = comm;
    return QZO_OK;
}
