/* What the halves of a block share: the arguments of a pass, and the passes of the two branches.
 * Internal to src/model/block*.c. With T and R of block.h: n, d_n, t_n and t_d_n [T, d]
 * (feed-forward [R, d]); y, d_y, t_y, t_d_y, rows and what goes around a branch [R, d]. */
#ifndef AUTOLORA_MODEL_BLOCK_PASS_H
#define AUTOLORA_MODEL_BLOCK_PASS_H

#include "model/block.h"

/* The arguments that every projection of a pass shares. Keys and values are made of all `tokens`;
 * everything else has the rows that the block's output has. */
struct block_pass {
    const struct block *block;
    const struct point *point;
    const float *direction;
    const struct microbatch *tokens;
    struct microbatch rows;
    const struct block_activations *activations;
    struct block_scratch *scratch;
};

/* A dropout at a place of the block, of these features. */
struct dropout block_dropout(const struct block *block, const struct microbatch *microbatch,
                             float rate, enum random_purpose purpose, uint64_t identity,
                             struct share features);
/* The hidden features that are here. */
struct share block_features(const struct block *block);

void attention_branch_forward(const struct block_pass *pass, const float *n, const float *n_rows,
                              struct block_activations *activations, float *y);

void feed_forward_branch_forward(const struct block_pass *pass, const float *n,
                                 struct block_activations *activations, float *y);

/* What query is computed from: the rows of the attention's input. */
const float *branch_query_input(const struct block_pass *pass);

/* d_n [tokens, hidden] of the branch's input; NULL: not wanted. `around` [rows, hidden], unless it
 * is NULL, is the cotangent that goes around the branch: it is used up and added to d_n. */
void attention_branch_backward(const struct block_pass *pass, struct block_cotangents *cotangents,
                               const float *d_y, struct gradient *gradient, float *around,
                               float *d_n);

/* Leaves d_activated in cotangents. */
void feed_forward_branch_backward(const struct block_pass *pass,
                                  struct block_cotangents *cotangents, const float *d_y,
                                  struct gradient *gradient, bool accumulate, float *d_n);

/* t_n, t_rows NULL: zero. */
void attention_branch_tangent(const struct block_pass *pass, const float *t_n, const float *t_rows,
                              struct block_tangents *tangents, float *t_context, float *t_y);

void feed_forward_branch_tangent(const struct block_pass *pass, const float *t_n,
                                 struct block_tangents *tangents, float *t_y);

/* d_y and t_d_y are used up; `around` and t_d_n as in attention_branch_backward. t_d_context [rows,
 * hidden] is room, and may be t_d_n. */
void attention_branch_backward_tangent(const struct block_pass *pass,
                                       const struct block_cotangents *cotangents,
                                       const struct block_tangents *tangents, float *d_y,
                                       float *t_d_y, float *t_d_context, float *t_d_selection,
                                       float *around, float *t_d_n);

void feed_forward_branch_backward_tangent(const struct block_pass *pass,
                                          const struct block_cotangents *cotangents,
                                          const struct block_tangents *tangents, const float *d_y,
                                          const float *t_d_y, float *t_d_selection, bool accumulate,
                                          float *t_d_n);

#endif
