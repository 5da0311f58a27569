/* Batches. All memory is taken once, for the largest batch. */
#include "train/batch.h"

#include "base/memory.h"
#include "base/random.h"
#include "base/report.h"

#include <stdlib.h>
#include <string.h>

struct placed {
    size_t length, position, bin, row;
};

/* A grid row's part of a microbatch. */
struct part {
    size_t tokens, sequences;
};

struct batch_memory {
    size_t batch_size, longest, microbatch_tokens, largest_count;
    size_t *offsets, *pair_offsets;         /* one region of batch_size + 1 a microbatch */
    size_t *sequence_numbers;               /* [batch_size + 1] 0, 1, 2, ... */
    uint32_t *samples;                      /* [batch_size] */
    int32_t *token_ids, *type_ids, *labels; /* [batch_size * longest] */
    float *targets;                         /* [batch_size] */
    struct placed *placed;                  /* [batch_size] */
    size_t *bin_tokens;                     /* [largest_count] */
    size_t row, rows;                       /* of a grid */
    struct part *parts;                     /* [largest_count * rows] */
};

size_t batch_largest_count(size_t batch_size, size_t longest, size_t microbatch_tokens) {
    const size_t count = (batch_size * longest + microbatch_tokens - 1) / microbatch_tokens;
    return count < batch_size ? count : batch_size;
}

struct capacity batch_capacity(size_t batch_size, size_t longest, size_t microbatch_tokens) {
    const size_t all = batch_size * longest, packed = microbatch_tokens + longest;
    const size_t tokens = all < packed ? all : packed;
    return (struct capacity){tokens, batch_size, longest, tokens * longest};
}

struct batch *batch_create(size_t batch_size, size_t longest, size_t microbatch_tokens) {
    struct batch *batch = memory_allocate(1, sizeof *batch, "a batch");
    struct batch_memory *memory = memory_allocate(1, sizeof *memory, "a batch");
    const size_t count = batch_largest_count(batch_size, longest, microbatch_tokens);
    const size_t tokens = batch_size * longest;
    *memory = (struct batch_memory){
        .batch_size = batch_size,
        .longest = longest,
        .microbatch_tokens = microbatch_tokens,
        .largest_count = count,
        .offsets = memory_allocate(count * (batch_size + 1), sizeof(size_t), "a batch"),
        .pair_offsets = memory_allocate(count * (batch_size + 1), sizeof(size_t), "a batch"),
        .sequence_numbers = memory_allocate(batch_size + 1, sizeof(size_t), "a batch"),
        .samples = memory_allocate(batch_size, sizeof(uint32_t), "a batch"),
        .token_ids = memory_allocate(tokens, sizeof(int32_t), "a batch"),
        .type_ids = memory_allocate(tokens, sizeof(int32_t), "a batch"),
        .labels = memory_allocate(tokens, sizeof(int32_t), "a batch"),
        .targets = memory_allocate(batch_size, sizeof(float), "a batch"),
        .placed = memory_allocate(batch_size, sizeof(struct placed), "a batch"),
        .bin_tokens = memory_allocate(count, sizeof(size_t), "a batch"),
        .rows = 1,
        .parts = memory_allocate(count, sizeof(struct part), "a batch"),
    };
    for (size_t i = 0; i <= batch_size; ++i)
        memory->sequence_numbers[i] = i;
    batch->memory = memory;
    batch->microbatches = memory_allocate(count, sizeof *batch->microbatches, "a batch");
    batch->examples = memory_allocate(count, sizeof *batch->examples, "a batch");
    return batch;
}

void batch_destroy(struct batch **batch) {
    if (*batch == NULL)
        return;
    struct batch_memory *memory = (*batch)->memory;
    memory_free(memory->offsets);
    memory_free(memory->pair_offsets);
    memory_free(memory->sequence_numbers);
    memory_free(memory->samples);
    memory_free(memory->token_ids);
    memory_free(memory->type_ids);
    memory_free(memory->labels);
    memory_free(memory->targets);
    memory_free(memory->placed);
    memory_free(memory->bin_tokens);
    memory_free(memory->parts);
    memory_free(memory);
    memory_free((*batch)->microbatches);
    memory_free((*batch)->examples);
    memory_free(*batch);
    *batch = NULL;
}

void batch_take_row(struct batch *batch, size_t row, size_t rows) {
    struct batch_memory *memory = batch->memory;
    memory->row = row;
    memory->rows = rows;
    memory->parts = memory_resize(memory->parts, memory->largest_count * rows,
                                  sizeof *memory->parts, "a batch");
}

/* The rule leaves no row with more than the average and one sequence. */
struct capacity batch_row_capacity(const struct capacity *whole, size_t rows) {
    struct capacity capacity = *whole;
    if (rows > 1 && whole->tokens / rows + whole->longest < capacity.tokens)
        capacity.tokens = whole->tokens / rows + whole->longest;
    capacity.pairs = capacity.tokens * capacity.longest;
    return capacity;
}

static int longest_first(const void *left, const void *right) {
    const struct placed *a = left, *b = right;
    if (a->length != b->length)
        return a->length > b->length ? -1 : 1;
    return (a->position > b->position) - (a->position < b->position);
}

static int by_bin(const void *left, const void *right) {
    const struct placed *a = left, *b = right;
    if (a->bin != b->bin)
        return a->bin < b->bin ? -1 : 1;
    return (a->position > b->position) - (a->position < b->position);
}

/* The part of a microbatch with the fewest tokens gets the sequence. */
static size_t place_in_row(struct batch_memory *memory, size_t bin, size_t length) {
    struct part *parts = memory->parts + bin * memory->rows;
    size_t least = 0;
    for (size_t r = 1; r < memory->rows; ++r)
        if (parts[r].tokens < parts[least].tokens)
            least = r;
    parts[least].tokens += length;
    ++parts[least].sequences;
    return least;
}

static size_t count_labels(const int32_t *labels, size_t count) {
    size_t labelled = 0;
    for (size_t i = 0; i < count; ++i)
        labelled += labels[i] >= 0;
    return labelled;
}

/* Leaves memory->placed sorted by microbatch. */
static void balance(struct batch *batch, const struct dataset *dataset, const uint32_t *examples,
                    size_t count) {
    struct batch_memory *memory = batch->memory;
    batch->num_tokens = batch->num_labels = 0;
    for (size_t i = 0; i < count; ++i) {
        const size_t e = examples[i];
        const size_t length = dataset->offsets[e + 1] - dataset->offsets[e];
        FAULT_UNLESS(length <= memory->longest, "example %zu has %zu tokens, planned for %zu", e,
                     length, memory->longest);
        memory->placed[i] = (struct placed){.length = length, .position = i};
        batch->num_tokens += length;
        batch->num_labels += task_labels_tokens(dataset->kind)
                                 ? count_labels(dataset->labels + dataset->offsets[e], length)
                                 : count_labels(dataset->labels + e, 1);
    }
    const size_t wanted =
        (batch->num_tokens + memory->microbatch_tokens - 1) / memory->microbatch_tokens;
    batch->num_microbatches = wanted < count ? wanted : count;
    FAULT_UNLESS(batch->num_microbatches <= memory->largest_count, "too many microbatches");
    memset(memory->bin_tokens, 0, batch->num_microbatches * sizeof *memory->bin_tokens);
    memset(memory->parts, 0, memory->largest_count * memory->rows * sizeof *memory->parts);
    qsort(memory->placed, count, sizeof *memory->placed, longest_first);
    for (size_t i = 0; i < count; ++i) {
        size_t least = 0;
        for (size_t b = 1; b < batch->num_microbatches; ++b)
            if (memory->bin_tokens[b] < memory->bin_tokens[least])
                least = b;
        memory->placed[i].bin = least;
        memory->bin_tokens[least] += memory->placed[i].length;
        memory->placed[i].row = place_in_row(memory, least, memory->placed[i].length);
    }
    qsort(memory->placed, count, sizeof *memory->placed, by_bin);
}

/* Where the next microbatch's parts go. */
struct fill_position {
    size_t placed, sequences, tokens, labels;
};

/* The most that any row of a grid has. */
static void set_bounds(const struct batch_memory *memory, size_t bin,
                       struct microbatch *microbatch) {
    for (size_t r = 0; r < memory->rows; ++r) {
        const struct part *part = &memory->parts[bin * memory->rows + r];
        if (part->tokens > microbatch->most_tokens)
            microbatch->most_tokens = part->tokens;
        if (part->sequences > microbatch->most_sequences)
            microbatch->most_sequences = part->sequences;
    }
}

static void fill_microbatch(struct batch *batch, const struct dataset *dataset,
                            const uint32_t *examples, size_t count, size_t bin,
                            struct fill_position *at) {
    struct batch_memory *memory = batch->memory;
    struct microbatch *microbatch = &batch->microbatches[bin];
    size_t *offsets = memory->offsets + bin * (memory->batch_size + 1);
    size_t *pairs = memory->pair_offsets + bin * (memory->batch_size + 1);
    *microbatch = (struct microbatch){
        .offsets = offsets,
        .pair_offsets = pairs,
        .sequence_numbers = memory->sequence_numbers,
        .samples = memory->samples + at->sequences,
        .token_ids = memory->token_ids + at->tokens,
        .type_ids = memory->type_ids + at->tokens,
        .labels = memory->labels + at->labels,
        .targets = dataset->targets != NULL ? memory->targets + at->sequences : NULL,
    };
    batch->examples[bin] = memory->samples + at->sequences;
    set_bounds(memory, bin, microbatch);
    offsets[0] = pairs[0] = 0;
    for (; at->placed < count && memory->placed[at->placed].bin == bin; ++at->placed) {
        const struct placed *placed = &memory->placed[at->placed];
        if (placed->row != memory->row)
            continue;
        const uint32_t example = examples[placed->position];
        const size_t first = dataset->offsets[example], s = microbatch->num_sequences++;
        const size_t bytes = placed->length * sizeof(int32_t);
        memory->samples[at->sequences] = example;
        if (dataset->targets != NULL)
            memory->targets[at->sequences] = dataset->targets[example];
        ++at->sequences;
        offsets[s + 1] = offsets[s] + placed->length;
        pairs[s + 1] = pairs[s] + placed->length * placed->length;
        memcpy(memory->token_ids + at->tokens, dataset->token_ids + first, bytes);
        memcpy(memory->type_ids + at->tokens, dataset->type_ids + first, bytes);
        if (task_labels_tokens(dataset->kind)) {
            memcpy(memory->labels + at->labels, dataset->labels + first, bytes);
            at->labels += placed->length;
        } else {
            memory->labels[at->labels++] = dataset->labels[example];
        }
        at->tokens += placed->length;
        if (placed->length > microbatch->longest)
            microbatch->longest = placed->length;
    }
    microbatch->num_tokens = offsets[microbatch->num_sequences];
}

void batch_fill(struct batch *batch, const struct dataset *dataset, const uint32_t *examples,
                size_t count, uint64_t step, bool has_dropout) {
    FAULT_UNLESS(count > 0 && count <= batch->memory->batch_size, "a batch of %zu examples", count);
    balance(batch, dataset, examples, count);
    struct fill_position at = {0};
    for (size_t bin = 0; bin < batch->num_microbatches; ++bin)
        fill_microbatch(batch, dataset, examples, count, bin, &at);
    batch->num_examples = count;
    for (size_t bin = 0; bin < batch->num_microbatches; ++bin) {
        struct microbatch *microbatch = &batch->microbatches[bin];
        microbatch->loss_scale = batch->num_labels == 0 ? 0 : 1.0f / (float)batch->num_labels;
        microbatch->step = step;
        microbatch->has_dropout = has_dropout;
    }
}

struct sampler sampler_create(uint64_t seed, uint64_t stream, const uint32_t *subset, size_t count,
                              size_t batch_size) {
    FAULT_UNLESS(count > 0 && batch_size > 0, "a sampler of %zu examples", count);
    return (struct sampler){
        .seed = seed,
        .stream = stream,
        .subset = subset,
        .count = count,
        .batch_size = batch_size,
        .permutation = memory_allocate(count, sizeof(uint32_t), "a sampler"),
        .pass = SIZE_MAX,
    };
}

void sampler_free(struct sampler *sampler) {
    memory_free(sampler->permutation);
    sampler->permutation = NULL;
}

size_t sampler_batches_per_pass(const struct sampler *sampler) {
    return (sampler->count + sampler->batch_size - 1) / sampler->batch_size;
}

size_t sampler_next(struct sampler *sampler, size_t step, uint32_t *examples) {
    const size_t per_pass = sampler_batches_per_pass(sampler);
    const size_t pass = step / per_pass, first = step % per_pass * sampler->batch_size;
    if (pass != sampler->pass) {
        const struct random_stream stream =
            random_stream_make(sampler->seed, RANDOM_SHUFFLE, sampler->stream, pass, 0);
        random_permutation(&stream, sampler->count, sampler->permutation);
        sampler->pass = pass;
    }
    size_t count = 0;
    for (; count < sampler->batch_size && first + count < sampler->count; ++count)
        examples[count] = sampler->subset[sampler->permutation[first + count]];
    return count;
}
