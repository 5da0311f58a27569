/* Communicators and the few collectives the program uses. A communicator is an argument, never a
 * global; only main names the world. Every function here is collective over the communicator. */
#ifndef AUTOLORA_PARALLEL_COMM_H
#define AUTOLORA_PARALLEL_COMM_H

#include "base/report.h"
#include "parallel/watchdog.h"

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>

/* Message tags, all in one place. */
enum message_tag { TAG_DOWN = 1, TAG_UP = 2, TAG_BLOCK = 3, TAG_ROWS = 4, TAG_EXCHANGE = 5 };

struct comm {
    MPI_Comm handle;
    int mpi_rank, size;
    int first, stride;         /* its ranks in the world: first, first + stride, ... */
    struct activity *activity; /* parallel/watchdog.h; NULL: nobody looks */
};

struct comm comm_of(MPI_Comm handle);

/* A rank of comm as the world counts it: for messages to the user. Not collective. */
int comm_world_rank(const struct comm *comm, int rank);

/* Around a call that waits for a rank of comm, or for PEER_ALL: for the watchdog. Not collective.
 */
enum { PEER_ALL = -1 };
void comm_start_waiting(const struct comm *comm, int peer);
void comm_stop_waiting(const struct comm *comm);

/* MPI counts are int: the one checked conversion. Not collective. */
int comm_count(size_t count);

/* True if no rank has a problem. Otherwise all ranks get the problem of the lowest rank that has
 * one, so that all of them take the same way out and one message is printed. */
bool comm_agree(const struct comm *comm, struct problem *problem);

void comm_broadcast(const struct comm *comm, int root, void *bytes, size_t size);
/* A block of bytes of which only the root knows the size: the others receive it in fresh memory
 * (memory_free). */
void comm_broadcast_block(const struct comm *comm, int root, char **bytes, size_t *size);

/* A block of bytes of `source`, of which rank 0 need not know the size, arrives there in fresh
 * memory (memory_free). On other ranks, and where rank 0 is the source, *bytes stays what it is. */
void comm_fetch_block(const struct comm *comm, int source, char **bytes, size_t *size);

/* This rank and `peer`, another one, get what the other gives. Not collective. */
void comm_exchange(const struct comm *comm, int peer, const void *given, void *received,
                   size_t size);

/* MPI_Allreduce. */
void comm_reduce(const struct comm *comm, const void *mine, void *all, size_t count,
                 MPI_Datatype type, MPI_Op operation);

/* Each rank gives `count` elements of `element_bytes`; the concatenation in rank order arrives on
 * every rank. */
void comm_all_gather(const struct comm *comm, const void *part, size_t count, size_t element_bytes,
                     void *whole);
/* The same, to rank 0 only (whole is not touched elsewhere). */
void comm_gather(const struct comm *comm, const void *part, size_t count, size_t element_bytes,
                 void *whole);

/* Ranks that share this node's memory. */
int comm_ranks_on_node(const struct comm *comm);

#endif
