/* What both phases share. */
#include "train/trainer.h"

#include "base/memory.h"
#include "train/state.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

uint64_t phase_step(enum phase phase, size_t step) {
    return ((uint64_t)phase << 48) + step;
}

size_t trainer_longest(const struct trainer *trainer) {
    const struct dataset *sets[] = {trainer->train, trainer->dev, trainer->other_dev,
                                    trainer->test};
    size_t longest = 1;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; ++i)
        if (sets[i] != NULL && sets[i]->longest > longest)
            longest = sets[i]->longest;
    return longest;
}

void trainer_limit_batch(struct trainer *trainer) {
    const struct dataset *sets[] = {trainer->train, trainer->dev, trainer->other_dev,
                                    trainer->test};
    size_t most = 0;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; ++i)
        if (sets[i] != NULL && sets[i]->num_examples > most)
            most = sets[i]->num_examples;
    if (most > 0 && trainer->optimizer.batch_size > most)
        trainer->optimizer.batch_size = most;
}

struct pipeline *trainer_pipeline(const struct trainer *trainer, const struct stage *stage,
                                  bool keeps_tangents) {
    const size_t longest = trainer_longest(trainer), size = trainer->optimizer.batch_size;
    const struct capacity whole = batch_capacity(size, longest, trainer->microbatch_tokens);
    const struct pipeline_options options = {
        .capacity = batch_row_capacity(&whole, trainer->grid_rows),
        .largest_count = batch_largest_count(size, longest, trainer->microbatch_tokens),
        .keeps_tangents = keeps_tangents,
        .num_threads = trainer->num_threads,
        .timers = trainer->timers,
    };
    return pipeline_create(&trainer->comms, stage, &options);
}

struct batch *trainer_batch(const struct trainer *trainer) {
    struct batch *batch = batch_create(trainer->optimizer.batch_size, trainer_longest(trainer),
                                       trainer->microbatch_tokens);
    if (trainer->grid_rows > 1)
        batch_take_row(batch, trainer->grid_row, trainer->grid_rows);
    return batch;
}

double trainer_gradient_scale(const struct trainer *trainer, double norm) {
    const double limit = trainer->optimizer.max_grad_norm;
    return limit > 0 ? fmin(1, limit / (norm + 1e-6)) : 1; /* torch.nn.utils.clip_grad_norm_ */
}

double trainer_update_factors(const struct trainer *trainer, const struct pipeline *pipeline,
                              double rate, const float *gradient, struct adam *adam,
                              float *factors) {
    const struct optimizer_options *options = &trainer->optimizer;
    timer_start(trainer->timers, "optimizer");
    const double norm = pipeline_norm(pipeline, gradient);
    if (!isfinite(norm)) { /* the factors that led to it stay: a message names the largest */
        timer_stop(trainer->timers);
        return norm;
    }
    const struct adam_step step = {
        .rate = rate,
        .beta1 = options->beta1,
        .beta2 = options->beta2,
        .epsilon = options->epsilon,
        .decay = options->weight_decay,
        .is_decoupled = true,
        .gradient_scale = trainer_gradient_scale(trainer, norm),
    };
    adam_update(adam, &step, &pipeline_stage(pipeline)->factors, gradient, factors);
    timer_stop(trainer->timers);
    return norm;
}

/* The tensor with the number of the largest size; not a number counts as the largest. */
struct extreme {
    double size;
    char name[200];
};

static struct extreme find_largest(const struct parameter_table *table, const float *values) {
    struct extreme largest = {.size = -1};
    for (size_t e = 0; e < table->count; ++e) {
        const struct parameter *entry = &table->entries[e];
        const float *numbers = values + entry->offset;
        double size = 0;
        for (size_t i = 0; i < entry->rows * entry->columns; ++i)
            size = fmax(size, isnan(numbers[i]) ? (double)INFINITY : fabs((double)numbers[i]));
        if (size <= largest.size)
            continue;
        largest.size = size;
        snprintf(largest.name, sizeof largest.name, "%s", entry->name);
    }
    return largest;
}

/* That of all stages; of equal ones the first. Collective. */
static struct extreme find_largest_of_all(const struct pipeline *pipeline, const float *values) {
    const struct comm *comm = &pipeline_comms(pipeline)->stages;
    const struct extreme own = find_largest(&pipeline_stage(pipeline)->factors, values);
    struct extreme *all = memory_allocate((size_t)comm->size, sizeof *all, "a message");
    comm_all_gather(comm, &own, 1, sizeof own, all);
    struct extreme largest = all[0];
    for (int i = 1; i < comm->size; ++i)
        if (all[i].size > largest.size)
            largest = all[i];
    memory_free(all);
    return largest;
}

bool trainer_check_loss(double loss, const struct pipeline *pipeline, const float *factors,
                        const char *phase, const char *what, size_t step, struct problem *problem) {
    if (isfinite(loss))
        return true;
    const struct extreme largest = find_largest_of_all(pipeline, factors);
    return problem_set(problem, EXIT_NUMERICS,
                       "%s, step %zu: the %s loss is not finite (%g); the largest trained number "
                       "is %.3g, in %s; a smaller learning rate (optimizer.lr, "
                       "search.selection_lr) usually helps",
                       phase, step, what, loss, largest.size, largest.name);
}

static bool is_finite(const float *values, size_t size) {
    float sum = 0; /* 0 times what is not finite is not a number */
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < size; ++i)
        sum += 0 * values[i];
    return sum == 0;
}

static bool check_tensors(const struct stage *stage, const float *values, const char *phase,
                          size_t step, const char *what, struct problem *problem) {
    if (is_finite(values, stage->factors.size))
        return true;
    const struct extreme largest = find_largest(&stage->factors, values);
    return problem_set(problem, EXIT_NUMERICS,
                       "%s, step %zu: the %s of %s is not finite; a smaller learning rate "
                       "(optimizer.lr) usually helps",
                       phase, step, what, largest.name);
}

/* The adapter of a module of the stage, by its first factor. */
static const char *module_factor(const struct stage *stage, size_t module) {
    static const char end[] = ".lora_A";
    for (size_t e = 0; e < stage->factors.count; ++e) {
        const char *name = stage->factors.entries[e].name;
        const size_t length = strlen(name);
        if (length >= sizeof end && strcmp(name + length - (sizeof end - 1), end) == 0 &&
            module-- == 0)
            return name;
    }
    return "a module";
}

static bool check_selection(const struct stage *stage, const float *values, const char *phase,
                            size_t step, const char *what, struct problem *problem) {
    for (size_t i = 0; i < stage->selection_size; ++i)
        if (!isfinite(values[i]))
            return problem_set(
                problem, EXIT_NUMERICS,
                "%s, step %zu: the %s of %s is not finite (%g); a smaller search.selection_lr or "
                "optimizer.lr usually helps",
                phase, step, what, module_factor(stage, i / stage->options.adapters.num_components),
                values[i]);
    return true;
}

bool trainer_check_state(const struct stage *stage, const struct training_state *state,
                         const float *gradient, const char *phase, struct problem *problem) {
    const size_t step = state->step;
    return check_tensors(stage, gradient, phase, step, "gradient", problem) &&
           check_selection(stage, state->d_logits, phase, step, "hypergradient", problem) &&
           check_tensors(stage, state->factors, phase, step, "new value", problem) &&
           check_selection(stage, state->logits, phase, step, "selection logit", problem);
}

static bool wants_timeline(const struct trainer *trainer, size_t step) {
    return trainer->timers != NULL && step == trainer->timeline_step;
}

void trainer_start_timeline(const struct trainer *trainer, size_t step) {
    if (wants_timeline(trainer, step))
        timer_record(trainer->timers, trainer->comms.world.handle);
}

void trainer_stop_timeline(const struct trainer *trainer, const char *phase, size_t step,
                           struct problem *problem) {
    if (!wants_timeline(trainer, step))
        return;
    size_t count;
    struct timer_interval *intervals =
        timer_end_record(trainer->timers, trainer->comms.world.handle, &count);
    if (trainer->trace != NULL)
        trace_add_timeline(trainer->trace, phase, step, intervals, count, problem);
    memory_free(intervals);
}

void trainer_flush_trace(const struct trainer *trainer, bool is_now, struct problem *problem) {
    if (trainer->trace == NULL)
        return;
    if (is_now)
        trace_flush(trainer->trace, problem);
    else
        trace_flush_if_due(trainer->trace, problem);
}
