/* Packing into microbatches, on random data and against their bounds, and the sampler. */
#include "train/batch.h"

#include "reference.h"

#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_EXAMPLES = 64, MAX_LENGTH = 40 };

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

/* ---- data ---- */

static size_t below(uint64_t *seed, size_t bound) {
    const size_t value = (size_t)((reference_uniform(seed) + 1) / 2 * (float)bound);
    return value < bound ? value : bound - 1;
}

/* Examples of 1 .. longest tokens whose every token and label tells where it comes from; a token
 * task leaves about a third of the tokens without label. */
static struct dataset dataset_make(enum task_kind kind, size_t count, size_t longest,
                                   uint64_t seed) {
    struct dataset dataset = {
        .kind = kind,
        .num_examples = count,
        .offsets = memory_allocate(count + 1, sizeof(size_t), "a dataset"),
        .longest = longest,
    };
    for (size_t i = 0; i < count; ++i)
        dataset.offsets[i + 1] = dataset.offsets[i] + 1 + below(&seed, longest);
    const size_t tokens = dataset.offsets[count];
    const size_t labels = task_labels_tokens(kind) ? tokens : count;
    dataset.token_ids = memory_allocate(tokens, sizeof(int32_t), "a dataset");
    dataset.type_ids = memory_allocate(tokens, sizeof(int32_t), "a dataset");
    dataset.labels = memory_allocate(labels, sizeof(int32_t), "a dataset");
    for (size_t i = 0; i < tokens; ++i) {
        dataset.token_ids[i] = (int32_t)(1000 + i);
        dataset.type_ids[i] = (int32_t)(i % 2);
    }
    if (!task_labels_tokens(kind) && seed % 2 == 0) { /* a regression */
        dataset.targets = memory_allocate(count, sizeof(float), "a dataset");
        for (size_t i = 0; i < count; ++i)
            dataset.targets[i] = (float)i / 8;
    }
    for (size_t i = 0; i < labels; ++i)
        dataset.labels[i] =
            task_labels_tokens(kind) && below(&seed, 3) == 0 ? LABEL_IGNORED : (int32_t)(i % 7);
    return dataset;
}

static size_t length_of(const struct dataset *dataset, size_t example) {
    return dataset->offsets[example + 1] - dataset->offsets[example];
}

/* ---- packing ---- */

static void check_sequence(const struct dataset *dataset, const struct microbatch *microbatch,
                           size_t s) {
    const size_t example = microbatch->samples[s], first = dataset->offsets[example];
    const size_t length = length_of(dataset, example), begin = microbatch->offsets[s];
    assert_int_equal(microbatch->offsets[s + 1] - begin, length);
    assert_int_equal(microbatch->pair_offsets[s + 1] - microbatch->pair_offsets[s],
                     length * length);
    assert_true(length <= microbatch->longest);
    const size_t bytes = length * sizeof(int32_t);
    assert_memory_equal(microbatch->token_ids + begin, dataset->token_ids + first, bytes);
    assert_memory_equal(microbatch->type_ids + begin, dataset->type_ids + first, bytes);
    if (task_labels_tokens(dataset->kind))
        assert_memory_equal(microbatch->labels + begin, dataset->labels + first, bytes);
    else
        assert_int_equal(microbatch->labels[s], dataset->labels[example]);
    assert_int_equal(microbatch->targets != NULL, dataset->targets != NULL);
    if (dataset->targets != NULL)
        assert_true(microbatch->targets[s] == dataset->targets[example]);
}

/* The place of an example in the batch. */
static size_t position_of(const uint32_t *examples, size_t count, uint32_t example) {
    for (size_t i = 0; i < count; ++i)
        if (examples[i] == example)
            return i;
    fail_msg("example %u is not of this batch", example);
    return 0;
}

static void check_microbatch(const struct batch *batch, const struct dataset *dataset,
                             const uint32_t *examples, size_t count, size_t m, bool *is_there) {
    const struct microbatch *microbatch = &batch->microbatches[m];
    assert_true(microbatch->num_sequences > 0);
    assert_int_equal(microbatch->offsets[0], 0);
    assert_int_equal(microbatch->pair_offsets[0], 0);
    assert_int_equal(microbatch->offsets[microbatch->num_sequences], microbatch->num_tokens);
    size_t next = 0, longest = 0;
    for (size_t s = 0; s < microbatch->num_sequences; ++s) {
        const size_t position = position_of(examples, count, microbatch->samples[s]);
        assert_true(position >= next); /* the order of the batch is kept */
        assert_false(is_there[position]);
        is_there[position] = true;
        next = position + 1;
        assert_int_equal(batch->examples[m][s], microbatch->samples[s]);
        check_sequence(dataset, microbatch, s);
        if (length_of(dataset, microbatch->samples[s]) > longest)
            longest = length_of(dataset, microbatch->samples[s]);
    }
    assert_int_equal(microbatch->longest, longest);
}

static size_t labels_of(const struct dataset *dataset, const uint32_t *examples, size_t count) {
    if (dataset->kind == TASK_SEQUENCE_CLASSIFICATION)
        return count;
    size_t labels = 0;
    for (size_t i = 0; i < count; ++i)
        for (size_t t = dataset->offsets[examples[i]]; t < dataset->offsets[examples[i] + 1]; ++t)
            labels += dataset->labels[t] != LABEL_IGNORED;
    return labels;
}

/* Tokens and labels of the batch, and how evenly they are shared out. */
static void check_totals(const struct batch *batch, const struct dataset *dataset,
                         const uint32_t *examples, size_t count, size_t microbatch_tokens) {
    size_t tokens = 0, longest = 0, heaviest = 0;
    for (size_t i = 0; i < count; ++i) {
        const size_t length = length_of(dataset, examples[i]);
        tokens += length;
        longest = length > longest ? length : longest;
    }
    const size_t wanted = (tokens + microbatch_tokens - 1) / microbatch_tokens;
    assert_int_equal(batch->num_examples, count);
    assert_int_equal(batch->num_tokens, tokens);
    assert_int_equal(batch->num_microbatches, wanted < count ? wanted : count);
    const size_t labels = labels_of(dataset, examples, count);
    assert_int_equal(batch->num_labels, labels);
    for (size_t m = 0; m < batch->num_microbatches; ++m) {
        const struct microbatch *microbatch = &batch->microbatches[m];
        heaviest = microbatch->num_tokens > heaviest ? microbatch->num_tokens : heaviest;
        assert_true(microbatch->loss_scale == (labels > 0 ? 1.0f / (float)labels : 0));
    }
    assert_true((double)heaviest <=
                (double)tokens / (double)batch->num_microbatches + (double)longest);
}

static void check_capacity(const struct batch *batch, size_t batch_size, size_t longest,
                           size_t microbatch_tokens) {
    const struct capacity capacity = batch_capacity(batch_size, longest, microbatch_tokens);
    assert_true(batch->num_microbatches <=
                batch_largest_count(batch_size, longest, microbatch_tokens));
    for (size_t m = 0; m < batch->num_microbatches; ++m) {
        const struct microbatch *microbatch = &batch->microbatches[m];
        assert_true(microbatch->num_tokens <= capacity.tokens);
        assert_true(microbatch->num_sequences <= capacity.sequences);
        assert_true(microbatch->longest <= capacity.longest);
        assert_true(microbatch->pair_offsets[microbatch->num_sequences] <= capacity.pairs);
    }
}

static void check_batch(struct batch *batch, const struct dataset *dataset,
                        const uint32_t *examples, size_t count, size_t batch_size,
                        size_t microbatch_tokens) {
    bool is_there[MAX_EXAMPLES] = {false};
    batch_fill(batch, dataset, examples, count, 77, true);
    check_totals(batch, dataset, examples, count, microbatch_tokens);
    check_capacity(batch, batch_size, dataset->longest, microbatch_tokens);
    for (size_t m = 0; m < batch->num_microbatches; ++m) {
        check_microbatch(batch, dataset, examples, count, m, is_there);
        assert_int_equal(batch->microbatches[m].step, 77);
        assert_true(batch->microbatches[m].has_dropout);
    }
    for (size_t i = 0; i < count; ++i)
        assert_true(is_there[i]);
}

/* One batch after another in the same memory. */
static void check_dataset(enum task_kind kind, size_t longest, size_t batch_size,
                          size_t microbatch_tokens, uint64_t seed) {
    struct dataset dataset = dataset_make(kind, MAX_EXAMPLES, longest, seed);
    struct batch *batch = batch_create(batch_size, longest, microbatch_tokens);
    uint32_t examples[MAX_EXAMPLES];
    for (size_t count = 1; count <= batch_size; count += 1 + count / 3) {
        const struct random_stream stream = random_stream_make(seed, RANDOM_SHUFFLE, 0, count, 0);
        random_permutation(&stream, MAX_EXAMPLES, examples);
        check_batch(batch, &dataset, examples, count, batch_size, microbatch_tokens);
    }
    batch_destroy(&batch);
    dataset_free(&dataset);
}

static void test_random_batches(void **state) {
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < 300; ++i) {
        const size_t longest = 1 + below(&seed, MAX_LENGTH);
        const size_t batch_size = 1 + below(&seed, MAX_EXAMPLES);
        const size_t microbatch_tokens = 1 + below(&seed, 3 * longest);
        check_dataset((enum task_kind)(i % (TASK_LANGUAGE_MODELING + 1)), longest, batch_size,
                      microbatch_tokens, seed);
    }
}

static struct dataset dataset_of_lengths(const size_t *lengths, size_t count) {
    struct dataset dataset = dataset_make(TASK_SEQUENCE_CLASSIFICATION, count, 1, 1);
    memory_free(dataset.token_ids);
    memory_free(dataset.type_ids);
    for (size_t i = 0; i < count; ++i) {
        dataset.offsets[i + 1] = dataset.offsets[i] + lengths[i];
        dataset.longest = lengths[i] > dataset.longest ? lengths[i] : dataset.longest;
    }
    dataset.token_ids = memory_allocate(dataset.offsets[count], sizeof(int32_t), "a dataset");
    dataset.type_ids = memory_allocate(dataset.offsets[count], sizeof(int32_t), "a dataset");
    return dataset;
}

/* All examples of the greatest length: the most tokens and pairs that there can be. */
static void test_batches_of_the_longest_examples(void **state) {
    (void)state;
    size_t lengths[9];
    const uint32_t examples[9] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    for (size_t i = 0; i < 9; ++i)
        lengths[i] = 11;
    struct dataset dataset = dataset_of_lengths(lengths, 9);
    for (size_t microbatch_tokens = 1; microbatch_tokens <= 120; ++microbatch_tokens) {
        struct batch *batch = batch_create(9, 11, microbatch_tokens);
        check_batch(batch, &dataset, examples, 9, 9, microbatch_tokens);
        batch_destroy(&batch);
    }
    dataset_free(&dataset);
}

/* 9 | 7 6 | 5 4 3: the longest first, each to the lightest: {9, 3}, {7, 4}, {6, 5}. */
static void test_longest_processing_time_rule(void **state) {
    (void)state;
    const size_t lengths[] = {3, 4, 5, 6, 7, 9};
    const uint32_t examples[] = {0, 1, 2, 3, 4, 5};
    const uint32_t expected[3][2] = {{0, 5}, {1, 4}, {2, 3}};
    struct dataset dataset = dataset_of_lengths(lengths, 6);
    struct batch *batch = batch_create(6, 9, 12);
    batch_fill(batch, &dataset, examples, 6, 0, false);
    assert_int_equal(batch->num_microbatches, 3);
    for (size_t m = 0; m < 3; ++m) {
        assert_int_equal(batch->microbatches[m].num_sequences, 2);
        assert_memory_equal(batch->microbatches[m].samples, expected[m], sizeof expected[m]);
        assert_false(batch->microbatches[m].has_dropout);
    }
    batch_destroy(&batch);
    dataset_free(&dataset);
}

static void test_a_batch_without_any_label_has_loss_scale_0(void **state) {
    (void)state;
    struct dataset dataset = dataset_make(TASK_TOKEN_CLASSIFICATION, 3, 4, 1);
    for (size_t i = 0; i < dataset.offsets[3]; ++i)
        dataset.labels[i] = LABEL_IGNORED;
    const uint32_t examples[] = {0, 1, 2};
    struct batch *batch = batch_create(3, 4, 100);
    batch_fill(batch, &dataset, examples, 3, 0, false);
    assert_int_equal(batch->num_labels, 0);
    assert_true(batch->microbatches[0].loss_scale == 0);
    batch_destroy(&batch);
    dataset_free(&dataset);
}

/* ---- sampler ---- */

enum { SUBSET = 23, BATCH = 5, PER_PASS = 5 }; /* four batches of 5, one of 3 */

static struct sampler sampler_make(uint64_t seed, uint64_t stream, const uint32_t *subset) {
    return sampler_create(seed, stream, subset, SUBSET, BATCH);
}

static void fill_subset(uint32_t *subset) {
    for (uint32_t i = 0; i < SUBSET; ++i)
        subset[i] = 100 + 3 * i;
}

static void take_pass(struct sampler *sampler, size_t pass, uint32_t *examples) {
    size_t taken = 0;
    for (size_t i = 0; i < PER_PASS; ++i) {
        const size_t count = sampler_next(sampler, pass * PER_PASS + i, examples + taken);
        assert_int_equal(count, i + 1 < PER_PASS ? BATCH : SUBSET % BATCH);
        taken += count;
    }
    assert_int_equal(taken, SUBSET);
}

static void test_each_example_comes_once_a_pass(void **state) {
    (void)state;
    uint32_t subset[SUBSET], examples[SUBSET + BATCH];
    fill_subset(subset);
    struct sampler sampler = sampler_make(1, 2, subset);
    assert_int_equal(sampler_batches_per_pass(&sampler), PER_PASS);
    for (size_t pass = 0; pass < 20; ++pass) {
        bool is_there[SUBSET] = {false};
        take_pass(&sampler, pass, examples);
        for (size_t i = 0; i < SUBSET; ++i) {
            const uint32_t place = (examples[i] - 100) / 3;
            assert_true(examples[i] == subset[place] && !is_there[place]);
            is_there[place] = true;
        }
    }
    sampler_free(&sampler);
}

static void test_passes_seeds_and_streams_differ(void **state) {
    (void)state;
    uint32_t subset[SUBSET], first[SUBSET + BATCH], other[SUBSET + BATCH];
    fill_subset(subset);
    struct sampler samplers[] = {sampler_make(1, 2, subset), sampler_make(2, 2, subset),
                                 sampler_make(1, 3, subset)};
    take_pass(&samplers[0], 0, first);
    for (int i = 0; i < 3; ++i) {
        take_pass(&samplers[i], i == 0 ? 1 : 0, other);
        assert_memory_not_equal(first, other, SUBSET * sizeof *first);
        sampler_free(&samplers[i]);
    }
}

/* Steps asked for in any order give what they give in order. */
static void test_a_batch_is_a_function_of_the_step(void **state) {
    (void)state;
    uint32_t subset[SUBSET], expected[40][BATCH], examples[BATCH];
    size_t counts[40];
    fill_subset(subset);
    struct sampler in_order = sampler_make(1, 2, subset), other = sampler_make(1, 2, subset);
    for (size_t step = 0; step < 40; ++step)
        counts[step] = sampler_next(&in_order, step, expected[step]);
    for (size_t i = 0; i < 200; ++i) {
        const size_t step = i * 17 % 40;
        assert_int_equal(sampler_next(&other, step, examples), counts[step]);
        assert_memory_equal(examples, expected[step], counts[step] * sizeof *examples);
    }
    sampler_free(&in_order);
    sampler_free(&other);
}

static void test_a_batch_larger_than_the_subset(void **state) {
    (void)state;
    const uint32_t subset[] = {4, 9};
    uint32_t examples[8];
    struct sampler sampler = sampler_create(1, 1, subset, 2, 8);
    assert_int_equal(sampler_batches_per_pass(&sampler), 1);
    for (size_t step = 0; step < 5; ++step) {
        assert_int_equal(sampler_next(&sampler, step, examples), 2);
        assert_int_equal(examples[0] + examples[1], 13);
    }
    sampler_free(&sampler);
}

#define BATCH_TEST(test) cmocka_unit_test_setup_teardown(test, remember_blocks, check_blocks)

int main(void) {
    const struct CMUnitTest tests[] = {
        BATCH_TEST(test_random_batches),
        BATCH_TEST(test_batches_of_the_longest_examples),
        BATCH_TEST(test_longest_processing_time_rule),
        BATCH_TEST(test_a_batch_without_any_label_has_loss_scale_0),
        BATCH_TEST(test_each_example_comes_once_a_pass),
        BATCH_TEST(test_passes_seeds_and_streams_differ),
        BATCH_TEST(test_a_batch_is_a_function_of_the_step),
        BATCH_TEST(test_a_batch_larger_than_the_subset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
