/* A microbatch: a packed list of sequences without padding, one slot of the pipeline. */
#ifndef AUTOLORA_MODEL_MICROBATCH_H
#define AUTOLORA_MODEL_MICROBATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Borrowed arrays; the owner is the batch (train/batch.h). */
struct microbatch {
    size_t num_sequences, num_tokens, longest;
    const size_t *offsets;      /* [num_sequences + 1] rows of the token matrices */
    const size_t *pair_offsets; /* [num_sequences + 1]: running sum of length^2 */
    const uint32_t *samples;    /* [num_sequences] example numbers: identity for random numbers */
    const int32_t *token_ids, *type_ids; /* [num_tokens] */
    const int32_t *labels;               /* [num_sequences] or [num_tokens]; negative: no label */
    float loss_scale;                    /* 1 / number of labels in the whole batch */
    uint64_t step;                       /* identity for random numbers */
    bool has_dropout;                    /* training mode */
};

#endif
