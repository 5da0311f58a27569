/* AutoLoRA: k components everywhere, of which the search chooses. */
#include "train/method.h"

#include "base/memory.h"
#include "train/budget.h"

#include <math.h>
#include <string.h>

static bool search_ranks(const struct method_input *input, const struct budget *budget,
                         struct stage *stage, struct method_output *output,
                         struct problem *problem) {
    method_count_parameters(input, stage, output);
    if (!search_run(input->trainer, input->search, budget, stage, &output->search, problem))
        return false;
    memcpy(output->ranks, output->search.ranks, input->num_modules * sizeof *output->ranks);
    output->warning = search_warning(input->search, &output->search);
    return true;
}

struct stage_request method_autolora_request(const struct method_input *input, size_t *ranks) {
    const size_t k = input->options->rank;
    for (size_t m = 0; m < input->num_modules; ++m)
        ranks[m] = k;
    return (struct stage_request){.ranks = ranks, .fixed_divisor = k, .num_components = k};
}

static struct budget budget_of(const struct method_input *input) {
    const struct search_options *search = input->search;
    return (struct budget){
        .num_modules = input->num_modules,
        .num_components = input->options->rank,
        .component_sizes = input->component_sizes,
        .total_rank = (size_t)lround(search->target_mean_rank * (double)input->num_modules),
        .min_rank = search->min_rank,
        .max_parameters = search->max_parameters,
    };
}

bool method_autolora_check(const struct method_input *input, struct problem *problem) {
    const struct budget budget = budget_of(input);
    return budget_check(&budget, problem);
}

bool method_autolora_ranks(const struct method_input *input, struct method_output *output,
                           struct problem *problem) {
    const struct budget budget = budget_of(input);
    if (!budget_check(&budget, problem))
        return false;
    const struct stage_request request = method_autolora_request(input, output->ranks);
    struct stage *stage = input->create_stage(input->context, &request, problem);
    if (stage == NULL)
        return false;
    const bool is_good = search_ranks(input, &budget, stage, output, problem);
    stage_destroy(&stage);
    return is_good;
}
