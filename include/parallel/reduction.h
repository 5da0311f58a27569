/* Sums of vectors that several ranks make, in one order: vector n comes from rank n % ranks, and
 * the sum is ((v0 + v1) + v2) + ..., on any number of ranks to the last bit. Each rank owns a slice
 * of the sum: a round of one vector from each rank is sent slice by slice to the owners, which add
 * them in order; at the end the slices are gathered. So no rank holds more than its own vectors,
 * of which a bounded number wait for their round. */
#ifndef AUTOLORA_PARALLEL_REDUCTION_H
#define AUTOLORA_PARALLEL_REDUCTION_H

#include "parallel/comm.h"

#include <stddef.h>

struct reduction;

/* For sums of vectors of at most `largest_size`, of which a rank keeps at most `room`, at least
 * one, before they are sent; the same everywhere. Not collective. */
struct reduction *reduction_create(const struct comm *comm, size_t largest_size, size_t room);
void reduction_destroy(struct reduction **reduction);

/* Starts the sum of `count` vectors in sum [size], which is whole when it is closed. */
void reduction_open(struct reduction *reduction, float *sum, size_t size, size_t count);
/* Where this rank makes its next vector, [size]; between two sums, room for anyone. */
float *reduction_vector(struct reduction *reduction);
/* It is made. Collective now and then, in a round that all ranks have a vector for. */
void reduction_add(struct reduction *reduction);
/* What is left, and the sum for all ranks. Collective. */
void reduction_close(struct reduction *reduction);

#endif
