/* Selection variables: constraints, their gradients, the ranks that a threshold gives, entropy. */
#include "model/selection.h"

#include "reference.h"

enum { MODULES = 3, K = 5, SIZE = MODULES * K };

static const enum selection_constraint CONSTRAINTS[] = {CONSTRAINT_SOFTMAX, CONSTRAINT_SIGMOID,
                                                        CONSTRAINT_NONE};

/* ---- constraints ---- */

static void test_softmax(void **state) {
    (void)state;
    const float logits[2][3] = {{0, logf(2), logf(5)}, {1000, 1000, -1000}};
    float q[2][3];
    selection_forward(CONSTRAINT_SOFTMAX, &logits[0][0], 2, 3, &q[0][0]);
    const float expected[2][3] = {{0.125f, 0.25f, 0.625f}, {0.5f, 0.5f, 0}};
    for (int m = 0; m < 2; ++m)
        for (int j = 0; j < 3; ++j)
            assert_true(fabsf(q[m][j] - expected[m][j]) < 1e-6f);
}

static void test_softmax_sums_to_1_in_each_module(void **state) {
    (void)state;
    float *logits = reference_values(SIZE, 4, 1), *q = reference_filled(SIZE, NAN);
    selection_forward(CONSTRAINT_SOFTMAX, logits, MODULES, K, q);
    for (size_t m = 0; m < MODULES; ++m) {
        double sum = 0;
        for (size_t j = 0; j < K; ++j)
            sum += (double)q[m * K + j];
        assert_true(fabs(sum - 1) < 1e-6);
    }
    memory_free(logits);
    memory_free(q);
}

static void test_sigmoid_and_none(void **state) {
    (void)state;
    const float logits[4] = {0, logf(3), -1000, 1000};
    const float expected[4] = {0.5f, 0.75f, 0, 1};
    float q[4];
    selection_forward(CONSTRAINT_SIGMOID, logits, 2, 2, q);
    for (int j = 0; j < 4; ++j)
        assert_true(fabsf(q[j] - expected[j]) < 1e-6f);
    selection_forward(CONSTRAINT_NONE, logits, 2, 2, q);
    assert_memory_equal(q, logits, sizeof q);
}

/* ---- gradients ---- */

static void constraint_reference(const void *context, const double *x, double *y) {
    const enum selection_constraint *constraint = context;
    for (size_t m = 0; m < MODULES; ++m) {
        double sum = 0;
        for (size_t j = 0; j < K; ++j)
            sum += exp(x[m * K + j]);
        for (size_t i = m * K; i < (m + 1) * K; ++i)
            y[i] = *constraint == CONSTRAINT_SOFTMAX   ? exp(x[i]) / sum
                   : *constraint == CONSTRAINT_SIGMOID ? 1 / (1 + exp(-x[i]))
                                                       : x[i];
    }
}

static void check_backward(const enum selection_constraint *constraint) {
    const struct reference f = {SIZE, SIZE, constraint_reference, constraint};
    float *logits = reference_values(SIZE, 2, 1), *d_q = reference_values(SIZE, 1, 2);
    float *q = reference_filled(SIZE, NAN), *d_logits = reference_filled(SIZE, NAN);
    double *x = reference_doubles(logits, SIZE), *c = reference_doubles(d_q, SIZE);
    double expected[SIZE];
    selection_forward(*constraint, logits, MODULES, K, q);
    selection_backward(*constraint, q, d_q, MODULES, K, d_logits);
    reference_gradient(&f, x, c, 1, expected);
    assert_near(d_logits, expected, SIZE, 1, 1e-6, "selection", "backward");
    selection_backward(*constraint, q, d_q, MODULES, K, d_q);
    assert_same_bits(d_q, d_logits, SIZE, "selection", "in place");
    memory_free(logits);
    memory_free(d_q);
    memory_free(q);
    memory_free(d_logits);
    memory_free(x);
    memory_free(c);
}

static void test_backward(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof CONSTRAINTS / sizeof *CONSTRAINTS; ++i)
        check_backward(&CONSTRAINTS[i]);
    assert_int_equal(memory_blocks_now(), 0);
}

/* ---- ranks ---- */

static size_t rank_of(enum threshold_rule rule, enum selection_constraint constraint,
                      const float *logits, size_t k) {
    float *q = reference_filled(k, NAN);
    size_t rank = 999;
    selection_forward(constraint, logits, 1, k, q);
    selection_ranks(rule, logits, q, 1, k, &rank);
    memory_free(q);
    return rank;
}

static void test_equal_values_give_k(void **state) {
    (void)state;
    static const float VALUES[] = {1, 0.1f, 0.3f, -2, 7e5f};
    for (size_t k = 1; k <= 64; ++k)
        for (size_t v = 0; v < sizeof VALUES / sizeof *VALUES; ++v) {
            float *logits = reference_filled(k, VALUES[v]);
            assert_int_equal(rank_of(THRESHOLD_SOFTMAX, CONSTRAINT_SOFTMAX, logits, k), k);
            assert_int_equal(rank_of(THRESHOLD_RAW_SUM, CONSTRAINT_SOFTMAX, logits, k), k);
            memory_free(logits);
        }
}

static void test_ranks_by_softmax(void **state) {
    (void)state;
    const float one_ahead[4] = {1.01f, 1, 1, 1}, one_behind[4] = {1, 1, 0.99f, 1};
    const float two[4] = {0, 3, 0, 3}, all_on_one[4] = {0, 0, 50, 0};
    assert_int_equal(rank_of(THRESHOLD_SOFTMAX, CONSTRAINT_SOFTMAX, one_ahead, 4), 1);
    assert_int_equal(rank_of(THRESHOLD_SOFTMAX, CONSTRAINT_SOFTMAX, one_behind, 4), 3);
    assert_int_equal(rank_of(THRESHOLD_SOFTMAX, CONSTRAINT_SOFTMAX, two, 4), 2);
    assert_int_equal(rank_of(THRESHOLD_SOFTMAX, CONSTRAINT_SOFTMAX, all_on_one, 4), 1);
}

/* With q = a the paper's rule looks at a itself, the other one at a's share. */
static void test_ranks_by_raw_sum(void **state) {
    (void)state;
    const float logits[4] = {0.9f, 0.1f, 0.26f, 0.24f}; /* sum 1.5, share 1/4: 0.375 */
    assert_int_equal(rank_of(THRESHOLD_RAW_SUM, CONSTRAINT_NONE, logits, 4), 1);
    assert_int_equal(rank_of(THRESHOLD_SOFTMAX, CONSTRAINT_NONE, logits, 4), 2);
    const float with_negative[4] = {1, 1, 1, -1}; /* sum 2: 0.5 */
    assert_int_equal(rank_of(THRESHOLD_RAW_SUM, CONSTRAINT_SOFTMAX, with_negative, 4), 3);
}

/* exp(entropy), rounded, whatever the constraint. */
static void test_ranks_by_effective_number(void **state) {
    (void)state;
    for (size_t k = 1; k <= 16; ++k) {
        float *logits = reference_filled(k, 3);
        assert_int_equal(rank_of(THRESHOLD_EFFECTIVE, CONSTRAINT_SOFTMAX, logits, k), k);
        assert_int_equal(rank_of(THRESHOLD_EFFECTIVE, CONSTRAINT_SIGMOID, logits, k), k);
        memory_free(logits);
    }
    const float two[4] = {0, 9, 0, 9}, uneven[4] = {0.6f, -0.3f, 0.1f, 0};
    assert_int_equal(rank_of(THRESHOLD_EFFECTIVE, CONSTRAINT_SOFTMAX, two, 4), 2);
    assert_int_equal(rank_of(THRESHOLD_EFFECTIVE, CONSTRAINT_NONE, uneven, 4), 2); /* 2.45 */
    const float third[4] = {0.6f, 0.3f, 0.1f, 0.02f};
    assert_int_equal(rank_of(THRESHOLD_EFFECTIVE, CONSTRAINT_NONE, third, 4), 3); /* 2.60 */
}

static void test_ranks_of_several_modules(void **state) {
    (void)state;
    const float logits[3][2] = {{1, 1}, {2, 1}, {0, 5}};
    float q[3][2];
    size_t ranks[3];
    selection_forward(CONSTRAINT_SOFTMAX, &logits[0][0], 3, 2, &q[0][0]);
    selection_ranks(THRESHOLD_SOFTMAX, &logits[0][0], &q[0][0], 3, 2, ranks);
    assert_int_equal(ranks[0], 2);
    assert_int_equal(ranks[1], 1);
    assert_int_equal(ranks[2], 1);
}

static void test_threshold_has_a_tolerance_of_a_millionth(void **state) {
    (void)state;
    const float q[2] = {0.5f * (1 - 5e-7f), 0.5f * (1 - 5e-6f)};
    size_t rank;
    selection_ranks(THRESHOLD_SOFTMAX, q, q, 1, 2, &rank);
    assert_int_equal(rank, 1);
}

/* ---- entropy ---- */

static void test_entropy(void **state) {
    (void)state;
    const float equal[4] = {0.25f, 0.25f, 0.25f, 0.25f}, ones[4] = {1, 1, 1, 1};
    const float one[4] = {0, 1, 0, 0}, none[4] = {0}, half[4] = {0, 0.5f, 0, -0.5f};
    assert_true(fabs(selection_entropy(equal, 4) - log(4)) < 1e-12);
    assert_true(fabs(selection_entropy(ones, 4) - log(4)) < 1e-12);
    assert_true(fabs(selection_entropy(half, 4) - log(2)) < 1e-12);
    assert_true(selection_entropy(one, 4) == 0);
    assert_true(selection_entropy(none, 4) == 0);
    const float uneven[3] = {0.5f, 0.25f, 0.25f};
    assert_true(fabs(selection_entropy(uneven, 3) - 1.5 * log(2)) < 1e-12);
}

static void test_entropy_gradient(void **state) {
    (void)state;
    float q[SIZE], gradient[SIZE];
    const double step = 1e-3, weight = 0.7;
    for (size_t c = 0; c < sizeof CONSTRAINTS / sizeof *CONSTRAINTS; ++c) {
        float *logits = reference_values(SIZE, 2, 3);
        selection_forward(CONSTRAINTS[c], logits, MODULES, K, q);
        for (size_t i = 0; i < SIZE; ++i)
            gradient[i] = 5;
        selection_add_entropy_gradient(weight, q, MODULES, K, gradient);
        for (size_t i = 0; i < SIZE; ++i) {
            const float at = q[i], *own = q + i / K * K;
            q[i] = at + (float)step;
            const double above = selection_entropy(own, K), distance = (double)q[i];
            q[i] = at - (float)step;
            const double slope = (above - selection_entropy(own, K)) / (distance - (double)q[i]);
            q[i] = at;
            if (!(fabs((double)gradient[i] - 5 - weight * slope) < 1e-3))
                fail_msg("constraint %zu, element %zu: %g, not %g", c, i, (double)gradient[i] - 5,
                         weight * slope);
        }
        memory_free(logits);
    }
    const float one[2] = {1, 0};
    float at_edge[2] = {0, 0};
    selection_add_entropy_gradient(1, one, 1, 2, at_edge);
    assert_true(at_edge[0] == 0 && isfinite(at_edge[1]) && at_edge[1] > 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_softmax_sums_to_1_in_each_module),
        cmocka_unit_test(test_sigmoid_and_none),
        cmocka_unit_test(test_backward),
        cmocka_unit_test(test_equal_values_give_k),
        cmocka_unit_test(test_ranks_by_softmax),
        cmocka_unit_test(test_ranks_by_raw_sum),
        cmocka_unit_test(test_ranks_by_effective_number),
        cmocka_unit_test(test_ranks_of_several_modules),
        cmocka_unit_test(test_threshold_has_a_tolerance_of_a_millionth),
        cmocka_unit_test(test_entropy),
        cmocka_unit_test(test_entropy_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
