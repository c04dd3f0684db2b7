/* What all transports share: counters, statuses, places on a host. */
#include "comm/comm.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOST_NAME_BYTES = 256, STATUS_TEXT_BYTES = 1024 };

const qzo_transport qzo_transports[] = {
    {"local", qzo_comm_local_open}, /* one process */
    {"mpi", qzo_comm_mpi_open},     /* host data between all ranks of the job */
    {NULL, NULL},
};

static qzo_status open_transport(qzo_comm **out, const char *name) {
    for (const qzo_transport *entry = qzo_transports; entry->name != NULL; entry++)
        if (strcmp(entry->name, name) == 0) return entry->open(out);
    return qzo_fail(QZO_ERR_USAGE, "no transport is named \"%s\"", name);
}

qzo_status qzo_comm_world_open(qzo_comm **out, const qzo_launch *launch) {
    qzo_status status = open_transport(out, launch->under_launcher ? "mpi" : "local");
    if (status != QZO_OK) return status;
    if (launch->expected_ranks > 1 && (*out)->size == 1) {
        qzo_comm_close(*out);
        *out = NULL;
        return qzo_fail(QZO_ERR_ENVIRONMENT,
                        "%d tasks were started, but each sees a world of 1 rank: start them with "
                        "`srun --mpi=pmix` or with the mpirun of the MPI that qzo was built with",
                        launch->expected_ranks);
    }
    return QZO_OK;
}

void qzo_comm_close(qzo_comm *comm) {
    if (comm != NULL) comm->ops->close(comm);
}

qzo_status qzo_comm_gather(qzo_comm *comm, void *all, const void *mine, size_t bytes) {
    double start = qzo_clock_seconds();
    qzo_status status = comm->ops->gather(comm, all, mine, bytes);
    comm->wait_seconds += qzo_clock_seconds() - start;
    if (comm->size > 1) comm->bytes_sent += bytes;
    return status;
}

qzo_status qzo_comm_broadcast(qzo_comm *comm, void *data, size_t bytes, int root) {
    if (comm->size > 1 && comm->rank == root) comm->bytes_sent += bytes;
    return comm->ops->broadcast(comm, data, bytes, root);
}

qzo_status qzo_comm_barrier(qzo_comm *comm) { return comm->ops->barrier(comm); }

qzo_status qzo_comm_split(qzo_comm *comm, qzo_comm **out, int color, int key) {
    return comm->ops->split(comm, out, color, key);
}

qzo_status qzo_comm_send(qzo_comm *comm, int to, const qzo_message *message) {
    comm->bytes_sent += QZO_MESSAGE_BYTES;
    return comm->ops->send(comm, to, message);
}

qzo_status qzo_comm_poll(qzo_comm *comm, bool *received, int *from, qzo_message *message) {
    return comm->ops->poll(comm, received, from, message);
}

qzo_status qzo_comm_local_rank(qzo_comm *comm, int *local_rank, int *local_size) {
    char mine[HOST_NAME_BYTES] = "";
    gethostname(mine, sizeof mine - 1);
    char *all = malloc((size_t)comm->size * HOST_NAME_BYTES);
    if (all == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for %d ranks", comm->size);
    qzo_status status = comm->ops->gather(comm, all, mine, HOST_NAME_BYTES);
    *local_rank = *local_size = 0;
    for (int i = 0; status == QZO_OK && i < comm->size; i++) {
        if (strcmp(all + (size_t)i * HOST_NAME_BYTES, mine) != 0) continue;
        if (i < comm->rank) (*local_rank)++;
        (*local_size)++;
    }
    free(all);
    return status;
}

qzo_status qzo_comm_worst_status(qzo_comm *comm, qzo_status status) {
    if (comm->size == 1) return status;
    int32_t mine = (int32_t)status, *all = malloc((size_t)comm->size * sizeof *all);
    if (all == NULL) abort(); /* the others wait in the gather: there is no way to tell them */
    qzo_status gathered = comm->ops->gather(comm, all, &mine, sizeof mine);
    int worst_rank = 0;
    for (int i = 1; gathered == QZO_OK && i < comm->size; i++)
        if (all[i] > all[worst_rank]) worst_rank = i;
    qzo_status worst = gathered == QZO_OK ? (qzo_status)all[worst_rank] : gathered;
    free(all);
    if (gathered != QZO_OK || worst == QZO_OK) return worst;
    char text[STATUS_TEXT_BYTES];
    snprintf(text, sizeof text, "%.1000s", qzo_error_message());
    if (comm->ops->broadcast(comm, text, sizeof text, worst_rank) != QZO_OK) return worst;
    if (comm->rank != worst_rank) qzo_fail(worst, "rank %d: %s", worst_rank, text);
    return worst;
}
