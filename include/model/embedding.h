/* The embedding: x = dropout(norm(word[id] + position[i] + type[t])); GPT-2 has neither norm nor
 * types. Frozen, so it has a forward pass only. */
#ifndef AUTOLORA_MODEL_EMBEDDING_H
#define AUTOLORA_MODEL_EMBEDDING_H

#include "model/architecture.h"
#include "model/block.h"
#include "model/microbatch.h"

struct embedding {
    const float *words, *positions; /* [vocabulary | positions, hidden], frozen */
    const float *types;             /* [types, hidden]; NULL: none */
    struct layer_norm norm;         /* weight NULL: none */
};

/* x [tokens, hidden]. Positions count from architecture->first_position within each sequence. */
void embedding_forward(const struct embedding *embedding, const struct architecture *architecture,
                       uint64_t seed, const struct microbatch *microbatch,
                       struct block_scratch *scratch, float *x);

#endif
