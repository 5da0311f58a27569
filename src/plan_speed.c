/* The speed of this machine at this job: each kind of part of the model does its passes on a
 * microbatch of the training set, with weights of random numbers. */
#include "plan.h"

#include "base/memory.h"
#include "base/random.h"
#include "math/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Seconds for one part and kind of pass; passes at least and at most. */
static const double ENOUGH_SECONDS = 0.25;
enum { FEWEST_REPEATS = 3, MOST_REPEATS = 50, MOST_TOKENS = 1024, EVICTED_BYTES = 64 << 20 };

/* What the passes of a part work on. */
struct bench {
    struct stage *stage;
    struct microbatch microbatch;
    struct slot *slot;
    struct workspace *workspace;
    float *weights, *factors, *direction, *selection, *d_factors, *d_selection;
    float *input, *output; /* messages [tokens, hidden] */
    size_t message;        /* floats */
    int num_threads;
    double seconds[NUM_STAGE_PASSES][MOST_REPEATS];
    size_t num_repeats;
    float *evicting; /* [EVICTED_BYTES] */
};

double plan_core_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Quick numbers around 0, of the size of weights. */
static void scatter(float *values, size_t count) {
    uint32_t state = 12345;
    for (size_t i = 0; i < count; ++i) {
        state = state * 1664525u + 1013904223u;
        values[i] = 0.04f * ((float)(state >> 8) * 0x1p-24f - 0.5f);
    }
}

float *plan_random_values(size_t count) {
    float *values = memory_allocate(count, sizeof *values, "a timing");
    scatter(values, count);
    return values;
}

float *plan_random_weights(struct stage *stage) {
    size_t count, floats = 0, used = 0;
    struct stage_weight *weights = stage_weights(stage, &count);
    for (size_t i = 0; i < count; ++i)
        floats += weights[i].rows * weights[i].columns;
    float *values = plan_random_values(floats);
    for (size_t i = 0; i < count; ++i) {
        stage_weight_set(&weights[i], values + used);
        used += weights[i].rows * weights[i].columns;
    }
    stage_weights_free(weights, count);
    return values;
}

static struct bench bench_open(struct stage *stage, const struct microbatch *microbatch,
                               bool has_tangents, int num_threads) {
    const struct capacity capacity = {microbatch->num_tokens, microbatch->num_sequences,
                                      microbatch->longest,
                                      microbatch->pair_offsets[microbatch->num_sequences]};
    struct bench bench = {
        .stage = stage,
        .microbatch = *microbatch,
        .slot = slot_create(stage, &capacity, has_tangents),
        .workspace = workspace_create(stage, &capacity, num_threads),
        .factors = plan_random_values(stage->factors.size),
        .direction = plan_random_values(stage->factors.size),
        .selection = plan_random_values(stage->selection_size),
        .d_factors = memory_allocate(stage->factors.size, sizeof(float), "a timing"),
        .d_selection = memory_allocate(stage->selection_size, sizeof(float), "a timing"),
        .num_threads = num_threads,
        .message = microbatch->num_tokens * stage->options.architecture.hidden_size,
    };
    bench.input = plan_random_values(bench.message);
    bench.output = plan_random_values(bench.message);
    bench.evicting = memory_allocate(EVICTED_BYTES, 1, "a timing");
    bench.weights = plan_random_weights(stage);
    return bench;
}

static void bench_close(struct bench *bench) {
    slot_destroy(&bench->slot);
    workspace_destroy(&bench->workspace);
    memory_free(bench->weights);
    memory_free(bench->factors);
    memory_free(bench->direction);
    memory_free(bench->selection);
    memory_free(bench->d_factors);
    memory_free(bench->d_selection);
    memory_free(bench->evicting);
    memory_free(bench->input);
    memory_free(bench->output);
}

static void do_pass(struct bench *bench, enum stage_pass pass) {
    const struct stage_options *options = &bench->stage->options;
    const bool is_first = options->has_embedding, is_last = options->has_task_head;
    float *selection = bench->stage->selection_size > 0 ? bench->selection : NULL;
    const struct point point = {bench->factors, selection};
    struct gradient gradient = {bench->d_factors, selection == NULL ? NULL : bench->d_selection};
    struct microbatch microbatch = bench->microbatch;
    microbatch.has_dropout = pass != PASS_EVALUATE;
    switch (pass) {
    case PASS_FORWARD:
    case PASS_EVALUATE:
        stage_forward(bench->stage, &point, &microbatch, pass == PASS_FORWARD, bench->slot,
                      bench->workspace);
        break;
    case PASS_BACKWARD:
        stage_backward(bench->stage, &point, &microbatch, bench->slot, bench->workspace,
                       is_last ? NULL : bench->output, &gradient, is_first ? NULL : bench->input);
        break;
    case PASS_TANGENT:
        stage_tangent(bench->stage, &point, bench->direction, &microbatch, bench->slot,
                      bench->workspace, is_first ? NULL : bench->input,
                      is_last ? NULL : bench->output);
        break;
    case PASS_BACKWARD_TANGENT:
        stage_backward_tangent(bench->stage, &point, bench->direction, &microbatch, bench->slot,
                               bench->workspace, is_last ? NULL : bench->output, bench->d_selection,
                               is_first ? NULL : bench->input);
        break;
    case NUM_STAGE_PASSES:
        break;
    }
}

/* A run comes back to a block when it has been through all the others: caches hold other things. */
static void evict(struct bench *bench) {
    for (size_t i = 0; i < EVICTED_BYTES / sizeof(float); i += 16)
        bench->evicting[i] += 1;
}

static void time_pass(struct bench *bench, enum stage_pass pass) {
    if (!bench->stage->options.has_embedding)
        scatter(slot_input(bench->slot), bench->message);
    scatter(bench->input, bench->message);
    scatter(bench->output, bench->message);
    evict(bench);
    const double start = plan_core_seconds();
    do_pass(bench, pass);
    bench->seconds[pass][bench->num_repeats] = (plan_core_seconds() - start) / bench->num_threads;
}

/* The passes in the order of a training; the first round only warms up. */
static void time_passes(struct bench *bench, bool has_tangents) {
    const double start = plan_core_seconds();
    for (int round = 0; round <= MOST_REPEATS; ++round) {
        if (round > FEWEST_REPEATS && plan_core_seconds() - start > ENOUGH_SECONDS)
            break;
        bench->num_repeats = round == 0 ? 0 : (size_t)round - 1;
        for (int p = 0; p < NUM_STAGE_PASSES; ++p) {
            const bool is_tangent = p == PASS_TANGENT || p == PASS_BACKWARD_TANGENT;
            if (has_tangents || !is_tangent)
                time_pass(bench, (enum stage_pass)p);
        }
    }
    ++bench->num_repeats;
}

static int compare_numbers(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *values, size_t count) {
    qsort(values, count, sizeof *values, compare_numbers);
    return values[count / 2];
}

/* Where a rate is given: so many operations an element, for what memory takes. */
enum { UPDATE_OPERATIONS = 40, ACCUMULATE_OPERATIONS = 10 };

static void time_part(const struct planner *planner, const struct microbatch *microbatch,
                      bool has_tangents, struct plan_part *part) {
    const double rate = planner->machine.rate * planner->job->num_threads;
    for (int p = 0; p < NUM_STAGE_PASSES && rate > 0; ++p)
        part->seconds[p] = 1 / rate;
    if (rate > 0)
        return;
    struct bench bench =
        bench_open(part->stage, microbatch, has_tangents, planner->job->num_threads);
    time_passes(&bench, has_tangents);
    for (int p = 0; p < NUM_STAGE_PASSES; ++p) {
        const double operations = stage_operations(part->stage, (enum stage_pass)p, microbatch);
        if (operations > 0)
            part->seconds[p] = median(bench.seconds[p], bench.num_repeats) / operations;
    }
    bench_close(&bench);
}

/* The first microbatch of a batch; fewer of its sequences where it is large: by then the speed no
 * longer depends on the size. */
static struct microbatch shortened(const struct microbatch *microbatch, size_t most) {
    struct microbatch part = *microbatch;
    while (part.num_sequences > 1 && part.offsets[part.num_sequences] > most)
        --part.num_sequences;
    part.num_tokens = part.offsets[part.num_sequences];
    return part;
}

static bool part_of(const struct architecture *architecture, enum plan_part_kind kind,
                    struct stage_part *part) {
    const size_t blocks = architecture->num_blocks;
    *part = (struct stage_part){.num_blocks = 1};
    if (kind == PART_LAST)
        part->first_block = blocks - 1;
    else if (kind == PART_MIDDLE)
        part->first_block = 1;
    part->has_embedding = part->first_block == 0;
    part->has_task_head = kind == PART_LAST;
    return blocks > 0 && (kind == PART_LAST || (kind == PART_FIRST ? blocks > 1 : blocks > 2));
}

static void time_speed(const struct planner *planner, const struct stage_request *request,
                       const struct microbatch *microbatch, bool has_tangents,
                       struct plan_speed *speed) {
    const struct microbatch most = shortened(microbatch, MOST_TOKENS);
    for (int kind = 0; kind < NUM_PART_KINDS; ++kind) {
        struct stage_part part;
        struct plan_part *timed = &speed->parts[kind];
        if (!part_of(&planner->job->architecture, (enum plan_part_kind)kind, &part))
            continue;
        timed->stage = job_new_stage(planner->job, &part, request);
        time_part(planner, &most, has_tangents, timed);
    }
}

/* An update of factors: their norm, Adam, and what else goes over them, a vector at a time. */
static void time_updates(const struct planner *planner, struct plan_speed *speed) {
    enum { SIZE = 1 << 20 };
    const double rate = planner->machine.rate;
    if (rate > 0) {
        speed->update = UPDATE_OPERATIONS / rate;
        speed->accumulate = ACCUMULATE_OPERATIONS / rate;
        return;
    }
    struct adam adam = adam_create(SIZE);
    float *gradient = plan_random_values(SIZE), *values = plan_random_values(SIZE);
    const struct adam_step step = {
        .rate = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .gradient_scale = 1};
    double best = (double)INFINITY, best_add = (double)INFINITY;
    volatile double norm = 0;
    for (int round = 0; round < FEWEST_REPEATS; ++round) {
        const double start = plan_core_seconds();
        double sum = 0;
        for (size_t i = 0; i < SIZE; ++i)
            sum += (double)gradient[i] * gradient[i];
        norm = sum;
        adam_update(&adam, &step, NULL, gradient, values);
        const double middle = plan_core_seconds();
        vector_add(gradient, SIZE, values);
        best = fmin(best, middle - start);
        best_add = fmin(best_add, plan_core_seconds() - middle);
    }
    (void)norm;
    speed->update = best / SIZE;
    speed->accumulate = best_add / SIZE;
    adam_free(&adam);
    memory_free(gradient);
    memory_free(values);
}

void plan_time_parts(struct planner *planner) {
    const struct job *job = planner->job;
    struct batch *batch = trainer_batch(&planner->trainer);
    const size_t count = planner->trainer.train->num_examples;
    const size_t size = planner->trainer.optimizer.batch_size < count
                            ? planner->trainer.optimizer.batch_size
                            : count;
    uint32_t *examples = memory_allocate(size, sizeof *examples, "a batch's examples");
    for (size_t i = 0; i < size; ++i)
        examples[i] = (uint32_t)(i * (count / size));
    batch_fill(batch, planner->trainer.train, examples, size, 0, true);
    const struct microbatch *microbatch = &batch->microbatches[0];
    const bool is_exact =
        job->config.search.is_meta && job->config.search.hypergradient == HYPERGRADIENT_EXACT;
    for (int phase = planner->searches ? 0 : 1; phase < 2; ++phase) {
        const struct stage_request request =
            phase == 0 ? method_autolora_request(&planner->input, planner->search_ranks)
                       : planner->method->training_request(&planner->input, planner->ranks);
        time_speed(planner, &request, microbatch, phase == 0 && is_exact, &planner->speeds[phase]);
        time_updates(planner, &planner->speeds[phase]);
    }
    batch_destroy(&batch);
    memory_free(examples);
}
