/* Which blocks belong to which stage. Pure arithmetic: every rank computes the same offsets. */
#ifndef AUTOLORA_PARALLEL_PARTITION_H
#define AUTOLORA_PARALLEL_PARTITION_H

#include "base/report.h"

#include <stdbool.h>
#include <stddef.h>

/* Costs in any one unit: of each block, and what the first and the last stage do besides (negative
 * where the last block is cheaper than the others). */
struct partition_costs {
    double block, first, last;
};

/* offsets [num_stages + 1]: stage s owns the blocks offsets[s] .. offsets[s+1]-1. Splits so that
 * the costliest stage is as cheap as possible while no stage goes without a block (where there are
 * enough); among equal splits early stages are largest. More stages than blocks leave some
 * without: those only pass on what they receive. Meant for last <= block. */
void partition_balance(size_t num_blocks, size_t num_stages, const struct partition_costs *costs,
                       size_t *offsets);

/* offsets from explicit block counts; a problem (EXIT_USAGE) unless there is one count a stage and
 * they sum to num_blocks. */
bool partition_explicit(size_t num_blocks, size_t num_stages, const size_t *counts,
                        size_t num_counts, size_t *offsets, struct problem *problem);

/* Proves that every block has exactly one stage: a fault otherwise. */
void partition_check(size_t num_blocks, size_t num_stages, const size_t *offsets);

#endif
