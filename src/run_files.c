/* The files of a run: the checkpoint it goes on from, its trace and its reports. */
#include "run.h"

#include "base/memory.h"
#include "io/file.h"
#include "io/json.h"
#include "io/progress.h"
#include "io/trace.h"
#include "results.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

bool run_is_first(const struct run *run) {
    return run->job.comms.world.mpi_rank == 0;
}

void run_write_output(const struct run *run, const char *name, const char *text,
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

/* Seconds until the batch job ends; INFINITY where that is not known: an end that is over is that
 * of a wrong clock, and would end every attempt after a step. Torque tells the length only, which
 * is counted from here. */
static double seconds_of_job(bool is_first) {
    const char *slurm = getenv("SLURM_JOB_END_TIME"), *pbs = getenv("PBS_WALLTIME");
    const long long end = slurm != NULL ? strtoll(slurm, NULL, 10) : 0;
    const long long length = pbs != NULL ? strtoll(pbs, NULL, 10) : 0;
    const double left = (double)(end - (long long)time(NULL));
    if (end > 0 && left > 0)
        return left;
    if (end > 0 && is_first)
        report_error(
            "warning: SLURM_JOB_END_TIME is over by the clock of this node, which is wrong; "
            "it is not looked at");
    return length > 0 ? (double)length : (double)INFINITY;
}

bool run_open_checkpoints(struct run *run, struct problem *problem) {
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
        .end = output->wall_time > 0 ? run->start + output->wall_time
                                     : MPI_Wtime() + seconds_of_job(run_is_first(run)),
    };
    run->trainer.checkpoints = checkpoints_create(&job->comms, &options);
    memory_free(data);
    memory_free(text);
    json_destroy(&provenance);
    return !job->is_resuming || checkpoints_open_newest(run->trainer.checkpoints, problem);
}

const struct checkpoints_place *run_place(const struct run *run) {
    const struct checkpoints *checkpoints = run->trainer.checkpoints;
    return checkpoints_opened(checkpoints) != NULL ? checkpoints_place(checkpoints) : NULL;
}

static void check_data(const struct run *run, struct problem *problem) {
    const struct checkpoint *checkpoint = checkpoints_opened(run->trainer.checkpoints);
    char *now = job_describe_data(&run->job);
    char *then = checkpoint_text(checkpoint, "data", problem);
    if (then != NULL && strcmp(now, then) != 0)
        problem_set(
            problem, EXIT_DATA,
            "%s: the data or the base model's weights have changed since: %s (CRC-32 of each), "
            "were %s",
            run_place(run)->path, now, then);
    memory_free(then);
    memory_free(now);
}

bool run_check_checkpoint(struct run *run, struct problem *problem) {
    const struct checkpoints_place *place = run_place(run);
    if (place == NULL)
        return true;
    char *text = checkpoint_text(checkpoints_opened(run->trainer.checkpoints), "input", problem);
    if (text != NULL)
        job_check_input(&run->job, text, place->path, problem);
    if (problem->exit_code == 0)
        check_data(run, problem);
    memory_free(text);
    if (!comm_agree(&run->job.comms.world, problem))
        return false;
    run->start -= place->seconds;
    if (run_is_first(run))
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
    const struct checkpoints_place *place = run_place(run);
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
    const struct checkpoints_place *place = run_place(run);
    open_trace(run, problem);
    if (problem->exit_code != 0)
        return;
    if (place == NULL)
        checkpoints_remove_all(run->trainer.checkpoints);
    file_remove(run->job.output_dir, "ranks.json", problem);
    file_remove(run->job.output_dir, "stop", problem);
    run_write_output(run, "input.json", run->job.input_text, problem);
    if (problem->exit_code != 0)
        return;
    char *path = file_join(run->job.output_dir, "progress.jsonl");
    run->trainer.progress =
        progress_create(path, run->job.config.output.report_seconds, place != NULL,
                        place != NULL ? place->seconds : 0, problem);
    memory_free(path);
}

bool run_open_outputs(struct run *run, struct problem *problem) {
    if (run_is_first(run))
        open_files(run, problem);
    return comm_agree(&run->job.comms.world, problem);
}

bool run_close_outputs(struct run *run, struct problem *problem) {
    if (run->trainer.trace != NULL)
        trace_close(&run->trainer.trace, problem);
    progress_destroy(&run->trainer.progress);
    checkpoints_destroy(&run->trainer.checkpoints);
    return comm_agree(&run->job.comms.world, problem);
}
