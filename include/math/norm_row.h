/* Layer norm of one row, or of the piece of one that a process of a grid has: sums over the row,
 * and what follows element by element once the means over the whole row are known. math/kernels.c
 * and math/split_norm.c put them together. n: normalized row; r: inverse deviation; g = d weight.
 */
#ifndef AUTOLORA_MATH_NORM_ROW_H
#define AUTOLORA_MATH_NORM_ROW_H

#include <stddef.h>

/* Sum of (x - mean)^2. */
static inline float norm_row_squares(const float *x, float mean, size_t count) {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (size_t j = 0; j < count; ++j)
        squares += (x[j] - mean) * (x[j] - mean);
    return squares;
}

static inline void norm_row_forward(const float *x, float mean, float r, const float *weight,
                                    const float *bias, size_t count, float *n, float *y) {
#pragma omp simd
    for (size_t j = 0; j < count; ++j) {
        n[j] = (x[j] - mean) * r;
        y[j] = n[j] * weight[j] + bias[j];
    }
}

/* Sums, or means, of g and g n; of a tangent t, of t and t n. */
struct norm_pair {
    float plain, normalized;
};

static inline struct norm_pair norm_pair_scaled(struct norm_pair sums, float scale) {
    return (struct norm_pair){sums.plain * scale, sums.normalized * scale};
}

static inline struct norm_pair norm_row_backward_sums(const float *d, const float *n,
                                                      const float *weight, size_t count) {
    float sum_g = 0, sum_gn = 0;
#pragma omp simd reduction(+ : sum_g, sum_gn)
    for (size_t j = 0; j < count; ++j) {
        sum_g += d[j] * weight[j];
        sum_gn += d[j] * weight[j] * n[j];
    }
    return (struct norm_pair){sum_g, sum_gn};
}

static inline void norm_row_backward(const float *d, const float *n, float r, const float *weight,
                                     struct norm_pair mean, size_t count, float *d_x) {
#pragma omp simd
    for (size_t j = 0; j < count; ++j)
        d_x[j] = r * (d[j] * weight[j] - mean.plain - n[j] * mean.normalized);
}

static inline struct norm_pair norm_row_tangent_sums(const float *t, const float *n, size_t count) {
    float sum_t = 0, sum_tn = 0;
#pragma omp simd reduction(+ : sum_t, sum_tn)
    for (size_t j = 0; j < count; ++j) {
        sum_t += t[j];
        sum_tn += t[j] * n[j];
    }
    return (struct norm_pair){sum_t, sum_tn};
}

static inline void norm_row_tangent(const float *t, const float *n, float r, const float *weight,
                                    struct norm_pair mean, size_t count, float *t_n, float *t_y) {
#pragma omp simd
    for (size_t j = 0; j < count; ++j) {
        t_n[j] = r * (t[j] - mean.plain - n[j] * mean.normalized);
        t_y[j] = t_n[j] * weight[j];
    }
}

/* Of the backward pass and its tangent: of g and g n; of t_g and t_g n + g t_n. */
struct norm_pairs {
    struct norm_pair value, tangent;
};

static inline struct norm_pairs norm_row_backward_tangent_sums(const float *d, const float *t,
                                                               const float *n, const float *t_n,
                                                               const float *weight, size_t count) {
    float sum_g = 0, sum_gn = 0, sum_t = 0, sum_tn = 0;
#pragma omp simd reduction(+ : sum_g, sum_gn, sum_t, sum_tn)
    for (size_t j = 0; j < count; ++j) {
        const float g = d[j] * weight[j], t_g = t[j] * weight[j];
        sum_g += g;
        sum_gn += g * n[j];
        sum_t += t_g;
        sum_tn += t_g * n[j] + g * t_n[j];
    }
    return (struct norm_pairs){{sum_g, sum_gn}, {sum_t, sum_tn}};
}

static inline void norm_row_backward_tangent(const float *d, const float *t, const float *n,
                                             const float *t_n, float r, float t_r,
                                             const float *weight, struct norm_pairs mean,
                                             size_t count, float *t_d_x) {
#pragma omp simd
    for (size_t j = 0; j < count; ++j) {
        const float inner = d[j] * weight[j] - mean.value.plain - n[j] * mean.value.normalized;
        const float t_inner = t[j] * weight[j] - mean.tangent.plain -
                              t_n[j] * mean.value.normalized - n[j] * mean.tangent.normalized;
        t_d_x[j] = t_r * inner + r * t_inner;
    }
}

#endif
