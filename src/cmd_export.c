/* autolora export RUN_DIR --format peft|merged --out DIR: a finished run's model for other
 * programs. Rank 0 alone works. */
#include "commands.h"
#include "export.h"

#include <string.h>

struct arguments {
    const char *directory, *format, *out;
};

static bool read_arguments(int argc, char **argv, struct arguments *arguments,
                           struct problem *problem) {
    for (int i = 1; i < argc; ++i) {
        if (strcmp(argv[i], "--format") == 0 && i + 1 < argc)
            arguments->format = argv[++i];
        else if (strcmp(argv[i], "--out") == 0 && i + 1 < argc)
            arguments->out = argv[++i];
        else if (argv[i][0] == '-' || arguments->directory != NULL)
            return problem_set(problem, EXIT_USAGE, "export: unknown or incomplete argument %s",
                               argv[i]);
        else
            arguments->directory = argv[i];
    }
    if (arguments->directory == NULL || arguments->format == NULL || arguments->out == NULL)
        return problem_set(problem, EXIT_USAGE,
                           "export: something is missing (autolora export RUN_DIR --format "
                           "peft|merged --out DIR)");
    if (strcmp(arguments->format, "peft") != 0 && strcmp(arguments->format, "merged") != 0)
        return problem_set(problem, EXIT_USAGE, "export: --format is peft or merged, found %s",
                           arguments->format);
    return true;
}

static void export_run(const struct arguments *arguments, struct problem *problem) {
    struct saved_run run = {0};
    if (saved_run_open(&run, MPI_COMM_SELF, arguments->directory, JOB_APPLY, problem)) {
        if (strcmp(arguments->format, "peft") == 0)
            export_peft(&run, arguments->out, problem);
        else
            export_merged(&run, arguments->out, problem);
    }
    saved_run_close(&run);
}

void cmd_export(MPI_Comm world, int argc, char **argv, struct problem *problem) {
    const struct comm comm = comm_of(world);
    struct arguments arguments = {0};
    if (read_arguments(argc, argv, &arguments, problem) && comm.mpi_rank == 0)
        export_run(&arguments, problem);
    comm_agree(&comm, problem);
}
