/* A kernel under test: its four passes against a naive reference in double precision (reference.h),
 * and the same bits for any number of threads and with aliased arguments. */
#ifndef AUTOLORA_TESTS_KERNEL_H
#define AUTOLORA_TESTS_KERNEL_H

#include "math/gemm.h"
#include "math/kernels.h"
#include "reference.h"

#include <omp.h>
#include <stdio.h>

enum { MAX_THREADS = 3, MAX_SEQUENCES = 8 };
static const double TOLERANCE = 2e-5;

static size_t blocks_before;

static inline int remember_blocks(void **state) {
    (void)state;
    blocks_before = memory_blocks_now();
    return 0;
}

static inline int check_blocks(void **state) {
    (void)state;
    return memory_blocks_now() == blocks_before ? 0 : -1;
}

static inline void set_threads(int num_threads) {
    omp_set_num_threads(num_threads);
    gemm_set_threads(num_threads);
}

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
    void (*run)(const void *context, const struct given *given, const struct outcome *outcome);
};

static inline struct given given_make(const struct subject *subject) {
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

static inline void given_free(struct given *given) {
    memory_free(given->x);
    memory_free(given->t_x);
    memory_free(given->d_y);
    memory_free(given->t_d_y);
}

static inline struct outcome outcome_of(const struct subject *subject, const struct given *given) {
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

static inline void outcome_free(struct outcome *outcome) {
    memory_free(outcome->y);
    memory_free(outcome->d_x);
    memory_free(outcome->t_y);
    memory_free(outcome->t_d_x);
}

static inline void compare_with_reference(const struct subject *subject, const struct given *given,
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

static inline void check_derivatives(const struct subject *subject) {
    struct given given = given_make(subject);
    struct outcome outcome = outcome_of(subject, &given);
    compare_with_reference(subject, &given, &outcome);
    given_free(&given);
    outcome_free(&outcome);
}

static inline void compare_outcomes(const struct subject *subject, const struct outcome *outcome,
                                    const struct outcome *expected, const char *what) {
    const size_t inputs = subject->reference.num_inputs, outputs = subject->reference.num_outputs;
    char pass[64];
    snprintf(pass, sizeof pass, "%s, forward", what);
    assert_same_bits(outcome->y, expected->y, outputs, subject->name, pass);
    snprintf(pass, sizeof pass, "%s, backward", what);
    assert_same_bits(outcome->d_x, expected->d_x, inputs, subject->name, pass);
    snprintf(pass, sizeof pass, "%s, tangent", what);
    assert_same_bits(outcome->t_y, expected->t_y, outputs, subject->name, pass);
    snprintf(pass, sizeof pass, "%s, backward tangent", what);
    assert_same_bits(outcome->t_d_x, expected->t_d_x, subject->num_second, subject->name, pass);
}

static inline void check_threads(const struct subject *subject) {
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
static inline void check_same(const struct subject *subject, const void *context,
                              const char *what) {
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

/* The argument itself, or its copy in the place of the result. */
static inline const float *argument(bool in_place, const float *values, size_t count,
                                    float *result) {
    if (!in_place)
        return values;
    memcpy(result, values, count * sizeof *result);
    return result;
}

/* ---- packed sequences and their dropout ---- */

/* A packed list of sequences; offsets and pair offsets in rows and squares. */
struct packing {
    size_t num_sequences, offsets[MAX_SEQUENCES + 1], pairs[MAX_SEQUENCES + 1];
    uint32_t samples[MAX_SEQUENCES];
};

static inline struct packing packing_make(const size_t *lengths, const uint32_t *samples,
                                          size_t count) {
    struct packing packing = {.num_sequences = count};
    for (size_t i = 0; i < count; ++i) {
        packing.offsets[i + 1] = packing.offsets[i] + lengths[i];
        packing.pairs[i + 1] = packing.pairs[i] + lengths[i] * lengths[i];
        packing.samples[i] = samples != NULL ? samples[i] : (uint32_t)(10 + i);
    }
    return packing;
}

static inline struct dropout dropout_of(const struct packing *packing, float rate) {
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
static inline float *dropout_mask(const struct dropout *dropout, size_t width) {
    float *mask = reference_filled(dropout->offsets[dropout->num_sequences] * width, 1);
    dropout_apply(dropout, width, mask);
    return mask;
}

#define KERNEL_TEST(test) cmocka_unit_test_setup_teardown(test, remember_blocks, check_blocks)

#endif
