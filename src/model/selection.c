/* Selection variables. */
#include "model/selection.h"

#include <math.h>

/* The entropy's slope at a share of 0 is infinite. */
static const double LEAST_SHARE = 1e-12;

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
    return rule == THRESHOLD_RAW_SUM ? a[j] / sum : q[j];
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
        if (rule == THRESHOLD_EFFECTIVE) {
            ranks[m] = (size_t)lround(exp(selection_entropy(q, k)));
            continue;
        }
        const double sum = sum_of(a, k);
        ranks[m] = 0;
        for (size_t j = 0; j < k; ++j)
            ranks[m] += share_of(rule, a, q, sum, j) >= threshold;
    }
}

static double sum_of_sizes(const float *values, size_t count) {
    double sum = 0;
    for (size_t j = 0; j < count; ++j)
        sum += fabs((double)values[j]);
    return sum;
}

/* With p = |q| / sum |q|: dH/dq_j = -sign(q_j) (log p_j + H) / sum |q|. */
void selection_add_entropy_gradient(double weight, const float *selection, size_t num_modules,
                                    size_t k, float *d_selection) {
    for (size_t m = 0; weight != 0 && m < num_modules; ++m) {
        const float *q = selection + m * k;
        const double sum = sum_of_sizes(q, k), entropy = selection_entropy(q, k);
        for (size_t j = 0; sum > 0 && j < k; ++j) {
            const double p = fmax(fabs((double)q[j]) / sum, LEAST_SHARE);
            const double slope = -(log(p) + entropy) / sum;
            d_selection[m * k + j] += (float)(weight * (q[j] < 0 ? -slope : slope));
        }
    }
}

double selection_entropy(const float *selection, size_t k) {
    const double sum = sum_of_sizes(selection, k);
    double entropy = 0;
    for (size_t j = 0; j < k; ++j) {
        const double p = sum > 0 ? fabs((double)selection[j]) / sum : 0;
        if (p > 0)
            entropy -= p * log(p);
    }
    return entropy;
}
