/* Singular values of a product of thin factors. */
#include "math/low_rank.h"

#include "kernel.h"

/* b = H_u D with the reflection H_u = I - 2 u u^T cut to `rank` columns, a = H_v cut alike: the
 * product b^T a of a [rank, columns] and b [rank, rows] has the singular values d. */
struct factors {
    size_t rank, rows, columns;
    float *a, *b;
};

/* [rank, size]: the first rows of a reflection, each times its factor. */
static float *reflection(size_t rank, size_t size, const double *d, uint64_t seed) {
    float *u = reference_values(size, 1, seed), *values = reference_filled(rank * size, 0);
    double squares = 0;
    for (size_t i = 0; i < size; ++i)
        squares += (double)u[i] * (double)u[i];
    for (size_t r = 0; r < rank; ++r)
        for (size_t i = 0; i < size; ++i)
            values[r * size + i] =
                (float)(d[r] * ((r == i) - 2 * (double)u[r] * (double)u[i] / squares));
    memory_free(u);
    return values;
}

static struct factors make(size_t rank, size_t rows, size_t columns, const double *d) {
    const double ones[] = {1, 1, 1, 1, 1, 1, 1, 1};
    return (struct factors){rank, rows, columns, reflection(rank, columns, ones, 1),
                            reflection(rank, rows, d, 2)};
}

static void values_of(const struct factors *f, float scale, float *values) {
    assert_true(low_rank_singular_values(scale, f->a, f->b, f->rank, f->rows, f->columns, values));
}

static void factors_free(struct factors *factors) {
    memory_free(factors->a);
    memory_free(factors->b);
}

/* Small values have the factors' rounding, which is of the small rows themselves. */
static void test_known_values(void **state) {
    (void)state;
    const double d[] = {4, 3, 1, 0.5, 1e-2, 1e-4, 1e-6, 1e-8};
    static const size_t shapes[][2] = {{8, 8}, {24, 24}, {40, 9}, {8, 100}};
    for (size_t s = 0; s < 4; ++s) {
        struct factors factors = make(8, shapes[s][0], shapes[s][1], d);
        float values[8];
        values_of(&factors, -2, values);
        for (size_t i = 0; i < 8; ++i)
            if (!(fabs((double)values[i] - 2 * d[i]) <= 2e-6 * 2 * d[i]))
                fail_msg("%zu x %zu: value %zu is %g, not %g", shapes[s][0], shapes[s][1], i,
                         (double)values[i], 2 * d[i]);
        factors_free(&factors);
    }
}

static void test_rank_one(void **state) {
    (void)state;
    struct factors factors = {1, 30, 20, reference_values(20, 1, 5), reference_values(30, 1, 6)};
    double a = 0, b = 0;
    for (size_t i = 0; i < 20; ++i)
        a += (double)factors.a[i] * (double)factors.a[i];
    for (size_t i = 0; i < 30; ++i)
        b += (double)factors.b[i] * (double)factors.b[i];
    float value;
    values_of(&factors, 0.25f, &value);
    assert_true(fabs((double)value - 0.25 * sqrt(a * b)) <= 1e-6 * sqrt(a * b));
    factors_free(&factors);
}

/* Factors of more components than the matrix has sides, equal components, and nothing. */
static void test_values_that_are_zero(void **state) {
    (void)state;
    float values[8];
    struct factors wide = {8, 3, 5, reference_values(40, 1, 7), reference_values(24, 1, 8)};
    values_of(&wide, 1, values);
    assert_true(values[0] >= values[1] && values[1] >= values[2] && values[2] > 0);
    for (size_t i = 3; i < 8; ++i)
        assert_true(values[i] == 0);
    factors_free(&wide);
    struct factors twice = {2, 12, 10, reference_filled(20, 1), reference_filled(24, 0.5f)};
    values_of(&twice, 1, values);
    assert_true(fabs((double)values[0] - sqrt(120.0)) < 1e-5 && values[1] < 1e-6f);
    for (size_t i = 0; i < 24; ++i)
        twice.b[i] = 0;
    values_of(&twice, 1, values);
    assert_true(values[0] == 0 && values[1] == 0);
    factors_free(&twice);
    assert_true(low_rank_singular_values(1, NULL, NULL, 0, 4, 4, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_known_values, remember_blocks, check_blocks),
        cmocka_unit_test_setup_teardown(test_rank_one, remember_blocks, check_blocks),
        cmocka_unit_test_setup_teardown(test_values_that_are_zero, remember_blocks, check_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
