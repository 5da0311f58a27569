/* Seconds of generation: models of one and of two blocks write texts for a group of prompts. */
#include "plan.h"

#include "base/memory.h"
#include "train/generate.h"

#include <math.h>

enum { FEW_TOKENS = 2, MANY_TOKENS = 8 };

/* The first prompts, as many as are worked on together. */
static struct lm_references first_group(const struct text_evaluation *texts) {
    struct lm_references group = *texts->dev;
    if (group.count > texts->options.prompts_at_once)
        group.count = texts->options.prompts_at_once;
    return group;
}

static double time_texts(const struct planner *planner, const struct stage *stage,
                         const float *factors, size_t num_tokens) {
    const struct text_evaluation *texts = planner->trainer.texts;
    const struct lm_references group = first_group(texts);
    const struct point point = {factors, NULL};
    struct generation_options options = texts->options;
    options.beam.max_new_tokens = num_tokens;
    options.beam.num_end_tokens = 0; /* so that all go on to the end */
    struct problem problem = {0};
    struct generated generated;
    const struct comm *alone = &planner->job->comms.world;
    const struct comms comms = {*alone, *alone, *alone, *alone, false};
    const double start = plan_core_seconds();
    if (generate_texts(&comms, stage, &point, &options, &group, &generated, &problem))
        generated_free(&generated);
    return (plan_core_seconds() - start) / planner->job->num_threads;
}

/* Seconds of a token in a model of so many blocks. */
static double time_blocks(struct planner *planner, size_t num_blocks) {
    struct job small = *planner->job;
    small.architecture.num_blocks = num_blocks;
    const struct stage_part part = {
        .num_blocks = num_blocks, .has_embedding = true, .has_task_head = true};
    const struct stage_request request =
        planner->method->training_request(&planner->input, planner->ranks);
    struct stage *stage = job_new_stage(&small, &part, &request);
    float *values = plan_random_weights(stage);
    float *factors = plan_random_values(stage->factors.size);
    time_texts(planner, stage, factors, 1); /* warms up */
    const double few = time_texts(planner, stage, factors, FEW_TOKENS);
    const double many = time_texts(planner, stage, factors, MANY_TOKENS);
    stage_destroy(&stage);
    memory_free(values);
    memory_free(factors);
    return fmax(0, many - few) / (MANY_TOKENS - FEW_TOKENS);
}

void plan_time_generation(struct planner *planner) {
    const struct text_evaluation *texts = planner->trainer.texts;
    planner->generation = (struct plan_generation){0};
    if (texts == NULL || texts->dev->count == 0 || planner->machine.rate > 0)
        return;
    const double one = time_blocks(planner, 1), two = time_blocks(planner, 2);
    planner->generation.block = fmax(0, two - one);
    planner->generation.rest = fmax(0, one - planner->generation.block);
}

/* Tokens of an example's completion, on average. */
static double text_length(const struct dataset *dataset) {
    size_t count = 0;
    for (size_t i = 0; i < dataset->offsets[dataset->num_examples]; ++i)
        count += dataset->labels[i] >= 0;
    return (double)count / (double)dataset->num_examples;
}

/* Of a replica. */
static double groups_of(const struct plan *plan, const struct text_evaluation *texts,
                        const struct lm_references *references) {
    const double groups = ceil((double)references->count / (double)texts->options.prompts_at_once);
    return ceil(groups / (double)plan->layout.replicas);
}

/* As many groups as stages are under way: the slowest stage sets the pace, or the cores do. */
static double token_seconds(const struct planner *planner, const struct plan *plan) {
    double slowest = 0, all = 0;
    for (size_t s = 0; s < plan->layout.stages; ++s) {
        const struct stage_part *part = &plan->stages[s].part;
        const double seconds = planner->generation.block * (double)part->num_blocks +
                               (part->has_task_head ? planner->generation.rest : 0);
        slowest = fmax(slowest, seconds);
        all += seconds;
    }
    const double cores =
        (double)planner->machine.cores * (double)plan->nodes / (double)plan->layout.replicas;
    return fmax(slowest, all / fmin(cores, (double)plan->layout.stages));
}

double plan_generation_seconds(const struct planner *planner, const struct plan *plan) {
    const struct text_evaluation *texts = planner->trainer.texts;
    if (texts == NULL || texts->dev->count == 0)
        return 0;
    const double groups = groups_of(plan, texts, texts->dev) + groups_of(plan, texts, texts->test);
    const double tokens =
        fmin(text_length(planner->trainer.dev), (double)texts->options.beam.max_new_tokens);
    return groups * tokens * token_seconds(planner, plan);
}
