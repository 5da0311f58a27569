/* autolora run INPUT.json [--set key.path=value]...: search -> ranks -> retrain -> evaluate. */
#include "base/memory.h"
#include "commands.h"
#include "io/file.h"
#include "io/json.h"
#include "io/progress.h"
#include "io/trace.h"
#include "job.h"
#include "results.h"
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct arguments {
    const char *input;
    const char **overrides;
    size_t num_overrides;
};

static bool read_arguments(int argc, char **argv, struct arguments *arguments,
                           struct problem *problem) {
    arguments->overrides = memory_allocate((size_t)argc, sizeof(char *), "arguments");
    for (int i = 1; i < argc; ++i) {
        if (strcmp(argv[i], "--set") == 0 && i + 1 < argc)
            arguments->overrides[arguments->num_overrides++] = argv[++i];
        else if (strncmp(argv[i], "--set=", 6) == 0)
            arguments->overrides[arguments->num_overrides++] = argv[i] + 6;
        else if (argv[i][0] == '-')
            return problem_set(problem, EXIT_USAGE, "run: unknown or incomplete option %s",
                               argv[i]);
        else if (arguments->input != NULL)
            return problem_set(problem, EXIT_USAGE, "run: two input files, %s and %s",
                               arguments->input, argv[i]);
        else
            arguments->input = argv[i];
    }
    if (arguments->input == NULL)
        return problem_set(problem, EXIT_USAGE,
                           "run: no input file (autolora run INPUT.json [--set key=value]...)");
    return true;
}

/* One run: what its steps hand on to each other. */
struct run {
    struct job job;
    struct trainer trainer;
    double start;
    size_t *ranks; /* [num_modules] */
    struct search_result search;
    struct retrain_result retrain;
    size_t adapter_parameters, head_parameters;
    char *warning;
};

static bool is_first(const struct run *run) {
    return run->job.comm.mpi_rank == 0;
}

/* Rank 0 writes a small file into the output directory. */
static void write_output(const struct run *run, const char *name, const char *text,
                         struct problem *problem) {
    char *path = file_join(run->job.output_dir, name);
    file_write_atomically(path, text, strlen(text), problem);
    memory_free(path);
}

static bool searches(const struct run *run) {
    const struct method_options *adapter = &run->job.config.adapter;
    return adapter->method == METHOD_AUTOLORA && *adapter->ranks_from == '\0';
}

static void open_trace(struct run *run, struct problem *problem) {
    struct json *provenance = results_provenance(&run->job);
    char *text = json_print(provenance, false);
    char *path = file_join(run->job.output_dir, "trace.h5");
    const struct trace_options options = {
        .path = path,
        .module_names = (const char *const *)run->job.module_names,
        .num_modules = run->job.num_modules,
        .num_components = searches(run) ? run->job.config.adapter.rank : 0,
        .input_text = run->job.input_text,
        .provenance = text,
        .flush_seconds = run->job.config.output.flush_seconds,
    };
    run->trainer.trace = trace_create(&options, problem);
    memory_free(path);
    memory_free(text);
    json_destroy(&provenance);
}

static bool open_outputs(struct run *run, struct problem *problem) {
    if (is_first(run)) {
        file_remove(run->job.output_dir, "ranks.json", problem);
        write_output(run, "input.json", run->job.input_text, problem);
        char *path = file_join(run->job.output_dir, "progress.jsonl");
        if (problem->exit_code == 0)
            run->trainer.progress =
                progress_create(path, run->job.config.output.report_seconds, problem);
        memory_free(path);
        if (problem->exit_code == 0)
            open_trace(run, problem);
    }
    return comm_agree(&run->job.comm, problem);
}

/* Flushes the trace and closes the files; the trace is whole only if that worked. */
static bool close_outputs(struct run *run, struct problem *problem) {
    if (run->trainer.trace != NULL)
        trace_close(&run->trainer.trace, problem);
    progress_destroy(&run->trainer.progress);
    return comm_agree(&run->job.comm, problem);
}

static void prepare_trainer(struct run *run) {
    const struct job *job = &run->job;
    run->trainer = (struct trainer){
        .comm = job->comm,
        .seed = job->config.run.seed,
        .optimizer = job->config.optimizer,
        .microbatch_tokens = job->config.parallel.microbatch_tokens,
        .num_threads = job->num_threads,
        .train = &job->train,
        .num_own_validation = job->num_own_validation,
        .dev = &job->dev,
        .test = job->has_test ? &job->test : NULL,
        .labels = &job->labels,
        .trace_every = job->config.output.trace_every,
    };
}

/* The same total rank as `mean_rank` on average, spread as evenly as whole numbers allow. */
static void spread_evenly(double mean_rank, size_t num_modules, size_t *ranks) {
    const size_t total = (size_t)lround(mean_rank * (double)num_modules);
    for (size_t m = 0; m < num_modules; ++m)
        ranks[m] = total / num_modules + (m < total % num_modules);
}

static void set_uniform_ranks(struct run *run) {
    const struct method_options *adapter = &run->job.config.adapter;
    if (adapter->method == METHOD_LORA && adapter->mean_rank > 0) {
        spread_evenly(adapter->mean_rank, run->job.num_modules, run->ranks);
        return;
    }
    for (size_t m = 0; m < run->job.num_modules; ++m)
        run->ranks[m] = adapter->rank;
}

static bool search_ranks(struct run *run, struct problem *problem) {
    const struct job *job = &run->job;
    const struct search_options *options = &job->config.search;
    const size_t k = job->config.adapter.rank;
    struct stage *stage = job_create_stage(job, run->ranks, k, k, problem);
    if (stage == NULL)
        return false;
    const bool is_good = search_run(&run->trainer, options, stage, &run->search, problem);
    stage_destroy(&stage);
    if (!is_good)
        return false;
    memcpy(run->ranks, run->search.ranks, job->num_modules * sizeof *run->ranks);
    run->warning = search_warning(options, &run->search);
    if (is_first(run) && run->warning != NULL)
        printf("warning: %s\n", run->warning);
    return true;
}

/* Before the old results are removed: a ranks.json of this very directory may be given. */
static bool set_first_ranks(struct run *run, struct problem *problem) {
    const struct job *job = &run->job;
    run->ranks = memory_allocate(job->num_modules, sizeof *run->ranks, "ranks");
    set_uniform_ranks(run);
    if (*job->config.adapter.ranks_from == '\0')
        return true;
    if (is_first(run))
        results_read_ranks(job, job->config.adapter.ranks_from, run->ranks, problem);
    if (!comm_agree(&job->comm, problem))
        return false;
    comm_broadcast(&job->comm, 0, run->ranks, job->num_modules * sizeof *run->ranks);
    return true;
}

static bool find_ranks(struct run *run, struct problem *problem) {
    const struct job *job = &run->job;
    if (searches(run) && !search_ranks(run, problem))
        return false;
    if (is_first(run)) {
        char *text = results_ranks_text(job, run->ranks);
        write_output(run, "ranks.json", text, problem);
        memory_free(text);
    }
    return comm_agree(&job->comm, problem);
}

static void count_parameters(struct run *run, const struct stage *stage) {
    size_t counts[2] = {0}, sums[2];
    for (size_t i = 0; i < stage->factors.count; ++i) {
        const struct parameter *entry = &stage->factors.entries[i];
        const bool is_head = strncmp(entry->name, "classifier.", 11) == 0;
        counts[is_head] += entry->rows * entry->columns;
    }
    size_t *all = memory_allocate(2 * (size_t)run->job.comm.size, sizeof *all, "counts");
    comm_all_gather(&run->job.comm, counts, 2, sizeof *counts, all);
    sums[0] = sums[1] = 0;
    for (int r = 0; r < run->job.comm.size; ++r) {
        sums[0] += all[2 * r];
        sums[1] += all[2 * r + 1];
    }
    memory_free(all);
    run->adapter_parameters = sums[0];
    run->head_parameters = sums[1];
}

static bool retrain_at_ranks(struct run *run, struct problem *problem) {
    const struct job *job = &run->job;
    const struct retrain_options *options = &job->config.retrain;
    const size_t divisor = options->scaling == SCALING_ALPHA_OVER_K ? job->config.adapter.rank : 0;
    struct stage *stage = job_create_stage(job, run->ranks, divisor, 0, problem);
    if (stage == NULL)
        return false;
    count_parameters(run, stage);
    const bool is_good = retrain_run(&run->trainer, options, stage, &run->retrain, problem);
    stage_destroy(&stage);
    return is_good;
}

/* result.json comes last: where it is, the run is whole. */
static bool conclude(struct run *run, struct problem *problem) {
    const struct job *job = &run->job;
    size_t peak = memory_resident_peak();
    size_t *peaks = memory_allocate((size_t)job->comm.size, sizeof *peaks, "peaks");
    comm_all_gather(&job->comm, &peak, 1, sizeof peak, peaks);
    if (is_first(run)) {
        const struct run_results results = {
            .job = job,
            .ranks = run->ranks,
            .search = searches(run) ? &run->search : NULL,
            .retrain = &run->retrain,
            .adapter_parameters = run->adapter_parameters,
            .head_parameters = run->head_parameters,
            .peak_memory = peaks,
            .seconds = MPI_Wtime() - run->start,
            .warning = run->warning,
        };
        char *text = results_text(&results);
        write_output(run, "result.json", text, problem);
        memory_free(text);
        results_print_rank_table(job, run->ranks);
        results_print_metrics(&results);
        printf("\nfiles in %s: result.json ranks.json trace.h5 progress.jsonl input.json\n",
               job->output_dir);
    }
    memory_free(peaks);
    return comm_agree(&job->comm, problem);
}

static void run_all(struct run *run, MPI_Comm world, const struct arguments *arguments,
                    struct problem *problem) {
    if (!job_open(&run->job, world, arguments->input, arguments->overrides,
                  arguments->num_overrides, problem))
        return;
    if (is_first(run))
        results_print_header(&run->job);
    prepare_trainer(run);
    const bool is_good = set_first_ranks(run, problem) && open_outputs(run, problem) &&
                         find_ranks(run, problem) && retrain_at_ranks(run, problem);
    struct problem closing = {0};
    const bool is_closed = close_outputs(run, &closing);
    if (is_good && !is_closed)
        *problem = closing;
    if (is_good && is_closed)
        conclude(run, problem);
}

int cmd_run(MPI_Comm world, int argc, char **argv) {
    struct run run = {.start = MPI_Wtime()};
    struct arguments arguments = {0};
    struct problem problem = {0};
    int mpi_rank;
    MPI_Comm_rank(world, &mpi_rank);
    if (read_arguments(argc, argv, &arguments, &problem))
        run_all(&run, world, &arguments, &problem);
    job_close(&run.job);
    search_result_free(&run.search);
    memory_free(run.ranks);
    memory_free(run.warning);
    memory_free(arguments.overrides);
    if (problem.exit_code != 0 && mpi_rank == 0)
        report_error("%s", problem.text);
    return problem.exit_code;
}
