/* The adapted projection, with selection variables, dropout and gaps in the layout of the factors.
 */
#include "model/linear.h"

#include "kernel.h"

/* Inputs in this order: x, q (if there is a selection), A, B. */
struct linear_case {
    struct linear linear;
    struct packing packing;
    struct dropout dropout;
    size_t tokens;
    bool has_selection;
    double *mask;
    float *weight, *bias;
    bool t_x_is_null; /* instead of zeros */
};

enum { FACTOR_GAP = 3, SELECTION_GAP = 2 };

static size_t linear_num_q(const struct linear_case *c) {
    return c->has_selection ? c->linear.adapter.rank : 0;
}

static void linear_reference(const void *context, const double *x, double *y) {
    const struct linear_case *c = context;
    const size_t rank = c->linear.adapter.rank, in = c->linear.input_size;
    const double ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const double *q = x + c->tokens * in, *a = q + linear_num_q(c), *b = a + rank * in;
    const struct reference_linear f = {
        .weight = c->weight,
        .bias = c->bias,
        .tokens = c->tokens,
        .input_size = in,
        .output_size = c->linear.output_size,
        .rank = rank,
        .scale = (double)c->linear.adapter.scale,
        .mask = c->mask,
    };
    reference_linear_forward(&f, x, c->has_selection ? q : ones, a, b, y);
}

static size_t linear_factors_size(const struct linear_case *c) {
    return c->linear.adapter.b_offset + c->linear.adapter.rank * c->linear.output_size + FACTOR_GAP;
}

/* A and B in the layout of the factors, NAN in the gaps. */
static float *linear_factors(const struct linear_case *c, const float *inputs) {
    const size_t rank = c->linear.adapter.rank, in = c->linear.input_size;
    float *factors = reference_filled(linear_factors_size(c), NAN);
    const float *a = inputs + c->tokens * in + linear_num_q(c);
    memcpy(factors + c->linear.adapter.a_offset, a, rank * in * sizeof *a);
    memcpy(factors + c->linear.adapter.b_offset, a + rank * in,
           rank * c->linear.output_size * sizeof *a);
    return factors;
}

static void linear_gradients(const struct linear_case *c, const float *factors,
                             const float *selection, float *d_inputs) {
    const size_t rank = c->linear.adapter.rank, in = c->linear.input_size;
    float *d_q = d_inputs + c->tokens * in, *d_a = d_q + linear_num_q(c);
    memcpy(d_q, selection + SELECTION_GAP, linear_num_q(c) * sizeof *d_q);
    memcpy(d_a, factors + c->linear.adapter.a_offset, rank * in * sizeof *d_a);
    memcpy(d_a + rank * in, factors + c->linear.adapter.b_offset,
           rank * c->linear.output_size * sizeof *d_a);
}

/* The gaps of a vector that was filled with NAN are untouched. */
static void check_gaps(const struct linear_case *c, const float *factors, const float *selection) {
    const size_t rank = c->linear.adapter.rank, size = linear_factors_size(c);
    const size_t a_end = c->linear.adapter.a_offset + rank * c->linear.input_size;
    for (size_t i = 0; i < FACTOR_GAP; ++i)
        assert_true(isnan(factors[i]) && isnan(factors[a_end + i]) && isnan(factors[size - 1 - i]));
    for (size_t i = 0; i < SELECTION_GAP; ++i)
        assert_true(isnan(selection[i]) && isnan(selection[SELECTION_GAP + linear_num_q(c) + i]));
}

static struct linear_scratch linear_room(const struct linear_case *c) {
    const size_t in = c->linear.input_size, out = c->linear.output_size;
    return (struct linear_scratch){
        .low_rank = reference_filled(c->tokens * c->linear.adapter.rank, NAN),
        .low_rank_tangent = reference_filled(c->tokens * c->linear.adapter.rank, NAN),
        .wide = reference_filled(c->tokens * (in > out ? in : out), NAN),
    };
}

static void linear_room_free(struct linear_scratch *scratch) {
    memory_free(scratch->low_rank);
    memory_free(scratch->low_rank_tangent);
    memory_free(scratch->wide);
}

static void linear_run(const void *context, const struct given *given,
                       const struct outcome *outcome) {
    const struct linear_case *c = context;
    const size_t rank = c->linear.adapter.rank, tokens = c->tokens;
    const size_t inputs = tokens * c->linear.input_size;
    float *factors = linear_factors(c, given->x), *direction = linear_factors(c, given->t_x);
    float *d_factors = reference_filled(linear_factors_size(c), NAN);
    float *q = reference_filled(2 * SELECTION_GAP + rank, NAN);
    float *d_q = reference_filled(2 * SELECTION_GAP + rank, NAN);
    float *t_d_q = reference_filled(2 * SELECTION_GAP + rank, NAN);
    float *h = reference_filled(tokens * rank, NAN), *t_h = reference_filled(tokens * rank, NAN);
    struct linear_scratch scratch = linear_room(c);
    memcpy(q + SELECTION_GAP, given->x + inputs, linear_num_q(c) * sizeof *q);
    const struct point point = {factors, c->has_selection ? q : NULL};
    struct gradient gradient = {d_factors, c->has_selection ? d_q : NULL};
    const float *t_x = c->t_x_is_null ? NULL : given->t_x;
    linear_forward(&c->linear, &point, given->x, tokens, &c->dropout, &scratch, h, outcome->y);
    linear_backward(&c->linear, &point, given->x, h, given->d_y, tokens, &c->dropout, &scratch,
                    &gradient, false, outcome->d_x);
    linear_tangent(&c->linear, &point, direction, given->x, t_x, h, tokens, &c->dropout, &scratch,
                   t_h, outcome->t_y);
    linear_backward_tangent(&c->linear, &point, direction, h, t_h, given->d_y, given->t_d_y, tokens,
                            &c->dropout, &scratch, c->has_selection ? t_d_q : NULL, false,
                            outcome->t_d_x);
    linear_gradients(c, d_factors, d_q, outcome->d_x);
    memcpy(outcome->t_d_x + inputs, t_d_q + SELECTION_GAP, linear_num_q(c) * sizeof *t_d_q);
    check_gaps(c, d_factors, d_q);
    linear_room_free(&scratch);
    memory_free(factors);
    memory_free(direction);
    memory_free(d_factors);
    memory_free(q);
    memory_free(d_q);
    memory_free(t_d_q);
    memory_free(h);
    memory_free(t_h);
}

/* In place: the dropout points into the case. */
static void linear_case_open(struct linear_case *c, const struct packing *packing, size_t in,
                             size_t out, size_t rank, float dropout, bool has_selection) {
    *c = (struct linear_case){
        .packing = *packing,
        .tokens = packing->offsets[packing->num_sequences],
        .has_selection = has_selection,
        .weight = reference_values(in * out, 1, 20),
        .bias = reference_values(out, 1, 21),
    };
    c->dropout = dropout_of(&c->packing, dropout);
    c->linear = (struct linear){{.frozen = c->weight},    {.frozen = c->bias}, in, out, in, 1,
                                .adapter = {.rank = rank}};
    c->linear.adapter.scale = 0.75f;
    c->linear.adapter.a_offset = FACTOR_GAP;
    c->linear.adapter.b_offset = 2 * FACTOR_GAP + rank * in;
    c->linear.adapter.selection_offset = SELECTION_GAP;
    float *mask = dropout_mask(&c->dropout, in);
    c->mask = reference_doubles(mask, c->tokens * in);
    memory_free(mask);
}

static void linear_case_close(struct linear_case *c) {
    memory_free(c->weight);
    memory_free(c->bias);
    memory_free(c->mask);
}

static struct subject linear_subject(const struct linear_case *c, size_t stride) {
    const size_t in = c->linear.input_size, out = c->linear.output_size;
    const size_t first = c->tokens * in, q = linear_num_q(c);
    return (struct subject){
        .name = c->dropout.rate > 0 ? "linear with dropout" : "linear",
        .reference = {first + q + c->linear.adapter.rank * (in + out), c->tokens * out,
                      linear_reference, c},
        .num_second = first + q,
        .still_begin = first,
        .still_end = first + q,
        .stride = stride,
        .run = linear_run,
    };
}

static void check_linear(const size_t *lengths, size_t count, size_t in, size_t out, size_t rank) {
    const struct packing packing = packing_make(lengths, NULL, count);
    for (int variant = 0; variant < 4; ++variant) {
        struct linear_case c;
        linear_case_open(&c, &packing, in, out, rank, variant % 2 ? 0.3f : 0, variant / 2);
        const struct subject subject = linear_subject(&c, c.tokens * in > 300 ? 7 : 1);
        check_derivatives(&subject);
        linear_case_close(&c);
    }
}

static void test_linear(void **state) {
    (void)state;
    check_linear((const size_t[]){1}, 1, 1, 1, 1);
    check_linear((const size_t[]){3, 1, 2}, 3, 7, 5, 2);
    check_linear((const size_t[]){2, 4}, 2, 5, 7, 8);
    check_linear((const size_t[]){2, 4}, 2, 5, 7, 0);
    check_linear((const size_t[]){5, 6}, 2, 64, 9, 4);
    check_linear((const size_t[]){1, 3}, 2, 9, 64, 3);
}

/* Ranks and widths are odd where a search chose them. */
static void check_linear_threads(size_t tokens, size_t in, size_t out, size_t rank) {
    const struct packing packing = packing_make(&tokens, NULL, 1);
    struct linear_case c;
    linear_case_open(&c, &packing, in, out, rank, 0.3f, true);
    const struct subject subject = linear_subject(&c, 1);
    check_threads(&subject);
    linear_case_close(&c);
}

static void test_linear_agrees_for_any_number_of_threads(void **state) {
    (void)state;
    check_linear_threads(64, 24, 32, 4);
    check_linear_threads(40, 64, 64, 8);
    check_linear_threads(64, 24, 32, 3);
    check_linear_threads(64, 24, 9, 1);
}

static void test_linear_without_input_tangent(void **state) {
    (void)state;
    const struct packing packing = packing_make((const size_t[]){3, 4}, NULL, 2);
    for (size_t rank = 0; rank <= 3; rank += 3) {
        struct linear_case c;
        linear_case_open(&c, &packing, 6, 5, rank, 0.3f, true);
        struct subject subject = linear_subject(&c, 1);
        subject.still_begin = 0; /* x and q */
        check_derivatives(&subject);
        c.t_x_is_null = true;
        struct given given = given_make(&subject);
        struct outcome outcome = outcome_of(&subject, &given);
        compare_with_reference(&subject, &given, &outcome);
        given_free(&given);
        outcome_free(&outcome);
        linear_case_close(&c);
    }
}

/* The passes that hand back an input's cotangent, with `accumulate` as asked; t_d_q is returned. */
static void linear_cotangents(const struct linear_case *c, const struct given *given,
                              bool accumulate, float *d_x, float *t_d_x, float *d_factors,
                              float *t_d_q) {
    const size_t rank = c->linear.adapter.rank, tokens = c->tokens;
    float *factors = linear_factors(c, given->x), *direction = linear_factors(c, given->t_x);
    float *h = reference_values(tokens * rank, 1, 30),
          *t_h = reference_values(tokens * rank, 1, 31);
    float *q = reference_values(2 * SELECTION_GAP + rank, 1, 32);
    struct linear_scratch scratch = linear_room(c);
    const struct point point = {factors, q};
    struct gradient gradient = {d_factors, NULL};
    linear_backward(&c->linear, &point, given->x, h, given->d_y, tokens, &c->dropout, &scratch,
                    &gradient, accumulate, d_x);
    linear_backward_tangent(&c->linear, &point, direction, h, t_h, given->d_y, given->t_d_y, tokens,
                            &c->dropout, &scratch, t_d_q, accumulate, t_d_x);
    linear_room_free(&scratch);
    memory_free(factors);
    memory_free(direction);
    memory_free(h);
    memory_free(t_h);
    memory_free(q);
}

static void check_accumulation(const struct linear_case *c) {
    const struct subject subject = linear_subject(c, 1);
    struct given given = given_make(&subject);
    const size_t count = c->tokens * c->linear.input_size, size = linear_factors_size(c);
    float *d_x[2], *t_d_x[2], *d_factors[3], *t_d_q[3];
    for (int i = 0; i < 3; ++i) {
        d_factors[i] = reference_filled(size, 0);
        t_d_q[i] = reference_filled(2 * SELECTION_GAP + c->linear.adapter.rank, 0);
    }
    for (int i = 0; i < 2; ++i) {
        d_x[i] = reference_values(count, 1, 40);
        t_d_x[i] = reference_values(count, 1, 41);
        linear_cotangents(c, &given, i == 1, d_x[i], t_d_x[i], d_factors[i], t_d_q[i]);
    }
    linear_cotangents(c, &given, false, NULL, NULL, d_factors[2], t_d_q[2]);
    uint64_t first = 40, second = 41;
    for (size_t i = 0; i < count; ++i) {
        assert_true(fabsf(d_x[1][i] - d_x[0][i] - reference_uniform(&first)) < 1e-4f);
        assert_true(fabsf(t_d_x[1][i] - t_d_x[0][i] - reference_uniform(&second)) < 1e-4f);
    }
    for (int i = 1; i < 3; ++i) {
        assert_same_bits(d_factors[i], d_factors[0], size, "linear", "gradient of the factors");
        assert_same_bits(t_d_q[i], t_d_q[0], c->linear.adapter.rank, "linear", "t_d_q");
    }
    for (int i = 0; i < 3; ++i) {
        memory_free(d_factors[i]);
        memory_free(t_d_q[i]);
        memory_free(i < 2 ? d_x[i] : NULL);
        memory_free(i < 2 ? t_d_x[i] : NULL);
    }
    given_free(&given);
}

static void test_linear_adds_to_the_input_cotangent_or_leaves_it_out(void **state) {
    (void)state;
    const struct packing packing = packing_make((const size_t[]){3, 4}, NULL, 2);
    for (int has_dropout = 0; has_dropout < 2; ++has_dropout)
        for (size_t rank = 0; rank <= 3; rank += 3) {
            struct linear_case c;
            linear_case_open(&c, &packing, 6, 5, rank, has_dropout ? 0.3f : 0, true);
            check_accumulation(&c);
            linear_case_close(&c);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        KERNEL_TEST(test_linear),
        KERNEL_TEST(test_linear_agrees_for_any_number_of_threads),
        KERNEL_TEST(test_linear_without_input_tangent),
        KERNEL_TEST(test_linear_adds_to_the_input_cotangent_or_leaves_it_out),
    };
    set_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
