/* Host data over MPI. One thread makes all calls (MPI_THREAD_FUNNELED).
 *
 * Control messages use buffered sends into a buffer of our own, so that sending never waits; they
 * travel on a duplicate of the communicator, apart from the collectives. */
#include "comm/comm.h"

#if defined(QZO_HAVE_MPI)

#include "base/log.h"

#include <limits.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_TAG = 1, PENDING_MESSAGES_MAX = 4096 };

typedef struct mpi_state {
    MPI_Comm collective;
    MPI_Comm control;
    bool is_world;
    void *send_buffer; /* of the world: MPI has one per process */
} mpi_state;

static qzo_status status_of_mpi(int code, const char *call) {
    if (code == MPI_SUCCESS) return QZO_OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, text, &length);
    return qzo_fail(QZO_ERR_ENVIRONMENT, "%s: %s", call, text);
}

#define QZO_TRY_MPI(call) QZO_TRY(status_of_mpi((call), #call))

static mpi_state *state_of(qzo_comm *comm) { return comm->state; }

/* One line: some libraries put their whole configuration there. */
static const char *mpi_library(const qzo_comm *comm) {
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    (void)comm;
    if (text[0] == '\0' && MPI_Get_library_version(text, &length) == MPI_SUCCESS)
        text[strcspn(text, "\n")] = '\0';
    return text;
}

static void mpi_close(qzo_comm *comm) {
    mpi_state *state = state_of(comm);
    if (state != NULL) {
        if (state->control != MPI_COMM_NULL) MPI_Comm_free(&state->control);
        if (!state->is_world && state->collective != MPI_COMM_NULL)
            MPI_Comm_free(&state->collective);
        if (state->is_world) {
            void *buffer = NULL;
            int size_bytes = 0;
            if (state->send_buffer != NULL) MPI_Buffer_detach(&buffer, &size_bytes);
            free(state->send_buffer);
            MPI_Finalize();
        }
        free(state);
    }
    free(comm);
}

static qzo_status check_size(size_t bytes) {
    if (bytes <= INT_MAX) return QZO_OK;
    return qzo_fail(QZO_ERR_LIMIT, "a message of %zu bytes, MPI takes at most %d", bytes, INT_MAX);
}

static qzo_status mpi_gather(qzo_comm *comm, void *all, const void *mine, size_t bytes) {
    qzo_status status = QZO_OK;
    QZO_TRY(check_size(bytes));
    QZO_TRY_MPI(MPI_Allgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE,
                              state_of(comm)->collective));
cleanup:
    return status;
}

static qzo_status mpi_broadcast(qzo_comm *comm, void *data, size_t bytes, int root) {
    qzo_status status = QZO_OK;
    QZO_TRY(check_size(bytes));
    QZO_TRY_MPI(MPI_Bcast(data, (int)bytes, MPI_BYTE, root, state_of(comm)->collective));
cleanup:
    return status;
}

static qzo_status mpi_barrier(qzo_comm *comm) {
    return status_of_mpi(MPI_Barrier(state_of(comm)->collective), "MPI_Barrier");
}

static qzo_status mpi_send(qzo_comm *comm, int to, const qzo_message *message) {
    return status_of_mpi(MPI_Bsend(message->bytes, QZO_MESSAGE_BYTES, MPI_BYTE, to, MESSAGE_TAG,
                                   state_of(comm)->control),
                         "MPI_Bsend");
}

static qzo_status mpi_poll(qzo_comm *comm, bool *received, int *from, qzo_message *message) {
    qzo_status status = QZO_OK;
    MPI_Status probed;
    int found = 0;
    *received = false;
    QZO_TRY_MPI(MPI_Iprobe(MPI_ANY_SOURCE, MESSAGE_TAG, state_of(comm)->control, &found, &probed));
    if (found) {
        QZO_TRY_MPI(MPI_Recv(message->bytes, QZO_MESSAGE_BYTES, MPI_BYTE, probed.MPI_SOURCE,
                             MESSAGE_TAG, state_of(comm)->control, MPI_STATUS_IGNORE));
        *from = probed.MPI_SOURCE;
        *received = true;
    }
cleanup:
    return status;
}

static qzo_status mpi_progress(qzo_comm *comm) {
    int found = 0;
    return status_of_mpi(
        MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, state_of(comm)->control, &found, MPI_STATUS_IGNORE),
        "MPI_Iprobe");
}

static qzo_status mpi_split(qzo_comm *comm, qzo_comm **out, int color, int key);

static const qzo_comm_ops mpi_ops = {
    .name = "mpi",
    .library = mpi_library,
    .close = mpi_close,
    .gather = mpi_gather,
    .broadcast = mpi_broadcast,
    .barrier = mpi_barrier,
    .split = mpi_split,
    .send = mpi_send,
    .poll = mpi_poll,
    .progress = mpi_progress,
};

/* Takes ownership of collective unless it is the world's. */
static qzo_status wrap(qzo_comm **out, MPI_Comm collective, bool is_world) {
    qzo_status status = QZO_OK;
    qzo_comm *comm = calloc(1, sizeof *comm);
    mpi_state *state = calloc(1, sizeof *state);
    if (comm == NULL || state == NULL) {
        free(comm);
        free(state);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for a communicator");
    }
    comm->ops = &mpi_ops;
    comm->state = state;
    state->collective = collective;
    state->control = MPI_COMM_NULL;
    state->is_world = is_world;
    QZO_TRY_MPI(MPI_Comm_set_errhandler(collective, MPI_ERRORS_RETURN));
    QZO_TRY_MPI(MPI_Comm_dup(collective, &state->control));
    QZO_TRY_MPI(MPI_Comm_rank(collective, &comm->rank));
    QZO_TRY_MPI(MPI_Comm_size(collective, &comm->size));
    *out = comm;
    comm = NULL;
cleanup:
    if (comm != NULL) mpi_close(comm);
    return status;
}

static qzo_status mpi_split(qzo_comm *comm, qzo_comm **out, int color, int key) {
    qzo_status status = QZO_OK;
    MPI_Comm part = MPI_COMM_NULL;
    QZO_TRY_MPI(MPI_Comm_split(state_of(comm)->collective, color, key, &part));
    QZO_TRY(wrap(out, part, false));
cleanup:
    return status;
}

qzo_status qzo_comm_mpi_open(qzo_comm **out) {
    qzo_status status = QZO_OK;
    qzo_comm *comm = NULL;
    int provided = 0;
    QZO_TRY_MPI(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided));
    if (provided < MPI_THREAD_FUNNELED)
        qzo_log_warn("MPI gives thread level %d, %d is wanted: only one thread calls it anyway",
                     provided, MPI_THREAD_FUNNELED);
    QZO_TRY(wrap(&comm, MPI_COMM_WORLD, true));
    int buffer_bytes = PENDING_MESSAGES_MAX * (QZO_MESSAGE_BYTES + MPI_BSEND_OVERHEAD);
    mpi_state *state = state_of(comm);
    state->send_buffer = malloc((size_t)buffer_bytes);
    if (state->send_buffer == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %d bytes", buffer_bytes);
        goto cleanup;
    }
    QZO_TRY_MPI(MPI_Buffer_attach(state->send_buffer, buffer_bytes));
    *out = comm;
    comm = NULL;
cleanup:
    if (comm != NULL) mpi_close(comm);
    return status;
}

#else

qzo_status qzo_comm_mpi_open(qzo_comm **out) {
    (void)out;
    return qzo_fail(QZO_ERR_UNSUPPORTED, "this build has no MPI: start the program alone, or build "
                                         "it where MPI is found");
}

#endif
