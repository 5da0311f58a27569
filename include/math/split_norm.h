/* Layer norm of rows whose features are split among the columns of a grid: the passes of
 * math/kernels.h with the arguments of a piece [tokens, features.count]; weight and bias are of the
 * piece's features. Sums over a row are collective over the grid row. Without a grid the functions
 * are those of math/kernels.h. */
#ifndef AUTOLORA_MATH_SPLIT_NORM_H
#define AUTOLORA_MATH_SPLIT_NORM_H

#include "math/grid.h"

void split_norm_forward(const struct grid *grid, struct share features, const float *x,
                        const float *weight, const float *bias, float epsilon, size_t tokens,
                        float *normalized, float *inverse_deviation, float *y);
void split_norm_backward(const struct grid *grid, struct share features, const float *d_y,
                         const float *normalized, const float *inverse_deviation,
                         const float *weight, size_t tokens, float *d_x);
void split_norm_tangent(const struct grid *grid, struct share features, const float *t_x,
                        const float *normalized, const float *inverse_deviation,
                        const float *weight, size_t tokens, float *t_normalized,
                        float *t_inverse_deviation, float *t_y);
void split_norm_backward_tangent(const struct grid *grid, struct share features, const float *d_y,
                                 const float *t_d_y, const float *normalized,
                                 const float *t_normalized, const float *inverse_deviation,
                                 const float *t_inverse_deviation, const float *weight,
                                 size_t tokens, float *t_d_x);

#endif
