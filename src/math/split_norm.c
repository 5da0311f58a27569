/* Layer norm over a grid row: each column's sums, added up, then the row element by element: the
 * formulas of math/norm_row.h. */
#include "math/split_norm.h"

#include "math/kernels.h"
#include "math/norm_row.h"
#include "math/row.h"

#include <math.h>

void split_norm_forward(const struct grid *grid, struct share features, const float *x,
                        const float *weight, const float *bias, float epsilon, size_t tokens,
                        float *normalized, float *inverse_deviation, float *y) {
    const size_t width = features.count;
    if (grid == NULL) {
        layer_norm_forward(x, weight, bias, epsilon, tokens, width, normalized, inverse_deviation,
                           y);
        return;
    }
    const float scale = 1.0f / (float)features.all;
    float *sums = grid_room(grid, 2 * tokens), *squares = sums + tokens;
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i)
        sums[i] = row_sum(x + i * width, width);
    grid_row_sum(grid, sums, tokens);
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i)
        squares[i] = norm_row_squares(x + i * width, sums[i] * scale, width);
    grid_row_sum(grid, squares, tokens);
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i) {
        const float r = 1.0f / sqrtf(squares[i] * scale + epsilon);
        norm_row_forward(x + i * width, sums[i] * scale, r, weight, bias, width,
                         normalized + i * width, y + i * width);
        inverse_deviation[i] = r;
    }
}

/* Room for a sum of each token; as many floats as it has go over the grid row. */
enum { PAIR_FLOATS = sizeof(struct norm_pair) / sizeof(float) };
enum { PAIRS_FLOATS = sizeof(struct norm_pairs) / sizeof(float) };

void split_norm_backward(const struct grid *grid, struct share features, const float *d_y,
                         const float *normalized, const float *inverse_deviation,
                         const float *weight, size_t tokens, float *d_x) {
    const size_t width = features.count;
    if (grid == NULL) {
        layer_norm_backward(d_y, normalized, inverse_deviation, weight, tokens, width, d_x);
        return;
    }
    const float scale = 1.0f / (float)features.all;
    float *room = grid_room(grid, PAIR_FLOATS * tokens);
    struct norm_pair *sums = (struct norm_pair *)room;
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i)
        sums[i] = norm_row_backward_sums(d_y + i * width, normalized + i * width, weight, width);
    grid_row_sum(grid, room, PAIR_FLOATS * tokens);
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i)
        norm_row_backward(d_y + i * width, normalized + i * width, inverse_deviation[i], weight,
                          norm_pair_scaled(sums[i], scale), width, d_x + i * width);
}

void split_norm_tangent(const struct grid *grid, struct share features, const float *t_x,
                        const float *normalized, const float *inverse_deviation,
                        const float *weight, size_t tokens, float *t_normalized,
                        float *t_inverse_deviation, float *t_y) {
    const size_t width = features.count;
    if (grid == NULL) {
        layer_norm_tangent(t_x, normalized, inverse_deviation, weight, tokens, width, t_normalized,
                           t_inverse_deviation, t_y);
        return;
    }
    const float scale = 1.0f / (float)features.all;
    float *room = grid_room(grid, PAIR_FLOATS * tokens);
    struct norm_pair *sums = (struct norm_pair *)room;
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i)
        sums[i] = norm_row_tangent_sums(t_x + i * width, normalized + i * width, width);
    grid_row_sum(grid, room, PAIR_FLOATS * tokens);
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i) {
        const struct norm_pair mean = norm_pair_scaled(sums[i], scale);
        const float r = inverse_deviation[i];
        t_inverse_deviation[i] = -r * r * mean.normalized;
        norm_row_tangent(t_x + i * width, normalized + i * width, r, weight, mean, width,
                         t_normalized + i * width, t_y + i * width);
    }
}

void split_norm_backward_tangent(const struct grid *grid, struct share features, const float *d_y,
                                 const float *t_d_y, const float *normalized,
                                 const float *t_normalized, const float *inverse_deviation,
                                 const float *t_inverse_deviation, const float *weight,
                                 size_t tokens, float *t_d_x) {
    const size_t width = features.count;
    if (grid == NULL) {
        layer_norm_backward_tangent(d_y, t_d_y, normalized, t_normalized, inverse_deviation,
                                    t_inverse_deviation, weight, tokens, width, t_d_x);
        return;
    }
    const float scale = 1.0f / (float)features.all;
    float *room = grid_room(grid, PAIRS_FLOATS * tokens);
    struct norm_pairs *sums = (struct norm_pairs *)room;
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i)
        sums[i] = norm_row_backward_tangent_sums(d_y + i * width, t_d_y + i * width,
                                                 normalized + i * width, t_normalized + i * width,
                                                 weight, width);
    grid_row_sum(grid, room, PAIRS_FLOATS * tokens);
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i) {
        const struct norm_pairs mean = {norm_pair_scaled(sums[i].value, scale),
                                        norm_pair_scaled(sums[i].tangent, scale)};
        norm_row_backward_tangent(d_y + i * width, t_d_y + i * width, normalized + i * width,
                                  t_normalized + i * width, inverse_deviation[i],
                                  t_inverse_deviation[i], weight, mean, width, t_d_x + i * width);
    }
}
