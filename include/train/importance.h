/* How much each component of an adapter matters to the loss, beside what its selection variable
 * says. With y += z B, z = s h * q, the gradient of a k x k matrix between z and B is
 *     G = dB B^T = z^T dz,   dz = dy B^T       (sums over the tokens of a batch).
 * Its diagonal is q_j dL/dq_j: gradient times value of a component, to be averaged over batches.
 * Its second moments give the Kronecker-factored Fisher matrix of the update (Martens and Grosse
 * 2015) within the adapter: the eigenvalues of
 *     E[G G^T] E[G^T G] / E|G|^2
 * are the squares of the update's singular values when its input and output are measured by what
 * they mean to the loss. They do not depend on how the update is cut into components, so that
 * components that say the same count once, and can be compared between modules. */
#ifndef AUTOLORA_TRAIN_IMPORTANCE_H
#define AUTOLORA_TRAIN_IMPORTANCE_H

#include "model/selection.h"
#include "model/stage.h"

#include <stdbool.h>
#include <stddef.h>

/* Whether a rule wants the moments. */
bool importance_is_wanted(enum threshold_rule rule);

/* Floats of a module's moments: |G_jj| [k], G G^T [k, k], G^T G [k, k]. */
size_t importance_moments_size(size_t k);

/* moments [modules of the stage, importance_moments_size(k)]: running means over the batches, of
 * which this one, whose gradient was taken at `factors`, is the newest. */
void importance_observe(const struct stage *stage, const float *factors, const float *gradient,
                        float *moments);

/* scores [modules, k], in no particular order under THRESHOLD_IMPORTANCE (mean |G_jj|), falling
 * under THRESHOLD_SPECTRUM (singular values as above). */
void importance_scores(enum threshold_rule rule, const float *moments, size_t num_modules, size_t k,
                       float *scores);

/* ranks [modules]: the scores that reach `threshold` times the median over the modules of their
 * largest score. Without any gradient yet, k of each. */
void importance_ranks(const float *scores, size_t num_modules, size_t k, double threshold,
                      size_t *ranks);

#endif
