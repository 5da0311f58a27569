/* Naive kernels in double precision, and their derivatives by central differences. Only forward
 * passes are written down: what a backward pass, a tangent and the tangent of a backward pass must
 * give follows from them, so that no mistake can be made twice. */
#ifndef AUTOLORA_TESTS_REFERENCE_H
#define AUTOLORA_TESTS_REFERENCE_H

#include "base/memory.h"
#include "math/matrix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

/* ---- data ---- */

/* Uniform in [-1, 1) from a state that it advances (SplitMix64). */
static inline float reference_uniform(uint64_t *state) {
    uint64_t x = *state += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    return (float)(x >> 40) * 0x1p-23f - 1.0f;
}

static inline float *reference_values(size_t count, float size, uint64_t seed) {
    float *values = memory_allocate(count, sizeof *values, "test values");
    for (size_t i = 0; i < count; ++i)
        values[i] = size * reference_uniform(&seed);
    return values;
}

static inline float *reference_filled(size_t count, float value) {
    float *values = memory_allocate(count, sizeof *values, "test values");
    for (size_t i = 0; i < count; ++i)
        values[i] = value;
    return values;
}

static inline double *reference_doubles(const float *values, size_t count) {
    double *doubles = memory_allocate(count, sizeof *doubles, "test values");
    for (size_t i = 0; i < count; ++i)
        doubles[i] = values[i];
    return doubles;
}

/* ---- comparison ---- */

/* max |x - y| <= tolerance * max |y| over every stride-th element. */
static inline void assert_near(const float *values, const double *expected, size_t count,
                               size_t stride, double tolerance, const char *name,
                               const char *what) {
    double largest = 0, error = 0;
    for (size_t i = 0; i < count; i += stride) {
        largest = fmax(largest, fabs(expected[i]));
        error = fmax(error, fabs((double)values[i] - expected[i]));
        if (!isfinite(values[i]))
            fail_msg("%s: %s: element %zu is not finite", name, what, i);
    }
    if (!(error <= tolerance * largest))
        fail_msg("%s: %s: error %g of %g", name, what, error, largest);
}

static inline void assert_same_bits(const float *values, const float *expected, size_t count,
                                    const char *name, const char *what) {
    for (size_t i = 0; i < count; ++i)
        if (memcmp(&values[i], &expected[i], sizeof *values) != 0)
            fail_msg("%s: %s: element %zu is %.9g, not %.9g", name, what, i, (double)values[i],
                     (double)expected[i]);
}

/* Equal but for the order of summation: BLIS picks other kernels for other numbers of threads. */
static inline void assert_same_but_for_rounding(const float *values, const float *expected,
                                                size_t count, const char *name, const char *what) {
    double largest = 0, error = 0;
    for (size_t i = 0; i < count; ++i) {
        largest = fmax(largest, fabs((double)expected[i]));
        error = fmax(error, fabs((double)values[i] - (double)expected[i]));
        if (isnan(values[i]) != isnan(expected[i]))
            fail_msg("%s: %s: element %zu is %g", name, what, i, (double)values[i]);
    }
    if (!(error <= 2e-6 * largest))
        fail_msg("%s: %s: error %g of %g", name, what, error, largest);
}

/* ---- derivatives ---- */

/* A function of `num_inputs` numbers with `num_outputs` results. */
struct reference {
    size_t num_inputs, num_outputs;
    void (*forward)(const void *context, const double *x, double *y);
    const void *context;
};

static const double REFERENCE_STEP = 1e-4;

/* f(x + step t) in fresh memory. */
static inline double *reference_at(const struct reference *f, const double *x, const double *t,
                                   double step) {
    double *moved = memory_allocate(f->num_inputs, sizeof *moved, "reference");
    double *y = memory_allocate(f->num_outputs, sizeof *y, "reference");
    for (size_t i = 0; i < f->num_inputs; ++i)
        moved[i] = x[i] + step * t[i];
    f->forward(f->context, moved, y);
    memory_free(moved);
    return y;
}

/* t_y = the derivative of f along t. */
static inline void reference_tangent(const struct reference *f, const double *x, const double *t,
                                     double *t_y) {
    double *above = reference_at(f, x, t, REFERENCE_STEP);
    double *below = reference_at(f, x, t, -REFERENCE_STEP);
    for (size_t j = 0; j < f->num_outputs; ++j)
        t_y[j] = (above[j] - below[j]) / (2 * REFERENCE_STEP);
    memory_free(above);
    memory_free(below);
}

/* The derivative of (c + step t_c) . f with respect to input i, at the point `moved`. */
static inline double reference_partial(const struct reference *f, double *moved, size_t i,
                                       const double *c, const double *t_c, double step) {
    const double place = moved[i];
    double *y[2], sum = 0;
    for (int side = 0; side < 2; ++side) {
        moved[i] = place + (side == 0 ? REFERENCE_STEP : -REFERENCE_STEP);
        y[side] = memory_allocate(f->num_outputs, sizeof **y, "reference");
        f->forward(f->context, moved, y[side]);
    }
    moved[i] = place;
    for (size_t j = 0; j < f->num_outputs; ++j)
        sum += (c[j] + step * t_c[j]) * (y[0][j] - y[1][j]);
    memory_free(y[0]);
    memory_free(y[1]);
    return sum / (2 * REFERENCE_STEP);
}

/* d_x = the gradient of c . f, every stride-th element. */
static inline void reference_gradient(const struct reference *f, const double *x, const double *c,
                                      size_t stride, double *d_x) {
    double *moved = memory_allocate(f->num_inputs, sizeof *moved, "reference");
    memcpy(moved, x, f->num_inputs * sizeof *moved);
    for (size_t i = 0; i < f->num_inputs; i += stride)
        d_x[i] = reference_partial(f, moved, i, c, c, 0);
    memory_free(moved);
}

/* t_d_x = the derivative of the gradient when x moves along t_x and c along t_c: the first `count`
 * inputs, every stride-th. */
static inline void reference_gradient_tangent(const struct reference *f, const double *x,
                                              const double *t_x, const double *c, const double *t_c,
                                              size_t count, size_t stride, double *t_d_x) {
    double *above = memory_allocate(f->num_inputs, sizeof *above, "reference");
    double *below = memory_allocate(f->num_inputs, sizeof *below, "reference");
    for (size_t i = 0; i < f->num_inputs; ++i) {
        above[i] = x[i] + REFERENCE_STEP * t_x[i];
        below[i] = x[i] - REFERENCE_STEP * t_x[i];
    }
    for (size_t i = 0; i < count; i += stride)
        t_d_x[i] = (reference_partial(f, above, i, c, t_c, REFERENCE_STEP) -
                    reference_partial(f, below, i, c, t_c, -REFERENCE_STEP)) /
                   (2 * REFERENCE_STEP);
    memory_free(above);
    memory_free(below);
}

/* ---- kernels ---- */

static inline double reference_element(struct matrix m, size_t i, size_t j) {
    return (double)m.data[i * m.row_stride + j * m.column_stride];
}

static inline double reference_gelu(double u) {
    return u * 0.5 * erfc(-u / sqrt(2.0));
}

static inline double reference_gelu_tanh(double u) {
    return u * 0.5 * (1 + tanh(sqrt(2 / acos(-1.0)) * (u + 0.044715 * u * u * u)));
}

static inline void reference_layer_norm(const double *x, const float *weight, const float *bias,
                                        double epsilon, size_t tokens, size_t width, double *y) {
    for (size_t i = 0; i < tokens; ++i) {
        const double *row = x + i * width;
        double mean = 0, variance = 0;
        for (size_t j = 0; j < width; ++j)
            mean += row[j] / (double)width;
        for (size_t j = 0; j < width; ++j)
            variance += (row[j] - mean) * (row[j] - mean) / (double)width;
        for (size_t j = 0; j < width; ++j)
            y[i * width + j] =
                (row[j] - mean) / sqrt(variance + epsilon) * (double)weight[j] + (double)bias[j];
    }
}

/* One head of one sequence: rows `stride` apart, mask [length, length]. */
static inline void reference_attention_head(const double *query, const double *key,
                                            const double *value, size_t length, size_t head_size,
                                            size_t stride, const double *mask, double *context) {
    double *p = memory_allocate(length, sizeof *p, "reference");
    for (size_t i = 0; i < length; ++i) {
        double sum = 0;
        for (size_t j = 0; j < length; ++j) {
            double score = 0;
            for (size_t c = 0; c < head_size; ++c)
                score += query[i * stride + c] * key[j * stride + c];
            p[j] = exp(score / sqrt((double)head_size));
            sum += p[j];
        }
        for (size_t c = 0; c < head_size; ++c) {
            double mean = 0;
            for (size_t j = 0; j < length; ++j)
                mean += p[j] / sum * mask[i * length + j] * value[j * stride + c];
            context[i * stride + c] = mean;
        }
    }
    memory_free(p);
}

/* y = x W^T + b + s ((mask * x) A^T * q) B. */
struct reference_linear {
    const float *weight, *bias;
    size_t tokens, input_size, output_size, rank;
    double scale;
    const double *mask; /* [tokens, input_size] */
};

static inline void reference_linear_forward(const struct reference_linear *f, const double *x,
                                            const double *q, const double *a, const double *b,
                                            double *y) {
    const size_t in = f->input_size, out = f->output_size;
    for (size_t t = 0; t < f->tokens; ++t) {
        const double *row = x + t * in, *mask = f->mask + t * in;
        for (size_t o = 0; o < out; ++o) {
            y[t * out + o] = (double)f->bias[o];
            for (size_t c = 0; c < in; ++c)
                y[t * out + o] += row[c] * (double)f->weight[o * in + c];
        }
        for (size_t r = 0; r < f->rank; ++r) {
            double h = 0;
            for (size_t c = 0; c < in; ++c)
                h += row[c] * mask[c] * a[r * in + c];
            for (size_t o = 0; o < out; ++o)
                y[t * out + o] += f->scale * h * q[r] * b[r * out + o];
        }
    }
}

#endif
