/* Attention over packed sequences, with dropout. */
#include "model/attention.h"

#include "kernel.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        KERNEL_TEST(test_attention),
        KERNEL_TEST(test_attention_around_the_switch_to_blis),
        KERNEL_TEST(test_attention_dropout_has_the_right_rate),
        KERNEL_TEST(test_attention_with_large_scores),
        KERNEL_TEST(test_attention_drops_in_training_only),
        KERNEL_TEST(test_attention_is_independent_of_packing),
    };
    set_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
