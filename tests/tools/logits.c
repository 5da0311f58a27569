/* Prints what the program computes for the dev split, one JSON object a line: the task head and the
 * logits of every example.
 *     logits INPUT.json [KEY=VALUE]...    the untrained model
 *     logits RUN_DIR                      the model that a run has trained
 * tests/peers compares them with transformers and PEFT. */
#include "base/memory.h"
#include "io/file.h"
#include "job.h"
#include "saved_run.h"
#include "train/batch.h"
#include "train/pipeline.h"

#include <stdio.h>

static void print_floats(const char *name, const float *values, size_t count) {
    printf("{\"%s\": [", name);
    for (size_t i = 0; i < count; ++i)
        printf("%s%.9g", i > 0 ? ", " : "", values[i]);
    printf("]}\n");
}

static void print_logits(void *context, const struct batch *batch, size_t microbatch,
                         const float *logits) {
    const struct job *job = context;
    const struct microbatch *m = &batch->microbatches[microbatch];
    const size_t labels = job->labels.count;
    for (size_t s = 0; s < m->num_sequences; ++s) {
        const bool is_token_task = job->dev.kind == TASK_TOKEN_CLASSIFICATION;
        const size_t first = is_token_task ? m->offsets[s] : s;
        const size_t rows = is_token_task ? m->offsets[s + 1] - m->offsets[s] : 1;
        printf("{\"example\": %u, \"ids\": [", batch->examples[microbatch][s]);
        for (size_t i = m->offsets[s]; i < m->offsets[s + 1]; ++i)
            printf("%s%d", i > m->offsets[s] ? ", " : "", m->token_ids[i]);
        printf("], \"logits\": [");
        for (size_t i = 0; i < rows * labels; ++i)
            printf("%s%.9g", i > 0 ? ", " : "", logits[first * labels + i]);
        printf("]}\n");
    }
}

static void print_all(const struct job *job, const struct stage *stage, const float *factors) {
    const size_t size = job->config.optimizer.batch_size, longest = job->dev.longest;
    const size_t tokens = job->config.parallel.microbatch_tokens;
    const struct pipeline_options options = {
        .capacity = batch_capacity(size, longest, tokens),
        .largest_count = batch_largest_count(size, longest, tokens),
        .num_threads = job->num_threads,
    };
    struct pipeline *pipeline = pipeline_create(&job->comms, stage, &options);
    const struct task_head *head = &stage->task_head;
    print_floats("weight", factors + head->weight_offset, head->num_labels * head->hidden_size);
    print_floats("bias", factors + head->bias_offset, head->num_labels);
    struct batch *batch = batch_create(size, longest, tokens);
    uint32_t *examples = memory_allocate(size, sizeof *examples, "examples");
    const struct point point = {factors, NULL};
    for (size_t first = 0; first < job->dev.num_examples; first += size) {
        size_t count = 0;
        for (; count < size && first + count < job->dev.num_examples; ++count)
            examples[count] = (uint32_t)(first + count);
        batch_fill(batch, &job->dev, examples, count, 0, false);
        pipeline_evaluate(pipeline, &point, batch, print_logits, (void *)(size_t)job);
    }
    memory_free(examples);
    batch_destroy(&batch);
    pipeline_destroy(&pipeline);
}

static void print_untrained(const char *input, const char *const *overrides, size_t num_overrides,
                            struct problem *problem) {
    struct job job;
    if (job_open(&job, MPI_COMM_WORLD, input, overrides, num_overrides, false, problem)) {
        size_t *ranks = memory_allocate(job.num_modules, sizeof *ranks, "ranks");
        const struct stage_request request = {.ranks = ranks};
        struct stage *stage = job_create_stage(&job, &request, problem);
        if (stage != NULL) {
            float *factors = memory_allocate(stage->factors.size, sizeof *factors, "factors");
            parameter_table_initialize(&stage->factors, job.config.run.seed, 0, factors);
            print_all(&job, stage, factors);
            memory_free(factors);
        }
        stage_destroy(&stage);
        memory_free(ranks);
    }
    job_close(&job);
}

static void print_trained(const char *directory, struct problem *problem) {
    struct saved_run run;
    if (saved_run_open(&run, MPI_COMM_WORLD, directory, JOB_EVALUATE, problem))
        print_all(&run.job, run.stage, run.factors);
    saved_run_close(&run);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    struct problem problem = {0};
    char *checkpoint = file_join(argv[1], "checkpoint-final.h5");
    if (file_exists(checkpoint))
        print_trained(argv[1], &problem);
    else
        print_untrained(argv[1], (const char *const *)argv + 2, (size_t)argc - 2, &problem);
    memory_free(checkpoint);
    if (problem.exit_code != 0)
        report_error("%s", problem.text);
    MPI_Finalize();
    return problem.exit_code;
}
