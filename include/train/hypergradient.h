/* The hypergradient of the selection logits (AutoLoRA, eq. 6 to 8; DARTS, Liu et al. 2019):
 *     grad_a L_validation(W', a) - c d^2/da dW L_train(W, a) . v,     v = grad_W' L_validation(W',
 * a). */
#ifndef AUTOLORA_TRAIN_HYPERGRADIENT_H
#define AUTOLORA_TRAIN_HYPERGRADIENT_H

#include "train/pipeline.h"
#include "train/search.h"

struct hypergradient;

/* `constraint` is an enum selection_constraint; the validation loss has entropy_weight times the
 * entropy of each module's q added. Borrows the pipeline. */
struct hypergradient *hypergradient_create(struct pipeline *pipeline, enum hypergradient_kind kind,
                                           int constraint, double entropy_weight);
void hypergradient_destroy(struct hypergradient **hypergradient);

struct hypergradient_request {
    const float *lookahead; /* W' */
    const float *point;     /* where the second-order term is taken */
    bool is_kept; /* exact: pipeline_gradient(keep) was the last kept pass, at `point` on `train` */
    const float *selection; /* q of this stage */
    double coefficient;     /* c */
    const struct batch *train, *validation;
};

/* d_logits [selection_size]; returns the validation loss, without the entropy. Collective over the
 * pipeline. */
double hypergradient_compute(struct hypergradient *hypergradient,
                             const struct hypergradient_request *request, float *d_logits);

#endif
