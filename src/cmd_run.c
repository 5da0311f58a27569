/* autolora run INPUT.json [--set key.path=value]... [--resume]: search -> ranks -> retrain ->
 * evaluate. */
#include "base/interrupt.h"
#include "base/memory.h"
#include "base/timer.h"
#include "commands.h"
#include "io/file.h"
#include "io/json.h"
#include "io/progress.h"
#include "io/trace.h"
#include "job.h"
#include "parallel/watchdog.h"
#include "peft_adapter.h"
#include "results.h"
#include "saved_run.h"
#include "train/checkpoints.h"
#include "train/method.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct arguments {
    const char *input;
    const char **overrides;
    size_t num_overrides;
    bool is_resuming;
};

static bool read_arguments(int argc, char **argv, struct arguments *arguments,
                           struct problem *problem) {
    arguments->overrides = memory_allocate((size_t)argc, sizeof(char *), "arguments");
    for (int i = 1; i < argc; ++i) {
        if (strcmp(argv[i], "--set") == 0 && i + 1 < argc)
            arguments->overrides[arguments->num_overrides++] = argv[++i];
        else if (strncmp(argv[i], "--set=", 6) == 0)
            arguments->overrides[arguments->num_overrides++] = argv[i] + 6;
        else if (strcmp(argv[i], "--resume") == 0)
            arguments->is_resuming = true;
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
        return problem_set(
            problem, EXIT_USAGE,
            "run: no input file (autolora run INPUT.json [--set key=value]... [--resume])");
    return true;
}

/* One run: what its steps hand on to each other. */
struct run {
    struct job job;
    struct trainer trainer;
    double start; /* were there no earlier attempts */
    const struct method *method;
    struct method_input input;
    struct method_output output;
    struct timer_tree *timers;
    struct watchdog *watchdog;
    struct peft_adapter *from; /* adapter.from, or NULL */
    float *scales;             /* [num_modules] from there */
    bool has_ranks;            /* of an earlier attempt */
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
    return adapter->method == METHOD_AUTOLORA && *adapter->ranks_from == '\0' &&
           *adapter->from == '\0';
}

/* Components of a module in the trace: of the search, or AdaLoRA's. */
static size_t traced_components(const struct run *run) {
    if (run->job.config.adapter.method == METHOD_ADALORA)
        return method_adalora_rank(&run->input);
    return searches(run) ? run->job.config.adapter.rank : 0;
}

/* Seconds until the batch job ends; INFINITY where that is not known. Torque tells the length only,
 * which is counted from here. */
static double seconds_of_job(void) {
    const char *slurm = getenv("SLURM_JOB_END_TIME"), *pbs = getenv("PBS_WALLTIME");
    const long long end = slurm != NULL ? strtoll(slurm, NULL, 10) : 0;
    const long long length = pbs != NULL ? strtoll(pbs, NULL, 10) : 0;
    if (end > 0)
        return (double)(end - (long long)time(NULL));
    return length > 0 ? (double)length : (double)INFINITY;
}

/* Opens the checkpoint to go on from, where one is wanted and there. */
static bool open_checkpoints(struct run *run, struct problem *problem) {
    const struct job *job = &run->job;
    const struct output_options *output = &job->config.output;
    struct json *provenance = results_provenance(job);
    char *text = json_print(provenance, false), *data = job_describe_data(job);
    const struct checkpoints_options options = {
        .directory = job->output_dir,
        .input_text = job->input_text,
        .data_text = data,
        .provenance = text,
        .every = output->checkpoint_every,
        .every_seconds = output->checkpoint_seconds,
        .keep = output->keep,
        .end =
            output->wall_time > 0 ? run->start + output->wall_time : MPI_Wtime() + seconds_of_job(),
    };
    run->trainer.checkpoints = checkpoints_create(&job->comm, &options);
    memory_free(data);
    memory_free(text);
    json_destroy(&provenance);
    return !job->is_resuming || checkpoints_open_newest(run->trainer.checkpoints, problem);
}

/* NULL: the run starts from the beginning. */
static const struct checkpoints_place *place_of(const struct run *run) {
    const struct checkpoints *checkpoints = run->trainer.checkpoints;
    return checkpoints_opened(checkpoints) != NULL ? checkpoints_place(checkpoints) : NULL;
}

static void check_data(const struct run *run, struct problem *problem) {
    const struct checkpoint *checkpoint = checkpoints_opened(run->trainer.checkpoints);
    char *now = job_describe_data(&run->job);
    char *then = checkpoint_text(checkpoint, "data", problem);
    if (then != NULL && strcmp(now, then) != 0)
        problem_set(problem, EXIT_DATA,
                    "%s: the data have changed since: %s (CRC-32 of each split), were %s",
                    place_of(run)->path, now, then);
    memory_free(then);
    memory_free(now);
}

/* Is the checkpoint one of this input and data? */
static bool check_checkpoint(struct run *run, struct problem *problem) {
    const struct checkpoints_place *place = place_of(run);
    if (place == NULL)
        return true;
    char *text = checkpoint_text(checkpoints_opened(run->trainer.checkpoints), "input", problem);
    if (text != NULL)
        job_check_input(&run->job, text, place->path, problem);
    if (problem->exit_code == 0)
        check_data(run, problem);
    memory_free(text);
    if (!comm_agree(&run->job.comm, problem))
        return false;
    run->start -= place->seconds;
    if (is_first(run))
        printf("resumed    from %s\n", place->path);
    return true;
}

static void open_trace(struct run *run, struct problem *problem) {
    struct json *provenance = results_provenance(&run->job);
    char *text = json_print(provenance, false), *warning = NULL;
    char *path = file_join(run->job.output_dir, "trace.h5");
    const struct trace_options options = {
        .path = path,
        .module_names = (const char *const *)run->job.module_names,
        .num_modules = run->job.num_modules,
        .num_components = traced_components(run),
        .has_allocation = run->job.config.adapter.method == METHOD_ADALORA,
        .input_text = run->job.input_text,
        .provenance = text,
        .flush_seconds = run->job.config.output.flush_seconds,
    };
    const struct checkpoints_place *place = place_of(run);
    run->trainer.trace = place == NULL
                             ? trace_create(&options, problem)
                             : trace_continue(&options, place->trace_rows, &warning, problem);
    if (warning != NULL)
        printf("warning: %s\n", warning);
    memory_free(warning);
    memory_free(path);
    memory_free(text);
    json_destroy(&provenance);
}

/* The trace comes first: another job that still writes it keeps all its files. */
static void open_files(struct run *run, struct problem *problem) {
    const struct checkpoints_place *place = place_of(run);
    open_trace(run, problem);
    if (problem->exit_code != 0)
        return;
    if (place == NULL)
        checkpoints_remove_all(run->trainer.checkpoints);
    file_remove(run->job.output_dir, "ranks.json", problem);
    file_remove(run->job.output_dir, "stop", problem);
    write_output(run, "input.json", run->job.input_text, problem);
    if (problem->exit_code != 0)
        return;
    char *path = file_join(run->job.output_dir, "progress.jsonl");
    run->trainer.progress =
        progress_create(path, run->job.config.output.report_seconds, place != NULL,
                        place != NULL ? place->seconds : 0, problem);
    memory_free(path);
}

static bool open_outputs(struct run *run, struct problem *problem) {
    if (is_first(run))
        open_files(run, problem);
    return comm_agree(&run->job.comm, problem);
}

/* Flushes the trace and closes the files; the trace is whole only if that worked. */
static bool close_outputs(struct run *run, struct problem *problem) {
    if (run->trainer.trace != NULL)
        trace_close(&run->trainer.trace, problem);
    progress_destroy(&run->trainer.progress);
    checkpoints_destroy(&run->trainer.checkpoints);
    return comm_agree(&run->job.comm, problem);
}

/* What a method calls back, with the run as its context. */
static struct stage *create_stage(const void *context, const struct stage_request *request,
                                  struct problem *problem) {
    const struct run *run = context;
    timer_start(run->timers, "model");
    struct stage *stage = job_create_stage(&run->job, request, problem);
    timer_stop(run->timers);
    return stage;
}

static bool start(const void *context, const struct stage *stage, float *factors,
                  struct problem *problem) {
    const struct run *run = context;
    if (run->from != NULL)
        peft_adapter_start(run->from, stage, factors, problem);
    return comm_agree(&run->job.comm, problem) &&
           job_load_pretrained(&run->job, stage, factors, problem);
}

static bool save(const void *context, const struct stage *stage, const float *factors,
                 struct problem *problem) {
    const struct run *run = context;
    timer_start(run->timers, "save");
    const bool is_good = saved_run_write(&run->job, stage, factors, problem);
    timer_stop(run->timers);
    return is_good;
}

static void prepare_method(struct run *run) {
    const struct job *job = &run->job;
    run->method = method_of((enum adapter_method)job->config.adapter.method);
    run->input = (struct method_input){
        .trainer = &run->trainer,
        .options = &job->config.adapter,
        .search = &job->config.search,
        .retrain = &job->config.retrain,
        .num_modules = job->num_modules,
        .component_sizes = job->component_sizes,
        .create_stage = create_stage,
        .start = start,
        .save = save,
        .context = run,
    };
    run->output.ranks = memory_allocate(job->num_modules, sizeof(size_t), "ranks");
}

/* Does the run go on behind the choice of the ranks? */
static bool has_ranks(const struct run *run) {
    const struct checkpoints_place *place = place_of(run);
    return place != NULL && place->phase == PHASE_RETRAIN;
}

/* The choice that an earlier attempt made. */
static bool read_chosen_ranks(struct run *run, struct problem *problem) {
    char *text = checkpoint_text(checkpoints_opened(run->trainer.checkpoints), "output", problem);
    if (text != NULL)
        method_output_read(&run->output, run->job.num_modules, text, problem);
    memory_free(text);
    return comm_agree(&run->job.comm, problem);
}

/* Before the old results are removed: a ranks.json of this very directory may be given. */
static bool read_given_ranks(struct run *run, struct problem *problem) {
    const struct job *job = &run->job;
    const char *path = job->config.adapter.ranks_from;
    run->has_ranks = has_ranks(run);
    if (run->has_ranks)
        return read_chosen_ranks(run, problem);
    if (*path == '\0')
        return true;
    if (is_first(run))
        results_read_ranks(job, path, run->output.ranks, problem);
    if (!comm_agree(&job->comm, problem))
        return false;
    comm_broadcast(&job->comm, 0, run->output.ranks, job->num_modules * sizeof *run->output.ranks);
    return true;
}

/* After the given ranks, if there are any. */
static bool read_given_adapter(struct run *run, struct problem *problem) {
    const struct job *job = &run->job;
    const struct method_options *options = &job->config.adapter;
    if (*options->from == '\0')
        return true;
    if (run->method->choose_ranks == NULL)
        return problem_set(problem, EXIT_USAGE,
                           "adapter.from: method %s does not start from an adapter",
                           config_method_name(options->method));
    run->from = peft_adapter_open(job, options->from, problem);
    if (!comm_agree(&job->comm, problem))
        return false;
    if (*options->ranks_from == '\0' && !run->has_ranks)
        peft_adapter_ranks(run->from, run->output.ranks);
    run->scales = memory_allocate(job->num_modules, sizeof *run->scales, "scales");
    peft_adapter_scales(run->from, run->output.ranks, run->scales);
    run->input.scales = run->scales;
    return true;
}

static bool write_ranks(const struct run *run, struct problem *problem) {
    if (is_first(run)) {
        char *text = results_ranks_text(&run->job, run->output.ranks);
        write_output(run, "ranks.json", text, problem);
        memory_free(text);
    }
    return comm_agree(&run->job.comm, problem);
}

static bool chooses_ranks(const struct run *run) {
    return run->method->choose_ranks != NULL && run->from == NULL && !run->has_ranks &&
           *run->job.config.adapter.ranks_from == '\0';
}

static bool choose_ranks(struct run *run, struct problem *problem) {
    if (!chooses_ranks(run))
        return true;
    timer_start(run->timers, "search");
    const bool is_good = run->method->choose_ranks(&run->input, &run->output, problem);
    timer_stop(run->timers);
    return is_good;
}

static bool train_adapters(struct run *run, struct problem *problem) {
    timer_start(run->timers, "retrain");
    const bool is_good = run->method->train(&run->input, &run->output, problem);
    timer_stop(run->timers);
    return is_good;
}

/* ranks.json is there as soon as the ranks are known. */
static bool train(struct run *run, struct problem *problem) {
    if (!choose_ranks(run, problem))
        return false;
    char *text = method_output_text(&run->output, run->job.num_modules);
    checkpoints_set_output(run->trainer.checkpoints, text, run->output.search.num_steps);
    memory_free(text);
    if (is_first(run) && run->output.warning != NULL)
        printf("warning: %s\n", run->output.warning);
    const bool is_known = run->method->choose_ranks != NULL;
    return (!is_known || write_ranks(run, problem)) && train_adapters(run, problem) &&
           (is_known || write_ranks(run, problem));
}

/* result.json comes last: where it is, the run is whole. */
static bool conclude(struct run *run, struct problem *problem) {
    const struct job *job = &run->job;
    size_t peak = memory_resident_peak();
    size_t *peaks = memory_allocate((size_t)job->comm.size, sizeof *peaks, "peaks");
    comm_all_gather(&job->comm, &peak, 1, sizeof peak, peaks);
    size_t num_timers;
    struct timer_phase *timers = timer_tree_reduce(run->timers, job->comm.handle, &num_timers);
    if (is_first(run)) {
        const struct run_results results = {
            .job = job,
            .output = &run->output,
            .peak_memory = peaks,
            .timers = timers,
            .num_timers = num_timers,
            .seconds = MPI_Wtime() - run->start,
        };
        char *text = results_text(&results);
        write_output(run, "result.json", text, problem);
        memory_free(text);
        if (method_has_ranks((enum adapter_method)job->config.adapter.method))
            results_print_rank_table(job, run->output.ranks);
        results_print_metrics(&results);
        if (job->config.output.prints_timers)
            results_print_timers(&results);
        const bool generates = run->trainer.texts != NULL;
        printf("\nfiles in %s: result.json ranks.json checkpoint-final.h5 trace.h5 progress.jsonl "
               "input.json%s\n",
               job->output_dir, generates ? " generated-*.txt references-*.txt" : "");
    }
    memory_free(timers);
    memory_free(peaks);
    return comm_agree(&job->comm, problem);
}

static void run_all(struct run *run, MPI_Comm world, const struct arguments *arguments,
                    struct problem *problem) {
    timer_start(run->timers, "setup");
    const bool is_open = job_open(&run->job, world, arguments->input, arguments->overrides,
                                  arguments->num_overrides, arguments->is_resuming, problem);
    timer_stop(run->timers);
    if (!is_open)
        return;
    if (run->job.is_finished) {
        if (is_first(run))
            printf("%s: the run is finished, nothing is left to do\n", run->job.output_dir);
        return;
    }
    if (is_first(run))
        results_print_header(&run->job);
    run->watchdog = watchdog_start(&run->job.comm, run->job.config.output.stall_seconds);
    run->trainer = job_trainer(&run->job);
    run->trainer.timers = run->timers;
    prepare_method(run);
    const bool is_good = open_checkpoints(run, problem) && check_checkpoint(run, problem) &&
                         read_given_ranks(run, problem) && read_given_adapter(run, problem) &&
                         open_outputs(run, problem) && train(run, problem);
    struct problem closing = {0};
    const bool is_closed = close_outputs(run, &closing);
    if (is_good && !is_closed)
        *problem = closing;
    if (is_good && is_closed)
        conclude(run, problem);
}

void cmd_run(MPI_Comm world, int argc, char **argv, struct problem *problem) {
    struct run run = {.start = MPI_Wtime(), .timers = timer_tree_create()};
    struct arguments arguments = {0};
    interrupt_catch();
    if (read_arguments(argc, argv, &arguments, problem))
        run_all(&run, world, &arguments, problem);
    watchdog_stop(&run.watchdog);
    peft_adapter_close(&run.from);
    memory_free(run.scales);
    job_close(&run.job);
    method_output_free(&run.output);
    memory_free(run.output.ranks);
    timer_tree_destroy(&run.timers);
    memory_free(arguments.overrides);
}
