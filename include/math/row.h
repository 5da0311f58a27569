/* What is done to one row of floats again and again. Vectorised, in one fixed order. */
#ifndef AUTOLORA_MATH_ROW_H
#define AUTOLORA_MATH_ROW_H

#include "math/elementary.h"

#include <stddef.h>

static inline float row_sum(const float *row, size_t count) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < count; ++j)
        sum += row[j];
    return sum;
}

static inline float row_dot(const float *a, const float *b, size_t count) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < count; ++j)
        sum += a[j] * b[j];
    return sum;
}

/* Of a softmax: log sum exp = largest + log(sum). */
struct row_normalizer {
    float largest, sum;
};

/* Of count elements, 1 or more. */
static inline float row_largest(const float *row, size_t count) {
    float largest = row[0];
#pragma omp simd reduction(max : largest)
    for (size_t j = 0; j < count; ++j)
        largest = row[j] > largest ? row[j] : largest;
    return largest;
}

/* row = softmax(row), count 1 or more. */
static inline struct row_normalizer row_softmax(float *row, size_t count) {
    const float largest = row_largest(row, count);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < count; ++j) {
        row[j] = exp_float(row[j] - largest);
        sum += row[j];
    }
    const float inverse = 1.0f / sum;
#pragma omp simd
    for (size_t j = 0; j < count; ++j)
        row[j] *= inverse;
    return (struct row_normalizer){largest, sum};
}

#endif
