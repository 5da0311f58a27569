/* autolora spectrum RUN_DIR: singular values of what a finished run learned and of the weights
 * below, by all ranks together. */
#include "base/memory.h"
#include "commands.h"
#include "spectrum.h"

#include <stdio.h>

static const char *read_arguments(int argc, char **argv, struct problem *problem) {
    const char *directory = NULL;
    for (int i = 1; i < argc; ++i) {
        if (argv[i][0] == '-' || directory != NULL) {
            problem_set(problem, EXIT_USAGE, "spectrum: unknown argument %s", argv[i]);
            return NULL;
        }
        directory = argv[i];
    }
    if (directory == NULL)
        problem_set(problem, EXIT_USAGE, "spectrum: no run (autolora spectrum RUN_DIR)");
    return directory;
}

static void report(const struct saved_run *run, const struct process_grid *grid,
                   const char *directory, struct problem *problem) {
    const struct comm *comm = &run->job.comms.world;
    const double start = MPI_Wtime();
    struct spectrum spectrum;
    if (spectrum_compute(run, grid, &spectrum, problem)) {
        if (comm->mpi_rank == 0 && spectrum_write(&spectrum, &run->job, directory, problem)) {
            spectrum_print(&spectrum);
            printf("\n%zu modules on a grid of %zu x %zu ranks in %.1f s: %s/spectrum.h5\n",
                   spectrum.num_modules, grid->rows, grid->columns, MPI_Wtime() - start, directory);
        }
        comm_agree(comm, problem);
    }
    spectrum_free(&spectrum);
}

void cmd_spectrum(MPI_Comm world, int argc, char **argv, struct problem *problem) {
    const char *directory = read_arguments(argc, argv, problem);
    if (directory == NULL)
        return;
    struct saved_run run = {0};
    if (saved_run_open(&run, world, directory, JOB_COMPARE, problem)) {
        const size_t size = (size_t)run.job.comms.world.size, rows = process_grid_rows(size);
        struct process_grid *grid = process_grid_create(world, rows, size / rows);
        report(&run, grid, directory, problem);
        process_grid_destroy(&grid);
    }
    saved_run_close(&run);
}
