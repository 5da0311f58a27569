/* autolora plan INPUT.json: what the job would take, on one rank or on thousands. */
#include "base/memory.h"
#include "commands.h"
#include "io/file.h"
#include "plan.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_RANKS = 1 << 20, MOST_EXAMPLES = 100000000, MOST_TOKENS = 1000000000 };

struct arguments {
    const char *input, *json;
    const char **overrides;
    size_t num_overrides;
    size_t *ranks, num_ranks; /* numbers of ranks to plan for */
    struct plan_machine machine;
    struct assumed_data assumed;
};

static bool read_number(const char *option, const char *text, double least, double factor,
                        double *value, struct problem *problem) {
    char *end;
    const double number = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(number) || number < least)
        return problem_set(problem, EXIT_USAGE,
                           "plan: %s: expected a number of at least %g, found %s", option, least,
                           text);
    *value = number * factor;
    return true;
}

static bool read_count(const char *option, const char *text, size_t *value,
                       struct problem *problem) {
    char *end;
    errno = 0;
    const unsigned long number = strtoul(text, &end, 10);
    if (end == text || *end != '\0' || *text == '-' || errno != 0 || number < 1 ||
        number > MOST_RANKS)
        return problem_set(problem, EXIT_USAGE,
                           "plan: %s: expected whole numbers from 1 to %d, found %s", option,
                           (int)MOST_RANKS, text);
    *value = number;
    return true;
}

/* "8,16,32". */
static bool read_ranks(const char *text, struct arguments *arguments, struct problem *problem) {
    char *copy = memory_copy_string(text), *rest = copy;
    bool is_good = true;
    for (char *part = strsep(&rest, ","); part != NULL && is_good; part = strsep(&rest, ",")) {
        arguments->ranks = memory_resize(arguments->ranks, arguments->num_ranks + 1,
                                         sizeof *arguments->ranks, "arguments");
        is_good = read_count("--ranks", part, &arguments->ranks[arguments->num_ranks++], problem);
    }
    memory_free(copy);
    return is_good;
}

/* "EXAMPLESxTOKENS". */
static bool read_assumed(const char *text, struct assumed_data *assumed, struct problem *problem) {
    char end;
    if (strchr(text, '-') == NULL &&
        sscanf(text, "%zux%zu%c", &assumed->num_examples, &assumed->length, &end) == 2 &&
        assumed->num_examples > 0 && assumed->num_examples <= MOST_EXAMPLES &&
        assumed->length > 1 && assumed->length <= MOST_EXAMPLES &&
        assumed->num_examples * assumed->length <= MOST_TOKENS)
        return true;
    return problem_set(problem, EXIT_USAGE,
                       "plan: --assume: expected EXAMPLESxTOKENS, such as 8551x11, found %s", text);
}

/* An option with its value; false where it is none or has a bad value (then with a problem). */
static bool read_option(const char *option, const char *value, struct arguments *arguments,
                        struct problem *problem) {
    struct plan_machine *machine = &arguments->machine;
    if (strcmp(option, "--set") == 0)
        arguments->overrides[arguments->num_overrides++] = value;
    else if (strcmp(option, "--json") == 0)
        arguments->json = value;
    else if (strcmp(option, "--assume") == 0)
        return read_assumed(value, &arguments->assumed, problem);
    else if (strcmp(option, "--ranks") == 0)
        return read_ranks(value, arguments, problem);
    else if (strcmp(option, "--nodes") == 0)
        return read_count(option, value, &machine->nodes, problem);
    else if (strcmp(option, "--cores") == 0)
        return read_count(option, value, &machine->cores, problem);
    else if (strcmp(option, "--latency") == 0)
        return read_number(option, value, 0, 1e-6, &machine->latency, problem);
    else if (strcmp(option, "--bandwidth") == 0)
        return read_number(option, value, 1e-6, 1e9, &machine->bandwidth, problem);
    else if (strcmp(option, "--flops") == 0)
        return read_number(option, value, 1e-6, 1e9, &machine->rate, problem);
    else
        return false;
    return true;
}

static bool read_arguments(int argc, char **argv, struct arguments *arguments,
                           struct problem *problem) {
    arguments->overrides = memory_allocate((size_t)argc, sizeof(char *), "arguments");
    for (int i = 1; i < argc; ++i) {
        if (argv[i][0] != '-') {
            if (arguments->input != NULL)
                return problem_set(problem, EXIT_USAGE, "plan: two input files, %s and %s",
                                   arguments->input, argv[i]);
            arguments->input = argv[i];
            continue;
        }
        const bool is_good = i + 1 < argc && read_option(argv[i], argv[i + 1], arguments, problem);
        if (!is_good && problem->exit_code == 0)
            problem_set(problem, EXIT_USAGE, "plan: unknown or incomplete option %s", argv[i]);
        if (!is_good)
            return false;
        ++i;
    }
    if (arguments->input == NULL)
        return problem_set(problem, EXIT_USAGE,
                           "plan: no input file (autolora plan INPUT.json [--ranks N])");
    return true;
}

/* As the run would do it: the input's layout. */
static bool plan_asked(struct planner *planner, size_t num_ranks, struct plan *plan,
                       struct problem *problem) {
    const struct parallel_options *parallel = &planner->job->config.parallel;
    const struct layout asked = {parallel->replicas, parallel->stages, parallel->grid[0],
                                 parallel->grid[1]};
    struct layout layout;
    return layout_choose(num_ranks, &asked, &layout, problem) &&
           plan_make(planner, &layout, plan, problem);
}

/* The fastest of the layouts without an idle stage; the input asks for none. */
static bool plan_best(struct planner *planner, size_t num_ranks, struct plan *best,
                      struct problem *problem) {
    const size_t grid =
        planner->job->config.parallel.grid[0] * planner->job->config.parallel.grid[1];
    *best = (struct plan){0};
    for (size_t stages = 1; stages <= planner->job->architecture.num_blocks; ++stages) {
        if (num_ranks % (stages * grid) != 0)
            continue;
        const struct layout layout = {num_ranks / (stages * grid), stages,
                                      planner->job->config.parallel.grid[0],
                                      planner->job->config.parallel.grid[1]};
        struct plan plan;
        if (!plan_make(planner, &layout, &plan, problem))
            return false;
        struct plan *worse = best->stages == NULL || plan.seconds < best->seconds ? best : &plan;
        plan_free(worse);
        if (worse == best)
            *best = plan;
    }
    return best->stages != NULL || plan_asked(planner, num_ranks, best, problem);
}

static bool has_layout(const struct parallel_options *parallel) {
    return parallel->stages > 0 || parallel->replicas > 1 || parallel->num_layout > 0;
}

static bool make_plans(struct planner *planner, const struct arguments *arguments,
                       struct plan *plans, struct problem *problem) {
    const bool chooses = arguments->num_ranks > 1 && !has_layout(&planner->job->config.parallel);
    for (size_t i = 0; i < arguments->num_ranks; ++i)
        if (!(chooses ? plan_best : plan_asked)(planner, arguments->ranks[i], &plans[i], problem))
            return false;
    return true;
}

static void report(const struct planner *planner, const struct arguments *arguments,
                   const struct plan *plans, struct problem *problem) {
    if (arguments->num_ranks == 1)
        plan_print(planner, &plans[0], stdout);
    else
        plan_print_table(plans, arguments->num_ranks, stdout);
    if (arguments->json == NULL)
        return;
    char *text = plan_json(planner, plans, arguments->num_ranks);
    file_write_atomically(arguments->json, text, strlen(text), problem);
    memory_free(text);
}

static void plan_job(struct job *job, const struct arguments *arguments, size_t program_bytes,
                     struct problem *problem) {
    struct planner planner;
    struct plan *plans = memory_allocate(arguments->num_ranks, sizeof *plans, "plans");
    if (planner_open(&planner, job, &arguments->machine, program_bytes, problem) &&
        make_plans(&planner, arguments, plans, problem))
        report(&planner, arguments, plans, problem);
    for (size_t i = 0; i < arguments->num_ranks; ++i)
        plan_free(&plans[i]);
    memory_free(plans);
    planner_close(&planner);
}

void cmd_plan(MPI_Comm world, int argc, char **argv, struct problem *problem) {
    const size_t program_bytes = memory_resident_peak();
    struct arguments arguments = {.machine = {.latency = 2e-6,
                                              .bandwidth = 10e9,
                                              .cores = (size_t)sysconf(_SC_NPROCESSORS_ONLN)}};
    int size;
    MPI_Comm_size(world, &size);
    bool is_good = read_arguments(argc, argv, &arguments, problem);
    if (is_good && size > 1)
        is_good = problem_set(problem, EXIT_USAGE,
                              "plan: start it on one rank; --ranks %d plans for %d", size, size);
    if (is_good && arguments.num_ranks == 0)
        is_good = read_ranks("1", &arguments, problem);
    struct job job = {0};
    if (is_good && job_open_plan(&job, world, arguments.input, arguments.overrides,
                                 arguments.num_overrides, &arguments.assumed, problem))
        plan_job(&job, &arguments, program_bytes, problem);
    job_close(&job);
    memory_free(arguments.ranks);
    memory_free(arguments.overrides);
}
