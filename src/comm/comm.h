/* A group of ranks. Collective calls are made by all ranks of the group in the same order.
 *
 * Every transport gives the same bytes. To add one: comm_<name>.c with qzo_comm_ops filled, one
 * line in qzo_transports (comm.c). */
#ifndef QZO_COMM_COMM_H
#define QZO_COMM_COMM_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct qzo_comm qzo_comm;

enum { QZO_MESSAGE_BYTES = 64 };

/* A control message between two ranks, outside the collectives: requests for work, parking. */
typedef struct qzo_message {
    uint8_t bytes[QZO_MESSAGE_BYTES];
} qzo_message;

typedef struct qzo_comm_ops {
    const char *name;
    /* Names the library with its version, the same for ranks that fit together; "" for none. */
    const char *(*library)(const qzo_comm *comm);
    void (*close)(qzo_comm *comm);
    /* all (size * bytes) = every rank's mine (bytes), in order of ranks */
    qzo_status (*gather)(qzo_comm *comm, void *all, const void *mine, size_t bytes);
    qzo_status (*broadcast)(qzo_comm *comm, void *data, size_t bytes, int root);
    qzo_status (*barrier)(qzo_comm *comm);
    qzo_status (*split)(qzo_comm *comm, qzo_comm **out, int color, int key);
    /* Buffered: returns without waiting for the receiver. Not to itself. */
    qzo_status (*send)(qzo_comm *comm, int to, const qzo_message *message);
    /* A waiting message, if there is one; *from tells whose. Never blocks. */
    qzo_status (*poll)(qzo_comm *comm, bool *received, int *from, qzo_message *message);
    /* Lets messages that are on their way move on, without taking any, for whoever waits for
     * something else: a rank that is owed one would never come to what is waited for. */
    qzo_status (*progress)(qzo_comm *comm);
} qzo_comm_ops;

struct qzo_comm {
    const qzo_comm_ops *ops;
    int rank;
    int size;
    uint64_t bytes_sent; /* by this rank in collectives and messages of this group */
    double wait_seconds; /* spent in collectives: mostly waiting for slower ranks */
    void *state;
};

/* What the environment says about how the program was started. */
typedef struct qzo_launch {
    bool under_launcher; /* mpirun, srun --mpi=pmix ... */
    int expected_ranks;  /* by Slurm's or the launcher's word; 0 unknown */
} qzo_launch;

/* The world: MPI where a launcher started the program, else this process alone. QZO_ERR_ENVIRONMENT
 * where Slurm started several tasks and MPI sees one (srun without --mpi=pmix). The last close of
 * the world ends MPI. */
qzo_status qzo_comm_world_open(qzo_comm **out, const qzo_launch *launch);
void qzo_comm_close(qzo_comm *comm); /* NULL is fine */

/* Ranks of this host before this one, and how many ranks it has. Collective. */
qzo_status qzo_comm_local_rank(qzo_comm *comm, int *local_rank, int *local_size);

qzo_status qzo_comm_gather(qzo_comm *comm, void *all, const void *mine, size_t bytes);
qzo_status qzo_comm_broadcast(qzo_comm *comm, void *data, size_t bytes, int root);
qzo_status qzo_comm_barrier(qzo_comm *comm);

/* New groups of the ranks with equal color, in order of key. Collective. */
qzo_status qzo_comm_split(qzo_comm *comm, qzo_comm **out, int color, int key);
qzo_status qzo_comm_send(qzo_comm *comm, int to, const qzo_message *message);
qzo_status qzo_comm_poll(qzo_comm *comm, bool *received, int *from, qzo_message *message);

/* The worst status of all ranks, with the message of the first rank that has it. Collective: call
 * it before leaving a collective section, with this rank's own status. */
qzo_status qzo_comm_worst_status(qzo_comm *comm, qzo_status status);

typedef struct qzo_transport {
    const char *name;
    qzo_status (*open)(qzo_comm **out); /* the world */
} qzo_transport;

/* NULL-named entry last. */
extern const qzo_transport qzo_transports[];

qzo_status qzo_comm_local_open(qzo_comm **out);
qzo_status qzo_comm_mpi_open(qzo_comm **out); /* QZO_ERR_UNSUPPORTED in a build without MPI */

#endif
