/* A block whose output matters for the first token of each sequence only, against the same block
 * computed in full: the four passes, with adapters on every projection and all kinds of dropout. */
#include "base/memory.h"
#include "model/block.h"
#include "reference.h"

#include <math.h>
#include <string.h>

enum { HIDDEN = 12, WIDE = 20, RANK = 3, HEADS = 2, TOKENS = 17, SEQUENCES = 4, LONGEST = 8 };
enum { FACTORS = NUM_PROJECTIONS * RANK * (HIDDEN + WIDE), SELECTIONS = NUM_PROJECTIONS * RANK };
enum { PAIRS = HEADS * (64 + 1 + 9 + 25), LARGEST = TOKENS * WIDE };

static const size_t offsets[] = {0, 8, 9, 12, 17}, pair_offsets[] = {0, 64, 65, 74, 99};
static const size_t sequence_numbers[] = {0, 1, 2, 3, 4};
static const uint32_t samples[] = {5, 0, 77, 3};
static const struct microbatch microbatch = {
    .num_sequences = SEQUENCES,
    .num_tokens = TOKENS,
    .longest = LONGEST,
    .offsets = offsets,
    .pair_offsets = pair_offsets,
    .sequence_numbers = sequence_numbers,
    .samples = samples,
    .step = 11,
    .has_dropout = true,
};

static float *room(size_t count) {
    return reference_filled(count, NAN);
}

/* Everything a block reads and writes; freed together. */
struct bench {
    struct block block;
    struct block_activations activations;
    struct block_cotangents cotangents;
    struct block_tangents tangents;
    struct block_scratch scratch;
    struct point point;
    struct gradient gradient;
    float *direction, *input, *t_input, *output, *t_output;
    float *d_input, *t_d_output, *t_d_input, *t_d_selection;
    float *owned[128];
    size_t num_owned;
};

static float *own(struct bench *bench, float *values) {
    assert_true(bench->num_owned < 128);
    bench->owned[bench->num_owned++] = values;
    return values;
}

static struct base_tensor frozen(struct bench *bench, unsigned seed) {
    return (struct base_tensor){.frozen = own(bench, reference_values(HIDDEN, 1, seed))};
}

static struct linear linear_of(struct bench *bench, int projection) {
    const size_t in = projection == PROJECTION_OUTPUT ? WIDE : HIDDEN;
    const size_t out = projection == PROJECTION_INTERMEDIATE ? WIDE : HIDDEN;
    const size_t first = (size_t)projection * RANK * (HIDDEN + WIDE);
    return (struct linear){
        .weight.frozen = own(bench, reference_values(in * out, 0.5, 20 + (unsigned)projection)),
        .bias.frozen = own(bench, reference_values(out, 0.5, 40 + (unsigned)projection)),
        .input_size = in,
        .output_size = out,
        .output_stride = in,
        .input_stride = 1,
        .adapter = {.rank = RANK,
                    .scale = 1.5f,
                    .a_offset = first,
                    .b_offset = first + RANK * in,
                    .selection_offset = (size_t)projection * RANK,
                    .module = 30 + (size_t)projection,
                    .dropout = 0.25f},
    };
}

static void open_buffers(struct bench *b) {
    float **const buffers[] = {
        &b->activations.query,
        &b->activations.key,
        &b->activations.value,
        &b->activations.context,
        &b->activations.normalized[0],
        &b->activations.normalized[1],
        &b->activations.deviation[0],
        &b->activations.deviation[1],
        &b->activations.attended,
        &b->activations.expanded,
        &b->cotangents.d_activated,
        &b->cotangents.d_attended,
        &b->cotangents.d_context,
        &b->cotangents.d_query,
        &b->cotangents.d_key,
        &b->cotangents.d_value,
        &b->tangents.query,
        &b->tangents.key,
        &b->tangents.value,
        &b->tangents.normalized[0],
        &b->tangents.normalized[1],
        &b->tangents.deviation[0],
        &b->tangents.deviation[1],
        &b->tangents.expanded,
        &b->scratch.hidden[0],
        &b->scratch.hidden[1],
        &b->scratch.hidden[2],
        &b->scratch.hidden[3],
        &b->scratch.wide,
        &b->scratch.activated_tangent,
        &b->scratch.linear.low_rank,
        &b->scratch.linear.low_rank_tangent,
        &b->scratch.linear.wide,
        &b->output,
        &b->t_output,
        &b->d_input,
        &b->t_d_input,
    };
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; ++i)
        *buffers[i] = own(b, room(LARGEST));
    for (int p = 0; p < NUM_PROJECTIONS; ++p) {
        b->activations.low_rank[p] = own(b, room(TOKENS * RANK));
        b->tangents.low_rank[p] = own(b, room(TOKENS * RANK));
    }
    b->activations.probabilities = own(b, room(PAIRS));
    b->tangents.probabilities = own(b, room(PAIRS));
    b->scratch.attention.floats_per_thread = attention_scratch_floats(LONGEST);
    b->scratch.attention.values = own(b, room(8 * b->scratch.attention.floats_per_thread));
    b->gradient = (struct gradient){own(b, reference_filled(FACTORS, 0)), own(b, room(SELECTIONS))};
    b->t_d_selection = own(b, room(SELECTIONS));
}

/* The cotangent of the output: of the first rows, or of all rows and 0 in the others. */
static float *output_cotangent(struct bench *bench, unsigned seed) {
    float *rows = own(bench, reference_values(SEQUENCES * HIDDEN, 1, seed));
    if (bench->block.attention.first_rows_only) {
        float *copy = own(bench, reference_filled(LARGEST, 0)); /* room for [tokens, hidden] */
        memcpy(copy, rows, SEQUENCES * HIDDEN * sizeof *copy);
        return copy;
    }
    float *all = own(bench, reference_filled(LARGEST, 0));
    for (size_t s = 0; s < SEQUENCES; ++s)
        memcpy(all + offsets[s] * HIDDEN, rows + s * HIDDEN, HIDDEN * sizeof *all);
    return all;
}

static void run_block(struct bench *b, bool first_rows_only, bool has_input_tangent) {
    memset(b, 0, sizeof *b);
    b->block = (struct block){
        .index = 2,
        .hidden_size = HIDDEN,
        .intermediate_size = WIDE,
        .layer_norm_epsilon = 1e-5f,
        .hidden_dropout = 0.3f,
        .seed = 4,
        .norms = {{frozen(b, 1), frozen(b, 2)}, {frozen(b, 3), frozen(b, 4)}},
        .attention = {HEADS, HIDDEN / HEADS, 0.2f, 4, 2, first_rows_only, false, 0.4f},
    };
    for (int p = 0; p < NUM_PROJECTIONS; ++p)
        b->block.projections[p] = linear_of(b, p);
    open_buffers(b);
    b->point = (struct point){own(b, reference_values(FACTORS, 0.5, 5)),
                              own(b, reference_values(SELECTIONS, 1, 6))};
    b->direction = own(b, reference_values(FACTORS, 0.5, 7));
    b->activations.input = own(b, reference_values(TOKENS * HIDDEN, 1, 8));
    b->activations.input_rows = first_rows_only ? own(b, room(LARGEST)) : b->activations.input;
    b->activations.attention_input = b->activations.input;
    b->activations.feed_forward_input = b->activations.attended;
    b->t_input = has_input_tangent ? own(b, reference_values(TOKENS * HIDDEN, 1, 9)) : NULL;
    b->cotangents.d_output = output_cotangent(b, 10);
    b->t_d_output = output_cotangent(b, 12);
    block_forward(&b->block, &b->point, &microbatch, &b->activations, &b->scratch, b->output);
    block_backward(&b->block, &b->point, &microbatch, &b->activations, &b->cotangents, &b->scratch,
                   &b->gradient, b->d_input);
    block_tangent(&b->block, &b->point, b->direction, &microbatch, &b->activations, b->t_input,
                  &b->tangents, &b->scratch, b->t_output);
    block_backward_tangent(&b->block, &b->point, b->direction, &microbatch, &b->activations,
                           &b->cotangents, &b->tangents, &b->scratch, b->t_d_output,
                           b->t_d_selection, b->t_d_input);
}

static void close_bench(struct bench *bench) {
    for (size_t i = 0; i < bench->num_owned; ++i)
        memory_free(bench->owned[i]);
}

static void compare(const char *name, const float *full, const float *rows, size_t count) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < count; ++i) {
        difference += pow((double)full[i] - (double)rows[i], 2);
        size += pow((double)full[i], 2);
    }
    assert_true(size > 0);
    if (!(sqrt(difference / size) < 2e-6))
        fail_msg("%s differ by %g", name, sqrt(difference / size));
}

static void check(bool has_input_tangent) {
    struct bench full, rows;
    run_block(&full, false, has_input_tangent);
    run_block(&rows, true, has_input_tangent);
    for (size_t s = 0; s < SEQUENCES; ++s) {
        const size_t first = offsets[s] * HIDDEN;
        compare("outputs", full.output + first, rows.output + s * HIDDEN, HIDDEN);
        compare("output tangents", full.t_output + first, rows.t_output + s * HIDDEN, HIDDEN);
    }
    compare("gradients of the factors", full.gradient.factors, rows.gradient.factors, FACTORS);
    compare("gradients of q", full.gradient.selection, rows.gradient.selection, SELECTIONS);
    compare("input cotangents", full.d_input, rows.d_input, TOKENS * HIDDEN);
    compare("tangents of the gradient of q", full.t_d_selection, rows.t_d_selection, SELECTIONS);
    compare("tangents of the input cotangents", full.t_d_input, rows.t_d_input, TOKENS * HIDDEN);
    close_bench(&full);
    close_bench(&rows);
}

static void test_first_rows_equal_the_full_block(void **state) {
    (void)state;
    check(true);
}

static void test_first_rows_without_an_input_tangent(void **state) {
    (void)state;
    check(false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_rows_equal_the_full_block),
        cmocka_unit_test(test_first_rows_without_an_input_tangent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
