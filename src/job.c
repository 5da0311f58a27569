/* A job, opened and closed; its data are in job_data.c, its stages in job_stage.c. */
#include "job_parts.h"

#include "base/memory.h"
#include "io/file.h"
#include "math/gemm.h"

#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool read_input(struct job *job, const char *path, const char *const *overrides,
                       size_t num_overrides, struct problem *problem) {
    char *text = NULL;
    size_t size = 0;
    if (job->comms.world.mpi_rank == 0) {
        text = file_read(path, &size, problem);
        if (text == NULL)
            problem->exit_code = EXIT_USAGE; /* the input file itself is part of the usage */
    }
    if (!comm_agree(&job->comms.world, problem)) {
        memory_free(text);
        return false;
    }
    comm_broadcast_block(&job->comms.world, 0, &text, &size);
    config_parse(&job->config, text, size, path, overrides, num_overrides, problem);
    memory_free(text);
    if (!comm_agree(&job->comms.world, problem))
        return false;
    job->glue = glue_find(job->config.task.name);
    job->input_text = config_print(&job->config);
    job->output_dir = *job->config.run.output_dir != '\0'
                          ? memory_copy_string(job->config.run.output_dir)
                          : memory_format("outputs/%s", job->config.run.name);
    return true;
}

/* Cores this process may run on. */
static int allowed_cores(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                       : (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* Threads: what was asked for, but not more than the cores this rank may use (mpirun binds each
 * rank of a small job to one core; more threads there are several times slower than one). Without a
 * wish, this rank's share of the node. */
static void choose_threads(struct job *job, int on_node) {
    const int cores = allowed_cores(), online = (int)sysconf(_SC_NPROCESSORS_ONLN);
    const char *variable = getenv("OMP_NUM_THREADS");
    int wanted = (int)job->config.parallel.threads;
    if (wanted == 0 && variable != NULL)
        wanted = atoi(variable);
    const int sharing = (on_node * cores + online - 1) / online; /* ranks that share these cores */
    const int share = sharing > 0 && cores / sharing > 0 ? cores / sharing : 1;
    job->is_thread_count_cut = wanted > cores;
    job->num_threads = wanted <= 0 ? share : wanted > cores ? cores : wanted;
    omp_set_num_threads(job->num_threads);
    gemm_set_threads(job->num_threads);
}

bool job_check_input(const struct job *job, const char *text, const char *source,
                     struct problem *problem) {
    struct config earlier;
    bool is_good = config_parse(&earlier, text, strlen(text), source, NULL, 0, problem);
    char *differences = is_good ? config_differences(&job->config, &earlier) : NULL;
    if (differences != NULL)
        is_good = problem_set(problem, EXIT_USAGE,
                              "%s: is of another input; start without --resume, or set back\n%s",
                              source, differences);
    memory_free(differences);
    config_free(&earlier);
    return is_good;
}

/* Is there a whole result, and is it one of this input? */
static void find_result(struct job *job, struct problem *problem) {
    char *result = file_join(job->output_dir, "result.json");
    char *input = file_join(job->output_dir, "input.json");
    size_t size = 0;
    char *text = file_exists(result) ? file_read(input, &size, problem) : NULL;
    job->is_finished = text != NULL && job_check_input(job, text, input, problem);
    memory_free(text);
    memory_free(result);
    memory_free(input);
}

/* What an earlier run left as its result goes first: no file of two runs' parts. */
static void prepare_output(struct job *job, struct problem *problem) {
    if (job->comms.world.mpi_rank == 0 && file_make_directory(job->output_dir, problem)) {
        if (job->is_resuming)
            find_result(job, problem);
        if (!job->is_finished && problem->exit_code == 0 &&
            file_remove(job->output_dir, "result.json", problem))
            file_remove(job->output_dir, "checkpoint-final.h5", problem);
    }
    comm_broadcast(&job->comms.world, 0, &job->is_finished, sizeof job->is_finished);
}

/* Where every rank stands, from numbers that all of them have: the same problem on every rank. */
static bool place_ranks(struct job *job, struct problem *problem) {
    const struct parallel_options *parallel = &job->config.parallel;
    const struct layout asked = {parallel->replicas, parallel->stages, parallel->grid[0],
                                 parallel->grid[1]};
    if (!layout_choose((size_t)job->comms.world.size, &asked, &job->layout, problem))
        return false;
    job->place = layout_place(&job->layout, (size_t)job->comms.world.mpi_rank);
    comms_split(&job->comms, &job->layout);
    return true;
}

/* Behind the data. */
static bool open_model(struct job *job, struct problem *problem) {
    if (problem->exit_code == 0)
        job_open_weights(job, problem);
    if (!comm_agree(&job->comms.world, problem))
        return false;
    job_name_modules(job);
    if (job->config.task.kind == TASK_LANGUAGE_MODELING && job->assumed.num_examples == 0)
        return job_prepare_texts(job, problem);
    return true;
}

/* Of what the model allows; all ranks know it. */
static bool open_grid(struct job *job, struct problem *problem) {
    const size_t rows = job->layout.grid_rows, columns = job->layout.grid_columns;
    if (!stage_check_grid(&job->architecture, rows, columns, problem))
        return false;
    if (rows > 1 || columns > 1)
        job->grid = grid_create(job->comms.grid.handle, rows, columns);
    return true;
}

/* Behind read_input. */
static bool open_all(struct job *job, struct problem *problem) {
    choose_threads(job, comm_ranks_on_node(&job->comms.world));
    if (job->purpose == JOB_TRAIN)
        prepare_output(job, problem);
    if (!comm_agree(&job->comms.world, problem))
        return false;
    if (job->is_finished)
        return true;
    if (!place_ranks(job, problem) || !job_share_data(job, problem) || !open_grid(job, problem))
        return false;
    job_place_stages(job, problem);
    return open_model(job, problem);
}

bool job_open(struct job *job, MPI_Comm world, const char *input_path, const char *const *overrides,
              size_t num_overrides, bool is_resuming, struct problem *problem) {
    *job = (struct job){.purpose = JOB_TRAIN, .comms = comms_of(world), .is_resuming = is_resuming};
    return read_input(job, input_path, overrides, num_overrides, problem) && open_all(job, problem);
}

bool job_open_plan(struct job *job, MPI_Comm world, const char *input_path,
                   const char *const *overrides, size_t num_overrides,
                   const struct assumed_data *assumed, struct problem *problem) {
    *job = (struct job){.purpose = JOB_PLAN, .comms = comms_of(world), .assumed = *assumed};
    return read_input(job, input_path, overrides, num_overrides, problem) &&
           job_share_data(job, problem) && open_model(job, problem);
}

bool job_pretend_layout(struct job *job, const struct layout *layout, size_t ranks_on_node,
                        struct problem *problem) {
    job->layout = *layout;
    choose_threads(job, (int)ranks_on_node);
    memory_free(job->stage_offsets);
    job->stage_offsets = NULL;
    return job_place_stages(job, problem);
}

void job_pretend_stage(struct job *job, size_t stage) {
    const struct layout *layout = &job->layout;
    struct comms *comms = &job->comms;
    job->place = (struct place){.stage = stage};
    comms->stages = comms->replicas = comms->grid = comms->world;
    comms->stages.mpi_rank = (int)stage;
    comms->stages.size = comm_count(layout->stages);
    comms->replicas.size = comm_count(layout->replicas);
    comms->grid.size = comm_count(layout->grid_rows * layout->grid_columns);
}

bool job_open_finished(struct job *job, MPI_Comm world, const char *input_path,
                       enum job_purpose purpose, struct label_set *labels,
                       struct problem *problem) {
    *job = (struct job){.purpose = purpose, .comms = comms_of(world)};
    if (job->comms.world.mpi_rank == 0) {
        job->labels = *labels;
        *labels = (struct label_set){0};
    }
    if (!read_input(job, input_path, NULL, 0, problem))
        return false;
    struct parallel_options *parallel = &job->config.parallel;
    parallel->stages = parallel->num_layout = 0; /* of the run */
    parallel->grid[0] = parallel->grid[1] = 1;
    /* To compare, whole blocks on every rank: no model is computed. */
    if (purpose == JOB_COMPARE || (size_t)job->comms.world.size % parallel->replicas != 0)
        parallel->replicas = 1;
    return open_all(job, problem);
}

void job_close(struct job *job) {
    weights_close(&job->weights);
    dataset_free(&job->train);
    dataset_free(&job->dev);
    dataset_free(&job->other_dev);
    dataset_free(&job->test);
    tokenizer_destroy(&job->tokenizer);
    lm_references_free(&job->dev_references);
    lm_references_free(&job->test_references);
    label_set_free(&job->labels);
    for (size_t i = 0; i < job->num_modules; ++i)
        memory_free(job->module_names[i]);
    memory_free(job->module_names);
    memory_free(job->component_sizes);
    memory_free(job->stage_offsets);
    memory_free(job->input_text);
    memory_free(job->output_dir);
    config_free(&job->config);
    grid_destroy(&job->grid);
    comms_free(&job->comms);
}

struct trainer job_trainer(const struct job *job) {
    struct trainer trainer = {
        .texts = job->texts.dev != NULL && job->grid == NULL ? &job->texts : NULL,
        .comms = job->comms,
        .grid_row = job->place.row,
        .grid_rows = job->layout.grid_rows,
        .seed = job->config.run.seed,
        .optimizer = job->config.optimizer,
        .microbatch_tokens = job->config.parallel.microbatch_tokens,
        .num_threads = job->num_threads,
        .train = &job->train,
        .num_own_validation = job->num_own_validation,
        .dev = &job->dev,
        .other_dev = job->has_other_dev ? &job->other_dev : NULL,
        .glue = job->glue,
        .test = job->has_test ? &job->test : NULL,
        .labels = &job->labels,
        .trace_every = job->config.output.trace_every,
        .timeline_step = job->config.output.timeline_step,
    };
    trainer_limit_batch(&trainer);
    return trainer;
}
