/* The embedding of the BERT family: x = dropout(layer_norm(word[id] + position[i] + type[t])).
 * Frozen, so it has a forward pass only. */
#ifndef AUTOLORA_MODEL_EMBEDDING_H
#define AUTOLORA_MODEL_EMBEDDING_H

#include "model/architecture.h"
#include "model/block.h"
#include "model/microbatch.h"

struct embedding {
    const float *words, *positions, *types; /* [vocabulary | positions | types, hidden], frozen */
    struct layer_norm norm;
};

/* x [tokens, hidden]. Positions count from 0 within each sequence. */
void embedding_forward(const struct embedding *embedding, const struct architecture *architecture,
                       float hidden_dropout, uint64_t seed, const struct microbatch *microbatch,
                       struct block_scratch *scratch, float *x);

#endif
