/* Transfers between neighbouring stages. */
#include "parallel/link.h"

#include "base/memory.h"

struct channel {
    int peer; /* MPI_PROC_NULL: none */
    float *buffers[2];
    MPI_Request requests[2];
    size_t num_started, num_finished;
};

struct link {
    struct comm comm;
    struct channel receive[2], send[2]; /* by direction */
    float *memory;
};

static const int TAGS[] = {[DIRECTION_DOWN] = TAG_DOWN, [DIRECTION_UP] = TAG_UP};

static void channel_open(struct channel *channel, int peer, float **memory, size_t largest) {
    channel->peer = peer;
    for (int i = 0; i < 2; ++i) {
        channel->requests[i] = MPI_REQUEST_NULL;
        if (peer == MPI_PROC_NULL)
            continue;
        channel->buffers[i] = *memory;
        *memory += largest;
    }
}

struct link *link_create(const struct comm *comm, size_t largest) {
    struct link *link = memory_allocate(1, sizeof *link, "a link");
    link->comm = *comm;
    const int above = comm->mpi_rank > 0 ? comm->mpi_rank - 1 : MPI_PROC_NULL;
    const int below = comm->mpi_rank + 1 < comm->size ? comm->mpi_rank + 1 : MPI_PROC_NULL;
    const size_t rounded = (largest + 15) / 16 * 16;
    const size_t neighbours = (size_t)(above != MPI_PROC_NULL) + (size_t)(below != MPI_PROC_NULL);
    link->memory = memory_allocate(4 * neighbours * rounded, sizeof(float), "transfer buffers");
    float *memory = link->memory;
    channel_open(&link->receive[DIRECTION_DOWN], above, &memory, rounded);
    channel_open(&link->send[DIRECTION_UP], above, &memory, rounded);
    channel_open(&link->receive[DIRECTION_UP], below, &memory, rounded);
    channel_open(&link->send[DIRECTION_DOWN], below, &memory, rounded);
    return link;
}

void link_destroy(struct link **link) {
    if (*link == NULL)
        return;
    memory_free((*link)->memory);
    memory_free(*link);
    *link = NULL;
}

bool link_has_source(const struct link *link, enum direction direction) {
    return link->receive[direction].peer != MPI_PROC_NULL;
}

bool link_has_target(const struct link *link, enum direction direction) {
    return link->send[direction].peer != MPI_PROC_NULL;
}

static void wait_for(const struct link *link, struct channel *channel, size_t i) {
    if (channel->peer == MPI_PROC_NULL)
        return;
    comm_start_waiting(&link->comm, channel->peer);
    MPI_Wait(&channel->requests[i], MPI_STATUS_IGNORE);
    comm_stop_waiting(&link->comm);
}

void link_start_receive(struct link *link, enum direction direction, size_t count) {
    struct channel *channel = &link->receive[direction];
    FAULT_UNLESS(channel->num_started < channel->num_finished + 2, "three open receives");
    const size_t i = channel->num_started++ % 2;
    MPI_Irecv(channel->buffers[i], comm_count(count), MPI_FLOAT, channel->peer, TAGS[direction],
              link->comm.handle, &channel->requests[i]);
}

float *link_finish_receive(struct link *link, enum direction direction) {
    struct channel *channel = &link->receive[direction];
    FAULT_UNLESS(channel->num_finished < channel->num_started, "no receive was started");
    const size_t i = channel->num_finished++ % 2;
    wait_for(link, channel, i);
    return channel->buffers[i];
}

float *link_send_buffer(struct link *link, enum direction direction) {
    struct channel *channel = &link->send[direction];
    const size_t i = channel->num_started % 2;
    wait_for(link, channel, i);
    return channel->buffers[i];
}

void link_start_send(struct link *link, enum direction direction, size_t count) {
    struct channel *channel = &link->send[direction];
    const size_t i = channel->num_started++ % 2;
    MPI_Isend(channel->buffers[i], comm_count(count), MPI_FLOAT, channel->peer, TAGS[direction],
              link->comm.handle, &channel->requests[i]);
}

static void channel_advance(struct channel *channel) {
    for (size_t i = 0; i < 2; ++i)
        if (channel->requests[i] != MPI_REQUEST_NULL) {
            int is_done;
            MPI_Test(&channel->requests[i], &is_done, MPI_STATUS_IGNORE);
        }
}

void link_advance(struct link *link) {
    for (size_t direction = 0; direction < 2; ++direction) {
        channel_advance(&link->receive[direction]);
        channel_advance(&link->send[direction]);
    }
}

void link_finish_sends(struct link *link) {
    for (int direction = 0; direction < 2; ++direction)
        for (size_t i = 0; i < 2; ++i)
            wait_for(link, &link->send[direction], i);
}
