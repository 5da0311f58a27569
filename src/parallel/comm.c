/* Communicators and the few collectives the program uses. MPI's default error handler aborts, so
 * return codes are not looked at. */
#include "parallel/comm.h"

#include "base/memory.h"

#include <limits.h>
#include <string.h>

struct comm comm_of(MPI_Comm handle) {
    struct comm comm = {.handle = handle, .stride = 1};
    MPI_Comm_rank(handle, &comm.mpi_rank);
    MPI_Comm_size(handle, &comm.size);
    return comm;
}

int comm_world_rank(const struct comm *comm, int rank) {
    return comm->first + rank * comm->stride;
}

void comm_start_waiting(const struct comm *comm, int peer) {
    if (peer == PEER_ALL)
        activity_wait(comm->activity, comm->first, comm->stride, comm->size);
    else
        activity_wait(comm->activity, comm_world_rank(comm, peer), 1, 1);
}

void comm_stop_waiting(const struct comm *comm) {
    activity_go_on(comm->activity);
}

int comm_count(size_t count) {
    FAULT_UNLESS(count <= INT_MAX, "%zu elements do not fit one message", count);
    return (int)count;
}

bool comm_agree(const struct comm *comm, struct problem *problem) {
    int mine = problem->exit_code != 0 ? comm->mpi_rank : comm->size, lowest;
    comm_reduce(comm, &mine, &lowest, 1, MPI_INT, MPI_MIN);
    if (lowest == comm->size)
        return true;
    comm_broadcast(comm, lowest, problem, sizeof *problem);
    return false;
}

void comm_reduce(const struct comm *comm, const void *mine, void *all, size_t count,
                 MPI_Datatype type, MPI_Op operation) {
    comm_start_waiting(comm, PEER_ALL);
    MPI_Allreduce(mine, all, comm_count(count), type, operation, comm->handle);
    comm_stop_waiting(comm);
}

void comm_broadcast(const struct comm *comm, int root, void *bytes, size_t size) {
    const size_t piece = (size_t)1 << 30;
    comm_start_waiting(comm, comm->mpi_rank == root ? PEER_ALL : root);
    for (size_t done = 0; done < size; done += piece) {
        const size_t now = size - done < piece ? size - done : piece;
        MPI_Bcast((char *)bytes + done, comm_count(now), MPI_BYTE, root, comm->handle);
    }
    comm_stop_waiting(comm);
}

void comm_broadcast_block(const struct comm *comm, int root, char **bytes, size_t *size) {
    comm_broadcast(comm, root, size, sizeof *size);
    if (comm->mpi_rank != root)
        *bytes = memory_allocate(*size + 1, 1, "a block from another rank");
    comm_broadcast(comm, root, *bytes, *size);
}

void comm_fetch_block(const struct comm *comm, int source, char **bytes, size_t *size) {
    const size_t piece = (size_t)1 << 30;
    const bool sends = comm->mpi_rank == source, receives = comm->mpi_rank == 0;
    if (sends == receives)
        return;
    comm_start_waiting(comm, sends ? 0 : source);
    if (sends)
        MPI_Send(size, sizeof *size, MPI_BYTE, 0, TAG_BLOCK, comm->handle);
    else
        MPI_Recv(size, sizeof *size, MPI_BYTE, source, TAG_BLOCK, comm->handle, MPI_STATUS_IGNORE);
    if (receives)
        *bytes = memory_allocate(*size + 1, 1, "a block from another rank");
    for (size_t done = 0; done < *size; done += piece) {
        const int now = comm_count(*size - done < piece ? *size - done : piece);
        if (sends)
            MPI_Send(*bytes + done, now, MPI_BYTE, 0, TAG_BLOCK, comm->handle);
        else
            MPI_Recv(*bytes + done, now, MPI_BYTE, source, TAG_BLOCK, comm->handle,
                     MPI_STATUS_IGNORE);
    }
    comm_stop_waiting(comm);
}

void comm_exchange(const struct comm *comm, int peer, const void *given, void *received,
                   size_t size) {
    const size_t piece = (size_t)1 << 30;
    comm_start_waiting(comm, peer);
    for (size_t done = 0; done < size; done += piece) {
        const int now = comm_count(size - done < piece ? size - done : piece);
        MPI_Sendrecv((const char *)given + done, now, MPI_BYTE, peer, TAG_EXCHANGE,
                     (char *)received + done, now, MPI_BYTE, peer, TAG_EXCHANGE, comm->handle,
                     MPI_STATUS_IGNORE);
    }
    comm_stop_waiting(comm);
}

/* Byte counts and displacements of a gather, [ranks] each; on the stack, as iterations allocate
 * nothing. */
static void gather_layout(const struct comm *comm, int bytes, int *counts, int *displacements) {
    MPI_Allgather(&bytes, 1, MPI_INT, counts, 1, MPI_INT, comm->handle);
    size_t total = 0;
    for (int r = 0; r < comm->size; ++r) {
        displacements[r] = comm_count(total);
        total += (size_t)counts[r];
    }
    comm_count(total);
}

void comm_all_gather(const struct comm *comm, const void *part, size_t count, size_t element_bytes,
                     void *whole) {
    const int bytes = comm_count(count * element_bytes);
    comm_start_waiting(comm, PEER_ALL);
    int counts[comm->size], displacements[comm->size];
    gather_layout(comm, bytes, counts, displacements);
    MPI_Allgatherv(part, bytes, MPI_BYTE, whole, counts, displacements, MPI_BYTE, comm->handle);
    comm_stop_waiting(comm);
}

void comm_gather(const struct comm *comm, const void *part, size_t count, size_t element_bytes,
                 void *whole) {
    const int bytes = comm_count(count * element_bytes);
    comm_start_waiting(comm, PEER_ALL);
    int counts[comm->size], displacements[comm->size];
    gather_layout(comm, bytes, counts, displacements);
    MPI_Gatherv(part, bytes, MPI_BYTE, whole, counts, displacements, MPI_BYTE, 0, comm->handle);
    comm_stop_waiting(comm);
}

int comm_ranks_on_node(const struct comm *comm) {
    MPI_Comm node;
    MPI_Comm_split_type(comm->handle, MPI_COMM_TYPE_SHARED, comm->mpi_rank, MPI_INFO_NULL, &node);
    int size;
    MPI_Comm_size(node, &size);
    MPI_Comm_free(&node);
    return size;
}
