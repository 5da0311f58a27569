/* autolora run INPUT.json [--set key.path=value]... [--resume]: search -> ranks -> retrain ->
 * evaluate. */
#include "base/interrupt.h"
#include "base/memory.h"
#include "commands.h"
#include "results.h"
#include "run.h"
#include "saved_run.h"

#include <stdio.h>
#include <string.h>

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
    return comm_agree(&run->job.comms.world, problem) &&
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
    const struct checkpoints_place *place = run_place(run);
    return place != NULL && place->phase == PHASE_RETRAIN;
}

/* The choice that an earlier attempt made. */
static bool read_chosen_ranks(struct run *run, struct problem *problem) {
    char *text = checkpoint_text(checkpoints_opened(run->trainer.checkpoints), "output", problem);
    if (text != NULL)
        method_output_read(&run->output, run->job.num_modules, text, problem);
    memory_free(text);
    return comm_agree(&run->job.comms.world, problem);
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
    if (run_is_first(run))
        results_read_ranks(job, path, run->output.ranks, problem);
    if (!comm_agree(&job->comms.world, problem))
        return false;
    comm_broadcast(&job->comms.world, 0, run->output.ranks,
                   job->num_modules * sizeof *run->output.ranks);
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
    if (!comm_agree(&job->comms.world, problem))
        return false;
    if (*options->ranks_from == '\0' && !run->has_ranks)
        peft_adapter_ranks(run->from, run->output.ranks);
    run->scales = memory_allocate(job->num_modules, sizeof *run->scales, "scales");
    peft_adapter_scales(run->from, run->output.ranks, run->scales);
    run->input.scales = run->scales;
    return true;
}

static bool write_ranks(const struct run *run, struct problem *problem) {
    if (run_is_first(run)) {
        char *text = results_ranks_text(&run->job, &run->output);
        run_write_output(run, "ranks.json", text, problem);
        memory_free(text);
    }
    return comm_agree(&run->job.comms.world, problem);
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
    if (run_is_first(run) && run->output.warning != NULL)
        printf("warning: %s\n", run->output.warning);
    const bool is_known = run->method->choose_ranks != NULL;
    return (!is_known || write_ranks(run, problem)) && train_adapters(run, problem) &&
           (is_known || write_ranks(run, problem));
}

/* result.json comes last: where it is, the run is whole. */
static bool conclude(struct run *run, struct problem *problem) {
    const struct job *job = &run->job;
    size_t peak = memory_resident_peak();
    size_t *peaks = memory_allocate((size_t)job->comms.world.size, sizeof *peaks, "peaks");
    comm_all_gather(&job->comms.world, &peak, 1, sizeof peak, peaks);
    double cpu = timer_cpu_seconds(), cpu_seconds;
    comm_reduce(&job->comms.world, &cpu, &cpu_seconds, 1, MPI_DOUBLE, MPI_SUM);
    size_t num_timers;
    struct timer_phase *timers =
        timer_tree_reduce(run->timers, job->comms.world.handle, &num_timers);
    if (run_is_first(run)) {
        const struct run_results results = {
            .job = job,
            .output = &run->output,
            .peak_memory = peaks,
            .cpu_seconds = cpu_seconds,
            .timers = timers,
            .num_timers = num_timers,
            .seconds = MPI_Wtime() - run->start,
        };
        char *text = results_text(&results);
        run_write_output(run, "result.json", text, problem);
        memory_free(text);
        if (method_has_ranks((enum adapter_method)job->config.adapter.method))
            results_print_rank_table(job, run->output.ranks);
        results_print_certainty(&run->output);
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
    return comm_agree(&job->comms.world, problem);
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
        if (run_is_first(run))
            printf("%s: the run is finished, nothing is left to do\n", run->job.output_dir);
        return;
    }
    if (run_is_first(run))
        results_print_header(&run->job);
    run->watchdog = watchdog_start(&run->job.comms, run->job.config.output.stall_seconds);
    run->trainer = job_trainer(&run->job);
    run->trainer.timers = run->timers;
    prepare_method(run);
    const bool is_good = run_open_checkpoints(run, problem) && run_check_checkpoint(run, problem) &&
                         read_given_ranks(run, problem) && read_given_adapter(run, problem) &&
                         run_open_outputs(run, problem) && train(run, problem);
    struct problem closing = {0};
    const bool is_closed = run_close_outputs(run, &closing);
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
