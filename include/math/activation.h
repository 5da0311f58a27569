/* The non-linearity between the two feed-forward projections, and its derivatives in the order of
 * math/kernels.h. Element-wise; outputs may alias any input. */
#ifndef AUTOLORA_MATH_ACTIVATION_H
#define AUTOLORA_MATH_ACTIVATION_H

#include <stddef.h>

enum activation {
    ACTIVATION_GELU,     /* u Phi(u), Phi the normal distribution function: "gelu" */
    ACTIVATION_GELU_TANH /* u (1 + tanh(sqrt(2 / pi) (u + 0.044715 u^3))) / 2: "gelu_new" */
};

void activation_forward(enum activation activation, const float *u, size_t count, float *y);
void activation_backward(enum activation activation, const float *d_y, const float *u, size_t count,
                         float *d_u);
void activation_tangent(enum activation activation, const float *t_u, const float *u, size_t count,
                        float *t_y);
void activation_backward_tangent(enum activation activation, const float *d_y, const float *t_d_y,
                                 const float *u, const float *t_u, size_t count, float *t_d_u);

#endif
