/* One transformer block. Each of its halves adds what a branch makes of the input to the input:
 *     post-norm (BERT, RoBERTa)   y = norm(x + dropout(branch(x)))
 *     pre-norm (GPT-2)            y = x + dropout(branch(norm(x)))
 * with the branches
 *     attention      attention_output(attention(query(n), key(n), value(n)))
 *     feed-forward   output(activation(intermediate(n)))
 * The four passes of math/kernels.h, each over one packed microbatch. On a grid a block has the
 * sequences of its row and the attention heads of its column; d and f are the features there. */
#ifndef AUTOLORA_MODEL_BLOCK_H
#define AUTOLORA_MODEL_BLOCK_H

#include "model/architecture.h"
#include "model/attention.h"
#include "model/bottleneck.h"
#include "model/linear.h"
#include "model/microbatch.h"

struct layer_norm {
    struct base_tensor weight, bias;
};

struct block {
    size_t index;                          /* in the whole model */
    size_t hidden_size, intermediate_size; /* features that are here */
    const struct grid *grid;               /* NULL: all are */
    struct share hidden;                   /* on a grid: which of the hidden features */
    bool is_pre_norm;
    enum activation activation;
    float layer_norm_epsilon, hidden_dropout;
    uint64_t seed;
    struct linear projections[NUM_PROJECTIONS];
    struct layer_norm norms[NUM_HALVES];
    struct bottleneck bottlenecks[NUM_HALVES]; /* behind each half's branch and dropout */
    struct attention attention;
};

/* What the forward pass leaves for the others. input and output belong to the stage. T = tokens, R
 * = T, or the number of sequences where attention.first_rows_only: then the block's output, and
 * everything but its keys and values, exists for the first token of each sequence only (post-norm
 * blocks alone can do so). d = hidden size, f = intermediate size. */
struct block_activations {
    float *input;                     /* x [T, d] */
    float *input_rows;                /* its rows that go on [R, d]; x itself where R = T */
    float *attention_input;           /* n [T, d]; x itself in a post-norm block */
    float *query, *context;           /* [R, d] */
    float *key, *value;               /* [T, d] */
    float *probabilities;             /* attention.h */
    float *attended;                  /* what the first half gives [R, d] */
    float *feed_forward_input;        /* n [R, d]; attended itself in a post-norm block */
    float *expanded;                  /* intermediate(n) [R, f] */
    float *normalized[NUM_HALVES];    /* [R, d] */
    float *deviation[NUM_HALVES];     /* [R] */
    float *low_rank[NUM_PROJECTIONS]; /* h [T or R, rank] */
    float *bottleneck_input[NUM_HALVES], *bottleneck[NUM_HALVES]; /* h [R, d], u [R, size] */
};

/* What the backward pass leaves for its tangent. */
struct block_cotangents {
    float *d_output;                                 /* [R, d] */
    float *d_activated;                              /* of the activation's output [R, f] */
    float *d_attended;                               /* [R, d] */
    float *d_context, *d_query;                      /* [R, d] */
    float *d_key, *d_value;                          /* [T, d] */
    float *d_attention_input, *d_feed_forward_input; /* [T, d], pre-norm blocks only */
};

/* What the tangent pass leaves for the tangent of the backward pass. */
struct block_tangents {
    float *query, *key, *value, *probabilities;
    float *expanded;
    float *normalized[NUM_HALVES], *deviation[NUM_HALVES];
    float *low_rank[NUM_PROJECTIONS];
};

/* Room shared by the blocks of a stage; contents do not survive a call. */
struct block_scratch {
    float *hidden[4];                /* [T, d] */
    float *wide, *activated_tangent; /* [T, f] */
    struct linear_scratch linear;
    struct attention_scratch attention;
};

void block_forward(const struct block *block, const struct point *point,
                   const struct microbatch *microbatch, struct block_activations *activations,
                   struct block_scratch *scratch, float *output);

/* d_output [R, d] is read from cotangents->d_output. d_input [T, d] NULL: not wanted. */
void block_backward(const struct block *block, const struct point *point,
                    const struct microbatch *microbatch,
                    const struct block_activations *activations,
                    struct block_cotangents *cotangents, struct block_scratch *scratch,
                    struct gradient *gradient, float *d_input);

/* t_input NULL means zero. */
void block_tangent(const struct block *block, const struct point *point, const float *direction,
                   const struct microbatch *microbatch, const struct block_activations *activations,
                   const float *t_input, struct block_tangents *tangents,
                   struct block_scratch *scratch, float *t_output);

/* t_d_output [room for T, d] is overwritten. t_d_input NULL: not wanted; may be t_d_output. */
void block_backward_tangent(const struct block *block, const struct point *point,
                            const float *direction, const struct microbatch *microbatch,
                            const struct block_activations *activations,
                            const struct block_cotangents *cotangents,
                            const struct block_tangents *tangents, struct block_scratch *scratch,
                            float *t_d_output, float *t_d_selection, float *t_d_input);

#endif
