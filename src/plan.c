/* Plans: what the job and its method are, and the order of a plan's steps. */
#include "plan.h"

#include "base/memory.h"
#include "math/gemm.h"
#include "peft_adapter.h"
#include "results.h"

#include <math.h>
#include <string.h>

size_t plan_stage_private(const struct plan_stage *stage) {
    size_t sum = 0;
    for (size_t i = 0; i < NUM_MEMORY_KINDS; ++i)
        sum += stage->bytes[i];
    return sum;
}

size_t plan_stage_resident(const struct plan_stage *stage) {
    return plan_stage_private(stage) + stage->mapped_bytes;
}

size_t plan_count_blocks(const struct architecture *architecture, const struct stage_part *part,
                         enum plan_part_kind kind) {
    const size_t blocks = architecture->num_blocks, end = part->first_block + part->num_blocks;
    const size_t has_last = part->num_blocks > 0 && end == blocks;
    const size_t has_first = part->num_blocks > 0 && part->first_block == 0 && blocks > 1;
    return kind == PART_LAST    ? has_last
           : kind == PART_FIRST ? has_first
                                : part->num_blocks - has_last - has_first;
}

static struct stage *create_stage(const void *context, const struct stage_request *request,
                                  struct problem *problem) {
    const struct planner *planner = context;
    const struct stage_part part = job_stage_part(planner->job);
    (void)problem;
    return job_new_stage(planner->job, &part, request);
}

/* Ranks of the training where the search is to choose them: those it is kept to, else half of the
 * components. */
static void assume_ranks(struct planner *planner) {
    const struct job *job = planner->job;
    const double wanted = job->config.search.target_mean_rank;
    const double mean = wanted > 0 ? wanted : (double)(job->config.adapter.rank + 1) / 2;
    for (size_t m = 0; m < job->num_modules; ++m)
        planner->ranks[m] = (size_t)(floor((double)(m + 1) * mean) - floor((double)m * mean));
}

static bool read_adapter_ranks(struct planner *planner, struct problem *problem) {
    struct peft_adapter *from =
        peft_adapter_open(planner->job, planner->job->config.adapter.from, problem);
    if (from != NULL)
        peft_adapter_ranks(from, planner->ranks);
    peft_adapter_close(&from);
    return problem->exit_code == 0;
}

/* Those that are given, drawn, or assumed. */
static bool find_ranks(struct planner *planner, struct problem *problem) {
    const struct job *job = planner->job;
    const struct method_options *adapter = &job->config.adapter;
    if (*adapter->ranks_from != '\0')
        return results_read_ranks(job, adapter->ranks_from, planner->ranks, problem);
    if (*adapter->from != '\0')
        return read_adapter_ranks(planner, problem);
    if (adapter->method == METHOD_AUTOLORA) {
        planner->searches = true;
        method_autolora_request(&planner->input, planner->search_ranks);
        assume_ranks(planner);
        return method_autolora_check(&planner->input, problem);
    }
    struct method_output output = {.ranks = planner->ranks};
    return planner->method->choose_ranks == NULL ||
           planner->method->choose_ranks(&planner->input, &output, problem);
}

/* What the products' library keeps from a large product on. */
static size_t product_bytes(const struct job *job) {
    const size_t rows = job->config.parallel.microbatch_tokens;
    const size_t width = job->architecture.hidden_size, wide = job->architecture.intermediate_size;
    float *values = memory_allocate(rows * width + width * wide + rows * wide, sizeof *values,
                                    "a large product");
    const size_t before = memory_resident_now();
    gemm(1, matrix_of(values, rows, width), matrix_of(values + rows * width, width, wide), false,
         values + rows * width + width * wide, wide);
    const size_t after = memory_resident_now();
    memory_free(values);
    return after > before ? after - before : 0;
}

/* Every rank makes the checksum of the checkpoint, which reads a little of each tensor. */
static void read_checkpoint(struct planner *planner) {
    const struct weights *weights = planner->job->weights;
    if (weights == NULL)
        return;
    for (size_t i = 0; i < weights_count(weights); ++i)
        planner->checkpoint_bytes += weights_at(weights, i)->bytes;
    const size_t before = memory_resident_now();
    weights_checksum(weights);
    const size_t after = memory_resident_now();
    planner->checksum_bytes = after > before ? after - before : 0;
}

bool planner_open(struct planner *planner, struct job *job, const struct plan_machine *machine,
                  size_t program_bytes, struct problem *problem) {
    *planner = (struct planner){
        .job = job,
        .machine = *machine,
        .trainer = job_trainer(job),
        .method = method_of((enum adapter_method)job->config.adapter.method),
        .search_ranks = memory_allocate(job->num_modules, sizeof(size_t), "ranks"),
        .ranks = memory_allocate(job->num_modules, sizeof(size_t), "ranks"),
        .program_bytes = program_bytes + product_bytes(job),
    };
    planner->input = (struct method_input){
        .trainer = &planner->trainer,
        .options = &job->config.adapter,
        .search = &job->config.search,
        .retrain = &job->config.retrain,
        .num_modules = job->num_modules,
        .component_sizes = job->component_sizes,
        .create_stage = create_stage,
        .context = planner,
    };
    read_checkpoint(planner);
    return find_ranks(planner, problem);
}

static void forget_speeds(struct planner *planner) {
    for (size_t p = 0; p < 2; ++p)
        for (size_t k = 0; k < NUM_PART_KINDS; ++k)
            stage_destroy(&planner->speeds[p].parts[k].stage);
}

void planner_close(struct planner *planner) {
    forget_speeds(planner);
    memory_free(planner->search_ranks);
    memory_free(planner->ranks);
}

static size_t larger(size_t left, size_t right) {
    return left > right ? left : right;
}

static size_t smaller(size_t left, size_t right) {
    return left < right ? left : right;
}

/* Nodes are filled one after the other. A rank has its share of a node's cores, or a thread where
 * the number of nodes is not said. */
static void place_on_nodes(const struct planner *planner, const struct layout *layout,
                           struct plan *plan) {
    const size_t ranks = layout_num_ranks(layout), cores = planner->machine.cores;
    const size_t threads = larger(1, planner->job->config.parallel.threads);
    const size_t fitting = larger(1, cores / threads);
    plan->nodes = planner->machine.nodes > 0 ? smaller(planner->machine.nodes, ranks)
                                             : (ranks + fitting - 1) / fitting;
    plan->ranks_on_node = (ranks + plan->nodes - 1) / plan->nodes;
}

bool plan_make(struct planner *planner, const struct layout *layout, struct plan *plan,
               struct problem *problem) {
    *plan = (struct plan){.layout = *layout};
    place_on_nodes(planner, layout, plan);
    if (!job_pretend_layout(planner->job, layout, plan->ranks_on_node, problem))
        return false;
    plan->num_threads = planner->job->num_threads;
    if (!plan_rehearse(planner, plan, problem))
        return false;
    if (planner->timed_threads != plan->num_threads) {
        forget_speeds(planner);
        plan_time_parts(planner);
        plan_time_generation(planner);
        planner->timed_threads = plan->num_threads;
    }
    plan_predict(planner, plan);
    return true;
}

void plan_free(struct plan *plan) {
    memory_free(plan->stages);
    plan->stages = NULL;
}
