/* Selection variables. */
#include "model/selection.h"

#include <math.h>

static void softmax(const float *logits, size_t k, float *selection) {
    double largest = logits[0], sum = 0;
    for (size_t j = 1; j < k; ++j)
        largest = fmax(largest, logits[j]);
    for (size_t j = 0; j < k; ++j)
        sum += exp(logits[j] - largest);
    for (size_t j = 0; j < k; ++j)
        selection[j] = (float)(exp(logits[j] - largest) / sum);
}

void selection_forward(enum selection_constraint constraint, const float *logits,
                       size_t num_modules, size_t k, float *selection) {
    for (size_t m = 0; m < num_modules; ++m) {
        const float *a = logits + m * k;
        float *q = selection + m * k;
        if (constraint == CONSTRAINT_SOFTMAX)
            softmax(a, k, q);
        else
            for (size_t j = 0; j < k; ++j)
                q[j] = constraint == CONSTRAINT_SIGMOID ? (float)(1.0 / (1.0 + exp(-(double)a[j])))
                                                        : a[j];
    }
}

void selection_backward(enum selection_constraint constraint, const float *selection,
                        const float *d_selection, size_t num_modules, size_t k, float *d_logits) {
    for (size_t m = 0; m < num_modules; ++m) {
        const float *q = selection + m * k, *d_q = d_selection + m * k;
        float *d_a = d_logits + m * k;
        double mean = 0;
        if (constraint == CONSTRAINT_SOFTMAX)
            for (size_t j = 0; j < k; ++j)
                mean += (double)q[j] * d_q[j];
        for (size_t j = 0; j < k; ++j) {
            if (constraint == CONSTRAINT_SOFTMAX)
                d_a[j] = (float)(q[j] * (d_q[j] - mean));
            else if (constraint == CONSTRAINT_SIGMOID)
                d_a[j] = q[j] * (1.0f - q[j]) * d_q[j];
            else
                d_a[j] = d_q[j];
        }
    }
}

/* Of one module, in double precision. */
static double share_of(enum threshold_rule rule, const float *a, const float *q, double sum,
                       size_t j) {
    return rule == THRESHOLD_SOFTMAX ? q[j] : a[j] / sum;
}

static double sum_of(const float *values, size_t count) {
    double sum = 0;
    for (size_t j = 0; j < count; ++j)
        sum += values[j];
    return sum;
}

void selection_shares(enum threshold_rule rule, const float *logits, const float *selection,
                      size_t num_modules, size_t k, float *shares) {
    for (size_t m = 0; m < num_modules; ++m) {
        const float *a = logits + m * k, *q = selection + m * k;
        const double sum = sum_of(a, k);
        for (size_t j = 0; j < k; ++j)
            shares[m * k + j] = (float)share_of(rule, a, q, sum, j);
    }
}

void selection_ranks(enum threshold_rule rule, const float *logits, const float *selection,
                     size_t num_modules, size_t k, size_t *ranks) {
    const double threshold = (1.0 - 1e-6) / (double)k;
    for (size_t m = 0; m < num_modules; ++m) {
        const float *a = logits + m * k, *q = selection + m * k;
        const double sum = sum_of(a, k);
        ranks[m] = 0;
        for (size_t j = 0; j < k; ++j)
            ranks[m] += share_of(rule, a, q, sum, j) >= threshold;
    }
}

double selection_entropy(const float *selection, size_t k) {
    double sum = 0, entropy = 0;
    for (size_t j = 0; j < k; ++j)
        sum += fabs((double)selection[j]);
    for (size_t j = 0; j < k; ++j) {
        const double p = sum > 0 ? fabs((double)selection[j]) / sum : 0;
        if (p > 0)
            entropy -= p * log(p);
    }
    return entropy;
}
