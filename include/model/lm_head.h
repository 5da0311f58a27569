/* Language modelling: logits = final_norm(x) words^T for each token. The loss is the cross
 * entropy of the labelled tokens (a token's label is the id of the next one), so only their rows
 * are computed; the vocabulary is large, so logits exist for a few rows at a time and are not kept:
 * where a backward pass follows, the forward pass goes on to the cotangents at once. */
#ifndef AUTOLORA_MODEL_LM_HEAD_H
#define AUTOLORA_MODEL_LM_HEAD_H

#include "model/task_head.h"

/* Floats of each of the two buffers in head_scratch. */
size_t lm_head_room(const struct task_head *head);

/* The four passes as in task_head.h, x [tokens, hidden]. */
double lm_head_forward(const struct task_head *head, const struct point *point,
                       const struct microbatch *microbatch, const float *x,
                       struct head_scratch *scratch, bool has_backward,
                       struct head_activations *activations);
void lm_head_backward(const struct task_head *head, const struct point *point,
                      const struct microbatch *microbatch,
                      const struct head_activations *activations, const struct gradient *gradient,
                      float *d_x);
void lm_head_tangent(const struct task_head *head, const struct point *point,
                     const struct microbatch *microbatch, const float *t_x,
                     struct head_scratch *scratch, struct head_activations *activations);
void lm_head_backward_tangent(const struct task_head *head, const struct point *point,
                              const struct microbatch *microbatch,
                              const struct head_activations *activations, float *t_d_x);

/* logits [rows, words] of rows x [rows, hidden] (generation). room: two of [rows, hidden]. */
void lm_head_logits(const struct task_head *head, const struct point *point, const float *x,
                    size_t rows, float *room, float *logits);

#endif
