/* Selection variables: q [modules, k] from logits a [modules, k], and the lora_rank that they
 * choose (AutoLoRA, eq. 4 and section 3.3). */
#ifndef AUTOLORA_MODEL_SELECTION_H
#define AUTOLORA_MODEL_SELECTION_H

#include <stddef.h>

enum selection_constraint {
    CONSTRAINT_SOFTMAX, /* q = softmax(a): in [0, 1], sum 1 (the paper) */
    CONSTRAINT_SIGMOID, /* q = sigmoid(a) */
    CONSTRAINT_NONE     /* q = a */
};

enum threshold_rule {
    THRESHOLD_SOFTMAX,    /* q_j >= 1/k (the paper) */
    THRESHOLD_RAW_SUM,    /* a_j / sum a >= 1/k (the authors' GLUE script) */
    THRESHOLD_EFFECTIVE,  /* exp(entropy of q), rounded */
    THRESHOLD_IMPORTANCE, /* gradient times value: train/importance.h */
    THRESHOLD_SPECTRUM    /* singular values of the update: train/importance.h */
};

void selection_forward(enum selection_constraint constraint, const float *logits,
                       size_t num_modules, size_t k, float *selection);

/* d_logits from d_selection at the given q. d_logits may be d_selection. */
void selection_backward(enum selection_constraint constraint, const float *selection,
                        const float *d_selection, size_t num_modules, size_t k, float *d_logits);

/* What follows is for the first three rules.
 * shares [num_modules, k]: what the rule compares with 1/k; q under THRESHOLD_EFFECTIVE. */
void selection_shares(enum threshold_rule rule, const float *logits, const float *selection,
                      size_t num_modules, size_t k, float *shares);

/* ranks [num_modules]: how many components reach the threshold, or are effective. Values within
 * 1e-6 (relative) of it count as reaching it, so that k equal values give k. */
void selection_ranks(enum threshold_rule rule, const float *logits, const float *selection,
                     size_t num_modules, size_t k, size_t *ranks);

/* d_selection += weight * the gradient of each module's entropy by its q. */
void selection_add_entropy_gradient(double weight, const float *selection, size_t num_modules,
                                    size_t k, float *d_selection);

/* Entropy of one module's q, normalised to sum 1, in nats: log k where all are equal. */
double selection_entropy(const float *selection, size_t k);

#endif
