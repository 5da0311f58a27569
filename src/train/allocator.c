/* Rank allocation. Importance is computed where the factors are; scores are gathered, and every
 * rank makes the same choice from them. */
#include "train/allocator.h"

#include "base/memory.h"
#include "base/report.h"
#include "train/factors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct candidate {
    double score;
    size_t number; /* module * components + component */
};

struct allocator {
    struct comm comm;
    const struct stage *stage;
    struct allocator_options options;
    size_t num_modules, num_components; /* of the model; of a module */
    float *sensitivity, *uncertainty;   /* averages [factors.size] */
    double *own_scores, *scores;        /* [modules here, components], [modules, components] */
    bool *is_kept;                      /* [modules, components] */
    struct candidate *candidates;       /* [modules * components] */
};

size_t allocation_budget(const struct allocation_schedule *schedule, size_t step) {
    if (step >= schedule->last)
        return schedule->target;
    if (step <= schedule->first)
        return schedule->initial;
    const double left =
        1 - (double)(step - schedule->first) / (double)(schedule->last - schedule->first);
    return (size_t)((double)(schedule->initial - schedule->target) * pow(left, 3) +
                    (double)schedule->target);
}

/* The stage's adapters in the order of its modules: A, B and the singular values. */
static const struct adapter *adapter_of(const struct stage *stage, size_t module,
                                        const struct linear **linear) {
    const struct adapter_options *adapters = &stage->options.adapters;
    const size_t targets = adapter_targets_per_block(adapters);
    size_t left = module % targets;
    for (int p = 0; p < NUM_PROJECTIONS; ++p) {
        *linear = &stage->blocks[module / targets].projections[p];
        if (adapters->is_target[p] && left-- == 0)
            return &(*linear)->adapter;
    }
    FAULT("module %zu is not there", module);
}

static size_t count_modules(const struct comm *comm, const struct stage *stage) {
    size_t mine = stage->num_modules, sum = 0;
    size_t *all = memory_allocate((size_t)comm->size, sizeof *all, "counts");
    comm_all_gather(comm, &mine, 1, sizeof mine, all);
    for (int r = 0; r < comm->size; ++r)
        sum += all[r];
    memory_free(all);
    return sum;
}

struct allocator *allocator_create(const struct comm *comm, const struct stage *stage,
                                   const struct allocator_options *options) {
    struct allocator *allocator = memory_allocate(1, sizeof *allocator, "the allocator");
    allocator->comm = *comm;
    allocator->stage = stage;
    allocator->options = *options;
    allocator->num_modules = count_modules(comm, stage);
    FAULT_UNLESS(allocator->num_modules > 0 &&
                     options->schedule.initial % allocator->num_modules == 0,
                 "an initial rank of %zu in all for %zu modules", options->schedule.initial,
                 allocator->num_modules);
    allocator->num_components = options->schedule.initial / allocator->num_modules;
    const size_t count = options->schedule.initial, size = stage->factors.size;
    allocator->sensitivity = memory_allocate(size, sizeof(float), "importance");
    allocator->uncertainty = memory_allocate(size, sizeof(float), "importance");
    allocator->own_scores = memory_allocate(stage->num_modules * allocator->num_components,
                                            sizeof(double), "importance");
    allocator->scores = memory_allocate(count, sizeof(double), "importance");
    allocator->candidates = memory_allocate(count, sizeof(struct candidate), "importance");
    allocator->is_kept = memory_allocate(count, sizeof(bool), "importance");
    memset(allocator->is_kept, true, count * sizeof(bool));
    return allocator;
}

void allocator_destroy(struct allocator **allocator) {
    struct allocator *a = *allocator;
    if (a == NULL)
        return;
    memory_free(a->sensitivity);
    memory_free(a->uncertainty);
    memory_free(a->own_scores);
    memory_free(a->scores);
    memory_free(a->candidates);
    memory_free(a->is_kept);
    memory_free(a);
    *allocator = NULL;
}

/* Averages of |w dL/dw| and of its distance from its own average. */
static void update_averages(struct allocator *allocator, const float *gradient,
                            double gradient_scale, const float *factors) {
    const float beta1 = (float)allocator->options.beta1, beta2 = (float)allocator->options.beta2;
    const float scale = (float)gradient_scale;
    float *sensitivity = allocator->sensitivity, *uncertainty = allocator->uncertainty;
    for (size_t i = 0; i < allocator->stage->factors.size; ++i) {
        const float now = fabsf(factors[i] * (scale * gradient[i]));
        sensitivity[i] = beta1 * sensitivity[i] + (1 - beta1) * now;
        uncertainty[i] = beta2 * uncertainty[i] + (1 - beta2) * fabsf(now - sensitivity[i]);
    }
}

static double mean_score(const struct allocator *allocator, size_t offset, size_t count) {
    double sum = 0;
    for (size_t i = offset; i < offset + count; ++i)
        sum += (double)allocator->sensitivity[i] * allocator->uncertainty[i];
    return sum / (double)count;
}

/* Of the singular value, and on average of the two vectors that belong to it. */
static void update_scores(struct allocator *allocator) {
    const size_t k = allocator->num_components, modules = allocator->stage->num_modules;
    for (size_t m = 0; m < modules; ++m) {
        const struct linear *linear;
        const struct adapter *adapter = adapter_of(allocator->stage, m, &linear);
        const size_t in = linear->input_size, out = linear->output_size;
        for (size_t j = 0; j < k; ++j)
            allocator->own_scores[m * k + j] =
                mean_score(allocator, adapter->singular_offset + j, 1) +
                mean_score(allocator, adapter->a_offset + j * in, in) +
                mean_score(allocator, adapter->b_offset + j * out, out);
    }
    comm_all_gather(&allocator->comm, allocator->own_scores, modules * k, sizeof(double),
                    allocator->scores);
}

static int compare_candidates(const void *left, const void *right) {
    const struct candidate *a = left, *b = right;
    if (a->score != b->score)
        return a->score < b->score ? 1 : -1;
    return (a->number > b->number) - (a->number < b->number);
}

static void choose(struct allocator *allocator, size_t budget) {
    const size_t count = allocator->num_modules * allocator->num_components;
    for (size_t i = 0; i < count; ++i)
        allocator->candidates[i] = (struct candidate){allocator->scores[i], i};
    qsort(allocator->candidates, count, sizeof *allocator->candidates, compare_candidates);
    for (size_t i = 0; i < count; ++i)
        allocator->is_kept[allocator->candidates[i].number] = i < budget;
}

static void mask(const struct allocator *allocator, float *factors) {
    const size_t k = allocator->num_components;
    const bool *is_kept = allocator->is_kept + allocator->stage->first_module * k;
    for (size_t m = 0; m < allocator->stage->num_modules; ++m) {
        const struct linear *linear;
        const struct adapter *adapter = adapter_of(allocator->stage, m, &linear);
        for (size_t j = 0; j < k; ++j)
            if (!is_kept[m * k + j])
                factors[adapter->singular_offset + j] = 0;
    }
}

void allocator_update(struct allocator *allocator, size_t step, const float *gradient,
                      double gradient_scale, float *factors) {
    const struct allocation_schedule *schedule = &allocator->options.schedule;
    const bool is_final = step >= schedule->last;
    if (!is_final) {
        update_averages(allocator, gradient, gradient_scale, factors);
        update_scores(allocator);
    }
    if (!is_final && (step <= schedule->first || step % schedule->every != 0))
        return;
    choose(allocator, allocation_budget(schedule, step));
    mask(allocator, factors);
}

const double *allocator_scores(const struct allocator *allocator) {
    return allocator->scores;
}

const bool *allocator_kept(const struct allocator *allocator) {
    return allocator->is_kept;
}

void allocator_singular_values(const struct allocator *allocator, const float *factors,
                               float *values) {
    const size_t k = allocator->num_components, modules = allocator->stage->num_modules;
    float *own = memory_allocate(modules * k, sizeof *own, "singular values");
    for (size_t m = 0; m < modules; ++m) {
        const struct linear *linear;
        const struct adapter *adapter = adapter_of(allocator->stage, m, &linear);
        memcpy(own + m * k, factors + adapter->singular_offset, k * sizeof *own);
    }
    comm_gather(&allocator->comm, own, modules * k, sizeof *own, values);
    memory_free(own);
}

void allocator_ranks(const struct allocator *allocator, size_t *ranks) {
    const size_t k = allocator->num_components;
    for (size_t m = 0; m < allocator->num_modules; ++m) {
        ranks[m] = 0;
        for (size_t j = 0; j < k; ++j)
            ranks[m] += allocator->is_kept[m * k + j];
    }
}

/* ---- checkpoints ---- */

static const char SENSITIVITY[] = "allocation/sensitivity",
                  UNCERTAINTY[] = "allocation/uncertainty", GROUP[] = "allocation", KEPT[] = "kept";

void allocator_write(const struct allocator *allocator, struct checkpoint_writer *writer,
                     struct problem *problem) {
    const size_t modules = allocator->num_modules, k = allocator->num_components;
    const struct parameter_table *table = &allocator->stage->factors;
    factors_write(&allocator->comm, table, allocator->sensitivity, writer, SENSITIVITY, problem);
    factors_write(&allocator->comm, table, allocator->uncertainty, writer, UNCERTAINTY, problem);
    if (writer == NULL)
        return;
    float *kept = memory_allocate(modules * k, sizeof *kept, "importance");
    for (size_t i = 0; i < modules * k; ++i)
        kept[i] = allocator->is_kept[i];
    checkpoint_write_tensor(writer, GROUP, KEPT, kept, modules, k, problem);
    memory_free(kept);
}

/* Scores follow from the averages, and the final choice from the scores. */
void allocator_read(struct allocator *allocator, const struct checkpoint *checkpoint,
                    struct problem *problem) {
    const size_t modules = allocator->num_modules, k = allocator->num_components;
    const struct parameter_table *table = &allocator->stage->factors;
    float *kept = memory_allocate(modules * k, sizeof *kept, "importance");
    factors_read(table, checkpoint, SENSITIVITY, allocator->sensitivity, problem);
    factors_read(table, checkpoint, UNCERTAINTY, allocator->uncertainty, problem);
    checkpoint_read_tensor(checkpoint, GROUP, KEPT, modules, k, kept, problem);
    for (size_t i = 0; i < modules * k; ++i)
        allocator->is_kept[i] = kept[i] != 0;
    memory_free(kept);
    update_scores(allocator);
}

/* ---- orthogonality ---- */

/* excess [rank, rank] = X X^T - I; returns its Frobenius norm. */
static double fill_excess(const float *x, size_t rank, size_t width, double *excess) {
    double squares = 0;
    for (size_t i = 0; i < rank; ++i)
        for (size_t j = 0; j < rank; ++j) {
            double sum = i == j ? -1 : 0;
            for (size_t c = 0; c < width; ++c)
                sum += (double)x[i * width + c] * x[j * width + c];
            excess[i * rank + j] = sum;
            squares += sum * sum;
        }
    return sqrt(squares);
}

/* Of one matrix; d ||M|| / dX = 2 M X / ||M||, 0 where M is 0. */
static double penalize(double factor, const float *x, size_t rank, size_t width, double *excess,
                       float *d_x) {
    const double norm = fill_excess(x, rank, width, excess);
    for (size_t i = 0; i < rank && norm > 0; ++i)
        for (size_t c = 0; c < width; ++c) {
            double sum = 0;
            for (size_t j = 0; j < rank; ++j)
                sum += excess[i * rank + j] * x[j * width + c];
            d_x[i * width + c] += (float)(2 * factor * sum / norm);
        }
    return factor * norm;
}

double orthogonality_penalty(const struct comm *comm, const struct stage *stage, double weight,
                             const float *factors, float *gradient) {
    const size_t all_modules = count_modules(comm, stage), largest = stage->largest_rank;
    double *parts = memory_allocate(2 * stage->num_modules, sizeof *parts, "a penalty");
    double *all = memory_allocate(2 * all_modules, sizeof *all, "a penalty");
    double *excess = memory_allocate(largest * largest, sizeof *excess, "a penalty");
    const double factor = weight / (double)(2 * all_modules);
    for (size_t m = 0; m < stage->num_modules; ++m) {
        const struct linear *linear;
        const struct adapter *adapter = adapter_of(stage, m, &linear);
        const size_t a = adapter->a_offset, b = adapter->b_offset;
        parts[2 * m] =
            penalize(factor, factors + a, adapter->rank, linear->input_size, excess, gradient + a);
        parts[2 * m + 1] =
            penalize(factor, factors + b, adapter->rank, linear->output_size, excess, gradient + b);
    }
    comm_all_gather(comm, parts, 2 * stage->num_modules, sizeof *parts, all);
    double sum = 0;
    for (size_t i = 0; i < 2 * all_modules; ++i)
        sum += all[i];
    memory_free(parts);
    memory_free(all);
    memory_free(excess);
    return sum;
}
