/* The task heads and the loss.
 * Sequence classification: logits = dropout(tanh(dense(x))) W^T + b. In BERT, dense is the
 * pretrained pooler, frozen unless all weights are trained; in RoBERTa it is new and trained, and
 * its input has dropout too.
 * Token classification: logits = dropout(x) W^T + b.
 * Language modelling: lm_head.h.
 * Loss: cross entropy against the label's distribution, which gives label_smoothing evenly to all
 * labels and the rest to the right one (0: all to it; as in microsoft/LoRA's GPT-2); in a
 * regression (a sequence classification with one label) the squared difference to the target.
 * Summed over the labelled rows and multiplied by the batch's loss_scale. W and b are trained. */
#ifndef AUTOLORA_MODEL_TASK_HEAD_H
#define AUTOLORA_MODEL_TASK_HEAD_H

#include "model/block.h"
#include "model/linear.h"
#include "model/microbatch.h"

enum head_kind { HEAD_SEQUENCE_CLASSIFICATION, HEAD_TOKEN_CLASSIFICATION, HEAD_LANGUAGE_MODELING };

struct task_head {
    enum head_kind kind;
    bool is_regression;
    size_t hidden_size, num_labels;
    struct base_tensor dense_weight, dense_bias; /* [hidden, hidden], [hidden]: sequences only */
    bool has_new_dense;                          /* instead of the pooler */
    size_t weight_offset, bias_offset;           /* [labels, hidden], [labels] in the factors */
    struct layer_norm final_norm;                /* language modelling */
    struct base_tensor words;                    /* [labels, hidden]: its labels are words */
    float layer_norm_epsilon;
    float dropout, label_smoothing;
    uint64_t seed;
};

/* Rows R = sequences (their first tokens) or tokens. Saved by the passes, in their order. */
struct head_activations {
    float *inputs;        /* [R, hidden] dense's, where it is trained */
    float *features;      /* [R, hidden] after dropout; norm(x) in language modelling */
    float *d_words;       /* [labels, hidden] in language modelling, where they are trained */
    float *pooled;        /* [R, hidden] tanh(...), sequences only */
    float *logits;        /* [R, labels] */
    float *probabilities; /* [R, labels]; logits - targets in a regression */
    float *d_features;    /* [R, hidden] before dropout's transpose */
    float *t_inputs;      /* [R, hidden] */
    float *t_features;    /* [R, hidden] after dropout */
    float *t_pooled;      /* [R, hidden] */
    float *t_logits;      /* [R, labels] */
    float *normalized, *deviation, *t_normalized, *t_deviation; /* of the final norm */
};

/* Room of the language modelling head, lm_head_room floats each; contents do not survive a call. */
struct head_scratch {
    float *logits, *t_logits;
};

size_t head_rows(const struct task_head *head, const struct microbatch *microbatch);

/* x [R, hidden]: the last block's output. Returns the microbatch's part of the loss (0 where labels
 * are NULL); a forward pass alone is an evaluation, without label smoothing. */
double head_forward(const struct task_head *head, const struct point *point,
                    const struct microbatch *microbatch, const float *x,
                    struct head_scratch *scratch, bool has_backward,
                    struct head_activations *activations);
/* d_x [R, hidden] and the gradients of all that is trained. */
void head_backward(const struct task_head *head, const struct point *point,
                   const struct microbatch *microbatch, struct head_activations *activations,
                   struct gradient *gradient, float *d_x);
void head_tangent(const struct task_head *head, const struct point *point, const float *direction,
                  const struct microbatch *microbatch, const float *t_x,
                  struct head_scratch *scratch, struct head_activations *activations);
/* t_d_x [R, hidden]. */
void head_backward_tangent(const struct task_head *head, const struct point *point,
                           const float *direction, const struct microbatch *microbatch,
                           struct head_activations *activations, float *t_d_x);

#endif
