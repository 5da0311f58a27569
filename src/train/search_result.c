/* What a search found, once it has ended. */
#include "base/memory.h"
#include "train/search.h"

void search_result_free(struct search_result *result) {
    memory_free(result->ranks);
    memory_free(result->logits);
    memory_free(result->selection);
    memory_free(result->scores);
    certainty_free(&result->certainty);
    *result = (struct search_result){0};
}

char *search_warning(const struct search_options *options, const struct search_result *result) {
    if (result->largest_movement < 1e-4)
        return memory_format(
            "no selection variable moved by more than %.1e: the ranks say nothing. "
            "Raise search.selection_lr (now %g) or search.steps (now %zu)",
            result->largest_movement, options->selection_learning_rate, result->num_steps);
    bool are_equal = true;
    for (size_t m = 1; m < result->num_modules; ++m)
        are_equal = are_equal && result->ranks[m] == result->ranks[0];
    if (are_equal)
        return memory_format(
            "all modules got the same rank, %zu: the search told no layer from another "
            "(largest movement of a selection variable: %.3g)",
            result->ranks[0], result->largest_movement);
    const size_t undecided = certainty_num_undecided(&result->certainty);
    if (2 * undecided <= result->num_modules)
        return NULL;
    return memory_format(
        "the search did not decide: %zu of %zu ranks would differ by one or more had its last part "
        "met other batches. Raise search.steps (now %zu) or change search.selection_lr (now %g)",
        undecided, result->num_modules, result->num_steps, options->selection_learning_rate);
}
