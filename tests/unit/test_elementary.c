/* exp and the normal distribution against the C library's in double precision. */
#include "math/elementary.h"

#include "kernel.h"

/* Distance in units in the last place of the exact value. */
static double distance(float value, double exact) {
    return fabs((double)value - exact) / ldexp(1, ilogb(exact) - 23);
}

static void test_exp_within_2_units_in_the_last_place(void **state) {
    (void)state;
    double largest = 0;
    int32_t end;
    const float limit = 88;
    memcpy(&end, &limit, sizeof end);
    for (int32_t bits = 1 << 23; bits <= end; bits += 997) {
        const float x = float_from_bits(bits);
        largest = fmax(largest, distance(exp_float(x), exp((double)x)));
        if (x <= 87)
            largest = fmax(largest, distance(exp_float(-x), exp(-(double)x)));
    }
    print_message("exp: %.3f units in the last place\n", largest);
    assert_true(largest < 2);
}

static void test_exp_outside_its_range(void **state) {
    (void)state;
    assert_true(exp_float(0) == 1);
    assert_true(exp_float(-0.0f) == 1);
    assert_true(exp_float(1000) == exp_float(88) && isfinite(exp_float(INFINITY)));
    assert_true(exp_float(-1000) == exp_float(-87) && exp_float(-INFINITY) < 1.7e-38f);
    assert_true(isnan(exp_float(NAN)));
}

static void test_normal_distribution(void **state) {
    (void)state;
    double absolute = 0, relative = 0, density_error = 0, units = 0;
    for (int i = -1300000; i <= 1300000; ++i) {
        const float u = (float)i * 1e-5f;
        const float density = normal_density(u);
        const double exact = 0.5 * erfc(-(double)u / sqrt(2.0));
        const double exact_density = exp(-0.5 * (double)u * (double)u) / sqrt(2 * acos(-1.0));
        const double error = fabs((double)normal_distribution(u, density) - exact);
        absolute = fmax(absolute, error);
        if (fabsf(u) <= 4) {
            relative = fmax(relative, error / exact);
            units = fmax(units, distance(normal_distribution(u, density), exact));
            density_error = fmax(density_error, fabs((double)density / exact_density - 1));
        }
    }
    print_message("normal distribution: absolute %.3g, relative up to 4: %.3g (%.1f units in the "
                  "last place); density %.3g\n",
                  absolute, relative, units, density_error);
    assert_true(absolute < 3e-7);
    assert_true(relative < 1e-6);
    assert_true(density_error < 1e-6);
}

static void test_normal_distribution_far_out(void **state) {
    (void)state;
    assert_true(normal_distribution(0, normal_density(0)) == 0.5f);
    assert_true(normal_distribution(40, normal_density(40)) == 1);
    assert_true(normal_distribution(-40, normal_density(-40)) < 1e-38f);
    assert_true(isnan(normal_distribution(NAN, normal_density(NAN))));
}

static void check_log_softmax(size_t count, float shift) {
    float *row = reference_values(count, 20, 7), *before = reference_values(count, 20, 7);
    double sum = 0;
    for (size_t i = 0; i < count; ++i) {
        row[i] += shift;
        before[i] += shift;
    }
    for (size_t i = 0; i < count; ++i)
        sum += exp((double)before[i] - (double)shift);
    log_softmax(1, count, row);
    for (size_t i = 0; i < count; ++i) {
        const double exact = (double)before[i] - (double)shift - log(sum);
        assert_true(fabs((double)row[i] - exact) < 1e-5 + 2e-7 * fabs((double)shift));
    }
    memory_free(row);
    memory_free(before);
}

static void test_log_softmax(void **state) {
    (void)state;
    static const size_t counts[] = {1, 2, 15, 16, 17, 1000, 50257};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; ++i) {
        check_log_softmax(counts[i], 0);
        check_log_softmax(counts[i], 1000); /* beyond the range of exp */
        check_log_softmax(counts[i], -1000);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        KERNEL_TEST(test_exp_within_2_units_in_the_last_place),
        KERNEL_TEST(test_exp_outside_its_range),
        KERNEL_TEST(test_normal_distribution),
        KERNEL_TEST(test_normal_distribution_far_out),
        KERNEL_TEST(test_log_softmax),
    };
    set_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
