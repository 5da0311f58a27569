/* The program: starts MPI, finds the subcommand, ends MPI, returns its exit code. The only file
 * that names the world communicator. */
#include "base/memory.h"
#include "base/report.h"
#include "commands.h"
#include "nearest.h"

#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const struct subcommand {
    const char *name, *arguments, *summary;
    void (*function)(MPI_Comm world, int argc, char **argv, struct problem *problem);
} SUBCOMMANDS[] = {
    {"run", "INPUT.json [--set key=value]... [--resume]",
     "search the ranks, retrain at them, evaluate", cmd_run},
    {"plan", "INPUT.json [--ranks N[,N]...] [options]",
     "what that would take: memory, seconds, output", cmd_plan},
    {"evaluate", "RUN_DIR [--split dev|test]", "metrics of a finished run's model", cmd_evaluate},
    {"predict", "RUN_DIR --in FILE --out FILE", "that model's predictions for a file", cmd_predict},
    {"export", "RUN_DIR --format peft|merged --out DIR",
     "that model as a PEFT adapter or a plain checkpoint", cmd_export},
    {"spectrum", "RUN_DIR", "singular values of what that run learned and of the frozen weights",
     cmd_spectrum},
    {"keys", "", "every input key: type, default, range, meaning", cmd_keys},
    {"info", "", "version, compiler, libraries really loaded, processor", cmd_info},
};
enum { NUM_SUBCOMMANDS = sizeof SUBCOMMANDS / sizeof *SUBCOMMANDS };

static bool is_one_of(const char *text, const char *first, const char *second, const char *third) {
    return strcmp(text, first) == 0 || strcmp(text, second) == 0 || strcmp(text, third) == 0;
}

static void print_help(FILE *stream) {
    fputs("usage: [mpirun -n RANKS] autolora SUBCOMMAND [ARGUMENTS]\n\n", stream);
    for (size_t i = 0; i < NUM_SUBCOMMANDS; ++i)
        fprintf(stream, "  %-8s %-41s %s\n", SUBCOMMANDS[i].name, SUBCOMMANDS[i].arguments,
                SUBCOMMANDS[i].summary);
    fprintf(stream,
            "  %-50s this text\n  %-50s the version\n\n"
            "Exit codes: %d done, %d wrong usage or input, %d data or model file, %d numerical "
            "failure,\n%d out of memory, %d input or output failed, %d a peer was lost, %d stopped "
            "with a good checkpoint.\n",
            "help, --help, -h", "--version", EXIT_DONE, EXIT_USAGE, EXIT_DATA, EXIT_NUMERICS,
            EXIT_MEMORY, EXIT_IO, EXIT_PEER, EXIT_RESUBMIT);
}

static void print_usage(const struct subcommand *subcommand) {
    printf("usage: [mpirun -n RANKS] autolora %s %s\n%s\n", subcommand->name, subcommand->arguments,
           subcommand->summary);
}

static void report_unknown(const char *name) {
    const char *nearest = NULL;
    size_t best = edit_distance_limit(name) + 1;
    for (size_t i = 0; i < NUM_SUBCOMMANDS; ++i) {
        const size_t distance = edit_distance(SUBCOMMANDS[i].name, name);
        if (distance < best) {
            best = distance;
            nearest = SUBCOMMANDS[i].name;
        }
    }
    if (nearest != NULL)
        report_error("unknown subcommand %s, did you mean %s?", name, nearest);
    else
        report_error("unknown subcommand %s (`autolora help` lists them)", name);
}

static int run_subcommand(MPI_Comm world, int argc, char **argv) {
    int mpi_rank;
    MPI_Comm_rank(world, &mpi_rank);
    const bool is_first = mpi_rank == 0;
    if (argc < 2) {
        if (is_first)
            print_help(stderr);
        return EXIT_USAGE;
    }
    if (is_one_of(argv[1], "help", "--help", "-h")) {
        if (is_first)
            print_help(stdout);
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        if (is_first)
            printf("autolora %s\n", cmd_info_version());
        return EXIT_DONE;
    }
    for (size_t i = 0; i < NUM_SUBCOMMANDS; ++i)
        if (strcmp(argv[1], SUBCOMMANDS[i].name) == 0) {
            if (argc > 2 && is_one_of(argv[2], "--help", "-h", "-help")) {
                if (is_first)
                    print_usage(&SUBCOMMANDS[i]);
                return EXIT_DONE;
            }
            struct problem problem = {0};
            SUBCOMMANDS[i].function(world, argc - 1, argv + 1, &problem);
            if (problem.exit_code != 0 && is_first)
                report_error("%s", problem.text);
            return problem.exit_code;
        }
    if (is_first)
        report_unknown(argv[1]);
    return EXIT_USAGE;
}

/* Output that did not reach its file (a full disk) is a failure too. */
static int flush_output(int exit_code) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return exit_code;
    report_error("the standard output could not be written");
    return exit_code == EXIT_DONE ? EXIT_IO : exit_code;
}

int main(int argc, char **argv) {
    int provided;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    int exit_code = EXIT_USAGE;
    if (provided < MPI_THREAD_FUNNELED)
        report_error("this MPI library offers no MPI_THREAD_FUNNELED");
    else
        exit_code = run_subcommand(MPI_COMM_WORLD, argc, argv);
    exit_code = flush_output(exit_code);
    if (memory_blocks_now() != 0)
        report_error("%zu blocks of memory (%zu bytes) were not freed", memory_blocks_now(),
                     memory_bytes_now());
    MPI_Finalize();
    return exit_code;
}
