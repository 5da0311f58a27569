/* Ranks under a budget: components of all modules in one order of preference. */
#include "train/budget.h"

#include "base/memory.h"

#include <stdlib.h>

struct candidate {
    float score;
    size_t place, module; /* place: 0 for the best component of its module */
};

static size_t min_parameters(const struct budget *budget) {
    size_t sum = 0;
    for (size_t m = 0; m < budget->num_modules; ++m)
        sum += budget->min_rank * budget->component_sizes[m];
    return sum;
}

bool budget_check(const struct budget *budget, struct problem *problem) {
    const size_t modules = budget->num_modules, least = budget->min_rank * modules;
    if (budget->min_rank > budget->num_components)
        return problem_set(problem, EXIT_USAGE, "search.min_rank is %zu, but adapter.rank is %zu",
                           budget->min_rank, budget->num_components);
    if (budget->total_rank > budget->num_components * modules)
        return problem_set(problem, EXIT_USAGE,
                           "search.target_mean_rank asks for %zu components of %zu modules, but "
                           "adapter.rank allows %zu each",
                           budget->total_rank, modules, budget->num_components);
    if (budget->total_rank > 0 && budget->total_rank < least)
        return problem_set(problem, EXIT_USAGE,
                           "search.target_mean_rank asks for %zu components of %zu modules, less "
                           "than search.min_rank, %zu, of each",
                           budget->total_rank, modules, budget->min_rank);
    if (budget->max_parameters > 0 && min_parameters(budget) > budget->max_parameters)
        return problem_set(problem, EXIT_USAGE,
                           "search.max_parameters is %zu, but %zu modules of search.min_rank %zu "
                           "have %zu parameters",
                           budget->max_parameters, modules, budget->min_rank,
                           min_parameters(budget));
    return true;
}

static int compare_scores(const void *left, const void *right) {
    const float a = *(const float *)left, b = *(const float *)right;
    return (a < b) - (a > b);
}

/* Higher scores first. */
static int compare_candidates(const void *left, const void *right) {
    const struct candidate *a = left, *b = right;
    if (a->score != b->score)
        return a->score < b->score ? 1 : -1;
    if (a->place != b->place)
        return a->place < b->place ? -1 : 1;
    return (a->module > b->module) - (a->module < b->module);
}

/* All components, best first; free with memory_free. */
static struct candidate *sort_candidates(const struct budget *budget, const float *scores) {
    const size_t k = budget->num_components, count = budget->num_modules * k;
    struct candidate *candidates = memory_allocate(count, sizeof *candidates, "candidates");
    float *own = memory_allocate(k, sizeof *own, "scores of a module");
    for (size_t m = 0; m < budget->num_modules; ++m) {
        for (size_t j = 0; j < k; ++j)
            own[j] = scores[m * k + j];
        qsort(own, k, sizeof *own, compare_scores);
        for (size_t j = 0; j < k; ++j)
            candidates[m * k + j] = (struct candidate){own[j], j, m};
    }
    memory_free(own);
    qsort(candidates, count, sizeof *candidates, compare_candidates);
    return candidates;
}

static void take_total(const struct budget *budget, const struct candidate *candidates,
                       size_t *ranks) {
    size_t left = budget->total_rank - budget->min_rank * budget->num_modules;
    for (size_t m = 0; m < budget->num_modules; ++m)
        ranks[m] = budget->min_rank;
    for (size_t i = 0; left > 0; ++i)
        if (candidates[i].place >= budget->min_rank) {
            ++ranks[candidates[i].module];
            --left;
        }
}

static void trim_parameters(const struct budget *budget, const struct candidate *candidates,
                            size_t *ranks) {
    size_t sum = 0;
    for (size_t m = 0; m < budget->num_modules; ++m)
        sum += ranks[m] * budget->component_sizes[m];
    for (size_t i = budget->num_modules * budget->num_components;
         sum > budget->max_parameters && i-- > 0;) {
        const size_t module = candidates[i].module;
        if (candidates[i].place + 1 != ranks[module] || ranks[module] <= budget->min_rank)
            continue;
        --ranks[module];
        sum -= budget->component_sizes[module];
    }
}

void budget_apply(const struct budget *budget, const float *scores, size_t *ranks) {
    const bool is_limited = budget->total_rank > 0 || budget->max_parameters > 0;
    struct candidate *candidates = is_limited ? sort_candidates(budget, scores) : NULL;
    if (budget->total_rank > 0)
        take_total(budget, candidates, ranks);
    for (size_t m = 0; m < budget->num_modules; ++m)
        if (ranks[m] < budget->min_rank)
            ranks[m] = budget->min_rank;
    if (budget->max_parameters > 0)
        trim_parameters(budget, candidates, ranks);
    memory_free(candidates);
}
