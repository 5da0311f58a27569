/* Row-wise kernels of a transformer: forward, backward, and their tangents.
 *
 * Every function f comes as
 *   f_forward           y = f(x)
 *   f_backward          d_x from d_y (a cotangent: the derivative of the loss)
 *   f_tangent           y' from x' (a tangent: the derivative along a direction of the parameters),
 *                       written t_y, t_x
 *   f_backward_tangent  t_d_x: the tangent of f_backward
 * so that forward-over-reverse differentiation is a composition of the four. Matrices are [tokens,
 * width], row-major without gaps. Sums within a row go in a fixed order; no sum crosses rows, so
 * results do not depend on the number of threads. Outputs may not alias inputs unless said. */
#ifndef AUTOLORA_MATH_KERNELS_H
#define AUTOLORA_MATH_KERNELS_H

#include "base/random.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* y += bias [width] in each row. */
void bias_add(const float *bias, size_t tokens, size_t width, float *y);
/* y += x, count elements. */
void vector_add(const float *x, size_t count, float *y);
/* sums [width] = column sums of x, in double precision over the rows in order. */
void column_sums(const float *x, size_t tokens, size_t width, float *sums);

/* Layer normalisation (Ba et al. 2016) with weight and bias [width]:
 * normalized = (x - mean) * inverse_deviation, y = normalized * weight + bias. y may be x. */
void layer_norm_forward(const float *x, const float *weight, const float *bias, float epsilon,
                        size_t tokens, size_t width, float *normalized, float *inverse_deviation,
                        float *y);
/* d_x = r (g - mean g - n mean(g n)), g = d_y * weight. d_x may be d_y. */
void layer_norm_backward(const float *d_y, const float *normalized, const float *inverse_deviation,
                         const float *weight, size_t tokens, size_t width, float *d_x);
/* Gradients of weight and bias [width]: the columns' sums of d_y * normalized and of d_y, in double
 * precision over the rows in order. */
void layer_norm_gradient(const float *d_y, const float *normalized, size_t tokens, size_t width,
                         float *d_weight, float *d_bias);
/* t_normalized, t_inverse_deviation [tokens] and t_y from t_x. t_y may be t_x. */
void layer_norm_tangent(const float *t_x, const float *normalized, const float *inverse_deviation,
                        const float *weight, size_t tokens, size_t width, float *t_normalized,
                        float *t_inverse_deviation, float *t_y);
/* t_d_x may be t_d_y. */
void layer_norm_backward_tangent(const float *d_y, const float *t_d_y, const float *normalized,
                                 const float *t_normalized, const float *inverse_deviation,
                                 const float *t_inverse_deviation, const float *weight,
                                 size_t tokens, size_t width, float *t_d_x);

/* gelu(u) = u Phi(u) with the normal distribution function Phi (the "erf" form). Element-wise;
 * outputs may alias any input. */
void gelu_forward(const float *u, size_t count, float *y);
void gelu_backward(const float *d_y, const float *u, size_t count, float *d_u);
void gelu_tangent(const float *t_u, const float *u, size_t count, float *t_y);
void gelu_backward_tangent(const float *d_y, const float *t_d_y, const float *u, const float *t_u,
                           size_t count, float *t_d_u);

/* The rows of a packed microbatch that belong to one example, and the random stream of each: what
 * dropout needs to be independent of how examples were packed. */
struct dropout {
    float rate; /* 0: the identity */
    uint64_t seed, step;
    enum random_purpose purpose;
    uint64_t identity;       /* the place in the model */
    const size_t *offsets;   /* [num_sequences + 1] rows */
    const uint32_t *samples; /* [num_sequences] example numbers */
    size_t num_sequences;
    size_t first_feature, all_features; /* x has those from the first of so many; 0, 0: all */
};
/* x *= multipliers (its own transpose, so that it serves forward, backward and tangents alike). */
void dropout_apply(const struct dropout *dropout, size_t width, float *x);

/* Logits to log-probabilities, in place; width 1 or more. */
void log_softmax(size_t tokens, size_t width, float *x);

#endif
