/* Activations, with aliased arguments too. */
#include "math/activation.h"

#include "kernel.h"

struct gelu_case {
    enum activation activation;
    size_t count;
    float size;  /* arguments up to here */
    int aliased; /* 0: none; else the number of the argument that the result replaces */
};

static void gelu_reference(const void *context, const double *x, double *y) {
    const struct gelu_case *c = context;
    for (size_t i = 0; i < c->count; ++i)
        y[i] = c->activation == ACTIVATION_GELU ? reference_gelu(x[i] * (double)c->size)
                                                : reference_gelu_tanh(x[i] * (double)c->size);
}

static void gelu_run(const void *context, const struct given *given,
                     const struct outcome *outcome) {
    const struct gelu_case *c = context;
    const size_t n = c->count;
    const int aliased = c->aliased;
    float *u = memory_allocate(n, sizeof *u, "u"), *t_u = memory_allocate(n, sizeof *t_u, "t_u");
    for (size_t i = 0; i < n; ++i) {
        u[i] = c->size * given->x[i];
        t_u[i] = c->size * given->t_x[i];
    }
    activation_forward(c->activation, argument(aliased > 0, u, n, outcome->y), n, outcome->y);
    activation_backward(c->activation, argument(aliased == 1, given->d_y, n, outcome->d_x),
                        argument(aliased == 2, u, n, outcome->d_x), n, outcome->d_x);
    activation_tangent(c->activation, argument(aliased == 1, t_u, n, outcome->t_y),
                       argument(aliased == 2, u, n, outcome->t_y), n, outcome->t_y);
    activation_backward_tangent(c->activation,
                                argument(aliased == 1, given->d_y, n, outcome->t_d_x),
                                argument(aliased == 2, given->t_d_y, n, outcome->t_d_x),
                                argument(aliased == 3, u, n, outcome->t_d_x),
                                argument(aliased == 4, t_u, n, outcome->t_d_x), n, outcome->t_d_x);
    for (size_t i = 0; i < n; ++i) { /* from u to x = u / size */
        outcome->d_x[i] *= c->size;
        outcome->t_d_x[i] *= c->size;
    }
    memory_free(u);
    memory_free(t_u);
}

static void check_activation(enum activation activation, size_t count, float size) {
    const struct gelu_case c = {.activation = activation, .count = count, .size = size};
    const struct subject subject = {
        .name = activation == ACTIVATION_GELU ? "gelu" : "gelu, tanh form",
        .reference = {count, count, gelu_reference, &c},
        .num_second = count,
        .stride = count > 100 ? 1009 : 1,
        .run = gelu_run,
    };
    check_derivatives(&subject);
    check_threads(&subject);
    for (int aliased = 1; aliased <= 4; ++aliased) {
        struct gelu_case in_place = c;
        in_place.aliased = aliased;
        check_same(&subject, &in_place, "aliased");
    }
}

static void check_gelu(size_t count, float size) {
    check_activation(ACTIVATION_GELU, count, size);
    check_activation(ACTIVATION_GELU_TANH, count, size);
}

static void test_gelu(void **state) {
    (void)state;
    check_gelu(1, 1);
    check_gelu(7, 1);
    check_gelu(64, 2);
    check_gelu(64, 0.125f);
    check_gelu(3 * 4096 + 5, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        KERNEL_TEST(test_gelu),
    };
    set_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
