/* The task heads and the loss.
 * Sequence classification (BERT): logits = dropout(tanh(pooler(x))) W^T + b, pooler frozen.
 * Token classification: logits = dropout(x) W^T + b.
 * Loss: cross entropy against the label's distribution, which gives label_smoothing evenly to all
 * labels and the rest to the right one (0: all to it; as in microsoft/LoRA's GPT-2), summed over
 * the labelled rows and multiplied by the batch's loss_scale. W and b are trained. */
#ifndef AUTOLORA_MODEL_TASK_HEAD_H
#define AUTOLORA_MODEL_TASK_HEAD_H

#include "model/linear.h"
#include "model/microbatch.h"

enum head_kind { HEAD_SEQUENCE_CLASSIFICATION, HEAD_TOKEN_CLASSIFICATION };

struct task_head {
    enum head_kind kind;
    size_t hidden_size, num_labels;
    const float *pooler_weight, *pooler_bias; /* [hidden, hidden], [hidden]: sequences only */
    size_t weight_offset, bias_offset;        /* [labels, hidden], [labels] in the factors */
    float dropout, label_smoothing;
    uint64_t seed;
};

/* Rows R = sequences (their first tokens) or tokens. Saved by the passes, in their order. */
struct head_activations {
    float *features;      /* [R, hidden] after dropout */
    float *pooled;        /* [R, hidden] tanh(...), sequences only */
    float *logits;        /* [R, labels] */
    float *probabilities; /* [R, labels] */
    float *d_features;    /* [R, hidden] before dropout's transpose */
    float *t_features;    /* [R, hidden] after dropout */
    float *t_pooled;      /* [R, hidden] */
    float *t_logits;      /* [R, labels] */
};

size_t head_rows(const struct task_head *head, const struct microbatch *microbatch);

/* x [R, hidden]: the last block's output. Returns the microbatch's part of the loss (0 where labels
 * are NULL). */
double head_forward(const struct task_head *head, const struct point *point,
                    const struct microbatch *microbatch, const float *x,
                    struct head_activations *activations);
/* d_x [R, hidden] and the gradients of W and b. */
void head_backward(const struct task_head *head, const struct point *point,
                   const struct microbatch *microbatch, struct head_activations *activations,
                   struct gradient *gradient, float *d_x);
void head_tangent(const struct task_head *head, const struct point *point, const float *direction,
                  const struct microbatch *microbatch, const float *t_x,
                  struct head_activations *activations);
/* t_d_x [R, hidden]. */
void head_backward_tangent(const struct task_head *head, const struct point *point,
                           const float *direction, const struct microbatch *microbatch,
                           struct head_activations *activations, float *t_d_x);

#endif
