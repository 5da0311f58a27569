/* A microbatch: a packed list of sequences without padding, one slot of the pipeline. */
#ifndef AUTOLORA_MODEL_MICROBATCH_H
#define AUTOLORA_MODEL_MICROBATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Borrowed arrays; the owner is the batch (train/batch.h). */
struct microbatch {
    size_t num_sequences, num_tokens, longest;
    const size_t *offsets;          /* [num_sequences + 1] rows of the token matrices */
    const size_t *pair_offsets;     /* [num_sequences + 1]: running sum of length^2 */
    const size_t *sequence_numbers; /* [num_sequences + 1] 0, 1, 2, ...: offsets of one row each */
    const uint32_t *samples; /* [num_sequences] example numbers: identity for random numbers */
    const int32_t *token_ids, *type_ids; /* [num_tokens] */
    const int32_t *labels;               /* [num_sequences] or [num_tokens]; negative: no label */
    const float *targets; /* [num_sequences] of a regression, where there is a label; else NULL */
    float loss_scale;     /* 1 / number of labels in the whole batch */
    uint64_t step;        /* identity for random numbers */
    bool has_dropout;     /* training mode */
    /* On a grid these are the sequences of one of its rows; the most that any row has. */
    size_t most_tokens, most_sequences;
};

/* The same sequences with only their first tokens: what is left where no other row matters. Without
 * token_ids and type_ids; pair_offsets are no longer those of the rows. */
static inline struct microbatch microbatch_first_rows(const struct microbatch *microbatch) {
    struct microbatch first = *microbatch;
    first.num_tokens = microbatch->num_sequences;
    first.most_tokens = microbatch->most_sequences;
    first.longest = 1;
    first.offsets = first.pair_offsets = microbatch->sequence_numbers;
    first.token_ids = first.type_ids = NULL;
    return first;
}

#endif
