/* Row-wise kernels. Rows are shared out among threads; columns are vectorised. */
#include "math/kernels.h"

#include "math/elementary.h"
#include "math/norm_row.h"
#include "math/row.h"

#include <math.h>

enum { CHUNK = 4096, COLUMNS = 64 };

void bias_add(const float *bias, size_t tokens, size_t width, float *y) {
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i) {
        float *row = y + i * width;
#pragma omp simd
        for (size_t j = 0; j < width; ++j)
            row[j] += bias[j];
    }
}

void vector_add(const float *x, size_t count, float *y) {
#pragma omp parallel for simd
    for (size_t i = 0; i < count; ++i)
        y[i] += x[i];
}

/* Column sums of x, or of x * factor, for a few columns; rows are far apart, so that a column alone
 * would read a whole cache line for each element. */
static void sum_columns(const float *x, const float *factor, size_t tokens, size_t width,
                        size_t first, size_t count, float *sums) {
    double sum[COLUMNS] = {0};
    for (size_t i = 0; i < tokens; ++i) {
        const float *row = x + i * width + first;
        const float *other = factor == NULL ? NULL : factor + i * width + first;
        if (other == NULL)
#pragma omp simd
            for (size_t j = 0; j < count; ++j)
                sum[j] += (double)row[j];
        else
#pragma omp simd
            for (size_t j = 0; j < count; ++j)
                sum[j] += (double)row[j] * (double)other[j];
    }
    for (size_t j = 0; j < count; ++j)
        sums[first + j] = (float)sum[j];
}

static void sum_all_columns(const float *x, const float *factor, size_t tokens, size_t width,
                            float *sums) {
#pragma omp parallel for
    for (size_t first = 0; first < width; first += COLUMNS)
        sum_columns(x, factor, tokens, width, first,
                    width - first < COLUMNS ? width - first : COLUMNS, sums);
}

void column_sums(const float *x, size_t tokens, size_t width, float *sums) {
    sum_all_columns(x, NULL, tokens, width, sums);
}

void layer_norm_forward(const float *x, const float *weight, const float *bias, float epsilon,
                        size_t tokens, size_t width, float *normalized, float *inverse_deviation,
                        float *y) {
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i) {
        const float *in = x + i * width;
        const float mean = row_sum(in, width) / (float)width;
        const float r = 1.0f / sqrtf(norm_row_squares(in, mean, width) / (float)width + epsilon);
        norm_row_forward(in, mean, r, weight, bias, width, normalized + i * width, y + i * width);
        inverse_deviation[i] = r;
    }
}

static struct norm_pair mean_of(struct norm_pair sums, size_t width) {
    return (struct norm_pair){sums.plain / (float)width, sums.normalized / (float)width};
}

void layer_norm_backward(const float *d_y, const float *normalized, const float *inverse_deviation,
                         const float *weight, size_t tokens, size_t width, float *d_x) {
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i) {
        const float *d = d_y + i * width, *n = normalized + i * width;
        const struct norm_pair mean = mean_of(norm_row_backward_sums(d, n, weight, width), width);
        norm_row_backward(d, n, inverse_deviation[i], weight, mean, width, d_x + i * width);
    }
}

void layer_norm_gradient(const float *d_y, const float *normalized, size_t tokens, size_t width,
                         float *d_weight, float *d_bias) {
    sum_all_columns(d_y, normalized, tokens, width, d_weight);
    sum_all_columns(d_y, NULL, tokens, width, d_bias);
}

void layer_norm_tangent(const float *t_x, const float *normalized, const float *inverse_deviation,
                        const float *weight, size_t tokens, size_t width, float *t_normalized,
                        float *t_inverse_deviation, float *t_y) {
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i) {
        const float *t = t_x + i * width, *n = normalized + i * width, r = inverse_deviation[i];
        const struct norm_pair mean = mean_of(norm_row_tangent_sums(t, n, width), width);
        t_inverse_deviation[i] = -r * r * mean.normalized;
        norm_row_tangent(t, n, r, weight, mean, width, t_normalized + i * width, t_y + i * width);
    }
}

void layer_norm_backward_tangent(const float *d_y, const float *t_d_y, const float *normalized,
                                 const float *t_normalized, const float *inverse_deviation,
                                 const float *t_inverse_deviation, const float *weight,
                                 size_t tokens, size_t width, float *t_d_x) {
    const float scale = 1.0f / (float)width;
#pragma omp parallel for
    for (size_t i = 0; i < tokens; ++i) {
        const float *d = d_y + i * width, *t = t_d_y + i * width;
        const float *n = normalized + i * width, *t_n = t_normalized + i * width;
        const struct norm_pairs sums = norm_row_backward_tangent_sums(d, t, n, t_n, weight, width);
        const struct norm_pairs mean = {norm_pair_scaled(sums.value, scale),
                                        norm_pair_scaled(sums.tangent, scale)};
        norm_row_backward_tangent(d, t, n, t_n, inverse_deviation[i], t_inverse_deviation[i],
                                  weight, mean, width, t_d_x + i * width);
    }
}

/* gelu' = Phi + u phi, gelu'' = phi (2 - u^2). */
void gelu_forward(const float *u, size_t count, float *y) {
#pragma omp parallel for simd schedule(static, CHUNK)
    for (size_t i = 0; i < count; ++i)
        y[i] = u[i] * normal_distribution(u[i], normal_density(u[i]));
}

void gelu_backward(const float *d_y, const float *u, size_t count, float *d_u) {
#pragma omp parallel for simd schedule(static, CHUNK)
    for (size_t i = 0; i < count; ++i) {
        const float density = normal_density(u[i]);
        d_u[i] = d_y[i] * (normal_distribution(u[i], density) + u[i] * density);
    }
}

void gelu_tangent(const float *t_u, const float *u, size_t count, float *t_y) {
    gelu_backward(t_u, u, count, t_y); /* the Jacobian is diagonal */
}

void gelu_backward_tangent(const float *d_y, const float *t_d_y, const float *u, const float *t_u,
                           size_t count, float *t_d_u) {
#pragma omp parallel for simd schedule(static, CHUNK)
    for (size_t i = 0; i < count; ++i) {
        const float density = normal_density(u[i]);
        const float first = normal_distribution(u[i], density) + u[i] * density;
        const float second = density * (2.0f - u[i] * u[i]);
        t_d_u[i] = t_d_y[i] * first + d_y[i] * second * t_u[i];
    }
}

static void dropout_sequence(const struct dropout *dropout, size_t sequence, size_t width,
                             float *x) {
    const struct random_stream stream =
        random_stream_make(dropout->seed, dropout->purpose, dropout->identity, dropout->step,
                           dropout->samples[sequence]);
    const size_t begin = dropout->offsets[sequence], end = dropout->offsets[sequence + 1];
    const size_t all = dropout->all_features;
    if (all == 0 || all == width) {
        random_dropout_multiply(&stream, dropout->rate, (end - begin) * width, x + begin * width);
        return;
    }
    for (size_t i = begin; i < end; ++i)
        random_dropout_multiply_from(&stream, dropout->rate,
                                     (i - begin) * all + dropout->first_feature, width,
                                     x + i * width);
}

void dropout_apply(const struct dropout *dropout, size_t width, float *x) {
    if (dropout->rate == 0)
        return;
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t i = 0; i < dropout->num_sequences; ++i)
        dropout_sequence(dropout, i, width, x);
}

/* Of a whole vocabulary: the sum is one of sums of pieces. */
static void log_softmax_row(float *row, size_t width) {
    enum { PIECE = 512 };
    const float largest = row_largest(row, width);
    double total = 0;
    for (size_t first = 0; first < width; first += PIECE) {
        const size_t end = width - first < PIECE ? width : first + PIECE;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t j = first; j < end; ++j)
            sum += exp_float(row[j] - largest);
        total += (double)sum;
    }
    /* cppcheck-suppress invalidFunctionArg ; at least 1, from the largest */
    const float log_sum = largest + (float)log(total);
#pragma omp simd
    for (size_t j = 0; j < width; ++j)
        row[j] -= log_sum;
}

void log_softmax(size_t tokens, size_t width, float *x) {
#pragma omp parallel for schedule(static, 1)
    for (size_t i = 0; i < tokens; ++i)
        log_softmax_row(x + i * width, width);
}
