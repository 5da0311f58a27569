/* Importance of components: spectra of known moments, the ranks that follow; eigenvalues. */
#include "train/importance.h"

#include "math/eigen.h"
#include "reference.h"

#include <stdlib.h>

enum { K = 4 };

/* ---- eigenvalues ---- */

static int compare(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void check_eigenvalues(const double *matrix, size_t n, const double *expected) {
    double copy[64], values[8];
    memcpy(copy, matrix, n * n * sizeof *copy);
    eigenvalues_symmetric(copy, n, values);
    qsort(values, n, sizeof *values, compare);
    for (size_t i = 0; i < n; ++i)
        if (!(fabs(values[i] - expected[i]) < 1e-13 * (1 + fabs(expected[n - 1]))))
            fail_msg("eigenvalue %zu of %zu: %.17g, not %.17g", i, n, values[i], expected[i]);
}

static void test_eigenvalues(void **state) {
    (void)state;
    const double one[1] = {-3}, zero[4] = {0}, none[2] = {0, 0};
    check_eigenvalues(one, 1, one);
    check_eigenvalues(zero, 2, none);
    const double two[4] = {2, 1, 1, 2}, of_two[2] = {1, 3};
    check_eigenvalues(two, 2, of_two);
    /* The second difference of n points has 2 - 2 cos(pi i / (n + 1)). */
    double chain[64] = {0}, of_chain[8];
    for (size_t i = 0; i < 8; ++i) {
        chain[i * 8 + i] = 2;
        if (i > 0)
            chain[i * 8 + i - 1] = chain[(i - 1) * 8 + i] = -1;
        of_chain[i] = 2 - 2 * cos(3.14159265358979323846 * (double)(i + 1) / 9);
    }
    check_eigenvalues(chain, 8, of_chain);
    const double ones[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1}, of_ones[3] = {0, 0, 3};
    check_eigenvalues(ones, 3, of_ones);
}

/* ---- spectra ---- */

/* moments of z and dz with covariances M diag(input) M^T and M^-T diag(output) M^-1: whatever M,
 * the update is the same. M = 1 + mixing * (ones below the diagonal). */
static void moments_of(const double *input, const double *output, double mixing, float *moments) {
    double mix[K][K] = {{0}}, inverse[K][K] = {{0}}, in_trace = 0, out_trace = 0;
    for (size_t i = 0; i < K; ++i) {
        mix[i][i] = inverse[i][i] = 1;
        if (i > 0) { /* a bidiagonal matrix and its inverse */
            mix[i][i - 1] = mixing;
            for (size_t j = 0; j < i; ++j)
                inverse[i][j] = -mixing * inverse[i - 1][j];
        }
    }
    double in[K][K] = {{0}}, out[K][K] = {{0}};
    for (size_t i = 0; i < K; ++i)
        for (size_t j = 0; j < K; ++j)
            for (size_t l = 0; l < K; ++l) {
                in[i][j] += mix[i][l] * input[l] * mix[j][l];
                out[i][j] += inverse[l][i] * output[l] * inverse[l][j];
            }
    for (size_t i = 0; i < K; ++i) {
        in_trace += in[i][i];
        out_trace += out[i][i];
    }
    for (size_t i = 0; i < K; ++i) {
        moments[i] = (float)sqrt(in[i][i] * out[i][i]);
        for (size_t j = 0; j < K; ++j) {
            moments[K + i * K + j] = (float)(in[i][j] * out_trace);
            moments[K + K * K + i * K + j] = (float)(out[i][j] * in_trace);
        }
    }
}

static void assert_scores(const float *scores, const double *expected) {
    for (size_t j = 0; j < K; ++j)
        if (!(fabs((double)scores[j] - expected[j]) < 1e-3 * expected[0]))
            fail_msg("score %zu: %g, not %g", j, (double)scores[j], expected[j]);
}

static void test_spectrum(void **state) {
    (void)state;
    const double input[K] = {4, 1, 9, 0}, output[K] = {1, 16, 1, 5}, expected[K] = {4, 3, 2, 0};
    float moments[K + 2 * K * K], scores[K];
    for (int mixing = 0; mixing < 4; ++mixing) {
        moments_of(input, output, 0.7 * mixing, moments);
        importance_scores(THRESHOLD_SPECTRUM, moments, 1, K, scores);
        assert_scores(scores, expected);
    }
    assert_int_equal(memory_blocks_now(), 0);
}

/* z = (z_0, z_0, 0, 0) and dz likewise: two components that say the same are one, of twice the
 * size. */
static void test_equal_components_count_once(void **state) {
    (void)state;
    float moments[K + 2 * K * K] = {0}, scores[K];
    for (size_t i = 0; i < 2; ++i)
        for (size_t j = 0; j < 2; ++j)
            moments[K + i * K + j] = moments[K + K * K + i * K + j] = 2; /* trace 4 */
    importance_scores(THRESHOLD_SPECTRUM, moments, 1, K, scores);
    const double expected[K] = {2, 0, 0, 0};
    assert_scores(scores, expected);
}

static void test_scores_by_importance(void **state) {
    (void)state;
    float moments[2][K + 2 * K * K] = {{3, 1, 2, 0}, {5, 6, 7, 8}}, scores[2 * K];
    importance_scores(THRESHOLD_IMPORTANCE, moments[0], 2, K, scores);
    const float expected[2 * K] = {3, 1, 2, 0, 5, 6, 7, 8};
    assert_memory_equal(scores, expected, sizeof expected);
}

static void test_without_moments(void **state) {
    (void)state;
    float moments[2 * (K + 2 * K * K)] = {0}, scores[2 * K];
    size_t ranks[2];
    importance_scores(THRESHOLD_SPECTRUM, moments, 2, K, scores);
    importance_ranks(scores, 2, K, 0.3, ranks);
    assert_int_equal(ranks[0], K);
    assert_int_equal(ranks[1], K);
}

/* ---- ranks ---- */

static void test_ranks(void **state) {
    (void)state;
    /* Largest scores 10, 2, 1, 8: median 5. Not in order. */
    const float scores[4 * K] = {1, 10, 2, 0, 2, 1, 0, 0, 1, 1, 1, 1, 2.5f, 2.6f, 8, 2.4f};
    size_t ranks[4];
    importance_ranks(scores, 4, K, 0.5, ranks);
    const size_t expected[4] = {1, 0, 0, 3}, lower[4] = {2, 1, 0, 4};
    assert_memory_equal(ranks, expected, sizeof ranks);
    importance_ranks(scores, 4, K, 0.4, ranks);
    assert_memory_equal(ranks, lower, sizeof ranks);
    importance_ranks(scores, 3, K, 0.5, ranks); /* median 2 */
    const size_t of_three[3] = {3, 2, 4};
    assert_memory_equal(ranks, of_three, sizeof of_three);
}

static void test_which_rules_want_moments(void **state) {
    (void)state;
    assert_true(importance_is_wanted(THRESHOLD_IMPORTANCE));
    assert_true(importance_is_wanted(THRESHOLD_SPECTRUM));
    assert_false(importance_is_wanted(THRESHOLD_SOFTMAX));
    assert_false(importance_is_wanted(THRESHOLD_EFFECTIVE));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_eigenvalues),
        cmocka_unit_test(test_spectrum),
        cmocka_unit_test(test_equal_components_count_once),
        cmocka_unit_test(test_scores_by_importance),
        cmocka_unit_test(test_without_moments),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_which_rules_want_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
