/* Multi-head self-attention over packed sequences (Vaswani et al. 2017): within a sequence and a
 * head, S = scale Q K^T,  P = softmax(S),  O = dropout(P) V. query, key, value, context
 * are [tokens, hidden] with heads side by side; probabilities hold, for each sequence and head, a
 * [length, length] matrix: sequence i, head h starts at heads * pair_offsets[i] + h * length^2.
 * With first_rows_only, only the first token of each sequence asks: query and context are
 * [sequences, hidden], and probabilities [1, length] start at heads * offsets[i] + h * length. */
#ifndef AUTOLORA_MODEL_ATTENTION_H
#define AUTOLORA_MODEL_ATTENTION_H

#include "model/microbatch.h"

#include <stddef.h>
#include <stdint.h>

struct attention {
    size_t num_heads, head_size; /* the heads that are here; hidden is their features */
    float dropout;               /* rate on the probabilities */
    uint64_t seed, block;
    bool first_rows_only, is_causal; /* causal: token i attends to tokens 0 .. i */
    float scale;                     /* on Q K^T: 1 / sqrt(head_size) in most models */
    size_t first_head;               /* on a grid: of the model's */
};

/* Room for attention_*: one region of `floats_per_thread` for each thread. */
struct attention_scratch {
    float *values;
    size_t floats_per_thread;
};
/* Floats that a thread needs for sequences up to `longest`. */
size_t attention_scratch_floats(size_t longest);

void attention_forward(const struct attention *attention, const struct microbatch *microbatch,
                       const float *query, const float *key, const float *value,
                       struct attention_scratch *scratch, float *probabilities, float *context);

void attention_backward(const struct attention *attention, const struct microbatch *microbatch,
                        const float *query, const float *key, const float *value,
                        const float *probabilities, const float *d_context,
                        struct attention_scratch *scratch, float *d_query, float *d_key,
                        float *d_value);

void attention_tangent(const struct attention *attention, const struct microbatch *microbatch,
                       const float *query, const float *key, const float *value,
                       const float *probabilities, const float *t_query, const float *t_key,
                       const float *t_value, struct attention_scratch *scratch,
                       float *t_probabilities, float *t_context);

/* What the tangent of the backward pass needs from the passes before. */
struct attention_saved {
    const float *query, *key, *value, *probabilities;
    const float *t_query, *t_key, *t_value, *t_probabilities;
    const float *d_context;
};
void attention_backward_tangent(const struct attention *attention,
                                const struct microbatch *microbatch,
                                const struct attention_saved *saved, const float *t_d_context,
                                struct attention_scratch *scratch, float *t_d_query, float *t_d_key,
                                float *t_d_value);

#endif
