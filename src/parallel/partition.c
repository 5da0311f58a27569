/* Which blocks belong to which stage. */
#include "parallel/partition.h"

static double stage_cost(const struct partition_costs *costs, size_t num_blocks, size_t stage,
                         size_t num_stages) {
    return costs->block * (double)num_blocks + (stage == 0 ? costs->first : 0) +
           (stage + 1 == num_stages ? costs->last : 0);
}

/* Gives every stage as many blocks as the limit allows, but leaves one for each later stage while
 * there are enough; true if all blocks find a place. */
static bool fill_greedily(size_t num_blocks, size_t num_stages, const struct partition_costs *costs,
                          double limit, size_t *offsets) {
    size_t next = 0;
    for (size_t s = 0; s < num_stages; ++s) {
        offsets[s] = next;
        const size_t later = num_stages - 1 - s;
        size_t count = 0;
        while (next + count < num_blocks && stage_cost(costs, count + 1, s, num_stages) <= limit &&
               (count == 0 || num_blocks - next - count > later))
            ++count;
        next += count;
    }
    offsets[num_stages] = next;
    return next == num_blocks;
}

/* The next larger cost that some stage can have: the candidates for the best limit. */
static double next_limit(size_t num_blocks, size_t num_stages, const struct partition_costs *costs,
                         double limit) {
    double next = -1;
    const size_t places[3] = {0, num_stages / 2, num_stages - 1};
    for (size_t count = 0; count <= num_blocks; ++count)
        for (int i = 0; i < 3; ++i) {
            const double cost = stage_cost(costs, count, places[i], num_stages);
            if (cost > limit && (next < 0 || cost < next))
                next = cost;
        }
    FAULT_UNLESS(next >= 0, "no partition of %zu blocks into %zu stages", num_blocks, num_stages);
    return next;
}

void partition_balance(size_t num_blocks, size_t num_stages, const struct partition_costs *costs,
                       size_t *offsets) {
    double limit = -1;
    do
        limit = next_limit(num_blocks, num_stages, costs, limit);
    while (!fill_greedily(num_blocks, num_stages, costs, limit, offsets));
    partition_check(num_blocks, num_stages, offsets);
}

bool partition_explicit(size_t num_blocks, size_t num_stages, const size_t *counts,
                        size_t num_counts, size_t *offsets, struct problem *problem) {
    if (num_counts != num_stages)
        return problem_set(problem, EXIT_USAGE,
                           "parallel.layout names %zu stages, but there are %zu", num_counts,
                           num_stages);
    offsets[0] = 0;
    for (size_t s = 0; s < num_stages; ++s) {
        if (counts[s] > num_blocks) /* so that the sum cannot overflow */
            return problem_set(problem, EXIT_USAGE,
                               "parallel.layout gives stage %zu %zu blocks, but the model has %zu",
                               s, counts[s], num_blocks);
        offsets[s + 1] = offsets[s] + counts[s];
    }
    if (offsets[num_stages] != num_blocks)
        return problem_set(problem, EXIT_USAGE,
                           "parallel.layout places %zu blocks, but the model has %zu",
                           offsets[num_stages], num_blocks);
    partition_check(num_blocks, num_stages, offsets);
    return true;
}

void partition_check(size_t num_blocks, size_t num_stages, const size_t *offsets) {
    FAULT_UNLESS(offsets[0] == 0 && offsets[num_stages] == num_blocks,
                 "a partition covers blocks %zu to %zu of %zu", offsets[0], offsets[num_stages],
                 num_blocks);
    for (size_t s = 0; s < num_stages; ++s)
        FAULT_UNLESS(offsets[s] <= offsets[s + 1], "stage %zu has a negative number of blocks", s);
}
