/* Every kernel against a naive one in double precision: forward, backward, tangent and tangent of
 * the backward pass; with aliased arguments, with dropout, for awkward shapes, and the same for any
 * number of threads: bitwise, but for the products of math/gemm.h. */
#include "math/kernels.h"

#include "math/activation.h"
#include "math/elementary.h"
#include "math/gemm.h"
#include "math/small_product.h"
#include "model/attention.h"
#include "model/linear.h"
#include "reference.h"

#include <omp.h>
#include <stdio.h>

enum { MAX_THREADS = 3, MAX_SEQUENCES = 8 };
static const double TOLERANCE = 2e-5;

static size_t blocks_before;

static int remember_blocks(void **state) {
    (void)state;
    blocks_before = memory_blocks_now();
    return 0;
}

static int check_blocks(void **state) {
    (void)state;
    return memory_blocks_now() == blocks_before ? 0 : -1;
}

static void set_threads(int num_threads) {
    omp_set_num_threads(num_threads);
    gemm_set_threads(num_threads);
}

/* ---- a kernel under test ---- */

/* What the four passes are given, and what they must give. */
struct given {
    float *x, *t_x, *d_y, *t_d_y;
};
struct outcome {
    float *y, *d_x, *t_y, *t_d_x;
};

struct subject {
    const char *name;
    struct reference reference;
    size_t num_second; /* inputs, from the first, for which the backward pass has a tangent */
    size_t still_begin, still_end; /* inputs that no tangent moves */
    size_t stride;                 /* only every so many-th derivative is compared */
    bool uses_gemm;                /* threads may change the rounding */
    void (*run)(const void *context, const struct given *given, const struct outcome *outcome);
};

static struct given given_make(const struct subject *subject) {
    const size_t inputs = subject->reference.num_inputs, outputs = subject->reference.num_outputs;
    struct given given = {
        .x = reference_values(inputs, 2, 1),
        .t_x = reference_values(inputs, 1, 2),
        .d_y = reference_values(outputs, 1, 3),
        .t_d_y = reference_values(outputs, 1, 4),
    };
    for (size_t i = subject->still_begin; i < subject->still_end; ++i)
        given.t_x[i] = 0;
    return given;
}

static void given_free(struct given *given) {
    memory_free(given->x);
    memory_free(given->t_x);
    memory_free(given->d_y);
    memory_free(given->t_d_y);
}

static struct outcome outcome_of(const struct subject *subject, const struct given *given) {
    const size_t inputs = subject->reference.num_inputs, outputs = subject->reference.num_outputs;
    struct outcome outcome = {
        .y = reference_filled(outputs, NAN),
        .d_x = reference_filled(inputs, NAN),
        .t_y = reference_filled(outputs, NAN),
        .t_d_x = reference_filled(inputs, NAN),
    };
    subject->run(subject->reference.context, given, &outcome);
    return outcome;
}

static void outcome_free(struct outcome *outcome) {
    memory_free(outcome->y);
    memory_free(outcome->d_x);
    memory_free(outcome->t_y);
    memory_free(outcome->t_d_x);
}

static void compare_with_reference(const struct subject *subject, const struct given *given,
                                   const struct outcome *outcome) {
    const struct reference *f = &subject->reference;
    const size_t inputs = f->num_inputs, outputs = f->num_outputs, stride = subject->stride;
    double *x = reference_doubles(given->x, inputs), *t_x = reference_doubles(given->t_x, inputs);
    double *c = reference_doubles(given->d_y, outputs);
    double *t_c = reference_doubles(given->t_d_y, outputs);
    double *y = memory_allocate(outputs, sizeof *y, "reference");
    double *d = memory_allocate(inputs, sizeof *d, "reference");
    f->forward(f->context, x, y);
    assert_near(outcome->y, y, outputs, 1, TOLERANCE, subject->name, "forward");
    reference_gradient(f, x, c, stride, d);
    assert_near(outcome->d_x, d, inputs, stride, TOLERANCE, subject->name, "backward");
    reference_tangent(f, x, t_x, y);
    assert_near(outcome->t_y, y, outputs, 1, TOLERANCE, subject->name, "tangent");
    reference_gradient_tangent(f, x, t_x, c, t_c, subject->num_second, stride, d);
    assert_near(outcome->t_d_x, d, subject->num_second, stride, TOLERANCE, subject->name,
                "backward tangent");
    memory_free(x);
    memory_free(t_x);
    memory_free(c);
    memory_free(t_c);
    memory_free(y);
    memory_free(d);
}

static void check_derivatives(const struct subject *subject) {
    struct given given = given_make(subject);
    struct outcome outcome = outcome_of(subject, &given);
    compare_with_reference(subject, &given, &outcome);
    given_free(&given);
    outcome_free(&outcome);
}

static void compare_part(const struct subject *subject, const float *values, const float *expected,
                         size_t count, const char *what) {
    if (subject->uses_gemm)
        assert_same_but_for_rounding(values, expected, count, subject->name, what);
    else
        assert_same_bits(values, expected, count, subject->name, what);
}

static void compare_outcomes(const struct subject *subject, const struct outcome *outcome,
                             const struct outcome *expected, const char *what) {
    const size_t inputs = subject->reference.num_inputs, outputs = subject->reference.num_outputs;
    char pass[64];
    snprintf(pass, sizeof pass, "%s, forward", what);
    compare_part(subject, outcome->y, expected->y, outputs, pass);
    snprintf(pass, sizeof pass, "%s, backward", what);
    compare_part(subject, outcome->d_x, expected->d_x, inputs, pass);
    snprintf(pass, sizeof pass, "%s, tangent", what);
    compare_part(subject, outcome->t_y, expected->t_y, outputs, pass);
    snprintf(pass, sizeof pass, "%s, backward tangent", what);
    compare_part(subject, outcome->t_d_x, expected->t_d_x, subject->num_second, pass);
}

static void check_threads(const struct subject *subject) {
    struct given given = given_make(subject);
    set_threads(1);
    struct outcome expected = outcome_of(subject, &given);
    for (int threads = 2; threads <= MAX_THREADS; ++threads) {
        set_threads(threads);
        struct outcome outcome = outcome_of(subject, &given);
        compare_outcomes(subject, &outcome, &expected, "threads");
        outcome_free(&outcome);
    }
    set_threads(1);
    given_free(&given);
    outcome_free(&expected);
}

/* The subject again, with another context, must give the same bits. */
static void check_same(const struct subject *subject, const void *context, const char *what) {
    struct given given = given_make(subject);
    struct outcome expected = outcome_of(subject, &given);
    struct subject other = *subject;
    other.reference.context = context;
    struct outcome outcome = outcome_of(&other, &given);
    compare_outcomes(subject, &outcome, &expected, what);
    given_free(&given);
    outcome_free(&expected);
    outcome_free(&outcome);
}

/* ---- layer normalisation ---- */

struct norm_case {
    size_t tokens, width;
    float epsilon, *weight, *bias;
    bool in_place;
};

static void norm_reference(const void *context, const double *x, double *y) {
    const struct norm_case *c = context;
    reference_layer_norm(x, c->weight, c->bias, (double)c->epsilon, c->tokens, c->width, y);
}

/* The argument itself, or its copy in the place of the result. */
static const float *argument(bool in_place, const float *values, size_t count, float *result) {
    if (!in_place)
        return values;
    memcpy(result, values, count * sizeof *result);
    return result;
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

/* ---- gelu ---- */

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

/* ---- dropout ---- */

/* A packed list of sequences; offsets and pair offsets in rows and squares. */
struct packing {
    size_t num_sequences, offsets[MAX_SEQUENCES + 1], pairs[MAX_SEQUENCES + 1];
    uint32_t samples[MAX_SEQUENCES];
};

static struct packing packing_make(const size_t *lengths, const uint32_t *samples, size_t count) {
    struct packing packing = {.num_sequences = count};
    for (size_t i = 0; i < count; ++i) {
        packing.offsets[i + 1] = packing.offsets[i] + lengths[i];
        packing.pairs[i + 1] = packing.pairs[i] + lengths[i] * lengths[i];
        packing.samples[i] = samples != NULL ? samples[i] : (uint32_t)(10 + i);
    }
    return packing;
}

static struct dropout dropout_of(const struct packing *packing, float rate) {
    return (struct dropout){
        .rate = rate,
        .seed = 5,
        .step = 6,
        .purpose = RANDOM_DROPOUT_HIDDEN,
        .identity = 7,
        .offsets = packing->offsets,
        .samples = packing->samples,
        .num_sequences = packing->num_sequences,
    };
}

/* The multipliers of dropout; free with memory_free. */
static float *dropout_mask(const struct dropout *dropout, size_t width) {
    float *mask = reference_filled(dropout->offsets[dropout->num_sequences] * width, 1);
    dropout_apply(dropout, width, mask);
    return mask;
}

static void check_dropout_rate(float rate) {
    const size_t length = 500000;
    const struct packing packing = packing_make(&length, NULL, 1);
    const struct dropout dropout = dropout_of(&packing, rate);
    float *mask = dropout_mask(&dropout, 1);
    double sum = 0, dropped = 0;
    for (size_t i = 0; i < length; ++i) {
        assert_true(mask[i] == 0 || fabs((double)mask[i] * (1 - (double)rate) - 1) < 1e-4);
        sum += (double)mask[i];
        dropped += mask[i] == 0;
    }
    const double n = (double)length, p = (double)rate, deviation = sqrt(p * (1 - p) / n);
    assert_true(fabs(dropped / n - p) < 5 * deviation + 0x1p-16);
    assert_true(fabs(sum / n - 1) < 5 * deviation / (1 - p) + 1e-6);
    memory_free(mask);
}

static void test_dropout_rate_and_mean(void **state) {
    (void)state;
    check_dropout_rate(0.1f);
    check_dropout_rate(0.5f);
    check_dropout_rate(0.9f);
    check_dropout_rate(0.001f);
}

static void test_dropout_of_rate_0_is_the_identity(void **state) {
    (void)state;
    const size_t length = 100;
    const struct packing packing = packing_make(&length, NULL, 1);
    const struct dropout dropout = dropout_of(&packing, 0);
    float *mask = dropout_mask(&dropout, 3);
    for (size_t i = 0; i < 3 * length; ++i)
        assert_true(mask[i] == 1);
    memory_free(mask);
}

static void test_dropout_is_independent_of_packing_and_threads(void **state) {
    (void)state;
    static const size_t LENGTHS[] = {1, 9, 2, 40, 7};
    const struct packing packing = packing_make(LENGTHS, NULL, 5);
    const struct dropout dropout = dropout_of(&packing, 0.3f);
    static const size_t WIDTHS[] = {1, 7, 64};
    for (size_t w = 0; w < 3; ++w) {
        set_threads(MAX_THREADS);
        float *packed = dropout_mask(&dropout, WIDTHS[w]);
        set_threads(1);
        for (size_t s = 0; s < 5; ++s) {
            const struct packing alone = packing_make(&LENGTHS[s], &packing.samples[s], 1);
            const struct dropout single = dropout_of(&alone, 0.3f);
            float *mask = dropout_mask(&single, WIDTHS[w]);
            assert_same_bits(packed + packing.offsets[s] * WIDTHS[w], mask, LENGTHS[s] * WIDTHS[w],
                             "dropout", "alone");
            memory_free(mask);
        }
        memory_free(packed);
    }
}

/* Share of equal elements. */
static double agreement(const float *a, const float *b, size_t count) {
    size_t equal = 0;
    for (size_t i = 0; i < count; ++i)
        equal += a[i] == b[i];
    return (double)equal / (double)count;
}

static void test_dropout_depends_on_its_whole_identity(void **state) {
    (void)state;
    const size_t length = 4000;
    const struct packing packing = packing_make(&length, NULL, 1);
    const uint32_t other_sample = 11;
    const struct packing other = packing_make(&length, &other_sample, 1);
    struct dropout variants[6];
    for (int i = 0; i < 6; ++i)
        variants[i] = dropout_of(i == 5 ? &other : &packing, 0.5f);
    variants[1].seed++;
    variants[2].step++;
    variants[3].purpose = RANDOM_DROPOUT_ADAPTER;
    variants[4].identity++;
    float *mask = dropout_mask(&variants[0], 1);
    for (int i = 1; i < 6; ++i) {
        float *variant = dropout_mask(&variants[i], 1);
        assert_true(fabs(agreement(mask, variant, length) - 0.5) < 0.05);
        memory_free(variant);
    }
    memory_free(mask);
}

/* ---- attention ---- */

struct attention_case {
    struct attention attention;
    struct packing packing;
    struct microbatch microbatch;
    double *masks; /* in the layout of the probabilities */
};

static size_t attention_width(const struct attention_case *c) {
    return c->attention.num_heads * c->attention.head_size;
}

static struct attention_scratch attention_room(const struct attention_case *c) {
    const size_t floats = attention_scratch_floats(c->microbatch.longest);
    return (struct attention_scratch){reference_filled(MAX_THREADS * floats, NAN), floats};
}

static size_t mask_place(const struct attention_case *c, size_t sequence, size_t head) {
    const size_t length = c->packing.offsets[sequence + 1] - c->packing.offsets[sequence];
    return c->attention.num_heads * c->packing.pairs[sequence] + head * length * length;
}

/* Value rows that pick the columns first .. first + head_size - 1 out of the probabilities. */
static void picking_values(const struct attention_case *c, size_t first, float *value) {
    const size_t width = attention_width(c), head_size = c->attention.head_size;
    memset(value, 0, c->microbatch.num_tokens * width * sizeof *value);
    for (size_t s = 0; s < c->packing.num_sequences; ++s)
        for (size_t j = first; j < first + head_size; ++j)
            for (size_t h = 0; h < c->attention.num_heads; ++h)
                if (c->packing.offsets[s] + j < c->packing.offsets[s + 1])
                    value[(c->packing.offsets[s] + j) * width + h * head_size + j - first] = 1;
}

static void read_masks(struct attention_case *c, size_t first, const float *context) {
    const size_t width = attention_width(c), head_size = c->attention.head_size;
    for (size_t s = 0; s < c->packing.num_sequences; ++s) {
        const size_t begin = c->packing.offsets[s], length = c->packing.offsets[s + 1] - begin;
        for (size_t h = 0; h < c->attention.num_heads; ++h)
            for (size_t i = 0; i < length; ++i)
                for (size_t j = first; j < first + head_size && j < length; ++j)
                    c->masks[mask_place(c, s, h) + i * length + j] =
                        (double)length *
                        (double)context[(begin + i) * width + h * head_size + j - first];
    }
}

/* What the forward pass drops, seen through equal probabilities (query 0) and values that pick one
 * column each. */
static void find_masks(struct attention_case *c) {
    const size_t count = c->microbatch.num_tokens * attention_width(c);
    const size_t pairs = c->attention.num_heads * c->packing.pairs[c->packing.num_sequences];
    float *zero = reference_filled(count, 0), *value = reference_filled(count, 0);
    float *context = reference_filled(count, NAN), *probabilities = reference_filled(pairs, NAN);
    struct attention_scratch scratch = attention_room(c);
    c->masks = memory_allocate(pairs, sizeof *c->masks, "masks");
    for (size_t first = 0; first < c->microbatch.longest; first += c->attention.head_size) {
        picking_values(c, first, value);
        attention_forward(&c->attention, &c->microbatch, zero, zero, value, &scratch, probabilities,
                          context);
        read_masks(c, first, context);
    }
    memory_free(scratch.values);
    memory_free(zero);
    memory_free(value);
    memory_free(context);
    memory_free(probabilities);
}

/* In place: the microbatch points into the case. */
static void attention_case_open(struct attention_case *c, const struct packing *packing,
                                size_t num_heads, size_t head_size, float dropout) {
    *c = (struct attention_case){
        .attention = {num_heads, head_size, dropout, .seed = 3, .block = 2,
                      .scale = 1.0f / sqrtf((float)head_size)},
        .packing = *packing,
    };
    c->microbatch = (struct microbatch){
        .num_sequences = packing->num_sequences,
        .num_tokens = packing->offsets[packing->num_sequences],
        .offsets = c->packing.offsets,
        .pair_offsets = c->packing.pairs,
        .samples = c->packing.samples,
        .step = 9,
        .has_dropout = dropout > 0,
    };
    for (size_t s = 0; s < packing->num_sequences; ++s)
        if (packing->offsets[s + 1] - packing->offsets[s] > c->microbatch.longest)
            c->microbatch.longest = packing->offsets[s + 1] - packing->offsets[s];
    find_masks(c);
}

static void attention_reference(const void *context, const double *x, double *y) {
    const struct attention_case *c = context;
    const size_t width = attention_width(c), count = c->microbatch.num_tokens * width;
    for (size_t s = 0; s < c->packing.num_sequences; ++s) {
        const size_t begin = c->packing.offsets[s], length = c->packing.offsets[s + 1] - begin;
        for (size_t h = 0; h < c->attention.num_heads; ++h) {
            const size_t first = begin * width + h * c->attention.head_size;
            reference_attention_head(x + first, x + count + first, x + 2 * count + first, length,
                                     c->attention.head_size, width, c->masks + mask_place(c, s, h),
                                     y + first);
        }
    }
}

static void attention_run(const void *context, const struct given *given,
                          const struct outcome *outcome) {
    const struct attention_case *c = context;
    const size_t n = c->microbatch.num_tokens * attention_width(c);
    const size_t pairs = c->attention.num_heads * c->packing.pairs[c->packing.num_sequences];
    float *p = reference_filled(pairs, NAN), *t_p = reference_filled(pairs, NAN);
    struct attention_scratch scratch = attention_room(c);
    const float *q = given->x, *k = q + n, *v = k + n;
    const float *t_q = given->t_x, *t_k = t_q + n, *t_v = t_k + n;
    attention_forward(&c->attention, &c->microbatch, q, k, v, &scratch, p, outcome->y);
    attention_backward(&c->attention, &c->microbatch, q, k, v, p, given->d_y, &scratch,
                       outcome->d_x, outcome->d_x + n, outcome->d_x + 2 * n);
    attention_tangent(&c->attention, &c->microbatch, q, k, v, p, t_q, t_k, t_v, &scratch, t_p,
                      outcome->t_y);
    const struct attention_saved saved = {q, k, v, p, t_q, t_k, t_v, t_p, given->d_y};
    attention_backward_tangent(&c->attention, &c->microbatch, &saved, given->t_d_y, &scratch,
                               outcome->t_d_x, outcome->t_d_x + n, outcome->t_d_x + 2 * n);
    memory_free(scratch.values);
    memory_free(p);
    memory_free(t_p);
}

static struct subject attention_subject(const struct attention_case *c, size_t stride) {
    const size_t n = c->microbatch.num_tokens * attention_width(c);
    return (struct subject){
        .name = c->attention.dropout > 0 ? "attention with dropout" : "attention",
        .reference = {3 * n, n, attention_reference, c},
        .num_second = 3 * n,
        .stride = stride,
        .run = attention_run,
    };
}

static void check_attention(const size_t *lengths, size_t count, size_t num_heads, size_t head_size,
                            size_t stride) {
    const struct packing packing = packing_make(lengths, NULL, count);
    for (int has_dropout = 0; has_dropout < 2; ++has_dropout) {
        struct attention_case c;
        attention_case_open(&c, &packing, num_heads, head_size, has_dropout ? 0.4f : 0);
        const struct subject subject = attention_subject(&c, stride);
        check_derivatives(&subject);
        check_threads(&subject);
        memory_free(c.masks);
    }
}

static void test_attention(void **state) {
    (void)state;
    check_attention((const size_t[]){1}, 1, 1, 1, 1);
    check_attention((const size_t[]){6}, 1, 1, 1, 1);
    check_attention((const size_t[]){3, 1, 7, 2}, 4, 3, 4, 1);
    check_attention((const size_t[]){9}, 1, 1, 7, 1);
}

/* Heads of 64 elements are written out up to length 16; heads of 8, up to 48. */
static void test_attention_around_the_switch_to_blis(void **state) {
    (void)state;
    check_attention((const size_t[]){16, 17}, 2, 1, 64, 61);
    check_attention((const size_t[]){48}, 1, 1, 8, 23);
    check_attention((const size_t[]){49}, 1, 1, 8, 23);
}

static void test_attention_dropout_has_the_right_rate(void **state) {
    (void)state;
    const size_t length = 300;
    const struct packing packing = packing_make(&length, NULL, 1);
    struct attention_case c;
    attention_case_open(&c, &packing, 2, 60, 0.1f);
    double dropped = 0, sum = 0, same = 0;
    const size_t square = length * length;
    for (size_t i = 0; i < 2 * square; ++i) {
        assert_true(fabs(c.masks[i]) < 1e-6 || fabs(c.masks[i] - 1 / 0.9) < 1e-4);
        dropped += c.masks[i] < 0.5;
        sum += c.masks[i];
        same += i < square && c.masks[i] < 0.5 && c.masks[square + i] < 0.5;
    }
    const double n = (double)(2 * square);
    assert_true(fabs(dropped / n - 0.1) < 5 * sqrt(0.09 / n) + 0x1p-16);
    assert_true(fabs(sum / n - 1) < 5 * sqrt(0.09 / n) / 0.9 + 1e-5);
    assert_true(fabs(same / (double)square - 0.01) < 0.003); /* heads differ */
    memory_free(c.masks);
}

/* Scores far from 0 on either side, which only their differences matter of. */
static void test_attention_with_large_scores(void **state) {
    (void)state;
    const size_t length = 3;
    const struct packing packing = packing_make(&length, NULL, 1);
    struct attention_case c;
    attention_case_open(&c, &packing, 1, 1, 0);
    const struct subject subject = attention_subject(&c, 1);
    for (int sign = -1; sign <= 1; sign += 2) {
        struct given given = given_make(&subject);
        for (size_t i = 0; i < length; ++i) {
            given.x[i] = 10;
            given.x[length + i] = (float)sign * 30 + 0.05f * (float)i;
        }
        struct outcome outcome = outcome_of(&subject, &given);
        compare_with_reference(&subject, &given, &outcome);
        given_free(&given);
        outcome_free(&outcome);
    }
    memory_free(c.masks);
}

static void test_attention_drops_in_training_only(void **state) {
    (void)state;
    const size_t length = 20;
    const struct packing packing = packing_make(&length, NULL, 1);
    struct attention_case plain, c;
    attention_case_open(&plain, &packing, 2, 4, 0);
    attention_case_open(&c, &packing, 2, 4, 0.5f);
    c.microbatch.has_dropout = false;
    const struct subject subject = attention_subject(&plain, 1);
    check_same(&subject, &c, "not in training");
    memory_free(plain.masks);
    memory_free(c.masks);
}

/* Rows begin .. end-1 of each of the `parts` matrices [tokens, width]. */
static void compare_rows(const float *packed, size_t tokens, size_t begin, const float *alone,
                         size_t length, size_t width, size_t parts, const char *what) {
    for (size_t part = 0; part < parts; ++part)
        assert_same_bits(packed + (part * tokens + begin) * width, alone + part * length * width,
                         length * width, "attention alone", what);
}

static void copy_rows(const float *packed, size_t tokens, size_t begin, size_t length, size_t width,
                      size_t parts, float *alone) {
    for (size_t part = 0; part < parts; ++part)
        memcpy(alone + part * length * width, packed + (part * tokens + begin) * width,
               length * width * sizeof *alone);
}

static void check_alone(const struct attention_case *c, const struct given *given,
                        const struct outcome *packed, size_t s) {
    const size_t begin = c->packing.offsets[s], length = c->packing.offsets[s + 1] - begin;
    const size_t width = attention_width(c), tokens = c->microbatch.num_tokens;
    const struct packing packing = packing_make(&length, &c->packing.samples[s], 1);
    struct attention_case single;
    attention_case_open(&single, &packing, c->attention.num_heads, c->attention.head_size,
                        c->attention.dropout);
    const struct subject subject = attention_subject(&single, 1);
    struct given part = given_make(&subject);
    copy_rows(given->x, tokens, begin, length, width, 3, part.x);
    copy_rows(given->t_x, tokens, begin, length, width, 3, part.t_x);
    copy_rows(given->d_y, tokens, begin, length, width, 1, part.d_y);
    copy_rows(given->t_d_y, tokens, begin, length, width, 1, part.t_d_y);
    struct outcome alone = outcome_of(&subject, &part);
    compare_rows(packed->y, tokens, begin, alone.y, length, width, 1, "forward");
    compare_rows(packed->d_x, tokens, begin, alone.d_x, length, width, 3, "backward");
    compare_rows(packed->t_y, tokens, begin, alone.t_y, length, width, 1, "tangent");
    compare_rows(packed->t_d_x, tokens, begin, alone.t_d_x, length, width, 3, "backward tangent");
    given_free(&part);
    outcome_free(&alone);
    memory_free(single.masks);
}

static void test_attention_is_independent_of_packing(void **state) {
    (void)state;
    static const size_t LENGTHS[] = {5, 1, 17, 30};
    const struct packing packing = packing_make(LENGTHS, NULL, 4);
    struct attention_case c;
    attention_case_open(&c, &packing, 2, 8, 0.25f);
    const struct subject subject = attention_subject(&c, 1);
    struct given given = given_make(&subject);
    struct outcome packed = outcome_of(&subject, &given);
    for (size_t s = 0; s < 4; ++s)
        check_alone(&c, &given, &packed, s);
    given_free(&given);
    outcome_free(&packed);
    memory_free(c.masks);
}

/* ---- adapted projection ---- */

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
    c->linear = (struct linear){c->weight, c->bias, in, out, in, 1, .adapter = {.rank = rank}};
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
        .uses_gemm = true,
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

/* ---- products ---- */

typedef void product_function(float, struct matrix, struct matrix, bool, float *, size_t);

enum view_kind { VIEW_PLAIN, VIEW_STRIDED, VIEW_TRANSPOSED, VIEW_STRIDED_TRANSPOSED, NUM_VIEWS };

/* [rows, columns] over fresh memory, which the view points to the start of. */
static struct matrix view_make(size_t rows, size_t columns, enum view_kind kind, uint64_t seed) {
    const bool is_transposed = kind >= VIEW_TRANSPOSED;
    const size_t gap = kind % 2 == 1 ? 3 : 0;
    const size_t first = is_transposed ? columns : rows, second = is_transposed ? rows : columns;
    const float *data = reference_values(first * (second + gap), 1, seed);
    const struct matrix view = matrix_strided(data, first, second, second + gap);
    return is_transposed ? matrix_transpose(view) : view;
}

static void view_free(struct matrix *view) {
    memory_free((void *)(size_t)view->data);
}

/* Error bound of a sum of n products in any order: (n + 3) 2^-24 sum |a b|. */
static void check_element(struct matrix a, struct matrix b, float scale, double before, float value,
                          size_t i, size_t j) {
    double sum = before, size = fabs(before);
    for (size_t l = 0; l < a.columns; ++l) {
        const double term = (double)scale * reference_element(a, i, l) * reference_element(b, l, j);
        sum += term;
        size += fabs(term);
    }
    if (!(fabs((double)value - sum) <= (double)(a.columns + 3) * 0x1p-24 * size))
        fail_msg("[%zu, %zu, %zu]: element (%zu, %zu) is %g, not %g", a.rows, a.columns, b.columns,
                 i, j, (double)value, sum);
}

static void check_product(product_function *product, struct matrix a, struct matrix b, float scale,
                          bool accumulate) {
    const size_t stride = b.columns + 2, count = a.rows * stride;
    float *before = reference_values(count, 1, 50);
    float *c = accumulate ? reference_values(count, 1, 50) : reference_filled(count, NAN);
    product(scale, a, b, accumulate, c, stride);
    for (size_t i = 0; i < a.rows; ++i) {
        for (size_t j = 0; j < b.columns; ++j)
            check_element(a, b, scale, accumulate ? (double)before[i * stride + j] : 0,
                          c[i * stride + j], i, j);
        for (size_t j = b.columns; j < stride; ++j) /* the gap between rows is untouched */
            assert_true(accumulate ? c[i * stride + j] == before[i * stride + j]
                                   : isnan(c[i * stride + j]));
    }
    memory_free(before);
    memory_free(c);
}

static void check_views(product_function *product, size_t rows, size_t inner, size_t columns,
                        enum view_kind a_kind, enum view_kind b_kind) {
    struct matrix a = view_make(rows, inner, a_kind, 60), b = view_make(inner, columns, b_kind, 61);
    check_product(product, a, b, 1, false);
    check_product(product, a, b, -0.75f, true);
    view_free(&a);
    view_free(&b);
}

static const size_t SHAPES[][3] = {
    {1, 1, 1},    {1, 7, 1},    {7, 1, 7},    {1, 64, 3},   {64, 1, 2},  {7, 7, 7},
    {64, 7, 64},  {5, 0, 4},    {0, 3, 4},    {3, 4, 0},    {33, 64, 8}, {17, 64, 17},
    {16, 64, 16}, {24, 24, 32}, {24, 25, 32}, {40, 40, 40}, {48, 8, 48}, {49, 8, 49},
};
enum { NUM_SHAPES = sizeof SHAPES / sizeof *SHAPES };

static void test_gemm(void **state) {
    (void)state;
    for (size_t s = 0; s < NUM_SHAPES; ++s)
        for (int a = 0; a < NUM_VIEWS; ++a)
            for (int b = 0; b < NUM_VIEWS; ++b) {
                check_views(gemm, SHAPES[s][0], SHAPES[s][1], SHAPES[s][2], (enum view_kind)a,
                            (enum view_kind)b);
                check_views(gemm_serial, SHAPES[s][0], SHAPES[s][1], SHAPES[s][2],
                            (enum view_kind)a, (enum view_kind)b);
            }
}

static void test_small_product(void **state) {
    (void)state;
    for (size_t s = 0; s < NUM_SHAPES; ++s)
        for (int a = 0; a < NUM_VIEWS; ++a)
            for (int b = 0; b < NUM_VIEWS; ++b)
                check_views(small_product, SHAPES[s][0], SHAPES[s][1], SHAPES[s][2],
                            (enum view_kind)a, (enum view_kind)b);
}

static void check_gemm_threads(size_t rows, size_t inner, size_t columns, enum view_kind a_kind,
                               enum view_kind b_kind) {
    struct matrix a = view_make(rows, inner, a_kind, 70), b = view_make(inner, columns, b_kind, 71);
    float *expected = reference_values(rows * columns, 1, 72);
    gemm_serial(0.5f, a, b, true, expected, columns);
    char name[96];
    snprintf(name, sizeof name, "gemm [%zu, %zu, %zu] views %d, %d", rows, inner, columns, a_kind,
             b_kind);
    for (int threads = 1; threads <= MAX_THREADS; ++threads) {
        set_threads(threads);
        float *c = reference_values(rows * columns, 1, 72);
        gemm(0.5f, a, b, true, c, columns);
        assert_same_but_for_rounding(c, expected, rows * columns, name, "threads");
        memory_free(c);
    }
    set_threads(1);
    memory_free(expected);
    view_free(&a);
    view_free(&b);
}

static void test_gemm_agrees_for_any_number_of_threads(void **state) {
    (void)state;
    static const size_t LARGE[][3] = {
        {200, 96, 64}, {131, 300, 70}, {200, 128, 8}, {8, 200, 128}, {8, 200, 131},
        {257, 64, 1},  {1, 256, 300},  {65, 700, 33}, {200, 8, 128}, {37, 128, 384},
    };
    for (size_t s = 0; s < sizeof LARGE / sizeof *LARGE; ++s)
        for (int views = 0; views < 4; ++views)
            check_gemm_threads(LARGE[s][0], LARGE[s][1], LARGE[s][2],
                               views % 2 ? VIEW_TRANSPOSED : VIEW_PLAIN,
                               views / 2 ? VIEW_TRANSPOSED : VIEW_PLAIN);
}

/* ---- elementary functions ---- */

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

#define KERNEL_TEST(test) cmocka_unit_test_setup_teardown(test, remember_blocks, check_blocks)

int main(void) {
    const struct CMUnitTest tests[] = {
        KERNEL_TEST(test_layer_norm),
        KERNEL_TEST(test_gelu),
        KERNEL_TEST(test_bias_add_and_vector_add),
        KERNEL_TEST(test_column_sums_cancel_in_double_precision),
        KERNEL_TEST(test_dropout_rate_and_mean),
        KERNEL_TEST(test_dropout_of_rate_0_is_the_identity),
        KERNEL_TEST(test_dropout_is_independent_of_packing_and_threads),
        KERNEL_TEST(test_dropout_depends_on_its_whole_identity),
        KERNEL_TEST(test_attention),
        KERNEL_TEST(test_attention_around_the_switch_to_blis),
        KERNEL_TEST(test_attention_dropout_has_the_right_rate),
        KERNEL_TEST(test_attention_with_large_scores),
        KERNEL_TEST(test_attention_drops_in_training_only),
        KERNEL_TEST(test_attention_is_independent_of_packing),
        KERNEL_TEST(test_linear),
        KERNEL_TEST(test_linear_agrees_for_any_number_of_threads),
        KERNEL_TEST(test_linear_without_input_tangent),
        KERNEL_TEST(test_linear_adds_to_the_input_cotangent_or_leaves_it_out),
        KERNEL_TEST(test_gemm),
        KERNEL_TEST(test_small_product),
        KERNEL_TEST(test_gemm_agrees_for_any_number_of_threads),
        KERNEL_TEST(test_exp_within_2_units_in_the_last_place),
        KERNEL_TEST(test_exp_outside_its_range),
        KERNEL_TEST(test_normal_distribution),
        KERNEL_TEST(test_normal_distribution_far_out),
    };
    set_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
