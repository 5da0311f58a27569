/* Where a rank stands: MPI ranks = replicas x stages x grid rows x grid columns, columns running
 * fastest. Pure arithmetic, and the communicators that follow from it. */
#ifndef AUTOLORA_PARALLEL_LAYOUT_H
#define AUTOLORA_PARALLEL_LAYOUT_H

#include "base/report.h"
#include "parallel/comm.h"

#include <stdbool.h>
#include <stddef.h>

struct layout {
    size_t replicas, stages, grid_rows, grid_columns;
};

struct place {
    size_t replica, stage, row, column;
};

/* What was asked for on `num_ranks` ranks; asked->stages 0: what is left. EXIT_USAGE unless the
 * product is the number of ranks. */
bool layout_choose(size_t num_ranks, const struct layout *asked, struct layout *layout,
                   struct problem *problem);
size_t layout_num_ranks(const struct layout *layout);
/* The inverse of each other. */
struct place layout_place(const struct layout *layout, size_t rank);
size_t layout_rank(const struct layout *layout, const struct place *place);

struct comms {
    struct comm world;    /* all ranks: who prints, who agrees */
    struct comm stages;   /* the pipeline of one (replica, row, column), in stage order */
    struct comm replicas; /* the same (stage, row, column) of all replicas */
    struct comm grid;     /* the rows x columns of one (replica, stage), row-major */
    bool is_split;        /* there are more than the world */
};

/* The world alone. */
struct comms comms_of(MPI_Comm world);
/* The others; layout_num_ranks is the size of the world. Collective. */
void comms_split(struct comms *comms, const struct layout *layout);
/* The world stays. Collective. */
void comms_free(struct comms *comms);
/* Shows what all of them do to a watchdog (parallel/watchdog.h). */
void comms_set_activity(struct comms *comms, struct activity *activity);
/* Does this rank hold what stands for its stage: replica 0, row 0, column 0? */
bool comms_is_original(const struct comms *comms);

#endif
