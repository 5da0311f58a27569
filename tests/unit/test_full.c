/* All weights trained, or bottleneck adapters with layer norms: every gradient against PyTorch on
 * tiny models of every family, in one stage and split over several, and against the loss itself
 * with dropout. */
#include "fixture.h"
#include "model/decoder.h"
#include "reference.h"
#include "train/pipeline.h"

enum { MOST_STAGES = 3, BOTTLENECK = 5 };
static const double TOLERANCE = 1e-4;

/* A model on one to three stages, passed through by hand, and the gradients of its case. */
struct bench {
    struct fixture fixture;
    struct weights *expected;
    struct fixture_batch batch;
    bool has_adapters; /* and frozen weights */
    size_t num_stages;
    struct stage *stages[MOST_STAGES];
    struct slot *slots[MOST_STAGES];
    struct workspace *workspaces[MOST_STAGES];
    float *factors[MOST_STAGES], *gradients[MOST_STAGES];
    float *travelling; /* [tokens, hidden] between the stages */
};

static const float *tensor(struct weights *weights, const char *prefix, const char *name,
                           size_t count) {
    char *full_name = memory_format("%s%s", prefix, name);
    const struct tensor *found = weights_find(weights, full_name);
    if (found == NULL)
        fail_msg("no tensor %s", full_name);
    assert_int_equal(found->count, count);
    memory_free(full_name);
    struct problem problem = {0};
    const float *values = weights_floats(weights, found, &problem);
    assert_non_null(values);
    return values;
}

/* The start: pretrained tensors from the checkpoint, the task head from the case. */
static void fill_factors(const struct bench *bench, const struct parameter_table *table,
                         float *factors) {
    for (size_t i = 0; i < table->count; ++i) {
        const struct parameter *entry = &table->entries[i];
        const size_t count = entry->rows * entry->columns;
        struct problem problem = {0};
        const float *values = entry->is_pretrained
                                  ? weights_pretrained(bench->fixture.checkpoint, entry->name,
                                                       entry->rows, entry->columns, &problem)
                                  : tensor(bench->expected, "value.", entry->name, count);
        if (values == NULL)
            fail_msg("%s", problem.text);
        memcpy(factors + entry->offset, values, count * sizeof *values);
    }
}

static void open_stage(struct bench *bench, size_t s, size_t first_block, size_t num_blocks) {
    const struct stage_options options = {
        .architecture = bench->fixture.architecture,
        .head_kind = bench->fixture.head_kind,
        .num_labels = bench->fixture.num_labels,
        .first_block = first_block,
        .num_blocks = num_blocks,
        .has_embedding = s == 0,
        .has_task_head = s + 1 == bench->num_stages,
        .trains_all = !bench->has_adapters,
        .adapters.bottleneck = bench->has_adapters ? BOTTLENECK : 0,
        .seed = 3,
    };
    bench->stages[s] = stage_create(&options);
    fixture_load_stage(&bench->fixture, bench->stages[s]);
    bench->slots[s] = slot_create(bench->stages[s], &bench->batch.capacity, false);
    bench->workspaces[s] = workspace_create(bench->stages[s], &bench->batch.capacity, 8);
    const size_t size = bench->stages[s]->factors.size;
    bench->factors[s] = memory_allocate(size, sizeof(float), "factors");
    bench->gradients[s] = memory_allocate(size, sizeof(float), "gradients");
    for (size_t i = 0; i < size; ++i)
        bench->gradients[s][i] = NAN; /* all entries have to be written */
    fill_factors(bench, &bench->stages[s]->factors, bench->factors[s]);
}

/* folder: "full" or "adapter"; dropout: the rate everywhere. */
static struct bench bench_open(const char *folder, const char *name, size_t num_stages,
                               float dropout) {
    struct bench bench = {.fixture = fixture_open(name), .num_stages = num_stages};
    char *file = memory_format("%s.safetensors", name);
    bench.has_adapters = strcmp(folder, "adapter") == 0;
    bench.expected = fixture_weights(folder, file);
    memory_free(file);
    bench.batch = fixture_batch(&bench.fixture, "train");
    bench.batch.microbatch.has_dropout = dropout > 0;
    fixture_set_dropout(&bench.fixture.architecture, dropout, dropout);
    const size_t blocks = bench.fixture.architecture.num_blocks;
    for (size_t s = 0; s < num_stages; ++s)
        open_stage(&bench, s, blocks * s / num_stages,
                   blocks * (s + 1) / num_stages - blocks * s / num_stages);
    bench.travelling =
        memory_allocate(bench.batch.microbatch.num_tokens * bench.fixture.architecture.hidden_size,
                        sizeof(float), "travelling");
    return bench;
}

static void bench_close(struct bench *bench) {
    for (size_t s = 0; s < bench->num_stages; ++s) {
        slot_destroy(&bench->slots[s]);
        workspace_destroy(&bench->workspaces[s]);
        stage_destroy(&bench->stages[s]);
        memory_free(bench->factors[s]);
        memory_free(bench->gradients[s]);
    }
    memory_free(bench->travelling);
    fixture_batch_free(&bench->batch);
    weights_close(&bench->expected);
    fixture_close(&bench->fixture);
}

static double forward(struct bench *bench, bool has_backward) {
    const struct microbatch *microbatch = &bench->batch.microbatch;
    double loss = 0;
    for (size_t s = 0; s < bench->num_stages; ++s) {
        const struct stage *stage = bench->stages[s];
        if (s > 0)
            memcpy(slot_input(bench->slots[s]), slot_output(bench->slots[s - 1]),
                   stage_input_rows(stage, microbatch) * bench->fixture.architecture.hidden_size *
                       sizeof(float));
        const struct point point = {bench->factors[s], NULL};
        loss = stage_forward(stage, &point, microbatch, has_backward, bench->slots[s],
                             bench->workspaces[s]);
    }
    return loss;
}

static void backward(struct bench *bench) {
    for (size_t s = bench->num_stages; s-- > 0;) {
        const struct point point = {bench->factors[s], NULL};
        struct gradient gradient = {bench->gradients[s], NULL};
        stage_backward(bench->stages[s], &point, &bench->batch.microbatch, bench->slots[s],
                       bench->workspaces[s], s + 1 < bench->num_stages ? bench->travelling : NULL,
                       &gradient, s > 0 ? bench->travelling : NULL);
    }
}

/* What the pipeline does: both places of a tied embedding get the sum. */
static void combine_tied(struct bench *bench) {
    const struct stage *first = bench->stages[0], *last = bench->stages[bench->num_stages - 1];
    float *one = bench->gradients[0] + first->tied_offset;
    float *other = bench->gradients[bench->num_stages - 1] + last->tied_copy_offset;
    for (size_t i = 0; i < first->tied_size; ++i)
        one[i] = other[i] = one[i] + other[i];
}

/* Relative to the largest gradient of the tensor, or, where that is almost 0 (a key's bias changes
 * nothing), of the model. */
static void compare(struct bench *bench, double largest_of_all) {
    for (size_t s = 0; s < bench->num_stages; ++s)
        for (size_t i = 0; i < bench->stages[s]->factors.count; ++i) {
            const struct parameter *entry = &bench->stages[s]->factors.entries[i];
            const size_t count = entry->rows * entry->columns;
            const float *expected = tensor(bench->expected, "grad.", entry->name, count);
            const float *found = bench->gradients[s] + entry->offset;
            double largest = 1e-3 * largest_of_all;
            for (size_t j = 0; j < count; ++j)
                largest = fmax(largest, fabs((double)expected[j]));
            for (size_t j = 0; j < count; ++j)
                if (!(fabs((double)found[j] - (double)expected[j]) <= TOLERANCE * largest))
                    fail_msg("%s: element %zu is %g, expected %g (largest %g)", entry->name, j,
                             (double)found[j], (double)expected[j], largest);
        }
}

static double largest_gradient(const struct bench *bench) {
    double largest = 0;
    for (size_t s = 0; s < bench->num_stages; ++s)
        for (size_t i = 0; i < bench->stages[s]->factors.size; ++i)
            largest = fmax(largest, fabs((double)bench->gradients[s][i]));
    return largest;
}

static void check_against_pytorch(const char *folder, const char *name) {
    for (size_t num_stages = 1; num_stages <= MOST_STAGES; ++num_stages) {
        struct bench bench = bench_open(folder, name, num_stages, 0);
        const float loss = (float)forward(&bench, true);
        backward(&bench);
        combine_tied(&bench);
        assert_close(&loss, tensor(bench.expected, "loss", "", 1), 1, 1e-5, "loss");
        compare(&bench, largest_gradient(&bench));
        bench_close(&bench);
    }
    assert_int_equal(memory_blocks_now(), 0);
}

static void test_bert(void **state) {
    (void)state;
    check_against_pytorch("full", "bert-sequence");
    check_against_pytorch("full", "bert-token");
}

static void test_roberta(void **state) {
    (void)state;
    check_against_pytorch("full", "roberta-sequence");
    check_against_pytorch("full", "roberta-token");
}

static void test_gpt2_with_tied_head(void **state) {
    (void)state;
    check_against_pytorch("full", "gpt2-language");
}

/* The pipeline adds up the two gradients of the tied embedding and counts it once in the norm. */
static void test_pipeline_with_tied_head(void **state) {
    (void)state;
    struct bench bench = bench_open("full", "gpt2-language", 1, 0);
    const struct comms comms = fixture_comms(MPI_COMM_SELF);
    const struct pipeline_options options = {
        .capacity = bench.batch.capacity, .largest_count = 1, .num_threads = 8};
    struct pipeline *pipeline = pipeline_create(&comms, bench.stages[0], &options);
    const struct batch batch = {.num_microbatches = 1, .microbatches = &bench.batch.microbatch};
    const struct point point = {bench.factors[0], NULL};
    struct gradient gradient = {bench.gradients[0], NULL};
    pipeline_gradient(pipeline, &point, &batch, false, &gradient);
    compare(&bench, largest_gradient(&bench));
    double squares = 0;
    for (size_t i = 0; i < bench.stages[0]->factors.count; ++i) {
        const struct parameter *entry = &bench.stages[0]->factors.entries[i];
        for (size_t j = 0; !entry->is_copy && j < entry->rows * entry->columns; ++j)
            squares += pow((double)gradient.factors[entry->offset + j], 2);
    }
    assert_true(fabs(pipeline_norm(pipeline, gradient.factors) - sqrt(squares)) <
                1e-9 * sqrt(squares));
    pipeline_destroy(&pipeline);
    bench_close(&bench);
    assert_int_equal(memory_blocks_now(), 0);
}

/* The batch `copies` times over, each with its part of the loss; free as any batch. */
static void repeat_batch(struct fixture_batch *batch, size_t copies) {
    const struct microbatch one = batch->microbatch;
    const size_t sequences = one.num_sequences, tokens = one.num_tokens;
    batch->offsets =
        memory_resize(batch->offsets, copies * sequences + 1, sizeof(size_t), "a batch");
    batch->pair_offsets =
        memory_resize(batch->pair_offsets, copies * sequences + 1, sizeof(size_t), "a batch");
    batch->sequence_numbers =
        memory_resize(batch->sequence_numbers, copies * sequences + 1, sizeof(size_t), "a batch");
    batch->token_ids = memory_resize(batch->token_ids, copies * tokens, sizeof(int32_t), "a batch");
    batch->labels = memory_resize(batch->labels, copies * tokens, sizeof(int32_t), "a batch");
    batch->samples = memory_resize(batch->samples, copies * sequences, sizeof(uint32_t), "a batch");
    for (size_t i = sequences; i < copies * sequences; ++i)
        batch->samples[i] = (uint32_t)i;
    for (size_t i = tokens; i < copies * tokens; ++i) {
        batch->token_ids[i] = batch->token_ids[i - tokens];
        batch->labels[i] = batch->labels[i - tokens];
    }
    for (size_t i = sequences + 1; i <= copies * sequences; ++i) {
        batch->offsets[i] = batch->offsets[i - sequences] + tokens;
        batch->pair_offsets[i] = batch->pair_offsets[i - sequences] + batch->capacity.pairs;
        batch->sequence_numbers[i] = i;
    }
    batch->microbatch.num_sequences = copies * sequences;
    batch->microbatch.num_tokens = copies * tokens;
    batch->microbatch.offsets = batch->offsets;
    batch->microbatch.pair_offsets = batch->pair_offsets;
    batch->microbatch.sequence_numbers = batch->sequence_numbers;
    batch->microbatch.samples = batch->samples;
    batch->microbatch.token_ids = batch->token_ids;
    batch->microbatch.labels = batch->labels;
    batch->microbatch.loss_scale /= (float)copies;
    batch->capacity = (struct capacity){copies * tokens, copies * sequences, one.longest,
                                        copies * batch->capacity.pairs};
}

/* More labelled tokens than the head takes at a time. */
static void test_many_labelled_tokens(void **state) {
    (void)state;
    struct bench bench = bench_open("full", "gpt2-language", 1, 0);
    repeat_batch(&bench.batch, 7);
    slot_destroy(&bench.slots[0]);
    workspace_destroy(&bench.workspaces[0]);
    bench.slots[0] = slot_create(bench.stages[0], &bench.batch.capacity, false);
    bench.workspaces[0] = workspace_create(bench.stages[0], &bench.batch.capacity, 8);
    forward(&bench, true);
    backward(&bench);
    combine_tied(&bench);
    compare(&bench, largest_gradient(&bench));
    bench_close(&bench);
    assert_int_equal(memory_blocks_now(), 0);
}

static void test_bottleneck_adapters(void **state) {
    (void)state;
    check_against_pytorch("adapter", "bert-sequence");
    check_against_pytorch("adapter", "roberta-token");
    check_against_pytorch("adapter", "gpt2-language");
}

/* Entries of all stages are those of one stage, in the same order, and so are their gradients. */
static void check_stages_equal(const char *folder, const char *name) {
    struct bench one = bench_open(folder, name, 1, 0.2f);
    forward(&one, true);
    backward(&one);
    for (size_t num_stages = 2; num_stages <= MOST_STAGES; ++num_stages) {
        struct bench several = bench_open(folder, name, num_stages, 0.2f);
        forward(&several, true);
        backward(&several);
        size_t at = 0, entry = 0;
        for (size_t s = 0; s < num_stages; ++s) {
            const struct parameter_table *table = &several.stages[s]->factors;
            assert_same_bits(several.gradients[s], one.gradients[0] + at, table->size, name,
                             "gradients");
            for (size_t i = 0; i < table->count; ++i)
                assert_string_equal(table->entries[i].name,
                                    one.stages[0]->factors.entries[entry++].name);
            at += table->size;
        }
        assert_int_equal(at, one.stages[0]->factors.size);
        bench_close(&several);
    }
    bench_close(&one);
}

static void test_stages_are_equal(void **state) {
    (void)state;
    check_stages_equal("full", "bert-sequence");
    check_stages_equal("full", "roberta-token");
    check_stages_equal("full", "gpt2-language");
    check_stages_equal("adapter", "bert-sequence");
    check_stages_equal("adapter", "gpt2-language");
    assert_int_equal(memory_blocks_now(), 0);
}

/* Loss at factors + step * direction of one tensor; 0: at the factors. */
static double loss_beside(struct bench *bench, size_t offset, const float *direction, size_t count,
                          double step) {
    float *values = bench->factors[0] + offset;
    float *kept = memory_allocate(count, sizeof *kept, "values");
    memcpy(kept, values, count * sizeof *kept);
    for (size_t i = 0; i < count; ++i)
        values[i] = (float)((double)values[i] + step * (double)direction[i]);
    const double loss = forward(bench, false);
    memcpy(values, kept, count * sizeof *kept);
    memory_free(kept);
    return loss;
}

/* Every tensor along its own gradient, with dropout: the slope of the loss is the gradient's norm.
 */
static void check_slopes(const char *folder, const char *name) {
    struct bench bench = bench_open(folder, name, 1, 0.2f);
    forward(&bench, true);
    backward(&bench);
    const double smallest = 1e-2 * largest_gradient(&bench);
    size_t checked = 0;
    for (size_t i = 0; i < bench.stages[0]->factors.count; ++i) {
        const struct parameter *entry = &bench.stages[0]->factors.entries[i];
        const size_t count = entry->rows * entry->columns;
        const float *slope = bench.gradients[0] + entry->offset;
        double squares = 0;
        for (size_t j = 0; j < count; ++j)
            squares += (double)slope[j] * (double)slope[j];
        if (sqrt(squares) < smallest)
            continue;
        const double step = 3e-3 / sqrt(squares);
        const double difference = loss_beside(&bench, entry->offset, slope, count, step) -
                                  loss_beside(&bench, entry->offset, slope, count, -step);
        if (!(fabs(difference / (2 * step) - squares) <= 0.02 * squares))
            fail_msg("%s: %s: slope %g, expected %g", name, entry->name, difference / (2 * step),
                     squares);
        ++checked;
    }
    assert_true(checked > bench.stages[0]->factors.count / 2);
    bench_close(&bench);
}

static void test_slopes_with_dropout(void **state) {
    (void)state;
    check_slopes("full", "bert-sequence");
    check_slopes("full", "roberta-sequence");
    check_slopes("full", "gpt2-language");
    check_slopes("adapter", "bert-sequence");
    check_slopes("adapter", "gpt2-language");
    assert_int_equal(memory_blocks_now(), 0);
}

/* `length` tokens of the batch as one sequence; arrays of two borrow. */
static struct microbatch one_sequence(const struct bench *bench, size_t first, size_t length,
                                      size_t offsets[2], size_t pair_offsets[2]) {
    struct microbatch microbatch = bench->batch.microbatch;
    offsets[0] = pair_offsets[0] = 0;
    offsets[1] = length;
    pair_offsets[1] = length * length;
    microbatch.num_sequences = 1;
    microbatch.num_tokens = microbatch.longest = length;
    microbatch.offsets = offsets;
    microbatch.pair_offsets = pair_offsets;
    microbatch.token_ids += first;
    microbatch.type_ids += first;
    microbatch.labels += first;
    return microbatch;
}

/* The decoder, token by token, gives what a pass over the whole sequence gives. */
static void check_decoder(const char *folder) {
    enum { PROMPT = 5 };
    struct bench bench = bench_open(folder, "gpt2-language", 1, 0);
    const struct stage *stage = bench.stages[0];
    const size_t hidden = bench.fixture.architecture.hidden_size;
    const size_t first = bench.batch.offsets[2], length = bench.batch.offsets[3] - first;
    const struct point point = {bench.factors[0], NULL};
    size_t offsets[2], pair_offsets[2];
    struct microbatch sequence = one_sequence(&bench, first, length, offsets, pair_offsets);
    stage_forward(stage, &point, &sequence, false, bench.slots[0], bench.workspaces[0]);
    float *whole = memory_allocate(length * hidden, sizeof *whole, "outputs");
    memcpy(whole, slot_output(bench.slots[0]), length * hidden * sizeof *whole);

    const struct decoder_options options = {1, 1, PROMPT, length - PROMPT};
    struct decoder *decoder = decoder_create(stage, &options);
    sequence = one_sequence(&bench, first, PROMPT, offsets, pair_offsets);
    stage_forward(stage, &point, &sequence, false, bench.slots[0], bench.workspaces[0]);
    decoder_start(decoder, &sequence, bench.slots[0]);
    float *x = memory_allocate(hidden, sizeof *x, "an output");
    for (size_t i = PROMPT; i < length; ++i) {
        const size_t text = 0;
        const struct decoder_rows rows = {1, &text, &text, bench.batch.token_ids + first + i};
        decoder_step(decoder, &point, &rows, x);
        assert_close(x, whole + i * hidden, hidden, 1e-5, folder);
    }
    memory_free(x);
    memory_free(whole);
    decoder_destroy(&decoder);
    bench_close(&bench);
}

static void test_decoder(void **state) {
    (void)state;
    check_decoder("full");
    check_decoder("adapter");
    assert_int_equal(memory_blocks_now(), 0);
}

/* The mean and deviation of a tensor's values. */
static void moments_of(const float *values, size_t count, double *mean, double *deviation) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; ++i) {
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
    }
    *mean = sum / (double)count;
    *deviation = sqrt(squares / (double)count - *mean * *mean);
}

static void check_start(const struct parameter *entry, const float *values, double residual) {
    const size_t count = entry->rows * entry->columns;
    const bool is_norm =
        strstr(entry->name, "LayerNorm") != NULL || strstr(entry->name, ".ln_") != NULL;
    const bool is_bias = strcmp(entry->name + strlen(entry->name) - 5, ".bias") == 0;
    const bool is_residual = strstr(entry->name, "c_proj.weight") != NULL;
    double mean, deviation;
    moments_of(values, count, &mean, &deviation);
    assert_int_equal(entry->has_weight_decay, !is_norm && !is_bias);
    const double expected = is_norm || is_bias ? 0 : is_residual ? residual : 0.02;
    if (fabs(mean - (is_norm && !is_bias)) > 0.004 || fabs(deviation - expected) > 0.2 * expected)
        fail_msg("%s: mean %g, deviation %g", entry->name, mean, deviation);
}

/* Random weights: normal with deviation 0.02 (0.02 / sqrt(2 blocks) in GPT-2's projections back to
 * the hidden size), norms 1, biases 0; the copy of a tied embedding is the embedding. */
static void test_random_start(void **state) {
    (void)state;
    static const char *const names[] = {"bert-sequence", "roberta-token", "gpt2-language"};
    for (size_t n = 0; n < 3; ++n) {
        struct bench bench = bench_open("full", names[n], 1, 0);
        const struct stage *stage = bench.stages[0];
        float *values = bench.factors[0];
        parameter_table_initialize(&stage->factors, 5, 1, values);
        for (size_t i = 0; i < stage->factors.count; ++i)
            check_start(&stage->factors.entries[i], values + stage->factors.entries[i].offset,
                        0.02 / sqrt(6));
        if (n == 2) {
            assert_true(stage->tied_size > 0);
            assert_memory_equal(values + stage->tied_offset, values + stage->tied_copy_offset,
                                stage->tied_size * sizeof *values);
        }
        bench_close(&bench);
    }
    assert_int_equal(memory_blocks_now(), 0);
}

/* Bottlenecks start near the identity: weights with deviation 0.01, biases 0. */
static void test_start_of_bottlenecks(void **state) {
    (void)state;
    struct bench bench = bench_open("adapter", "bert-sequence", 1, 0);
    const double before = forward(&bench, false);
    const struct parameter_table *table = &bench.stages[0]->factors;
    float *fresh = memory_allocate(table->size, sizeof *fresh, "values");
    parameter_table_initialize(table, 5, 1, fresh);
    size_t num_bottlenecks = 0;
    for (size_t i = 0; i < table->count; ++i) {
        const struct parameter *entry = &table->entries[i];
        const size_t count = entry->rows * entry->columns;
        if (strstr(entry->name, ".adapter.") == NULL)
            continue;
        ++num_bottlenecks;
        double mean, deviation;
        moments_of(fresh + entry->offset, count, &mean, &deviation);
        const bool is_bias = strstr(entry->name, ".bias") != NULL;
        assert_true(fabs(deviation - (is_bias ? 0 : 0.01)) < 0.002);
        assert_int_equal(entry->has_weight_decay, !is_bias);
        memcpy(bench.factors[0] + entry->offset, fresh + entry->offset, count * sizeof *fresh);
    }
    assert_int_equal(num_bottlenecks, 3 * 2 * 4);
    const double near = forward(&bench, false);
    for (size_t i = 0; i < table->count; ++i)
        if (strstr(table->entries[i].name, ".adapter.") != NULL)
            memset(bench.factors[0] + table->entries[i].offset, 0,
                   table->entries[i].rows * table->entries[i].columns * sizeof *fresh);
    const double identity = forward(&bench, false);
    assert_true(near != identity && fabs(near - identity) < 0.02 * fabs(before - identity));
    memory_free(fresh);
    bench_close(&bench);
    assert_int_equal(memory_blocks_now(), 0);
}

/* All weights frozen: the tables are as they always were. */
static void test_nothing_more_is_trained_otherwise(void **state) {
    (void)state;
    struct fixture fixture = fixture_open("gpt2-language");
    const struct stage_options options = {
        .architecture = fixture.architecture,
        .head_kind = fixture.head_kind,
        .num_blocks = fixture.architecture.num_blocks,
        .has_embedding = true,
        .has_task_head = true,
    };
    struct stage *stage = stage_create(&options);
    size_t count;
    struct stage_weight *weights = stage_weights(stage, &count);
    assert_int_equal(stage->factors.count, 0);
    assert_int_equal(stage->tied_size, 0);
    assert_true(count > 0);
    stage_weights_free(weights, count);
    stage_destroy(&stage);
    fixture_close(&fixture);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bert),
        cmocka_unit_test(test_roberta),
        cmocka_unit_test(test_gpt2_with_tied_head),
        cmocka_unit_test(test_pipeline_with_tied_head),
        cmocka_unit_test(test_many_labelled_tokens),
        cmocka_unit_test(test_bottleneck_adapters),
        cmocka_unit_test(test_stages_are_equal),
        cmocka_unit_test(test_slopes_with_dropout),
        cmocka_unit_test(test_decoder),
        cmocka_unit_test(test_random_start),
        cmocka_unit_test(test_start_of_bottlenecks),
        cmocka_unit_test(test_nothing_more_is_trained_otherwise),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
