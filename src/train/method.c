/* The table of methods, and what they share. */
#include "train/method.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

/* Fresh adapters at the chosen ranks, or whatever else the stages train. */
static bool train_adapters(const struct method_input *input, struct method_output *output,
                           struct problem *problem) {
    const bool is_fixed = input->retrain->scaling == SCALING_ALPHA_OVER_K;
    const struct stage_request request = {
        .ranks = output->ranks,
        .scales = input->scales,
        .fixed_divisor = is_fixed ? input->options->rank : 0,
    };
    struct stage *stage = input->create_stage(input->context, &request, problem);
    if (stage == NULL)
        return false;
    method_count_parameters(input, stage, output);
    float *factors = memory_allocate(stage->factors.size, sizeof *factors, "factors");
    parameter_table_initialize(&stage->factors, input->trainer->seed, PHASE_RETRAIN, factors);
    const bool is_good = input->start(input->context, stage, factors, problem) &&
                         retrain_run(input->trainer, input->retrain, NULL, stage, factors,
                                     &output->retrain, problem) &&
                         input->save(input->context, stage, factors, problem);
    memory_free(factors);
    stage_destroy(&stage);
    return is_good;
}

static const struct method METHODS[] = {
    [METHOD_AUTOLORA] = {method_autolora_ranks, train_adapters},
    [METHOD_LORA] = {method_lora_ranks, train_adapters},
    [METHOD_RANDOM] = {method_random_ranks, train_adapters},
    [METHOD_ADALORA] = {NULL, method_adalora_train},
    [METHOD_FULL] = {NULL, train_adapters}, /* no ranks: the stages train all weights */
};

const struct method *method_of(enum adapter_method method) {
    return &METHODS[method];
}

void method_output_free(struct method_output *output) {
    search_result_free(&output->search);
    memory_free(output->warning);
    output->warning = NULL;
}

size_t method_total_rank(const struct method_input *input) {
    const struct method_options *options = input->options;
    return options->mean_rank > 0 ? (size_t)lround(options->mean_rank * (double)input->num_modules)
                                  : options->rank * input->num_modules;
}

void method_count_parameters(const struct method_input *input, const struct stage *stage,
                             struct method_output *output) {
    const struct comm *comm = &input->trainer->comm;
    size_t counts[2] = {0};
    size_t own[2] = {0};
    for (size_t i = 0; i < stage->factors.count; ++i) {
        const struct parameter *entry = &stage->factors.entries[i];
        const bool is_head = strncmp(entry->name, "classifier.", 11) == 0;
        if (!entry->is_copy)
            own[is_head] += entry->rows * entry->columns;
    }
    own[0] += stage->selection_size;
    size_t *all = memory_allocate(2 * (size_t)comm->size, sizeof *all, "counts");
    comm_all_gather(comm, own, 2, sizeof *own, all);
    for (int r = 0; r < comm->size; ++r) {
        counts[0] += all[2 * r];
        counts[1] += all[2 * r + 1];
    }
    memory_free(all);
    output->adapter_parameters = counts[0];
    output->head_parameters = counts[1];
    if (counts[0] + counts[1] > output->most_parameters)
        output->most_parameters = counts[0] + counts[1];
}
