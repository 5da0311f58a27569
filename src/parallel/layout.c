/* Where a rank stands. */
#include "parallel/layout.h"

bool layout_choose(size_t num_ranks, const struct layout *asked, struct layout *layout,
                   struct problem *problem) {
    *layout = *asked;
    const size_t others = asked->replicas * asked->grid_rows * asked->grid_columns;
    if (asked->stages == 0)
        layout->stages = num_ranks / others;
    if (layout->stages > 0 && layout_num_ranks(layout) == num_ranks)
        return true;
    if (asked->stages == 0)
        return problem_set(problem, EXIT_USAGE,
                           "%zu MPI ranks are no multiple of parallel.replicas, %zu, times "
                           "parallel.grid, [%zu, %zu]: start %zu for each pipeline stage",
                           num_ranks, asked->replicas, asked->grid_rows, asked->grid_columns,
                           others);
    return problem_set(problem, EXIT_USAGE,
                       "parallel.stages is %zu, parallel.replicas %zu and parallel.grid [%zu, "
                       "%zu]: that needs %zu MPI ranks, but there are %zu: start as many, or leave "
                       "parallel.stages 0",
                       asked->stages, asked->replicas, asked->grid_rows, asked->grid_columns,
                       layout_num_ranks(layout), num_ranks);
}

size_t layout_num_ranks(const struct layout *layout) {
    return layout->replicas * layout->stages * layout->grid_rows * layout->grid_columns;
}

struct place layout_place(const struct layout *layout, size_t rank) {
    const size_t grid = layout->grid_rows * layout->grid_columns;
    return (struct place){
        .replica = rank / grid / layout->stages,
        .stage = rank / grid % layout->stages,
        .row = rank % grid / layout->grid_columns,
        .column = rank % layout->grid_columns,
    };
}

size_t layout_rank(const struct layout *layout, const struct place *place) {
    return ((place->replica * layout->stages + place->stage) * layout->grid_rows + place->row) *
               layout->grid_columns +
           place->column;
}

struct comms comms_of(MPI_Comm world) {
    return (struct comms){.world = comm_of(world)};
}

/* The ranks first, first + stride, ... of the world, this one among them. */
static struct comm split(const struct comm *world, size_t first, size_t stride) {
    MPI_Comm handle;
    MPI_Comm_split(world->handle, comm_count(first), world->mpi_rank, &handle);
    struct comm comm = comm_of(handle);
    comm.activity = world->activity;
    comm.first = comm_count(first);
    comm.stride = comm_count(stride);
    return comm;
}

void comms_split(struct comms *comms, const struct layout *layout) {
    const struct comm *world = &comms->world;
    FAULT_UNLESS(layout_num_ranks(layout) == (size_t)world->size, "a layout of %zu ranks on %d",
                 layout_num_ranks(layout), world->size);
    const struct place place = layout_place(layout, (size_t)world->mpi_rank);
    struct place first_stage = place, first_replica = place, first_of_grid = place;
    first_stage.stage = first_replica.replica = first_of_grid.row = first_of_grid.column = 0;
    const size_t grid = layout->grid_rows * layout->grid_columns;
    comms->stages = split(world, layout_rank(layout, &first_stage), grid);
    comms->replicas = split(world, layout_rank(layout, &first_replica), grid * layout->stages);
    comms->grid = split(world, layout_rank(layout, &first_of_grid), 1);
    comms->is_split = true;
}

void comms_free(struct comms *comms) {
    if (!comms->is_split)
        return;
    MPI_Comm_free(&comms->stages.handle);
    MPI_Comm_free(&comms->replicas.handle);
    MPI_Comm_free(&comms->grid.handle);
    comms->is_split = false;
}

void comms_set_activity(struct comms *comms, struct activity *activity) {
    comms->world.activity = comms->stages.activity = activity;
    comms->replicas.activity = comms->grid.activity = activity;
}

bool comms_is_original(const struct comms *comms) {
    return comms->replicas.mpi_rank == 0 && comms->grid.mpi_rank == 0;
}
