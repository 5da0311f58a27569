/* Seconds of phases and evaluations: a sample of their batches goes through the simulated pipeline
 * at the speeds of the parts. */
#include "plan.h"

#include "base/memory.h"
#include "parallel/simulation.h"

#include <math.h>
#include <string.h>

enum { MOST_SAMPLES = 16 };

/* Within a node, through shared memory. */
static const double NODE_LATENCY = 1e-6, NODE_BANDWIDTH = 8e9;

/* One batch by its microbatches. */
struct load {
    size_t num_microbatches;
    double tokens;
    double *operations; /* [parts, passes, microbatches] */
    double *rows;       /* [microbatches] tokens */
};

struct prediction {
    const struct planner *planner;
    struct plan *plan;
    const struct plan_speed *speed;
    const size_t *factors; /* [stages] */
    struct load load;
    double *down, *up, *delays; /* of the simulation */
    size_t *nodes;
};

static double *operations_of(const struct load *load, int kind, int pass) {
    return load->operations + (size_t)(kind * NUM_STAGE_PASSES + pass) * load->num_microbatches;
}

static void load_take(struct prediction *prediction, const struct batch *batch) {
    struct load *load = &prediction->load;
    load->num_microbatches = batch->num_microbatches;
    load->tokens = (double)batch->num_tokens;
    for (int kind = 0; kind < NUM_PART_KINDS; ++kind)
        for (int pass = 0; pass < NUM_STAGE_PASSES; ++pass)
            for (size_t m = 0; m < load->num_microbatches; ++m) {
                const struct stage *stage = prediction->speed->parts[kind].stage;
                operations_of(load, kind, pass)[m] =
                    stage == NULL
                        ? 0
                        : stage_operations(stage, (enum stage_pass)pass, &batch->microbatches[m]);
            }
    for (size_t m = 0; m < load->num_microbatches; ++m)
        load->rows[m] = (double)batch->microbatches[m].num_tokens;
}

/* Microbatches that a replica has at most: the first one's 0, replicas, 2 replicas, ... */
static size_t most_of_a_replica(const struct prediction *prediction) {
    const size_t replicas = prediction->plan->layout.replicas;
    return (prediction->load.num_microbatches + replicas - 1) / replicas;
}

static size_t number_of(const struct prediction *prediction, size_t own) {
    return own * prediction->plan->layout.replicas;
}

static double grid_size(const struct plan *plan) {
    return (double)(plan->layout.grid_rows * plan->layout.grid_columns);
}

/* Seconds of every stage for a kind of pass. */
static void fill_costs(const struct prediction *prediction, enum stage_pass pass, double *costs) {
    const struct plan *plan = prediction->plan;
    const size_t count = most_of_a_replica(prediction);
    for (size_t s = 0; s < plan->layout.stages; ++s)
        for (size_t m = 0; m < count; ++m) {
            double sum = 0;
            for (int kind = 0; kind < NUM_PART_KINDS; ++kind)
                sum += (double)plan_count_blocks(&prediction->planner->job->architecture,
                                                 &plan->stages[s].part, (enum plan_part_kind)kind) *
                       operations_of(&prediction->load, kind, pass)[number_of(prediction, m)] *
                       prediction->speed->parts[kind].seconds[pass];
            costs[s * count + m] = sum / grid_size(plan);
        }
}

/* Operations of a part of the model. */
static double operations_of_part(const struct prediction *prediction, const struct stage_part *part,
                                 enum stage_pass pass) {
    const struct architecture *architecture = &prediction->planner->job->architecture;
    double sum = 0;
    for (int kind = 0; kind < NUM_PART_KINDS; ++kind)
        for (size_t m = 0; m < prediction->load.num_microbatches; ++m)
            sum += (double)plan_count_blocks(architecture, part, (enum plan_part_kind)kind) *
                   operations_of(&prediction->load, kind, pass)[m];
    return sum;
}

static double operations_in(const struct prediction *prediction, enum stage_pass pass) {
    const struct stage_part all = {.num_blocks = prediction->planner->job->architecture.num_blocks};
    return operations_of_part(prediction, &all, pass);
}

static double sum_of(const double *values, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; ++i)
        sum += values[i];
    return sum;
}

static size_t node_of_stage(const struct plan *plan, size_t stage) {
    const struct place place = {.stage = stage};
    return layout_rank(&plan->layout, &place) / plan->ranks_on_node;
}

static double message_bytes(const struct prediction *prediction, size_t microbatch) {
    return prediction->load.rows[microbatch] / grid_size(prediction->plan) *
           (double)prediction->planner->job->architecture.hidden_size * sizeof(float);
}

static double message_seconds(const struct planner *planner, bool is_near, double bytes) {
    return is_near ? NODE_LATENCY + bytes / NODE_BANDWIDTH
                   : planner->machine.latency + bytes / planner->machine.bandwidth;
}

/* A collective over `count` ranks: a tree of messages. */
static double collective_seconds(const struct planner *planner, const struct plan *plan,
                                 size_t count, double bytes) {
    return ceil(log2(fmax(1, (double)count))) * message_seconds(planner, plan->nodes == 1, bytes);
}

static void fill_delays(const struct prediction *prediction) {
    const struct plan *plan = prediction->plan;
    const size_t count = most_of_a_replica(prediction);
    for (size_t s = 0; s < plan->layout.stages; ++s)
        prediction->nodes[s] = node_of_stage(plan, s);
    for (size_t s = 0; s + 1 < plan->layout.stages; ++s)
        for (size_t m = 0; m < count; ++m)
            prediction->delays[s * count + m] = message_seconds(
                prediction->planner, prediction->nodes[s] == prediction->nodes[s + 1],
                message_bytes(prediction, number_of(prediction, m)));
}

/* Cores of a node for one rank of each stage of one replica: the others on the node work too. */
static double cores_for(const struct planner *planner, const struct plan *plan) {
    const size_t ranks = plan->ranks_on_node, grid = (size_t)grid_size(plan);
    const size_t pipelines = ranks > plan->layout.stages * grid
                                 ? plan->layout.replicas * grid
                                 : grid; /* ranks beside it that do the same work */
    return (double)planner->machine.cores / (double)(plan->num_threads * (int)pipelines);
}

struct passed {
    double seconds, work; /* work: of all stages */
};

/* One pass of the pipeline. `up` NUM_STAGE_PASSES: none. */
static struct passed simulate(struct prediction *prediction, enum stage_pass down,
                              enum stage_pass up) {
    const struct plan *plan = prediction->plan;
    const size_t stages = plan->layout.stages, count = most_of_a_replica(prediction);
    const bool has_up = up != NUM_STAGE_PASSES;
    fill_costs(prediction, down, prediction->down);
    if (has_up)
        fill_costs(prediction, up, prediction->up);
    for (size_t i = 0; up == PASS_BACKWARD && i < stages * count; ++i)
        /* NOLINTNEXTLINE(bugprone-integer-division): an index */
        prediction->up[i] += (double)prediction->factors[i / count] * prediction->speed->accumulate;
    fill_delays(prediction);
    const struct simulation_input input = {
        .num_stages = stages,
        .num_microbatches = count,
        .down = prediction->down,
        .up = has_up ? prediction->up : NULL,
        .delays = prediction->delays,
        .nodes = prediction->nodes,
        .cores = cores_for(prediction->planner, plan),
    };
    struct passed passed = {.seconds = simulation_run(&input)};
    passed.work = sum_of(prediction->down, stages * count) +
                  (has_up ? sum_of(prediction->up, stages * count) : 0);
    passed.seconds += collective_seconds(prediction->planner, plan, stages, sizeof(double));
    return passed;
}

static struct prediction prediction_open(const struct planner *planner, struct plan *plan,
                                         const struct plan_speed *speed, bool is_search) {
    const struct trainer *trainer = &planner->trainer;
    const size_t most = batch_largest_count(trainer->optimizer.batch_size, trainer_longest(trainer),
                                            trainer->microbatch_tokens);
    const size_t stages = plan->layout.stages;
    size_t *factors = memory_allocate(stages, sizeof *factors, "a prediction");
    for (size_t s = 0; s < stages; ++s)
        factors[s] = plan->stages[s].factors[is_search ? 0 : 1];
    return (struct prediction){
        .planner = planner,
        .plan = plan,
        .speed = speed,
        .factors = factors,
        .load.operations = memory_allocate((size_t)NUM_PART_KINDS * NUM_STAGE_PASSES * most,
                                           sizeof(double), "a prediction"),
        .load.rows = memory_allocate(most, sizeof(double), "a prediction"),
        .down = memory_allocate(stages * most, sizeof(double), "a prediction"),
        .up = memory_allocate(stages * most, sizeof(double), "a prediction"),
        .delays = memory_allocate(stages * most, sizeof(double), "a prediction"),
        .nodes = memory_allocate(stages, sizeof(size_t), "a prediction"),
    };
}

static void prediction_close(struct prediction *prediction) {
    memory_free((size_t *)(size_t)prediction->factors);
    memory_free(prediction->load.operations);
    memory_free(prediction->load.rows);
    memory_free(prediction->down);
    memory_free(prediction->up);
    memory_free(prediction->delays);
    memory_free(prediction->nodes);
}

static double largest_factors(const struct prediction *prediction) {
    size_t largest = 0;
    for (size_t s = 0; s < prediction->plan->layout.stages; ++s)
        if (prediction->factors[s] > largest)
            largest = prediction->factors[s];
    return (double)largest;
}

static double all_factors(const struct prediction *prediction) {
    double sum = 0;
    for (size_t s = 0; s < prediction->plan->layout.stages; ++s)
        sum += (double)prediction->factors[s];
    return sum;
}

/* Updates are alike on all replicas, which have summed their gradients. */
static double update_seconds(const struct prediction *prediction) {
    const struct plan *plan = prediction->plan;
    const double factors = largest_factors(prediction);
    const double busy = (double)(plan->ranks_on_node * (size_t)plan->num_threads) /
                        (double)prediction->planner->machine.cores;
    return factors * prediction->speed->update * fmax(1, busy) +
           collective_seconds(prediction->planner, plan, plan->layout.stages, 4096);
}

/* parallel/reduction.h: a round for each microbatch of a replica, in which slices go to their
 * owners, and one more that gathers the sum. */
static double replica_seconds(const struct prediction *prediction) {
    const struct plan *plan = prediction->plan;
    const double others = (double)plan->layout.replicas - 1;
    const double rounds = others > 0 ? (double)most_of_a_replica(prediction) + 1 : 0;
    const double slice = largest_factors(prediction) * sizeof(float) / (others + 1);
    return rounds * others * message_seconds(prediction->planner, plan->nodes == 1, slice);
}

/* Of all replicas: each microbatch's gradient but the slice that stays, and the gathered sum. */
static double replica_bytes(const struct prediction *prediction) {
    const double others = (double)prediction->plan->layout.replicas - 1;
    const double vector = all_factors(prediction) * sizeof(float);
    return vector * others *
           ((double)prediction->load.num_microbatches / (others + 1) + (others > 0 ? 1 : 0));
}

/* The stages' shares of the gradient that has just been simulated, a microbatch. */
static void count_stages(const struct prediction *prediction) {
    const size_t count = most_of_a_replica(prediction);
    for (size_t s = 0; s < prediction->plan->layout.stages; ++s) {
        struct plan_stage *stage = &prediction->plan->stages[s];
        stage->busy = (sum_of(prediction->down + s * count, count) +
                       sum_of(prediction->up + s * count, count)) /
                      (double)count;
        stage->operations = (operations_of_part(prediction, &stage->part, PASS_FORWARD) +
                             operations_of_part(prediction, &stage->part, PASS_BACKWARD)) /
                            (double)prediction->load.num_microbatches;
    }
}

/* Adds a step with so many passes on the present load. */
static void add_step(struct prediction *prediction, struct plan_phase *phase) {
    const struct search_passes *passes = &phase->passes;
    const struct plan *plan = prediction->plan;
    const double gradients = passes->train_gradients + passes->validation_gradients;
    const double stages = (double)plan->layout.stages;
    struct passed tangent = {0};
    if (passes->tangents > 0)
        tangent = simulate(prediction, PASS_TANGENT, PASS_BACKWARD_TANGENT);
    const struct passed gradient = simulate(prediction, PASS_FORWARD, PASS_BACKWARD);
    const double seconds = gradients * gradient.seconds + passes->tangents * tangent.seconds;
    const double work = gradients * gradient.work + passes->tangents * tangent.work;
    phase->bubble += 1 - work / (stages * seconds);
    phase->seconds += seconds + passes->updates * update_seconds(prediction) +
                      gradients * replica_seconds(prediction);
    phase->operations += gradients * (operations_in(prediction, PASS_FORWARD) +
                                      operations_in(prediction, PASS_BACKWARD)) +
                         passes->tangents * (operations_in(prediction, PASS_TANGENT) +
                                             operations_in(prediction, PASS_BACKWARD_TANGENT));
    count_stages(prediction);
    double bytes = 0;
    for (size_t m = 0; m < prediction->load.num_microbatches; ++m)
        bytes += 2 * (stages - 1) * message_bytes(prediction, m) * grid_size(plan);
    phase->bytes += (gradients + passes->tangents) * bytes + gradients * replica_bytes(prediction);
    phase->microbatches += (double)prediction->load.num_microbatches;
    phase->tokens += prediction->load.tokens;
}

static void scale_phase(struct plan_phase *phase, double factor) {
    phase->seconds *= factor;
    phase->operations *= factor;
    phase->bytes *= factor;
    phase->bubble *= factor;
    phase->microbatches *= factor;
    phase->tokens *= factor;
}

/* Batches of the phase, evenly over its steps. */
static void predict_phase(const struct planner *planner, struct plan *plan, bool is_search,
                          struct plan_phase *phase) {
    const struct trainer *trainer = &planner->trainer;
    const size_t count = trainer->train->num_examples, size = trainer->optimizer.batch_size;
    const size_t samples = phase->num_steps < MOST_SAMPLES ? phase->num_steps : MOST_SAMPLES;
    struct prediction prediction =
        prediction_open(planner, plan, &planner->speeds[is_search ? 0 : 1], is_search);
    struct batch *batch = trainer_batch(trainer);
    uint32_t *subset = memory_allocate(count, sizeof *subset, "a prediction");
    uint32_t *examples = memory_allocate(size, sizeof *examples, "a batch's examples");
    for (size_t i = 0; i < count; ++i)
        subset[i] = (uint32_t)i;
    struct sampler sampler = sampler_create(trainer->seed, 3, subset, count, size);
    for (size_t i = 0; i < samples; ++i) {
        const size_t step = i * phase->num_steps / samples;
        const size_t number = sampler_next(&sampler, step, examples);
        batch_fill(batch, trainer->train, examples, number, step, true);
        load_take(&prediction, batch);
        add_step(&prediction, phase);
    }
    scale_phase(phase, 1 / (double)samples);
    sampler_free(&sampler);
    batch_destroy(&batch);
    memory_free(subset);
    memory_free(examples);
    prediction_close(&prediction);
}

/* Batches of a data set in its order, evenly; returns the seconds of all. */
static double predict_dataset(const struct planner *planner, struct plan *plan,
                              const struct dataset *dataset, double *operations) {
    const struct trainer *trainer = &planner->trainer;
    if (dataset == NULL || dataset->num_examples == 0)
        return 0;
    const size_t size = trainer->optimizer.batch_size, count = dataset->num_examples;
    const size_t batches = (count + size - 1) / size;
    const size_t samples = batches < MOST_SAMPLES ? batches : MOST_SAMPLES;
    struct prediction prediction = prediction_open(planner, plan, &planner->speeds[1], false);
    struct batch *batch = trainer_batch(trainer);
    uint32_t *examples = memory_allocate(size, sizeof *examples, "a batch's examples");
    double seconds = 0, sum = 0;
    for (size_t i = 0; i < samples; ++i) {
        const size_t first = i * batches / samples * size;
        size_t number = 0;
        for (; number < size && first + number < count; ++number)
            examples[number] = (uint32_t)(first + number);
        batch_fill(batch, dataset, examples, number, 0, false);
        load_take(&prediction, batch);
        seconds += simulate(&prediction, PASS_EVALUATE, NUM_STAGE_PASSES).seconds;
        sum += operations_in(&prediction, PASS_EVALUATE);
    }
    batch_destroy(&batch);
    memory_free(examples);
    prediction_close(&prediction);
    *operations = sum * (double)batches / (double)samples;
    return seconds * (double)batches / (double)samples;
}

static void predict_evaluations(const struct planner *planner, struct plan *plan) {
    const struct trainer *trainer = &planner->trainer;
    struct plan_evaluation *evaluation = &plan->evaluation;
    const size_t size = trainer->optimizer.batch_size;
    const size_t per_epoch = (trainer->train->num_examples + size - 1) / size;
    const size_t steps = plan->training.num_steps;
    double others = 0;
    evaluation->seconds = predict_dataset(planner, plan, trainer->dev, &evaluation->operations);
    evaluation->other_seconds = predict_dataset(planner, plan, trainer->other_dev, &others) +
                                predict_dataset(planner, plan, trainer->test, &others);
    evaluation->generation_seconds = plan_generation_seconds(planner, plan);
    evaluation->count =
        planner->input.retrain->evaluates_each_epoch
            /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): not 0 */
            ? steps / per_epoch + (steps % per_epoch != 0)
            : 1;
}

/* Rows of the trace, checkpoints. */
static void predict_output(const struct planner *planner, struct plan *plan) {
    const struct job *job = planner->job;
    const size_t every = job->config.output.trace_every, modules = job->num_modules;
    const size_t k = planner->searches ? job->config.adapter.rank : 0;
    plan->search_rows = (plan->search.num_steps + every - 1) / every;
    plan->row_bytes = 3 * modules * k * sizeof(float) + modules * sizeof(int32_t) + 32;
    const double retrain_bytes = 40.0 * (double)plan->training.num_steps;
    plan->trace_bytes = (double)plan->search_rows * (double)plan->row_bytes + retrain_bytes;
    size_t search = 0, training = 0;
    for (size_t s = 0; s < plan->layout.stages; ++s) {
        search += plan->stages[s].factors[0];
        training += plan->stages[s].factors[1];
    }
    plan->checkpoint_bytes = 3.0 * sizeof(float) * (double)(search > training ? search : training);
    plan->output_bytes = plan->trace_bytes + sizeof(float) * (double)training +
                         (double)job->config.output.keep * plan->checkpoint_bytes;
}

void plan_predict(const struct planner *planner, struct plan *plan) {
    plan->search.passes = search_passes(planner->input.search);
    plan->training.passes = (struct search_passes){.train_gradients = 1, .updates = 1};
    if (planner->searches)
        predict_phase(planner, plan, true, &plan->search);
    predict_phase(planner, plan, false, &plan->training);
    predict_evaluations(planner, plan);
    predict_output(planner, plan);
    const struct plan_evaluation *evaluation = &plan->evaluation;
    plan->seconds = (double)plan->search.num_steps * plan->search.seconds +
                    (double)plan->training.num_steps * plan->training.seconds +
                    (double)evaluation->count * evaluation->seconds + evaluation->other_seconds +
                    evaluation->generation_seconds;
}
