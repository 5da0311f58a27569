/* What a run leaves behind, as JSON. */
#include "results.h"

#include "base/memory.h"
#include "commands.h"
#include "io/file.h"
#include "io/h5file.h"
#include "io/json.h"
#include "math/gemm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char INTERVALS[] = "rank_intervals";

static void add_ranks(struct json *parent, const struct job *job, const size_t *ranks) {
    for (size_t m = 0; m < job->num_modules; ++m)
        json_add_number(parent, job->module_names[m], (double)ranks[m]);
}

/* Nothing is known of ranks that no search of this run has chosen. */
static bool has_intervals(const struct method_output *output) {
    return output->search.certainty.intervals != NULL;
}

static void add_intervals(struct json *parent, const struct job *job,
                          const struct certainty *certainty) {
    struct json *all = json_add_object(parent, INTERVALS);
    for (size_t m = 0; m < job->num_modules; ++m) {
        const struct rank_interval *interval = &certainty->intervals[m];
        struct json *part = json_add_object(all, job->module_names[m]);
        struct json *ends = json_add_array(part, "interval");
        json_add_number(ends, NULL, (double)interval->low);
        json_add_number(ends, NULL, (double)interval->high);
        json_add_number(part, "changed", interval->changed);
    }
}

char *results_ranks_text(const struct job *job, const struct method_output *output) {
    struct json *root = json_create_object();
    add_ranks(root, job, output->ranks);
    if (has_intervals(output))
        add_intervals(root, job, &output->search.certainty);
    char *text = json_print(root, true);
    json_destroy(&root);
    return text;
}

static bool take_ranks(const struct job *job, const struct json *root, const char *path,
                       size_t *ranks, struct problem *problem) {
    if (json_type(root) != JSON_OBJECT)
        return problem_set(problem, EXIT_DATA, "%s: expected an object of module: rank, found %s",
                           path, json_type_name(root));
    for (size_t m = 0; m < job->num_modules; ++m) {
        const struct json *rank = json_get(root, job->module_names[m]);
        if (rank == NULL)
            return problem_set(problem, EXIT_DATA, "%s: has no rank for module %s", path,
                               job->module_names[m]);
        if (!json_size(rank, &ranks[m]) || ranks[m] > 65536)
            return problem_set(problem, EXIT_DATA,
                               "%s: the rank of module %s is not a whole number from 0 to 65536",
                               path, job->module_names[m]);
    }
    const struct json *intervals = json_get(root, INTERVALS);
    if (intervals != NULL && json_type(intervals) != JSON_OBJECT)
        return problem_set(problem, EXIT_DATA, "%s: %s: expected an object, found %s", path,
                           INTERVALS, json_type_name(intervals));
    const size_t num_named = json_count(root) - (intervals != NULL);
    if (num_named != job->num_modules)
        return problem_set(problem, EXIT_DATA,
                           "%s: names %zu modules, but adapter.targets of this model are %zu", path,
                           num_named, job->num_modules);
    return true;
}

bool results_read_ranks(const struct job *job, const char *path, size_t *ranks,
                        struct problem *problem) {
    size_t size = 0;
    char *text = file_read(path, &size, problem);
    if (text == NULL)
        return false;
    struct json *root = json_parse(text, size, path, EXIT_DATA, problem);
    const bool is_good = root != NULL && take_ranks(job, root, path, ranks, problem);
    if (root != NULL)
        json_destroy(&root);
    memory_free(text);
    return is_good;
}

static void add_environment(struct json *parent, const char *name, const char *variable) {
    const char *value = getenv(variable);
    if (value != NULL)
        json_add_string(parent, name, value);
}

struct json *results_provenance(const struct job *job) {
    struct json *root = json_create_object();
    json_add_string(root, "program", "autolora");
    json_add_string(root, "version", cmd_info_version());
    char text[256];
    if (gethostname(text, sizeof text) == 0) {
        text[sizeof text - 1] = '\0';
        json_add_string(root, "host", text);
    }
    const time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc) != NULL && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc) > 0)
        json_add_string(root, "started", text);
    add_environment(root, "slurm_job_id", "SLURM_JOB_ID");
    add_environment(root, "slurm_array_task_id", "SLURM_ARRAY_TASK_ID");
    add_environment(root, "pbs_job_id", "PBS_JOBID");
    json_add_number(root, "mpi_ranks", job->comms.world.size);
    json_add_number(root, "threads_per_rank", job->num_threads);
    json_add_number(root, "replicas", (double)job->layout.replicas);
    json_add_number(root, "stages", (double)job->layout.stages);
    struct json *layout = json_add_array(root, "blocks_per_stage");
    for (size_t s = 0; s < job->layout.stages; ++s)
        json_add_number(layout, NULL, (double)(job->stage_offsets[s + 1] - job->stage_offsets[s]));
    json_add_string(root, "blis", gemm_library_version());
    json_add_string(root, "blis_kernels", gemm_kernel_name());
    json_add_string(root, "hdf5", h5file_library_version());
    char mpi[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    MPI_Get_library_version(mpi, &length);
    mpi[strcspn(mpi, "\n,")] = '\0';
    json_add_string(root, "mpi", mpi);
    return root;
}

static void add_evaluation(struct json *metrics, const char *split,
                           const struct evaluation *evaluation) {
    if (evaluation->num_metrics == 0)
        return;
    struct json *part = json_add_object(metrics, split);
    json_add_number(part, "loss", evaluation->loss);
    for (size_t i = 0; i < evaluation->num_metrics; ++i)
        json_add_number(part, evaluation->metrics[i].name, evaluation->metrics[i].value);
}

struct json *results_metrics(const struct job *job, const struct evaluation *dev,
                             const struct evaluation *other_dev, const struct evaluation *test) {
    struct json *metrics = json_create_object();
    add_evaluation(metrics, job_dev_name(job), dev);
    if (job->has_other_dev)
        add_evaluation(metrics, job->glue->other_dev_split, other_dev);
    add_evaluation(metrics, "test", test);
    return metrics;
}

static void add_certainty(struct json *search, const struct certainty *certainty) {
    struct json *part = json_add_object(search, "certainty");
    const bool is_resampled = certainty->block_length > 0;
    json_add_string(part, "from", is_resampled ? "resampled increments of the logits" : "rows");
    json_add_number(part, "rows", (double)certainty->num_rows);
    json_add_number(part, "stride", (double)certainty->stride);
    if (is_resampled) {
        json_add_number(part, "resamples", CERTAINTY_RESAMPLES);
        json_add_number(part, "block_length", (double)certainty->block_length);
    }
    json_add_number(part, "certain_ranks", (double)certainty_num_certain(certainty));
    json_add_number(part, "undecided_ranks", (double)certainty_num_undecided(certainty));
    part = json_add_object(search, "convergence");
    json_add_number(part, "movement", certainty->movement);
    json_add_number(part, "movement_last_quarter", certainty->late_movement);
    json_add_number(part, "last_quarter_share", certainty_late_share(certainty));
}

static void add_search(struct json *root, const struct search_result *search, const char *warning) {
    struct json *part = json_add_object(root, "search");
    json_add_number(part, "seconds", search->seconds);
    json_add_number(part, "iterations", (double)search->num_steps);
    json_add_number(part, "tokens", (double)search->num_tokens);
    json_add_number(part, "loss_train", search->loss_train);
    json_add_number(part, "loss_validation", search->loss_validation);
    json_add_number(part, "mean_entropy", search->mean_entropy);
    json_add_number(part, "uniform_entropy", log((double)search->num_components));
    json_add_number(part, "largest_movement", search->largest_movement);
    json_add_number(part, "train_examples", (double)search->train_examples);
    json_add_number(part, "validation_examples", (double)search->validation_examples);
    if (search->certainty.intervals != NULL)
        add_certainty(part, &search->certainty);
    if (warning != NULL)
        json_add_string(part, "warning", warning);
}

static void add_retrain(struct json *root, const struct retrain_result *retrain) {
    struct json *part = json_add_object(root, "retrain");
    json_add_number(part, "seconds", retrain->seconds);
    json_add_number(part, "iterations", (double)retrain->num_steps);
    json_add_number(part, "tokens", (double)retrain->num_tokens);
    json_add_number(part, "loss_train", retrain->loss_train);
    json_add_number(part, "best_dev_score", retrain->best_score);
    json_add_number(part, "best_dev_step", (double)retrain->best_step);
}

static void add_split(struct json *parent, const char *name, const struct dataset *dataset) {
    struct json *part = json_add_object(parent, name);
    json_add_number(part, "examples", (double)dataset->num_examples);
    json_add_number(part, "tokens", (double)dataset->offsets[dataset->num_examples]);
    json_add_number(part, "truncated", (double)dataset->num_truncated);
    if (dataset->num_skipped > 0)
        json_add_number(part, "skipped_rows", (double)dataset->num_skipped);
    if (dataset->kind == TASK_TOKEN_CLASSIFICATION) {
        json_add_number(part, "entities", (double)dataset->entities_total);
        json_add_number(part, "entities_lost", (double)dataset->entities_lost);
    }
}

static void add_data(struct json *root, const struct job *job) {
    struct json *data = json_add_object(root, "data");
    add_split(data, "train", &job->train);
    add_split(data, job_dev_name(job), &job->dev);
    if (job->has_other_dev)
        add_split(data, job->glue->other_dev_split, &job->other_dev);
    if (job->has_test)
        add_split(data, "test", &job->test);
}

double results_mean_rank(const struct job *job, const size_t *ranks) {
    double sum = 0;
    for (size_t m = 0; m < job->num_modules; ++m)
        sum += (double)ranks[m];
    return job->num_modules > 0 ? sum / (double)job->num_modules : 0;
}

/* The same for every method, so that they can be compared. */
static void add_budget(struct json *root, const struct job *job,
                       const struct method_output *output) {
    struct json *part = json_add_object(root, "budget");
    json_add_number(part, "trainable_parameters",
                    (double)(output->adapter_parameters + output->head_parameters));
    json_add_number(part, "most_trainable_parameters", (double)output->most_parameters);
    json_add_number(part, "mean_rank", results_mean_rank(job, output->ranks));
    json_add_number(part, "seconds", output->search.seconds + output->retrain.seconds);
    json_add_number(part, "tokens",
                    (double)(output->search.num_tokens + output->retrain.num_tokens));
}

/* Nested as the phases are. */
static void add_timers(struct json *root, const struct run_results *results) {
    enum { DEEPEST = 16 };
    struct json *parts[DEEPEST + 1] = {json_add_object(root, "timers")};
    for (size_t i = 0; i < results->num_timers; ++i) {
        const struct timer_phase *phase = &results->timers[i];
        FAULT_UNLESS(phase->depth < DEEPEST, "timers are %zu deep", phase->depth);
        struct json *part = json_add_object(parts[phase->depth], phase->name);
        json_add_number(part, "calls", (double)phase->calls);
        json_add_number(part, "min", phase->seconds_min);
        json_add_number(part, "mean", phase->seconds_mean);
        json_add_number(part, "max", phase->seconds_max);
        if (i + 1 < results->num_timers && phase[1].depth > phase->depth)
            parts[phase->depth + 1] = json_add_object(part, "parts");
    }
}

char *results_text(const struct run_results *results) {
    const struct job *job = results->job;
    const struct method_output *output = results->output;
    struct json *root = json_create_object();
    json_add_string(root, "name", job->config.run.name);
    json_add_string(root, "method", config_method_name(job->config.adapter.method));
    struct json *metrics = results_metrics(job, &output->retrain.dev, &output->retrain.other_dev,
                                           &output->retrain.test);
    json_add_copy(root, "metrics", metrics);
    json_destroy(&metrics);
    json_add_string(root, "metric_name", evaluation_score_name(&output->retrain.dev));
    json_add_number(root, "score", evaluation_score(&output->retrain.dev));
    add_ranks(json_add_object(root, "ranks"), job, output->ranks);
    if (has_intervals(output))
        add_intervals(root, job, &output->search.certainty);
    else
        json_add_null(root, INTERVALS);
    json_add_number(root, "mean_rank", results_mean_rank(job, output->ranks));
    json_add_number(root, "trainable_parameters",
                    (double)(output->adapter_parameters + output->head_parameters));
    json_add_number(root, "adapter_parameters", (double)output->adapter_parameters);
    add_budget(root, job, output);
    if (output->search.num_steps > 0)
        add_search(root, &output->search, output->warning);
    add_retrain(root, &output->retrain);
    add_data(root, job);
    json_add_number(root, "seconds", results->seconds);
    json_add_number(root, "cpu_seconds", results->cpu_seconds);
    add_timers(root, results);
    struct json *memory = json_add_array(root, "peak_memory_bytes_per_rank");
    for (int r = 0; r < job->comms.world.size; ++r)
        json_add_number(memory, NULL, (double)results->peak_memory[r]);
    struct json *provenance = results_provenance(job);
    json_add_copy(root, "provenance", provenance);
    json_destroy(&provenance);
    char *text = json_print(root, true);
    json_destroy(&root);
    return text;
}
