/* Sums of vectors in one order. */
#include "parallel/reduction.h"

#include "base/memory.h"

#include <string.h>

struct reduction {
    struct comm comm;
    size_t largest_size;
    size_t room;     /* vectors */
    float *vectors;  /* [room, largest_size] */
    float *received; /* [ranks, slice]; of one round */
    int *send_counts, *send_offsets, *receive_counts, *receive_offsets; /* [ranks] */
    /* the sum under way */
    float *sum;
    size_t size, count;
    size_t num_rounds, num_waiting; /* done; made, but not sent */
};

static size_t num_ranks(const struct reduction *reduction) {
    return (size_t)reduction->comm.size;
}

static size_t divide_up(size_t count, size_t parts) {
    return (count + parts - 1) / parts;
}

static int *rank_numbers(const struct reduction *reduction) {
    return memory_allocate(num_ranks(reduction), sizeof(int), "a reduction");
}

struct reduction *reduction_create(const struct comm *comm, size_t largest_size, size_t room) {
    struct reduction *reduction = memory_allocate(1, sizeof *reduction, "a reduction");
    reduction->comm = *comm;
    reduction->largest_size = largest_size;
    const size_t ranks = num_ranks(reduction);
    reduction->room = ranks == 1 || room < 1 ? 1 : room;
    reduction->vectors =
        memory_allocate(reduction->room * largest_size, sizeof(float), "a gradient");
    if (ranks > 1)
        reduction->received =
            memory_allocate(ranks * divide_up(largest_size, ranks), sizeof(float), "a reduction");
    reduction->send_counts = rank_numbers(reduction);
    reduction->send_offsets = rank_numbers(reduction);
    reduction->receive_counts = rank_numbers(reduction);
    reduction->receive_offsets = rank_numbers(reduction);
    return reduction;
}

void reduction_destroy(struct reduction **pointer) {
    struct reduction *reduction = *pointer;
    if (reduction == NULL)
        return;
    memory_free(reduction->vectors);
    memory_free(reduction->received);
    memory_free(reduction->send_counts);
    memory_free(reduction->send_offsets);
    memory_free(reduction->receive_counts);
    memory_free(reduction->receive_offsets);
    memory_free(reduction);
    *pointer = NULL;
}

void reduction_open(struct reduction *reduction, float *sum, size_t size, size_t count) {
    FAULT_UNLESS(size <= reduction->largest_size, "a sum of %zu numbers, planned for %zu", size,
                 reduction->largest_size);
    reduction->sum = sum;
    reduction->size = size;
    reduction->count = count;
    reduction->num_rounds = reduction->num_waiting = 0;
    memset(sum, 0, size * sizeof *sum);
}

float *reduction_vector(struct reduction *reduction) {
    return reduction->vectors + reduction->num_waiting * reduction->largest_size;
}

/* The slices are as long as each other, but for the last ones. */
static size_t slice_offset(const struct reduction *reduction, size_t rank) {
    const size_t offset = rank * divide_up(reduction->size, num_ranks(reduction));
    return offset < reduction->size ? offset : reduction->size;
}

static size_t slice_size(const struct reduction *reduction, size_t rank) {
    return slice_offset(reduction, rank + 1) - slice_offset(reduction, rank);
}

static void add(float *sum, const float *vector, size_t size) {
#pragma omp simd
    for (size_t i = 0; i < size; ++i)
        sum[i] += vector[i];
}

/* In the last round only the first ranks have a vector. */
static size_t num_givers(const struct reduction *reduction) {
    const size_t left = reduction->count - reduction->num_rounds * num_ranks(reduction);
    return left < num_ranks(reduction) ? left : num_ranks(reduction);
}

static void exchange(struct reduction *reduction, const float *vector) {
    const size_t ranks = num_ranks(reduction), me = (size_t)reduction->comm.mpi_rank;
    const size_t givers = num_givers(reduction), own = slice_size(reduction, me);
    for (size_t r = 0; r < ranks; ++r) {
        reduction->send_counts[r] = me < givers ? comm_count(slice_size(reduction, r)) : 0;
        reduction->send_offsets[r] = comm_count(slice_offset(reduction, r));
        reduction->receive_counts[r] = r < givers ? comm_count(own) : 0;
        reduction->receive_offsets[r] = comm_count(r * own);
    }
    comm_start_waiting(&reduction->comm, PEER_ALL);
    MPI_Alltoallv(vector, reduction->send_counts, reduction->send_offsets, MPI_FLOAT,
                  reduction->received, reduction->receive_counts, reduction->receive_offsets,
                  MPI_FLOAT, reduction->comm.handle);
    comm_stop_waiting(&reduction->comm);
    for (size_t r = 0; r < givers; ++r)
        add(reduction->sum + slice_offset(reduction, me), reduction->received + r * own, own);
    ++reduction->num_rounds;
}

/* The rounds up to the given one. A rank without a vector for the last one sends nothing. */
static void finish_rounds(struct reduction *reduction, size_t num_rounds) {
    const float *vector = reduction->vectors;
    for (; reduction->num_rounds < num_rounds; vector += reduction->largest_size)
        exchange(reduction, vector);
    reduction->num_waiting = 0;
}

void reduction_add(struct reduction *reduction) {
    if (num_ranks(reduction) == 1) {
        add(reduction->sum, reduction->vectors, reduction->size);
        return;
    }
    const size_t made = reduction->num_rounds + ++reduction->num_waiting;
    if (reduction->num_waiting == reduction->room && made * num_ranks(reduction) < reduction->count)
        finish_rounds(reduction, made);
}

void reduction_close(struct reduction *reduction) {
    const size_t ranks = num_ranks(reduction);
    if (ranks == 1)
        return;
    finish_rounds(reduction, divide_up(reduction->count, ranks));
    for (size_t r = 0; r < ranks; ++r) {
        reduction->receive_counts[r] = comm_count(slice_size(reduction, r));
        reduction->receive_offsets[r] = comm_count(slice_offset(reduction, r));
    }
    comm_start_waiting(&reduction->comm, PEER_ALL);
    MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, reduction->sum, reduction->receive_counts,
                   reduction->receive_offsets, MPI_FLOAT, reduction->comm.handle);
    comm_stop_waiting(&reduction->comm);
}
