/* What a run says on the terminal. */
#include "base/memory.h"
#include "math/gemm.h"
#include "results.h"

#include <stdio.h>
#include <string.h>

static void print_split(const char *name, const struct dataset *dataset) {
    printf("%-10s %zu examples, %zu tokens, longest %zu", name, dataset->num_examples,
           dataset->offsets[dataset->num_examples], dataset->longest);
    if (dataset->num_truncated > 0)
        printf(", %zu cut at task.max_length", dataset->num_truncated);
    if (dataset->num_skipped > 0)
        printf(", %zu rows without all columns left out", dataset->num_skipped);
    if (dataset->kind == TASK_TOKEN_CLASSIFICATION)
        printf("; %zu entities, %zu lost by cutting", dataset->entities_total,
               dataset->entities_lost);
    printf("\n");
}

void results_print_header(const struct job *job) {
    const struct architecture *a = &job->architecture;
    printf("model      %s: %zu blocks, hidden %zu, %zu heads\n", job->config.model.path,
           a->num_blocks, a->hidden_size, a->num_attention_heads);
    print_split("train", &job->train);
    print_split(job_dev_name(job), &job->dev);
    if (job->has_other_dev)
        print_split(job->glue->other_dev_split, &job->other_dev);
    if (job->has_test)
        print_split("test", &job->test);
    const size_t replicas = job->layout.replicas, stages = job->layout.stages;
    printf("pipeline   ");
    if (replicas > 1)
        printf("%zu replicas of ", replicas);
    printf("%zu stage%s of", stages, stages == 1 ? "" : "s");
    for (size_t s = 0; s < stages; ++s)
        printf(" %zu", job->stage_offsets[s + 1] - job->stage_offsets[s]);
    printf(" blocks, %d thread%s a rank, BLIS kernels %s\n", job->num_threads,
           job->num_threads == 1 ? "" : "s", gemm_kernel_name());
    if (job->is_thread_count_cut)
        printf("warning: more threads were asked for than the %d cores that each rank may use; "
               "start with mpirun --bind-to none to lift the binding\n",
               job->num_threads);
    printf("output     %s\n", job->output_dir);
    fflush(stdout);
}

static size_t largest(const size_t *values, size_t count) {
    size_t most = 0;
    for (size_t i = 0; i < count; ++i)
        most = values[i] > most ? values[i] : most;
    return most;
}

/* "###    3": a bar of up to BAR characters and the number. */
static void print_bar(size_t rank, size_t most) {
    enum { BAR = 12 };
    const size_t length = most == 0 ? 0 : (rank * BAR + most - 1) / most;
    char bar[BAR + 1];
    memset(bar, ' ', BAR);
    memset(bar, '#', length);
    bar[BAR] = '\0';
    printf("  %3zu %s", rank, bar);
}

void results_print_rank_table(const struct job *job, const size_t *ranks) {
    const size_t most = largest(ranks, job->num_modules);
    size_t module = 0;
    printf("\nranks\nlayer");
    for (int p = 0; p < NUM_PROJECTIONS; ++p)
        if (job->config.adapter.is_target[p])
            printf("  %-16s", projection_name((enum projection)p));
    printf("\n");
    for (size_t block = 0; block < job->architecture.num_blocks; ++block) {
        printf("%5zu", block);
        for (int p = 0; p < NUM_PROJECTIONS; ++p) {
            if (!job->config.adapter.is_target[p])
                continue;
            print_bar(ranks[module++], most);
        }
        printf("\n");
    }
    printf("mean rank %.2f\n", results_mean_rank(job, ranks));
}

void results_print_certainty(const struct method_output *output) {
    const struct certainty *certainty = &output->search.certainty;
    if (certainty->intervals == NULL)
        return;
    printf("certain    %zu of %zu ranks (interval of one rank); %zu would more often be others\n",
           certainty_num_certain(certainty), certainty->num_modules,
           certainty_num_undecided(certainty));
    if (certainty->movement > 0)
        printf("movement   of q in the last quarter of the search: %.0f %% of that in all of it\n",
               100 * certainty_late_share(certainty));
}

/* MNLI's two development sets have long names. */
static int split_width(const struct job *job) {
    return job->has_other_dev ? 14 : 5;
}

static void print_metric(const struct job *job, const char *split, const char *name, double value,
                         double constant) {
    printf("%-*s %-20s %8.4f %12.4f\n", split_width(job), split, name, value, constant);
}

/* Beside the same of the constant answer. */
static void print_evaluation(const struct job *job, const char *split,
                             const struct dataset *dataset, const struct evaluation *evaluation,
                             struct constant_answer answer) {
    const struct evaluation constant = evaluate_constant(job->glue, &job->labels, dataset, answer);
    for (size_t i = 0; i < evaluation->num_metrics; ++i)
        print_metric(job, split, evaluation->metrics[i].name, evaluation->metrics[i].value,
                     constant.metrics[i].value);
    if (dataset->targets != NULL)
        print_metric(job, split, "mean_squared_error", evaluation->loss, constant.loss);
}

static void print_budget(const struct job *job, const struct method_output *output) {
    printf("\ntrainable parameters %zu (%s %zu, task head %zu)\n",
           output->adapter_parameters + output->head_parameters,
           job->config.adapter.method == METHOD_FULL ? "model" : "adapters",
           output->adapter_parameters, output->head_parameters);
    printf(
        "budget     %s: mean rank %.2f, %zu parameters at most in training, %.1f s, %zu tokens\n",
        config_method_name(job->config.adapter.method), results_mean_rank(job, output->ranks),
        output->most_parameters, output->search.seconds + output->retrain.seconds,
        output->search.num_tokens + output->retrain.num_tokens);
}

static void print_plain(const char *split, const struct evaluation *evaluation) {
    for (size_t i = 0; i < evaluation->num_metrics; ++i)
        printf("%-5s %-20s %8.4f\n", split, evaluation->metrics[i].name,
               evaluation->metrics[i].value);
}

void results_print_metrics(const struct run_results *results) {
    const struct job *job = results->job;
    const struct method_output *output = results->output;
    if (job->config.task.kind == TASK_LANGUAGE_MODELING) {
        printf("\n%-5s %-20s %8s\n", "split", "metric", "result");
        print_plain("dev", &output->retrain.dev);
        print_plain("test", &output->retrain.test);
        print_budget(job, output);
        return;
    }
    const struct retrain_result *retrain = &output->retrain;
    const struct constant_answer answer = evaluate_constant_answer(&job->train, &job->labels);
    printf("\n%-*s %-20s %8s %12s\n", split_width(job), "split", "metric", "result", "always one");
    print_evaluation(job, job_dev_name(job), &job->dev, &retrain->dev, answer);
    if (job->has_other_dev)
        print_evaluation(job, job->glue->other_dev_split, &job->other_dev, &retrain->other_dev,
                         answer);
    if (job->has_test)
        print_evaluation(job, "test", &job->test, &retrain->test, answer);
    if (job->train.targets != NULL)
        printf("(\"always one\": always giving the mean training score, %.4f)\n", answer.score);
    else
        printf("(\"always one\": always giving the most frequent training label, \"%s\")\n",
               job->labels.names[answer.label]);
    print_budget(job, output);
}

void results_print_timers(const struct run_results *results) {
    printf("\n%-32s %9s %10s %10s %10s\n", "seconds over the ranks", "calls", "least", "mean",
           "most");
    for (size_t i = 0; i < results->num_timers; ++i) {
        const struct timer_phase *phase = &results->timers[i];
        const int indent = 2 * (int)phase->depth;
        printf("%*s%-*s %9zu %10.3f %10.3f %10.3f\n", indent, "", 32 - indent, phase->name,
               phase->calls, phase->seconds_min, phase->seconds_mean, phase->seconds_max);
    }
}
