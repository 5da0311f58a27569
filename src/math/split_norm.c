/* Layer norm over a grid row: each column's sums, added up, then the row element by element. The
 * formulas are those of math/kernels.c. */
#include "math/split_norm.h"

#include "math/kernels.h"
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
    for (size_t i = 0; i < tokens; ++i) {
        const float *in = x + i * width, mean = sums[i] * scale;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t j = 0; j < width; ++j)
            sum += (in[j] - mean) * (in[j] - mean);
        squares[i] = sum;
    }
    grid_row_sum(grid, squares, tokens);
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i) {
        const float *in = x + i * width, mean = sums[i] * scale;
        float *n = normalized + i * width, *out = y + i * width;
        const float r = 1.0f / sqrtf(squares[i] * scale + epsilon);
#pragma omp simd
        for (size_t j = 0; j < width; ++j) {
            n[j] = (in[j] - mean) * r;
            out[j] = n[j] * weight[j] + bias[j];
        }
        inverse_deviation[i] = r;
    }
}

void split_norm_backward(const struct grid *grid, struct share features, const float *d_y,
                         const float *normalized, const float *inverse_deviation,
                         const float *weight, size_t tokens, float *d_x) {
    const size_t width = features.count;
    if (grid == NULL) {
        layer_norm_backward(d_y, normalized, inverse_deviation, weight, tokens, width, d_x);
        return;
    }
    const float scale = 1.0f / (float)features.all;
    float *sums = grid_room(grid, 2 * tokens); /* of g and g n, g = d_y * weight */
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i) {
        const float *d = d_y + i * width, *n = normalized + i * width;
        float sum_g = 0, sum_gn = 0;
#pragma omp simd reduction(+ : sum_g, sum_gn)
        for (size_t j = 0; j < width; ++j) {
            sum_g += d[j] * weight[j];
            sum_gn += d[j] * weight[j] * n[j];
        }
        sums[2 * i] = sum_g;
        sums[2 * i + 1] = sum_gn;
    }
    grid_row_sum(grid, sums, 2 * tokens);
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i) {
        const float *d = d_y + i * width, *n = normalized + i * width;
        float *out = d_x + i * width;
        const float mean_g = sums[2 * i] * scale, mean_gn = sums[2 * i + 1] * scale;
        const float r = inverse_deviation[i];
#pragma omp simd
        for (size_t j = 0; j < width; ++j)
            out[j] = r * (d[j] * weight[j] - mean_g - n[j] * mean_gn);
    }
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
    float *sums = grid_room(grid, 2 * tokens); /* of t and t n */
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i) {
        sums[2 * i] = row_sum(t_x + i * width, width);
        sums[2 * i + 1] = row_dot(t_x + i * width, normalized + i * width, width);
    }
    grid_row_sum(grid, sums, 2 * tokens);
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i) {
        const float *t = t_x + i * width, *n = normalized + i * width;
        float *t_n = t_normalized + i * width, *out = t_y + i * width;
        const float mean_t = sums[2 * i] * scale, mean_tn = sums[2 * i + 1] * scale;
        const float r = inverse_deviation[i];
        t_inverse_deviation[i] = -r * r * mean_tn;
#pragma omp simd
        for (size_t j = 0; j < width; ++j) {
            t_n[j] = r * (t[j] - mean_t - n[j] * mean_tn);
            out[j] = t_n[j] * weight[j];
        }
    }
}

enum { NUM_SUMS = 4 }; /* of g, g n, t_g and t_g n + g t_n */

static void backward_tangent_sums(const float *d, const float *t, const float *n, const float *t_n,
                                  const float *weight, size_t width, float sums[NUM_SUMS]) {
    float sum_g = 0, sum_gn = 0, sum_t = 0, sum_tn = 0;
#pragma omp simd reduction(+ : sum_g, sum_gn, sum_t, sum_tn)
    for (size_t j = 0; j < width; ++j) {
        const float g = d[j] * weight[j], t_g = t[j] * weight[j];
        sum_g += g;
        sum_gn += g * n[j];
        sum_t += t_g;
        sum_tn += t_g * n[j] + g * t_n[j];
    }
    sums[0] = sum_g;
    sums[1] = sum_gn;
    sums[2] = sum_t;
    sums[3] = sum_tn;
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
    float *sums = grid_room(grid, NUM_SUMS * tokens);
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i)
        backward_tangent_sums(d_y + i * width, t_d_y + i * width, normalized + i * width,
                              t_normalized + i * width, weight, width, sums + NUM_SUMS * i);
    grid_row_sum(grid, sums, NUM_SUMS * tokens);
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i) {
        const float *d = d_y + i * width, *t = t_d_y + i * width;
        const float *n = normalized + i * width, *t_n = t_normalized + i * width;
        const float *sum = sums + NUM_SUMS * i;
        float *out = t_d_x + i * width;
        const float mean_g = sum[0] * scale, mean_gn = sum[1] * scale;
        const float mean_t = sum[2] * scale, mean_tn = sum[3] * scale;
        const float r = inverse_deviation[i], t_r = t_inverse_deviation[i];
#pragma omp simd
        for (size_t j = 0; j < width; ++j) {
            const float inner = d[j] * weight[j] - mean_g - n[j] * mean_gn;
            const float t_inner = t[j] * weight[j] - mean_t - t_n[j] * mean_gn - n[j] * mean_tn;
            out[j] = t_r * inner + r * t_inner;
        }
    }
}
