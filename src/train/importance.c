/* Importance of components: moments of the gradient between z and B. */
#include "train/importance.h"

#include "base/memory.h"
#include "math/eigen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Weight of the newest batch in the running means. */
static const double SHARE = 0.01;

bool importance_is_wanted(enum threshold_rule rule) {
    return rule == THRESHOLD_IMPORTANCE || rule == THRESHOLD_SPECTRUM;
}

size_t importance_moments_size(size_t k) {
    return k + 2 * k * k;
}

/* G = dB B^T, [k, k]. */
static void core_gradient(const float *d_b, const float *b, size_t k, size_t width, double *core) {
    for (size_t i = 0; i < k; ++i)
        for (size_t j = 0; j < k; ++j) {
            double sum = 0;
            for (size_t o = 0; o < width; ++o)
                sum += (double)d_b[i * width + o] * b[j * width + o];
            core[i * k + j] = sum;
        }
}

static void mix(double value, float *mean) {
    *mean = (float)((1 - SHARE) * *mean + SHARE * value);
}

static void observe_module(const double *core, size_t k, float *moments) {
    float *own = moments, *left = own + k, *right = left + k * k;
    for (size_t i = 0; i < k; ++i) {
        mix(fabs(core[i * k + i]), &own[i]);
        for (size_t j = 0; j < k; ++j) {
            double rows = 0, columns = 0;
            for (size_t l = 0; l < k; ++l) {
                rows += core[i * k + l] * core[j * k + l];
                columns += core[l * k + i] * core[l * k + j];
            }
            mix(rows, &left[i * k + j]);
            mix(columns, &right[i * k + j]);
        }
    }
}

void importance_observe(const struct stage *stage, const float *factors, const float *gradient,
                        float *moments) {
    const size_t k = stage->options.adapters.num_components;
    double *core = memory_allocate(k * k, sizeof *core, "a gradient");
    for (size_t i = 0; i < stage->options.num_blocks; ++i)
        for (size_t p = 0; p < NUM_PROJECTIONS; ++p) {
            const struct linear *linear = &stage->blocks[i].projections[p];
            const struct adapter *adapter = &linear->adapter;
            if (adapter->rank == 0)
                continue;
            core_gradient(gradient + adapter->b_offset, factors + adapter->b_offset, k,
                          linear->output_size, core);
            observe_module(core, k,
                           moments + (adapter->module - stage->first_module) *
                                         importance_moments_size(k));
        }
    memory_free(core);
}

/* L with L L^T = matrix, which may be singular: [k, k] in place, the upper triangle 0. */
static void cholesky(double *matrix, size_t k) {
    double largest = 0;
    for (size_t i = 0; i < k; ++i)
        largest = fmax(largest, matrix[i * k + i]);
    for (size_t j = 0; j < k; ++j) {
        for (size_t i = j; i < k; ++i)
            for (size_t l = 0; l < j; ++l)
                matrix[i * k + j] -= matrix[i * k + l] * matrix[j * k + l];
        const double pivot = matrix[j * k + j];
        const double root = pivot > 1e-12 * largest ? sqrt(pivot) : 0;
        for (size_t i = j; i < k; ++i)
            matrix[i * k + j] = root > 0 ? matrix[i * k + j] / root : 0;
        for (size_t i = 0; i < j; ++i)
            matrix[i * k + j] = 0;
    }
}

/* result = L^T M L. */
static void congruence(const double *l, const double *m, size_t k, double *scratch,
                       double *result) {
    for (size_t i = 0; i < k; ++i)
        for (size_t j = 0; j < k; ++j) {
            scratch[i * k + j] = 0;
            for (size_t n = 0; n < k; ++n)
                scratch[i * k + j] += m[i * k + n] * l[n * k + j];
        }
    for (size_t i = 0; i < k; ++i)
        for (size_t j = 0; j < k; ++j) {
            result[i * k + j] = 0;
            for (size_t n = 0; n < k; ++n)
                result[i * k + j] += l[n * k + i] * scratch[n * k + j];
        }
}

static int compare_falling(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a < b) - (a > b);
}

/* Eigenvalues of left * right / trace(left) are those of L^T right L / trace(left). */
static void spectrum_of(const float *moments, size_t k, double *work, float *scores) {
    double *left = work, *right = left + k * k, *scratch = right + k * k, *both = scratch + k * k;
    double *values = both + k * k, trace = 0;
    for (size_t i = 0; i < k * k; ++i) {
        left[i] = moments[k + i];
        right[i] = moments[k + k * k + i];
    }
    for (size_t i = 0; i < k; ++i)
        trace += left[i * k + i];
    cholesky(left, k);
    congruence(left, right, k, scratch, both);
    eigenvalues_symmetric(both, k, values);
    qsort(values, k, sizeof *values, compare_falling);
    for (size_t j = 0; j < k; ++j)
        scores[j] = trace > 0 ? (float)sqrt(fmax(values[j], 0) / trace) : 0;
}

void importance_scores(enum threshold_rule rule, const float *moments, size_t num_modules, size_t k,
                       float *scores) {
    const size_t size = importance_moments_size(k);
    double *work = memory_allocate(4 * k * k + k, sizeof *work, "a spectrum");
    for (size_t m = 0; m < num_modules; ++m)
        if (rule == THRESHOLD_SPECTRUM)
            spectrum_of(moments + m * size, k, work, scores + m * k);
        else
            memcpy(scores + m * k, moments + m * size, k * sizeof *scores);
    memory_free(work);
}

static double median_of_largest(const float *scores, size_t num_modules, size_t k) {
    double *largest = memory_allocate(num_modules, sizeof *largest, "scores");
    for (size_t m = 0; m < num_modules; ++m)
        for (size_t j = 0; j < k; ++j)
            largest[m] = fmax(largest[m], scores[m * k + j]);
    qsort(largest, num_modules, sizeof *largest, compare_falling);
    const double median = (largest[(num_modules - 1) / 2] + largest[num_modules / 2]) / 2;
    memory_free(largest);
    return median;
}

void importance_ranks(const float *scores, size_t num_modules, size_t k, double threshold,
                      size_t *ranks) {
    const double least = threshold * median_of_largest(scores, num_modules, k);
    for (size_t m = 0; m < num_modules; ++m) {
        ranks[m] = 0;
        for (size_t j = 0; j < k; ++j)
            ranks[m] += scores[m * k + j] >= least;
    }
}
