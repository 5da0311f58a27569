/* The timer tree: nodes in one array, linked by their places. */
#include "base/timer.h"

#include "base/memory.h"
#include "base/report.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct node {
    const char *name;
    size_t parent, first_part, next; /* 0: none, as the root is nobody's part */
    size_t calls;
    double seconds, started;
};

/* A stretch of a node, on the clock of MPI_Wtime. */
struct stretch {
    size_t node;
    double start, stop;
};

struct timer_tree {
    struct node *nodes; /* the root first; it has no name */
    size_t count, running;
    bool is_recording;
    double record_start;
    struct stretch *stretches;
    size_t num_stretches, room;
};

double timer_cpu_seconds(void) {
    struct timespec time;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) != 0)
        return 0;
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

struct timer_tree *timer_tree_create(void) {
    struct timer_tree *tree = memory_allocate(1, sizeof *tree, "timers");
    tree->nodes = memory_allocate(1, sizeof *tree->nodes, "timers");
    tree->count = 1;
    return tree;
}

void timer_tree_destroy(struct timer_tree **tree) {
    if (*tree == NULL)
        return;
    memory_free((*tree)->nodes);
    memory_free((*tree)->stretches);
    memory_free(*tree);
    *tree = NULL;
}

static size_t add_part(struct timer_tree *tree, const char *name, size_t last) {
    const size_t added = tree->count++;
    tree->nodes = memory_resize(tree->nodes, tree->count, sizeof *tree->nodes, "timers");
    tree->nodes[added] = (struct node){.name = name, .parent = tree->running};
    if (last == 0)
        tree->nodes[tree->running].first_part = added;
    else
        tree->nodes[last].next = added;
    return added;
}

static size_t find_part(struct timer_tree *tree, const char *name) {
    size_t last = 0;
    for (size_t i = tree->nodes[tree->running].first_part; i != 0; i = tree->nodes[i].next) {
        if (tree->nodes[i].name == name || strcmp(tree->nodes[i].name, name) == 0)
            return i;
        last = i;
    }
    return add_part(tree, name, last);
}

void timer_start(struct timer_tree *tree, const char *name) {
    if (tree == NULL)
        return;
    tree->running = find_part(tree, name);
    ++tree->nodes[tree->running].calls;
    tree->nodes[tree->running].started = MPI_Wtime();
}

static void keep_stretch(struct timer_tree *tree, size_t node, double now) {
    if (tree->num_stretches == tree->room) {
        tree->room = 2 * tree->room + 64;
        tree->stretches =
            memory_resize(tree->stretches, tree->room, sizeof *tree->stretches, "a timeline");
    }
    tree->stretches[tree->num_stretches++] =
        (struct stretch){.node = node, .start = tree->nodes[node].started, .stop = now};
}

void timer_stop(struct timer_tree *tree) {
    if (tree == NULL)
        return;
    FAULT_UNLESS(tree->running != 0, "a timer is stopped that does not run");
    struct node *node = &tree->nodes[tree->running];
    const double now = MPI_Wtime();
    node->seconds += now - node->started;
    if (tree->is_recording && node->first_part == 0)
        keep_stretch(tree, tree->running, now);
    tree->running = node->parent;
}

void timer_record(struct timer_tree *tree, MPI_Comm comm) {
    MPI_Barrier(comm);
    tree->is_recording = true;
    tree->num_stretches = 0;
    tree->record_start = MPI_Wtime();
}

/* Appends "/name" for the node and those that it is part of, the root's first. */
static void add_names(const struct timer_tree *tree, size_t node, char *path, size_t size) {
    if (node == 0)
        return;
    add_names(tree, tree->nodes[node].parent, path, size);
    const size_t length = strlen(path);
    snprintf(path + length, size - length, "%s%s", length > 0 ? "/" : "", tree->nodes[node].name);
}

static struct timer_interval *own_intervals(const struct timer_tree *tree, int mpi_rank) {
    struct timer_interval *own = memory_allocate(tree->num_stretches, sizeof *own, "a timeline");
    for (size_t i = 0; i < tree->num_stretches; ++i) {
        const struct stretch *stretch = &tree->stretches[i];
        own[i] = (struct timer_interval){.mpi_rank = mpi_rank,
                                         .start = stretch->start - tree->record_start,
                                         .stop = stretch->stop - tree->record_start};
        add_names(tree, stretch->node, own[i].path, sizeof own[i].path);
    }
    return own;
}

/* Sums up to displacements [size + 1]; false where they are too many for one message. */
static bool displace(const int *counts, int size, int *displacements) {
    size_t sum = 0;
    for (int r = 0; r < size; ++r) {
        displacements[r] = (int)sum;
        sum += (size_t)counts[r];
        if (sum > INT_MAX)
            return false;
    }
    displacements[size] = (int)sum;
    return true;
}

struct timer_interval *timer_end_record(struct timer_tree *tree, MPI_Comm comm, size_t *count) {
    int mpi_rank, size;
    MPI_Comm_rank(comm, &mpi_rank);
    MPI_Comm_size(comm, &size);
    tree->is_recording = false;
    const size_t bytes = tree->num_stretches * sizeof(struct timer_interval);
    const int mine = bytes <= INT_MAX ? (int)bytes : 0;
    int *counts = memory_allocate((size_t)size, sizeof *counts, "a timeline");
    int *displacements = memory_allocate((size_t)size + 1, sizeof *displacements, "a timeline");
    MPI_Allgather(&mine, 1, MPI_INT, counts, 1, MPI_INT, comm);
    struct timer_interval *own = own_intervals(tree, mpi_rank), *all = NULL;
    *count = 0;
    if (displace(counts, size, displacements)) {
        if (mpi_rank == 0) {
            *count = (size_t)displacements[size] / sizeof *all;
            all = memory_allocate(*count, sizeof *all, "a timeline");
        }
        MPI_Gatherv(own, mine, MPI_BYTE, all, counts, displacements, MPI_BYTE, 0, comm);
    }
    memory_free(own);
    memory_free(counts);
    memory_free(displacements);
    return all;
}

/* A node's parts and theirs, behind it. */
static void list(const struct timer_tree *tree, size_t parent, size_t depth,
                 struct timer_phase *phases, size_t *count) {
    for (size_t i = tree->nodes[parent].first_part; i != 0; i = tree->nodes[i].next) {
        const struct node *node = &tree->nodes[i];
        phases[(*count)++] = (struct timer_phase){.name = node->name,
                                                  .depth = depth,
                                                  .calls = node->calls,
                                                  .seconds_mean = node->seconds};
        list(tree, i, depth + 1, phases, count);
    }
}

/* A number that trees of other shapes or names do not share. */
static unsigned long long fingerprint(const struct timer_phase *phases, size_t count) {
    unsigned long long hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < count; ++i) {
        hash = (hash ^ phases[i].depth) * 1099511628211u;
        for (const char *at = phases[i].name; *at != '\0'; ++at)
            hash = (hash ^ (unsigned char)*at) * 1099511628211u;
    }
    return hash;
}

struct timer_phase *timer_tree_reduce(const struct timer_tree *tree, MPI_Comm comm, size_t *count) {
    FAULT_UNLESS(tree->running == 0, "timer %s runs", tree->nodes[tree->running].name);
    struct timer_phase *phases = memory_allocate(tree->count, sizeof *phases, "timers");
    *count = 0;
    list(tree, 0, 0, phases, count);
    const unsigned long long own = fingerprint(phases, *count);
    unsigned long long first = own;
    MPI_Bcast(&first, 1, MPI_UNSIGNED_LONG_LONG, 0, comm);
    FAULT_UNLESS(first == own, "the ranks have other timers");
    int size;
    MPI_Comm_size(comm, &size);
    for (size_t i = 0; i < *count; ++i) {
        struct timer_phase *phase = &phases[i];
        const double seconds = phase->seconds_mean;
        MPI_Allreduce(&seconds, &phase->seconds_min, 1, MPI_DOUBLE, MPI_MIN, comm);
        MPI_Allreduce(&seconds, &phase->seconds_max, 1, MPI_DOUBLE, MPI_MAX, comm);
        MPI_Allreduce(&seconds, &phase->seconds_mean, 1, MPI_DOUBLE, MPI_SUM, comm);
        phase->seconds_mean /= size;
        unsigned long long calls = phase->calls;
        MPI_Bcast(&calls, 1, MPI_UNSIGNED_LONG_LONG, 0, comm);
        phase->calls = calls;
    }
    return phases;
}
