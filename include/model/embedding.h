/* The embedding: x = dropout(norm(word[id] + position[i] + type[t])); GPT-2 has neither norm nor
 * types. Nothing that has tangents is trained before it, so it has none. */
#ifndef AUTOLORA_MODEL_EMBEDDING_H
#define AUTOLORA_MODEL_EMBEDDING_H

#include "model/architecture.h"
#include "model/block.h"
#include "model/microbatch.h"

struct embedding {
    struct base_tensor words, positions; /* [vocabulary | positions, hidden] */
    struct base_tensor types;            /* [types, hidden], where there are any */
    struct layer_norm norm;              /* where there is one */
    const struct grid *grid;             /* NULL: all is here */
    struct share hidden, vocabulary;     /* on a grid: features of the tables; rows of words */
};

/* Saved for the backward pass. */
struct embedding_activations {
    float *normalized, *deviation; /* [tokens, hidden], [tokens] */
};

/* x [tokens, hidden]. Positions count from architecture->first_position within each sequence. */
void embedding_forward(const struct embedding *embedding, const struct architecture *architecture,
                       uint64_t seed, const struct point *point,
                       const struct microbatch *microbatch,
                       const struct embedding_activations *activations, float *x);

/* Gradients of the tables and the norm, all of which must be trained. d_x is used up. */
void embedding_backward(const struct embedding *embedding, const struct architecture *architecture,
                        uint64_t seed, const struct point *point,
                        const struct microbatch *microbatch,
                        const struct embedding_activations *activations,
                        const struct gradient *gradient, float *d_x);

#endif
