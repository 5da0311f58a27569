/* Ranks under a budget, and random ranks of a given total. */
#include "train/budget.h"

#include "base/memory.h"
#include "train/method.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

/* ---- budgets ---- */

enum { MODULES = 3, COMPONENTS = 4 };

static const size_t SIZES[MODULES] = {10, 20, 30};
static const float SCORES[MODULES * COMPONENTS] = {
    0.1f,  0.6f,  0.2f,  0.1f,  /* module 0 */
    0.25f, 0.25f, 0.25f, 0.25f, /* module 1 */
    0.05f, 0.35f, 0.5f,  0.1f,  /* module 2 */
};

static struct budget budget_of(size_t total_rank, size_t min_rank, size_t max_parameters) {
    return (struct budget){
        .num_modules = MODULES,
        .num_components = COMPONENTS,
        .component_sizes = SIZES,
        .total_rank = total_rank,
        .min_rank = min_rank,
        .max_parameters = max_parameters,
    };
}

/* From ranks 1, 4, 2, as the threshold 1/4 gives them. */
static void assert_ranks(struct budget budget, size_t first, size_t second, size_t third) {
    struct problem problem = {0};
    size_t ranks[MODULES] = {1, 4, 2};
    assert_true(budget_check(&budget, &problem));
    budget_apply(&budget, SCORES, ranks);
    const size_t expected[MODULES] = {first, second, third};
    for (size_t m = 0; m < MODULES; ++m)
        assert_int_equal(ranks[m], expected[m]);
}

static void test_without_a_budget(void **state) {
    (void)state;
    assert_ranks(budget_of(0, 0, 0), 1, 4, 2);
}

static void test_total_rank(void **state) {
    (void)state;
    assert_ranks(budget_of(1, 0, 0), 1, 0, 0);
    assert_ranks(budget_of(2, 0, 0), 1, 0, 1);
    assert_ranks(budget_of(3, 0, 0), 1, 0, 2);
    assert_ranks(budget_of(5, 0, 0), 1, 2, 2);
    assert_ranks(budget_of(8, 0, 0), 2, 4, 2);
    assert_ranks(budget_of(12, 0, 0), 4, 4, 4);
}

/* Equal scores: the better place in its module first, then the lower module. */
static void test_ties(void **state) {
    (void)state;
    const float equal[MODULES * COMPONENTS] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const struct budget budget = budget_of(7, 0, 0);
    size_t ranks[MODULES] = {0};
    budget_apply(&budget, equal, ranks);
    assert_int_equal(ranks[0], 3);
    assert_int_equal(ranks[1], 2);
    assert_int_equal(ranks[2], 2);
}

static void test_min_rank(void **state) {
    (void)state;
    assert_ranks(budget_of(0, 2, 0), 2, 4, 2);
    assert_ranks(budget_of(3, 1, 0), 1, 1, 1);
    assert_ranks(budget_of(4, 1, 0), 1, 1, 2);
    assert_ranks(budget_of(6, 2, 0), 2, 2, 2);
}

static void test_max_parameters(void **state) {
    (void)state;
    assert_ranks(budget_of(0, 0, 150), 1, 4, 2); /* 10 + 80 + 60 */
    assert_ranks(budget_of(0, 0, 149), 1, 3, 2);
    assert_ranks(budget_of(0, 0, 75), 1, 0, 2);
    assert_ranks(budget_of(0, 0, 69), 1, 0, 1);
    assert_ranks(budget_of(0, 0, 9), 0, 0, 0);
    assert_ranks(budget_of(0, 1, 75), 1, 1, 1);
    assert_ranks(budget_of(8, 0, 100), 1, 1, 2);
}

static void assert_refused(struct budget budget, const char *words) {
    struct problem problem = {0};
    assert_false(budget_check(&budget, &problem));
    assert_int_equal(problem.exit_code, EXIT_USAGE);
    if (strstr(problem.text, words) == NULL)
        fail_msg("no '%s' in: %s", words, problem.text);
}

static void test_impossible_budgets(void **state) {
    (void)state;
    assert_refused(budget_of(0, 5, 0), "search.min_rank is 5");
    assert_refused(budget_of(13, 0, 0), "search.target_mean_rank asks for 13");
    assert_refused(budget_of(5, 2, 0), "search.target_mean_rank asks for 5");
    assert_refused(budget_of(0, 1, 59), "search.max_parameters is 59");
    struct problem problem = {0};
    const struct budget tight = budget_of(12, 4, 240);
    assert_true(budget_check(&tight, &problem));
}

/* ---- random ranks ---- */

enum { DRAWS = 20000, RANK_MAX = 4 };

/* Every vector of MODULES ranks with this total comes up equally often, within 5 deviations. */
static void check_uniform(size_t total) {
    enum { SIDE = RANK_MAX + 1 };
    size_t counts[SIDE][SIDE] = {{0}}, num_vectors = 0;
    for (uint64_t seed = 0; seed < DRAWS; ++seed) {
        size_t ranks[MODULES];
        random_ranks(seed, MODULES, total, RANK_MAX, ranks);
        assert_int_equal(ranks[0] + ranks[1] + ranks[2], total);
        for (size_t m = 0; m < MODULES; ++m)
            assert_true(ranks[m] <= RANK_MAX);
        ++counts[ranks[0]][ranks[1]];
    }
    for (size_t a = 0; a < SIDE; ++a)
        for (size_t b = 0; b < SIDE; ++b)
            num_vectors += a + b <= total && total - a - b <= RANK_MAX;
    const double expected = (double)DRAWS / (double)num_vectors;
    for (size_t a = 0; a < SIDE; ++a)
        for (size_t b = 0; b < SIDE; ++b)
            if (a + b <= total && total - a - b <= RANK_MAX &&
                fabs((double)counts[a][b] - expected) > 5 * sqrt(expected))
                fail_msg("total %zu: ranks %zu %zu come %zu times, not %g", total, a, b,
                         counts[a][b], expected);
}

static void test_random_ranks_are_uniform(void **state) {
    (void)state;
    const size_t totals[] = {0, 1, 4, 6, 8, 11, 12};
    for (size_t i = 0; i < sizeof totals / sizeof *totals; ++i)
        check_uniform(totals[i]);
}

/* 6 blocks of 6 projections up to far more blocks, means far from the middle. */
static void test_many_modules(void **state) {
    (void)state;
    enum { MANY = 288 };
    const size_t totals[] = {1, 36, 288, 2304, 4500, 4608};
    for (size_t i = 0; i < sizeof totals / sizeof *totals; ++i) {
        size_t ranks[MANY], sum = 0;
        random_ranks(7, MANY, totals[i], 16, ranks);
        for (size_t m = 0; m < MANY; ++m)
            sum += ranks[m];
        assert_int_equal(sum, totals[i]);
    }
}

static void test_random_ranks_depend_on_the_seed_alone(void **state) {
    (void)state;
    size_t first[12], again[12], other[12];
    random_ranks(1, 12, 50, 8, first);
    random_ranks(1, 12, 50, 8, again);
    random_ranks(2, 12, 50, 8, other);
    assert_memory_equal(first, again, sizeof first);
    assert_memory_not_equal(first, other, sizeof first);
    assert_int_equal(memory_blocks_now(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_budget),
        cmocka_unit_test(test_total_rank),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_min_rank),
        cmocka_unit_test(test_max_parameters),
        cmocka_unit_test(test_impossible_budgets),
        cmocka_unit_test(test_random_ranks_are_uniform),
        cmocka_unit_test(test_many_modules),
        cmocka_unit_test(test_random_ranks_depend_on_the_seed_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
