/* Everything that training changes on one stage, to and from a checkpoint. */
#include "train/state.h"

#include "base/memory.h"
#include "train/factors.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct training_state training_state_create(const struct stage *stage, size_t moments_size) {
    return (struct training_state){
        .loss_train = NAN,
        .loss_validation = NAN,
        .factors = memory_allocate(stage->factors.size, sizeof(float), "factors"),
        .factor_adam = adam_create(stage->factors.size),
        .logits = memory_allocate(stage->selection_size, sizeof(float), "selection logits"),
        .selection_adam = adam_create(stage->selection_size),
        .d_logits = memory_allocate(stage->selection_size, sizeof(float), "the hypergradient"),
        .moments = memory_allocate(stage->num_modules * moments_size, sizeof(float), "moments"),
        .moments_size = moments_size,
    };
}

void training_state_free(struct training_state *state) {
    memory_free(state->factors);
    memory_free(state->logits);
    memory_free(state->d_logits);
    memory_free(state->moments);
    adam_free(&state->factor_adam);
    adam_free(&state->selection_adam);
}

/* ---- tensors ---- */

/* The vectors in the factors' layout, and those of the selection, with their places in the file. */
struct places {
    struct {
        const char *group;
        float *values;
    } factors[3];
    struct {
        const char *name;
        float *values;
        size_t columns;
    } selection[5];
};

static struct places places_of(const struct stage *stage, const struct training_state *state) {
    const size_t k = stage->options.adapters.num_components;
    return (struct places){
        .factors = {{"factors", state->factors},
                    {"optimizer/first", state->factor_adam.first},
                    {"optimizer/second", state->factor_adam.second}},
        .selection = {{"logits", state->logits, k},
                      {"first", state->selection_adam.first, k},
                      {"second", state->selection_adam.second, k},
                      {"hypergradient", state->d_logits, k},
                      {"moments", state->moments, state->moments_size}},
    };
}

enum { NUM_FACTOR_VECTORS = 3, NUM_SELECTION_VECTORS = 5 };
static const char SELECTION[] = "selection";

static size_t total_modules(const struct comm *comm, const struct stage *stage) {
    unsigned long mine = stage->num_modules, total = 0;
    comm_reduce(comm, &mine, &total, 1, MPI_UNSIGNED_LONG, MPI_SUM);
    return total;
}

static void write_selection(const struct comm *comm, const struct stage *stage,
                            const struct places *places, struct checkpoint_writer *writer,
                            struct problem *problem) {
    const size_t modules = total_modules(comm, stage);
    for (size_t i = 0; i < NUM_SELECTION_VECTORS; ++i) {
        const size_t columns = places->selection[i].columns;
        if (columns == 0)
            continue;
        float *whole = memory_allocate(modules * columns, sizeof *whole, "the selection");
        comm_gather(comm, places->selection[i].values, stage->num_modules * columns, sizeof *whole,
                    whole);
        if (writer != NULL)
            checkpoint_write_tensor(writer, SELECTION, places->selection[i].name, whole, modules,
                                    columns, problem);
        memory_free(whole);
    }
}

static void read_selection(const struct comm *comm, const struct stage *stage,
                           const struct checkpoint *checkpoint, const struct places *places,
                           struct problem *problem) {
    const size_t modules = total_modules(comm, stage);
    for (size_t i = 0; i < NUM_SELECTION_VECTORS; ++i) {
        const size_t columns = places->selection[i].columns;
        if (columns == 0)
            continue;
        float *whole = memory_allocate(modules * columns, sizeof *whole, "the selection");
        if (checkpoint_read_tensor(checkpoint, SELECTION, places->selection[i].name, modules,
                                   columns, whole, problem))
            memcpy(places->selection[i].values, whole + stage->first_module * columns,
                   stage->num_modules * columns * sizeof *whole);
        memory_free(whole);
    }
}

/* ---- numbers ---- */

static void write_evaluation(const struct evaluation *evaluation, struct json *parent) {
    struct json *part = json_add_object(parent, "dev");
    json_add_number(part, "loss", evaluation->loss);
    json_add_number(part, "score", (double)evaluation->score);
    struct json *metrics = json_add_object(part, "metrics");
    for (size_t i = 0; i < evaluation->num_metrics; ++i)
        json_add_number(metrics, evaluation->metrics[i].name, evaluation->metrics[i].value);
}

static void write_numbers(const struct training_state *state, struct json *numbers) {
    json_add_number(numbers, "step", (double)state->step);
    json_add_number(numbers, "num_tokens", (double)state->num_tokens);
    json_add_number(numbers, "factor_updates", (double)state->factor_adam.num_updates);
    json_add_number(numbers, "selection_updates", (double)state->selection_adam.num_updates);
    json_add_number(numbers, "seconds", state->seconds);
    json_add_number(numbers, "loss_train", state->loss_train);
    json_add_number(numbers, "loss_validation", state->loss_validation);
    json_add_bool(numbers, "owes_evaluation", state->owes_evaluation);
    json_add_number(numbers, "best_score", state->best_score);
    json_add_number(numbers, "best_step", (double)state->best_step);
    write_evaluation(&state->dev, numbers);
}

/* null stands for a number that is not finite. */
static bool read_number(const struct json *parent, const char *name, double *value) {
    const struct json *node = json_get(parent, name);
    if (node == NULL || (json_type(node) != JSON_NUMBER && json_type(node) != JSON_NULL))
        return false;
    *value = json_type(node) == JSON_NUMBER ? json_number(node) : (double)NAN;
    return true;
}

static bool read_evaluation(const struct json *part, struct evaluation *evaluation) {
    const struct json *metrics = json_get(part, "metrics");
    if (!read_number(part, "loss", &evaluation->loss) ||
        !json_size(json_get(part, "score"), &evaluation->score) || metrics == NULL ||
        json_count(metrics) > EVALUATION_MAX_METRICS)
        return false;
    evaluation->num_metrics = 0;
    for (const struct json *metric = json_first(metrics); metric != NULL;
         metric = json_next(metric)) {
        double value;
        if (json_name(metric) == NULL || !read_number(metrics, json_name(metric), &value))
            return false;
        evaluation_add(evaluation, json_name(metric), value);
    }
    return evaluation->score < EVALUATION_MAX_METRICS;
}

static bool read_numbers(const struct json *numbers, struct training_state *state) {
    const struct json *owes = json_get(numbers, "owes_evaluation");
    if (owes == NULL || json_type(owes) != JSON_BOOL)
        return false;
    state->owes_evaluation = json_is_true(owes);
    return json_size(json_get(numbers, "step"), &state->step) &&
           json_size(json_get(numbers, "num_tokens"), &state->num_tokens) &&
           json_size(json_get(numbers, "factor_updates"), &state->factor_adam.num_updates) &&
           json_size(json_get(numbers, "selection_updates"), &state->selection_adam.num_updates) &&
           read_number(numbers, "seconds", &state->seconds) &&
           read_number(numbers, "loss_train", &state->loss_train) &&
           read_number(numbers, "loss_validation", &state->loss_validation) &&
           read_number(numbers, "best_score", &state->best_score) &&
           json_size(json_get(numbers, "best_step"), &state->best_step) &&
           read_evaluation(json_get(numbers, "dev"), &state->dev);
}

/* ---- both ---- */

void training_state_write(const struct comm *comm, const struct stage *stage,
                          const struct training_state *state, struct checkpoint_writer *writer,
                          struct json *numbers, struct problem *problem) {
    const struct places places = places_of(stage, state);
    for (size_t i = 0; i < NUM_FACTOR_VECTORS; ++i)
        factors_write(comm, &stage->factors, places.factors[i].values, writer,
                      places.factors[i].group, problem);
    write_selection(comm, stage, &places, writer, problem);
    if (numbers != NULL)
        write_numbers(state, numbers);
}

void training_state_read(const struct comm *comm, const struct stage *stage,
                         const struct checkpoint *checkpoint, const struct json *numbers,
                         struct training_state *state, struct problem *problem) {
    const struct places places = places_of(stage, state);
    if (!read_numbers(numbers, state))
        problem_set(problem, EXIT_DATA, "the checkpoint's numbers of the training are incomplete");
    for (size_t i = 0; i < NUM_FACTOR_VECTORS && problem->exit_code == 0; ++i)
        factors_read(&stage->factors, checkpoint, places.factors[i].group, places.factors[i].values,
                     problem);
    read_selection(comm, stage, checkpoint, &places, problem);
}
