/* A tree of named phases: how often each was entered and the seconds spent in it. A phase that is
 * started while another runs is a part of it. Starting one costs a look at the clock and at its
 * few siblings; memory is taken the first time that a name is met. NULL for a tree: nothing is
 * measured. */
#ifndef AUTOLORA_BASE_TIMER_H
#define AUTOLORA_BASE_TIMER_H

#include <mpi.h>
#include <stddef.h>

/* Seconds that the cores have worked for this process, all threads together. */
double timer_cpu_seconds(void);

struct timer_tree;

struct timer_tree *timer_tree_create(void);
void timer_tree_destroy(struct timer_tree **tree);

/* `name` is borrowed: a literal. Each start has its stop, inner ones first. */
void timer_start(struct timer_tree *tree, const char *name);
void timer_stop(struct timer_tree *tree);

/* One stretch of time within a phase without parts. */
struct timer_interval {
    char path[64]; /* "search/hypergradient/forward"; cut off where it is longer */
    int mpi_rank;
    double start, stop; /* seconds since timer_record */
};

/* Every stretch is kept from now on: the ranks wait for each other first, so that their clocks
 * begin together. Collective. */
void timer_record(struct timer_tree *tree, MPI_Comm comm);
/* Ends that. What all ranks kept arrives on rank 0 [count], rank by rank, each in the order of
 * time; free with memory_free. NULL and 0 elsewhere. Collective. */
struct timer_interval *timer_end_record(struct timer_tree *tree, MPI_Comm comm, size_t *count);

/* A phase over all ranks. */
struct timer_phase {
    const char *name;
    size_t depth; /* 0: not part of another */
    size_t calls; /* of rank 0 */
    double seconds_min, seconds_mean, seconds_max;
};

/* The phases, each before its parts, in the order in which they were first met; free with
 * memory_free. Every rank must have met the same ones, and none may be running. Collective. */
struct timer_phase *timer_tree_reduce(const struct timer_tree *tree, MPI_Comm comm, size_t *count);

#endif
