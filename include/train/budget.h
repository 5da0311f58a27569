/* How many components each module keeps when the total is given, beside the paper's threshold. Pure
 * functions, so that all ranks decide alike. */
#ifndef AUTOLORA_TRAIN_BUDGET_H
#define AUTOLORA_TRAIN_BUDGET_H

#include "base/report.h"

#include <stdbool.h>
#include <stddef.h>

/* component_sizes [num_modules]: parameters of one component, d_in + d_out. */
struct budget {
    size_t num_modules, num_components; /* components a module: the largest rank */
    const size_t *component_sizes;
    size_t total_rank;     /* 0: as the ranks come */
    size_t min_rank;       /* of every module */
    size_t max_parameters; /* of all adapters together; 0: no limit */
};

/* EXIT_USAGE where no ranks can keep to the budget; names the keys under search. */
bool budget_check(const struct budget *budget, struct problem *problem);

/* Changes ranks [num_modules] so that they keep to the budget, which has passed the check. scores
 * [modules, components]: of a module the components with the highest scores stay. With total_rank
 * the highest scores of all modules stay, min_rank of each module first. What is more than
 * max_parameters goes, lowest scores first: then the total may be less than total_rank. Among equal
 * scores a module's first-best component comes before any second-best one, then the module of lower
 * number. */
void budget_apply(const struct budget *budget, const float *scores, size_t *ranks);

#endif
