/* A job's stages: which blocks are where, and the frozen weights, which each rank maps itself. */
#include "job_parts.h"

#include "base/memory.h"
#include "parallel/partition.h"

#include <string.h>

/* What the last stage does besides its blocks, in blocks of 12 hidden^2 products a token. A
 * sequence classifier's last block makes only those with keys and values, 2 of 12, for all tokens;
 * a language model's head has a product with every word, for the labelled half or so of the tokens.
 */
static double last_stage_cost(const struct job *job) {
    const struct architecture *architecture = &job->architecture;
    switch ((enum task_kind)job->config.task.kind) {
    case TASK_SEQUENCE_CLASSIFICATION:
        return 0.05 - 5.0 / 6;
    case TASK_LANGUAGE_MODELING:
        return 0.5 * (double)architecture->vocabulary_size /
               (12 * (double)architecture->hidden_size);
    case TASK_TOKEN_CLASSIFICATION:
        break;
    }
    return 0.05;
}

bool job_place_stages(struct job *job, struct problem *problem) {
    const struct parallel_options *parallel = &job->config.parallel;
    const size_t stages = job->layout.stages, blocks = job->architecture.num_blocks;
    job->stage_offsets = memory_allocate(stages + 1, sizeof(size_t), "the partition");
    if (parallel->layout != NULL && parallel->num_layout > 0)
        return partition_explicit(blocks, stages, parallel->layout, parallel->num_layout,
                                  job->stage_offsets, problem);
    const struct partition_costs costs = {.block = 1, .first = 0.02, .last = last_stage_cost(job)};
    partition_balance(blocks, stages, &costs, job->stage_offsets);
    return true;
}

void job_name_modules(struct job *job) {
    const bool *is_target = job->config.adapter.is_target;
    size_t count = 0;
    job->module_names = memory_allocate(job->architecture.num_blocks * NUM_PROJECTIONS,
                                        sizeof *job->module_names, "module names");
    job->component_sizes = memory_allocate(job->architecture.num_blocks * NUM_PROJECTIONS,
                                           sizeof *job->component_sizes, "sizes of components");
    for (size_t block = 0; block < job->architecture.num_blocks; ++block)
        for (int p = 0; p < NUM_PROJECTIONS; ++p) {
            if (!is_target[p])
                continue;
            job->component_sizes[count] =
                projection_input_size(&job->architecture, (enum projection)p) +
                projection_output_size(&job->architecture, (enum projection)p);
            job->module_names[count++] =
                architecture_module_name(&job->architecture, block, (enum projection)p);
        }
    job->num_modules = count;
}

/* Of a model whose weights are all trained, the pretrained ones are only where training starts. */
void job_open_weights(struct job *job, struct problem *problem) {
    const bool is_full = job->config.adapter.method == METHOD_FULL;
    const bool is_needed = job_trains(job) || job->purpose == JOB_COMPARE;
    if (is_full && (!is_needed || job->config.model.init == INIT_RANDOM))
        return;
    if (job->purpose == JOB_PLAN && !weights_model_exists(job->config.model.path))
        return;
    job->weights = weights_open_model(job->config.model.path, problem);
}

/* A token id is trusted from here on. */
static bool load_weights(const struct job *job, struct stage *stage, struct problem *problem) {
    size_t count;
    struct stage_weight *weights = stage_weights(stage, &count);
    bool is_good = true;
    for (size_t i = 0; i < count && is_good; ++i) {
        const float *values = weights_pretrained(job->weights, weights[i].name, weights[i].rows,
                                                 weights[i].columns, problem);
        is_good = values != NULL;
        if (is_good)
            stage_weight_set(&weights[i], values);
        if (job->grid != NULL)
            weights_release(job->weights); /* its piece is copied */
    }
    stage_weights_free(weights, count);
    return is_good;
}

static enum head_kind head_kind_of(enum task_kind kind) {
    return kind == TASK_TOKEN_CLASSIFICATION ? HEAD_TOKEN_CLASSIFICATION
           : kind == TASK_LANGUAGE_MODELING  ? HEAD_LANGUAGE_MODELING
                                             : HEAD_SEQUENCE_CLASSIFICATION;
}

struct stage_part job_stage_part(const struct job *job) {
    const size_t s = job->place.stage;
    return (struct stage_part){
        .first_block = job->stage_offsets[s],
        .num_blocks = job->stage_offsets[s + 1] - job->stage_offsets[s],
        .has_embedding = s == 0,
        .has_task_head = s + 1 == job->layout.stages,
    };
}

struct stage *job_new_stage(const struct job *job, const struct stage_part *part,
                            const struct stage_request *request) {
    float *scales = memory_allocate(job->num_modules, sizeof *scales, "scales");
    for (size_t m = 0; m < job->num_modules; ++m) {
        const size_t divisor =
            request->fixed_divisor > 0 ? request->fixed_divisor : request->ranks[m];
        scales[m] = request->scales != NULL ? request->scales[m]
                    : divisor > 0           ? (float)(job->config.adapter.alpha / (double)divisor)
                                            : 0;
    }
    struct stage_options options = {
        .architecture = job->architecture,
        .adapters =
            {
                .ranks = request->ranks,
                .scales = scales,
                .dropout = (float)job->config.adapter.dropout,
                .num_components = request->num_components,
                .bottleneck = job->config.adapter.method == METHOD_ADAPTER
                                  ? job->config.adapter.bottleneck
                                  : 0,
                .has_singular_values = request->has_singular_values,
            },
        .head_kind = head_kind_of((enum task_kind)job->config.task.kind),
        .is_regression = job->glue != NULL && glue_is_regression(job->glue),
        .num_labels = job->labels.count,
        .label_smoothing = (float)job->config.task.label_smoothing,
        .first_block = part->first_block,
        .num_blocks = part->num_blocks,
        .has_embedding = part->has_embedding,
        .has_task_head = part->has_task_head,
        .trains_all = job->config.adapter.method == METHOD_FULL,
        .seed = job->config.run.seed,
        .grid = job->grid,
    };
    memcpy(options.adapters.is_target, job->config.adapter.is_target,
           sizeof options.adapters.is_target);
    struct stage *stage = stage_create(&options);
    stage->options.adapters.ranks = NULL; /* the borrowed arrays end here */
    stage->options.adapters.scales = NULL;
    memory_free(scales);
    return stage;
}

struct stage *job_create_stage(const struct job *job, const struct stage_request *request,
                               struct problem *problem) {
    const struct stage_part part = job_stage_part(job);
    struct stage *stage = job_new_stage(job, &part, request);
    load_weights(job, stage, problem);
    if (!comm_agree(&job->comms.world, problem))
        stage_destroy(&stage);
    return stage;
}

bool job_load_pretrained(const struct job *job, const struct stage *stage, float *factors,
                         struct problem *problem) {
    bool is_good = true;
    for (size_t i = 0; i < stage->factors.count && is_good; ++i) {
        const struct parameter *entry = &stage->factors.entries[i];
        if (!entry->is_pretrained || job->config.model.init == INIT_RANDOM)
            continue;
        const float *values =
            weights_pretrained(job->weights, entry->name, entry->rows, entry->columns, problem);
        is_good = values != NULL;
        if (is_good)
            memcpy(factors + entry->offset, values, entry->rows * entry->columns * sizeof *values);
    }
    return comm_agree(&job->comms.world, problem);
}
