/* Layer normalisation and sums over rows. */
#include "math/kernels.h"

#include "kernel.h"

struct norm_case {
    size_t tokens, width;
    float epsilon, *weight, *bias;
    bool in_place;
};

static void norm_reference(const void *context, const double *x, double *y) {
    const struct norm_case *c = context;
    reference_layer_norm(x, c->weight, c->bias, (double)c->epsilon, c->tokens, c->width, y);
}

static void norm_run(const void *context, const struct given *given,
                     const struct outcome *outcome) {
    const struct norm_case *c = context;
    const size_t tokens = c->tokens, width = c->width, count = tokens * width;
    float *n = reference_filled(count, NAN), *t_n = reference_filled(count, NAN);
    float *r = reference_filled(tokens, NAN), *t_r = reference_filled(tokens, NAN);
    const float *x = argument(c->in_place, given->x, count, outcome->y);
    layer_norm_forward(x, c->weight, c->bias, c->epsilon, tokens, width, n, r, outcome->y);
    const float *d_y = argument(c->in_place, given->d_y, count, outcome->d_x);
    layer_norm_backward(d_y, n, r, c->weight, tokens, width, outcome->d_x);
    const float *t_x = argument(c->in_place, given->t_x, count, outcome->t_y);
    layer_norm_tangent(t_x, n, r, c->weight, tokens, width, t_n, t_r, outcome->t_y);
    const float *t_d_y = argument(c->in_place, given->t_d_y, count, outcome->t_d_x);
    layer_norm_backward_tangent(given->d_y, t_d_y, n, t_n, r, t_r, c->weight, tokens, width,
                                outcome->t_d_x);
    memory_free(n);
    memory_free(t_n);
    memory_free(r);
    memory_free(t_r);
}

static struct subject norm_subject(const struct norm_case *c) {
    const size_t count = c->tokens * c->width;
    return (struct subject){
        .name = "layer norm",
        .reference = {count, count, norm_reference, c},
        .num_second = count,
        .stride = 1,
        .run = norm_run,
    };
}

static void check_norm(size_t tokens, size_t width, float epsilon) {
    struct norm_case c = {
        .tokens = tokens,
        .width = width,
        .epsilon = epsilon,
        .weight = reference_values(width, 1.5f, 5),
        .bias = reference_values(width, 1, 6),
    };
    const struct subject subject = norm_subject(&c);
    if (tokens * width < 1000)
        check_derivatives(&subject);
    check_threads(&subject);
    struct norm_case in_place = c;
    in_place.in_place = true;
    check_same(&subject, &in_place, "in place");
    memory_free(c.weight);
    memory_free(c.bias);
}

static void test_layer_norm(void **state) {
    (void)state;
    check_norm(1, 1, 1e-12f);
    check_norm(5, 1, 1e-5f);
    check_norm(1, 7, 1e-12f);
    check_norm(5, 7, 0.05f);
    check_norm(4, 64, 1e-12f);
    check_norm(3, 24, 0.5f);
    check_norm(333, 64, 1e-12f);
}

/* ---- sums ---- */

static void test_bias_add_and_vector_add(void **state) {
    (void)state;
    static const size_t WIDTHS[] = {1, 7, 64};
    for (size_t w = 0; w < 3; ++w) {
        const size_t width = WIDTHS[w], tokens = 33, count = tokens * width;
        float *bias = reference_values(width, 1, 1), *x = reference_values(count, 1, 2);
        float *y = reference_values(count, 1, 2), *sum = reference_values(count, 1, 2);
        set_threads(MAX_THREADS);
        bias_add(bias, tokens, width, y);
        vector_add(x, count, sum);
        set_threads(1);
        for (size_t i = 0; i < count; ++i) {
            assert_true(y[i] == x[i] + bias[i % width]);
            assert_true(sum[i] == 2 * x[i]);
        }
        memory_free(bias);
        memory_free(x);
        memory_free(y);
        memory_free(sum);
    }
}

static void test_column_sums_cancel_in_double_precision(void **state) {
    (void)state;
    const float x[4][3] = {{1e8f, 1, 0}, {1, 2, 0}, {-1e8f, 3, -0.5f}, {2, 4, 0.25f}};
    float sums[3];
    column_sums(&x[0][0], 4, 3, sums);
    assert_true(sums[0] == 3 && sums[1] == 10 && sums[2] == -0.25f);
    column_sums(&x[0][0], 0, 3, sums);
    assert_true(sums[0] == 0 && sums[1] == 0 && sums[2] == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        KERNEL_TEST(test_layer_norm),
        KERNEL_TEST(test_bias_add_and_vector_add),
        KERNEL_TEST(test_column_sums_cancel_in_double_precision),
    };
    set_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
