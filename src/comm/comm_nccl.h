/* The NCCL transport: gathers over the devices that the ranks' CUDA backends opened; everything
 * else goes through the group's own transport. Gives the same bytes as that. */
#ifndef QZO_COMM_COMM_NCCL_H
#define QZO_COMM_COMM_NCCL_H

#include "comm/comm.h"

/* Collective over base, after every rank has opened its CUDA backend. On success the new group owns
 * base. Otherwise all ranks get an error and keep base: ranks that share a device, which NCCL
 * refuses, or a machine without NCCL stay with MPI. One such group at a time per rank: aborting one
 * communicator after another can hang. */
qzo_status qzo_comm_nccl_open(qzo_comm **out, qzo_comm *base);

/* "NCCL 2.28.3"; "" where the module or NCCL is missing. Loads the module. */
const char *qzo_comm_nccl_version(void);

#endif
