/* Batches: which examples an update sees, packed into microbatches. The same on every rank and for
 * every decomposition. */
#ifndef AUTOLORA_TRAIN_BATCH_H
#define AUTOLORA_TRAIN_BATCH_H

#include "io/dataset.h"
#include "model/microbatch.h"
#include "model/stage.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct batch {
    size_t num_examples, num_tokens, num_labels; /* num_labels: labelled sequences or tokens */
    size_t num_microbatches;
    struct microbatch *microbatches;
    uint32_t **examples; /* [num_microbatches][its num_sequences]: numbers in the dataset */
    struct batch_memory *memory;
};

/* Bounds for every batch of at most `batch_size` examples of at most `longest` tokens each. */
struct capacity batch_capacity(size_t batch_size, size_t longest, size_t microbatch_tokens);
size_t batch_largest_count(size_t batch_size, size_t longest, size_t microbatch_tokens);

struct batch *batch_create(size_t batch_size, size_t longest, size_t microbatch_tokens);
void batch_destroy(struct batch **batch);

/* From now on the microbatches hold the sequences of one row of a grid: each microbatch is split
 * among `rows` by the rule that fills microbatches. The batch's counts stay those of all. */
void batch_take_row(struct batch *batch, size_t row, size_t rows);
/* Bounds for a row's part of a microbatch. */
struct capacity batch_row_capacity(const struct capacity *whole, size_t rows);

/* Packs `count` examples. The number of microbatches is the least with at most `microbatch_tokens`
 * tokens on average; the longest examples are placed first, each into the microbatch with the
 * fewest tokens so far, so that tokens are balanced (longest-processing-time rule). Within a
 * microbatch examples keep their order. */
void batch_fill(struct batch *batch, const struct dataset *dataset, const uint32_t *examples,
                size_t count, uint64_t step, bool has_dropout);

/* An endless, shuffled stream of batches over a subset of a dataset. A pure function of the
 * update's number, so that it needs no state of its own. The last batch of a pass may be smaller.
 */
struct sampler {
    uint64_t seed, stream;
    const uint32_t *subset; /* [count] numbers in the dataset; borrowed */
    size_t count, batch_size;
    uint32_t *permutation; /* of the pass that was asked for last */
    size_t pass;
};
struct sampler sampler_create(uint64_t seed, uint64_t stream, const uint32_t *subset, size_t count,
                              size_t batch_size);
void sampler_free(struct sampler *sampler);
size_t sampler_batches_per_pass(const struct sampler *sampler);
/* examples [batch_size]; returns how many. */
size_t sampler_next(struct sampler *sampler, size_t step, uint32_t *examples);

#endif
