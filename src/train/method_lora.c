/* Plain LoRA: the same total for everyone, spread evenly. */
#include "train/method.h"

bool method_lora_ranks(const struct method_input *input, struct method_output *output,
                       struct problem *problem) {
    (void)problem;
    const size_t total = method_total_rank(input), modules = input->num_modules;
    for (size_t m = 0; m < modules; ++m)
        output->ranks[m] = total / modules + (m < total % modules);
    return true;
}
