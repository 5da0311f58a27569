/* autolora keys: the input keys as a page; inputs/README.md is its output. */
#include "commands.h"

#include "base/report.h"
#include "config.h"

#include <stdio.h>

void cmd_keys(MPI_Comm world, int argc, char **argv, struct problem *problem) {
    int mpi_rank;
    MPI_Comm_rank(world, &mpi_rank);
    if (argc > 1) {
        problem_set(problem, EXIT_USAGE, "%s takes no arguments, found %s", argv[0], argv[1]);
        return;
    }
    if (mpi_rank == 0)
        config_print_keys(stdout);
}
